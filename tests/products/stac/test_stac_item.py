"""STAC items are read as the images that their files hold, whether these are here or on the web."""

import json

import numpy as np
import pytest
from rasterio.crs import CRS

from mm_ovseg.errors import DataError
from mm_ovseg.products import Preparation, is_product, prepare_image
from mm_ovseg.raster import RasterSource, read_rgb, read_sar
from tests.products.stac_catalogue import (
    CORNER,
    SIDE,
    power,
    reflectance,
    sentinel1_item,
    sentinel2_item,
    write_area,
    write_cog,
)
from tests.raster.grids import corner_in

EAST = (CORNER[0] + 3000, CORNER[1])  # overlaps the first tile by 1 km
NAMES = ("B04", "B03", "B02")


def area_of(folder, column, row, width, height, name="area.geojson"):
    """The area of a window of the first tile."""
    left, top = CORNER[0] + column * 10 + 1, CORNER[1] - row * 10 - 1
    return write_area(folder / name, left, top, left + width * 10 - 2, top - height * 10 + 2)


def physical(path):
    """The physical values of a prepared image, float64 (H, W, bands), and where they are valid, (H, W)."""
    with RasterSource(path) as source:
        bands = range(1, len(source.bands) + 1)
        values, valid = source.read(bands, dtype="float64")
        source.scale(values, bands)
        return values, np.ones(values.shape[:2], bool) if valid is None else valid.all(axis=2), source.grid


def ground(function, names, corner, size):
    return np.stack([function(name, corner, size) for name in names], axis=-1)


@pytest.mark.parametrize("baseline", ["02.09", "04.00", "05.11"])
def test_a_local_item_is_used_where_it_is(tmp_path, baseline):
    item = sentinel2_item(tmp_path, "S2A_33UVP", baseline=baseline)
    assert is_product(item, "rgb") and is_product([str(item)], "rgb")
    image = prepare_image(item, "rgb", Preparation(folder=tmp_path / "prepared"))
    values, valid, grid = physical(image.paths)
    assert np.abs(values - ground(reflectance, NAMES, CORNER, (SIDE, SIDE)))[valid].max() < 1e-4
    assert not valid[:, :20].any() and valid[:, 20:].all()
    assert image.about["ids"] == ["S2A_33UVP"] and image.about["acquired"] == ["2023-06-10T10:00:00+00:00"]
    assert image.about["sensor"] == "Sentinel-2A MSI" and image.about["items"][0]["processing_baseline"] == baseline
    assert image.clouds.values == "scl" and image.clouds.path == item.parent / "SCL.tif"
    assert sorted(path.name for path in (tmp_path / "prepared").iterdir()) == ["rgb.json", "rgb.vrt", "rgb_items.json"]


def test_an_item_on_the_web_gives_the_same_image_as_its_files(tmp_path, server):
    sentinel2_item(server.folder, "S2A_33UVP")
    address = f"{server.address}/S2A_33UVP/S2A_33UVP.json?sig=abc"
    local = prepare_image(server.folder / "S2A_33UVP" / "S2A_33UVP.json", "rgb", Preparation(folder=tmp_path / "a"))
    assert not server.asked
    remote = prepare_image(address, "rgb", Preparation(folder=tmp_path / "b"))
    for first, second in zip(read_rgb(local.paths), read_rgb(remote.paths), strict=True):
        np.testing.assert_array_equal(first, second)
    with RasterSource(local.paths) as first, RasterSource(remote.paths) as second:
        assert first.bands == second.bands and first.grid == second.grid
        np.testing.assert_array_equal(first.read([1, 2, 3], nodata=False)[0], second.read([1, 2, 3], nodata=False)[0])
    assert {method for method, _, _ in server.asked} == {"GET"}
    assert not (tmp_path / "b" / "fetched_parts").exists()


