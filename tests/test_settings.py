"""The paper's six settings, from small files in the released layout through train_net.py to the scores."""

import json

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from PIL import Image

import train_net
from mm_ovseg.engine import load_config
from tests.conftest import ROOT
from tests.datasets.conftest import noise

SIZE = 96
# setting: training set, evaluated on
SETTINGS = {
    "pie_cloud": ("pie_cloud_train", "pie_cloud_val"),
    "ddhr_sk": ("ddhr_sk_train", "ddhr_sk_val"),
    "oem_thick": ("oem_thick_train", "oem_thick_val"),
    "oem_thin": ("oem_thin_train", "oem_thin_val"),
    "pie_clean": ("pie_clean_train", "pie_clean_val"),
    "ddhr_sk_to_ch": ("ddhr_sk_train", "ddhr_ch_val"),
}
TINY = {
    "MODEL.DEVICE": "cpu",
    "MODEL.CLIP.NAME": "ViT-quickstart-16",
    "MODEL.CLIP.IMAGE_SIZE": SIZE,
    "MODEL.CLIP.GUIDANCE_BLOCKS": [1, 2],
    "MODEL.DENSE_ENCODER.NAME": "vit_tiny_patch16_224",
    "MODEL.DENSE_ENCODER.IMAGE_SIZE": SIZE,
    "MODEL.AGGREGATOR.WINDOW_SIZE": 6,
    "INPUT.CROP.SIZE": [SIZE, SIZE],
    "INPUT.MIN_SIZE_TRAIN": (SIZE,),
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "DATALOADER.NUM_WORKERS": 0,
}


# folder: kinds of RGB, SAR, label maps, suffix of the RGB files, number of classes that the label maps show
RELEASED = {
    "PIE_RGBSAR/train": (("rgb", "rgb_clouds"), "sar", "D2masks6", ".png", 4),
    "PIE_RGBSAR/val": (("rgb", "rgb_clouds"), "sar", "D2masks6", ".png", 6),
    "DDSK/train": (("rgb_clouds",), "sar", "D2masks3class", ".png", 3),
    "DDSK/val": (("rgb_clouds",), "sar", "D2masks", ".png", 5),
    "DDCH/val": (("rgb_clouds",), "sar", "D2masks", ".jpg", 5),
    "OEM/train": (("rgb_cloud", "rgb_cloud_thin"), "imgs", "D2masks5class", ".png", 5),
    "OEM/val": (("rgb_cloud", "rgb_cloud_thin"), "imgs", "D2masks", ".png", 8),
}


def write_picture(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """A folder for DETECTRON2_DATASETS with two pairs a split; label maps are stripes, one a value and one ignored."""
    root = tmp_path_factory.mktemp("datasets")
    for place, (rgb_kinds, sar, labels, suffix, classes) in RELEASED.items():
        values = np.array([*range(classes), 255], dtype=np.uint8)
        stripes = np.tile(values[np.arange(SIZE) * len(values) // SIZE], (SIZE, 1))
        for index in range(2):
            for kind in rgb_kinds:
                write_picture(root / place / kind / f"tile_{index}{suffix}", noise(SIZE, SIZE, 3, index))
            write_picture(root / place / sar / f"tile_{index}.png", noise(SIZE, SIZE, 1, index + 50)[..., 0])
            write_picture(root / place / labels / f"tile_{index}.png", stripes)
    return root


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_trains_and_evaluates_with_its_config(datasets, monkeypatch, tmp_path, setting):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    words = ["--config-file", ROOT / "configs" / "settings" / f"{setting}.yaml", "OUTPUT_DIR", tmp_path]
    train_net.main([str(word) for word in (*words, *(word for item in TINY.items() for word in item))])
    losses = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert any(line.get("total_loss", 0) > 0 for line in losses)

    name = SETTINGS[setting][1]
    report = json.loads((tmp_path / "inference" / name / "sem_seg_evaluation.json").read_text())
    metadata, results = MetadataCatalog.get(name), report["results"]
    assert report["classes"] == metadata.stuff_classes and results["num_images"] == 2
    # All classes lie in the label maps, and the mean over seen and unseen ones is the paper's.
    seen, unseen = len(metadata.stuff_classes) - len(metadata.unseen_classes), len(metadata.unseen_classes)
    weighted = seen * results["mIoU-seen"] + unseen * results["mIoU-unseen"]
    assert results["mIoU"] == pytest.approx(weighted / (seen + unseen))


def test_a_setting_is_the_method_on_its_datasets():
    method = load_config(ROOT / "configs" / "mm_ovseg_vitb16_384.yaml", ["MODEL.DEVICE", "cpu"])
    names = {path.stem for path in (ROOT / "configs" / "settings").glob("*.yaml")}
    assert names == set(SETTINGS)
    for setting, (train, test) in SETTINGS.items():
        cfg = load_config(ROOT / "configs" / "settings" / f"{setting}.yaml", ["MODEL.DEVICE", "cpu"])
        assert ((train,), (test,)) == (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST)
        assert f"output/settings/{setting}" == cfg.OUTPUT_DIR
        assert cfg.MODEL == method.MODEL and cfg.SOLVER == method.SOLVER and cfg.INPUT == method.INPUT
