import functools
import json

import numpy as np
import pytest
from PIL import Image

from tests.conftest import run_cli

CLASSES = ["city", "road", "forest"]


def write_evaluation(path, **changes):
    counts = [[90, 10, 0], [5, 20, 5], [5, 5, 10]]
    content = {"dataset": "d", "classes": CLASSES, "unseen_classes": ["road"], "confusion_matrix": counts} | changes
    path.write_text(json.dumps(content))


@pytest.fixture
def draw_scores(tmp_path, monkeypatch):
    """A function ``*arguments`` that runs the command line in a folder with two evaluations, a.json and b.json."""
    monkeypatch.chdir(tmp_path)
    write_evaluation(tmp_path / "a.json")
    write_evaluation(tmp_path / "b.json", confusion_matrix=[[50, 50, 0], [5, 20, 5], [5, 5, 10]])
    return functools.partial(run_cli, "scores")


def read(path):
    return np.array(Image.open(path).convert("RGB"))


def test_bars_and_confusion_matrix_of_an_evaluation(draw_scores, tmp_path, capsys):
    draw_scores("a.json", "--output", "new/iou.png", "new/iou.pdf", "--confusion-matrix", "matrix.png", "matrix.svg")
    assert capsys.readouterr().out.split() == ["new/iou.png", "new/iou.pdf", "matrix.png", "matrix.svg"]
    assert read("new/iou.png").shape[1] == 6.9 * 300
    assert (tmp_path / "new" / "iou.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in (tmp_path / "matrix.svg").read_text()
    shares = (tmp_path / "matrix.svg").read_text()
    assert all(f">{share}<" in shares for share in ("90.0", "66.7", "25.0"))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a.json", "b.json", "new", "matrix.png", "matrix.svg"}


def test_models_side_by_side(draw_scores, tmp_path):
    draw_scores("a.json", "b.json", "--titles", "theirs", "ours", "--output", "two.svg", "--width", 5, "--dpi", 100)
    text = (tmp_path / "two.svg").read_text()
    assert all(f">{word}<" in text for word in ("theirs", "ours", "city", "mean IoU", "81.8", "45.5"))
    assert text.index(">81.8<") < text.index(">45.5<") and text.index(">theirs<") < text.index(">ours<")
    draw_scores("a.json", "b.json", "--output", "two.png", "--width", 5, "--dpi", 100)
    assert read("two.png").shape[1] == 500


def curves_of(confidence):
    """The curves of an evaluation whose pixels are all of one confidence, and half of them right."""
    pixels = [0] * 15
    pixels[int(15 * confidence)] = 100
    of_bins = {
        name: [value if count else None for count in pixels]
        for name, value in {"confidence": confidence, "accuracy": 0.5}.items()
    }
    return {"calibrated": True, "all": {"pixels": pixels, **of_bins, "risk": [0.5] * 100}, "seen": None, "unseen": None}


def test_reliability_of_one_evaluation_and_of_several(draw_scores, tmp_path, capsys):
    for name, confidence in (("a", 0.5), ("b", 0.9)):
        write_evaluation(tmp_path / f"{name}.json", confidence_curves=curves_of(confidence))
    draw_scores("a.json", "--reliability", "one.svg", "--dpi", 50)
    assert capsys.readouterr().out.split() == ["one.svg"]
    text = (tmp_path / "one.svg").read_text()
    assert ">all ground truth<" in text and ">unseen ground truth<" not in text  # it has no such pixels
    draw_scores("a.json", "b.json", "--titles", "clear $", "SAR alone", "--reliability", "two.svg", "two.png")
    assert ">clear $<" in (tmp_path / "two.svg").read_text() and ">SAR alone<" in (tmp_path / "two.svg").read_text()
    assert read("two.png").std() > 5


@pytest.mark.parametrize(("curves", "words"), [
    (None, "b.json is of an earlier version, without confidences; evaluate the model again"),
    ({"all": None}, "b.json is not an evaluation of semantic segmentation"),
    ({"all": {"pixels": [1]}, "seen": None, "unseen": None}, "b.json is not an evaluation of semantic segmentation"),
    ({**curves_of(0.5), "all": {**curves_of(0.5)["all"], "risk": [0.5]}}, "b.json is not an evaluation"),
])  # fmt: skip
def test_evaluations_without_curves_of_confidences(draw_scores, tmp_path, capsys, curves, words):
    write_evaluation(tmp_path / "a.json", confidence_curves=curves_of(0.5))
    write_evaluation(tmp_path / "b.json", **({} if curves is None else {"confidence_curves": curves}))
    with pytest.raises(SystemExit):
        draw_scores("a.json", "b.json", "--reliability", "two.png")
    assert words in capsys.readouterr().err and not (tmp_path / "two.png").exists()


def test_the_resolution_is_of_the_confusion_matrix_too(draw_scores):
    for dpi in (50, 100):
        draw_scores("a.json", "--confusion-matrix", f"{dpi}.png", "--dpi", dpi)
    assert read("100.png").shape[0] == pytest.approx(2 * read("50.png").shape[0], abs=4)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["a.json"], ["nothing to draw", "--output"]),
        (["a.json", "--output", "a.bmp"], ["a.bmp", ".pdf"]),
        (["a.json", "--output", "a.json/iou.png"], ["a.json"]),
        (["a.json", "--output", "iou.png", "--width", "1"], ["--width is 1"]),
        (["a.json", "--output", "iou.png", "--width", "nan"], ["--width is nan"]),
        (["a.json", "--output", "iou.png", "--dpi", "0"], ["--dpi 0"]),
        (["a.json", "b.json", "--confusion-matrix", "m.png"], ["needs one evaluation, not 2"]),
        (["a.json", "b.json", "--titles", "x", "x", "--output", "iou.png"], ["x, x"]),
        (["a.json", "--titles", "x", "y", "--output", "iou.png"], ["x, y"]),
        (["a.json", "other.json", "--output", "iou.png"], ["other.json has other classes", "a.json"]),
        (["missing.json", "--output", "iou.png"], ["missing.json", "No such file"]),
        (["broken.json", "--output", "iou.png"], ["broken.json is not an evaluation", "mm-ovseg eval"]),
        (["negative.json", "--output", "iou.png"], ["negative.json is not an evaluation"]),
        (["retrieval.json", "--output", "iou.png"], ["retrieval.json is not an evaluation"]),
    ],
)
def test_wrong_input_is_one_sentence_and_nothing_written(draw_scores, tmp_path, capsys, arguments, words):
    write_evaluation(tmp_path / "other.json", unseen_classes=[])
    write_evaluation(tmp_path / "negative.json", confusion_matrix=[[-1, 0, 0], [0, 1, 0], [0, 0, 1]])
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "retrieval.json").write_text('{"recall@1": 3}')
    files = set(tmp_path.iterdir())
    with pytest.raises(SystemExit) as stopped:
        draw_scores(*arguments)
    assert stopped.value.code == 2
    [message] = capsys.readouterr().err.splitlines()
    assert message.startswith("error: ") and all(word in message for word in words)
    assert set(tmp_path.iterdir()) == files
