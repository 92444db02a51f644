import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from detectron2.data import DatasetCatalog, MetadataCatalog

from laptop.drawn_world import (
    SYNTHETIC_CLASSES,
    dataset,
    generate_scene,
    register_synthetic_dataset,
    write_synthetic_dataset,
)
from laptop.drawn_world.hashing import hash_index
from laptop.drawn_world.sensors import cast_heights
from mm_ovseg.data.fractal_clouds import fractal_noise
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import check_same_grid, read_label, read_raster_info, read_rgb, read_sar

ROOT = Path(__file__).resolve().parents[2]
CITY, ROAD, FOREST, WATER, FARMLAND = range(5)
FIELDS = ("rgb", "clear_rgb", "sar", "label", "cloud")


def assert_same(first, second, fields=FIELDS):
    for name in fields:
        assert np.array_equal(getattr(first, name), getattr(second, name)), name


@pytest.fixture(scope="module", params=["a", "b"])
def scenes(request):
    """Six scenes of one domain with opaque clouds."""
    return [generate_scene(seed, 160, domain=request.param, cloud_thickness=1.0) for seed in range(6)]


# Drawing


def test_shapes_types_and_ranges(scenes):
    scene = scenes[0]
    assert scene.rgb.shape == scene.clear_rgb.shape == (160, 160, 3)
    assert scene.sar.shape == scene.label.shape == scene.cloud.shape == (160, 160)
    assert {scene.rgb.dtype, scene.clear_rgb.dtype, scene.sar.dtype, scene.label.dtype} == {np.dtype(np.uint8)}
    assert scene.cloud.dtype == np.float32 and scene.cloud.min() >= 0 and scene.cloud.max() <= 1


def test_a_seed_gives_the_same_bits_whatever_was_drawn_before():
    first = generate_scene(5, 96)
    np.random.seed(1)
    generate_scene(6, 64, domain="b")
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        assert_same(first, generate_scene(5, 96))
    finally:
        cv2.setNumThreads(threads)


def test_a_seed_sequence_is_not_advanced():
    sequence = np.random.SeedSequence(5)
    assert_same(generate_scene(sequence, 64), generate_scene(sequence, 64))
    assert_same(generate_scene(sequence, 64), generate_scene(5, 64))


def test_seeds_and_domains_give_other_ground():
    labels = [generate_scene(seed, 64, domain=domain).label for seed in (0, 1) for domain in "ab"]
    for index, label in enumerate(labels):
        assert all((label != other).mean() > 0.2 for other in labels[:index])


def test_every_class_occurs_in_every_scene(scenes):
    for scene in scenes:
        shares = np.bincount(scene.label.ravel(), minlength=5) / scene.label.size
        assert len(shares) == len(SYNTHETIC_CLASSES)
        assert (shares > 0.01).all() and shares.max() < 0.75


def test_clouds_touch_nothing_but_rgb():
    clear, thin, thick = (generate_scene(3, 96, cloud_thickness=thickness) for thickness in (0.0, 0.4, 1.0))
    assert np.array_equal(clear.rgb, clear.clear_rgb) and not clear.cloud.any()
    assert_same(clear, thin, ("clear_rgb", "sar", "label"))
    assert_same(clear, thick, ("clear_rgb", "sar", "label"))
    assert thin.cloud.max() == pytest.approx(0.4, abs=1e-6) and thick.cloud.max() == pytest.approx(1.0, abs=1e-6)
    far_from_clouds = cv2.dilate((thick.cloud > 0).astype(np.uint8), np.ones((51, 51))) == 0
    assert np.array_equal(thick.rgb[far_from_clouds], clear.rgb[far_from_clouds])
    assert not np.array_equal(thick.rgb, thin.rgb)


