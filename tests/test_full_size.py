"""The full-size ViT-B/16 model, with random weights, on real pairs."""

import pytest
import rasterio
import torch
import yaml
from detectron2.utils.events import EventStorage

from demo import demo
from mm_ovseg.engine import Trainer, load_config
from tests.conftest import ROOT

CONFIG = ROOT / "configs" / "mm_ovseg_vitb16_384.yaml"
REAL_DATA = ROOT.parent / "shared" / "realdata"

pytestmark = pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"needs the real pairs of {REAL_DATA}")


def test_it_segments_a_real_pair_in_decibels(tmp_path):
    site = REAL_DATA / "terramind"
    rgb, sar = site / "rgb_38D_378R_2_3.tif", site / "sar_38D_378R_2_3.tif"
    words = ["--config-file", CONFIG, "--input", rgb, "--sar", sar, "--classes", "water,trees,crops"]
    words += ["--output", tmp_path, "--opts", "MODEL.DEVICE", "cpu", "INPUT.SAR.SCALE", "db"]
    demo.main([str(word) for word in words])
    with rasterio.open(tmp_path / "rgb_38D_378R_2_3_map.tif") as made, rasterio.open(rgb) as given:
        assert (made.crs, made.transform, made.shape) == (given.crs, given.transform, given.shape)
        assert made.read(1).max() <= 2


def test_it_takes_a_training_step_on_real_pairs(tmp_path):
    declared = {
        "root": str(REAL_DATA / "oemsar_figure"),
        "rgb": "rgb_*.png",
        "sar": "sar_*.png",
        "labels": "label_*.png",
        "classes": str(ROOT / "mm_ovseg" / "data" / "classes" / "openearthmap.json"),
        "label_values": {0: 255, **{value: value - 1 for value in range(1, 9)}},
    }
    (tmp_path / "real.yaml").write_text(yaml.safe_dump({"datasets": {"full_size_real": declared}}))
    words = ["MODEL.DEVICE", "cpu", "DATASETS.FILES", [str(tmp_path / "real.yaml")], "OUTPUT_DIR", str(tmp_path)]
    words += ["DATASETS.TRAIN", ("full_size_real",), "DATASETS.TEST", ()]
    cfg = load_config(CONFIG, [*words, "SOLVER.IMS_PER_BATCH", 1, "DATALOADER.NUM_WORKERS", 0])
    trainer = Trainer(cfg)
    parameters = dict(trainer.model.named_parameters())
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    with EventStorage() as storage:
        trainer._trainer.run_step()
        assert 0 < storage.latest()["total_loss"][0] < 5
    for name, parameter in parameters.items():
        if not parameter.requires_grad:
            assert torch.equal(parameter, before[name]), name
    assert not torch.equal(
        parameters["sem_seg_head.decoder.logits.weight"], before["sem_seg_head.decoder.logits.weight"]
    )
