"""Searching catalogues and APIs gives one optical and one SAR acquisition of the area, always the same."""

import json
import shutil
from urllib.parse import parse_qs, urlsplit

import pytest

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.products import Preparation, prepare_image
from mm_ovseg.products.stac.stac_search import find_items
from mm_ovseg.raster import read_rgb
from tests.products.stac_catalogue import (
    CORNER,
    sentinel1_item,
    sentinel2_item,
    write_area,
    write_catalogue,
)

EAST = (CORNER[0] + 3000, CORNER[1])
SIZE = (400, 400)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A catalogue: two tiles on two days, cloudier on the first, one tile twice; and SAR on two days, once not RTC."""
    folder = tmp_path_factory.mktemp("catalogue")
    items = [
        sentinel2_item(folder, "A_10", clouds=60, acquired="2023-06-10T10:00:00Z"),
        sentinel2_item(folder, "B_10", EAST, clouds=70, acquired="2023-06-10T10:00:20Z"),
        sentinel2_item(folder, "A_15", clouds=8, acquired="2023-06-15T10:00:00Z", **{"s2:mgrs_tile": "A"}),
        sentinel2_item(
            folder, "A_15_old", clouds=8, acquired="2023-06-15T10:00:00Z", baseline="02.09", **{"s2:mgrs_tile": "A"}
        ),
        sentinel2_item(folder, "B_15", EAST, clouds=4, acquired="2023-06-15T10:00:20Z", **{"s2:mgrs_tile": "B"}),
        sentinel2_item(folder, "A_20", clouds=0, acquired="2023-06-20T10:00:00Z"),
        sentinel1_item(folder, "S_11_rtc", size=(400, 700), acquired="2023-06-11T17:00:00Z"),
        sentinel1_item(folder, "S_17_rtc", size=(400, 700), acquired="2023-06-17T17:00:00Z"),
        sentinel1_item(folder, "S_15", size=(400, 700), acquired="2023-06-15T17:00:00Z", collection="sentinel-1-grd"),
    ]
    write_catalogue(folder, items)
    return folder


@pytest.fixture
def catalogue(made, server):
    """The address of the catalogue."""
    shutil.rmtree(server.folder)
    server.folder.symlink_to(made)
    return f"{server.address}/catalog.json"


@pytest.fixture
def area(tmp_path):
    """An area in both tiles."""
    return write_area(tmp_path / "area.geojson", CORNER[0] + 2500, CORNER[1] - 500, CORNER[0] + 6500, CORNER[1] - 3500)


def names(sources):
    return [source.rpartition("/")[2].removesuffix(".json") for source in sources]


def test_the_choice(catalogue, area, tmp_path):
    """Both tiles of the clearer day rather than the clear one alone; SAR of the nearest day in time."""
    found = find_items([catalogue], area=area, dates="2023-06", folder=tmp_path / "scene")
    assert names(found.rgb) == ["A_15", "B_15"] and names(found.sar) == ["S_17_rtc"]
    assert all(source.startswith("http://127.0.0.1") for source in found.rgb) and found.warnings == ()
    assert [entry["acquired"] for entry in found.about["rgb"]] == [
        "2023-06-15T10:00:00+00:00",
        "2023-06-15T10:00:20+00:00",
    ]
    found = find_items([catalogue], area=area, dates="2023-06-10/2023-06-14", folder=tmp_path / "early")
    assert names(found.rgb) == ["A_10", "B_10"] and names(found.sar) == ["S_11_rtc"]


def test_the_choice_is_kept(server, catalogue, area, tmp_path):
    search = {"area": area, "dates": "2023-06", "folder": tmp_path / "scene"}
    found = find_items([catalogue], **search)
    before = len(server.asked)
    assert find_items([f"{catalogue}?sig=new"], **search) == found and len(server.asked) == before
    assert json.loads((tmp_path / "scene" / "search.json").read_text())["about"] == found.about
    assert names(find_items([catalogue], **{**search, "dates": "2023-06-20"}).rgb) == ["A_20"]
    assert len(server.asked) > before


def test_what_was_found_is_an_image(server, catalogue, made, area, tmp_path):
    found = find_items([catalogue], area=area, dates="2023-06", folder=tmp_path / "scene")
    preparation = Preparation(folder=tmp_path / "scene", area=area)
    image, valid = read_rgb(prepare_image(found.rgb, "rgb", preparation).paths)
    local, _ = read_rgb(
        prepare_image(
            [made / name / f"{name}.json" for name in names(found.rgb)], "rgb", Preparation(folder=tmp_path)
        ).paths
    )
    assert image.shape == (300, 400, 3) and valid.all() and (image == local[50:350, 250:650]).all()
    assert prepare_image(found.sar, "sar", preparation).about["acquired"] == ["2023-06-17T17:00:00+00:00"]


def test_one_sensor_alone(catalogue, area, tmp_path):
    found = find_items([catalogue], area=area, dates="2023-06-20", folder=tmp_path / "a")
    assert names(found.rgb) == ["A_20"] and found.sar == ()
    assert found.warnings[0].startswith("The optical items cover only 3") and found.warnings[1] == (
        "No SAR item was found, so the map is made from the optical image alone."
    )
    found = find_items([catalogue], area=area, dates="2023-06-11", folder=tmp_path / "b")
    assert found.rgb == () and names(found.sar) == ["S_11_rtc"]
    assert found.warnings == ("No optical item was found, so the map is made from the SAR image alone.",)
    found = find_items([catalogue], area=area, dates="2023-06-15", folder=tmp_path / "c")
    assert len(found.rgb) == 2 and "No SAR item was found (The item S_15 is sentinel-1-grd," in found.warnings[0]


def test_nothing_found_says_what_there_is(catalogue, area, tmp_path):
    expected = (
        r"for 2023-07-01.*; within 30 days there are 2023-06-10 \(sentinel-2-l2a, 60% cloud\), .* and 3 more: give"
    )
    with pytest.raises(DataError, match=expected):
        find_items([catalogue], area=area, dates="2023-07-01", folder=tmp_path / "scene")
    with pytest.raises(DataError, match="nor within 30 days; check"):
        find_items([catalogue], area=area, dates="2020", folder=tmp_path / "scene")
    far = write_area(tmp_path / "far.geojson", 600_000, 4_100_000, 601_000, 4_099_000)
    with pytest.raises(DataError, match="nor within 30 days"):
        find_items([catalogue], area=far, dates="2023-06", folder=tmp_path / "scene")
    with pytest.raises(DataError, match="No optical or SAR item of the area was found; check the area"):
        find_items([catalogue], area=far, folder=tmp_path / "scene")
    with pytest.raises(DataError, match="None of the items found can be mapped: The item S_15 is sentinel-1-grd,"):
        find_items(
            [catalogue], area=area, dates="2023-06-15", collections=["sentinel-1-grd"], folder=tmp_path / "scene"
        )
    assert not (tmp_path / "scene").exists()


def test_local_sources(made, area, tmp_path):
    search = {"area": area, "dates": "2023-06", "folder": tmp_path / "scene"}
    found = find_items([str(made / "catalog.json")], **search)
    assert found.rgb == (str(made / "A_15" / "A_15.json"), str(made / "B_15" / "B_15.json"))
    found = find_items([str(made / "sentinel-1-rtc.json"), str(made / "A_10" / "A_10.json")], **search)
    assert names(found.rgb) == ["A_10"] and names(found.sar) == ["S_11_rtc"]
    found = find_items([str(made / "A_10" / "A_10.json")], area=None, folder=tmp_path / "alone")
    assert names(found.rgb) == ["A_10"] and len(found.warnings) == 1


def test_collections_elsewhere_are_not_read(server, made, area, tmp_path):
    for name, extent in {
        "sentinel-2-l2a": {"spatial": {"bbox": [[100, 30, 110, 40]]}, "temporal": {"interval": [[None, None]]}},
        "sentinel-1-grd": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2024-01-01", None]]},
        },
    }.items():
        collection = json.loads((made / f"{name}.json").read_text())
        collection["links"] = [{**link, "href": f"../web/{link['href']}"} for link in collection["links"]]
        (tmp_path / f"{name}.json").write_text(json.dumps({**collection, "extent": extent}))
    sources = [str(tmp_path / "sentinel-2-l2a.json"), str(tmp_path / "sentinel-1-grd.json")]
    with pytest.raises(DataError, match="nor within 30 days"):
        find_items(sources, area=area, dates="2023-06", folder=tmp_path / "scene")


@pytest.fixture
def api(server, catalogue, made, tmp_path):
    """An API whose search gives two pages."""
    web = tmp_path / "api"
    shutil.copytree(made, web)
    server.folder.unlink()
    server.folder.symlink_to(web)
    items = []
    for path in sorted(web.glob("*/*.json")):
        item = json.loads(path.read_text())
        item["links"] = [{"rel": "self", "href": f"{server.address}/{path.relative_to(web)}"}]
        items.append(item)
    pages = [{"type": "FeatureCollection", "features": part, "links": []} for part in (items[:4], items[4:])]
    pages[0]["links"] = [{"rel": "next", "href": f"{server.address}/more?page=2", "method": "GET"}]
    (web / "search").write_text(json.dumps(pages[0]))
    (web / "more").write_text(json.dumps(pages[1]))
    links = [{"rel": "search", "href": "./search", "type": "application/geo+json"}]
    root = {"type": "Catalog", "id": "api", "description": "api", "stac_version": "1.0.0", "links": links}
    (web / "root.json").write_text(json.dumps({**root, "conformsTo": ["https://api.stacspec.org/v1.0.0/item-search"]}))
    links = [{"rel": "items", "href": "./items"}, {"rel": "root", "href": "./root.json"}]
    (web / "one.json").write_text(json.dumps({"type": "Collection", "id": "sentinel-2-l2a", "links": links}))
    return f"{server.address}/root.json"


def test_an_api_is_searched_by_get(server, api, area, tmp_path):
    pytest.importorskip("pystac_client")
    search = {"area": area, "dates": "2023-06", "collections": ["sentinel-2-l2a", "sentinel-1-rtc"]}
    found = find_items([api], **search, folder=tmp_path / "scene")
    assert names(found.rgb) == ["A_15", "B_15"] and names(found.sar) == ["S_17_rtc"]
    assert {method for method, _, _ in server.asked} == {"GET"} and server.paths()[-1] == "/more"
    query = parse_qs(urlsplit(server.asked[1][1]).query)
    west, south, east, north = map(float, query["bbox"][0].split(","))
    assert 15.02 < west < 15.04 < 15.06 < east < 15.08 and 36.11 < south < 36.12 < 36.14 < north < 36.15
    assert query["datetime"] == ["2023-06-01T00:00:00Z/2023-06-30T23:59:59Z"]
    assert query["collections"] == ["sentinel-2-l2a,sentinel-1-rtc"]


def test_a_collection_of_an_api_is_searched_through_its_root(server, api, area, tmp_path):
    pytest.importorskip("pystac_client")
    found = find_items([api.replace("root", "one")], area=area, dates="2023-06", folder=tmp_path / "scene")
    assert parse_qs(urlsplit(server.asked[2][1]).query)["collections"] == ["sentinel-2-l2a"] and found.rgb


def test_an_api_needs_an_area_and_a_date(api, area, tmp_path):
    for missing in ({"area": None, "dates": "2023"}, {"area": area}):
        with pytest.raises(ConfigError, match="needs an area and a date; give --aoi and --date"):
            find_items([api], **missing, folder=tmp_path / "scene")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("[1]", "cannot be searched"),
        ("{", "cannot be searched"),
        ('{"features": [{"type": "Feature", "id": "a"}]}', "lists the item 'a' without its address"),
        ('{"features": [1], "links": [{"rel": "next", "href": "file:///etc/passwd"}]}', "not an address"),
        (
            '{"features": [1], "links": [{"rel": "next", "href": "x", "method": "POST"}]}',
            "asks for POST, which is refused",
        ),
    ],
)
def test_what_an_api_should_not_answer(server, api, area, tmp_path, answer, message):
    pytest.importorskip("pystac_client")
    (server.folder / "search").write_text(answer)
    with pytest.raises(DataError, match=message):
        find_items([api], area=area, dates="2023-06", folder=tmp_path / "scene")


def test_a_catalogue_without_end(server, area, tmp_path, monkeypatch):
    monkeypatch.setattr("mm_ovseg.products.stac.stac_catalogue.MAX_DOCUMENTS", 3)
    links = [{"rel": "item", "href": f"{name}.json"} for name in range(4)]
    (server.folder / "catalog.json").write_text(json.dumps({"type": "Catalog", "links": links}))
    with pytest.raises(DataError, match="leads to more than 3 documents"):
        find_items([f"{server.address}/catalog.json"], area=area, folder=tmp_path / "scene")
    links = [{"rel": "child", "href": "catalog.json"}, {"rel": "child", "href": "file:///etc/passwd"}]
    (server.folder / "catalog.json").write_text(json.dumps({"type": "Catalog", "links": links}))
    with pytest.raises(DataError, match="links to file:///etc/passwd, which is refused"):
        find_items([f"{server.address}/catalog.json"], area=area, folder=tmp_path / "scene")