def test_the_ground_is_lost_to_rgb_but_not_to_sar_under_opaque_cloud(scenes):
    covered, label = (np.concatenate([getattr(s, name).ravel() for s in scenes]) for name in ("cloud", "label"))
    rgb, clear, sar = (
        np.concatenate([getattr(s, name).reshape(s.label.size, -1) for s in scenes]).mean(axis=1)
        for name in ("rgb", "clear_rgb", "sar")
    )
    opaque = covered > 0.995
    water, farmland = opaque & (label == WATER), opaque & (label == FARMLAND)
    assert water.sum() > 100 and farmland.sum() > 100

    def contrast(values):
        return abs(values[water].mean() - values[farmland].mean()) / (values[water].std() + values[farmland].std())

    assert contrast(rgb) < 0.3 < 0.6 < contrast(sar)
    # In no channel of such a pixel is anything of the ground left.
    assert abs(np.corrcoef(rgb[opaque], clear[opaque])[0, 1]) < 0.15


def test_cloud_cover_is_met_on_average():
    for cover in (0.2, 0.6):
        found = [(generate_scene(s, 128, cloud_thickness=1.0, cloud_cover=cover).cloud > 0.5).mean() for s in range(16)]
        assert np.mean(found) == pytest.approx(cover, abs=0.12)
    assert not generate_scene(0, 64, cloud_cover=0.0).cloud.any()


def test_backscatter_depends_on_the_class(scenes):
    sar, label = (np.concatenate([getattr(s, name).ravel() for s in scenes]) for name in ("sar", "label"))
    median = [np.median(sar[label == index]) for index in range(5)]
    assert median[WATER] < 0.6 * median[ROAD] < median[ROAD] < 0.8 * median[FARMLAND]
    assert median[FARMLAND] < 0.85 * median[FOREST]
    very_bright = [(sar[label == index] > 220).mean() for index in range(5)]
    assert very_bright[CITY] > 0.02 and very_bright[CITY] > 5 * max(very_bright[FOREST], very_bright[WATER])


def test_sar_gain_is_fixed(scenes):
    """Canopy gives the same grey value whatever else is in the scene."""
    medians = [np.median(scene.sar[scene.label == FOREST]) for scene in scenes]
    assert max(medians) / min(medians) < 1.07


@pytest.mark.parametrize("looks", [1.0, 4.0])
def test_speckle_is_gamma_noise_of_the_looks(looks):
    smooth, speckled = (generate_scene(2, 192, speckle_looks=value).sar.astype(float) for value in (1e7, looks))
    usable = (smooth > 30) & (smooth < 75)  # neither coarsely quantised nor clipped by strong speckle
    ratio = (speckled[usable] / smooth[usable]) ** 2
    assert ratio.mean() == pytest.approx(1.0, abs=0.03)
    assert ratio.var() == pytest.approx(1 / looks, rel=0.1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"size": 63},
        {"size": 64.5},
        {"cloud_thickness": 1.1},
        {"cloud_cover": -0.1},
        {"cloud_cover": float("nan")},
        {"speckle_looks": 0.0},
        {"domain": "c"},
    ],
)
def test_wrong_scene_arguments_are_refused(arguments):
    value = str(next(iter(arguments.values())))
    with pytest.raises(ConfigError, match=value.replace(".", r"\.")):
        generate_scene(0, **arguments)


def test_noise_has_mean_0_and_deviation_1():
    noise = [fractal_noise(np.random.default_rng(seed), (128, 128), 24.0, octaves=4) for seed in range(30)]
    assert np.mean(noise) == pytest.approx(0, abs=0.06)
    assert np.std(noise) == pytest.approx(1, abs=0.1)


def test_hash_fills_its_table_evenly():
    x, y = np.meshgrid(np.arange(-100, 100), np.arange(-100, 100))
    counts = np.bincount(hash_index(7, 256, x, y).ravel(), minlength=256)
    assert len(counts) == 256 and counts.std() < 2 * np.sqrt(counts.mean())


