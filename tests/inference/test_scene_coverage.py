"""What each pixel of a map rests on: scenes of SAR alone, missing RGB, and clouds."""

import json
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.inference import scene as scene_module
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor
from tests.conftest import ROOT
from tests.inference.test_scene import CLASSES, StubPredictor, read, write

OPTIONS = {"window": 40, "overlap": 0.25, "batch_size": 3}
SHAPE = (90, 75)
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]
HAS_RGB, HAS_SAR, IS_CLOUDY = ROWS >= 30, COLUMNS < 50, (ROWS + COLUMNS) % 60 < 25
EXPECTED = np.where(
    HAS_RGB,
    np.where(IS_CLOUDY, np.where(HAS_SAR, 4, 5), np.where(HAS_SAR, 2, 1)),
    np.where(HAS_SAR, 3, 0),
)


@pytest.fixture
def predictor(monkeypatch):
    monkeypatch.setattr(scene_module, "Predictor", StubPredictor)
    return ScenePredictor(load_config(ROOT / "projects/laptop/configs/mm_ovseg.yaml", ["MODEL.DEVICE", "cpu"]), CLASSES)


@pytest.fixture
def files(tmp_path):
    """RGB, without the first 30 rows, SAR of the first 50 columns, and a cloud mask."""
    generator = np.random.default_rng(0)
    values = generator.integers(1, 255, (2, *SHAPE), dtype=np.uint8)
    rgb = write(tmp_path / "rgb.tif", np.stack([values[0] * HAS_RGB] * 3), nodata=0)
    sar = write(tmp_path / "sar.tif", values[1] * HAS_SAR, nodata=0)
    return SimpleNamespace(rgb=rgb, sar=sar, clouds=write(tmp_path / "clouds.tif", IS_CLOUDY.astype(np.uint8)))


def coverage_beside(output):
    return read(output.with_name(f"{output.stem}_coverage.tif"))[0]


def pixels(report):
    return {name: entry["pixels"] for name, entry in report["coverage"].items()}


def test_a_map_of_sar_alone(predictor, files, tmp_path):
    output = tmp_path / "map.tif"
    report = predictor.segment(None, files.sar, output, SceneOptions(**OPTIONS))
    np.testing.assert_array_equal(coverage_beside(output), np.where(HAS_SAR, 3, 0))
    scores = read(files.sar)[0] / 255
    expected = np.stack([1 - scores, np.full(SHAPE, 0.5), scores]).argmax(axis=0)
    np.testing.assert_array_equal(read(output)[0], np.where(HAS_SAR, expected, 255))
    assert report["shift"] is None and report["covered_by_sar_file"] == 1
    assert report["coverage"]["sar_only"] == {
        "pixels": HAS_SAR.sum(), "hectares": pytest.approx(0.01 * HAS_SAR.sum(), rel=2e-3), "share": 1.0
    }  # fmt: skip
    with rasterio.open(output) as file, rasterio.open(files.sar) as given:
        assert (file.crs, file.transform, file.shape) == (given.crs, given.transform, given.shape)
    assert predictor.finished_report(None, files.sar, output, SceneOptions(**OPTIONS)) is not None
    assert predictor.finished_report(files.sar, None, output, SceneOptions(**OPTIONS)) is None


def test_a_map_of_sar_alone_at_another_sampling_distance(predictor, files, tmp_path):
    predictor.segment(None, files.sar, tmp_path / "map.tif", SceneOptions(ground_sampling_distance=30.0, **OPTIONS))
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.shape == (30, 25) and file.transform.a == 30
    np.testing.assert_array_equal(coverage_beside(tmp_path / "map.tif")[:, :16], 3)


