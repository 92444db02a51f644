"""Scenes of products: the map of the same data as GeoTIFF, with the product's own clouds and dates."""

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from mm_ovseg.engine import load_config
from mm_ovseg.errors import DataError
from mm_ovseg.inference import scene as scene_module
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor
from mm_ovseg.raster import StackedBand, write_band_stack
from tests.conftest import ROOT
from tests.inference.test_scene import CLASSES, StubPredictor, read, write
from tests.products.landsat_product import CLOUD, write_landsat
from tests.products.sar_products import write_hyp3
from tests.products.sentinel2_product import write_sentinel2
from tests.products.x_band_products import write_umbra

OPTIONS = {"window": 40, "overlap": 0.25, "batch_size": 2}
SHAPE = (60, 80)
PLACE = Affine(10, 0, 600_000, 0, -10, 5_100_000)
REFLECTANCE = np.random.default_rng(0).integers(50, 3500, (3, *SHAPE)) / 10_000
IS_CLOUDY = np.zeros((30, 40), bool)
IS_CLOUDY[5:12, 8:20] = True
SCL = np.where(IS_CLOUDY, 9, 5).astype(np.uint8)
SCL[28:, 36:] = 0


def make_predictor(monkeypatch, *overrides):
    monkeypatch.setattr(scene_module, "Predictor", StubPredictor)
    cfg = load_config(ROOT / "projects/laptop/configs/mm_ovseg.yaml", ["MODEL.DEVICE", "cpu", *overrides])
    return ScenePredictor(cfg, CLASSES)


@pytest.fixture
def predictor(monkeypatch):
    return make_predictor(monkeypatch)


@pytest.fixture
def sar(tmp_path):
    values = np.random.default_rng(1).integers(1, 255, SHAPE, dtype=np.uint8)
    return write(tmp_path / "sar.tif", values, PLACE, "EPSG:32632")


@pytest.fixture
def product(tmp_path):
    return write_sentinel2(tmp_path, REFLECTANCE, classes=SCL)


def files(folder, stem):
    return {path.name.removeprefix(stem): path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"}


def test_a_product_is_mapped_as_its_reflectance_in_a_geotiff(monkeypatch, predictor, product, sar, tmp_path):
    report = predictor.segment(product, sar, tmp_path / "maps" / "map.tif", SceneOptions(**OPTIONS))
    numbers = np.rint(REFLECTANCE * 10_000).astype(np.uint16)
    numbers[:, SCL.repeat(2, axis=0).repeat(2, axis=1) == 0] = 0
    plain = write(tmp_path / "plain.tif", numbers, PLACE, "EPSG:32632", nodata=0)
    clouds = write(
        tmp_path / "clouds.tif", IS_CLOUDY.repeat(2, axis=0).repeat(2, axis=1).astype(np.uint8), PLACE, "EPSG:32632"
    )
    other = make_predictor(monkeypatch, "INPUT.RGB.RANGE", [0.0, 3000.0])
    expected = other.segment(plain, sar, tmp_path / "plain" / "map.tif", SceneOptions(clouds=clouds, **OPTIONS))
    (tmp_path / "maps" / "map_images").rename(tmp_path / "images")
    made, wanted = (files(tmp_path / folder, "map") for folder in ("maps", "plain"))
    assert made.keys() == wanted.keys()
    for name in (".tif", "_coverage.tif"):
        np.testing.assert_array_equal(read(tmp_path / f"maps/map{name}"), read(tmp_path / f"plain/map{name}"))
    assert report["coverage"] == expected["coverage"] and report["coverage"]["cloudy_rgb_and_sar"]["pixels"] == 336
    assert report["images"]["rgb"]["sensor"] == "Sentinel-2A MSI"
    assert report["images"]["rgb"]["acquired"] == ["2022-01-25T10:52:29.024000+00:00"]
    assert expected["images"] == {}


def test_other_baselines_and_zips_give_the_same_map(predictor, sar, tmp_path):
    maps = []
    for index, options in enumerate(({"baseline": "02.09"}, {"baseline": "04.00"}, {"zipped": True})):
        (folder := tmp_path / str(index)).mkdir()
        given = write_sentinel2(folder, REFLECTANCE, classes=SCL, **options)
        predictor.segment(given, sar, folder / "map.tif", SceneOptions(**OPTIONS))
        maps.append(read(folder / "map.tif"))
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])


def test_the_clouds_of_a_product_can_be_replaced_or_ignored(predictor, product, sar, tmp_path):
    ignored = predictor.segment(product, sar, tmp_path / "a.tif", SceneOptions(clouds="none", **OPTIONS))
    assert ignored["coverage"]["cloudy_rgb_and_sar"]["pixels"] == 0
    all_cloudy = write(tmp_path / "clouds.tif", np.ones(SHAPE, np.uint8), PLACE, "EPSG:32632")
    own = predictor.segment(product, sar, tmp_path / "b.tif", SceneOptions(clouds=all_cloudy, **OPTIONS))
    assert own["coverage"]["rgb_and_sar"]["pixels"] == 0