def test_shadow_has_the_length_of_height_over_drop():
    heights = np.zeros((40, 40), np.float32)
    heights[20, 10] = 8.0
    shadow = cast_heights(heights, (1.0, 0.0), drop=1.0) - heights
    assert np.array_equal(np.flatnonzero(shadow[20] > 0), np.arange(11, 18))
    assert not np.delete(shadow, 20, axis=0).any()


# Writing


def write_small(root, **arguments):
    return write_synthetic_dataset(root, **({"num_train": 2, "num_val": 1, "size": 64, "seed": 4} | arguments))


@pytest.mark.parametrize("file_format", ["png", "tif"])
def test_written_files_hold_the_scene(tmp_path, file_format):
    assert write_small(tmp_path / "data", file_format=file_format)
    files = sorted(str(p.relative_to(tmp_path / "data")) for p in (tmp_path / "data").rglob("*") if p.is_file())
    assert files == sorted(
        ["manifest.json"]
        + [
            f"{split}/{folder}/{index:05d}.{file_format}"
            for split, count in (("train", 2), ("val", 1))
            for folder in ("rgb", "rgb_clouds", "sar", "labels")
            for index in range(count)
        ]
    )
    folder = tmp_path / "data" / "train"
    scene = generate_scene(np.random.SeedSequence(4, spawn_key=(0, 1)), 64)  # the ground does not depend on the weather
    rgb, valid = read_rgb(folder / "rgb" / f"00001.{file_format}")
    assert np.array_equal(rgb, scene.clear_rgb) and valid.all()
    assert not np.array_equal(read_rgb(folder / "rgb_clouds" / f"00001.{file_format}")[0], rgb)
    assert np.array_equal(read_sar(folder / "sar" / f"00001.{file_format}")[0][..., 0], scene.sar)
    assert np.array_equal(read_label(folder / "labels" / f"00001.{file_format}", num_classes=5), scene.label)


def test_geotiffs_lie_side_by_side_on_one_grid(tmp_path):
    write_small(tmp_path / "data", file_format="tif")
    train = tmp_path / "data" / "train"
    infos = [read_raster_info(train / folder / "00000.tif") for folder in ("rgb", "rgb_clouds", "sar", "labels")]
    for info in infos:
        check_same_grid(infos[0], info)
    assert (
        infos[0].grid.crs.to_epsg() == 32652 and infos[0].grid.transform.a == 2.0 and infos[0].grid.transform.e == -2.0
    )
    with rasterio.open(train / "rgb" / "00000.tif") as first, rasterio.open(train / "rgb" / "00001.tif") as second:
        assert first.bounds.right == second.bounds.left


def test_labels_have_a_palette(tmp_path):
    write_small(tmp_path / "data")
    picture = cv2.imread(str(tmp_path / "data/train/labels/00000.png"))  # OpenCV applies the palette
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) >= 4 and picture.max() > 200


def test_a_scene_does_not_depend_on_the_number_of_scenes(tmp_path):
    write_small(tmp_path / "few", num_train=1)
    write_small(tmp_path / "more", num_train=3, num_val=2)
    for file in ("train/rgb_clouds/00000.png", "val/sar/00000.png"):
        assert (tmp_path / "few" / file).read_bytes() == (tmp_path / "more" / file).read_bytes()
    assert (tmp_path / "more/train/sar/00000.png").read_bytes() != (tmp_path / "more/val/sar/00000.png").read_bytes()


def test_the_same_arguments_again_write_nothing(tmp_path, monkeypatch):
    assert write_small(tmp_path / "data")
    monkeypatch.setattr(dataset, "generate_scene", None)
    assert not write_small(tmp_path / "data")


def test_other_arguments_are_refused_and_nothing_is_lost(tmp_path):
    write_small(tmp_path / "data")
    before = (tmp_path / "data/train/rgb/00000.png").read_bytes()
    with pytest.raises(DataError, match=r"other arguments \(seed, domain\)"):
        write_small(tmp_path / "data", seed=5, domain="b")
    assert (tmp_path / "data/train/rgb/00000.png").read_bytes() == before


