"""`mm-ovseg segment`, and demo/demo.py, as a user runs them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from laptop.drawn_world import SYNTHETIC_CLASSES, write_synthetic_dataset
from mm_ovseg.engine import load_config
from mm_ovseg.inference import Predictor
from mm_ovseg.visualization import panels
from tests.conftest import ROOT, run_cli, save_random_weights
from tests.patience import PATIENCE

CONFIG = ROOT / "configs" / "quickstart" / "mm_ovseg.yaml"
CLASSES = ",".join(SYNTHETIC_CLASSES)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """GeoTIFF pairs: rgb_clouds, sar and labels."""
    root = tmp_path_factory.mktemp("scenes")
    write_synthetic_dataset(root / "tif", num_train=1, num_val=3, size=64, file_format="tif")
    return root / "tif" / "val"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of the quickstart model, random but the same in every test."""
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    save_random_weights(CONFIG, path, seed=3)
    return path


@pytest.fixture(autouse=True)
def forget_the_pairs(forget_datasets):
    """The dataset that folders of pairs are registered as."""


def arguments(rgb, sar, output, *more, classes=CLASSES):
    words = ["--config-file", CONFIG, "--input", rgb, "--sar", sar, "--classes", classes, "--output", output, *more]
    return [str(word) for word in words]


def options(weights, *more):
    return ["--opts", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", weights, *more]


def test_one_pair_gives_a_palette_map_a_georeferenced_map_and_a_figure(scenes, weights, tmp_path):
    rgb, sar, label = (scenes / kind / "00000.tif" for kind in ("rgb_clouds", "sar", "labels"))
    words = arguments(rgb, sar, tmp_path, "--unseen", "road,water", "--label", label, *options(weights))
    command = [sys.executable, "demo/demo.py", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 pairs" in done.stdout
    assert re.search(r"\| +\| +mIoU \| +seen \| +unseen \| +city \| +road \(unseen\) \|", done.stdout)
    assert {path.name for path in tmp_path.iterdir()} == {"00000_map.png", "00000_map.tif", "00000_figure.png"}
    with rasterio.open(tmp_path / "00000_map.tif") as made, rasterio.open(rgb) as given:
        assert (made.crs, made.transform, made.shape) == (given.crs, given.transform, given.shape)
        assert made.nodata == 255 and made.tags(1)["class_1"] == "road"
        class_map = made.read(1)
        colours = made.colormap(1)
    picture = Image.open(tmp_path / "00000_map.png")
    np.testing.assert_array_equal(np.asarray(picture), class_map)
    palette = np.array(picture.getpalette()).reshape(-1, 3)
    used = np.unique(class_map)
    assert set(used) <= set(range(5))
    assert all(tuple(palette[index]) == colours[index][:3] for index in used)
    figure = Image.open(tmp_path / "00000_figure.png")
    assert figure.width > 1.5 * figure.height and np.asarray(figure.convert("L")).std() > 20


@pytest.mark.parametrize("as_glob", [False, True])
def test_folders_and_globs_are_matched_by_stem(scenes, weights, tmp_path, capsys, as_glob):
    folders = [scenes / "rgb", scenes / "sar"]
    rgb, sar = (folder / "*.tif" for folder in folders) if as_glob else folders
    run_cli("segment", *arguments(rgb, sar, tmp_path, *options(weights)))
    assert {path.name for path in tmp_path.glob("*_map.tif")} == {f"0000{index}_map.tif" for index in range(3)}
    assert "3 of 3 pairs" in capsys.readouterr().out
    overview, single = (Image.open(tmp_path / f"{name}.png") for name in ("overview", "00000_figure"))
    assert overview.height > 2.5 * single.height - 200  # three rows, one legend


def test_labels_give_the_iou_of_every_class(scenes, weights, tmp_path, capsys):
    folders = [scenes / kind for kind in ("rgb", "sar", "labels")]
    words = arguments(*folders[:2], tmp_path, "--label", folders[2], "--unseen", "road,water", *options(weights))
    run_cli("segment", *words)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 0000")]
    assert len(rows) == 3
    for row, name in zip(rows, ("00000", "00001", "00002"), strict=True):
        label, prediction = (
            np.asarray(Image.open(path)) for path in (folders[2] / f"{name}.tif", tmp_path / f"{name}_map.png")
        )
        expected = []
        for index in range(5):
            truth, found = label == index, prediction == index
            overlap, union = (truth & found & (label < 255)).sum(), ((truth | found) & (label < 255)).sum()
            expected.append(f"{100 * overlap / union:.1f}" if truth.any() else "-")
        assert [cell.strip() for cell in row.split("|")[5:10]] == expected


def test_one_name_alone_is_mapped_where_it_is_and_compared_with_labels_of_other_classes(
    scenes, weights, tmp_path, capsys
):
    rgb, sar, label = (scenes / kind / "00000.tif" for kind in ("rgb", "sar", "labels"))
    words = ["--label", label, "--label-classes", CLASSES, "--background", "", "--min-score", "Water=0.45"]
    run_cli("segment", *arguments(rgb, sar, tmp_path, *words, *options(weights), classes="water, river;"))
    with rasterio.open(tmp_path / "00000_map.tif") as file:
        class_map = file.read(1)
        assert file.tags(1)["class_254"] == "none"
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "00000_map.png")), class_map)
    found = class_map == 0
    assert 0 < found.mean() < 1 and (class_map[~found] == 254).all()
    truth = np.asarray(Image.open(label)) == SYNTHETIC_CLASSES.index("water")
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 00000")]
    assert f"{100 * (truth & found).sum() / (truth | found).sum():.1f} |" in row


