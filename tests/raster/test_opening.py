import pickle

import numpy as np
import pytest

from mm_ovseg.errors import DataError
from mm_ovseg.raster import open_raster, read_label, read_rgb, read_sar

READERS = [read_rgb, read_sar, lambda path: read_label(path, num_classes=256)]


@pytest.fixture
def whole(tmp_path, write_raster):
    """A function ``suffix -> bytes`` of an image of noise."""
    grey = np.random.default_rng(0).integers(0, 255, (128, 128), dtype=np.uint8)
    return lambda suffix: write_raster(tmp_path / f"whole{suffix}", grey).read_bytes()


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_damaged_files_are_named(tmp_path, whole, read, suffix):
    content = whole(suffix)
    damaged = {
        "empty": (b"", r"is an empty file \(0 bytes\); replace it"),
        "text": (b"<html>not found</html>", "cannot be read as a PNG, JPEG, GeoTIFF or JPEG 2000 image; convert it"),
        "header": (content[:20], r"cannot be read \(.*\); it may be damaged: replace it"),
        "truncated": (content[:-4000], r"cannot be read \(.*\); it may be damaged: replace it"),
    }
    for kind, (content, words) in damaged.items():
        path = tmp_path / f"{kind}{suffix}"
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"{kind}\{suffix} {words}") as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert type(pickle.loads(pickle.dumps(caught.value))) is DataError


@pytest.mark.parametrize("read", READERS)
def test_what_is_not_a_file(tmp_path, whole, read):
    with pytest.raises(DataError, match=r"missing\.tif does not exist"):
        read(tmp_path / "missing.tif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty is a folder; give the image in it\.$"):
        read(tmp_path / "empty")
    whole(".tif")
    (tmp_path / "products" / "S2A.SAFE").mkdir(parents=True, exist_ok=True)
    with pytest.raises(DataError, match=r"products is a folder of products; give one of them, such as .*S2A\.SAFE\.$"):
        read(tmp_path / "products")
    with pytest.raises(DataError, match=rf"{tmp_path} is a folder; give the image in it, such as .*whole\.tif"):
        read(tmp_path)
    with pytest.raises(DataError, match="/dev/zero is not a regular file; give an image file"):
        read("/dev/zero")


def test_what_gdal_says_later_is_an_error_of_the_file_too(tmp_path, whole):
    path = tmp_path / "a.tif"
    path.write_bytes(whole(".tif")[:-4000])
    with pytest.raises(DataError, match=r"a\.tif cannot be read"), open_raster(path) as dataset:
        assert dataset.width == 128
        dataset.read()


def test_errors_that_are_not_gdals_pass(tmp_path, whole):
    whole(".tif")
    with pytest.raises(ZeroDivisionError), open_raster(tmp_path / "whole.tif"):
        _ = 1 / 0