def test_only_the_area_is_fetched_and_only_once(tmp_path, server):
    sentinel2_item(server.folder, "S2A_33UVP")
    preparation = Preparation(folder=tmp_path / "scene", area=area_of(tmp_path, 150, 40, 61, 33))
    address = f"{server.address}/S2A_33UVP/S2A_33UVP.json"
    image = prepare_image(address, "rgb", preparation)
    values, valid, grid = physical(image.paths)
    corner = (CORNER[0] + 1500, CORNER[1] - 400)
    assert grid.shape == (33, 61) and (grid.transform.c, grid.transform.f) == corner and valid.all()
    assert np.abs(values - ground(reflectance, NAMES, corner, (33, 61))).max() < 1e-4
    whole = sum(file.stat().st_size for file in (server.folder / "S2A_33UVP").glob("*.tif"))
    # One block of each band, and a header: 16 columns of blocks would be the whole.
    assert server.sent < 0.35 * whole
    assert not any("TCI" in path or "preview" in path for path in server.paths())
    before, states = len(server.asked), {path: path.stat().st_mtime_ns for path in preparation.folder.iterdir()}
    again = prepare_image(f"{address}?X-Amz-Signature=new", "rgb", preparation)
    assert len(server.asked) == before and again.about == image.about and again.clouds == image.clouds
    states.pop(preparation.folder / "rgb.json")
    assert all(path.stat().st_mtime_ns == state for path, state in states.items())
    other = Preparation(folder=preparation.folder, area=area_of(tmp_path, 100, 40, 61, 33, "other.geojson"))
    assert physical(prepare_image(address, "rgb", other).paths)[2].transform.c == CORNER[0] + 1000


def test_a_dead_address_in_the_middle_is_continued_later(tmp_path, server):
    sentinel2_item(server.folder, "S2A_33UVP")
    preparation = Preparation(folder=tmp_path / "scene", area=area_of(tmp_path, 20, 0, 380, 400))
    address = f"{server.address}/S2A_33UVP/S2A_33UVP.json"
    server.stops_after["/S2A_33UVP/B03.tif"] = 5
    with pytest.raises(DataError, match=r"B03\.tif cannot be fetched .*run the same command again later: it keeps"):
        prepare_image(address, "rgb", preparation)
    assert not (preparation.folder / "rgb.vrt").exists() and len(list(preparation.folder.glob("*.tif"))) == 1
    server.stops_after.clear()
    values, valid, _ = physical(prepare_image(f"{address}?sig=new", "rgb", preparation).paths)
    expected = ground(reflectance, NAMES, (CORNER[0] + 200, CORNER[1]), (SIDE, SIDE - 20))
    assert valid.all() and np.abs(values - expected).max() < 1e-4
    files = [server.folder / "S2A_33UVP" / f"{name}.tif" for name in (*NAMES, "SCL")]
    items = 2 * (server.folder / "S2A_33UVP" / "S2A_33UVP.json").stat().st_size
    assert server.sent <= sum(file.stat().st_size for file in files) + items


def test_an_item_given_twice(tmp_path, server):
    sentinel2_item(server.folder, "S2A_33UVP")
    address = f"{server.address}/S2A_33UVP/S2A_33UVP.json"
    image = prepare_image([address, f"{address}?sig=1"], "rgb", Preparation(folder=tmp_path / "scene"))
    values, valid, grid = physical(image.paths)
    assert grid.shape == (SIDE, SIDE) and valid[:, 20:].all()
    assert np.abs(values - ground(reflectance, NAMES, CORNER, (SIDE, SIDE)))[valid].max() < 1e-4


def test_clouds_are_those_of_the_area(tmp_path, server):
    sentinel2_item(server.folder, "S2A_33UVP")
    preparation = Preparation(folder=tmp_path / "scene", area=area_of(tmp_path, 31, 35, 80, 50))
    image = prepare_image(f"{server.address}/S2A_33UVP/S2A_33UVP.json", "rgb", preparation)
    with RasterSource(image.clouds.path) as source:
        assert source.grid.shape == (26, 41) and source.grid.transform.c == CORNER[0] + 300
        classes = source.read([1], nodata=False)[0][..., 0]
    assert (classes == 9).sum() == 20 * 20 and (classes[3:23, 5:25] == 9).all()