def test_labels_of_one_name_alone_may_say_where_it_is_not(scenes, weights, tmp_path, capsys):
    rgb, sar, label = (scenes / kind / "00000.tif" for kind in ("rgb", "sar", "labels"))
    truth = np.asarray(Image.open(label)) == SYNTHETIC_CLASSES.index("water")
    Image.fromarray(np.where(truth, 0, 254).astype(np.uint8)).save(tmp_path / "label.png")
    words = arguments(rgb, sar, tmp_path, "--min-score", "0", "--background", "", classes="water")
    run_cli("segment", *words, "--label", str(tmp_path / "label.png"), *map(str, options(weights)))
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 00000")]
    assert f"{100 * truth.mean():.1f} |" in row  # everything is water
    assert "class_254" not in rasterio.open(tmp_path / "00000_map.tif").tags(1)


def test_a_background_name_competes_and_is_none(scenes, weights, tmp_path):
    rgb, sar = (scenes / kind / "00000.tif" for kind in ("rgb", "sar"))
    run_cli("segment", *arguments(rgb, sar, tmp_path / "all", *options(weights)))
    first, *others = SYNTHETIC_CLASSES
    words = ["--background", ",".join(others), *options(weights)]
    run_cli("segment", *arguments(rgb, sar, tmp_path / "one", *words, classes=first))
    whole, one = (np.asarray(Image.open(tmp_path / name / "00000_map.png")) for name in ("all", "one"))
    np.testing.assert_array_equal(one, np.where(whole == 0, 0, 254))
    assert 0 < (one == 0).mean() < 1


@pytest.mark.parametrize(("words", "message"), [
    (["--min-score", "road 0.2"], "--min-score is 'road 0.2'"),
    (["--background", "road"], "more than once: road"),
    (["--label-classes", "road"], "--label-classes names the values of --label"),
    (["--label", "LABEL", "--label-classes", "moor"], "(moor) has none of the classes"),
])  # fmt: skip
def test_wrong_options_of_the_decision(scenes, tmp_path, capsys, words, message):
    rgb, sar, label = (scenes / kind / "00000.tif" for kind in ("rgb", "sar", "labels"))
    words = [str(label) if word == "LABEL" else word for word in words]
    with pytest.raises(SystemExit) as stop:
        run_cli("segment", *arguments(rgb, sar, tmp_path, *words))
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_a_pair_without_georeference_gives_no_geotiff_and_pixels_without_both_stay_nodata(weights, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 4), dtype=np.uint8)
    image[:10, :, 3] = 0
    image[10:, :, 3] = 255
    Image.fromarray(image).save(tmp_path / "rgb.png")
    image[:, :, 0] |= 1
    image[:5, :, 0] = 0
    Image.fromarray(image[:, :, 0]).save(tmp_path / "sar.png")
    output, words = tmp_path / "output", (*options(weights), "INPUT.SAR.NODATA", "0")
    run_cli("segment", *arguments(tmp_path / "rgb.png", tmp_path / "sar.png", output, *words))
    assert {path.name for path in output.iterdir()} == {"rgb_map.png", "rgb_figure.png"}
    class_map = np.asarray(Image.open(output / "rgb_map.png"))
    assert (class_map[:5] == 255).all() and (class_map[5:] < 5).all()


