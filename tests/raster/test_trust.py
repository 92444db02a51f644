import html
import os
import warnings
from contextlib import suppress

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning

from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import open_raster, read_label, read_raster_info, read_rgb, read_sar

GREY = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
BLOCKS = {"tiled": True, "blockxsize": 16, "blockysize": 16}


def vrt(source):
    return (
        '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{source}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def read_all(path):
    """Everything that is done to rasters, in reduced resolution too."""
    read_rgb(path)
    read_sar(path)
    read_label(path, num_classes=256)
    with SceneSource(path, None) as source:
        source.read(0, 0, 64, 64)
    with open_raster(path) as dataset:
        dataset.read(1, out_shape=(16, 16))
        dataset.overviews(1)


@pytest.mark.parametrize("ending", [".ovr", ".OVR", ".msk", ".MSK", ".Ovr", ".mSK"])
def test_files_beside_a_raster_reach_nothing(tmp_path, write_raster, web, ending):
    address, asked = web
    path = write_raster(tmp_path / "a.tif", GREY, **BLOCKS)
    (tmp_path / f"a.tif{ending}").write_text(vrt("/vsicurl/" + address(f"{tmp_path.name}.tif")))
    if ending[1:] in ("ovr", "OVR", "msk", "MSK"):
        with pytest.raises(DataError, match=rf"a\.tif\{ending} is not a TIFF, so it is refused; remove it"):
            read_all(path)
    else:
        read_all(path)
    assert not asked


@pytest.mark.parametrize("inside", [True, False])
def test_overviews_elsewhere_are_refused(tmp_path, write_raster, web, inside):
    address, asked = web
    path = write_raster(tmp_path / "a.tif", GREY, **BLOCKS)
    place = "/vsicurl/" + address(f"{tmp_path.name}.tif")
    item = f'<MDI key="OVERVIEW_FILE">{place}</MDI>'
    if inside:
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=place)
    else:
        (tmp_path / "a.tif.aux.xml").write_text(
            f'<PAMDataset><Metadata domain="OVERVIEWS">{item}</Metadata></PAMDataset>'
        )
    with pytest.raises(DataError, match=r"a\.tif refers to another file for its overviews"):
        read_all(path)
    assert not asked


def test_places_of_pixels_in_another_file_are_not_looked_up(tmp_path, write_raster, web):
    """GDAL's GEOLOCATION metadata names rasters that hold the coordinates."""
    address, asked = web
    rgb = write_raster(tmp_path / "rgb.tif", GREY, crs="EPSG:32633", transform=Affine(10, 0, 5e5, 0, -10, 4e6))
    places = {f"{axis}_DATASET": "/vsicurl/" + address(f"{axis}.tif") for axis in "XY"}
    fixed = {"X_BAND": 1, "Y_BAND": 1, "PIXEL_OFFSET": 0, "LINE_OFFSET": 0, "PIXEL_STEP": 1, "LINE_STEP": 1}
    for crs in (None, "EPSG:4326"):
        sar = write_raster(tmp_path / "sar.tif", GREY, **({"crs": crs} if crs else {}))
        with rasterio.open(sar, "r+") as dataset:
            dataset.update_tags(ns="GEOLOCATION", **places, **fixed, SRS="EPSG:4326")
        with suppress(DataError), SceneSource(rgb, sar) as source:
            source.read(0, 0, 64, 64)
    assert not asked


def test_masks_and_overviews_of_gdal_are_read_as_before(tmp_path, write_raster):
    path = write_raster(tmp_path / "a.tif", GREY, **BLOCKS)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.where(np.arange(64) < 32, 255, 0).astype(np.uint8) * np.ones((64, 1), np.uint8))
    assert (tmp_path / "a.tif.msk").is_file()
    assert read_sar(path)[1].sum() == 64 * 32


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_formats_that_point_elsewhere_are_refused(tmp_path, write_raster, monkeypatch, web, name):
    address, asked = web
    secret = write_raster(tmp_path / "secret.tif", GREY)
    (tmp_path / name).write_text(vrt(secret))
    with pytest.raises(DataError, match=rf"{name} cannot be read.*MM_OVSEG_GDAL_DRIVERS"):
        read_rgb(tmp_path / name)
    wms = f"<GDAL_WMS><Service name='TMS'><ServerUrl>{address('x')}</ServerUrl></Service></GDAL_WMS>"
    (tmp_path / name).write_text(wms)
    with pytest.raises(DataError, match="cannot be read"):
        read_rgb(tmp_path / name)
    assert not asked