def test_tiles_of_different_baselines_are_joined(tmp_path, server):
    first = sentinel2_item(server.folder, "S2A_33UVP", baseline="02.09")
    sentinel2_item(server.folder, "S2B_33UWP", EAST, baseline="05.09")
    items = [str(first), f"{server.address}/S2B_33UWP/S2B_33UWP.json"]
    image = prepare_image(items, "rgb", Preparation(folder=tmp_path / "scene"))
    values, valid, grid = physical(image.paths)
    assert grid.shape == (SIDE, SIDE + 300)
    assert np.abs(values - ground(reflectance, NAMES, CORNER, grid.shape))[valid].max() < 1e-4
    assert not valid[:, :20].any() and valid[:, 20:].all()  # the second's missing columns are in the first


def test_a_tile_of_the_next_zone_is_resampled(tmp_path, server):
    """Of the area, more is in the first tile, which is copied."""
    first = sentinel2_item(server.folder, "S2A_33UVP")
    corner = corner_in(CRS.from_epsg(32634), 15.038, 36.15)
    corner = (round(corner[0], -1), round(corner[1], -1))
    second = sentinel2_item(server.folder, "S2A_34UCA", corner, size=(500, 500), epsg=32634)
    area = area_of(tmp_path, 100, 100, 500, 60)
    preparation = Preparation(folder=tmp_path / "scene", area=area)
    items = [f"{server.address}/{item.relative_to(server.folder)}" for item in (second, first)]
    values, valid, grid = physical(prepare_image(items, "rgb", preparation).paths)
    assert grid.crs.to_epsg() == 32633 and grid.transform.c == CORNER[0] + 1000
    own = np.s_[:, : SIDE - 100]
    expected = ground(reflectance, NAMES, (CORNER[0] + 1000, CORNER[1] - 1000), (60, SIDE - 100))
    assert valid[own].all() and np.abs(values[own] - expected).max() < 1e-4
    rest, known = values[:, SIDE - 100 :], valid[:, SIDE - 100 :]
    assert known.mean() > 0.9 and abs(rest[known].mean() - 0.15) < 0.01


def test_sar_is_power_with_its_polarisations(tmp_path, server):
    sentinel1_item(server.folder, "S1A_rtc")
    preparation = Preparation(folder=tmp_path / "scene", area=area_of(tmp_path, 350, 10, 50, 40))
    image = prepare_image(f"{server.address}/S1A_rtc/S1A_rtc.json", "sar", preparation)
    values, valid, grid = physical(image.paths)
    corner = (CORNER[0] + 3500, CORNER[1] - 100)
    assert image.about["unit"] == "power" and image.about["bands"] == ["VV", "VH"]
    assert valid[:, :35].all() and not valid[:, 35:].any()
    np.testing.assert_array_equal(values[valid], ground(power, ("VV", "VH"), corner, (40, 50))[valid])
    decibels, _ = read_sar(image.paths)
    expected = np.clip((10 * np.log10(values[valid][:, 0]) + 25) / 25 * 255, 0, 255)
    assert np.abs(decibels[..., 0][valid] - expected).max() < 1e-3


def test_items_with_other_polarisations_share_what_they_have(tmp_path):
    items = [sentinel1_item(tmp_path, "a_rtc"), sentinel1_item(tmp_path, "b_rtc", EAST, polarisations=["VH"])]
    image = prepare_image(items, "sar", Preparation(folder=tmp_path / "scene"))
    assert image.about["bands"] == ["VH"]
    items.append(sentinel1_item(tmp_path, "c_rtc", EAST, polarisations=["HH"]))
    with pytest.raises(DataError, match="no polarisation in common"):
        prepare_image(items, "sar", Preparation(folder=tmp_path / "scene"))


def test_sar_of_several_passes_is_refused(tmp_path):
    items = [sentinel1_item(tmp_path, f"S1_{day}", acquired=f"2023-06-{day}T17:00:00Z") for day in (11, 23)]
    with pytest.raises(DataError, match="S1_11 and S1_23 were acquired at different times"):
        prepare_image(items, "sar", Preparation(folder=tmp_path / "scene"))