def test_a_class_file_gives_names_unseen_ones_and_colours(scenes, weights, tmp_path, monkeypatch):
    (tmp_path / "classes.json").write_text(
        json.dumps({"classes": ["wood", "river, lake"], "unseen": ["river, lake"], "colors": [[1, 2, 3], [4, 5, 6]]})
    )
    drawn = {}
    monkeypatch.setattr(panels, "draw_panels", lambda path, rows, **arguments: drawn.update(arguments))
    rgb, sar = (scenes / kind / "00000.tif" for kind in ("rgb_clouds", "sar"))
    run_cli("segment", *arguments(rgb, sar, tmp_path, *options(weights), classes=tmp_path / "classes.json"))
    assert drawn["classes"] == ("wood", "river, lake") and drawn["unseen"] == ("river, lake",)
    palette = Image.open(tmp_path / "00000_map.png").getpalette()
    assert palette[:6] == [1, 2, 3, 4, 5, 6]
    words = arguments(
        rgb, sar, tmp_path, "--unseen", "river, lake", *options(weights), classes=tmp_path / "classes.json"
    )
    run_cli("segment", *words)
    assert drawn["unseen"] == ("river, lake",)
    run_cli(
        "segment",
        *arguments(rgb, sar, tmp_path, "--unseen", "", *options(weights), classes="pie_released_prompts.json"),
    )
    assert drawn["classes"][0] == "backbroad" and drawn["unseen"] == ()


def test_a_published_checkpoint_is_taken_as_it_is(scenes, released_catseg, tmp_path, caplog):
    # Of zeros: to its text encoder two classes would be one.
    rgb, sar = (scenes / kind / "00000.tif" for kind in ("rgb_clouds", "sar"))
    words = arguments(rgb, sar, tmp_path / "maps", "--background", "", *options(released_catseg), classes="road")
    words[1] = str(ROOT / "configs" / "siblings" / "catseg_vitb16_384.yaml")
    with caplog.at_level("INFO", logger="mm_ovseg"):
        run_cli("segment", *words)
    assert "released.pth is the published CAT-Seg ViT-B/16" in caplog.text
    assert (np.asarray(Image.open(tmp_path / "maps" / "00000_map.png")) == 0).all()


def test_decibel_sar_of_two_polarisations(scenes, weights, tmp_path):
    rgb = scenes / "rgb" / "00000.tif"
    with rasterio.open(rgb) as file:
        profile = {**file.profile, "count": 2, "dtype": "float32", "nodata": None}
    decibels = np.random.default_rng(0).uniform(-25, 0, (2, 64, 64)).astype(np.float32)
    with rasterio.open(tmp_path / "sar.tif", "w", **profile) as file:
        file.write(decibels)
    words = arguments(rgb, tmp_path / "sar.tif", tmp_path / "out", *options(weights, "INPUT.SAR.SCALE", "db"))
    run_cli("segment", *words)
    assert (tmp_path / "out" / "00000_map.tif").is_file()


def fails(capsys, output, words):
    """Run the demo; returns the one line of its error. Nothing may be written."""
    with pytest.raises(SystemExit) as stop:
        run_cli("segment", *words)
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert not Path(output).exists()
    return lines[0]


def change_raster(source, target, **profile_changes):
    with rasterio.open(source) as file:
        profile, data = {**file.profile, **profile_changes}, file.read()
    with rasterio.open(target, "w", **profile) as file:
        file.write(data[:, : profile["height"], : profile["width"]])
    return target


def empty_raster(source, target):
    change_raster(source, target, nodata=0)
    with rasterio.open(target, "r+") as file:
        file.write(np.zeros_like(file.read()))
    return target


@pytest.fixture
def bad_pairs(scenes, tmp_path):
    """Name -> (RGB, SAR) of pairs that cannot be used."""
    rgb, sar = scenes / "rgb" / "00000.tif", scenes / "sar" / "00000.tif"
    (tmp_path / "torn.tif").write_bytes(sar.read_bytes()[:300])
    (tmp_path / "no_sar").mkdir()
    return {
        "missing": (rgb, tmp_path / "gone.tif"),
        "unreadable": (rgb, tmp_path / "torn.tif"),
        "no partner": (scenes / "rgb", tmp_path / "no_sar"),
        "size": (rgb, change_raster(sar, tmp_path / "small.tif", width=50)),
        "crs": (rgb, change_raster(sar, tmp_path / "crs.tif", crs="EPSG:32633")),
        "extent": (rgb, scenes / "sar" / "00001.tif"),
        "all nodata": (empty_raster(rgb, tmp_path / "no_rgb.tif"), empty_raster(sar, tmp_path / "empty.tif")),
        "file and folder": (rgb, scenes / "sar"),
        "float": (rgb, change_raster(sar, tmp_path / "float.tif", dtype="float32")),
    }


