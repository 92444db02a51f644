import re
import zlib

import numpy as np
import pytest
from PIL import Image

from laptop.drawn_world import SYNTHETIC_CLASSES, write_synthetic_dataset
from mm_ovseg.data import register_datasets_from_file
from mm_ovseg.data.palette import NONE_COLOR, default_colors
from mm_ovseg.decision import NONE_CLASS
from tests.conftest import ROOT, run_cli, save_random_weights

CONFIG = str(ROOT / "configs" / "quickstart" / "mm_ovseg.yaml")
MODEL = ["--model", "ours", CONFIG]
THIRTEEN = ",".join(f"class {index}" for index in range(13))


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """The folder of datasets, with the random weights of a model beside them."""
    folder = tmp_path_factory.mktemp("datasets")
    write_synthetic_dataset(folder / "synthetic", num_train=0, num_val=3, size=64)
    save_random_weights(CONFIG, folder / "model.pth", seed=3)
    return folder


@pytest.fixture
def make_figure(datasets, monkeypatch, forget_datasets):
    """A function ``*arguments`` that runs the command line in the folder of the datasets."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    monkeypatch.chdir(datasets)
    register_datasets_from_file(ROOT / "projects/laptop/datasets.yaml")
    return lambda *arguments: run_cli("figure", *arguments, "--opts", "MODEL.DEVICE", "cpu")


def page_of(path):
    """Width of a PDF's page in inches, and the sizes of the fonts that text is set in."""
    content = path.read_bytes()
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, flags=re.DOTALL)
    pages = []
    for stream in streams:
        try:
            pages.append(zlib.decompress(stream))
        except zlib.error:
            continue  # a font
    sizes = {float(size) for page in pages for size in re.findall(rb"/F\S+ ([\d.]+) Tf", page)}
    return float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", content)[1]) / 72, sizes


def panels_of(path, columns):
    """The middle of each panel of the first row, as (H, W, 3) of some pixels, from left to right."""
    picture = np.array(Image.open(path).convert("RGB"))
    width = picture.shape[1] / columns
    row = picture[int(0.5 * len(picture)) - 20 : int(0.5 * len(picture))]
    return [row[:, int((i + 0.3) * width) : int((i + 0.7) * width)] for i in range(columns)]


def colors_of(path):
    return {tuple(color) for color in np.array(Image.open(path).convert("RGB")).reshape(-1, 3).tolist()}


def test_a_dataset_and_two_models_for_print(make_figure, tmp_path):
    files = [tmp_path / "new" / name for name in ("figure.png", "figure.pdf")]
    titles = ["ours", "RGB alone"]
    models = [word for title in titles for word in ("--model", title, CONFIG, "model.pth")]
    make_figure("--dataset", "synthetic_val", "--num", 1, *models, "--rgb-only", titles[1], "--output", *files)
    assert Image.open(files[0]).width == pytest.approx(6.9 * 300, abs=1)
    width, sizes = page_of(files[1])
    assert width == pytest.approx(6.9, abs=0.01) and sizes == {8.0}
    assert set(default_colors(SYNTHETIC_CLASSES)) & colors_of(files[0])
    sar, ours, rgb_alone = (panels_of(files[0], 5)[i] for i in (1, 3, 4))
    assert not np.array_equal(ours, rgb_alone)
    assert len(np.unique(sar.reshape(-1, 3), axis=0)) > 50 > len(np.unique(ours.reshape(-1, 3), axis=0))


def test_the_weights_and_the_samples_are_those_that_were_named(make_figure, tmp_path):
    def draw(name, *arguments):
        make_figure("--dataset", "synthetic_val", "--output", tmp_path / name, "--dpi", 60, *arguments)
        return np.array(Image.open(tmp_path / name))

    second = draw("a.png", "--samples", "00001", *MODEL, "model.pth")
    assert second.shape[1] == 6.9 * 60
    np.testing.assert_array_equal(draw("b.png", "--samples", "00001", *MODEL, "model.pth"), second)
    assert not np.array_equal(draw("c.png", "--samples", "00002", *MODEL, "model.pth"), second)
    both = draw("d.png", "--samples", "00002", "00001", *MODEL, "model.pth", "--width", 3.5)
    assert both.shape[1] == 3.5 * 60 and both.shape[0] > both.shape[1] * 0.5