def test_where_coverage_says_sar_only_the_answer_is_that_of_a_run_without_rgb(make_cfg, tmp_path):
    torch.manual_seed(0)
    predictor = ScenePredictor(make_cfg(), CLASSES)
    generator = np.random.default_rng(0)
    values = generator.integers(1, 255, (3, 56, 80), dtype=np.uint8)
    sar = write(tmp_path / "sar.tif", generator.integers(1, 255, (56, 80), dtype=np.uint8), nodata=0)
    full = write(tmp_path / "full.tif", values, nodata=0)
    values[:, :, 40:] = values[:, 10:13, 10:20] = 0
    half = write(tmp_path / "half.tif", values, nodata=0)
    probabilities = {}
    options = SceneOptions(window=32, overlap=0.25, batch_size=2, probabilities=True)
    for rgb in (None, full, half):
        predictor.segment(rgb, sar, tmp_path / "map.tif", options)
        probabilities[rgb] = read(tmp_path / "map_probabilities.tif").astype(int)
    alone = coverage_beside(tmp_path / "map.tif") == 3
    np.testing.assert_array_equal(alone, values[0] == 0)
    difference = np.abs(probabilities[half] - probabilities[None])
    # Percent of scores that are equal but for rounding.
    assert difference[:, alone].max() <= 1 and difference[:, alone].mean() < 1e-3
    assert difference[:, ~alone].max() > 1
    # Windows that RGB covers whole are as they were.
    np.testing.assert_array_equal(probabilities[half][:, 32:, :24], probabilities[full][:, 32:, :24])


@pytest.mark.parametrize("masked", ["by values of its grid", "by classes on another grid"])
def test_what_each_pixel_rests_on(predictor, files, tmp_path, masked):
    clouds, values, same = files.clouds, None, np.ones(SHAPE, bool)
    if masked == "by classes on another grid":  # as a scene classification of 20 m beside images of 10 m
        larger = np.where(IS_CLOUDY[::2, ::2], 9, 4).astype(np.uint8)
        clouds = write(tmp_path / "scl.tif", larger, from_origin(500_000, 5_000_000, 20, 20))
        values, same = "scl", (ROWS % 2 == 0) & (COLUMNS % 2 == 0)
    options = SceneOptions(clouds=clouds, cloud_values=values, **OPTIONS)
    output = tmp_path / "map.tif"
    report = predictor.segment(files.rgb, files.sar, output, options)
    coverage = coverage_beside(output)
    np.testing.assert_array_equal(coverage[same], EXPECTED[same])
    assert list(pixels(report).values()) == [(coverage == value).sum() for value in range(6)]
    class_map = read(output)[0]
    np.testing.assert_array_equal(class_map == 255, EXPECTED == 0)
    for index, entry in enumerate(report["classes"]):
        for value, (name, part) in enumerate(entry["coverage"].items(), start=1):
            held = int(((class_map == index) & (coverage == value)).sum())
            assert part == {"pixels": held, "hectares": pytest.approx(0.01 * held, rel=2e-3)}, name
    mapped = (coverage > 0).sum()
    assert report["coverage"]["cloudy_rgb_only"]["share"] == pytest.approx((coverage == 5).sum() / mapped)
    assert json.loads(output.with_suffix(".json").read_text())["coverage"] == report["coverage"]
    # Clouds change what the map rests on, not the map.
    predictor.segment(files.rgb, files.sar, tmp_path / "without.tif", SceneOptions(**OPTIONS))
    np.testing.assert_array_equal(read(tmp_path / "without.tif")[0], class_map)
    unclouded = np.where(EXPECTED == 4, 2, np.where(EXPECTED == 5, 1, EXPECTED))
    np.testing.assert_array_equal(coverage_beside(tmp_path / "without.tif"), unclouded)


def test_the_coverage_names_its_values(predictor, files, tmp_path):
    predictor.segment(files.rgb, files.sar, tmp_path / "map.tif", SceneOptions(clouds=files.clouds, **OPTIONS))
    style = ElementTree.parse(tmp_path / "map_coverage.qml")
    labels = {int(entry.get("value")): entry.get("label") for entry in style.iter("paletteEntry")}
    assert sorted(labels) == list(range(6)) and labels[3] == "SAR alone" and len(set(labels.values())) == 6
    with rasterio.open(tmp_path / "map_coverage.tif") as file:
        assert file.tags(1)["value_4"] == "cloudy_rgb_and_sar" and file.nodata == 255
        colors = [file.colormap(1)[value] for value in range(6)]
    assert len(set(colors)) == 6