@pytest.mark.parametrize("kind,message", [
    ("missing", r"gone\.tif does not exist"),
    ("unreadable", r"torn\.tif"),
    ("no partner", r"no SAR file for 3 of 3 names \(00000"),
    ("size", r"00000\.tif.*small\.tif.*50"),
    ("crs", r"00000\.tif.*crs\.tif.*32633"),
    ("extent", r"00000\.tif.*00001\.tif"),
    ("all nodata", r"empty\.tif"),
    ("file and folder", "mix files and folders"),
    ("float", r"float\.tif.*INPUT\.SAR\.SCALE"),
])  # fmt: skip
def test_bad_pairs_end_in_one_sentence(bad_pairs, weights, tmp_path, capsys, kind, message):
    output = tmp_path / "output"
    error = fails(capsys, output, arguments(*bad_pairs[kind], output, *options(weights)))
    assert re.search(message, error)


@pytest.mark.parametrize("classes,unseen,message", [
    ("", "", "empty"),
    ("water,,road", "", "empty"),
    ("water,road,Water", "", "Water"),
    ("water,road", "lava", "lava"),
])  # fmt: skip
def test_bad_class_names_end_in_one_sentence(scenes, weights, tmp_path, capsys, classes, unseen, message):
    output = tmp_path / "output"
    more = ["--unseen", unseen] if unseen else []
    pair = (scenes / "rgb" / "00000.tif", scenes / "sar" / "00000.tif")
    error = fails(capsys, output, arguments(*pair, output, *more, *options(weights), classes=classes))
    assert message in error


def test_a_label_value_that_no_class_has_is_named(scenes, weights, tmp_path, capsys):
    pair = [scenes / kind / "00000.tif" for kind in ("rgb", "sar")]
    words = ["--label", scenes / "labels" / "00000.tif", *options(weights)]
    output = tmp_path / "output"
    error = fails(capsys, output, arguments(*pair, output, *words, classes="water,road"))
    assert re.search(r"labels/00000\.tif.*[234]", error)


