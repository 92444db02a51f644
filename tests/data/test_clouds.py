"""Clouds of every kind, as a training augmentation, and over synthetic scenes."""

import random
import sys

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog

from laptop.drawn_world import generate_scene, register_synthetic_dataset, write_synthetic_dataset
from mm_ovseg.data import build_dataset_mapper, clouds
from mm_ovseg.data.clouds import CLOUDS_REGISTRY, CloudyImage, GeneratedClouds, build_clouds
from mm_ovseg.data.loader import TrainLoader
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.randomness import seeded
from mm_ovseg.raster import read_rgb

KINDS = ("thin", "thick", "varied", "fractal")


@pytest.fixture(params=KINDS)
def kind(request):
    """Every kind that can be drawn here."""
    if request.param != "fractal":
        request.getfixturevalue("cloud_generator")
    return request.param


def ground(shape=(150, 180)):
    """A dark image with a hole in its data, and where it has data."""
    image = np.random.default_rng(0).integers(20, 90, (*shape, 3), dtype=np.uint8)
    valid = np.ones(shape, bool)
    valid[10 : shape[0] // 2, 5 : shape[1] // 3] = False
    image[~valid] = (7, 0, 200)
    return image, valid


def assert_same(first, second):
    for name in ("image", "opacity", "shadow"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name


# What is drawn


def test_shapes_types_and_ranges(kind):
    image, valid = ground()
    before = image.copy()
    cloudy = build_clouds(kind)(image, valid, 1)
    assert np.array_equal(image, before)
    assert cloudy.image.shape == image.shape and cloudy.image.dtype == np.uint8
    for field in (cloudy.opacity, cloudy.shadow):
        assert field.shape == valid.shape and field.dtype == np.float32
        assert field.min() >= 0 and field.max() <= 1
    assert cloudy.opacity.max() > 0.3


def test_a_seed_gives_the_same_bits_whatever_was_drawn_before(kind):
    image, valid = ground()
    draw = build_clouds(kind, (0.3, 0.6))
    first = draw(image, valid, 5)
    torch.manual_seed(9)
    np.random.seed(9)
    random.seed(9)
    draw(image, valid, 6)
    assert_same(first, draw(image, valid, 5))
    assert_same(first, build_clouds(kind, (0.3, 0.6))(image, valid, np.uint32(5)))
    assert (first.image != draw(image, valid, 6).image).any()


def test_the_number_of_threads_changes_nothing(kind):
    image, valid = ground((600, 640))
    counts = torch.get_num_threads(), cv2.getNumThreads()
    drawn = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
            drawn.append(build_clouds(kind)(image, valid, 5))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(counts[0])
        cv2.setNumThreads(counts[1])
    assert_same(*drawn)


def test_the_global_random_states_stay_as_they_are(kind):
    image, valid = ground()
    draw = build_clouds(kind, (0.2, 0.7))
    with seeded(3):
        expected = random.random(), np.random.rand(), torch.rand(1).item()
    with seeded(3):
        draw(image, valid, 5)
        assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


def test_the_image_changes_where_the_masks_say_so_and_nowhere_else(kind):
    image, valid = ground()
    for seed in range(4):
        cloudy = build_clouds(kind, (0.3, 0.4))(image, valid, seed)
        changed = (cloudy.image != image).any(axis=2)
        touched = (cloudy.opacity > 0) | (cloudy.shadow > 0)
        assert not changed[~touched].any()
        assert (~changed & (cloudy.opacity > 0.3)).mean() < 0.01  # shadow and cloud may cancel
        only_shadow = (cloudy.opacity == 0) & (cloudy.shadow > 0.1)
        assert (cloudy.image[only_shadow].astype(int).sum(axis=1) < image[only_shadow].astype(int).sum(axis=1)).all()
        if (opaque := cloudy.opacity > 0.97).any():
            assert cloudy.image[opaque].mean() > 190


def test_pixels_without_data_stay_as_they_are_and_are_not_seen(kind):
    image, valid = ground()
    other = image.copy()
    other[~valid] = 255
    draw = build_clouds(kind)
    cloudy, over_other = draw(image, valid, 3), draw(other, valid, 3)
    assert np.array_equal(cloudy.image[~valid], image[~valid])
    assert not cloudy.opacity[~valid].any() and not cloudy.shadow[~valid].any()
    assert np.array_equal(cloudy.image[valid], over_other.image[valid])


def test_an_image_without_any_data_stays_as_it_is(kind):
    image, valid = ground()
    cloudy = build_clouds(kind)(image, np.zeros_like(valid), 3)
    assert np.array_equal(cloudy.image, image) and not cloudy.opacity.any() and not cloudy.shadow.any()


@pytest.mark.parametrize("shape", [(1, 1), (9, 200), (200, 9), (64, 65)])
def test_images_of_every_shape(kind, shape):
    image = np.full((*shape, 3), 60, np.uint8)
    cloudy = build_clouds(kind, (0.4, 0.6))(image, np.ones(shape, bool), 3)
    assert cloudy.image.shape == (*shape, 3) and cloudy.opacity.shape == cloudy.shadow.shape == shape


def test_clouds_grow_with_large_images(cloud_generator, monkeypatch):
    monkeypatch.setattr(clouds, "MAX_SIDE", 128)
    small, large = (
        build_clouds("thick", (0.5, 0.5))(np.full((*shape, 3), 60, np.uint8), np.ones(shape, bool), 3)
        for shape in ((96, 128), (288, 384))
    )
    shrunk = cv2.resize(large.opacity, (128, 96), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(shrunk.ravel(), small.opacity.ravel())[0, 1] > 0.98


def test_thin_clouds_are_translucent_and_thick_ones_have_opaque_cores(cloud_generator):
    image, valid = np.full((128, 128, 3), 60, np.uint8), np.ones((128, 128), bool)
    peaks = {
        kind: [build_clouds(kind)(image, valid, seed).opacity.max() for seed in range(6)] for kind in ("thin", "thick")
    }
    assert min(peaks["thin"]) > 0.3 and max(peaks["thin"]) < 0.8 and min(peaks["thick"]) > 0.9
    fog = GeneratedClouds(["FOG_CONFIG"])(image, valid, 1)
    assert fog.opacity.min() > 0.25 and not fog.shadow.any()


def test_clouds_over_small_grey_images_are_grey(cloud_generator):
    image, valid = np.full((128, 128, 3), 60, np.uint8), np.ones((128, 128), bool)
    for kind in ("thin", "thick", "varied"):
        for seed in range(4):
            channels = build_clouds(kind)(image, valid, seed).image.astype(int)
            assert np.ptp(channels, axis=2).max() < 30  # the library makes channels differ by up to 5%


def test_varied_clouds_are_of_more_than_one_preset(cloud_generator):
    image, valid = np.full((96, 96, 3), 60, np.uint8), np.ones((96, 96), bool)
    drawn = [build_clouds("varied")(image, valid, seed).opacity for seed in range(12)]
    assert any(opacity.min() > 0.25 for opacity in drawn)  # fog
    assert any(opacity.min() < 0.1 and opacity.max() > 0.9 for opacity in drawn)


@pytest.mark.parametrize("cover", [0.2, 0.5, 0.8])
def test_the_cover_is_the_share_under_clouds(cloud_generator, cover):
    image, valid = np.full((160, 200, 3), 60, np.uint8), np.ones((160, 200), bool)
    for seed in range(6):
        opacity = build_clouds("thick", (cover, cover))(image, valid, seed).opacity
        assert abs((opacity >= 0.1 * opacity.max()).mean() - cover) < 0.06


def test_the_cover_of_fractal_clouds():
    image, valid = np.full((256, 256, 3), 60, np.uint8), np.ones((256, 256), bool)
    shares = {}
    for cover in (0.0, 0.2, 0.7):
        drawn = [build_clouds("fractal", (cover, cover))(image, valid, seed).opacity for seed in range(9)]
        shares[cover] = np.mean(np.stack(drawn) > 0.1)
    assert shares[0.0] == 0 and 0.1 < shares[0.2] < 0.4 and 0.6 < shares[0.7] < 0.9


# What cannot be drawn


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("cirrus",), "The kind of clouds is 'cirrus'; choose one of .*fractal.*thin"),
        (("fractal", (0.5,)), r"cover is \[0.5\]; give \[low, high\]"),
        (("fractal", (0.5, 0.4)), "0 <= low <= high <= 1"),
        (("fractal", (0.5, 1.4)), "0 <= low <= high <= 1"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        build_clouds(*arguments)


def test_without_the_library_only_its_kinds_are_refused(cfg, monkeypatch):
    monkeypatch.setitem(sys.modules, "satellite_cloud_generator", None)
    for kind in ("thin", "thick", "varied"):
        with pytest.raises(ConfigError, match=r"pip install 'mm_ovseg\[clouds\]', or choose clouds of the kind 'frac"):
            build_clouds(kind)
    cfg.INPUT.CLOUDS.ENABLED = True
    cfg.INPUT.DATASET_MAPPER_NAME = "rgb_sar_pair"
    with pytest.raises(ConfigError, match=r"mm_ovseg\[clouds\]"):
        build_dataset_mapper(cfg, True)
    build_dataset_mapper(cfg, False)
    build_clouds("fractal")


# As a training augmentation


@pytest.fixture
def samples(datasets_root):
    write_synthetic_dataset(datasets_root / "synthetic", num_train=2, num_val=0, size=64)
    register_synthetic_dataset()
    return DatasetCatalog.get("synthetic_clear_train")


@pytest.fixture
def cloudy_cfg(cfg):
    cfg.DATASETS.TRAIN = ("synthetic_clear_train",)
    cfg.INPUT.CLOUDS.ENABLED = True
    cfg.INPUT.CLOUDS.KIND = "fractal"
    cfg.INPUT.CLOUDS.PROBABILITY = 1.0
    return cfg


@pytest.mark.parametrize("mapper", ["rgb_sar_semantic", "rgb_sar_pair"])
def test_training_sees_clouds_over_rgb_only(cloudy_cfg, samples, kind, mapper):
    cloudy_cfg.INPUT.CLOUDS.KIND = kind
    cloudy_cfg.INPUT.DATASET_MAPPER_NAME = mapper
    with seeded(1):
        cloudy = build_dataset_mapper(cloudy_cfg, True)(samples[0])
    cloudy_cfg.INPUT.CLOUDS.ENABLED = False
    clear = build_dataset_mapper(cloudy_cfg, True)(samples[0])
    assert (cloudy["image"] != clear["image"]).any()
    assert ((cloudy["image"] >= 0) & (cloudy["image"] <= 255)).all()
    for name in clear.keys() - {"image"}:
        assert np.array_equal(cloudy[name], clear[name]), name


def test_evaluation_sees_none(cloudy_cfg, samples):
    item = build_dataset_mapper(cloudy_cfg, False)(samples[0])
    clear, _ = read_rgb(samples[0]["file_name"])
    assert np.array_equal(item["image"].permute(1, 2, 0), clear)


def test_padding_and_pixels_without_data_stay_blank(cloudy_cfg, samples):
    cloudy_cfg.INPUT.CROP.ENABLED = True
    cloudy_cfg.INPUT.CROP.SIZE = [80, 100]
    cloudy_cfg.INPUT.CLOUDS.COVER = [1.0, 1.0]
    mapper = build_dataset_mapper(cloudy_cfg, True)
    draw, seen = mapper.augmentation.clouds, []
    mapper.augmentation.clouds = lambda image, valid: seen.append(valid) or draw(image, valid)
    with seeded(1):
        item = mapper(samples[0])
    assert item["image"].shape == (3, 80, 100) and item["image_valid"].sum() == 64 * 64
    assert not item["image"][:, ~item["image_valid"]].any()
    assert item["image"][:, :64, :64].mean() > 180
    assert np.array_equal(seen[0], item["image_valid"])


def test_the_probability_is_that_of_an_image(cloudy_cfg, samples):
    cloudy_cfg.INPUT.CLOUDS.PROBABILITY = 0.25
    mapper = build_dataset_mapper(cloudy_cfg, True)
    clear = torch.from_numpy(read_rgb(samples[0]["file_name"])[0]).permute(2, 0, 1)
    with seeded(0):
        cloudy = [not torch.equal(mapper(samples[0])["image"], clear.float()) for _ in range(200)]
    assert 0.15 < np.mean(cloudy) < 0.35


def test_a_wrong_probability_is_named(cloudy_cfg):
    cloudy_cfg.INPUT.CLOUDS.PROBABILITY = 1.5
    cloudy_cfg.INPUT.DATASET_MAPPER_NAME = "rgb_sar_pair"
    with pytest.raises(ConfigError, match="PROBABILITY is 1.5"):
        build_dataset_mapper(cloudy_cfg, True)


def test_the_seed_and_the_position_decide_over_a_samples_clouds(cloudy_cfg, samples, kind):
    cloudy_cfg.INPUT.CLOUDS.KIND = kind

    def batches(num_workers=0, first=0, count=3):
        mapper = build_dataset_mapper(cloudy_cfg, True)
        loader = TrainLoader(samples, mapper, batch_size=2, num_workers=num_workers, seed=7)
        loader.first_batch = first
        return [torch.stack([item["image"] for item in batch]) for batch, _ in zip(loader, range(count), strict=False)]

    whole = batches()
    assert not torch.equal(whole[0], whole[1])
    assert torch.equal(torch.stack(batches(num_workers=2)), torch.stack(whole))
    assert torch.equal(batches(first=2, count=1)[0], whole[2])


# Over synthetic scenes


@pytest.fixture
def lid():
    """The name of clouds of one's own: everything is white."""

    def cover_all(image, valid, seed):
        ones = np.ones(valid.shape, np.float32)
        return CloudyImage(np.full_like(image, 255), ones, 0 * ones)

    CLOUDS_REGISTRY._do_register("lid", lambda cover: cover_all)
    yield "lid"
    CLOUDS_REGISTRY._obj_map.pop("lid")


def test_a_scene_under_other_clouds_is_the_same_but_for_them():
    own, other = generate_scene(4, 96), generate_scene(4, 96, clouds=build_clouds("fractal"))
    for name in ("clear_rgb", "sar", "label"):
        assert np.array_equal(getattr(own, name), getattr(other, name)), name
    assert other.cloud.max() > 0.5 and (other.rgb != own.rgb).any()
    again = generate_scene(4, 96, clouds=build_clouds("fractal"))
    assert np.array_equal(again.rgb, other.rgb) and np.array_equal(again.cloud, other.cloud)
    assert (generate_scene(5, 96, clouds=build_clouds("fractal")).cloud != other.cloud).any()


def test_a_synthetic_dataset_under_clouds_of_any_kind(tmp_path, lid):
    arguments = {"num_train": 1, "num_val": 0, "size": 64}
    write_synthetic_dataset(tmp_path / "own", **arguments)
    write_synthetic_dataset(tmp_path / "lid", cloud_kind=lid, **arguments)
    own, other = (
        {path.parent.name: path.read_bytes() for path in (tmp_path / name / "train").rglob("*.png")}
        for name in ("own", "lid")
    )
    assert {name for name in own if own[name] != other[name]} == {"rgb_clouds"}
    assert (read_rgb(tmp_path / "lid/train/rgb_clouds/00000.png")[0] == 255).all()
    with pytest.raises(DataError, match=r"other arguments \(cloud_kind\)"):
        write_synthetic_dataset(tmp_path / "lid", **arguments)


def test_the_librarys_clouds_cover_synthetic_scenes_as_asked(cloud_generator, tmp_path):
    arguments = {"num_train": 1, "num_val": 0, "size": 64, "cloud_kind": "thick"}
    shares = []
    for cover in (0.1, 0.8):
        folder = tmp_path / str(cover)
        write_synthetic_dataset(folder, cloud_cover=(cover, cover), **arguments)
        clear, cloudy = (read_rgb(folder / "train" / name / "00000.png")[0] for name in ("rgb", "rgb_clouds"))
        shares.append((cloudy.astype(int) > clear.astype(int) + 8).all(axis=2).mean())
    assert shares[0] < 0.3 < 0.5 < shares[1]


def test_datasets_from_before_there_was_a_choice_are_still_known(tmp_path):
    arguments = {"num_train": 1, "num_val": 0, "size": 64}
    write_synthetic_dataset(tmp_path / "data", **arguments)
    manifest = tmp_path / "data" / "manifest.json"
    lines = [line for line in manifest.read_text().splitlines() if "cloud_kind" not in line]
    manifest.write_text("\n".join(lines))
    assert not write_synthetic_dataset(tmp_path / "data", **arguments)


def test_unknown_clouds_over_synthetic_scenes(tmp_path):
    with pytest.raises(ConfigError, match="clouds is 'cirrus'"):
        write_synthetic_dataset(tmp_path / "data", cloud_kind="cirrus")
    assert not (tmp_path / "data").exists()
