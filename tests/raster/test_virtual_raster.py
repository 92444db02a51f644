"""A VRT of one's own files is read as they are; one that reaches for more is refused before GDAL opens it."""

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.shutil import copy

from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.errors import DataError
from mm_ovseg.raster import open_raster, read_rgb

RGB = np.random.default_rng(0).integers(1, 256, (40, 64, 3), dtype=np.uint8)
PLACE = Affine(10, 0, 500_000, 0, -10, 4_000_000)


def band(index, *sources, attributes="", more=""):
    return (
        f'<VRTRasterBand dataType="Byte" band="{index}" {attributes}>{more}'
        + "".join(f"<SimpleSource>{source}</SimpleSource>" for source in sources)
        + "</VRTRasterBand>"
    )


def source(name, *, index=1, relative=1, left=None, attributes=""):
    """A source; where ``left`` is given, 32 columns of it from that column of the mosaic on."""
    place = "" if left is None else '<SrcRect xOff="0" yOff="0" xSize="32" ySize="40"/>'
    place += "" if left is None else f'<DstRect xOff="{left}" yOff="0" xSize="32" ySize="40"/>'
    name = f'<SourceFilename relativeToVRT="{relative}" {attributes}>{name}</SourceFilename>'
    return f"{name}<SourceBand>{index}</SourceBand>{place}"


def dataset(*bands, attributes=""):
    place = f"<SRS>EPSG:32633</SRS><GeoTransform>{', '.join(map(str, PLACE.to_gdal()))}</GeoTransform>"
    return f'<VRTDataset rasterXSize="64" rasterYSize="40" {attributes}>{place}{"".join(bands)}</VRTDataset>'


@pytest.fixture
def tiles(tmp_path, write_raster):
    """Two GeoTIFFs beside each other, in a folder of their own."""
    (tmp_path / "tiles").mkdir()
    for name, left in (("west", 0), ("east", 32)):
        path = tmp_path / "tiles" / f"{name}.tif"
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=3,
            width=32,
            height=40,
            dtype="uint8",
            crs=CRS.from_epsg(32633),
            transform=PLACE @ Affine.translation(left, 0),
        ) as file:
            file.write(RGB[:, left : left + 32].transpose(2, 0, 1))
    return tmp_path


def mosaic():
    sides = (("west", 0), ("east", 32))
    bands = ([source(f"tiles/{name}.tif", index=index, left=left) for name, left in sides] for index in (1, 2, 3))
    return dataset(*(band(index, *sources) for index, sources in enumerate(bands, start=1)))


def test_a_mosaic_is_the_image_that_its_tiles_are(tiles):
    (tiles / "mosaic.vrt").write_text(mosaic())
    np.testing.assert_array_equal(read_rgb(tiles / "mosaic.vrt")[0], RGB)
    with SceneSource(tiles / "mosaic.vrt", None) as scene:
        np.testing.assert_array_equal(scene.read(3, 5, 30, 50).image, RGB[3:33, 5:55])
        assert scene.grid.crs.to_epsg() == 32633 and scene.grid.transform == PLACE


def test_what_gdal_writes_is_read(tiles, monkeypatch):
    """Statistics, colour interpretation, metadata, nodata, and a path with its folder."""
    with rasterio.open(tiles / "tiles" / "west.tif", "r+") as file:
        file.nodata = 0
        file.update_tags(AREA_OR_POINT="Area", note="of the west")
        file.stats()
    for place in (tiles, tiles / "tiles"):
        copy(tiles / "tiles" / "west.tif", place / "one.VRT", driver="VRT")
        monkeypatch.chdir(place)
        np.testing.assert_array_equal(read_rgb("one.VRT")[0], RGB[:, :32])


