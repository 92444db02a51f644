import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_bounds, from_origin
from rasterio.warp import transform, transform_bounds

from mm_ovseg.data.check.dataset_check import check_datasets
from mm_ovseg.data.check.findings import ERROR, KINDS, WARNING, report_lines
from mm_ovseg.data.pair_reader import PairReader
from mm_ovseg.data.rgb_sar_dataset import RGBSARDataset
from mm_ovseg.raster import SARReader
from tests.data.check.folders import (
    SIZE,
    grid,
    images,
    save,
    write_broken_folder,
    write_clean_folder,
    write_pair,
)

CLASSES = ("city", "road", "water")
DB = PairReader(sar=SARReader(scale="db"))


def dataset(root, name="mine", **changes):
    colors = ((1, 2, 3),) * len(changes.get("classes", CLASSES))
    declaration = RGBSARDataset(name, str(root), "rgb", "sar", "labels", CLASSES, (), colors, 255, None, None)
    return replace(declaration, **changes)


def check(*datasets, reader=DB):
    return check_datasets(datasets, reader)


def kinds_and_files(findings):
    return [(finding.kind, Path(finding.file).name) for finding in findings]


def test_a_clean_folder_has_no_findings(tmp_path):
    write_clean_folder(tmp_path)
    assert check(dataset(tmp_path)) == []
    keys = [f"good_{number}" for number in range(6)]
    assert check(dataset(tmp_path, "a", pairs=tuple(keys[:4])), dataset(tmp_path, "b", pairs=tuple(keys[4:]))) == []


def test_every_mistake_is_reported_by_its_file_and_nothing_else_is(tmp_path):
    mistakes = write_broken_folder(tmp_path)
    findings = check(dataset(tmp_path))
    expected = {(kind, file) for file, kind in mistakes.values()}
    found = {(finding.kind, Path(finding.file).relative_to(tmp_path).as_posix()) for finding in findings}
    assert found == expected
    assert len(findings) == len(mistakes) == 14
    for finding in findings:
        assert finding.file in finding.message
    order = [list(KINDS).index(finding.kind) for finding in findings]
    assert order == sorted(order)
    report = "\n".join(report_lines(findings, max_shown=0, shorten=[str(tmp_path)]))
    assert all(file in report for file, _ in mistakes.values()) and str(tmp_path) not in report
    assert report.index("errors (training would stop)") < report.index("warnings (training would run)")


def test_files_that_no_dataset_lists_are_checked_too(tmp_path):
    write_clean_folder(tmp_path)
    write_pair(tmp_path, "broken", 9)
    (tmp_path / "sar" / "broken.tif").write_bytes(b"")
    train = dataset(tmp_path, "train", pairs=("good_0", "good_1", "good_2"))
    val = dataset(tmp_path, "val", pairs=("good_3", "good_4"))
    findings = check(train, val)
    assert kinds_and_files(findings) == [("unreadable", "broken.tif"), ("left-out", "good_5.tif")]


def test_folders_and_files_that_are_not_there(tmp_path):
    write_clean_folder(tmp_path, count=2)
    assert kinds_and_files(check(dataset(tmp_path, sar="radar"))) == [("missing-folder", "radar")]
    (tmp_path / "empty").mkdir()
    findings = check(dataset(tmp_path, rgb="empty", sar="empty", labels=None))
    assert kinds_and_files(findings) == [("no-files", tmp_path.name)]
    (finding,) = check(dataset(tmp_path, pairs=("good_0", "good_1", "ghost")))
    assert finding.kind == "missing-partner" and "'ghost', which the dataset lists" in finding.message


def test_two_datasets_with_one_image_or_one_place(tmp_path):
    train, val = (write_clean_folder(tmp_path / split, count=3) for split in ("train", "val"))
    for kind in ("rgb", "sar", "labels"):
        shutil.rmtree(val / kind)
    write_pair(val, "copy", 0)
    # Pixels of its own, and half of its ground in common with good_1; its neighbour only touches good_2.
    write_pair(val, "overlapping", 7, place=grid(1, shift=SIZE / 2))
    write_pair(val, "beside", 8, place=grid(2, shift=SIZE))
    findings = check(dataset(train, "train"), dataset(val, "val"))
    assert kinds_and_files(findings) == [
        ("shared-content", "copy.tif"),
        ("shared-content", "copy.tif"),
        ("shared-place", "overlapping.tif"),
    ]
    assert "share 50% of" in findings[2].message and "good_1.tif (train)" in findings[2].message
    assert {Path(finding.file).parent.name for finding in findings[:2]} == {"rgb", "sar"}
    assert all(finding.severity == WARNING for finding in findings)


