import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from rasterio.transform import from_origin

from mm_ovseg.data import DATASET_MAPPER_REGISTRY, build_dataset_mapper, register_rgb_sar_dataset
from mm_ovseg.data.mappers import MAX_SKIPPED_IN_A_ROW
from mm_ovseg.errors import ConfigError, DataError

CLASSES = ["city", "road", "forest", "water"]
RGB_OF_CLASS = np.array([(200, 60, 50), (120, 120, 190), (40, 140, 60), (90, 170, 240), (0, 0, 0)], dtype=np.uint8)
SAR_OF_CLASS = np.array([220, 110, 55, 28, 0], dtype=np.uint8)
MOVED = ("image", "image_valid", "sar_image", "sar_valid", "sem_seg")
REAL_DATA = Path(__file__).parents[3] / "shared" / "realdata"


@pytest.fixture
def make_dataset(datasets_root, write_raster):
    """A function that writes and registers pairs: RGB, SAR and label show one pattern without any symmetry."""

    def make(name="pairs", label=None, size=(60, 80), count=1, unseen=("road",), **arguments):
        if label is None:
            rows, columns = np.mgrid[: size[0], : size[1]]
            label = ((rows // 15 * 3 + columns // 16 * 2 + (rows > columns)) % len(CLASSES)).astype(np.uint8)
        for index in range(count):
            shown = np.where(label == 255, len(CLASSES), label)
            write_raster(datasets_root / name / "rgb" / f"{index}.png", RGB_OF_CLASS[shown])
            write_raster(datasets_root / name / "sar" / f"{index}.png", SAR_OF_CLASS[shown])
            write_raster(datasets_root / name / "labels" / f"{index}.png", label)
        arguments = {"labels": "labels", "classes": CLASSES, "unseen": unseen, **arguments}
        register_rgb_sar_dataset(name, root=name, rgb="rgb", sar="sar", **arguments)
        return DatasetCatalog.get(name)

    return make


def train_mapper(cfg, *names):
    cfg.DATASETS.TRAIN = names or ("pairs",)
    return build_dataset_mapper(cfg, True)


def test_an_item_of_training(cfg, make_dataset):
    (sample,) = make_dataset()
    before = dict(sample)
    item = train_mapper(cfg)(sample)
    assert sample == before
    assert item["image"].shape == item["sar_image"].shape == (3, 60, 80)
    assert item["image"].dtype == item["sar_image"].dtype == torch.float32
    assert item["image_valid"].dtype == item["sar_valid"].dtype == torch.bool
    assert item["sem_seg"].shape == (60, 80) and item["sem_seg"].dtype == torch.int64
    assert (item["height"], item["width"], item["image_id"]) == (60, 80, "0")
    assert item["image"].is_contiguous() and item["sar_image"].is_contiguous()


def test_labels_stay_where_an_image_is_left_out(cfg, make_dataset):
    (sample,) = make_dataset()
    complete = train_mapper(cfg)(sample)
    for key, image, mask in (("DROP_RGB", "image", "image_valid"), ("DROP_SAR", "sar_image", "sar_valid")):
        changed = cfg.clone()
        changed.INPUT[key] = 1.0
        item = train_mapper(changed)(sample)
        assert not item[image].any() and not item[mask].any()
        assert all(torch.equal(item[name], complete[name]) for name in complete.keys() - {image, mask} if name in MOVED)


def test_an_item_of_evaluation_has_the_files_size_and_no_label(cfg, make_dataset):
    (sample,) = make_dataset()
    Path(sample["sem_seg_file_name"]).unlink()  # labels are the evaluator's business
    cfg.INPUT.MIN_SIZE_TEST = 30
    item = build_dataset_mapper(cfg, False)(sample)
    assert "sem_seg" not in item and item["sem_seg_file_name"] == sample["sem_seg_file_name"]
    assert item["image"].shape == (3, 30, 40) and (item["height"], item["width"]) == (60, 80)


def test_unseen_classes_are_ignored_and_seen_ones_numbered(cfg, make_dataset):
    label = np.array([[0, 1, 2, 3, 255]], dtype=np.uint8)
    (sample,) = make_dataset(label=label, unseen=("city", "forest"))
    np.testing.assert_array_equal(train_mapper(cfg)(sample)["sem_seg"], [[255, 0, 255, 1, 255]])


def test_the_ignored_value_is_the_configs_whatever_the_files_hold(cfg, make_dataset, write_raster):
    label = np.array([[0, 1, 2, 9, 200]], dtype=np.uint8)
    values = {0: 3, 1: 2, 2: 1, 9: 200}
    (sample,) = make_dataset(label=np.minimum(label, 3), unseen=("forest",), ignore_label=200, label_values=values)
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 99
    write_raster(Path(sample["sem_seg_file_name"]), label)
    # water -> 2, forest -> unseen, road -> 1, no class, no class
    np.testing.assert_array_equal(train_mapper(cfg)(sample)["sem_seg"], [[2, 99, 1, 99, 99]])


def test_pixels_without_rgb_are_not_trained_on(cfg, make_dataset, write_raster):
    (sample,) = make_dataset(label=np.zeros((4, 4), dtype=np.uint8))
    rgba = np.full((4, 4, 4), 255, dtype=np.uint8)
    rgba[1, 2, 3] = 0
    write_raster(Path(sample["file_name"]), rgba)
    item = train_mapper(cfg)(sample)
    assert item["sem_seg"][1, 2] == 255 and (item["sem_seg"] == 0).sum() == 15
    assert not item["image_valid"][1, 2] and item["sar_valid"].all()


@pytest.mark.parametrize("sizes", [(0,), (45, 60, 75)])
def test_rgb_sar_and_label_stay_together_under_everything_at_once(cfg, make_dataset, sizes):
    (sample,) = make_dataset(unseen=())
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.SIZE = [48, 48]
    cfg.INPUT.MIN_SIZE_TRAIN = sizes
    cfg.INPUT.RANDOM_FLIP = "both"
    cfg.INPUT.COLOR_AUG_SSD = True
    cfg.INPUT.SAR.SPECKLE_LOOKS = 60.0
    mapper = train_mapper(cfg)
    layouts = set()
    for _ in range(30):
        item = mapper(sample)
        label = item["sem_seg"]
        inside = label != 255
        # SAR: the level of a class, up to speckle, and up to what resizing blends at edges.
        levels = torch.from_numpy(SAR_OF_CLASS[:-1].astype(np.float32))
        nearest = (item["sar_image"][0][..., None].clamp(min=1).log() - levels.log()).abs().argmin(dim=-1)
        assert (nearest == label)[inside].float().mean() > (0.99 if sizes == (0,) else 0.8)
        # RGB: whatever the jitter made of the colours, one class has one colour.
        for index in range(len(CLASSES)):
            pixels = item["image"][:, label == index]
            if pixels.shape[1] > 20:
                # A few grey levels: OpenCV rounds HSV differently at the end of a row.
                typical = pixels.median(dim=1, keepdim=True).values
                same = ((pixels - typical).abs().amax(dim=0) < 5).float().mean()
                assert same > (0.999 if sizes == (0,) else 0.5)
        layouts.add(label.numpy().tobytes())
    assert len(layouts) > 20


def test_the_pair_mapper_reads_no_labels(cfg, make_dataset):
    (sample,) = make_dataset(labels=None)
    cfg.INPUT.DATASET_MAPPER_NAME = "rgb_sar_pair"
    item = train_mapper(cfg)(sample)
    assert "sem_seg" not in item and item["sar_image"].shape == (3, 60, 80)


def test_sar_settings_reach_the_reader(cfg, make_dataset, write_raster):
    (sample,) = make_dataset()
    path = Path(sample["sar_file_name"]).with_suffix(".tif")
    write_raster(path, np.full((60, 80, 3), (1.0, 0.1, 0.01), dtype=np.float32))
    sample["sar_file_name"] = str(path)
    cfg.INPUT.SAR.SCALE = "power"
    cfg.INPUT.SAR.RANGE = [-20.0, 0.0]
    cfg.INPUT.SAR.BANDS = [3, 2]
    item = train_mapper(cfg)(sample)
    torch.testing.assert_close(item["sar_image"][:, 0, 0], torch.tensor([0.0, 127.5, 63.75]))


# ---------------------------------------------------------------- what cannot be trained on


def test_training_sets_need_the_same_seen_classes(cfg, make_dataset):
    make_dataset("first", unseen=("road",))
    make_dataset("same", unseen=("road", "bridge"), classes=["city", "bridge", "road", "forest", "water"])
    make_dataset("other", unseen=("water",))
    train_mapper(cfg, "first", "same")
    with pytest.raises(
        ConfigError, match="'first' with the seen classes city, forest, water and 'other' with city, road"
    ):
        train_mapper(cfg, "first", "other")


def test_training_sets_that_cannot_be_used(cfg, make_dataset):
    with pytest.raises(ConfigError, match="DATASETS.TRAIN names 'pairs', which is not registered"):
        train_mapper(cfg)
    make_dataset("bare", labels=None)
    with pytest.raises(ConfigError, match="'bare', which has no labels"):
        train_mapper(cfg, "bare")
    make_dataset("blind", unseen=CLASSES)
    with pytest.raises(ConfigError, match="'blind' has unseen classes only"):
        train_mapper(cfg, "blind")
    make_dataset()
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 2
    with pytest.raises(ConfigError, match="IGNORE_VALUE is 2"):
        train_mapper(cfg)
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(ConfigError, match=r"DATASETS\.TRAIN is empty"):
        build_dataset_mapper(cfg, True)


@pytest.mark.parametrize(
    ("key", "value"), [("SAR.SCALE", "watt"), ("SAR.RANGE", [0, -1]), ("SAR.BANDS", [1, 2, 3, 4]), ("RGB.BANDS", [1])]
)
def test_wrong_settings_are_found_before_any_file_is_read(cfg, key, value):
    cfg.merge_from_list([f"INPUT.{key}", value])
    with pytest.raises(ConfigError, match=rf"INPUT\.{key}"):
        build_dataset_mapper(cfg, False)


def test_an_unknown_mapper_and_one_of_ones_own(cfg):
    cfg.INPUT.DATASET_MAPPER_NAME = "rgb_only"
    with pytest.raises(ConfigError, match="'rgb_only'; choose one of rgb_sar_pair, rgb_sar_semantic"):
        build_dataset_mapper(cfg, True)
    DATASET_MAPPER_REGISTRY._do_register("mine", lambda cfg, is_train: str)
    try:
        cfg.INPUT.DATASET_MAPPER_NAME = "mine"
        assert build_dataset_mapper(cfg, True) is str
    finally:
        DATASET_MAPPER_REGISTRY._obj_map.pop("mine")


# ---------------------------------------------------------------- files that cannot be used


def overwrite(sample, key, content):
    Path(sample[key]).write_bytes(content)


def spoil_missing_sar(sample, write_raster):
    Path(sample["sar_file_name"]).unlink()


def spoil_truncated_rgb(sample, write_raster):
    overwrite(sample, "file_name", Path(sample["file_name"]).read_bytes()[:-60])


def spoil_empty_label(sample, write_raster):
    overwrite(sample, "sem_seg_file_name", b"")


def spoil_sar_size(sample, write_raster):
    write_raster(Path(sample["sar_file_name"]), np.ones((60, 79), dtype=np.uint8))


def spoil_label_size(sample, write_raster):
    write_raster(Path(sample["sem_seg_file_name"]), np.ones((30, 40), dtype=np.uint8))


def spoil_label_value(sample, write_raster):
    write_raster(Path(sample["sem_seg_file_name"]), np.full((60, 80), 77, dtype=np.uint8))


def spoil_all_nodata_rgb(sample, write_raster):
    write_raster(Path(sample["file_name"]), np.zeros((60, 80, 4), dtype=np.uint8))


def spoil_all_nodata_sar(sample, write_raster):
    sample["sar_file_name"] = str(Path(sample["sar_file_name"]).with_suffix(".tif"))
    write_raster(Path(sample["sar_file_name"]), np.zeros((60, 80), dtype=np.uint8), nodata=0)


def spoil_crs(sample, write_raster):
    transform = from_origin(0, 0, 1, 1)
    for key, crs in (("file_name", "EPSG:32651"), ("sar_file_name", "EPSG:32652")):
        sample[key] = str(Path(sample[key]).with_suffix(".tif"))
        write_raster(Path(sample[key]), np.ones((60, 80), dtype=np.uint8), crs=crs, transform=transform)


def spoil_extent(sample, write_raster):
    for key, west in (("file_name", 0), ("sar_file_name", 3)):
        sample[key] = str(Path(sample[key]).with_suffix(".tif"))
        georeference = {"crs": "EPSG:32651", "transform": from_origin(west, 0, 1, 1)}
        write_raster(Path(sample[key]), np.ones((60, 80), dtype=np.uint8), **georeference)


def spoil_no_label(sample, write_raster):
    del sample["sem_seg_file_name"]


SPOILERS = {
    spoil_missing_sar: r"sar/0\.png does not exist",
    spoil_truncated_rgb: r"rgb/0\.png cannot be read",
    spoil_empty_label: r"labels/0\.png is an empty file",
    spoil_sar_size: r"rgb/0\.png is 80x60 pixels and .*sar/0\.png 79x60",
    spoil_label_size: r"rgb/0\.png is 80x60 pixels and .*labels/0\.png 40x30",
    spoil_label_value: r"labels/0\.png has the label value 77",
    spoil_all_nodata_rgb: r"rgb/0\.png holds no data",
    spoil_all_nodata_sar: r"sar/0\.tif holds no data",
    spoil_crs: r"rgb/0\.tif is in EPSG:32651 and .*sar/0\.tif in EPSG:32652",
    spoil_extent: r"sar/0\.tif cover different places",
    spoil_no_label: r"rgb/0\.png has no label map",
}


@pytest.mark.parametrize("spoil", SPOILERS)
def test_every_unusable_sample_is_one_clear_error_or_is_skipped(cfg, make_dataset, write_raster, caplog, spoil):
    (sample,) = make_dataset()
    spoil(sample, write_raster)
    with pytest.raises(DataError, match=SPOILERS[spoil]) as caught:
        train_mapper(cfg)(sample)
    assert "\n" not in str(caught.value)

    cfg.INPUT.SKIP_CORRUPT = True
    mapper = train_mapper(cfg)
    with caplog.at_level(logging.WARNING):
        assert mapper(sample) is None and mapper(sample) is None
    assert mapper.skipped.value == 2
    assert len(caplog.records) == 1 and str(caught.value) in caplog.text  # once a file is enough


def test_evaluation_says_why_a_sample_is_left_out(cfg, make_dataset, write_raster):
    (sample,) = make_dataset()
    spoil_missing_sar(sample, write_raster)
    with pytest.raises(DataError, match="does not exist"):
        build_dataset_mapper(cfg, False)(sample)
    cfg.INPUT.SKIP_CORRUPT = True
    mapper = build_dataset_mapper(cfg, False)
    item = mapper(sample)
    assert item == {**sample, "skipped": item["skipped"]} and "does not exist" in item["skipped"]
    assert mapper.skipped.value == 1


def test_training_ends_when_nothing_can_be_read(cfg, make_dataset, write_raster):
    good, bad = make_dataset(count=2)
    spoil_missing_sar(bad, write_raster)
    cfg.INPUT.SKIP_CORRUPT = True
    mapper = train_mapper(cfg)
    for _ in range(MAX_SKIPPED_IN_A_ROW - 1):
        assert mapper(bad) is None
    assert mapper(good) is not None
    for _ in range(MAX_SKIPPED_IN_A_ROW - 1):
        assert mapper(bad) is None
    with pytest.raises(DataError, match="100 samples in a row were left out"):
        mapper(bad)


def test_the_error_of_a_sample_can_be_pickled(cfg, make_dataset, write_raster):
    (sample,) = make_dataset()
    spoil_missing_sar(sample, write_raster)
    with pytest.raises(DataError) as caught:
        train_mapper(cfg)(sample)
    copied = pickle.loads(pickle.dumps(caught.value))
    assert type(copied) is type(caught.value) and str(copied) == str(caught.value)


# ---------------------------------------------------------------- real files


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="../shared/realdata is not here")
def test_real_openearthmap_sar_pairs(cfg):
    from detectron2.data import MetadataCatalog

    openearthmap = MetadataCatalog.get("oem_thick_val")
    register_rgb_sar_dataset(
        "oemsar_figure",
        root=REAL_DATA / "oemsar_figure",
        rgb="rgb_*.png",
        sar="sar_*.png",
        labels="label_*.png",
        classes=openearthmap.stuff_classes,
        unseen=openearthmap.unseen_classes,
        label_values={0: 255, **{value: value - 1 for value in range(1, 9)}},
    )
    mapper = train_mapper(cfg, "oemsar_figure")
    present = set()
    for sample in DatasetCatalog.get("oemsar_figure"):
        item = mapper(sample)
        assert item["image"].shape == item["sar_image"].shape == (3, 432, 432)
        present |= set(item["sem_seg"].unique().tolist())
    assert present <= {0, 1, 2, 3, 4, 255} and len(present) > 4


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="../shared/realdata is not here")
def test_real_pairs_with_sar_in_decibel(cfg):
    register_rgb_sar_dataset(
        "terramind",
        root=REAL_DATA / "terramind",
        rgb="rgb_*.tif",
        sar="sar_*.tif",
        labels="label_*.tif",
        classes=["water", "trees", "flooded vegetation", "crops", "built", "bare", "snow", "rangeland"],
        label_values={0: 255, 8: 255, 9: 7, **{value: value - 1 for value in range(1, 8)}},
    )
    with pytest.raises(DataError, match=r"float64 values, not 8-bit ones; set INPUT\.SAR\.SCALE"):
        train_mapper(cfg, "terramind")(DatasetCatalog.get("terramind")[0])
    cfg.INPUT.SAR.SCALE = "db"
    mapper = train_mapper(cfg, "terramind")
    for sample in DatasetCatalog.get("terramind"):
        item = mapper(sample)
        assert item["sar_image"].shape == (3, 224, 224) and item["sar_image"].std() > 1
        assert (item["sem_seg"] != 255).any()
