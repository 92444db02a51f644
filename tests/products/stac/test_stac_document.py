"""An item from the web refers to the web only; a local one to files beside it, or to the web."""

import json
import shutil
from datetime import datetime, timezone

import pytest

from mm_ovseg.errors import DataError
from mm_ovseg.products import Preparation, is_product, prepare_image
from mm_ovseg.products.stac.stac_document import parse_time, resolve
from tests.products.stac_catalogue import sentinel2_item

WEB = "https://host/items/item.json?sig=1"


@pytest.mark.parametrize(
    ("source", "href", "expected"),
    [
        (WEB, "./B04.tif", "https://host/items/B04.tif"),
        (WEB, "/etc/passwd", "https://host/etc/passwd"),
        (WEB, "/vsicurl/http://other/a.tif", "https://host/vsicurl/http://other/a.tif"),
        (WEB, "//other/a.tif", "https://other/a.tif"),
        (WEB, "http://other/a.tif?sig=2", "http://other/a.tif?sig=2"),
        (WEB, "s3://bucket/a.tif", "s3://bucket/a.tif"),
        ("/data/item.json", "B04.tif", "/data/B04.tif"),
        ("/data/item.json", "../B 04.tif", "/data/../B 04.tif"),
        ("/data/item.json", "/other/B04.tif", "/other/B04.tif"),
        ("/data/item.json", "file:///other/B%2004.tif", "/other/B 04.tif"),
        ("/data/item.json", "https://host/a.tif", "https://host/a.tif"),
    ],
)
def test_what_an_item_refers_to(source, href, expected):
    assert resolve(source, href) == expected


HREFS = ("file:///etc/passwd", "FILE:///etc/a.tif", "s3://b/a.tif", "ftp://host/a.tif", "x:/a.tif", "http://[::1/a.tif")


@pytest.mark.parametrize("href", HREFS)
def test_an_item_from_the_web_reads_nothing_here(tmp_path, server, href, monkeypatch):
    path = sentinel2_item(server.folder, "S2A_33UVP")
    secret = path.parent / "B04.tif"
    (tmp_path / "x:").mkdir()
    shutil.copy(secret, tmp_path / "x:" / "a.tif")
    monkeypatch.chdir(tmp_path)
    for target in (href, f"file://{secret}"):
        item = json.loads(path.read_text())
        item["assets"]["B04"]["href"] = target
        path.write_text(json.dumps(item))
        with pytest.raises(DataError):
            prepare_image(f"{server.address}/S2A_33UVP/S2A_33UVP.json", "rgb", Preparation(folder=tmp_path / "scene"))
        assert not list((tmp_path / "scene").glob("rgb*"))


@pytest.mark.parametrize("href", ["/vsicurl/http://127.0.0.1/a.tif", "/etc/passwd", "missing.tif", "item.json"])
def test_a_local_item_that_names_other_things_is_one_sentence(tmp_path, href):
    path = sentinel2_item(tmp_path, "S2A_33UVP")
    path.write_text(path.read_text().replace("./B04.tif", href))
    with pytest.raises(DataError):
        prepare_image(path, "rgb", Preparation(folder=tmp_path / "scene"))


def test_recognising_asks_for_nothing(tmp_path, server):
    names = ["a/items/S2A_33UVP", "item.json?sig=1", "items/HLS.S30.T33UVP.v2.0"]
    assert all(is_product(f"{server.address}/{name}", "rgb") for name in names)
    assert not any(
        is_product(f"{server.address}/{name}", "rgb") for name in ["a.tif", "a.zip?sig=1", "b/a.JP2", "S2A.SAFE/"]
    )
    (tmp_path / "item.json").write_text('{"stac_version": ')
    (tmp_path / "MTL.json").write_text("{}")
    (tmp_path / "folder.json").mkdir()
    assert not any(is_product(name, "rgb") for name in (tmp_path / "MTL.json", tmp_path / "folder.json", "a\0.json"))
    assert is_product(tmp_path / "item.json", "sar") and not is_product(tmp_path / "other.json", "sar")
    assert not is_product([tmp_path / "item.json", tmp_path / "a.tif"], "rgb") and not is_product([], "rgb")
    assert not server.asked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-06-10T10:00:31.024Z", datetime(2023, 6, 10, 10, 0, 31, 24000, timezone.utc)),
        ("2023-06-10T10:00:31.024123456Z", datetime(2023, 6, 10, 10, 0, 31, 24123, timezone.utc)),
        ("2023-06-10t10:00:31.5z", datetime(2023, 6, 10, 10, 0, 31, 500000, timezone.utc)),
        ("2023-06-10T12:00:31+02:00", datetime(2023, 6, 10, 10, 0, 31, 0, timezone.utc)),
        ("2023-06-10", datetime(2023, 6, 10, tzinfo=timezone.utc)),
        ("0001-01-01T00:00:00+02:00", None),
        ("yesterday", None),
        (None, None),
        (3, None),
    ],
)
def test_times(text, expected):
    assert parse_time(text) == expected
