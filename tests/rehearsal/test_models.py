"""Inference and the loss of every config and of other variants of the models on a GPU, in three precisions."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from mm_ovseg.modeling.losses import SEGMENTATION_LOSS_REGISTRY
from mm_ovseg.modeling.unification_losses import UNIFICATION_LOSS_REGISTRY
from tests.conftest import ROOT, random_pair
from tests.rehearsal.device import CUDA, DTYPES, fake_device, loaded_batch, tiny_cfg, tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")

STAGE_1, STAGE_2 = "configs/cmu_dino_vitb8.yaml", "configs/mm_ovseg_vitb16_384.yaml"
CLIP_STUDENT = ["CMU.ENCODER", "clip"]
NO_DINO = ["MODEL.DENSE_ENCODER.ENABLED", False, "MODEL.DENSE_ENCODER_SAR.ENABLED", False]
READS = {"EBSeg": 1}  # a training batch: the matching costs of all stages are copied to the CPU at once
TWO_TEMPLATES = ["MODEL.TEXT.TEMPLATES", ["a photo of {}", "{} from above"]]


def different_configs():
    """The repository's configs that are different models in tiny: those of settings differ in their datasets only."""
    models = {}
    for pattern in ("*_*.yaml", "siblings/*.yaml", "ablations/*.yaml", "settings/*.yaml"):
        for path in sorted((ROOT / "configs").glob(pattern)):
            config = str(path.relative_to(ROOT))
            cfg = tiny_cfg(config)
            models.setdefault(str([cfg[node] for node in ("MODEL", "CMU", "LOSS")]), config)
    return list(models.values())


def check_loss(model, batch, dtype):
    """In the precision asked for, and without waiting for the GPU but for READS."""
    with fake_device(dtype) as watch:
        losses = model.train()(batch).values()
    for loss in losses:
        assert loss.device == torch.device(CUDA) and loss.dtype == torch.float32 and loss.shape == ()
        assert loss.requires_grad
    assert watch.reads == READS.get(type(model).__name__, 0) and DTYPES[dtype] in watch.dtypes


def check_outputs(model, batch, dtype):
    """In the precision asked for by config, and without waiting for the GPU."""
    model.inference_dtype = DTYPES[dtype]
    with fake_device() as watch:
        outputs = model.eval()(batch)
    assert watch.reads == 0 and DTYPES[dtype] in watch.dtypes
    for item, output in zip(batch, outputs, strict=True):
        if model.task == "sem_seg":
            height, width = item["image"].shape[1:]
            assert output["sem_seg"].shape == (len(model.vocabulary), item.get("height", height), width)
        for tensor in tree_leaves(output):
            assert tensor.device == torch.device(CUDA) and tensor.dtype in (torch.float32, torch.bool)


@pytest.mark.parametrize("config", different_configs())
def test_every_config(config):
    model, batch = tiny_model(tiny_cfg(config)), loaded_batch()
    for dtype in DTYPES:
        if getattr(model, "needs_training", True):
            check_loss(model, batch, dtype)
        check_outputs(model, batch, dtype)


def test_segearth_with_its_upsampler_and_a_background():
    words = ["MODEL.SEGEARTH.THRESHOLD", 0.3, "MODEL.SEGEARTH.BACKGROUND", "road"]
    model = tiny_model(tiny_cfg("configs/siblings/segearth_ov_vitb16.yaml", *words))
    model.upsampler.has_weights = True  # they have no numbers here
    for dtype in DTYPES:
        check_outputs(model, loaded_batch((48, 64), (30, 40)), dtype)


def variants_of(config, *variants):
    return [pytest.param(config, overrides, id=",".join(map(str, overrides))) for overrides in variants]


@pytest.mark.parametrize("config,overrides", [
    *variants_of(
        STAGE_1,
        *(["CMU.LOSS", name] for name, _ in UNIFICATION_LOSS_REGISTRY),
        ["CMU.NEGATIVES", "image", "CMU.SYMMETRIC", True],
        ["CMU.SYMMETRIC", True, "CMU.LEARNED_TEMPERATURE", True],
        ["CMU.EMA_DECAY", 0.9],
        ["MODEL.ACTIVATION_CHECKPOINTING", True],
        [*CLIP_STUDENT, "MODEL.ACTIVATION_CHECKPOINTING", True],
    ),
    *variants_of(
        STAGE_2,
        *(["LOSS.NAME", name, "LOSS.IGNORED_AS_NEGATIVE", False] for name, _ in SEGMENTATION_LOSS_REGISTRY),
        ["MODEL.CLIP_SAR.ENABLED", True, *NO_DINO],
        ["MODEL.AGGREGATOR.MAX_CLASSES", 2],
        ["MODEL.AGGREGATOR.CLASS_CHUNK", 2, "MODEL.ACTIVATION_CHECKPOINTING", True],
        ["MODEL.TEXT.SYNONYMS", "first", *TWO_TEMPLATES],
        ["MODEL.CLIP.FINETUNE", "none", "MODEL.AGGREGATOR.PADDED_CLASSES", 2],
    ),
])  # fmt: skip
def test_variants(config, overrides):
    model = tiny_model(tiny_cfg(config, *overrides))
    batch = loaded_batch()
    check_loss(model, batch, "bfloat16")
    check_outputs(model, batch, "float16")


def batch_of_all_kinds():
    """Pairs of several sizes, with each image in all, in a part, and in no part of them, and outputs of other sizes."""
    batch = loaded_batch((48, 64), (30, 40), (64, 64), (48, 64), (48, 64), (48, 64))
    for item, columns in zip(batch, (64, 20, 30, 0, 64, 50), strict=True):
        item["sar_valid"] = (torch.arange(item["image"].shape[2]) < columns).repeat(item["image"].shape[1], 1)
    batch[2]["image_valid"] = ~batch[2]["sar_valid"]
    batch[2]["height"] = 96
    batch[5]["image_valid"] = torch.zeros(48, 64, dtype=torch.bool)
    batch[4]["sem_seg"][:] = 255
    return batch


@pytest.mark.parametrize("config", [STAGE_1, STAGE_2])
def test_a_batch_of_all_kinds(config):
    model, batch = tiny_model(tiny_cfg(config)), batch_of_all_kinds()
    check_loss(model, batch, "bfloat16")
    check_outputs(model, batch, "float16")


TWIN_OF_CLIP = ["MODEL.CLIP_SAR.ENABLED", True]


@pytest.mark.parametrize("overrides", [[], TWIN_OF_CLIP, [*TWIN_OF_CLIP, "MODEL.DENSE_ENCODER_SAR.ENABLED", False]])
def test_pairs_without_sar_and_without_rgb(overrides):
    model = tiny_model(tiny_cfg(STAGE_2, *overrides))
    without_rgb = [
        {**item, "image_valid": torch.zeros(48, 64, dtype=torch.bool), "sem_seg": item["sem_seg"]}
        for item in loaded_batch()
    ]
    check_outputs(model, [{**random_pair(), "sar_image": None}, random_pair()], "bfloat16")
    check_outputs(model, [*without_rgb, random_pair()], "bfloat16")
    check_loss(model, without_rgb, "float16")
