"""Files of many types and formats: the right map, or one sentence."""

import os

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy

from mm_ovseg.errors import DataError
from mm_ovseg.raster import read_label
from tests.cases.rasters import DECIBELS, RGB, SAR, SIZE, vrt, write


def test_bands_of_different_types(segment, tmp_path, pair):
    plain, _ = segment(*pair)
    files = [
        write(tmp_path / "r.tif", RGB[0].astype(np.float64)),
        write(tmp_path / "g.tif", RGB[1].astype(np.int16)),
        write(tmp_path / "b.tif", RGB[2]),
    ]
    class_map, _ = segment(files, pair[1], opts=["INPUT.RGB.RANGE", "[0.0, 255.0]"])
    np.testing.assert_array_equal(class_map, plain)
    for name, band in zip("123", RGB, strict=True):
        write(tmp_path / f"{name}.tif", band)
    write(tmp_path / "db.tif", DECIBELS[0])
    kinds = ["Float32", "Byte", "Byte", "Byte", "UInt16"]
    stack = vrt(tmp_path / "stack.vrt", ["db.tif", "1.tif", "2.tif", "3.tif", "1.tif"], kinds=kinds)
    class_map, _ = segment(stack, pair[1], "--rgb-bands", 2, 3, 4)
    np.testing.assert_array_equal(class_map, plain)
    _, report = segment(pair[0], stack, opts=["INPUT.SAR.SCALE", "db", "INPUT.SAR.BANDS", "[1, 5]"])
    assert report["coverage"]["rgb_and_sar"]["pixels"] == SIZE**2
    message = segment(stack, pair[1], "--rgb-bands", 1, 2, 3, code=2)
    assert "holds float32 values; set INPUT.RGB.RANGE" in message


@pytest.mark.parametrize("name, words", [
    ("S1A.SAFE", "is a folder; give the image in it, such as {folder}/S1A.SAFE/measurement/vv.tiff"),
    ("empty_folder", "is a folder; give the image in it."),
    ("https://example.com/sar.tif", "is an address; download the file first"),
    ("s3://bucket/sar.tif", "is an address; download the file first"),
    ("/vsizip/x.zip/sar.tif", "vsizip paths are not read; unpack"),
    ("NETCDF:x.nc:vv", "does not exist"),
    ("fifo", "is not a regular file"),
    ("/dev/zero", "is not a regular file"),
    ("empty.tif", "is an empty file (0 bytes)"),
    ("none.tif", "does not exist; check the path"),
    ("text.tif", "cannot be read as a PNG, JPEG, GeoTIFF or JPEG 2000 image"),
])  # fmt: skip
def test_what_is_not_an_image_file(segment, tmp_path, pair, name, words):
    (tmp_path / "empty_folder").mkdir()
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("no pixels")
    os.mkfifo(tmp_path / "fifo")
    write(tmp_path / "S1A.SAFE" / "measurement" / "vv.tiff", SAR)
    path = tmp_path / name if (tmp_path / name).exists() or name == "none.tif" else name
    message = segment(pair[0], path, code=2)
    assert str(path) in message and words.format(folder=tmp_path) in message
    assert words.format(folder=tmp_path) in segment(path, pair[1], code=2)


def test_single_look_complex_images(segment, tmp_path, pair):
    for dtype in ("complex64", "complex_int16"):
        slc = write(tmp_path / f"{dtype}.tif", (SAR[0] + 2j).astype(np.complex64), dtype=dtype)
        for opts in ((), ("INPUT.SAR.SCALE", "amplitude"), ("INPUT.SAR.SCALE", "power", "INPUT.SAR.BANDS", "[1]")):
            assert "holds complex values; write their amplitude" in segment(pair[0], slc, opts=opts, code=2)


def test_formats_of_ones_own_are_read_from_the_command_line(segment, tmp_path, pair):
    plain, _ = segment(*pair)
    for driver, suffix in (("ENVI", ".img"), ("VRT", ".vrt"), ("HFA", ".hfa")):
        path = tmp_path / f"other{suffix}"
        copy(str(pair[1]), str(path), driver=driver)
        np.testing.assert_array_equal(segment(pair[0], path)[0], plain)
    with pytest.raises(DataError, match="allow its format with MM_OVSEG_GDAL_DRIVERS"):
        read_label(tmp_path / "other.img", num_classes=256)


def test_rasters_within_a_file(segment, tmp_path, pair):
    with rasterio.Env() as environment:
        if "netCDF" not in environment.drivers():
            pytest.skip("this GDAL has no netCDF")
    plain, _ = segment(*pair)
    path = tmp_path / "one.nc"
    copy(str(pair[1]), str(path), driver="netCDF")
    for name in (path, f'NETCDF:"{path}":Band1', f"NETCDF:{path}:Band1"):
        np.testing.assert_array_equal(segment(pair[0], name)[0], plain)
    several = tmp_path / "several.nc"
    two = write(tmp_path / "two.tif", np.concatenate([SAR, SAR]))
    copy(str(two), str(several), driver="netCDF")
    message = segment(pair[0], several, code=2)
    assert f"{several} contains no raster itself but 2 within it; give one of them, such as " in message
    assert segment(pair[0], message.split("such as ")[1].removesuffix("."))[0].shape == (SIZE, SIZE)
    np.testing.assert_array_equal(segment(pair[0], f'NETCDF:"{several}":Band2')[0], plain)
    with pytest.raises(DataError, match="is a raster within .*, which is not read here; write it to a GeoTIFF"):
        read_label(f'NETCDF:"{path}":Band1', num_classes=256)
