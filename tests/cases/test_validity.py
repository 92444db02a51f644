"""What has data and what has none: the right map, or one sentence."""

import json

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.enums import ColorInterp

from laptop.drawn_world import SYNTHETIC_CLASSES
from mm_ovseg.raster import read_label
from tests.cases.rasters import (
    COLUMNS,
    DECIBELS,
    LABELS,
    NAMES,
    PIXEL,
    PLACE,
    RGB,
    ROWS,
    SAR,
    SIZE,
    hectares,
    vrt,
    write,
)
from tests.conftest import run_cli


def test_bands_with_nodata_values_of_their_own(segment, tmp_path):
    known = ROWS < 40
    files = []
    for band, (name, nodata) in enumerate((("B4", 65535), ("B3", 0), ("B2", 7))):
        values = np.where(known, RGB[band].astype(np.uint16) * 20 + 100, nodata)
        files.append(write(tmp_path / f"{name}.tif", values.astype(np.uint16), nodata=nodata))
    opts = ["INPUT.RGB.RANGE", "[100.0, 5200.0]"]
    class_map, report = segment(files, opts=opts)
    np.testing.assert_array_equal(class_map == 255, ~known)
    assert hectares(report) == pytest.approx(known.sum() * PIXEL, rel=1e-3)
    class_map, coarse = segment(files, None, "--gsd", 4.0, opts=opts)
    assert class_map.shape == (32, 32) and coarse["coverage"]["nothing"]["pixels"] == 12 * 32
    assert hectares(coarse) == pytest.approx(hectares(report), rel=1e-3)


@pytest.mark.parametrize("bands", ["", "[2]", "[2, 1]"])
def test_polarisations_with_nodata_values_of_their_own_resampled(segment, tmp_path, bands):
    known = COLUMNS >= 20
    shifted = PLACE @ Affine.translation(3.3, 2.3)
    write(tmp_path / "vv.tif", DECIBELS[0], nodata=-32768, transform=shifted)
    write(
        tmp_path / "vh.tif", np.where(known, DECIBELS[0] - 6, -9999).astype(np.float32), nodata=-9999, transform=shifted
    )
    sar = vrt(tmp_path / "sar.vrt", ["vv.tif", "vh.tif"], nodata=[-32768, -9999], transform=shifted)
    rgb = write(tmp_path / "rgb.tif", RGB)
    opts = ["INPUT.SAR.SCALE", "db", *(["INPUT.SAR.BANDS", bands] if bands else [])]
    _, report = segment(rgb, sar, opts=opts)
    # Centres from column 23.3 - 0.5, where the first valid pixel has a part, and from row 2.3 on, to the last ones.
    assert report["coverage"]["rgb_and_sar"]["pixels"] == (SIZE - 23) * (SIZE - 2)


def test_masked_labels_are_ignored_in_every_tool(tmp_path, pair, capsys):
    known = COLUMNS < 50
    hidden = np.where(known, LABELS[0], 3).astype(np.uint8)
    alpha = np.where(known, np.uint8(255), np.uint8(0))
    files = {
        "mask": write(tmp_path / "mask.tif", hidden, mask=known),
        "alpha": write(
            tmp_path / "alpha.tif", np.stack([hidden, alpha]), meanings=[ColorInterp.gray, ColorInterp.alpha]
        ),
        "nodata": write(tmp_path / "nodata.tif", np.where(known, LABELS[0] + 1, 0).astype(np.uint8), nodata=0),
    }
    for name, path in files.items():
        count = len(SYNTHETIC_CLASSES) + (name == "nodata")
        label = read_label(path, num_classes=count)
        np.testing.assert_array_equal(label == 255, ~known)
        words = ["--rgb", pair[0], "--sar", pair[1], "--labels", path, "--size", SIZE, "--val-fraction", 0]
        classes = NAMES if count == 5 else f"nothing,{NAMES}"
        run_cli("dataset tile", *words, "--classes", classes, "--output", tmp_path / name)
        (tile,) = json.loads((tmp_path / name / "manifest.json").read_text())["pairs"]
        assert tile["ignored"] == (~known).sum() and sum(tile["pixels"]) == known.sum()
    capsys.readouterr()
    # A folder whose masked pixels hold 0, which is not a class.
    for index in range(4):
        cut = np.s_[..., index * 16 : index * 16 + 16]
        place = PLACE @ Affine.translation(index * 16, 0)
        inside = np.ones((SIZE, 16), bool)
        inside[:, :5] = False
        write(tmp_path / f"folder/rgb/{index}.tif", RGB[cut], transform=place)
        write(tmp_path / f"folder/sar/{index}.tif", SAR[cut], transform=place)
        labels = np.where(inside, LABELS[0][cut] + 1, 0).astype(np.uint8)
        write(tmp_path / f"folder/labels/{index}.tif", labels, transform=place, mask=inside)
    words = [tmp_path / "folder", "--output", tmp_path / "drafted", "--classes", NAMES]
    words += ["--label-values", "1: city, 2: road, 3: forest, 4: water, 5: farmland"]
    run_cli("dataset new", *words)
    assert "which no class has" not in capsys.readouterr().out


