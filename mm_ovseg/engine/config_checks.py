"""Checks of a config that Detectron2 leaves to a foreign error in the middle of a run, or to nobody."""

import json
import logging
import math
from collections.abc import Iterator

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY
from fvcore.common.registry import Registry

from mm_ovseg.choices import check_choice
from mm_ovseg.data.mappers import DATASET_MAPPER_REGISTRY
from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.encoders import encoder_names
from mm_ovseg.modeling.fusion import FUSION_REGISTRY

__all__ = ["check_modalities", "check_needs_training", "check_solver", "check_unread_keys", "needs_training"]

logger = logging.getLogger(__name__)

# Keys of Detectron2 that only other models, mappers or commands read.
UNREAD = (
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS",
    "DATALOADER.REPEAT_SQRT",  # of Detectron2's main branch, as FLOAT32_PRECISION
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN",
    "DATASETS.PROPOSAL_FILES_TEST",
    "DATASETS.PROPOSAL_FILES_TRAIN",
    "FLOAT32_PRECISION",
    "GLOBAL.HACK",
    "INPUT.FORMAT",
    "INPUT.MASK_FORMAT",
    "TEST.AUG",
    "TEST.DETECTIONS_PER_IMAGE",
    "TEST.KEYPOINT_OKS_SIGMAS",
    "VIS_PERIOD",
)
READ_MODEL = (
    "MODEL.DEVICE",
    "MODEL.META_ARCHITECTURE",
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE",
    "MODEL.SEM_SEG_HEAD.NAME",
    "MODEL.WEIGHTS",
)
ADVICE = {
    "FLOAT32_PRECISION": "MODEL.ALLOW_TF32 allows faster products",
    "INPUT.FORMAT": "images are always RGB, and INPUT.RGB.BANDS selects the bands",
    "MODEL.PIXEL_MEAN": "each encoder has its own, such as MODEL.CLIP.PIXEL_MEAN",
    "MODEL.PIXEL_STD": "each encoder has its own, such as MODEL.CLIP.PIXEL_STD",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": "the datasets, or the names that you give, determine the classes",
    "VIS_PERIOD": "VISUALIZATION.PAIRS shows predictions after each evaluation",
}


def check_unread_keys(cfg: CfgNode) -> None:
    """Check that no key of Detectron2 is set that nothing would read.

    A model, a head, a fusion or a mapper of your own may read any key: then nothing is checked.

    Raises:
        ConfigError: a key is set to another value than Detectron2's default.
    """
    for registry, name in (
        (DATASET_MAPPER_REGISTRY, cfg.INPUT.DATASET_MAPPER_NAME),
        (META_ARCH_REGISTRY, cfg.MODEL.META_ARCHITECTURE),
        (SEM_SEG_HEADS_REGISTRY, cfg.MODEL.SEM_SEG_HEAD.NAME),
        (FUSION_REGISTRY, cfg.MODEL.COST_VOLUME.FUSION),
    ):
        if _is_foreign(registry, name):
            return
    values = dict(_leaves(cfg))
    for key, default in _leaves(get_cfg()):
        unread = key not in READ_MODEL if key.startswith("MODEL.") else key.startswith(UNREAD)
        # As JSON: a config that was written to a file holds lists for tuples.
        if unread and json.dumps(values.get(key, default)) != json.dumps(default):
            raise ConfigError(
                f"{key} is a key of Detectron2 that nothing here reads{_advice(key)}; remove it from the config."
            )


def check_modalities(cfg: CfgNode) -> None:
    """Check that the model can do without an image where the config asks for it; one of your own is taken to.

    Raises:
        ConfigError: it is one of stage 1, or has no SAR encoder.
    """
    if _is_foreign(META_ARCH_REGISTRY, cfg.MODEL.META_ARCHITECTURE):
        return
    segments_sar = cfg.MODEL.META_ARCHITECTURE == "MMOVSeg" and any(
        name.endswith("_SAR") for name in encoder_names(cfg)
    )
    for key, value, harmless in (
        ("INPUT.DROP_RGB", cfg.INPUT.DROP_RGB, (0,)),
        ("INPUT.DROP_SAR", cfg.INPUT.DROP_SAR, (0,)),
        ("TEST.MODALITIES", cfg.TEST.MODALITIES, ("both", "rgb")),
    ):
        if value not in harmless and not segments_sar:
            raise ConfigError(
                f"{key} is {value}, which is for a model of stage 2 with SAR encoders; set it to {harmless[0]}."
            )