def test_one_place_in_two_reference_systems(tmp_path):
    write_pair(tmp_path / "utm", "a", 0)
    # The same ground in longitude and latitude: its box, of another shape.
    left, top = grid(0).c, grid(0).f
    bounds = transform_bounds("EPSG:32633", "EPSG:4326", left, top - 10 * SIZE, left + 10 * SIZE, top)
    for kind, array in zip(("rgb", "sar", "labels"), images(5), strict=True):
        save(tmp_path / "degrees" / kind / "b.tif", array, crs="EPSG:4326", transform=from_bounds(*bounds, SIZE, SIZE))
    findings = check(dataset(tmp_path / "utm", "utm"), dataset(tmp_path / "degrees", "degrees"))
    assert kinds_and_files(findings) == [("shared-place", "b.tif")]


@pytest.mark.parametrize("other", [
    "EPSG:32634",
    "EPSG:32633+5773",
    CRS.from_epsg(32633).to_wkt().replace("WGS 84 / UTM zone 33N", "my own zone"),
])  # fmt: skip
def test_every_place_that_two_systems_share_is_found(tmp_path, other):
    """Nine tiles without gaps, and the same nine places in another system or spelling."""
    other = CRS.from_user_input(other)
    step = 10 * SIZE
    for number in range(9):
        place = 700_000 + number % 3 * step, 4_200_000 - number // 3 * step
        (x,), (y,) = transform("EPSG:32633", other, *[[value] for value in place])
        write_pair(tmp_path / "one", f"a{number}", number, place=from_origin(*place, 10, 10))
        for kind, array in zip(("rgb", "sar", "labels"), images(20 + number), strict=True):
            file = tmp_path / "two" / kind / f"b{number}.tif"
            save(file, array, crs=other, transform=from_origin(x, y, 10, 10))
    findings = check(dataset(tmp_path / "one", "one"), dataset(tmp_path / "two", "two"))
    assert sorted(kinds_and_files(findings)) == [("shared-place", f"b{number}.tif") for number in range(9)]
    for finding in findings:
        assert f"a{Path(finding.file).stem[1]}.tif" in finding.message  # the one with which it shares most


def test_places_that_share_a_sliver(tmp_path):
    shapes = [np.repeat(np.repeat(array, 4, axis=-1), 4, axis=-2) for array in images(0)]
    for number, root in enumerate(("one", "two")):
        for kind, array in zip(("rgb", "sar", "labels"), shapes, strict=True):
            place = from_origin(500_000 + number * 10 * (4 * SIZE - 1), 4_200_000, 10, 10)
            save(tmp_path / root / kind / f"{root}.tif", np.roll(array, number, -1), crs="EPSG:32633", transform=place)
    (finding,) = check(dataset(tmp_path / "one", "one"), dataset(tmp_path / "two", "two"))
    assert finding.kind == "shared-place" and "share less than 1% of" in finding.message


def test_an_image_twice_in_one_dataset(tmp_path):
    write_clean_folder(tmp_path, count=3)
    write_pair(tmp_path, "again", 1)
    findings = check(dataset(tmp_path))
    # By name "again" comes first, so that the other one is the copy.
    assert kinds_and_files(findings) == [("duplicate-content", "good_1.tif")] * 2


@pytest.mark.parametrize("settings, words", [
    ({"scale": "db", "value_range": (0.0, 20.0)}, ("outside INPUT.SAR.RANGE, 0 to 20 dB", "INPUT.SAR.RANGE to")),
    ({"scale": "power"}, ("negative", "INPUT.SAR.SCALE to db")),
])  # fmt: skip
def test_sar_that_the_settings_do_not_fit(tmp_path, settings, words):
    write_clean_folder(tmp_path, count=2)
    findings = [
        finding
        for finding in check(dataset(tmp_path), reader=PairReader(sar=SARReader(**settings)))
        if finding.kind == "sar-range"
    ]
    of_set = [finding for finding in findings if not finding.pair]
    assert len(of_set) == 1
    assert words[0] in of_set[0].message and words[1] in of_set[0].advice


