"""projects/sentinel/shipped_pair.py, the files that it uses, and what is said of them."""

import json
import re
import shlex

import numpy as np
import pytest
import rasterio

import shipped_pair
import write_shipped_pair
from laptop.drawn_world import write_synthetic_dataset
from mm_ovseg.checkpoint.weights_file import local_weights_path
from mm_ovseg.files import sha256
from mm_ovseg.raster import read_rgb, read_sar
from tests.conftest import ROOT, run_cli

ASSETS = ROOT / "demo" / "assets"
SENTINEL = ASSETS / "sentinel"
REAL_DATA = ROOT.parent / "shared" / "realdata"


def scores_of(printed):
    """Run -> "pixels right" or class -> percent, from the printed table."""
    header, _, *rows = [line.strip("|").split("|") for line in printed.splitlines() if line.startswith("|")]
    names = [name.strip().removesuffix(" (unseen)") for name in header[1:]]
    return {row[0].strip(): dict(zip(names, map(float, row[1:]), strict=True)) for row in rows}


def test_unseen_classes_are_found_and_sar_sees_through_clouds(tmp_path, capsys):
    shipped_pair.main(["--scene", "drawn", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "water (unseen)" in printed and "road (unseen)" in printed and "city (unseen)" not in printed
    scores = scores_of(printed)
    assert set(scores) == {f"{weather}, RGB {what}" for weather in ("clear", "clouds") for what in ("and SAR", "alone")}
    assert scores["clear, RGB and SAR"]["water"] > 30
    with_sar, alone = scores["clouds, RGB and SAR"], scores["clouds, RGB alone"]
    assert with_sar["water"] > 30 > alone["water"] and with_sar["farmland"] > alone["farmland"] + 20
    assert with_sar["pixels right"] > alone["pixels right"] + 10
    with rasterio.open(tmp_path / "clouds_rgb_and_sar.tif") as file:
        assert file.crs.to_epsg() == 32652 and file.shape == (192, 192)
    assert (tmp_path / "figure.png").stat().st_size > 50_000


def test_the_sentinel_pair_needs_no_setting(tmp_path, capsys, monkeypatch):
    """The printed commands make the same maps, and need no option about units."""
    monkeypatch.chdir(ROOT)
    shipped_pair.main(["--output", str(tmp_path / "demo")])
    printed = capsys.readouterr().out
    assert list(scores_of(printed)["clear, RGB alone"]) == [
        "pixels right", "water", "trees, forest", "crops, farmland", "buildings, city", "grassland, shrubs"
    ]  # fmt: skip
    commands = [shlex.split(line)[2:] for line in printed.splitlines() if line.startswith("$")]
    assert len(commands) == 4
    run_cli(*commands[2][:-1], tmp_path / "typed.tif")
    with rasterio.open(commands[2][-1]) as made, rasterio.open(tmp_path / "typed.tif") as typed:
        assert made.crs.to_epsg() == 32718 and (made.read() == typed.read()).all()


def test_other_names_are_looked_for(tmp_path, capsys):
    shipped_pair.main(["--scene", "drawn", "--output", str(tmp_path), "--classes", "water, river; fields; farmland"])
    scores = scores_of(capsys.readouterr().out)
    assert list(scores["clear, RGB and SAR"]) == ["pixels right", "water, river", "farmland"]
    report = json.loads((tmp_path / "clear_rgb_alone.json").read_text())
    assert [area["name"] for area in report["classes"]] == ["water, river", "fields", "farmland"]
    shipped_pair.main(["--scene", "drawn", "--output", str(tmp_path), "--classes", "meadow"])
    assert "nothing to compare with" in capsys.readouterr().out


def test_one_class_is_compared_with_all_that_it_is_not():
    truth = shipped_pair.SCENES["drawn"].read_truth(["farmland"])
    assert set(np.unique(truth)) == {0, 254}
    for class_map, iou in ((truth, 100), (np.zeros_like(truth), 100 * (truth == 0).mean())):
        scores = scores_of(shipped_pair.describe({"run": class_map}, truth, ["farmland"]))
        assert abs(scores["run"]["farmland"] - iou) < 0.06


def test_true_land_cover_by_the_table_of_label_values():
    with rasterio.open(SENTINEL / "label.tif") as file:
        values = file.read(1)
    truth = shipped_pair.SCENES["sentinel"].read_truth(["Forest, wood", "crops"])
    assert (truth[values == 2] == 0).all() and (truth[values == 4] == 1).all()
    assert (truth[values == 3] == 255).all() and (values == 3).any()  # flooded vegetation has no name
    assert (truth[np.isin(values, (1, 5, 9))] == 254).all()


def test_the_drawn_pair_is_what_the_card_says(tmp_path):
    card = (ASSETS / "README.md").read_text(encoding="utf-8")
    weights = local_weights_path("quickstart://")
    assert weights.stat().st_size < 12e6
    assert sha256(weights) in card
    words = re.search(r"python projects/laptop/write_scenes\.py demo/assets/pair (.*)", card)[1].split()
    options = dict(zip(words[::2], words[1::2], strict=True))
    write_synthetic_dataset(
        tmp_path / "pair",
        num_train=int(options["--num-train"]),
        num_val=int(options["--num-val"]),
        size=int(options["--size"]),
        seed=int(options["--seed"]),
        file_format=options["--file-format"],
    )
    for kind in ("rgb", "rgb_clouds", "sar", "labels"):
        drawn, shipped = (
            rasterio.open(root / "val" / kind / "00000.tif") for root in (tmp_path / "pair", ASSETS / "pair")
        )
        with drawn, shipped:
            assert np.abs(drawn.read().astype(int) - shipped.read()).max() <= 1, kind


def test_the_sentinel_pair_says_what_it_is():
    assert sum(path.stat().st_size for path in SENTINEL.iterdir()) < 600_000
    for path in SENTINEL.iterdir():
        with rasterio.open(path) as file:
            assert "modified Copernicus Sentinel data" in file.tags()["TIFFTAG_COPYRIGHT"]
            assert file.crs.to_epsg() == 32718 and file.res == (10, 10) and file.shape == (224, 224)
            if path.stem.startswith("rgb"):
                assert file.units == ("reflectance",) * 3 and file.scales == (1e-4,) * 3
            elif path.stem == "sar":
                assert file.units == ("dB",) * 2 and file.scales == (0.01,) * 2 and file.descriptions == ("VV", "VH")


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="needs ../shared/realdata")
def test_the_sentinel_pair_is_the_real_one(tmp_path, cloud_generator):
    write_shipped_pair.main(["--realdata", str(REAL_DATA), "--output", str(tmp_path)])
    site = write_shipped_pair.SITE
    for path in SENTINEL.iterdir():
        with rasterio.open(path) as shipped, rasterio.open(tmp_path / path.name) as made:
            assert (shipped.read() == made.read()).all(), path.name
    with rasterio.open(REAL_DATA / "terramind" / f"s2l2a_{site}.tif") as file:
        reflectance = (file.read([4, 3, 2]).astype(float) - 1000) / 10_000
    with rasterio.open(REAL_DATA / "terramind" / f"sar_{site}.tif") as file:
        decibels = file.read()
    expected = np.clip(reflectance / 0.3 * 255, 0, 255).transpose(1, 2, 0)
    assert np.abs(read_rgb(SENTINEL / "rgb.tif")[0] - expected).max() <= 0.501
    sar = read_sar(SENTINEL / "sar.tif")[0][..., :2] / 255 * 25 - 25
    assert np.abs(sar - np.clip(decibels, -25, 0).transpose(1, 2, 0)).max() < 0.0051
    clear, cloudy = (read_rgb(SENTINEL / f"{name}.tif")[0].astype(int) for name in ("rgb", "rgb_clouds"))
    assert 0.3 < (cloudy - clear > 20).any(axis=2).mean() < 0.7
