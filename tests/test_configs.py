"""The configs of the repository: each builds its model, in small, and says what its name promises."""

import pytest
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from mm_ovseg.engine import load_config
from tests.conftest import ROOT

FOLDERS = ("configs", "projects/laptop/configs")
CONFIGS = sorted(str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*.yaml"))
WITHOUT_FILES = [
    "DATASETS.TRAIN",
    (),
    "DATASETS.TEST",
    (),
    "MODEL.DENSE_ENCODER_SAR.WEIGHTS",
    "",
    "MODEL.CLIP_SAR.WEIGHTS",
    "",
]
WITHOUT_FILES += ["MODEL.DENSE_ENCODER.PRETRAINED", "", "MODEL.CLIP.PRETRAINED", "", "MODEL.EBSEG.SAM.PRETRAINED", ""]
# Depth and blocks stay as they are, but for CLIP's: open_clip's models come in their own sizes only.
SMALL = ["MODEL.CLIP.NAME", "ViT-quickstart-16", "MODEL.CLIP.GUIDANCE_BLOCKS", [1, 2], "MODEL.CLIP.IMAGE_SIZE", 192]
SMALL += ["MODEL.DENSE_ENCODER.IMAGE_SIZE", 192, "MODEL.AGGREGATOR.WINDOW_SIZE", 6]
SMALL += ["MODEL.EBSEG.CLIP_BLOCKS", [1, 2, 3], "MODEL.EBSEG.SURGERY_BLOCK", 2]


def read(config, *overrides):
    return load_config(ROOT / config, ["MODEL.DEVICE", "cpu", *overrides])


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_builds_its_model(config):
    cfg = read(config)
    is_small = not cfg.MODEL.CLIP.NAME.startswith(("ViT-B", "ViT-L"))
    if not is_small:
        cfg = read(config, *SMALL, *(["CMU.BLOCKS", [1, 2, 4]] if cfg.CMU.ENCODER == "clip" else []))
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list(WITHOUT_FILES)
    if not is_small:
        cfg.MODEL.DENSE_ENCODER.ARGUMENTS = CfgNode({"embed_dim": 24, "num_heads": 2})
        cfg.MODEL.EBSEG.SAM.ARGUMENTS = CfgNode({"embed_dim": 24, "num_heads": 2, "img_size": 128})
    model = build_model(cfg)
    assert type(model).__name__ == cfg.MODEL.META_ARCHITECTURE
    trains = any(parameter.requires_grad for parameter in model.parameters())
    assert trains == getattr(model, "needs_training", True)


@pytest.mark.parametrize("name,encoder,blocks", [
    ("dino_vitb8", "vit_base_patch8_224.dino", [4, 8, 12]),
    ("dino_vitb16", "vit_base_patch16_224.dino", [4, 8, 12]),
    ("dinov3_vitl16", "vit_large_patch16_dinov3_qkvb.sat493m", [8, 16, 24]),
    ("clip_vitb16", "ViT-B-16-quickgelu", [4, 8, 12]),
])  # fmt: skip
def test_stage_1_is_trained_as_in_the_paper(name, encoder, blocks):
    cfg = read(f"configs/cmu_{name}.yaml")
    assert (cfg.MODEL.CLIP.NAME if cfg.CMU.ENCODER == "clip" else cfg.MODEL.DENSE_ENCODER.NAME) == encoder
    cmu, solver = cfg.CMU, cfg.SOLVER
    assert ("clip" if name.startswith("clip") else "dense", "infonce", blocks) == (cmu.ENCODER, cmu.LOSS, cmu.BLOCKS)
    assert (solver.OPTIMIZER, solver.IMS_PER_BATCH) == ("ADAMW", 8)
    assert (solver.BASE_LR, solver.WEIGHT_DECAY) == (3e-4, 1e-4)
    assert (f"output/cmu_{name}", ("cmu_pairs_val",)) == (cfg.OUTPUT_DIR, cfg.DATASETS.TEST)


@pytest.mark.parametrize("name,clip_weights,dino_weights", [
    ("encoder_none", None, ""),
    ("encoder_clip", "configs/cmu_clip_vitb16.yaml", None),
    ("encoder_dino", None, "configs/cmu_dino_vitb8.yaml"),
    ("encoder_both", "configs/cmu_clip_vitb16.yaml", "configs/cmu_dino_vitb8.yaml"),
    ("loss_mse", None, "configs/ablations/cmu_loss_mse.yaml"),
    ("loss_l1", None, "configs/ablations/cmu_loss_l1.yaml"),
    ("optical_only", None, None),
])  # fmt: skip
def test_an_ablation_takes_its_sar_encoders_from_their_stage_1(name, clip_weights, dino_weights):
    model = read(f"configs/ablations/{name}.yaml").MODEL
    for twin, stage_1 in ((model.CLIP_SAR, clip_weights), (model.DENSE_ENCODER_SAR, dino_weights)):
        assert (stage_1 is not None) == twin.ENABLED
        if stage_1:
            assert f"{read(stage_1).OUTPUT_DIR}/model_final.pth" == twin.WEIGHTS


def test_the_loss_study_changes_the_loss_alone():
    method = read("configs/cmu_dino_vitb8.yaml")
    for loss in ("mse", "l1"):
        cfg = read(f"configs/ablations/cmu_loss_{loss}.yaml", "OUTPUT_DIR", method.OUTPUT_DIR)
        assert loss == cfg.CMU.LOSS
        cfg = read(f"configs/ablations/cmu_loss_{loss}.yaml", "OUTPUT_DIR", method.OUTPUT_DIR, "CMU.LOSS", "infonce")
        assert cfg == method
