import numpy as np
import pytest
import torch

from mm_ovseg.data.pair_reader import PairReader
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import Grid, SARReader, write_geotiff

RGB = np.random.default_rng(0).integers(1, 255, (6, 8, 3), dtype=np.uint8)
SAR = np.random.default_rng(1).integers(1, 255, (6, 8), dtype=np.uint8)


def test_files_arrays_and_mixtures_of_them_give_one_sample(tmp_path, write_raster):
    files = write_raster(tmp_path / "rgb.png", RGB), write_raster(tmp_path / "sar.png", SAR)
    reader = PairReader()
    for rgb, sar in ((files[0], files[1]), (str(files[0]), SAR), (RGB, files[1]), (RGB, SAR)):
        sample = reader.read(rgb, sar)
        np.testing.assert_array_equal(sample.image, RGB)
        np.testing.assert_array_equal(sample.sar_image, np.repeat(SAR[..., None], 3, axis=2))
        assert sample.image_valid.all() and sample.sar_valid.all() and sample.sem_seg is None


def test_a_pair_without_sar():
    sample = PairReader().read(RGB, None)
    np.testing.assert_array_equal(sample.image, RGB)
    assert sample.sar_image is None and sample.sar_valid is None


def test_sar_without_data_means_none_where_the_config_says_so(cfg, tmp_path, caplog):
    write_geotiff(tmp_path / "sar.tif", np.zeros((1, 6, 8), np.uint8), Grid(8, 6), valid=np.zeros((6, 8), bool))
    with pytest.raises(DataError, match=r"sar\.tif holds no data"):
        PairReader.from_config(cfg).read(RGB, tmp_path / "sar.tif")
    cfg.INPUT.SAR.MAY_BE_EMPTY = True
    reader = PairReader.from_config(cfg)
    sample = reader.read(RGB, tmp_path / "sar.tif")
    assert sample.image_valid.all() and not sample.sar_valid.any() and not sample.sar_image.any()
    assert not caplog.records
    with pytest.raises(DataError, match=r"sar\.tif holds no data"):
        reader.read(None, tmp_path / "sar.tif")


def test_a_pair_without_rgb(tmp_path, write_raster):
    for sar in (SAR, write_raster(tmp_path / "sar.png", SAR)):
        sample = PairReader().read(None, sar)
        assert sample.image.dtype == np.uint8 and sample.image.shape == (6, 8, 3) and not sample.image.any()
        assert sample.image_valid.dtype == bool and sample.image_valid.shape == (6, 8) and not sample.image_valid.any()
        np.testing.assert_array_equal(sample.sar_image, np.repeat(SAR[..., None], 3, axis=2))
        assert sample.sar_valid.all()


def test_a_unit_that_speckle_would_not_be_drawn_in(tmp_path):
    decibels = np.full((1, 6, 8), -12.5, np.float32)
    write_geotiff(tmp_path / "sar.tif", decibels, Grid(8, 6), units=["dB"])
    sample = PairReader().read(RGB, tmp_path / "sar.tif")
    np.testing.assert_allclose(sample.sar_image, 127.5)
    assert PairReader(sar=SARReader(scale="db"), fixed_sar_unit=True).read(RGB, tmp_path / "sar.tif") is not None
    with pytest.raises(DataError, match=r"sar\.tif declares its unit as db, .* set INPUT.SAR.SCALE db"):
        PairReader(fixed_sar_unit=True).read(RGB, tmp_path / "sar.tif")


def test_the_config_says_how_images_are_read(cfg):
    cfg.INPUT.RGB.BANDS, cfg.INPUT.RGB.RANGE = [3, 2, 1], [0.0, 51.0]
    cfg.INPUT.SAR.SCALE, cfg.INPUT.SAR.RANGE, cfg.INPUT.SAR.BANDS = "db", [-20.0, -10.0], [2]
    decibels = np.stack([np.zeros((6, 8)), np.full((6, 8), -15.0)], axis=2)
    sample = PairReader.from_config(cfg).read(RGB, decibels)
    np.testing.assert_array_equal(sample.image, np.minimum(RGB[..., ::-1].astype(int) * 5, 255))
    np.testing.assert_allclose(sample.sar_image, 127.5)
    cfg.INPUT.SAR.SCALE = "decibel"
    with pytest.raises(ConfigError, match=r"INPUT\.SAR\.SCALE is 'decibel'"):
        PairReader.from_config(cfg)


def test_what_is_no_pair(tmp_path, write_raster):
    reader = PairReader(sar=SARReader(scale="db"))
    small = write_raster(tmp_path / "small.tif", np.zeros((5, 8), np.float32))
    rgb = write_raster(tmp_path / "rgb.tif", RGB)
    for sar in (small, np.zeros((5, 8)), np.zeros((5, 8, 2))):
        with pytest.raises(DataError, match="RGB is 8x6 pixels and SAR 8x5; the images .* must have the same size"):
            reader.read(RGB, sar)
    with pytest.raises(DataError, match=r"rgb\.tif is 8x6 pixels and .*small\.tif 8x5"):
        reader.read(rgb, small)
    with pytest.raises(
        DataError, match=r"The SAR array holds no data \(every pixel is nodata\); leave this pair out\."
    ):
        reader.read(rgb, np.full((6, 8), np.nan))
    with pytest.raises(DataError, match="RGB is given as Tensor; give a path or a NumPy array"):
        reader.read(torch.zeros(6, 8, 3), SAR)
    with pytest.raises(DataError, match="neither RGB nor SAR"):
        reader.read(None, None)
    with pytest.raises(DataError, match=r"gone\.tif does not exist"):
        reader.read(RGB, tmp_path / "gone.tif")
