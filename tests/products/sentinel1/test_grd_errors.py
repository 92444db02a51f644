"""Sentinel-1 products that are damaged, incomplete, mixed or of another kind: one sentence each."""

import re
import shutil

import numpy as np
import pytest

from mm_ovseg.errors import DataError
from mm_ovseg.products import Preparation, prepare_image
from tests.products.sentinel1_geometry import Geometry
from tests.products.sentinel1_product import write_grd

GEOMETRY = Geometry(30, 40)
BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb">]><a>&b;</a>'


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    image = np.full((30, 40), 3000, np.uint16)
    return write_grd(tmp_path_factory.mktemp("product"), {"VV": image, "VH": image}, GEOMETRY)


@pytest.fixture
def product(original, tmp_path):
    """A copy to damage."""
    return shutil.copytree(original, tmp_path / original.name)


def check(product, message):
    """Preparing the product fails with one sentence, and leaves nothing behind."""
    folder = product.parent / "out"
    with pytest.raises(DataError, match=message) as raised:
        prepare_image(product, "sar", Preparation(folder=folder))
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")
    assert not folder.exists() or not list(folder.iterdir())


def replace(path, pattern, replacement):
    text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert count
    path.write_text(text, encoding="utf-8")


def file(product, pattern):
    return next(product.rglob(pattern))


@pytest.mark.parametrize(
    "pattern", ["calibration-*-vv-*.xml", "noise-*-vh-*.xml", "s1a-*-vv-*.xml", "*-vh-*.tiff", "manifest.safe"]
)
def test_a_missing_file_is_named(product, pattern):
    path = file(product, pattern)
    path.unlink()
    check(product, "manifest.safe" if pattern == "manifest.safe" else f"{path.name} is missing; download the product")


def test_a_file_that_the_manifest_does_not_name_is_missing(product):
    replace(product / "manifest.safe", r"<dataObject ID=\"noises1aiwgrdvv.*?</dataObject>", "")
    check(product, r"manifest\.safe cannot be read \(it names no noise file of s1a-iw-grd-vv")


@pytest.mark.parametrize("pattern", ["calibration-*-vv-*.xml", "noise-*-vh-*.xml", "s1a-*-vv-*.xml", "manifest.safe"])
@pytest.mark.parametrize("content", ["<a><b></a>", "", BOMB, "<product/>", "\xff\xfe"])
def test_damaged_metadata(product, pattern, content):
    path = file(product, pattern)
    path.write_text(content, encoding="latin-1")
    check(product, rf"{re.escape(path.name)}")


@pytest.mark.parametrize(
    "pattern, element, value, message",
    [
        ("calibration-*-vv-*.xml", "gamma", "1 2 3", "has 3 values at 2 pixels"),
        ("calibration-*-vv-*.xml", "gamma", "0 0", "gamma is not positive"),
        ("calibration-*-vv-*.xml", "gamma", "nan nan", "gamma is not finite"),
        ("calibration-*-vv-*.xml", "polarisation", "VH", "it is not of VV"),
        ("calibration-*-vv-*.xml", "pixel", "39 0", "not in their order"),
        ("noise-*-vv-*.xml", "noiseAzimuthLut", "1 x", "noiseAzimuthLut is '1 x'"),
        ("noise-*-vv-*.xml", "missionDataTakeId", "OTHER", "are of different products"),
        ("s1a-*-vh-*.xml", "missionDataTakeId", "OTHER", "are of different products"),
        ("s1a-*-vh-*.xml", "polarisation", "VV", "it is not of VV|do not fit together"),
        ("s1a-*-vv-*.xml", "numberOfLines", "31", "30 x 40 .*annotation describes 31 x 40|do not fit together"),
        ("s1a-*-vv-*.xml", "numberOfLines", "-1", "numberOfLines is -1"),
        ("s1a-*-vv-*.xml", "rangePixelSpacing", "0", "its image has no extent"),
        ("s1a-*-vv-*.xml", "productFirstLineUtcTime", "yesterday", "productFirstLineUtcTime is 'yesterday'"),
        ("s1a-*-vv-*.xml", "latitude", "95", "control points are not on the Earth"),
        ("s1a-*-vv-*.xml", "latitude", "45", "cannot be used .they do not fit the size of its pixels"),
        ("s1a-*-vv-*.xml", "pixel", "0", "control points of .* cannot be used"),
        ("s1a-*-vv-*.xml", "geolocationGridPointList", "", "it has 0 control points"),
        ("s1a-*-vv-*.xml", "orbitList", "", "its orbit or its conversion"),
        ("manifest.safe", "s1sarl1:productType", "SLC", "type SLC, but only ground range detected"),
        ("manifest.safe", "safe:startTime", "2022", "startTime is '2022'"),
    ],
)
def test_wrong_values(product, pattern, element, value, message):
    whole_element = rf"<{element}( count=\"\d+\")?>.*?</{element}>"
    replace(file(product, pattern), whole_element, f"<{element}>{value}</{element}>")
    check(product, message)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../secret.xml", ""])
def test_files_outside_of_the_product_are_not_read(product, name):
    replace(product / "manifest.safe", r'href="\./annotation/s1a-[^"]*"', f'href="{name}"')
    check(product, r"manifest\.safe cannot be read \(it names the file")


def test_a_measurement_of_another_size(product, tmp_path):
    write_grd(tmp_path / "other", {"VH": np.full((30, 41), 3000, np.uint16)}, Geometry(30, 41))
    shutil.copy(file(tmp_path / "other", "*.tiff"), file(product, "*-vh-*.tiff"))
    check(product, "holds 1 x 30 x 41 values of uint16, but its annotation describes 30 x 40")


def test_a_measurement_of_another_place(product, tmp_path):
    elsewhere = Geometry(30, 40, node=60.0)
    write_grd(tmp_path / "other", {"VH": np.full((30, 40), 3000, np.uint16)}, elsewhere)
    shutil.copy(file(tmp_path / "other", "*.tiff"), file(product, "*-vh-*.tiff"))
    check(product, "shows another place than its annotation")


def test_a_truncated_measurement(product):
    path = file(product, "*-vh-*.tiff")
    content = path.read_bytes()
    path.write_bytes(content[:-500])
    check(product, rf"{re.escape(path.name)} cannot be read")


def test_several_products_in_one_folder(original, tmp_path):
    shutil.copytree(original, tmp_path / "a" / original.name)
    shutil.copytree(original, tmp_path / "a" / original.name / "again")
    check(tmp_path / "a" / original.name, "holds 2 files manifest.safe instead of one")