def test_a_list_of_pairs_in_colors_for_all_eyes(make_figure, datasets, tmp_path):
    scenes = datasets / "synthetic" / "val"
    lines = [f"{scenes}/rgb/0000{i}.png,{scenes}/sar/0000{i}.png,{label},site {i}" for i, label in ((0, ""), (1, "x"))]
    (tmp_path / "pairs.csv").write_text("rgb,sar,label,name\n" + lines[0] + "\n")
    arguments = ["--pairs", tmp_path / "pairs.csv", *MODEL, "model.pth", "--palette", "colour-blind", "--dpi", 100]
    make_figure(*arguments, "--classes", "meadow, field; water; city", "--unseen", "water", "--output", "a.png")
    colors = default_colors(["meadow, field", "water", "city"])
    assert set(colors) <= colors_of(datasets / "a.png")
    (tmp_path / "pairs.csv").write_text(
        f"rgb,sar,label\n{lines[1].replace(',x,site 1', '')},{scenes}/labels/00001.png\n"
    )
    make_figure(*arguments, "--classes", ",".join(SYNTHETIC_CLASSES), "--output", "b.png")
    without, with_truth = (Image.open(datasets / name) for name in ("a.png", "b.png"))
    assert with_truth.width == without.width and with_truth.height < without.height  # four panels, not three
    label = np.array(Image.open(scenes / "labels" / "00001.png"))
    Image.fromarray(np.where(label == 2, 0, NONE_CLASS).astype(np.uint8)).save(tmp_path / "none.png")
    (tmp_path / "pairs.csv").write_text(f"rgb,sar,label\n{lines[1].replace(',x,site 1', '')},none.png\n")
    make_figure(*arguments, "--classes", SYNTHETIC_CLASSES[2], "--output", "c.png")
    assert NONE_COLOR in colors_of(datasets / "c.png")


def test_names_of_unseen_classes_can_be_chosen_by_the_config(make_figure, datasets):
    shared = ["--dataset", "synthetic_val", "--num", "1", *MODEL, "model.pth", "--dpi", 100, "--output"]
    make_figure(*shared, "a.png")
    run_cli("figure", *shared, "b.png", "--opts", "MODEL.DEVICE", "cpu", "DATASETS.UNSEEN", "[]")
    before, after = (np.array(Image.open(datasets / name).convert("L")).astype(int) for name in ("a.png", "b.png"))
    rows = np.flatnonzero((before != after).any(axis=1))
    assert rows.min() > 0.8 * len(before) and before[rows].sum() < after[rows].sum()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--dataset", "nowhere", *MODEL], ["'nowhere'", "--dataset-file", "synthetic_val"]),
        (["--dataset", "synthetic_val", *MODEL, "--samples", "7"], ["no sample '7'", "00000"]),
        (["--dataset", "synthetic_val", *MODEL, "--classes", "water"], ["--classes"]),
        (["--dataset", "synthetic_val", *MODEL, *MODEL], ["two columns 'ours'"]),
        (["--dataset", "synthetic_val", "--model", "SAR", CONFIG], ["two columns 'SAR'"]),
        (["--dataset", "synthetic_val", "--model", "ours"], ["0 values", "CONFIG"]),
        (["--dataset", "synthetic_val", "--model", "ours", "missing.yaml"], ["missing.yaml"]),
        (["--dataset", "synthetic_val", *MODEL, "missing.pth"], ["missing.pth"]),
        (["--dataset", "synthetic_val", *MODEL, "--rgb-only", "others"], ["'others'", "ours"]),
        (["--dataset", "synthetic_val", *MODEL, "--width", "1"], ["1 inches", "wider"]),
        (["--dataset", "synthetic_val", *MODEL, "--dpi", "0"], ["--dpi is 0"]),
        (["--dataset", "synthetic_val", *MODEL, "--output", "a.bmp"], ["a.bmp"]),
        (["--pairs", "missing.csv", *MODEL, "--classes", "water"], ["missing.csv"]),
        (["--pairs", "empty.csv", *MODEL, "--classes", "water"], ["empty.csv lists no pair"]),
        (["--pairs", "half.csv", *MODEL, "--classes", "water"], ["half.csv, line 2", "'sar'"]),
        (["--pairs", "gone.csv", *MODEL, "--classes", "water"], ["gone.png"]),
        (["--pairs", "gone.csv", *MODEL], ["gone.csv", "--classes"]),
        (["--pairs", "gone.csv", *MODEL, "--palette", "colour-blind", "--classes", THIRTEEN], ["13 classes", "12"]),
    ],
)
def test_wrong_input_is_one_sentence_and_nothing_written(make_figure, datasets, capsys, arguments, words):
    for name, line in (("empty", ""), ("half", "a.png,\n"), ("gone", "gone.png,gone.png\n")):
        (datasets / f"{name}.csv").write_text("rgb,sar\n" + line)
    files = set(datasets.iterdir())
    with pytest.raises(SystemExit) as stopped:
        make_figure(*([] if "--output" in arguments else ["--output", "figure.png"]), *arguments)
    assert stopped.value.code == 2
    [message] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert all(word in message for word in words)
    assert set(datasets.iterdir()) == files