def test_pixels_without_data_in_the_mask_are_clear(predictor, files, tmp_path):
    unknown = np.where(COLUMNS < 20, 7, IS_CLOUDY).astype(np.uint8)
    clouds = write(tmp_path / "unknown.tif", unknown[:60], nodata=7)
    report = predictor.segment(
        files.rgb, files.sar, tmp_path / "map.tif", SceneOptions(clouds=clouds, cloud_values=(1, 7), **OPTIONS)
    )
    known = IS_CLOUDY & (COLUMNS >= 20) & (ROWS < 60)
    np.testing.assert_array_equal(np.isin(coverage_beside(tmp_path / "map.tif"), (4, 5)), known & HAS_RGB)
    assert any("covers 6" in warning and "the rest counts as clear" in warning for warning in report["warnings"])


def test_a_mask_without_any_of_the_values_that_mean_cloud_is_said(predictor, files, tmp_path):
    for values in ("scl", (8, 9)):  # of a mask of 0 and 1
        options = SceneOptions(clouds=files.clouds, cloud_values=values, **OPTIONS)
        (warning,) = predictor.segment(files.rgb, files.sar, tmp_path / "map.tif", options)["warnings"]
        assert "clouds.tif has none of the values that mean cloud (" in warning and "8, 9" in warning
    clear = write(tmp_path / "clear.tif", np.zeros(SHAPE, np.uint8))
    options = SceneOptions(clouds=clear, **OPTIONS)
    assert not predictor.segment(files.rgb, files.sar, tmp_path / "map.tif", options)["warnings"]


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_an_ended_run_goes_on_to_the_same_bytes(predictor, files, tmp_path, stop_after):
    options = {"clouds": files.clouds, "confidence": True, **OPTIONS}
    predictor.segment(files.rgb, files.sar, tmp_path / "whole.tif", SceneOptions(**options))
    assert len(predictor.model.batches) > stop_after
    predictor.model.batches.clear()
    predictor.model.stop_after = stop_after
    with pytest.raises(KeyboardInterrupt):
        predictor.segment(files.rgb, files.sar, tmp_path / "map.tif", SceneOptions(**options))
    predictor.model.stop_after = None
    with pytest.raises(DataError, match="cloud_values, clouds differ"):
        other = {**options, "clouds": files.sar, "cloud_values": (1,)}
        predictor.segment(files.rgb, files.sar, tmp_path / "map.tif", SceneOptions(**other, resume=True))
    predictor.segment(files.rgb, files.sar, tmp_path / "map.tif", SceneOptions(**options, resume=True))
    for name in ("", "_coverage", "_confidence"):
        assert (tmp_path / f"map{name}.tif").read_bytes() == (tmp_path / f"whole{name}.tif").read_bytes()


def test_much_cloud_where_sar_has_no_data_is_said(predictor, files, tmp_path, caplog):
    report = predictor.segment(files.rgb, None, tmp_path / "map.tif", SceneOptions(clouds=files.clouds, **OPTIONS))
    share = report["coverage"]["cloudy_rgb_only"]["share"]
    assert share == pytest.approx(IS_CLOUDY[HAS_RGB].mean())
    (warning,) = report["warnings"]
    assert warning.startswith(f"{share:.0%} of the map is under cloud where SAR has no data") and warning in caplog.text


def test_what_cannot_be_used_is_one_sentence(predictor, files, tmp_path):
    def options(mask, *values, transform=None):
        place = {} if transform is None else {"transform": transform}
        return {"clouds": write(tmp_path / "mask.tif", mask, **place), "cloud_values": values or None}

    classes = (ROWS % 12).astype(np.uint8)
    beside_the_map = write(tmp_path / "map_coverage.tif", IS_CLOUDY.astype(np.uint8))
    for rgb, sar, make, error, message in (
        (None, None, dict, ConfigError, "no image; give --rgb, --sar or both"),
        (None, files.sar, lambda: {"clouds": files.clouds}, ConfigError, "there is no RGB; leave it out"),
        (files.rgb, None, lambda: {"clouds": "detect"}, ConfigError, "needs the band of near infrared"),
        (files.rgb, None, lambda: options(classes), DataError, "values 1, 2, 3, 4, 5, ... besides 0"),
        (files.rgb, None, lambda: options(classes, 1.5), ConfigError, "--cloud-values is"),
        (files.rgb, None, lambda: options(classes / 7), DataError, "not whole numbers; a cloud mask"),
        (
            files.rgb,
            None,
            lambda: options(np.stack([classes] * 3)),
            DataError,
            "3 bands of uint8; a cloud mask has one",
        ),
        (
            files.rgb,
            None,
            lambda: {**options(classes + 1), "cloud_values": "scl"},
            DataError,
            "has the value 12, but a",
        ),
        (files.rgb, None, lambda: options(classes, 1, transform=from_origin(0, 0, 10, 10)), DataError, "outside the"),
        (files.rgb, None, lambda: {"clouds": tmp_path / "gone.tif"}, DataError, "gone.tif"),
        (files.rgb, None, lambda: {"clouds": beside_the_map}, DataError, "map_coverage.tif .*the cloud mask"),
    ):
        with pytest.raises(error, match=message):
            predictor.segment(rgb, sar, tmp_path / "map.tif", SceneOptions(**OPTIONS, **make()))
        assert not (tmp_path / "map.tif").exists() and not (tmp_path / "map.tif.work").exists()
    predictor.model.needs_sar = False
    with pytest.raises(ConfigError, match="maps RGB alone, but the scene has only SAR"):
        predictor.segment(None, files.sar, tmp_path / "map.tif", SceneOptions(**OPTIONS))


