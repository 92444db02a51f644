import numpy as np
import pytest
from PIL import Image

from mm_ovseg.data.palette import NONE_COLOR
from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.visualization import panels
from mm_ovseg.visualization.legend import Legend
from mm_ovseg.visualization.panels import PanelRow, draw_panels

CLASSES = ["city", "road", "water"]
COLORS = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]


def make_row(size=(40, 60), **changes):
    rng = np.random.default_rng(0)
    label = np.zeros(size, np.uint8)
    label[:, 20:40], label[:, 40:] = 1, 2
    arguments = {
        "rgb": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        "sar": rng.integers(0, 256, size, dtype=np.uint8),
        "label": label,
        "predictions": {"ours": label},
    }
    return PanelRow(**(arguments | changes))


def draw(path, rows, **changes):
    draw_panels(path, rows, **({"classes": CLASSES, "colors": COLORS} | changes))
    return np.array(Image.open(path).convert("RGB")) if path.suffix == ".png" else None


def share(picture, color):
    return (picture == np.array(color)).all(axis=2).mean()


def test_panels_show_the_colors_of_the_classes_and_nothing_else_is_left_behind(tmp_path):
    picture = draw(tmp_path / "figure.png", [make_row()])
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]
    # Two of four panels are maps, a third of each in each colour.
    for color in COLORS:
        assert 0.08 < share(picture, color) < 0.17


def test_columns_and_rows_make_the_figure_larger(tmp_path):
    two_columns = draw(tmp_path / "a.png", [make_row(label=None, predictions={})])
    four_columns = draw(tmp_path / "b.png", [make_row()])
    two_rows = draw(tmp_path / "c.png", [make_row(), make_row(label=None)])
    assert four_columns.shape[1] == pytest.approx(2 * two_columns.shape[1], rel=0.05)
    assert two_rows.shape[0] > four_columns.shape[0] and two_rows.shape[1] == four_columns.shape[1]


def test_panels_keep_the_aspect_of_the_image(tmp_path):
    white = np.full((30, 90, 3), 255, np.uint8)
    black = PanelRow(rgb=white * 0, sar=white)
    picture = draw(tmp_path / "a.png", [black])
    dark = (picture == 0).all(axis=2)
    rows, columns = np.flatnonzero(dark.mean(axis=1) > 0.3), np.flatnonzero(dark.mean(axis=0) > 0.3)
    assert len(columns) == pytest.approx(3 * len(rows), abs=6)


def test_unseen_names_and_no_others_are_underlined(tmp_path):
    plain = draw(tmp_path / "plain.png", [make_row()])
    underlined = draw(tmp_path / "underlined.png", [make_row()], unseen=["road", "water"])
    assert plain.shape == underlined.shape
    changed = (plain != underlined).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert rows.min() > 0.8 * len(plain) and np.ptp(rows) < 12  # one thin line in the legend
    assert underlined[changed].mean() < plain[changed].mean()
    runs = np.split(np.unique(columns), np.flatnonzero(np.diff(np.unique(columns)) > 20) + 1)
    assert len(runs) == 2 and all(len(run) > 40 for run in runs)  # below "road" and below "water"


def test_ignored_pixels_are_striped_and_named(tmp_path):
    label = make_row().label.copy()
    label[:] = 255
    picture = draw(tmp_path / "a.png", [make_row(predictions={"ours": label})])
    assert share(picture, (170, 170, 170)) > 0.02
    assert share(draw(tmp_path / "b.png", [make_row()]), (170, 170, 170)) < 0.001


@pytest.mark.parametrize(("label_value", "predicted", "names"), [
    (0, 1, CLASSES),
    (0, 254, [*CLASSES, "none"]),
    (254, 255, [*CLASSES, "none", "no data"]),
    (255, 254, [*CLASSES, "none", "ignored"]),
    (255, 255, [*CLASSES, "ignored or no data"]),
])  # fmt: skip
def test_the_legend_names_what_is_no_class_where_it_occurs(tmp_path, monkeypatch, label_value, predicted, names):
    drawn = []
    monkeypatch.setattr(panels, "Legend", lambda entries, *rest: drawn.extend(entries) or Legend(entries, *rest))
    label, prediction = (np.full((40, 60), value, np.uint8) for value in (label_value, predicted))
    picture = draw(tmp_path / "figure.png", [make_row(label=label, predictions={"ours": prediction})])
    assert [entry.name for entry in drawn] == names
    assert (share(picture, NONE_COLOR) > 0.1) == ("none" in names)


def test_long_legends_are_broken_and_rare_classes_left_out(tmp_path):
    names = [f"land cover number {index}" for index in range(60)]
    colors = [(index, 100, 3 * index) for index in range(60)]
    of_three = draw(tmp_path / "a.png", [make_row()], classes=names, colors=colors)
    of_all = draw(tmp_path / "b.png", [make_row()], classes=names[:24], colors=colors[:24])
    assert of_all.shape[0] > of_three.shape[0] + 100 and of_all.shape[1] == of_three.shape[1]
    assert share(of_three, colors[20]) == 0 < share(of_all, colors[20])


def test_names_are_text_not_formulas(tmp_path):
    row = make_row(name="pair_$1", predictions={r"$\frac{": make_row().label})
    draw(tmp_path / "a.png", [row], classes=["$x", "a_b$", r"\alpha"], unseen=["$x"])


def test_pdf(tmp_path):
    draw(tmp_path / "new" / "figure.pdf", [make_row()])
    assert (tmp_path / "new" / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_float_sar_of_three_channels(tmp_path):
    sar = make_row().sar[..., None].repeat(3, axis=2).astype(np.float32)
    first = draw(tmp_path / "a.png", [make_row()])
    assert np.array_equal(draw(tmp_path / "b.png", [make_row(sar=sar)]), first)


@pytest.mark.parametrize(
    "rows, changes, error, words",
    [
        ([], {}, DataError, "at least one pair"),
        ([make_row(label=np.full((40, 60), 3))], {}, DataError, "'Ground truth' in row 1 holds the value 3"),
        ([make_row(name="x", predictions={"ours": np.zeros((9, 9), int)})], {}, DataError, r"'ours' in row 1 \(x\)"),
        ([make_row(sar=np.zeros((9, 60)))], {}, DataError, "'SAR' in row 1"),
        ([make_row()], {"colors": COLORS[:2]}, VocabularyError, "2 colors for 3 classes"),
    ],
)
def test_wrong_input_is_named_and_nothing_written(tmp_path, rows, changes, error, words):
    with pytest.raises(error, match=words):
        draw(tmp_path / "a.png", rows, **changes)
    assert not list(tmp_path.iterdir())


def test_wrong_places_are_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.bmp"):
        draw(tmp_path / "a.bmp", [make_row()])
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        draw(tmp_path / "file" / "a.png", [make_row()])