def test_a_product_without_clouds_gives_no_warning(predictor, sar, tmp_path):
    clear = write_sentinel2(tmp_path, REFLECTANCE, classes=np.where(SCL == 9, 5, SCL).astype(np.uint8))
    assert not [
        warning
        for warning in predictor.segment(clear, sar, tmp_path / "map.tif", SceneOptions(**OPTIONS))["warnings"]
        if "cloud" in warning
    ]


def test_a_finished_map_of_a_product_is_recognised_until_the_product_changes(predictor, product, sar, tmp_path):
    output, options = tmp_path / "maps" / "map.tif", SceneOptions(**OPTIONS)
    assert predictor.finished_report(product, sar, output, options) is None
    assert not output.parent.exists()
    predictor.segment(product, sar, output, options)
    assert predictor.finished_report(product, sar, output, options) is not None
    write_sentinel2(tmp_path, REFLECTANCE / 2, classes=SCL)
    assert predictor.finished_report(product, sar, output, options) is None


def test_a_finished_map_is_recognised_until_the_clouds_of_the_product_change(predictor, tmp_path):
    product = write_landsat(tmp_path, REFLECTANCE)
    output, options = tmp_path / "maps" / "map.tif", SceneOptions(**OPTIONS)
    predictor.segment(product, None, output, options)
    assert predictor.finished_report(product, None, output, options) is not None
    with rasterio.open(next(product.glob("*_QA_PIXEL.TIF")), "r+") as file:
        file.write(np.full(SHAPE, CLOUD, np.uint16), 1)
    assert predictor.finished_report(product, None, output, options) is None


def test_what_a_product_says_of_its_unit_is_said_before_the_unit_is_asked_for(predictor, tmp_path, caplog):
    image = write_umbra(tmp_path, np.full(SHAPE, 300, np.uint16))
    with pytest.raises(DataError, match="set INPUT.SAR.SCALE"):
        predictor.segment(None, image, tmp_path / "map.tif", SceneOptions(**OPTIONS))
    assert (
        'INPUT.SAR.RANGE to the dB (20 log10 of its values) that become 0 and 255, such as "[49.0, 50.0]"'
        in caplog.text
    )


def test_a_mosaic_of_clouds_that_change_is_noticed(predictor, product, sar, tmp_path):
    clouds = write(tmp_path / "clouds.tif", np.ones(SHAPE, np.uint8), PLACE, "EPSG:32632")
    write_band_stack(tmp_path / "clouds.vrt", [StackedBand(files=(clouds,))])
    output, options = tmp_path / "maps" / "map.tif", SceneOptions(clouds=tmp_path / "clouds.vrt", **OPTIONS)
    predictor.segment(product, sar, output, options)
    assert predictor.finished_report(product, sar, output, options) is not None
    write(clouds, np.eye(*SHAPE, dtype=np.uint8), PLACE, "EPSG:32632")
    assert predictor.finished_report(product, sar, output, options) is None


def test_an_untrusted_file_cannot_be_a_product(monkeypatch, product, sar, tmp_path):
    monkeypatch.setattr(scene_module, "Predictor", StubPredictor)
    cfg = load_config(ROOT / "projects/laptop/configs/mm_ovseg.yaml", ["MODEL.DEVICE", "cpu"])
    predictor = ScenePredictor(cfg, CLASSES, any_format=False)
    with pytest.raises(DataError, match="is a folder"):
        predictor.segment(product, sar, tmp_path / "map.tif", SceneOptions(**OPTIONS))
    assert not (tmp_path / "map_images").exists()


def test_a_product_that_lacks_a_band_leaves_nothing_behind(predictor, product, sar, tmp_path):
    next(product.rglob("*_B03_10m.jp2")).unlink()
    with pytest.raises(DataError, match="no image of B03 at 10 m"):
        predictor.segment(product, sar, tmp_path / "maps" / "map.tif", SceneOptions(**OPTIONS))
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize("letters", ["gpuned", "gduned", "gauned"])
def test_a_radar_product_is_mapped_as_its_decibels_in_a_geotiff(monkeypatch, predictor, tmp_path, letters):
    power = (10 ** (np.random.default_rng(2).uniform(-2.6, 0.1, (2, *SHAPE)))).astype(np.float32)
    name = f"S1A_IW_20200101T000000_DVP_RTC10_G_{letters}_ABCD"
    product = write_hyp3(tmp_path, dict(zip(("VV", "VH"), power, strict=True)), name=name, place=PLACE, epsg=32632)
    report = predictor.segment(None, product, tmp_path / "maps" / "map.tif", SceneOptions(**OPTIONS))
    decibels = write(tmp_path / "decibels.tif", (10 * np.log10(power)).astype(np.float32), PLACE, "EPSG:32632")
    other = make_predictor(monkeypatch, "INPUT.SAR.SCALE", "db")
    other.segment(None, decibels, tmp_path / "plain" / "map.tif", SceneOptions(**OPTIONS))
    same = read(tmp_path / "maps/map.tif") == read(tmp_path / "plain/map.tif")
    assert same.mean() > 0.999  # the stub's classes change at a score, which rounding may cross
    assert report["images"]["sar"]["bands"] == ["VV", "VH"]
