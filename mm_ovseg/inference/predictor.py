"""From the files of a pair to a class map."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from mm_ovseg.checkpoint.checkpointer import StrictCheckpointer
from mm_ovseg.data.mappers import build_dataset_mapper
from mm_ovseg.errors import ConfigError, VocabularyError
from mm_ovseg.inference.map_writer import NODATA_CLASS

__all__ = ["Prediction", "Predictor"]

logger = logging.getLogger(__name__)


@dataclass
class Prediction:
    """What the model says of one pair.

    Attributes:
        class_map: uint8 (H, W), an index into the class names, or 255 where RGB has no data.
        confidence: float32 (H, W), the score 0..1 of the class in ``class_map``.
        image: uint8 (H, W, 3), the RGB as the model saw it, 0..255.
        sar_image: uint8 (H, W, 3), the SAR as the model saw it, 0..255.
    """

    class_map: np.ndarray
    confidence: np.ndarray
    image: np.ndarray
    sar_image: np.ndarray


class Predictor:
    """A model with its weights and its vocabulary, ready to segment pairs of files.

    Args:
        cfg: a config of the ``MMOVSeg`` meta-architecture; ``INPUT`` says how the files are read.
        class_names: at most 255 names to look for.

    Raises:
        ConfigError: the config is of another meta-architecture, or resizes what it reads.
        VocabularyError: no name, one given twice, or too many.
        CheckpointError: ``MODEL.WEIGHTS`` cannot be loaded.
    """

    def __init__(self, cfg: CfgNode, class_names: Sequence[str]) -> None:
        if cfg.MODEL.META_ARCHITECTURE != "MMOVSeg":
            raise ConfigError(
                f"This config builds {cfg.MODEL.META_ARCHITECTURE}, which segments nothing; give a config of MMOVSeg."
            )
        if cfg.INPUT.MIN_SIZE_TEST:
            raise ConfigError(
                f"INPUT.MIN_SIZE_TEST is {cfg.INPUT.MIN_SIZE_TEST}, but maps have the size of the files; set it to 0."
            )
        if len(class_names) > NODATA_CLASS:
            raise VocabularyError(
                f"{len(class_names)} class names were given; a map of one byte a pixel holds {NODATA_CLASS}."
            )
        self.model = build_model(cfg)
        self.model.set_vocabulary(class_names)
        self.model.eval()
        if cfg.MODEL.WEIGHTS:
            StrictCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        else:
            logger.warning("MODEL.WEIGHTS is empty: the fusion, aggregator and decoder are random, and so is the map.")
        self.mapper = build_dataset_mapper(cfg, False)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names that ``class_map`` indexes."""
        return self.model.vocabulary

    def __call__(self, pair: Mapping[str, str]) -> Prediction | None:
        """Segment the pair of files ``pair["file_name"]`` (RGB) and ``pair["sar_file_name"]``.

        Returns:
            The prediction; None where a file cannot be used and ``INPUT.SKIP_CORRUPT`` is on (``mapper.skipped``
            counts them).

        Raises:
            DataError: a file cannot be used, or the two do not share one grid.
        """
        item = self.mapper(pair)
        if "skipped" in item:
            return None
        scores = self.model([item])[0]["sem_seg"]  # (T, H, W)
        confidence, class_map = scores.max(dim=0)
        class_map = class_map.to(torch.uint8).cpu().numpy()
        class_map[~item["image_valid"].numpy()] = NODATA_CLASS
        return Prediction(
            class_map=class_map,
            confidence=confidence.cpu().numpy(),
            image=_to_uint8(item["image"]),
            sar_image=_to_uint8(item["sar_image"]),
        )


def _to_uint8(image: torch.Tensor) -> np.ndarray:
    """(3, H, W), 0..255 -> uint8 (H, W, 3)."""
    return image.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
