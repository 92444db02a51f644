"""Initial weights of stage 2 that are computed from data."""

import logging
from itertools import islice

from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn

from mm_ovseg.data.catalog import list_pairs
from mm_ovseg.data.loader import TrainLoader
from mm_ovseg.data.mappers import RGBSARPairMapper
from mm_ovseg.modeling.text_projection_fit import fit_text_projections

__all__ = ["initialize_text_projections"]

# The fit compares what the encoders say about the same ground, which clouds, noise and other colours only blur.
PLAIN = ("INPUT.CLOUDS.ENABLED", False, "INPUT.COLOR_AUG_SSD", False, "INPUT.SAR.SPECKLE_LOOKS", 0.0)

logger = logging.getLogger(__name__)


def initialize_text_projections(cfg: CfgNode, model: nn.Module, seed: int) -> None:
    """Fit the dense encoder's projections to CLIP's dense features, if the config asks for it.

    The fit sees clear crops: resized, cropped and flipped as in training, but without clouds, changes of colour and
    speckle, and all pairs equally often, whatever the mapper and the sampler of the training.

    Args:
        cfg: ``MODEL.DENSE_ENCODER.FIT_DATASET``, a registered dataset, and ``FIT_IMAGES``, the number of crops, at
            least 1, which are rounded up to batches (``SOLVER.IMS_PER_BATCH``, over all processes).
        model: a stage-2 model.
        seed: for the crops.

    Raises:
        ConfigError: the projection upsamples its grid.
        DataError: the dataset has no pairs, or, unless ``INPUT.SKIP_CORRUPT``, one cannot be used.
    """
    dataset, batch = cfg.MODEL.DENSE_ENCODER.FIT_DATASET, cfg.SOLVER.IMS_PER_BATCH
    if not dataset or getattr(model, "dino", None) is None:
        return
    batches = -(-cfg.MODEL.DENSE_ENCODER.FIT_IMAGES // batch)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list(list(PLAIN))
    mapper = RGBSARPairMapper(cfg, True)
    loader = TrainLoader(
        list_pairs(dataset, "MODEL.DENSE_ENCODER.FIT_DATASET", mapper.entries),
        mapper,
        batch_size=batch // comm.get_world_size(),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        seed=seed,
        prefetch=cfg.DATALOADER.PREFETCH,
    )
    logger.info(
        "Fitting the dense encoder's projections to CLIP's features of %d crops of %s.", batches * batch, dataset
    )
    fit_text_projections(model, islice(loader, batches))
