"""What `mm-ovseg dataset clouds` keeps of a file, whatever its type and format."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from mm_ovseg.data import cloudy_images
from mm_ovseg.data.clouds import CloudyImage
from mm_ovseg.raster import check_same_grid, read_raster_info, read_rgb
from tests.cli.cloudy_files import GRID, RGB, SENTINEL, ground, one, read, run, write


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_the_place_on_the_ground_is_kept(tmp_path, suffix):
    path = write(tmp_path / "clear" / f"a{suffix}", ground(), **GRID)
    done, _ = one(tmp_path, path)
    before, after = read_raster_info(path), read_raster_info(done)
    assert after.grid == before.grid and None not in (after.grid.crs, after.grid.transform)
    (mask,) = (tmp_path / "out" / "cloud_masks").glob("a.*[!l]")
    check_same_grid(before, read_raster_info(mask))
    assert read_raster_info(mask).grid.crs == before.grid.crs


def test_the_order_of_bands_and_the_bands_beyond_are_kept(tmp_path):
    bands = ground(4)
    bands[2] += 100  # red
    meanings = (ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined)
    path = write(tmp_path / "clear" / "a.tif", bands, meanings=meanings, photometric="minisblack")
    done, mask = one(tmp_path, path)
    after, kept = read(done)
    assert kept == meanings
    assert np.array_equal(after[3], bands[3])
    clear = mask == 0
    assert (after[:3, mask > 50] != bands[:3, mask > 50]).mean() > 0.9
    assert after[2, clear].mean() > after[0, clear].mean() + 50


@pytest.mark.parametrize("nodata", [0, 255])
def test_no_data_stays_no_data_and_nothing_else_becomes_it(tmp_path, nodata):
    bands = ground()
    bands[:, :20, :30] = nodata
    path = write(tmp_path / "clear" / "a.tif", bands, nodata=nodata)
    done, mask = one(tmp_path, path, "--cover", 1, 1)
    assert set(read_raster_info(done).nodata) == {nodata}
    assert (read(done)[0][:, :20, :30] == nodata).all() and not mask[:20, :30].any()
    assert np.array_equal(read_rgb(done)[1], read_rgb(path)[1])


@pytest.mark.parametrize("nodata", [0, 7, 255])
def test_a_cloud_as_white_as_no_data_stays_data(tmp_path, monkeypatch, nodata):
    bands = ground()
    bands[:, :20, :30] = nodata
    path = write(tmp_path / "clear" / "a.tif", bands, nodata=nodata)

    def cover_all(image, valid, seed):
        image = np.where(valid[..., None], np.uint8(nodata), image)
        return CloudyImage(image, valid.astype(np.float32), np.zeros(valid.shape, np.float32))

    monkeypatch.setattr(cloudy_images, "build_clouds", lambda *arguments: cover_all)
    done, _ = one(tmp_path, path)
    image, valid = read_rgb(done)
    assert np.array_equal(valid, read_rgb(path)[1])
    assert (abs(image[valid].astype(int) - nodata) <= 1).all()


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_alpha_is_kept(tmp_path, suffix):
    bands = ground(4)
    bands[3] = 255
    bands[3, :20, :30] = 0
    path = write(tmp_path / "clear" / f"a{suffix}", bands, meanings=(*RGB, ColorInterp.alpha))
    done, mask = one(tmp_path, path, "--cover", 1, 1)
    after, meanings = read(done)
    assert meanings == (*RGB, ColorInterp.alpha) and np.array_equal(after[3], bands[3])
    assert np.array_equal(after[:, :20, :30], bands[:, :20, :30]) and not mask[:20, :30].any()


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_a_mask_beside_the_bands_is_kept(tmp_path, suffix):
    valid = np.ones((70, 80), bool)
    valid[:20, :30] = False
    path = write(tmp_path / "clear" / f"a{suffix}", ground(), mask=valid)
    done, _ = one(tmp_path, path)
    assert np.array_equal(read_rgb(done)[1], valid)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize("dtype, settings", [(np.uint8, ()), (np.uint16, ("--rgb-range", 0, 2550))])
def test_grey_images_become_rgb_of_their_type(tmp_path, suffix, dtype, settings):
    grey = ground(1).astype(dtype) * (1 if dtype is np.uint8 else 10)
    grey[:, :20, :30] = 0
    path = write(tmp_path / "clear" / f"a{suffix}", grey, nodata=0)
    done, mask = one(tmp_path, path, *settings, "--cover", 0.3, 0.4)
    after, meanings = read(done)
    assert after.shape == (3, 70, 80) and after.dtype == dtype and meanings == RGB
    assert set(read_raster_info(done).nodata) == {0}
    dark = (mask == 0) & (after == grey).all(axis=0)
    assert dark.mean() > 0.2 and (after[:, mask > 170] > 0.4 * 255 * (1 if dtype is np.uint8 else 10)).all()
    value_range = settings[1:]
    assert np.array_equal(read_rgb(done, value_range=value_range)[1], read_rgb(path, value_range=value_range)[1])


def test_a_palette_becomes_rgb_and_what_has_no_data_transparent(tmp_path):
    indices = (ground(1) % 4).astype(np.uint8)
    path = write(tmp_path / "clear" / "a.tif", indices, nodata=3, photometric="palette")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {index: (20 * index, 10, 30, 255) for index in range(4)})
    done, mask = one(tmp_path, path, "--cover", 0.3, 0.4)
    after, meanings = read(done)
    assert meanings == (*RGB, ColorInterp.alpha)
    clear = (mask == 0) & (indices[0] == 2) & (after[0] == 40)
    assert clear.any() and (after[1:3, clear] == [[10], [30]]).all()
    assert np.array_equal(read_rgb(done)[1], indices[0] != 3)


def test_a_mask_and_a_nodata_value_are_both_kept(tmp_path):
    bands, valid = ground(), np.ones((70, 80), bool)
    bands[:, 40:50] = 0
    valid[:20, :30] = False
    path = write(tmp_path / "clear" / "a.tif", bands, mask=valid, nodata=0)
    done, _ = one(tmp_path, path, "--cover", 1, 1)
    expected = valid.copy()
    expected[40:50] = False
    assert np.array_equal(read_rgb(done)[1], expected) and np.array_equal(read_rgb(path)[1], expected)


@pytest.mark.parametrize("dtype, low, high, extra", [
    (np.uint16, 0, 2550, {}),
    (np.uint16, 0.0, 0.255, SENTINEL),
    (np.int16, -100, 2450, {}),
    (np.float32, 0.0, 1.0, {}),
])  # fmt: skip
def test_files_of_other_types_stay_in_their_type(tmp_path, capsys, dtype, low, high, extra):
    """Only pixels under clouds change; read again with the same range it is the cloudy image."""
    scale, offset = (extra["scales"][0], extra["offsets"][0]) if extra else (1, 0)
    bands = (((low + ground(5) / 255 * (high - low)) - offset) / scale).astype(dtype)
    bands[:, :20, :30] = 0
    path = write(tmp_path / "clear" / "a.tif", bands, nodata=0, **GRID)
    with rasterio.open(path, "r+") as file:
        for key, value in extra.items():
            setattr(file, key, value)
    run(path.parent, tmp_path / "none", status=1)
    assert f"a.tif holds {np.dtype(dtype)} values; set INPUT.RGB.RANGE" in capsys.readouterr().err
    done, mask = one(tmp_path, path, "--rgb-range", low, high, "--rgb-bands", 4, 3, 2, "--cover", 0.4, 0.6, "--seed", 1)
    after, _ = read(done)
    assert after.dtype == dtype and read_raster_info(done).grid.transform == GRID["transform"]
    assert np.array_equal(after[[0, 4]], bands[[0, 4]]) and np.array_equal(after[:, :20, :30], bands[:, :20, :30])
    with rasterio.open(done) as file, rasterio.open(path) as original:
        assert file.scales == original.scales and file.offsets == original.offsets
        assert file.descriptions == original.descriptions and set(file.nodatavals) == {0}
    settings = {"bands": (4, 3, 2), "value_range": (low, high)}
    (image, valid), (expected, expected_valid) = read_rgb(done, **settings), read_rgb(path, **settings)
    assert np.array_equal(valid, expected_valid) and not valid.all()
    same = (image == expected).all(axis=2)
    assert np.array_equal(after[1:4, same], bands[1:4, same])
    below = (mask == 0) & valid
    assert (same & below).any() and (image[below] <= expected[below]).all()  # there is shadow at most
    assert image[mask > 170].mean() > expected[mask > 170].mean() + 30


def test_a_shadow_as_dark_as_no_data_stays_dark_data(tmp_path, monkeypatch):
    """In a file of fractions the next whole number would be white."""
    bands = (ground() / 255).astype(np.float32)
    bands[:, :20, :30] = 0
    path = write(tmp_path / "clear" / "a.tif", bands, nodata=0)

    def darken(image, valid, seed):
        return CloudyImage(np.zeros_like(image), *[np.zeros(valid.shape, np.float32)] * 2)

    monkeypatch.setattr(cloudy_images, "build_clouds", lambda *arguments: darken)
    done, _ = one(tmp_path, path, "--rgb-range", 0, 1)
    image, valid = read_rgb(done, value_range=(0, 1))
    assert np.array_equal(valid, read_rgb(path, value_range=(0, 1))[1]) and image.max() <= 1


def test_a_range_for_other_files_leaves_those_of_8_bits(tmp_path):
    """A folder may hold both."""
    for name, bands in (("a", ground()), ("b", ground().astype(np.uint16) * 10)):
        write(tmp_path / "clear" / f"{name}.tif", bands)
    run(tmp_path / "clear", tmp_path / "out", "--rgb-range", 0, 2550, "--cover", 0.3, 0.4, "--seed", 2)
    run(tmp_path / "clear", tmp_path / "plain", "--cover", 0.3, 0.4, "--seed", 2, status=1)
    first, second = (read(tmp_path / "out" / "rgb_clouds" / f"{name}.tif")[0] for name in "ab")
    assert first.dtype == np.uint8 and second.dtype == np.uint16
    assert np.array_equal(first, read(tmp_path / "plain" / "rgb_clouds" / "a.tif")[0])
    mask = read(tmp_path / "out" / "cloud_masks" / "a.tif")[0][0]
    untouched = (first == ground()).all(axis=0)
    assert untouched.mean() > 0.2 and (first[:, mask > 170] > 120).all()


def test_a_file_that_is_stored_the_other_way_up_gets_the_same_clouds(tmp_path):
    turned = {"crs": GRID["crs"], "transform": GRID["transform"] @ rasterio.Affine(1, 0, 0, 0, -1, 70)}
    write(tmp_path / "north" / "a.tif", ground(), **GRID)
    write(tmp_path / "south" / "a.tif", ground()[:, ::-1], **turned)
    results = []
    for name in ("north", "south"):
        run(tmp_path / name, tmp_path / f"{name}_out")
        results.append(read_rgb(tmp_path / f"{name}_out" / "rgb_clouds" / "a.tif")[0])
        check_same_grid(
            read_raster_info(tmp_path / f"{name}_out" / "rgb_clouds" / "a.tif"),
            read_raster_info(tmp_path / name / "a.tif"),
        )
    assert np.array_equal(*results)
