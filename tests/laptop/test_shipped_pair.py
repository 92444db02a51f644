"""projects/laptop/shipped_pair.py, the files that it uses, and what is said of them."""

import json
import re

import numpy as np
import rasterio

import shipped_pair
from laptop.drawn_world import write_synthetic_dataset
from mm_ovseg.checkpoint.weights_file import local_weights_path
from mm_ovseg.files import sha256
from tests.conftest import ROOT

ASSETS = ROOT / "demo" / "assets"


def iou_of(printed):
    """Run -> class -> IoU, from the printed table."""
    header, _, *rows = [line.strip("|").split("|") for line in printed.splitlines() if line.startswith("|")]
    names = [name.strip().removesuffix(" (unseen)") for name in header[1:]]
    return {row[0].strip(): dict(zip(names, map(float, row[1:]), strict=True)) for row in rows}


def test_unseen_classes_are_found_and_sar_sees_through_clouds(tmp_path, capsys):
    shipped_pair.main(["--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "water (unseen)" in printed and "road (unseen)" in printed and "city (unseen)" not in printed
    scores = iou_of(printed)
    assert set(scores) == {f"{weather}, RGB {what}" for weather in ("clear", "clouds") for what in ("and SAR", "alone")}
    assert scores["clear, RGB and SAR"]["water"] > 30
    with_sar, alone = scores["clouds, RGB and SAR"], scores["clouds, RGB alone"]
    assert with_sar["water"] > 30 > alone["water"] and with_sar["farmland"] > alone["farmland"] + 20
    with rasterio.open(tmp_path / "clouds_rgb_and_sar.tif") as file:
        assert file.crs.to_epsg() == 32652 and file.shape == (192, 192)
    assert (tmp_path / "figure.png").stat().st_size > 50_000


def test_other_names_are_looked_for(tmp_path, capsys):
    shipped_pair.main(["--output", str(tmp_path), "--classes", "water, river; fields; farmland"])
    assert list(iou_of(capsys.readouterr().out)["clear, RGB and SAR"]) == ["water, river", "farmland"]
    report = json.loads((tmp_path / "clear_rgb_alone.json").read_text())
    assert [area["name"] for area in report["classes"]] == ["water, river", "fields", "farmland"]
    shipped_pair.main(["--output", str(tmp_path), "--classes", "meadow"])
    assert "nothing to compare with" in capsys.readouterr().out


def test_one_class_is_compared_with_all_that_it_is_not():
    truth = shipped_pair.read_truth(["farmland"])
    assert set(np.unique(truth)) == {0, 254}
    for class_map, iou in ((truth, 100), (np.zeros_like(truth), 100 * (truth == 0).mean())):
        scores = iou_of(shipped_pair.describe({"run": class_map}, truth, ["farmland"]))
        assert abs(scores["run"]["farmland"] - iou) < 0.06


def test_the_shipped_pair_is_what_the_card_says(tmp_path):
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