class Detector:
    """omnicloudmask as far as it is used: bright near infrared is thick cloud, dark is shadow."""

    def __init__(self):
        self.shapes = []

    def predict_from_array(self, image, inference_device):
        assert image.dtype == np.float32 and len(image) == 3 and min(image.shape[1:]) >= 32
        self.shapes.append(image.shape)
        return np.where(image[2] > 200, 1, np.where(image[2] < 50, 3, 0)).astype(np.uint8)[None]


@pytest.fixture
def detector(monkeypatch):
    module = Detector()
    monkeypatch.setitem(sys.modules, "omnicloudmask", module)
    return module


@pytest.fixture
def four_bands(tmp_path):
    bands = np.random.default_rng(1).integers(1, 255, (4, 70, 20), dtype=np.uint8)
    return write(tmp_path / "rgbn.tif", bands, photometric="minisblack", nodata=0)


def test_detected_clouds(predictor, four_bands, detector, tmp_path, monkeypatch):
    monkeypatch.setattr("mm_ovseg.inference.cloud_detection.ROWS_AT_ONCE", 30)
    monkeypatch.setattr("mm_ovseg.inference.cloud_detection.MARGIN", 10)
    options = {"clouds": "detect", "near_infrared": 4, **OPTIONS}
    predictor.model.stop_after = 0
    with pytest.raises(KeyboardInterrupt):
        predictor.segment(four_bands, None, tmp_path / "map.tif", SceneOptions(**options))
    assert detector.shapes == [(3, 40, 32), (3, 50, 32), (3, 32, 32)]
    predictor.model.stop_after = None
    predictor.segment(four_bands, None, tmp_path / "map.tif", SceneOptions(**options, resume=True))
    assert len(detector.shapes) == 3  # once
    infrared = read(four_bands)[3]
    cloudy = (infrared > 200) | (infrared < 50)
    np.testing.assert_array_equal(coverage_beside(tmp_path / "map.tif"), np.where(cloudy, 5, 1))


def test_clouds_that_cannot_be_detected(predictor, four_bands, files, detector, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no network")

    output = tmp_path / "map.tif"
    for rgb, band, message in ((four_bands, 3, "--nir-band is 3 and RGB are bands 1, 2, 3 of 4"),
                               (files.rgb, 4, "--nir-band is 4 and RGB are bands 1, 2, 3 of 3")):  # fmt: skip
        with pytest.raises(DataError, match=message):
            predictor.segment(rgb, None, output, SceneOptions(clouds="detect", near_infrared=band, **OPTIONS))
    monkeypatch.setattr(detector, "predict_from_array", fail)
    options = SceneOptions(clouds="detect", near_infrared=4, **OPTIONS)
    with pytest.raises(DataError, match=r"rgbn\.tif cannot be detected \(.*no network\); give a cloud mask instead"):
        predictor.segment(four_bands, None, output, options)
    monkeypatch.setitem(sys.modules, "omnicloudmask", None)
    with pytest.raises(ConfigError, match=r"pip install 'mm_ovseg\[cloud-detection\]'"):
        predictor.segment(four_bands, None, output, options)
    assert not output.exists()
