import numpy as np
import pytest
from PIL import Image

from mm_ovseg.visualization import explanation_sheet
from tests.conftest import ROOT, run_cli, save_random_weights

CONFIG = str(ROOT / "configs" / "quickstart" / "mm_ovseg.yaml")
PAIR = ["--config-file", CONFIG, "--rgb", "rgb.png", "--sar", "sar.png", "--classes", "city; road, street; forest"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pair of 40 x 64 pixels, and the random weights of a model."""
    folder = tmp_path_factory.mktemp("pair")
    generator = np.random.default_rng(0)
    for name in ("rgb", "sar"):
        Image.fromarray(generator.integers(0, 256, (40, 64, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    save_random_weights(CONFIG, folder / "model.pth", seed=3)
    return folder


@pytest.fixture
def explain(folder, monkeypatch):
    """A function ``*arguments`` that runs the command line in the folder of the pair."""
    monkeypatch.chdir(folder)
    options = ["--opts", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "model.pth"]
    return lambda *arguments: run_cli("explain", *PAIR, *arguments, *options)


@pytest.fixture
def figures(monkeypatch):
    """The figures that are written, instead of files."""
    figures = []
    monkeypatch.setattr(explanation_sheet, "write_figure", lambda path, figure: figures.append(figure))
    return figures


def texts_of(figure):
    return [text.get_text().replace("\n", " ") for text in figure.texts]


def maps_of(figure):
    """The arrays of the panels, row by row, colour bars left out."""
    return [axes.images[0].get_array() for axes in figure.axes if axes.images]


def test_a_class_for_print(explain, tmp_path, capsys):
    files = [tmp_path / "new" / name for name in ("a.png", "a.pdf")]
    explain("--class", "road", "--output", *files, "--dpi", 100)
    assert capsys.readouterr().out.split() == list(map(str, files))
    picture = Image.open(files[0])
    assert 500 < picture.width <= 690 and picture.height > 500
    assert len(np.unique(np.array(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 100
    assert files[1].read_bytes().startswith(b"%PDF")


def test_each_row_is_of_every_column_on_one_scale(explain, figures):
    explain("--class", "Road", "city", "--unseen", "road, street;", "--output", "a.png")
    [figure] = figures
    texts = texts_of(figure)
    titles = ["RGB only", "SAR only", "RGB and SAR"]
    assert [text for text in texts if text in titles] == titles * 2
    assert [text.get_text() for text in figure.texts if text.get_bbox_patch()] == ["road, street"]
    rows = [text for text in texts if text.startswith(("CLIP", "DINO", "fused", "probability"))]
    assert [row.split(" (")[0] for row in rows] == [
        "CLIP cost",
        "DINO cost",
        "fused cost",
        "DINO attention",
        "probability",
    ]
    shapes = [maps.shape[:2] for maps in maps_of(figure)]
    # Images of two columns; CLIP sees no SAR; grids of 12 and 24 tokens a side; the size of the pair.
    assert shapes == [(40, 64)] * 4 + [(12, 12)] * (4 + 6 + 6) + [(24, 24)] * 6 + [(40, 64)] * 6
    empty = [text.get_text().replace("\n", " ") for axes in figure.axes for text in axes.texts]
    assert empty == ["CLIP sees no SAR"] * 2
    scales = [axes.images[0].get_clim() for axes in figure.axes if axes.images][4:]
    parts = [scales[:4], scales[4:10], scales[10:16], scales[16:22], scales[22:]]
    assert all(len(set(part)) == 1 for part in parts)
    assert parts[-1][0] == (0, 1) and parts[-2][0][0] == 0
    assert min(maps.min() for maps in maps_of(figure)[4:8]) == parts[0][0][0]
    bars = [axes for axes in figure.axes if any(label.get_text() for label in axes.get_yticklabels())]
    assert [label.get_text() for label in bars[-1].get_yticklabels()] == ["0", "1"]


def test_the_ring_is_at_the_point_or_at_the_highest_probability(explain, figures):
    explain("--class", "city", "--point", 50, 7, "--output", "a.png")
    explain("--class", "city", "--output", "a.png")
    chosen, highest = figures
    rings = {tuple(np.ravel(line.get_xydata())) for axes in chosen.axes for line in axes.lines}
    assert rings == {(50, 7)}
    row, column = np.unravel_index(maps_of(highest)[-1].argmax(), (40, 64))
    rings = {tuple(np.ravel(line.get_xydata())) for axes in highest.axes for line in axes.lines}
    assert rings == {(column + 0.5, row + 0.5)}
    attention = -6  # three of it, and three of the probability
    assert not np.array_equal(maps_of(chosen)[attention], maps_of(highest)[attention])
    np.testing.assert_array_equal(maps_of(chosen)[-1], maps_of(highest)[-1])


def test_a_line_surrounds_what_the_map_gives_to_the_class(explain, figures):
    explain("--class", "city", "road", "forest", "--output", "a.png", "--width", 12)
    panels = [axes for axes in figures[0].axes if axes.images]
    probabilities = np.stack(maps_of(figures[0])[-9:]).reshape(3, 3, 40, 64)  # class, column
    answers = probabilities.argmax(axis=0)
    parted = [[0 < np.mean(answers[column] == index) < 1 for column in range(3)] for index in range(3)]
    lined = [bool(axes.collections) for axes in panels[-9:]]
    assert lined == np.ravel(parted).tolist() and any(lined)
    assert not any(axes.collections for axes in panels[:-9])
    for panel in np.flatnonzero(lined):
        [contour] = panels[-9 + panel].collections
        corners = np.concatenate([path.vertices for path in contour.get_paths()]).astype(int)
        given = answers[panel % 3] == panel // 3
        assert all(given[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].any() for x, y in corners)
        assert not all(given[y, x] for x, y in corners)


def test_classes_side_by_side_are_drawn_as_each_alone(explain, figures):
    for names in (["city", "road"], ["city"], ["road"]):
        explain("--class", *names, "--point", 30, 20, "--output", "a.png")
    together, *alone = (maps_of(figure)[2 * count :] for figure, count in zip(figures, (2, 1, 1), strict=True))
    places = iter(together)
    for width in (2, 3, 3, 3, 3):  # of a class's rows; SAR alone has no cost of CLIP's
        for maps in alone:
            for _ in range(width):
                np.testing.assert_array_equal(next(places), maps.pop(0))
    assert not any(alone)


def test_without_sar_there_is_one_column(folder, figures, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    options = ["--class", "city", "--output", "a.png", "--opts", "MODEL.DEVICE", "cpu"]
    run_cli("explain", *PAIR[:4], *PAIR[6:], *options)
    assert "no SAR encoder" not in capsys.readouterr().err
    run_cli("explain", *PAIR, *options, "MODEL.DENSE_ENCODER_SAR.ENABLED", "False")
    assert "no SAR encoder" in capsys.readouterr().err
    for figure in figures:
        assert "RGB only" in texts_of(figure) and "SAR only" not in texts_of(figure)


def test_without_rgb_there_is_one_column(folder, figures, monkeypatch):
    monkeypatch.chdir(folder)
    options = ["--class", "city", "--output", "a.png", "--opts", "MODEL.DEVICE", "cpu"]
    run_cli("explain", *PAIR[:2], *PAIR[4:], *options)
    [figure] = figures
    texts = texts_of(figure)
    assert "SAR only" in texts and "RGB only" not in texts and not any("CLIP" in text for text in texts)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--class", "water"], ["'water'", "city, road, street, forest"]),
        (["--class", "city", "City"], ["twice"]),
        (["--class", "city", "--point", "64", "0"], ["--point 64 0", "64x40"]),
        (["--class", "city", "--point", "nan", "0"], ["--point nan 0"]),
        (["--class", "city", "--output", "a.bmp"], ["a.bmp"]),
        (["--class", "city", "--output", "rgb.png/a.png"], ["rgb.png"]),
        (["--class", "city", "--width", "2"], ["2 inches", "wider"]),
        (["--class", "city", "--dpi", "0"], ["--dpi is 0"]),
        (["--class", "city", "--unseen", "water"], ["water"]),
        (["--class", "city", "--rgb", "missing.png"], ["missing.png"]),
        (["--class", "city", "--sar", "model.pth"], ["model.pth"]),
        (["--class", "city", "--sar", "small.png"], ["small.png", "rgb.png"]),
        (["--class", "city", "--config-file", "missing.yaml"], ["missing.yaml"]),
    ],
)
def test_wrong_input_is_one_sentence_and_nothing_written(explain, folder, capsys, arguments, words):
    Image.new("L", (32, 32)).save(folder / "small.png")
    files = set(folder.iterdir())
    with pytest.raises(SystemExit) as stopped:
        explain(*([] if "--output" in arguments else ["--output", "figure.png"]), *arguments)
    assert stopped.value.code == 2
    [message] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert all(word in message for word in words)
    assert set(folder.iterdir()) == files
