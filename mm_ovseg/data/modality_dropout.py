"""Leaving out RGB or SAR: at random in training, always in an evaluation of the other image alone."""

from dataclasses import replace

import numpy as np
from detectron2.config import CfgNode

from mm_ovseg.choices import check_choice
from mm_ovseg.data.augmentation import PairSample
from mm_ovseg.errors import ConfigError

__all__ = ["ModalityDropout", "build_modality_dropout"]

DROPPED = {"both": (0.0, 0.0), "rgb": (0.0, 1.0), "sar": (1.0, 0.0)}  # TEST.MODALITIES: probabilities for RGB and SAR


class ModalityDropout:
    """Leaves RGB or SAR out of a pair, never both."""

    def __init__(self, drop_rgb: float, drop_sar: float) -> None:
        """Take the probabilities, which exclude each other.

        Raises:
            ConfigError: One is not within 0..1, or their sum is above 1.
        """
        if not (0 <= drop_rgb <= 1 and 0 <= drop_sar <= 1 and drop_rgb + drop_sar <= 1):
            raise ConfigError(
                f"INPUT.DROP_RGB is {drop_rgb} and INPUT.DROP_SAR {drop_sar}; give numbers from 0 to 1 whose sum is at "
                "most 1."
            )
        self.drop_rgb, self.drop_sar = drop_rgb, drop_sar

    def __call__(self, sample: PairSample) -> PairSample:
        """The pair, or what is left of it: an image that is left out is zeros, its mask False, labels stay.

        A pair that lacks one image keeps the other.
        """
        draw = np.random.rand()
        if sample.sar_valid is None or not (sample.sar_valid.any() and sample.image_valid.any()):
            return sample
        if draw < self.drop_rgb:
            return replace(sample, image=np.zeros_like(sample.image), image_valid=np.zeros_like(sample.image_valid))
        if draw < self.drop_rgb + self.drop_sar:
            return replace(sample, sar_image=np.zeros_like(sample.sar_image), sar_valid=np.zeros_like(sample.sar_valid))
        return sample


def build_modality_dropout(cfg: CfgNode, is_train: bool) -> ModalityDropout | None:
    """What ``INPUT.DROP_RGB`` and ``DROP_SAR`` ask for in training, and ``TEST.MODALITIES`` in evaluation.

    Returns:
        None if both images are always kept.

    Raises:
        ConfigError: A value is unknown or out of its range.
    """
    check_choice("TEST.MODALITIES", cfg.TEST.MODALITIES, DROPPED)
    dropout = ModalityDropout(*((cfg.INPUT.DROP_RGB, cfg.INPUT.DROP_SAR) if is_train else DROPPED[cfg.TEST.MODALITIES]))
    return dropout if dropout.drop_rgb or dropout.drop_sar else None