def test_an_elevation_model_that_is_not_used_is_a_warning(tmp_path):
    preparation = Preparation(folder=tmp_path / "scene", dem=tmp_path / "dem.tif")
    expected = (f"--dem {tmp_path / 'dem.tif'} is not used: it corrects Sentinel-1 GRD products only.",)
    item = sentinel1_item(tmp_path, "S1")
    for given in (item, item.parent / "vv.tif"):
        assert prepare_image(given, "sar", preparation).warnings == expected
    assert prepare_image(sentinel2_item(tmp_path, "S2"), "rgb", preparation).warnings == ()


def test_items_without_the_image_are_refused(tmp_path):
    optical, radar = sentinel2_item(tmp_path, "S2A_33UVP"), sentinel1_item(tmp_path, "S1A_rtc")
    with pytest.raises(DataError, match=r"S2A_33UVP has no SAR \(its assets: B04, B03, B02, SCL, visual\)"):
        prepare_image(optical, "sar", Preparation(folder=tmp_path / "scene"))
    with pytest.raises(DataError, match="S1A_rtc has no red, green and blue"):
        prepare_image(radar, "rgb", Preparation(folder=tmp_path / "scene"))
    assert not (tmp_path / "scene").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{VERSION", "is not JSON"),
        ("[{VERSION}]", "not a STAC document"),
        ("{VERSION}", "not a STAC item but 'another JSON file'; give an item"),
        ('{VERSION, "type": "Catalog"}', "not a STAC item but 'Catalog'; search it with --stac"),
        ('{VERSION, "type": "Feature", "id": 3, "properties": {}, "assets": {}}', "has an id, properties and assets"),
        ('{VERSION, "type": "Feature", "id": "a", "properties": {}, "assets": {"B04": 1, "B03": {}}}', "has no red"),
        ('{VERSION, "type": "Feature", "id": "a", "id": "b"}', "the key 'id' twice"),
        ('{VERSION, "a": ' + '{"a": ' * 100_000, "nested too deeply"),
        ("{VERSION\0", "is not UTF-8"),
    ],
)
def test_damaged_items_are_one_sentence(tmp_path, content, message):
    (tmp_path / "item.json").write_text(content.replace("VERSION", '"stac_version": "1.0.0"'))
    with pytest.raises(DataError, match=message):
        prepare_image(tmp_path / "item.json", "rgb", Preparation(folder=tmp_path / "scene"))


def test_an_area_elsewhere_is_refused(tmp_path, server):
    sentinel2_item(server.folder, "S2A_33UVP")
    preparation = Preparation(folder=tmp_path / "scene", area=area_of(tmp_path, 1000, 40, 61, 33))
    with pytest.raises(DataError, match="outside of the images"):
        prepare_image(f"{server.address}/S2A_33UVP/S2A_33UVP.json", "rgb", preparation)
    assert not list(preparation.folder.glob("*.tif"))


def test_the_product_is_made_again_when_a_local_item_changes(tmp_path):
    item = sentinel2_item(tmp_path, "S2A_33UVP", baseline="04.00")
    preparation = Preparation(folder=tmp_path / "scene")
    before = physical(prepare_image(item, "rgb", preparation).paths)[0]
    item.write_text(item.read_text().replace('"04.00"', '"02.09"'))
    after = physical(prepare_image(item, "rgb", preparation).paths)[0]
    np.testing.assert_allclose(after - before, 0.1)


def test_8_bit_true_colours_serve_where_there_is_no_reflectance(tmp_path):
    path = sentinel2_item(tmp_path, "S2A_33UVP")
    item = json.loads(path.read_text())
    for name in NAMES:
        del item["assets"][name]
    path.write_text(json.dumps(item))
    colors = np.random.default_rng(0).integers(1, 255, (3, 50, 60), dtype=np.uint8)
    write_cog(path.parent / "TCI.tif", colors, CORNER, nodata=0)
    image, valid = read_rgb(prepare_image(path, "rgb", Preparation(folder=tmp_path / "scene")).paths)
    np.testing.assert_array_equal(image, colors.transpose(1, 2, 0))
    assert valid.all()
