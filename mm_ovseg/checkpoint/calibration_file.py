"""The calibration of a model, in a file beside its weights."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mm_ovseg.checkpoint.weights_file import SHIPPED_WEIGHTS, local_weights_path
from mm_ovseg.decision import Calibration
from mm_ovseg.errors import CheckpointError
from mm_ovseg.files import complete_file, sha256
from mm_ovseg.plain_data import parse_json, read_text

__all__ = ["calibration_beside", "read_calibration", "write_calibration"]


def calibration_beside(weights: str | os.PathLike) -> Path | None:
    """Where the calibration of a weights file is: ``model_final.calibration.json`` for ``model_final.pth``.

    Args:
        weights: see :func:`~mm_ovseg.checkpoint.weights_file.local_weights_path`; on the hub there is none.
    """
    if str(weights).startswith("hf://"):
        return None
    return Path(SHIPPED_WEIGHTS.get(str(weights), weights)).with_suffix(".calibration.json")


def read_calibration(path: str | os.PathLike, weights: str | os.PathLike) -> Calibration:
    """Read the calibration of a weights file.

    Args:
        path: the file that :func:`write_calibration` wrote.
        weights: the weights that the model has.

    Raises:
        CheckpointError: the file is missing or malformed, or was fitted with other weights.
    """
    try:
        content = parse_json(read_text(path, CheckpointError))
        of_weights = content["weights"]["sha256"]
        numbers = {name: float(content[name]) for name in ("scale", "bias", "min_score", "margin")}
        minimums = {str(name): float(minimum) for name, minimum in content["min_scores"].items()}
        calibration = Calibration(**numbers, min_scores=minimums)
        if not all(map(math.isfinite, numbers.values())) or calibration.scale <= 0 or calibration.margin < 0:
            raise ValueError("the scale is not above 0, the margin is below 0, or a number is not finite")
        if not all(0 <= minimum <= 1 for minimum in (calibration.min_score, *minimums.values())):
            raise ValueError("a minimum score is not within 0..1")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not a calibration; write it again with mm-ovseg calibrate, or set MODEL.CALIBRATION to none."
        ) from error
    if of_weights != sha256(local_weights_path(weights)):
        raise CheckpointError(
            f"{path} was fitted with other weights than {weights}; write it again with mm-ovseg calibrate, or set "
            "MODEL.CALIBRATION to none."
        )
    return calibration


def write_calibration(
    path: str | os.PathLike, calibration: Calibration, weights: str | os.PathLike, details: Mapping[str, Any]
) -> None:
    """Write a calibration.

    Args:
        path: the file; see :func:`calibration_beside`.
        calibration: the numbers.
        weights: the weights file that they belong to.
        details: what they were fitted on, in plain data.

    Raises:
        DataError: the file cannot be written.
    """
    file = local_weights_path(weights)
    content = {**asdict(calibration), "weights": {"path": str(weights), "sha256": sha256(file)}, **details}
    with complete_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
