"""The parts of docs/extend.py train and evaluate as a user runs them, and keep the contracts of ADVANCED_USAGE.md."""

import ast
import importlib.util
import json

import numpy as np
import pytest
import rasterio
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
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
from mm_ovseg.raster import SAR_UNITS, read_sar
from tests.conftest import ROOT

SCRIPT = ROOT / "docs" / "extend.py"
REGISTRIES = (DATASET_MAPPER_REGISTRY, IMAGE_ENCODER_REGISTRY, FUSION_REGISTRY, SEGMENTATION_LOSS_REGISTRY)
REGISTRIES += (UNIFICATION_LOSS_REGISTRY,)


def write_coast(root):
    """The drawn world, with SAR in the script's unit."""
    write_synthetic_dataset(root, num_train=2, num_val=2, size=64, file_format="tif")
    for path in root.glob("*/sar/*.tif"):
        with rasterio.open(path) as file:
            profile, amplitude = file.profile, file.read(1)
        decibels = 20 * np.log10(np.maximum(amplitude, 1) / 255)
        profile.update(dtype="int16", count=1, nodata=None)
        with rasterio.open(path, "w", **profile) as file:
            file.write(np.rint(decibels * 100).astype(np.int16), 1)


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """The module, in a working folder with its dataset; forgotten afterwards."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.chdir(tmp_path)
    write_coast(tmp_path / "datasets" / "coast")
    before = [dict(registry._obj_map) for registry in REGISTRIES]
    spec = importlib.util.spec_from_file_location("extend", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("coast_train", "coast_val"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    SAR_UNITS.pop("centidecibels")
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry._obj_map = entries


def test_every_part_is_short():
    for node in ast.parse(SCRIPT.read_text(encoding="utf-8")).body:
        first = min(part.lineno for part in (node, *getattr(node, "decorator_list", [])))
        assert node.end_lineno - first + 1 < 30


def test_the_commands(parts, tmp_path, monkeypatch):
    seen = set()

    def spied(name, function):
        return lambda *args, **named: [seen.add(name), function(*args, **named)][1]

    monkeypatch.setattr(parts.GammaMapper, "__call__", spied("mapper", parts.GammaMapper.__call__))
    monkeypatch.setattr(parts.SumFusion, "forward", spied("fusion", parts.SumFusion.forward))
    for registry, name in ((SEGMENTATION_LOSS_REGISTRY, "focal"), (UNIFICATION_LOSS_REGISTRY, "huber")):
        monkeypatch.setitem(registry._obj_map, name, spied(name, registry.get(name)))
    for config in ("extend_cmu.yaml", "extend.yaml"):
        short = ["MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2"]
        parts.main(["--config-file", str(ROOT / "docs" / config), *short])

    student, model = (
        torch.load(tmp_path / "output" / folder / "model_final.pth", weights_only=True)["model"]
        for folder in ("extend_cmu", "extend")
    )
    assert torch.equal(model["dino_sar.encoder.model.1.0.weight"], student["student.model.1.0.weight"])
    assert not torch.equal(student["student.model.1.0.weight"], student["teacher.model.1.0.weight"])
    assert seen == {"mapper", "fusion", "focal", "huber"}
    report = tmp_path / "output/extend/inference/coast_val/sem_seg_evaluation.json"
    assert json.loads(report.read_text())["results"]["num_images"] == 2


def test_the_script_takes_the_arguments_of_training(parts, capsys):
    with pytest.raises(SystemExit, match="0"):
        parts.main(["--help"])
    assert "--num-gpus" in capsys.readouterr().out


def test_the_unit_is_the_same_sar(parts, tmp_path):
    path = next((tmp_path / "datasets" / "coast" / "val" / "sar").glob("*.tif"))
    with rasterio.open(path) as file:
        profile, stored = file.profile, file.read(1)
    profile.update(dtype="float32")
    with rasterio.open(tmp_path / "db.tif", "w", **profile) as file:
        file.write(stored.astype(np.float32) / 100, 1)
    ours, valid = read_sar(path, scale="centidecibels", value_range=(-25.0, 0.0))
    theirs, _ = read_sar(tmp_path / "db.tif", scale="db", value_range=(-25.0, 0.0))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    unit = SAR_UNITS["centidecibels"]
    values = np.array([-2500.0, -1.0, 0.0, 300.0], np.float32)
    np.testing.assert_allclose(unit.from_power(unit.to_power(values)), values, atol=1e-2)
    assert valid.all() and ours.std() > 10


def test_the_encoder_keeps_its_contract(parts):
    arguments = {"name": "", "arguments": {"width": 16}, "weights": "", "image_size": 32, "blocks": (2, 1)}
    statistics = {"pixel_mean": [127.5] * 3, "pixel_std": [60.0] * 3}
    encoder = parts.ConvEncoder(**arguments, **statistics)
    encoder.freeze()
    assert not encoder.train().training and not any(p.requires_grad for p in encoder.parameters())
    features = encoder(encoder.preprocess([torch.rand(3, 40, 50) * 255]))
    maps = (*features.guidance, features.dense)
    assert [tuple(block_map.shape) for block_map in maps] == [(1, encoder.out_channels, 4, 4)] * 2
    assert encoder.output_shape()["fine"].channels == encoder.out_channels
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
        loss = segmentation_loss([(logits, target)], **settings)
        loss.backward()
        assert loss.shape == () and loss.isfinite() and logits.grad.isfinite().all()
    certain = torch.nn.functional.one_hot(target, 3).permute(0, 3, 1, 2) * 40.0 - 20.0
    assert segmentation_loss([(certain, target)], **settings) < 1e-6 < loss


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
    cfg = load_config(ROOT / "docs" / "extend.yaml", ["MODEL.DEVICE", "cpu"])
    sample = DatasetCatalog.get("coast_train")[0]
    kept = dict(sample)
    item = build_dataset_mapper(cfg, True)(sample)
    assert sample == kept
    for key in ("image", "sar_image"):
        assert item[key].shape == (3, 192, 192) and item[key].dtype == torch.float32
        assert item[key].min() >= 0 and item[key].max() <= 255
    assert item["sem_seg"].dtype == torch.int64 and set(item["sem_seg"].unique().tolist()) <= {0, 1, 2, 255}


@pytest.mark.parametrize("key,known", [
    ("MODEL.DENSE_ENCODER.TYPE", "CLIPImageEncoder, ConvolutionalCLIP, ConvolutionalEncoder, DINOEncoder"),
    ("MODEL.COST_VOLUME.FUSION", "CostVolumeEmbedding"),
    ("LOSS.NAME", "binary_cross_entropy, cross_entropy"),
])  # fmt: skip
def test_a_part_that_is_not_registered(make_cfg, key, known):
    with pytest.raises(ConfigError, match=f"{key} is 'Unknown'; choose one of {known}"):
        build_model(make_cfg("configs/quickstart/mm_ovseg.yaml", key, "Unknown"))
