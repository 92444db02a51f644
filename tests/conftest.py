"""What several test modules share: a tiny model and random pairs."""

from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from mm_ovseg import add_mm_ovseg_config

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def make_cfg():
    """A function ``(config="configs/quickstart/mm_ovseg.yaml", *overrides) -> cfg`` for a tiny model on the CPU."""

    def make(config="configs/quickstart/mm_ovseg.yaml", *overrides):
        cfg = get_cfg()
        add_mm_ovseg_config(cfg)
        cfg.merge_from_file(str(ROOT / config))
        cfg.merge_from_list(["MODEL.DEVICE", "cpu", "DATASETS.TRAIN", (), "DATASETS.TEST", (), *overrides])
        return cfg

    return make


@pytest.fixture
def make_model(make_cfg):
    """A function ``(*overrides) -> model`` for a tiny MMOVSeg with seeded random weights."""

    def make(*overrides, config="configs/quickstart/mm_ovseg.yaml"):
        torch.manual_seed(0)
        return build_model(make_cfg(config, *overrides))

    return make


def random_pair(height=48, width=64, seed=0, num_classes=None):
    """A batch item of noise, with labels where ``num_classes`` is given."""
    generator = torch.Generator().manual_seed(seed)
    pair = {
        "file_name": f"pair_{seed}.png",
        "image": torch.rand(3, height, width, generator=generator) * 255,
        "sar_image": torch.rand(3, height, width, generator=generator) * 255,
    }
    if num_classes is not None:
        pair["sem_seg"] = torch.randint(0, num_classes, (height, width), generator=generator)
    return pair
