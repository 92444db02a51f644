"""`mm-ovseg scene` as a user runs it, with a small random model."""

import json
import signal

import numpy as np
import pytest
import rasterio

from laptop.drawn_world import SYNTHETIC_CLASSES, write_synthetic_dataset
from mm_ovseg.cli.main import main
from tests import training_process
from tests.conftest import ROOT, run_cli, run_cli_process, save_random_weights

NAMES = ",".join(SYNTHETIC_CLASSES)
HEIGHT = 192
CONFIG = ROOT / "projects" / "laptop" / "configs" / "mm_ovseg.yaml"


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A georeferenced pair of HEIGHT x HEIGHT pixels and random weights."""
    folder = tmp_path_factory.mktemp("scene")
    write_synthetic_dataset(folder, num_train=0, num_val=1, size=HEIGHT, file_format="tif")
    save_random_weights(CONFIG, folder / "model.pth")
    return folder / "val" / "rgb_clouds" / "00000.tif", folder / "val" / "sar" / "00000.tif", folder / "model.pth"


def command(scene, output, *more):
    rgb, sar, weights = scene
    words = ["--config-file", CONFIG, "--rgb", rgb, "--sar", sar, "--classes", NAMES, "--output", output, *more]
    return [str(word) for word in (*words, "--opts", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", weights)]


def test_a_pair_of_files_becomes_a_map(scene, tmp_path):
    output = tmp_path / "map.tif"
    words = command(scene, output, "--unseen", "road,water", "--confidence", "--batch-size", 4)
    done = run_cli_process("scene", *words)
    assert done.returncode == 0, done.stderr
    assert "window/s" in done.stderr and "| water " in done.stdout and "rests on: RGB and SAR 100.0%." in done.stdout
    with rasterio.open(output) as file, rasterio.open(scene[0]) as given:
        assert (file.crs, file.transform, file.shape) == (given.crs, given.transform, given.shape)
        assert set(np.unique(file.read(1))) <= set(range(5))
    report = json.loads((tmp_path / "map.json").read_text())
    assert [area["name"] for area in report["classes"] if area["unseen"]] == ["road", "water"]
    assert len(report["weights"]["sha256"]) == 64 and report["calibration"] is None


def test_from_another_folder_to_a_narrow_terminal(scene, tmp_path):
    words = [*command(scene, tmp_path / "map.tif"), "DATASETS.FILES", "['gone.yaml']"]  # needed for training only
    words[words.index("--classes") + 1] = "Wald,道路,水"
    done = run_cli_process("scene", *words, cwd=tmp_path, env={"PYTHONIOENCODING": "cp1252"}, text=False)
    assert done.returncode == 0, done.stderr
    assert b"| ??" in done.stdout
    assert [area["name"] for area in json.loads((tmp_path / "map.json").read_text())["classes"]] == [
        "Wald",
        "道路",
        "水",
    ]


def test_a_killed_run_goes_on_to_the_same_bytes(scene, tmp_path):
    run_cli("scene", *command(scene, tmp_path / "whole.tif", "--quiet"))
    output = tmp_path / "map.tif"
    words, fault = ["scene", *command(scene, output, "--quiet")], ("killed_when_replacing", "state.json", 2, True)
    killed, printed = training_process.run(words, tmp_path / "log", fault, main=main)
    assert killed == -signal.SIGKILL, printed
    assert 0 < json.loads((tmp_path / "map.tif.work" / "state.json").read_text())["rows_done"] < HEIGHT
    run_cli("scene", *command(scene, output, "--quiet", "--resume"))
    for name in ("", "_coverage"):
        assert (tmp_path / f"map{name}.tif").read_bytes() == (tmp_path / f"whole{name}.tif").read_bytes()


def test_what_is_none_of_the_classes(scene, tmp_path, capsys):
    first, second, *others = SYNTHETIC_CLASSES
    run_cli("scene", *command(scene, tmp_path / "all.tif", "--window", HEIGHT, "--confidence", "--quiet"))
    words = command(scene, tmp_path / "map.tif", "--window", HEIGHT, "--background", ",".join(others))
    words[words.index("--classes") + 1] = f"{first},{second}"
    with rasterio.open(tmp_path / "all.tif") as file, rasterio.open(tmp_path / "all_confidence.tif") as confidence:
        whole, minimum = file.read(1), np.median(confidence.read(1)[file.read(1) == 0])
    run_cli("scene", *words[:-5], "--min-score", f"{first.upper()}={minimum / 100}", *words[-5:])
    printed = capsys.readouterr().out
    assert "| none " in printed and f"| {first} " in printed
    with rasterio.open(tmp_path / "map.tif") as file:
        class_map = file.read(1)
    np.testing.assert_array_equal(class_map == 1, whole == 1)
    assert (class_map[whole > 1] == 254).all() and set(np.unique(class_map[whole == 0])) == {0, 254}
    settings = json.loads((tmp_path / "map.json").read_text())["settings"]
    assert settings["background"] == others and settings["min_scores"] == [pytest.approx(minimum / 100), 0]


def test_sar_alone_and_clouds(scene, tmp_path, capsys):
    words = command(scene, tmp_path / "sar.tif", "--window", 192)
    place = words.index("--rgb")
    run_cli("scene", *words[:place], *words[place + 2 :])
    printed = capsys.readouterr().out
    assert "hectares on SAR alone" in printed and "rests on: SAR alone 100.0%." in printed and "seen" not in printed
    report = json.loads((tmp_path / "sar.json").read_text())
    assert report["coverage"]["sar_only"]["pixels"] == HEIGHT**2
    with rasterio.open(scene[0]) as file:
        profile = {**file.profile, "count": 1, "photometric": "minisblack"}
    classes = np.full((1, HEIGHT, HEIGHT), 4, np.uint8)
    classes[:, :96] = 9
    with rasterio.open(tmp_path / "scl.tif", "w", **profile) as file:
        file.write(classes)
    with rasterio.open(tmp_path / "qa.tif", "w", **{**profile, "dtype": "uint16"}) as file:
        file.write(np.where(classes == 9, 22280, 21824).astype(np.uint16))
    for mask, *values in (("scl.tif", "scl"), ("scl.tif", 3, 9), ("qa.tif", "qa_pixel")):
        more = ("--window", 192, "--clouds", tmp_path / mask, "--cloud-values", *values)
        run_cli("scene", *command(scene, tmp_path / "map.tif", *more))
        assert "rests on: RGB and SAR 50.0%; SAR, and RGB under cloud 50.0%." in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run_cli("scene", *words[:place], *words[place + 4 :])
    assert "no image; give --rgb, --sar or both" in capsys.readouterr().err


def test_errors_are_one_sentence(scene, tmp_path, capsys):
    for more, message in (
        (("--window", "-5"), "window"),
        (("--aoi", "none.geojson"), "none.geojson does not exist"),
        (("--rgb-bands", "1", "2", "9"), "has no band 9"),
        (("--aoi-layer", "fields"), "--aoi-layer names a layer of --aoi"),
        (("--deliver", "table", "layers"), "--deliver layers adds to the file of --vector"),
        (("--deliver", "shape"), "invalid choice: 'shape'"),
        (("--cloud-values", "scl"), "--cloud-values and --nir-band belong to --clouds"),
        (("--clouds", "none.tif", "--cloud-values", "1", "x"), "--cloud-values is 1 x; give whole numbers"),
        (("--clouds", "none.tif", "--cloud-values", "cloud"), "--cloud-values is 'cloud'; give whole numbers"),
        (("--clouds", "none.tif"), "none.tif does not exist"),
        (("--aoi", "https://example.org/a.geojson"), "is an address; download the file first"),
        (("--output", f"{tmp_path}/{'n' * 245}.tif"), "_coverage.tif has a name of 258 bytes"),
        (("--output", f"{tmp_path}/{'n' * 260}.tif"), "has a name of 264 bytes"),
    ):
        with pytest.raises(SystemExit) as stop:
            run_cli("scene", *command(scene, tmp_path / "map.tif", *more))
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "map.tif").exists()


def test_other_names_for_a_scene_whose_features_are_kept(scene, tmp_path, capsys):
    def files(name):
        layers = ("", "_coverage", "_probabilities")
        return [(tmp_path / f"{name}{layer}.tif").read_bytes() for layer in layers]

    def ask(name, names, *more):
        words = command(scene, tmp_path / f"{name}.tif", "--probabilities", "--quiet", *more)
        words[words.index("--classes") + 1] = names
        run_cli("scene", *words)
        return json.loads((tmp_path / f"{name}.json").read_text())

    keep = ("--keep-features", tmp_path / "features", "--max-features", "0.5")
    first = ask("first", NAMES, *keep)
    expected = ask("nothing", "river,town", "--background", "wood")
    report = ask("second", "river,town", "--background", "wood", *keep)
    assert files("second") == files("nothing")
    assert report["windows_from_features"] == first["windows"] == report["windows"]
    assert first["windows_from_features"] == expected["windows_from_features"] == 0
    assert report["settings"] == expected["settings"]
    with pytest.raises(SystemExit):
        ask("third", NAMES, "--keep-features", tmp_path)
    assert f"{tmp_path} holds other files than features" in capsys.readouterr().err
