"""The parts of docs/ADVANCED_USAGE.md train and evaluate as the document says, and keep its contracts."""

import json
import re
import runpy
import shlex
import sys

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model

from laptop.drawn_world import write_synthetic_dataset
from mm_ovseg.data.mappers import DATASET_MAPPER_REGISTRY, build_dataset_mapper
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.backbone import IMAGE_ENCODER_REGISTRY
from mm_ovseg.modeling.fusion import FUSION_REGISTRY, build_fusion
from mm_ovseg.modeling.losses import SEGMENTATION_LOSS_REGISTRY, segmentation_loss
from mm_ovseg.modeling.unification_losses import UNIFICATION_LOSS_REGISTRY, unification_loss
from tests.conftest import ROOT

REGISTRIES = (DATASET_MAPPER_REGISTRY, IMAGE_ENCODER_REGISTRY, FUSION_REGISTRY, SEGMENTATION_LOSS_REGISTRY)
REGISTRIES += (UNIFICATION_LOSS_REGISTRY,)
TEXT = (ROOT / "docs" / "ADVANCED_USAGE.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """The module my_parts, in a working folder with the files that the document names; forgotten afterwards."""
    write_synthetic_dataset(tmp_path / "datasets" / "synthetic", num_train=2, num_val=2, size=64)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "projects").symlink_to(ROOT / "projects")
    *parts, script = blocks("python")
    assert len(parts) == 5 and all(part.count("\n") < 30 for part in parts)
    (tmp_path / "my_parts.py").write_text("".join(parts))
    (tmp_path / "my_train.py").write_text(script)
    (tmp_path / "my_config.yaml").write_text(blocks("yaml")[0])
    before = [dict(registry._obj_map) for registry in REGISTRIES]
    import my_parts

    yield my_parts
    del sys.modules["my_parts"]
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry._obj_map = entries


def test_the_commands_of_the_document(parts, tmp_path, monkeypatch):
    seen = set()

    def spied(name, function):
        return lambda *args, **named: [seen.add(name), function(*args, **named)][1]

    monkeypatch.setattr(parts.GammaMapper, "__call__", spied("mapper", parts.GammaMapper.__call__))
    monkeypatch.setattr(parts.SumFusion, "forward", spied("fusion", parts.SumFusion.forward))
    for registry, name in ((SEGMENTATION_LOSS_REGISTRY, "focal"), (UNIFICATION_LOSS_REGISTRY, "huber")):
        monkeypatch.setitem(registry._obj_map, name, spied(name, registry.get(name)))
    commands = [shlex.split(line) for line in blocks("bash")[-1].replace("\\\n", "").splitlines()]
    assert len(commands) == 2
    for python, *words in commands:
        assert python == "python"
        short = ["MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2"]
        monkeypatch.setattr(sys, "argv", [*words, *short])
        runpy.run_path(words[0], run_name="__main__")

    student, model = (
        torch.load(tmp_path / "output" / folder / "model_final.pth", weights_only=True)["model"]
        for folder in ("my_cmu", "my_parts")
    )
    assert torch.equal(model["dino_sar.encoder.model.1.0.weight"], student["student.model.1.0.weight"])
    assert not torch.equal(student["student.model.1.0.weight"], student["teacher.model.1.0.weight"])
    assert seen == {"mapper", "fusion", "focal", "huber"}
    report = tmp_path / "output/my_parts/inference/synthetic_val/sem_seg_evaluation.json"
    assert json.loads(report.read_text())["results"]["num_images"] == 2


def test_the_encoder_keeps_its_contract(parts):
    arguments = {"name": "", "arguments": {"width": 16}, "weights": "", "image_size": 32, "blocks": (2, 1)}
    statistics = {"pixel_mean": [127.5] * 3, "pixel_std": [60.0] * 3}
    encoder = parts.ConvEncoder(**arguments, **statistics)
    encoder.freeze()
    assert not encoder.train().training and not any(p.requires_grad for p in encoder.parameters())
    features = encoder(encoder.preprocess([torch.rand(3, 40, 50) * 255]))
    maps = (*features.guidance, features.dense)
    assert [tuple(block_map.shape) for block_map in maps] == [(1, encoder.out_channels, 4, 4)] * 2
    assert encoder.output_shape()["guidance"].channels == encoder.out_channels
    assert not torch.equal(*maps)
    encoder = parts.ConvEncoder(**arguments, **statistics)
    features = encoder(torch.rand(1, 3, 32, 32))
    sum(block_map.sum() for block_map in (*features.guidance, features.dense)).backward()
    assert all(p.grad is not None for p in encoder.parameters())
    assert encoder.transformer_blocks == ()
    with pytest.raises(ConfigError, match="ConvEncoder cannot recompute"):
        encoder.recompute_activations()


def test_the_fusion_keeps_its_contract(parts, make_cfg):
    cfg = make_cfg("configs/quickstart/mm_ovseg.yaml", "MODEL.COST_VOLUME.FUSION", "SumFusion")
    shape = {"dense": ShapeSpec(channels=8, height=6, width=6)}
    for with_dino in (True, False):
        fusion = build_fusion(cfg, {**shape, "dino": shape["dense"]} if with_dino else shape)
        costs = [torch.rand(2, 1, 5, 6, 6) for _ in range(1 + with_dino)] + [None] * (not with_dino)
        fused = fusion(*costs)
        assert fused.shape == (2, 5, cfg.MODEL.COST_VOLUME.WIDTH, 6, 6)
        fewer = fusion(*(cost if cost is None else cost[:, :, [3, 1]] for cost in costs))
        torch.testing.assert_close(fewer, fused[:, [3, 1]])


@pytest.mark.parametrize("ignored_as_negative", [True, False])
def test_the_loss_keeps_its_contract(parts, ignored_as_negative):
    settings = {"name": "focal", "ignore_label": 255, "ignored_as_negative": ignored_as_negative}
    for target in (torch.full((2, 4, 4), 255), torch.randint(0, 3, (2, 4, 4))):
        logits = torch.randn(2, 3, 4, 4, requires_grad=True)
        loss = segmentation_loss(logits, target, **settings)
        loss.backward()
        assert loss.shape == () and loss.isfinite() and logits.grad.isfinite().all()
    certain = torch.nn.functional.one_hot(target, 3).permute(0, 3, 1, 2) * 40.0 - 20.0
    assert segmentation_loss(certain, target, **settings) < 1e-6 < loss


def test_the_loss_of_stage_1_keeps_its_contract(parts, make_model):
    student, teacher = (torch.nn.functional.normalize(torch.randn(2, 3, 4), dim=2) for _ in range(2))
    valid = torch.tensor([[True, False, True], [False, False, True]])
    loss = unification_loss(student.requires_grad_(), teacher, valid, name="huber")
    loss.backward()
    assert loss > 0 and (student.grad[~valid] == 0).all() and student.grad[valid].abs().sum() > 0
    assert unification_loss(teacher, teacher, valid, name="huber") == 0
    with pytest.raises(ConfigError, match="huber has no temperature"):
        make_model("CMU.LOSS", "huber", "CMU.LEARNED_TEMPERATURE", True, config="configs/quickstart/cmu.yaml")


def test_the_mapper_keeps_its_contract(parts, tmp_path):
    cfg = load_config("my_config.yaml", ["MODEL.DEVICE", "cpu"])
    sample = DatasetCatalog.get("synthetic_train")[0]
    kept = dict(sample)
    item = build_dataset_mapper(cfg, True)(sample)
    assert sample == kept
    for key in ("image", "sar_image"):
        assert item[key].shape == (3, 192, 192) and item[key].dtype == torch.float32
        assert item[key].min() >= 0 and item[key].max() <= 255
    assert item["sem_seg"].dtype == torch.int64 and set(item["sem_seg"].unique().tolist()) <= {0, 1, 2, 255}


@pytest.mark.parametrize("key,known", [
    ("MODEL.DENSE_ENCODER.TYPE", "CLIPImageEncoder, DINOEncoder"),
    ("MODEL.COST_VOLUME.FUSION", "CostVolumeEmbedding"),
    ("LOSS.NAME", "binary_cross_entropy, cross_entropy"),
])  # fmt: skip
def test_a_part_that_is_not_registered(make_cfg, key, known):
    with pytest.raises(ConfigError, match=f"{key} is 'Unknown'; choose one of {known}"):
        build_model(make_cfg("configs/quickstart/mm_ovseg.yaml", key, "Unknown"))
