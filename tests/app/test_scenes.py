"""Scenes: the images that are shown, and what is said of files that cannot be used."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from mm_ovseg.app.messages import page_message
from mm_ovseg.app.reading import describe_reading, with_reading
from mm_ovseg.errors import ConfigError, DataError, MMOVSegError, StoppedError


def read(path):
    with rasterio.open(path) as file:
        return file.read(), file.overviews(1)


def test_the_images_are_what_the_model_sees(open_scene, write_image, shipped_cfg, monkeypatch):
    monkeypatch.setattr("mm_ovseg.app.scenes.PIXELS_AT_ONCE", 20_000)
    image = np.random.default_rng(1).integers(1, 255, (3, 700, 900), dtype=np.uint8)
    image[:, :50, :60] = 0
    sar = np.random.default_rng(2).normal(-12, 4, (2, 300, 400)).astype(np.float32)
    half = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 20, 20)}
    told = []
    scene = open_scene(
        write_image("rgb.tif", image=image, crs="EPSG:32633", transform=from_origin(500_000, 5_000_000, 10, 10)),
        write_image("sar.tif", image=sar, **half),
        cfg=with_reading(shipped_cfg, {"sar_unit": "dB"}),
        max_pixels=1e6,
        progress=lambda *done: told.append(done),
    )
    shown, overviews = read(scene.image("rgb"))
    assert np.array_equal(shown[:3], image) and (shown[3] == 255).all() and overviews == [2]
    shown, _ = read(scene.image("sar"))
    assert shown[3, :600, :800].all() and not shown[3, 600:].any() and not shown[3, :, 800:].any()
    expected = np.clip((sar + 25) / 25 * 255, 0, 255)  # the default range, in dB
    middle = shown[0, :600, :800].reshape(300, 2, 400, 2).mean(axis=(1, 3))
    assert np.corrcoef(middle.ravel(), expected[0].ravel())[0, 1] > 0.8
    assert told == sorted(told) and told[-1] == (200, 200, "reading") and len(told) > 50
    assert {path.name for path in scene.folder.iterdir()} == {"rgb.tif", "sar.tif"}
    about = scene.describe()
    assert (about["width"], about["height"], about["crs"], about["images"]) == (900, 700, "EPSG:32633", ["rgb", "sar"])
    assert about["meters_per_pixel"] == pytest.approx(10, rel=0.01) and about["name"] == "north"


def test_no_data_is_clear_in_overviews_too(open_scene, write_image):
    image = np.full((3, 600, 600), 200, np.uint8)
    image[:, ::2] = 0
    scene = open_scene(write_image("rgb.tif", image=image, nodata=0), max_pixels=1e6)
    with rasterio.open(scene.image("rgb"), overview_level=0) as file:
        assert abs(int(np.median(file.read(1))) - 200) <= 1  # not mixed with the black of no data


def test_a_scene_that_is_no_longer_wanted_leaves_nothing(open_scene, write_image, tmp_path, monkeypatch):
    monkeypatch.setattr("mm_ovseg.app.scenes.PIXELS_AT_ONCE", 1000)
    answers = iter([False, False, True])
    with pytest.raises(StoppedError):
        open_scene(write_image("rgb.tif"), should_stop=lambda: next(answers))
    assert not list(tmp_path.glob("scene_*"))


def refused(open_scene, tmp_path, *paths, cfg=None):
    with pytest.raises(MMOVSegError) as raised:
        open_scene(*paths, **({} if cfg is None else {"cfg": cfg}))
    assert not list(tmp_path.glob("scene_*"))
    return page_message(raised.value, {path: path.name for path in paths if path is not None})


def test_what_is_wrong_is_told_in_a_sentence(open_scene, write_image, tmp_path, shipped_cfg):
    (tmp_path / "text.png").write_text("no picture")
    assert refused(open_scene, tmp_path, tmp_path / "text.png").startswith("text.png cannot be read as a PNG")
    large = write_image("large.tif", 300, 400)
    assert "large.tif has 400x300 pixels, more than the 0.1 million" in refused(open_scene, tmp_path, large)
    message = refused(open_scene, tmp_path, write_image("rgb.png"), write_image("sar.png", height=32, bands=1))
    assert "rgb.png is 96x64 pixels and sar.png 96x32" in message
    deep = write_image("deep.tif", image=np.ones((3, 8, 8), np.uint16))
    message = refused(open_scene, tmp_path, deep)
    assert message.startswith(
        "deep.tif holds uint16 values; set the RGB range to the [low, high] that become 0 and 255"
    )
    message = refused(
        open_scene, tmp_path, write_image("rgb.tif"), cfg=with_reading(shipped_cfg, {"rgb_bands": [1, 2, 9]})
    )
    assert message == "rgb.tif has no band 9, only bands 1 to 3; correct the list of RGB bands."


def test_warnings_are_the_visitors(open_scene, write_image):
    image = np.full((3, 64, 96), 255, np.uint8)
    scene = open_scene(write_image("rgb.tif", image=image))
    assert "become 255, the high end" in " ".join(scene.warnings) and "INPUT" not in " ".join(scene.warnings)


def test_the_reading_is_told_with_every_value(shipped_cfg, write_image, tmp_path):
    rgb, sar = write_image("rgb.tif", bands=4), write_image("sar.tif", bands=2)
    assert describe_reading(shipped_cfg, (rgb,), (sar,)) == {
        "rgb_range": None, "rgb_bands": [1, 2, 3], "rgb_unit": "8bit", "rgb_bands_available": 4,
        "sar_unit": "8bit", "sar_range": None, "sar_bands": [1, 2], "sar_bands_available": 2,
        "sar_unit_declared": False,
    }  # fmt: skip
    cfg = with_reading(
        shipped_cfg, {"rgb_bands": [3, 2, 1], "sar_unit": "dB", "sar_range": [-30, -5], "sar_bands": [2]}
    )
    floats = write_image("db.tif", image=np.full((2, 8, 8), -9, np.float32))
    found = describe_reading(cfg, (rgb,), (floats,))
    assert found["rgb_bands"] == [3, 2, 1] and found["sar_unit"] == "dB"
    assert found["sar_range"] == [-30, -5] and found["sar_bands"] == [2] and not found["sar_unit_declared"]
    of_bands = [[-25, 0], [-32, -7]]
    cfg = with_reading(cfg, {"sar_range": of_bands, "sar_bands": [1, 2]})
    assert describe_reading(cfg, None, (floats,))["sar_range"] == of_bands
    with rasterio.open(floats, "r+") as file:
        file.units = ["power", "power"]
    found = describe_reading(cfg, None, (floats,))
    assert found["sar_unit"] == "power" and found["sar_unit_declared"] and found["rgb_bands"] is None


@pytest.mark.parametrize("reading", [
    [], {"rgb_range": [1]}, {"rgb_range": [3, 1]}, {"rgb_range": [0, float("inf")]}, {"rgb_range": "1, 2"},
    {"rgb_range": [0, 10**400]},
    {"sar_unit": "INPUT"}, {"sar_unit": []}, {"sar_bands": [1.5]}, {"sar_bands": [True]}, {"rgb_bands": 3},
    {"rgb_bands": [1]}, {"sar_range": [True, 2]}, {"sar_range": [[-25, 0], [-7, -32]]}, {"sar_range": [[-25, 0], 3]},
    {"sar_range": []}, {"rgb_range": [[0, 1], [0, 1], [0, 1]]},
])  # fmt: skip
def test_a_reading_of_another_form(reading, shipped_cfg, write_image):
    with pytest.raises((ConfigError, DataError)) as raised:
        describe_reading(with_reading(shipped_cfg, reading), (write_image("rgb.tif"),), None)
    assert "INPUT." not in page_message(raised.value)