def needs_training(cfg: CfgNode) -> bool:
    """Whether the model has something to train."""
    return getattr(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), "needs_training", True)


def check_needs_training(cfg: CfgNode) -> None:
    """Check that the model has something to train.

    Raises:
        ConfigError: it does without training.
    """
    if not needs_training(cfg):
        raise ConfigError(
            f"{cfg.MODEL.META_ARCHITECTURE} needs no training; evaluate it with --eval-only and CLIP's weights "
            "(MODEL.CLIP.PRETRAINED openai)."
        )


def check_solver(cfg: CfgNode) -> None:
    """Check the numbers of the optimiser and its schedule, and warn of a warm-up that never ends.

    Raises:
        ConfigError: a value is out of its range, or does not suit another one.
    """
    solver, clipping = cfg.SOLVER, cfg.SOLVER.CLIP_GRADIENTS
    for key, value, least in (
        ("SOLVER.MAX_ITER", solver.MAX_ITER, 1),
        ("SOLVER.CHECKPOINT_PERIOD", solver.CHECKPOINT_PERIOD, 1),
        ("SOLVER.MAX_CHECKPOINTS", solver.MAX_CHECKPOINTS, 0),
        ("SOLVER.WARMUP_ITERS", solver.WARMUP_ITERS, 0),
        ("SOLVER.BASE_LR", solver.BASE_LR, 0),
        ("SOLVER.WEIGHT_DECAY", solver.WEIGHT_DECAY, 0),
        ("TEST.EVAL_PERIOD", cfg.TEST.EVAL_PERIOD, 0),
    ):
        if not (least <= value < math.inf):
            raise ConfigError(f"{key} is {value}; it must be at least {least}.")
    if solver.WARMUP_ITERS >= solver.MAX_ITER:
        logger.warning(
            "SOLVER.WARMUP_ITERS is %d and SOLVER.MAX_ITER %d: the learning rate never reaches SOLVER.BASE_LR, and the "
            "model learns next to nothing. This is right for trying out a config only; otherwise lower WARMUP_ITERS.",
            *(solver.WARMUP_ITERS, solver.MAX_ITER),
        )
    if solver.REFERENCE_WORLD_SIZE and solver.IMS_PER_BATCH % solver.REFERENCE_WORLD_SIZE:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {solver.IMS_PER_BATCH}, which is not a multiple of SOLVER.REFERENCE_WORLD_SIZE "
            f"{solver.REFERENCE_WORLD_SIZE}."
        )
    check_choice("SOLVER.OPTIMIZER", solver.OPTIMIZER, ("ADAMW", "SGD"))
    if not 0 <= solver.MOMENTUM < 1:
        raise ConfigError(f"SOLVER.MOMENTUM is {solver.MOMENTUM}; choose one from 0 to below 1.")
    if solver.NESTEROV and (solver.OPTIMIZER != "SGD" or solver.MOMENTUM == 0):
        raise ConfigError("SOLVER.NESTEROV needs SOLVER.OPTIMIZER SGD with SOLVER.MOMENTUM above 0.")
    if clipping.ENABLED:
        check_choice("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", clipping.CLIP_TYPE, ("full_model", "norm", "value"))
        for key, value in (("CLIP_VALUE", clipping.CLIP_VALUE), ("NORM_TYPE", clipping.NORM_TYPE)):
            if not value > 0:
                raise ConfigError(f"SOLVER.CLIP_GRADIENTS.{key} is {value}; it must be above 0.")


def _is_foreign(registry: Registry, name: str) -> bool:
    """Whether a registered object was defined outside this package; False for a name that is not registered."""
    return name in registry and not registry.get(name).__module__.startswith(("mm_ovseg.", "detectron2."))


def _advice(key: str) -> str:
    return f" ({ADVICE[key]})" if key in ADVICE else ""


def _leaves(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, value) of every value in a config."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