def test_an_output_that_is_a_file_is_refused_before_the_work(scenes, weights, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    pair = [scenes / kind / "00000.tif" for kind in ("rgb", "sar")]
    error = fails(capsys, tmp_path / "taken" / "maps", arguments(*pair, tmp_path / "taken" / "maps", *options(weights)))
    assert "taken is a file" in error


@pytest.mark.parametrize("given", ["rgb/00001.tif", "rgb", "rgb/*1.tif"])
def test_without_sar_the_map_rests_on_rgb_alone(scenes, weights, tmp_path, capsys, given):
    words = arguments(scenes / given, "", tmp_path, *options(weights))
    place = words.index("--sar")
    run_cli("segment", *words[:place], *words[place + 2 :])
    assert "without --sar it maps RGB alone" in capsys.readouterr().err
    name = "0000" if "*" in given else "00001"
    with rasterio.open(tmp_path / f"{name}_map.tif") as made:
        class_map = made.read(1)
    cfg = load_config(CONFIG, ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", str(weights)], needs_datasets=False)
    expected = Predictor(cfg, SYNTHETIC_CLASSES)(scenes / "rgb" / "00001.tif", None)
    np.testing.assert_array_equal(class_map, expected.class_map)
    assert (tmp_path / f"{name}_figure.png").is_file()


@pytest.mark.parametrize("given", ["sar/00001.tif", "sar/*1.tif"])
def test_without_rgb_the_map_rests_on_sar_alone(scenes, weights, tmp_path, capsys, given):
    trained = ["INPUT.DROP_RGB", "0.2"] if "*" in given else []
    words = arguments("", scenes / given, tmp_path, *options(weights), *trained)
    place = words.index("--input")
    run_cli("segment", *words[:place], *words[place + 2 :])
    assert ("was not trained for SAR alone" in capsys.readouterr().err) == (not trained)
    name = "0000" if "*" in given else "00001"
    with rasterio.open(tmp_path / f"{name}_map.tif") as made, rasterio.open(scenes / "sar" / "00001.tif") as sar:
        class_map = made.read(1)
        assert made.transform == sar.transform and made.crs == sar.crs
    cfg = load_config(CONFIG, ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", str(weights)], needs_datasets=False)
    expected = Predictor(cfg, SYNTHETIC_CLASSES)(None, scenes / "sar" / "00001.tif")
    np.testing.assert_array_equal(class_map, expected.class_map)
    assert (class_map < 5).all() and (tmp_path / f"{name}_figure.png").is_file()


def test_what_cannot_be_mapped_without_rgb(scenes, weights, tmp_path, capsys):
    words = arguments("", scenes / "sar", tmp_path / "maps", *options(weights))
    place, no_sar = words.index("--input"), ("MODEL.DENSE_ENCODER_SAR.ENABLED", "False")
    for left, message in (
        (words[:place] + words[place + 4 :], "give --input (RGB), --sar, or both"),
        (words[:place] + words[place + 2 :] + [*no_sar, "MODEL.WEIGHTS", ""], "a model of RGB alone"),
    ):
        assert message in fails(capsys, tmp_path / "maps", left)


def test_very_long_pairs(weights, tmp_path):
    for height, width in ((600, 2), (2, 600), (1, 1)):
        for kind in ("rgb", "sar"):
            image = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / f"{kind}.png")
        output = tmp_path / f"{height}x{width}"
        run_cli("segment", *arguments(tmp_path / "rgb.png", tmp_path / "sar.png", output, *options(weights)))
        assert Image.open(output / "rgb_map.png").size == (width, height)
        assert max(Image.open(output / "rgb_figure.png").size) < 4000


def test_synonyms_of_one_class_can_be_the_unseen_ones(scenes, weights, tmp_path):
    pair = [scenes / kind / "00000.tif" for kind in ("rgb", "sar")]
    words = ["--unseen", "water,river", *options(weights)]
    run_cli("segment", *arguments(*pair, tmp_path, *words, classes="water,river; road"))
    with rasterio.open(tmp_path / "00000_map.tif") as made:
        assert made.tags(1)["class_0"] == "water, river"


def test_a_glob_in_no_folder_is_named(scenes, weights, tmp_path, capsys):
    words = arguments(tmp_path / "gone" / "*.tif", scenes / "sar", tmp_path / "out", *options(weights))
    assert "gone/*.tif does not exist; check the path" in fails(capsys, tmp_path / "out", words)


def test_bad_weights_and_configs_end_in_one_sentence(scenes, weights, tmp_path, capsys):
    output = tmp_path / "output"
    pair = (scenes / "rgb" / "00000.tif", scenes / "sar" / "00000.tif")
    assert "gone.pth" in fails(capsys, output, arguments(*pair, output, *options(tmp_path / "gone.pth")))
    torch.save({"model": {"other": torch.zeros(1)}}, tmp_path / "other.pth")
    assert "another architecture" in fails(capsys, output, arguments(*pair, output, *options(tmp_path / "other.pth")))
    error = fails(capsys, output, arguments(*pair, output, *options(weights, "MODEL.CLIPP.NAME", "x")))
    assert "MODEL.CLIPP.NAME" in error
    words = options(weights, "MODEL.META_ARCHITECTURE", "CrossModalUnification")
    assert "cannot segment" in fails(capsys, output, arguments(*pair, output, *words))


def test_a_corrupt_pair_among_many_is_skipped_and_counted(scenes, weights, tmp_path, capsys):
    for kind in ("rgb", "sar"):
        (tmp_path / kind).mkdir()
        for path in (scenes / kind).iterdir():
            (tmp_path / kind / path.name).write_bytes(path.read_bytes())
    (tmp_path / "rgb" / "00001.tif").write_bytes(b"")
    words = arguments(
        tmp_path / "rgb", tmp_path / "sar", tmp_path / "out", *options(weights, "INPUT.SKIP_CORRUPT", True)
    )
    run_cli("segment", *words)
    printed = capsys.readouterr()
    alone = tmp_path / "alone"
    pair = (tmp_path / "rgb" / "00001.tif", tmp_path / "sar" / "00001.tif")
    error = fails(capsys, alone, arguments(*pair, alone, *options(weights, "INPUT.SKIP_CORRUPT", True)))
    assert "00001.tif is an empty file" in error
    assert "2 of 3 pairs" in printed.out and "1 pairs" in printed.err
    assert {path.name for path in (tmp_path / "out").glob("*.tif")} == {"00000_map.tif", "00002_map.tif"}


def test_sar_that_a_model_does_not_see_is_said(scenes, tmp_path, capsys):
    config = ROOT / "projects/laptop/configs/fgaseg.yaml"
    pair = [scenes / kind / "00000.tif" for kind in ("rgb", "sar")]
    run_cli("segment", *arguments(*pair, tmp_path)[2:], "--config-file", config, "--opts", "MODEL.DEVICE", "cpu")
    assert "This model maps RGB alone; --sar is only shown in the figures." in capsys.readouterr().err
