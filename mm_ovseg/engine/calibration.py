"""The calibration that a config asks for."""

import logging
from pathlib import Path

from detectron2.config import CfgNode

from mm_ovseg.checkpoint.calibration_file import calibration_beside, read_calibration
from mm_ovseg.decision import Calibration
from mm_ovseg.errors import CheckpointError

__all__ = ["find_calibration", "load_calibration"]

RAW = "none"  # of MODEL.CALIBRATION

logger = logging.getLogger(__name__)


def find_calibration(cfg: CfgNode, weights: str | None = None) -> Path | None:
    """The file that ``MODEL.CALIBRATION`` names, or, by default, the one beside the weights; None if neither exists.

    Args:
        cfg: the config.
        weights: those of the model; None: ``MODEL.WEIGHTS``.
    """
    weights = weights or cfg.MODEL.WEIGHTS
    if cfg.MODEL.CALIBRATION == RAW or not weights:
        return None
    if cfg.MODEL.CALIBRATION:
        return Path(cfg.MODEL.CALIBRATION)
    beside = calibration_beside(weights)
    return beside if beside is not None and beside.exists() else None


def load_calibration(cfg: CfgNode, weights: str | None = None) -> Calibration | None:
    """The calibration of a model; None if its scores stay raw. Arguments as of :func:`find_calibration`.

    Raises:
        CheckpointError: a file is named without weights; or see
            :func:`~mm_ovseg.checkpoint.calibration_file.read_calibration`.
    """
    weights = weights or cfg.MODEL.WEIGHTS
    if not weights and cfg.MODEL.CALIBRATION not in ("", RAW):
        raise CheckpointError(
            f"MODEL.CALIBRATION is {cfg.MODEL.CALIBRATION}, but MODEL.WEIGHTS, which it belongs to, is empty; name the "
            "weights, or set MODEL.CALIBRATION to none."
        )
    path = find_calibration(cfg, weights)
    if path is None:
        return None
    calibration = read_calibration(path, weights)
    logger.info("Scores are calibrated by %s.", path)
    return calibration