def test_zeros_that_are_not_declared_to_be_no_data(segment, tmp_path, pair, logged):
    known = ROWS >= 16
    sar = write(tmp_path / "sar_db.tif", np.where(known, DECIBELS[0], 0).astype(np.float32))
    decibels = ["INPUT.SAR.SCALE", "db"]
    _, report = segment(pair[0], sar, opts=decibels)
    assert report["warnings"] == [
        f"25% of the SAR pixels of {sar} are exactly 0, and the file declares no nodata value; if they mean no data, "
        "say so (INPUT.SAR.NODATA 0, or --sar-nodata 0 where tiles are cut)."
    ]
    assert report["warnings"][0] in logged()
    _, report = segment(pair[0], sar, opts=[*decibels, "INPUT.SAR.NODATA", 0])
    assert report["coverage"]["rgb_and_sar"]["pixels"] == known.sum() and not report["warnings"]
    rgb = write(tmp_path / "rgb0.tif", np.where(known, np.maximum(RGB, 1), 0).astype(np.uint8))
    _, report = segment(rgb)
    assert "25% of the RGB pixels" in report["warnings"][0] and hectares(report) == pytest.approx(
        SIZE**2 * PIXEL, rel=1e-3
    )
    _, report = segment(rgb, opts=["INPUT.RGB.NODATA", 0])
    assert report["coverage"]["nothing"]["pixels"] == (~known).sum() and not report["warnings"]


@pytest.mark.parametrize("numbers, scale, become, right", [
    (lambda: (DECIBELS * 10).round().astype(np.int16), "db", "become 0, the low end", (0.1, "[-25.0, 0.0]")),
    (lambda: (10 ** ((DECIBELS + 66) / 20)).round().astype(np.uint16), "amplitude", "become 255, the high end", None),
    (lambda: (DECIBELS + 66).astype(np.float32), "db", "become 255, the high end", (1, "[41.0, 66.0]")),
])  # fmt: skip
def test_sar_at_one_end_of_its_range_is_said(
    segment, run_demo, tmp_path, pair, logged, capsys, numbers, scale, become, right
):
    sar = write(tmp_path / "odd.tif", numbers())
    opts = ["INPUT.SAR.SCALE", scale]
    _, report = segment(pair[0], sar, opts=opts)
    (warning,) = report["warnings"]
    assert become in warning and f"of {sar}" in warning and "check INPUT.SAR.SCALE and INPUT.SAR.RANGE" in warning
    logged()
    run_demo(pair[0], sar, opts=opts)
    assert become in logged()
    words = ["--rgb", pair[0], "--sar", sar, "--labels", write(tmp_path / "labels.tif", LABELS), "--size", SIZE]
    words += ["--sar-scale", scale, "--classes", NAMES, "--val-fraction", 0, "--output", tmp_path / "tiles"]
    capsys.readouterr()
    run_cli("dataset tile", *words)
    assert become in capsys.readouterr().out
    if right is not None:
        sar = write(tmp_path / "right.tif", numbers(), scales=[right[0]])
        _, report = segment(pair[0], sar, opts=[*opts, "INPUT.SAR.RANGE", right[1]])
        assert not report["warnings"]


def test_bands_that_are_asked_for_are_data_whatever_the_file_calls_them(segment, tmp_path, pair):
    """GDAL calls the fourth band of 8 bits alpha; in water near infrared is 0."""
    infrared = np.where(ROWS < 30, 0, 200).astype(np.uint8)[None]
    rgbn = write(tmp_path / "rgbn.tif", np.concatenate([RGB, infrared]), photometric="rgb", alpha="yes")
    with rasterio.open(rgbn) as file:
        assert file.colorinterp[3] == ColorInterp.alpha
    _, report = segment(rgbn, pair[1], "--rgb-bands", 4, 1, 2)
    assert report["coverage"]["rgb_and_sar"]["pixels"] == SIZE**2
    _, report = segment(rgbn, pair[1])
    assert report["coverage"]["sar_only"]["pixels"] == 30 * SIZE