@pytest.mark.parametrize(
    "text, words",
    [
        (dataset(band(1, source("/vsicurl/http://127.0.0.1:9/a.tif", relative=0))), "a mosaic of /vsicurl/"),
        (dataset(band(1, source("missing.tif"))), "missing.tif does not exist"),
        (dataset(band(1, source("secret.txt"))), "secret.txt, which cannot be read as a GeoTIFF"),
        (dataset(band(1, source("tiles/west.tif", relative=0))), "'tiles/west.tif' without saying in which folder"),
        (dataset(band(1, source("b.vrt"))), "a mosaic of another"),
        (dataset(band(1, source("tiles/west.tif", attributes='subdataset="1"'))), r"with the attribute subdataset"),
        (dataset(band(1, source("tiles/west.tif"), attributes='subClass="VRTDerivedRasterBand"')), "VRTDerivedRaster"),
        (dataset(band(1, source("tiles/west.tif"), more="<PixelFunctionCode>x</PixelFunctionCode>")), "PixelFunction"),
        (dataset(band(1, source("tiles/west.tif")), attributes='subClass="VRTWarpedDataset"'), "VRTWarpedDataset"),
        (dataset(band(1, "<OpenOptions/>" + source("tiles/west.tif"))), r"\(OpenOptions\)"),
        (dataset(band(1, "<![CDATA[x]]>" + source("tiles/west.tif"))), "is not a VRT file"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + dataset(), "is not a VRT file"),
        ("<GDAL_WMS/>", "is not a VRT file"),
        ("<VRTDataset>", "cannot be read as a VRT file"),
        ("", r"is an empty file \(0 bytes\)"),
        (b"\xff\xfe", "cannot be read as a VRT file"),
    ],
)
def test_anything_else_is_refused(tiles, text, words):
    (tiles / "secret.txt").write_text("secret")
    (tiles / "b.vrt").write_text(mosaic())
    (tiles / "a.vrt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=words) as refused, open_raster(tiles / "a.vrt"):
        pass
    assert str(refused.value).startswith(f"{tiles / 'a.vrt'} ")


def test_a_picture_that_is_a_text_too_is_no_source(tiles):
    """The bytes of a JPEG may hold what makes GDAL take the file for a VRT."""
    with rasterio.open(tiles / "a.jpg", "w", driver="JPEG", count=3, width=64, height=40, dtype="uint8") as file:
        file.write(RGB.transpose(2, 0, 1))
    (tiles / "a.vrt").write_text(dataset(band(1, source("a.jpg"))))
    with pytest.raises(DataError, match=r"a\.jpg, which cannot be read as a GeoTIFF, PNG or JPEG 2000"):
        read_rgb(tiles / "a.vrt")
    with open_raster(tiles / "a.jpg") as picture:
        assert picture.shape == (40, 64)


def test_blocks_of_a_source_are_limited_too(tiles, monkeypatch):
    (tiles / "mosaic.vrt").write_text(mosaic())
    monkeypatch.setenv("MM_OVSEG_MAX_PIXELS", "3000")
    with pytest.raises(DataError, match=r"west\.tif is stored in blocks of 3840 values"):
        read_rgb(tiles / "mosaic.vrt")


def test_in_any_format_a_mosaic_may_be_of_anything_local(tmp_path, write_raster):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    write_raster(tmp_path / "a.tif", grey)
    copy(str(tmp_path / "a.tif"), str(tmp_path / "a.img"), driver="ENVI")
    copy(str(tmp_path / "a.img"), str(tmp_path / "inner.vrt"), driver="VRT")
    text = (tmp_path / "inner.vrt").read_text()
    (tmp_path / "outer.vrt").write_text(text.replace(">a.img<", ">inner.vrt<"))
    for name in ("a.img", "inner.vrt", "outer.vrt"):
        np.testing.assert_array_equal(read_rgb(tmp_path / name, any_format=True)[0][..., 0], grey)
        with pytest.raises(DataError, match="convert it with gdal_translate|cannot be read as a GeoTIFF|of another"):
            read_rgb(tmp_path / name)
    (tmp_path / "outer.vrt").write_text(text.replace(">a.img<", ">outer.vrt<"))
    with pytest.raises(DataError, match="a mosaic of itself"):
        read_rgb(tmp_path / "outer.vrt", any_format=True)