@pytest.mark.parametrize("added", ["VRT", "ENVI, VRT", "all"])
def test_other_formats_are_read_where_they_are_asked_for(tmp_path, write_raster, monkeypatch, added):
    monkeypatch.setenv("MM_OVSEG_GDAL_DRIVERS", added)
    (tmp_path / "a.vrt").write_text(vrt(write_raster(tmp_path / "b.tif", GREY)))
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.vrt")[0][..., 0], GREY)


@pytest.mark.parametrize("any_format", [False, True])
@pytest.mark.parametrize("path, words", [
    ("/vsicurl/{}", "vsicurl paths are not read; unpack or download it, and give the file"),
    ("/vsizip/{}/a.tif", "vsizip paths are not read; unpack"),
    ("{}", "is an address; download the file first"),
    ("zip://a.zip!a.tif", "is an address"),
    ("a\0.tif", "does not exist"),
    ("WMS:{}", "does not exist"),
    ('NETCDF:"/vsicurl/{}":sar', "does not exist"),
])  # fmt: skip
def test_addresses_are_not_files(web, path, words, any_format):
    address, asked = web
    for read in (read_raster_info, read_rgb):
        with pytest.raises(DataError, match=words):
            read(path.format(address("a.tif")), any_format=any_format)
    assert not asked


@pytest.mark.parametrize("kind, no_proxy", [
    ("vsicurl", ""),
    ("vsicurl", "127.0.0.1"),  # as many environments say of their own network
    ("vsicurl", "*"),
    ("WMS", "*"),
    ("WMS in VRT", ""),
    ("WMS in VRT", "*"),
    ("WMS in VRT in VRT", "*"),
    ("WMS within VRT", "*"),
    ("HTTP", "*"),
    ("HTTP in VRT of another name", "*"),
])  # fmt: skip
def test_the_network_is_not_reached_in_any_format(tmp_path, monkeypatch, web, kind, no_proxy):
    address, asked = web
    monkeypatch.setenv("NO_PROXY", no_proxy)
    monkeypatch.setenv("no_proxy", no_proxy)
    wms = (
        f"<GDAL_WMS><Service name='TMS'><ServerUrl>{address('tile')}</ServerUrl></Service><DataWindow>"
        "<UpperLeftX>0</UpperLeftX><UpperLeftY>0</UpperLeftY><LowerRightX>64</LowerRightX><LowerRightY>64</LowerRightY>"
        "<TileLevel>0</TileLevel><SizeX>64</SizeX><SizeY>64</SizeY></DataWindow><BandsCount>1</BandsCount></GDAL_WMS>"
    )
    (tmp_path / "wms.xml").write_text(wms)
    path = tmp_path / "wms.xml"
    sources = {
        "vsicurl": "/vsicurl/" + address("a.tif"),
        "WMS in VRT": tmp_path / "wms.xml",
        "WMS in VRT in VRT": tmp_path / "inner.vrt",
        "WMS within VRT": html.escape(wms),
        "HTTP": address("a.tif"),
        "HTTP in VRT of another name": address("a.tif"),
    }
    if kind != "WMS":
        (tmp_path / "inner.vrt").write_text(
            vrt("wms.xml").replace("<SourceFilename", '<SourceFilename relativeToVRT="1"')
        )
        path = tmp_path / ("a.tif" if "another name" in kind else "a.vrt")
        path.write_text(vrt(sources[kind]))
    with pytest.raises(DataError, match="cannot be read|not a file of this machine"):
        read_rgb(path, any_format=True)
    assert not asked


@pytest.mark.parametrize("driver, suffix", [("ENVI", ".img"), ("BMP", ".bmp"), ("GTiff", ".tif"), ("PNG", ".dat")])
def test_any_format_of_ones_own_is_read(tmp_path, driver, suffix):
    path = tmp_path / f"a{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver=driver, width=64, height=64, count=1, dtype="uint8") as file:
            file.write(GREY, 1)
    np.testing.assert_array_equal(read_rgb(path, any_format=True)[0][..., 0], GREY)
    if driver in ("ENVI", "BMP"):
        with pytest.raises(DataError, match="convert it with gdal_translate, or allow its format with MM_OVSEG_GDAL"):
            read_rgb(path)


def test_a_file_of_several_rasters_names_them(tmp_path):
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", width=64, height=64, count=1, dtype="uint8") as file:
        file.write(GREY, 1)
    with pytest.raises(DataError, match=r"GTIFF_DIR:1:.*a\.tif is a raster within .*a\.tif, which is not read here"):
        read_rgb(f"GTIFF_DIR:1:{path}")
    assert read_rgb(f"GTIFF_DIR:1:{path}", any_format=True)[0].shape == (64, 64, 3)


