"""Small runs for the tables: a config as Detectron2 writes it, and evaluations beside it."""

import json

import numpy as np
import torch
from detectron2.data import MetadataCatalog

from mm_ovseg.engine import load_config
from tests.conftest import ROOT

CONFIGS = ROOT / "configs"
STAGE_1 = ["MODEL.DENSE_ENCODER_SAR.WEIGHTS", "cmu/model_final.pth"]
# title: config of the setting, dataset it is evaluated on
SETTINGS = {
    "PIE-cloud": ("pie_cloud", "pie_cloud_val"),
    "DDHR-SK": ("ddhr_sk", "ddhr_sk_val"),
    "OEM-thick": ("oem_thick", "oem_thick_val"),
    "OEM-thin": ("oem_thin", "oem_thin_val"),
    "PIE-clean": ("pie_clean", "pie_clean_val"),
    "DDHR-SK → CH": ("ddhr_sk_to_ch", "ddhr_ch_val"),
}


def write_config(folder, config, *overrides, base=None):
    """``config.yaml`` as ``default_setup`` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    base = base and CONFIGS / base
    cfg = load_config(CONFIGS / config, ["MODEL.DEVICE", "cpu", *overrides], base=base, needs_datasets=False)
    (folder / "config.yaml").write_text(cfg.dump())


def write_evaluation(folder, dataset, right=500, **changes):
    """An evaluation as the evaluator writes it; returns the IoU in percent of each class.

    Of the 1000 pixels of class c, ``right`` + 10 c are right, and the others are taken for the next class.
    """
    metadata = MetadataCatalog.get(dataset)
    classes = metadata.stuff_classes
    hits = right + 10 * np.arange(len(classes))
    counts = np.diag(hits) + np.roll(np.diag(1000 - hits), 1, axis=1)
    content = {
        "dataset": dataset,
        "classes": list(classes),
        "unseen_classes": list(metadata.unseen_classes),
        "results": {},
        "confusion_matrix": counts.tolist(),
    }
    path = folder / "inference" / dataset / "sem_seg_evaluation.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | changes))
    return dict(zip(classes, 100 * hits / (counts.sum(0) + counts.sum(1) - hits), strict=True))


def write_run(folder, setting, *overrides, base=None, right=500):
    """A run in one of the settings; returns the IoU of each class."""
    config, dataset = SETTINGS[setting]
    write_config(folder, f"settings/{config}.yaml", *overrides, base=base)
    return write_evaluation(folder, dataset, right)


def write_weights(path, twin, changed):
    """Weights of an encoder and its twin, "dino" or "clip", with a share of the tensors changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    original = {f"{twin}.encoder.blocks.{index}.weight": torch.full((2,), index) for index in range(10)}
    twins = {
        name.replace(twin, f"{twin}_sar", 1): tensor + (index < 10 * changed)
        for index, (name, tensor) in enumerate(original.items())
    }
    torch.save({"model": {**original, **twins}}, path)


def write_measurement(path, config, **changes):
    """A file of ``mm-ovseg efficiency --json``, with what the tables read of it."""
    model, encoders = {
        "mm_ovseg": ("MMOVSeg", {"DENSE_ENCODER": "vit_base_patch8_224.dino"}),
        "gsnet": ("MMOVSeg", {"DENSE_ENCODER": "vit_base_patch8_224.dino"}),
        "cmu": ("CrossModalUnification", {"DENSE_ENCODER": "vit_base_patch8_224.dino"}),
        "quickstart": ("MMOVSeg", {"DENSE_ENCODER": "vit_tiny_patch16_224"}),
    }[config]
    if config != "cmu":
        encoders["CLIP"] = "ViT-B-16-quickgelu"
    if config != "gsnet":
        encoders["DENSE_ENCODER_SAR"] = encoders["DENSE_ENCODER"]
    content = {
        "config_file": config,
        "model": model,
        "encoders": encoders,
        "machine": {"device_name": f"a GPU for {config}"},
        "parameters": {"total": {"all": 334_294_417, "trainable": 1}},
        "inference": {"seconds_per_pair": 0.0501, "co2_kilograms_per_pair": 1.5e-5},
        "training": {"seconds_per_pair": 0.4, "co2_kilograms_per_pair": None},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | changes))
