"""A recorded product comes back as it was, as long as its request and its files are the same."""

import json
import math
from datetime import datetime, timezone

import pytest
from rasterio.enums import ColorInterp

from mm_ovseg.products import CloudLayer, Product
from mm_ovseg.products.stac.kept_product import area_identity, load_product, save_product, source_identity
from mm_ovseg.raster import StackedBand, StackMask

REQUEST = {"items": [["https://host/a.json"]], "area": []}


@pytest.fixture
def kept(tmp_path):
    """A product with everything that it can have, its record, and its files."""
    files = [tmp_path / name for name in ("a.tif", "b.tif", "scl.tif", "clouds.vrt", "input.tif")]
    for file in files:
        file.write_bytes(b"content")
    band = StackedBand(files=tuple(files[:2]), description="B04", meaning=ColorInterp.red, nodata=5, unit="reflectance")
    product = Product(
        kind="rgb",
        ids=("A", "é"),
        bands=(band,),
        mask=StackMask(files=(files[2],), valid=(1, 2), outside=0),
        clouds=CloudLayer(files[3], "scl"),
        acquired=(datetime(2023, 6, 10, 10, tzinfo=timezone.utc), None),
        sensor="Sentinel-2A MSI",
        details={"items": [{"id": "A"}]},
        warnings=("Look.",),
    )
    save_product(tmp_path / "record.json", REQUEST, product, [files[4]])
    return product, tmp_path / "record.json", files


def test_it_comes_back(kept):
    product, record, _ = kept
    loaded = load_product(record, REQUEST)
    assert {**vars(loaded), "mask": None} == {**vars(product), "mask": None}
    assert loaded.mask.files == product.mask.files and tuple(loaded.mask.valid) == product.mask.valid


def test_nan_comes_back(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"content")
    bands = (StackedBand(files=(tmp_path / "a.tif",), nodata=math.nan, unit="power"),)
    save_product(tmp_path / "record.json", REQUEST, Product(kind="sar", ids=("A",), bands=bands), [])
    assert math.isnan(load_product(tmp_path / "record.json", REQUEST).bands[0].nodata)


@pytest.mark.parametrize("place", range(5))
def test_a_file_that_changed_or_is_gone(kept, place):
    _, record, files = kept
    files[place].write_bytes(b"other content")
    assert load_product(record, REQUEST) is None
    files[place].unlink()
    assert load_product(record, REQUEST) is None


def test_other_requests_and_damaged_records(kept):
    _, record, _ = kept
    assert load_product(record, {**REQUEST, "area": ["x"]}) is None
    content = json.loads(record.read_text())
    for damaged in ("", "[]", "{}", '{"request": 1, "files": []}', json.dumps({**content, "product": {"kind": "rgb"}})):
        record.write_text(damaged)
        assert load_product(record, REQUEST) is None
    assert load_product(record.with_name("none.json"), REQUEST) is None


def test_what_stays_the_same(tmp_path):
    (tmp_path / "area.gpkg").write_bytes(b"1")
    first = area_identity(tmp_path / "area.gpkg", None)
    (tmp_path / "copy.gpkg").write_bytes(b"1")
    assert area_identity(tmp_path / "copy.gpkg", None) == first != area_identity(tmp_path / "copy.gpkg", "layer")
    (tmp_path / "copy.gpkg").write_bytes(b"2")
    assert area_identity(tmp_path / "copy.gpkg", None) != first and area_identity(None, None) == []
    (tmp_path / "area.gdb").mkdir()
    (tmp_path / "area.gdb" / "a").write_bytes(b"1")
    before = area_identity(tmp_path / "area.gdb", None)
    (tmp_path / "area.gdb" / "a").write_bytes(b"22")
    assert area_identity(tmp_path / "area.gdb", None) != before
    assert source_identity("https://host/a?sig=1") == source_identity("https://host/a?sig=2") == ["https://host/a"]