@pytest.mark.parametrize("name, content", [("holiday.jpg", "x"), ("manifest.json", "{"), ("manifest.json", "[1]")])
def test_a_folder_with_something_else_is_left_alone(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="choose another folder"):
        write_small(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [name]


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "data").mkdir()
    assert write_small(tmp_path / "data")


def test_an_interrupted_call_leaves_nothing(tmp_path, monkeypatch):
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate_scene(*args, **kwargs)

    monkeypatch.setattr(dataset, "generate_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_small(tmp_path / "place" / "data")
    assert list((tmp_path / "place").iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file/data"):
        write_small(tmp_path / "file" / "data")


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"num_train": 0, "num_val": 0}, "num_train"),
        ({"num_val": -1}, "num_val"),
        ({"seed": -1}, "seed"),
        ({"size": 32}, "32"),
        ({"cloud_cover": (0.6, 0.3)}, "cloud_cover"),
        ({"cloud_thickness": (0.5, 1.5)}, "cloud_thickness"),
        ({"domain": "c"}, "a, b"),
        ({"file_format": "jpg"}, "png, tif"),
    ],
)
def test_wrong_dataset_arguments_are_refused_before_anything_is_written(tmp_path, arguments, words):
    with pytest.raises(ConfigError, match=words):
        write_small(tmp_path / "data", **arguments)
    assert not (tmp_path / "data").exists()


# Registering


def test_registered_sets_load(tmp_path):
    write_small(tmp_path / "data")
    names = register_synthetic_dataset(tmp_path / "data", name="drawn")
    assert names == ["drawn_train", "drawn_val", "drawn_clear_train", "drawn_clear_val"]
    assert register_synthetic_dataset(tmp_path / "data", name="drawn") == names
    assert [len(DatasetCatalog.get(name)) for name in names] == [2, 1, 2, 1]
    assert "/rgb_clouds/" in DatasetCatalog.get("drawn_train")[0]["file_name"]
    assert "/rgb/" in DatasetCatalog.get("drawn_clear_val")[0]["file_name"]
    metadata = MetadataCatalog.get("drawn_val")
    assert tuple(metadata.stuff_classes) == SYNTHETIC_CLASSES and metadata.unseen_classes == ["road", "water"]
    with pytest.raises(DataError, match="drawn_train"):
        register_synthetic_dataset(tmp_path / "elsewhere", name="drawn")


def test_relative_root_is_relative_to_the_working_folder_as_in_writing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_small("data", num_train=1)
    register_synthetic_dataset("data", name="drawn")
    assert len(DatasetCatalog.get("drawn_train")) == 1


def test_default_root_lies_in_detectron2_datasets(datasets_root):
    write_small(datasets_root / "synthetic")
    register_synthetic_dataset()
    assert len(DatasetCatalog.get("synthetic_train")) == 2


def test_command_line_writes_and_reports(tmp_path):
    command = [sys.executable, ROOT / "projects/laptop/write_scenes.py"]
    options = ["--num-train", "1", "--num-val", "0", "--size", "64", "--cloud-cover", "0.2", "0.3"]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(tmp_path)}

    def run(*extra):
        return subprocess.run([*command, *extra], cwd=ROOT, env=environment, capture_output=True, text=True)

    done = run(*options)
    assert done.returncode == 0 and "written" in done.stdout, done.stderr
    manifest = json.loads((tmp_path / "synthetic" / "manifest.json").read_text())
    assert manifest["cloud_cover"] == [0.2, 0.3] and manifest["num_train"] == 1
    refused = run(*options, "--seed", "9")
    assert refused.returncode == 2
    assert [line[:6] for line in refused.stderr.splitlines() if "synthetic" in line] == ["error:"]
