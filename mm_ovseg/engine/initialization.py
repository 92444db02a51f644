"""Initial weights of stage 2 that are computed from data."""

import logging
from itertools import islice

from detectron2.config import CfgNode
from torch import nn

from mm_ovseg.data.loader import build_train_loader
from mm_ovseg.data.mappers import RGBSARPairMapper
from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.text_projection_fit import fit_text_projections

__all__ = ["initialize_text_projections"]

logger = logging.getLogger(__name__)


def initialize_text_projections(cfg: CfgNode, model: nn.Module, seed: int) -> None:
    """Fit the dense encoder's projections to CLIP's dense features, if the config asks for it.

    Args:
        cfg: ``MODEL.DENSE_ENCODER.FIT_DATASET``, a registered dataset, and ``FIT_IMAGES``, the number of
            crops, which are augmented and batched (``SOLVER.IMS_PER_BATCH``) as in training.
        model: a stage-2 model.
        seed: for the crops.

    Raises:
        ConfigError: FIT_IMAGES is below 1, or the projection upsamples its grid.
    """
    dataset, batch = cfg.MODEL.DENSE_ENCODER.FIT_DATASET, cfg.SOLVER.IMS_PER_BATCH
    if not dataset or getattr(model, "dino", None) is None:
        return
    batches = -(-cfg.MODEL.DENSE_ENCODER.FIT_IMAGES // batch)
    if batches < 1:
        raise ConfigError(
            f"MODEL.DENSE_ENCODER.FIT_IMAGES is {cfg.MODEL.DENSE_ENCODER.FIT_IMAGES}; give at least 1, or leave "
            "MODEL.DENSE_ENCODER.FIT_DATASET empty."
        )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TRAIN = (dataset,)
    cfg.SEED = seed
    loader = build_train_loader(cfg, RGBSARPairMapper(cfg, True))
    logger.info(
        "Fitting the dense encoder's projections to CLIP's features of %d crops of %s.", batches * batch, dataset
    )
    fit_text_projections(model, islice(loader, batches))