def test_power_that_is_declared_to_be_decibels(tmp_path):
    write_clean_folder(tmp_path, count=2)
    for path in (tmp_path / "sar").iterdir():
        number = int(path.stem[-1])
        save(path, 10 ** (images(number)[1] / 10), crs="EPSG:32633", transform=grid(number))
    findings = check(dataset(tmp_path))
    assert any("INPUT.SAR.SCALE to power or amplitude" in finding.advice for finding in findings)
    assert check(dataset(tmp_path), reader=PairReader(sar=SARReader(scale="power"))) == []


def test_classes_that_no_label_map_has_and_classes_without_a_name(tmp_path):
    write_clean_folder(tmp_path)
    findings = check(dataset(tmp_path, classes=("city", "class 1", "class 2", "snow")))
    assert [(finding.kind, finding.severity) for finding in findings] == [
        ("class-unnamed", WARNING),
        ("class-absent", WARNING),
    ]
    assert "class 1, class 2" in findings[0].message and "has snow" in findings[1].message
    write_pair(tmp_path, "odd", 9, labels=np.full((SIZE, SIZE), 3, dtype=np.uint8))
    messages = [finding.message for finding in check(dataset(tmp_path, classes=("city", "road", "water", "class 3")))]
    assert any("odd.tif is the only one of 7 label maps with class 3" in message for message in messages)


def test_a_mask_of_which_one_half_is_ignored(tmp_path):
    for number in range(3):
        write_pair(tmp_path, f"pair_{number}", number, labels=np.uint8(255) * (images(number)[2] == 2))
    (finding,) = check(dataset(tmp_path, classes=("land", "water")))
    assert finding.kind == "class-absent" and "has water" in finding.message
    assert finding.advice.startswith("255 (") and "is ignored: if it is a class, map it with" in finding.advice
    assert check(dataset(tmp_path, classes=("land", "water"), label_values=((0, 0), (255, 1)))) == []


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_label_maps_that_are_compressed_as_jpeg(tmp_path, suffix):
    write_clean_folder(tmp_path, count=2)
    label = tmp_path / "labels" / "good_0.tif"
    label.unlink()
    driver = {".jpg": {"driver": "JPEG"}, ".tif": {"driver": "GTiff", "compress": "jpeg"}}[suffix]
    with rasterio.open(
        label.with_suffix(suffix), "w", width=SIZE, height=SIZE, count=1, dtype="uint8", **driver
    ) as file:
        file.write(np.zeros((1, SIZE, SIZE), np.uint8))
    findings = [finding for finding in check(dataset(tmp_path)) if finding.kind == "label-jpeg"]
    assert [Path(finding.file).name for finding in findings] == [f"good_0{suffix}"]
    assert findings[0].severity == WARNING and "as PNG or GeoTIFF" in findings[0].advice


def test_images_that_are_blank_or_nearly_without_data_and_empty_labels(tmp_path):
    write_clean_folder(tmp_path)
    rgb, sar, label = images(20)
    write_pair(tmp_path, "blank", 20, rgb=np.full_like(rgb, 7))
    write_pair(tmp_path, "thin", 21, sar=np.where(np.arange(SIZE) < 40, np.nan, sar).astype(np.float32))
    write_pair(tmp_path, "unlabelled", 22, labels=np.full_like(label, 255))
    write_pair(tmp_path, "double", 23, sar=images(23)[1].astype(np.float64))
    assert kinds_and_files(check(dataset(tmp_path))) == [
        ("nan", "thin.tif"),
        ("little-data", "thin.tif"),
        ("blank", "blank.tif"),
        ("other-type", "double.tif"),
        ("label-empty", "unlabelled.tif"),
    ]


def test_kinds_are_sorted_by_severity():
    severities = [severity for severity, _ in KINDS.values()]
    assert severities == sorted(severities, key=[ERROR, WARNING].index)


def test_a_report_shows_the_first_files_of_a_kind_and_how_many_there_are(tmp_path):
    write_clean_folder(tmp_path)
    for path in (tmp_path / "sar").iterdir():
        path.unlink()
    write_pair(tmp_path, "good_0", 0)
    lines = report_lines(check(dataset(tmp_path)), max_shown=2)
    assert lines[1] == "5 errors (training would stop)"
    assert lines[-1] == "    ... and 3 more (--show 0 lists all)"
    assert "good_1.tif" in lines[3] and "good_2.tif" in lines[4]