def test_a_local_name_that_looks_like_an_address_is_a_file(tmp_path, write_raster, monkeypatch, web):
    address, asked = web
    monkeypatch.chdir(tmp_path)
    name = address("a.tif")
    write_raster(tmp_path / name.replace("//", "/"), GREY)
    np.testing.assert_array_equal(read_rgb(name)[0][..., 0], GREY)
    assert not asked


def test_a_name_that_is_no_text(tmp_path):
    path = tmp_path / "a\udcff.tif"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"'.*a\\udcff\.tif' is not UTF-8; rename"):
        read_rgb(path)


@pytest.mark.parametrize("read", [read_rgb, read_sar, lambda path: read_label(path, num_classes=2)])
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, write_raster, read):
    """Sparse: 40 kB on the disk, 40 GB in memory."""
    path = tmp_path / "bomb.tif"
    profile = {"width": 200_000, "height": 200_000, "count": 1, "dtype": "uint8", "sparse_ok": True, "compress": "lzw"}
    with rasterio.open(path, "w", driver="GTiff", tiled=True, blockxsize=8192, blockysize=8192, **profile):
        pass
    assert path.stat().st_size < 1e5
    with pytest.raises(DataError, match=r"bomb\.tif has 200000x200000 pixels, more than the 134217728"):
        read(path)
    with SceneSource(path, None) as source:  # by windows it may be as large as it likes
        source.read(100_000, 100_000, 64, 64)


def test_the_limit_can_be_set(tmp_path, write_raster, monkeypatch):
    path = write_raster(tmp_path / "a.png", GREY)
    monkeypatch.setenv("MM_OVSEG_MAX_PIXELS", "4095")
    with pytest.raises(DataError, match="64x64 pixels, more than the 4095"):
        read_rgb(path)
    monkeypatch.setenv("MM_OVSEG_MAX_PIXELS", "4096")
    read_rgb(path)
    monkeypatch.setenv("MM_OVSEG_MAX_PIXELS", "many")
    with pytest.raises(ConfigError, match="MM_OVSEG_MAX_PIXELS is 'many'; give a number of pixels"):
        read_rgb(path)


def test_a_window_of_one_huge_block_is_refused(tmp_path, write_raster, monkeypatch):
    monkeypatch.setenv("MM_OVSEG_MAX_PIXELS", "8192")
    path = write_raster(
        tmp_path / "a.tif", np.dstack([GREY] * 3), blockysize=64, compress="deflate", interleave="pixel"
    )
    with pytest.raises(
        DataError, match=r"a\.tif is stored in blocks of 12288 values, more than 8192; store it in tiles"
    ):
        SceneSource(path, None)


def test_a_header_that_claims_more_than_there_is(tmp_path, write_raster):
    path = write_raster(tmp_path / "a.tif", GREY)
    content = bytearray(path.read_bytes())
    for place in range(8, len(content) - 12):  # ImageWidth and ImageLength: tags 256 and 257, one number each
        if content[place : place + 2] in (b"\0\1", b"\1\1") and content[place + 4 : place + 8] == b"\1\0\0\0":
            content[place + 8 : place + 12] = (4000).to_bytes(4, "little")
    path.write_bytes(content)
    assert read_raster_info(path).grid.width == 4000
    with pytest.raises(DataError, match=r"a\.tif cannot be read"):
        read_rgb(path)


def test_a_scene_of_a_million_columns_is_refused(tmp_path):
    path = tmp_path / "wide.tif"
    profile = {"width": 1_000_000, "height": 20, "count": 1, "dtype": "uint8", "sparse_ok": True, "tiled": True}
    with rasterio.open(path, "w", driver="GTiff", blockxsize=256, blockysize=16, **profile):
        pass
    with pytest.raises(DataError, match=r"wide\.tif has 1000000 pixels per row, more than 524288"):
        SceneSource(path, None)


@pytest.mark.parametrize("ending", [".msk", ".ovr"])
@pytest.mark.parametrize("any_format", [False, True])
def test_a_pipe_beside_a_raster_holds_nothing_up(tmp_path, write_raster, ending, any_format):
    path = write_raster(tmp_path / "a.tif", GREY)
    os.mkfifo(f"{path}{ending}")
    with pytest.raises(DataError, match=rf"a\.tif\{ending} is not a TIFF, so it is refused"):
        read_rgb(path, any_format=any_format)
