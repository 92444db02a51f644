import json

import numpy as np
import pytest

from mm_ovseg.raster import read_label
from sentinel import labels
from sentinel.archive import write_image
from sentinel.classes import CLASSES, UNLABELLED
from sentinel.pairs import SCENES

WATER, CITY = CLASSES.index("water"), CLASSES.index("city")


def draw_pair(seed=0):
    """Dark and smooth on the left, bright and rough on the right: RGB (128, 128, 3) and SAR (128, 128)."""
    rng = np.random.default_rng(seed)
    rgb, sar = np.full((128, 128, 3), 20, np.uint8), np.full((128, 128), 40, np.uint8)
    rgb[:, 64:], sar[:, 64:] = rng.integers(60, 220, (128, 64, 3)), rng.integers(120, 255, (128, 64))
    return rgb, sar


@pytest.fixture
def clusters():
    rgb, sar = draw_pair()
    features = labels.pixel_features(rgb, sar)
    found = labels.find_clusters(features[::4, ::4].reshape(-1, features.shape[2]), 2)
    first = labels.nearest_cluster(features, found)[0][64, 20]
    return {**found, "names": ["water", "city"] if first == 0 else ["city", "water"]}


def test_clusters_label_another_pair(clusters):
    label = labels.label_pair(*draw_pair(seed=1), clusters)
    assert label.dtype == np.uint8 and set(np.unique(label)) == {WATER, CITY, UNLABELLED}
    assert (label[:, :50] == WATER).all() and (label[:, 78:] == CITY).mean() > 0.9
    assert (label == UNLABELLED).mean() < 0.1  # the border


def test_a_mixed_cluster_is_unlabelled(clusters):
    mixed = {**clusters, "names": [None if name == "city" else name for name in clusters["names"]]}
    label = labels.label_pair(*draw_pair(seed=1), mixed)
    assert (label[:, :50] == WATER).all() and (label[:, 78:] == UNLABELLED).all()


def test_clusters_are_the_same_again(clusters):
    rgb, sar = draw_pair()
    features = labels.pixel_features(rgb, sar)[::4, ::4].reshape(-1, 10)
    again = labels.find_clusters(features, 2)
    assert all(again[name] == clusters[name] for name in again) and json.dumps(again)


def test_specks_and_borders_are_unlabelled():
    label = np.full((60, 60), CITY, np.uint8)
    label[:, 30:] = WATER
    label[10:13, 10:13] = WATER
    clean = labels.clean_label(label)
    assert (clean[:, 29:31] == UNLABELLED).all() and (clean[40:, :25] == CITY).all() and (clean[:, 36:] == WATER).all()
    assert not (clean[:25, :25] == WATER).any()
    label[:] = UNLABELLED
    label[20:26, 20:26] = WATER  # 36 pixels
    assert (labels.clean_label(label) == UNLABELLED).all()


def test_the_shipped_clusters_fit_the_groups():
    clusters = json.loads(labels.CLUSTERS.read_text(encoding="utf-8"))
    assert list(clusters) == list(labels.GROUPS)
    for group, (count, _) in labels.GROUPS.items():
        assert np.shape(clusters[group]["centres"]) == (count, 10) and len(clusters[group]["names"]) == count
        assert set(clusters[group]["names"]) <= {*CLASSES, None}
    assert {labels.group_of(f"{scene.name}_001_00_00") for scene in SCENES} == set(labels.GROUPS)


def test_all_pairs_get_a_label(tmp_path):
    rgb, sar = draw_pair()
    for split in ("train", "val"):
        write_image(tmp_path / split / "rgb" / "hills_201_00_00.tif", rgb)
        write_image(tmp_path / split / "sar" / "hills_201_00_00.tif", sar)
    labels.write_labels(tmp_path)
    for split in ("train", "val"):
        path = tmp_path / split / "labels" / "hills_201_00_00.tif"
        assert read_label(path, num_classes=len(CLASSES), ignore_label=UNLABELLED).shape == (128, 128)
    places, features = labels.sample_group(tmp_path / "train", "hills")
    assert len(places) == len(features) == labels.PIXELS_PER_TILE
