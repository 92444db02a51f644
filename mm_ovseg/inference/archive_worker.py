"""A worker process of an archive, which builds one model and segments scenes with it."""

import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.errors import MMOVSegError, brief_reason
from mm_ovseg.inference.coverage import sar_share
from mm_ovseg.inference.scene import ScenePredictor
from mm_ovseg.inference.scene_options import SceneOptions

__all__ = ["Outcome", "SceneWorker"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The result of building a model or segmenting a scene.

    Attributes:
        status: "ready" for a model, the others for a scene.
        sar_share: share of the mapped pixels with SAR data, 0..1; None if nothing is mapped.
        error: the reason of a failure; a sentence or, with ``retry``, part of one.
        retry: whether another process might succeed; not if files or settings are at fault.
    """

    status: Literal["ready", "done", "skipped", "failed"]
    sar_share: float | None = None
    error: str = ""
    retry: bool = False


class SceneWorker:
    """Builds a model once, and segments scenes with it.

    Args:
        make_predictor: returns the predictor.
        threads: CPU threads of PyTorch.
        folder: base of relative paths.
    """

    def __init__(self, make_predictor: Callable[[], ScenePredictor], threads: int, folder: str) -> None:
        torch.set_num_threads(threads)
        with suppress(OSError):  # may be missing on another machine if all paths are absolute
            os.chdir(folder)
        self._make_predictor = make_predictor
        self._predictor: ScenePredictor | None = None

    def build(self) -> Outcome:
        """Build the model."""
        try:
            self._predictor = self._make_predictor()
        except Exception as error:
            return _failure(error)
        return Outcome("ready")

    def segment(self, scene: SceneFiles, output: Path, options: SceneOptions) -> Outcome:
        """Segment a scene into ``output``, unless ``options.resume`` finds its map finished."""
        images = (scene.rgb or None, scene.sar or None)
        try:
            report = self._predictor.finished_report(*images, output, options) if options.resume else None
            if report is not None:
                return Outcome("skipped", sar_share(report))
            _remove_leftovers(output)
            return Outcome("done", sar_share(self._predictor.segment(*images, output, options)))
        except Exception as error:
            return _failure(error)


def _failure(error: Exception) -> Outcome:
    if isinstance(error, MMOVSegError):
        return Outcome("failed", error=str(error))
    # The traceback goes to the worker's log.
    logger.error("A worker failed.", exc_info=error)
    return Outcome("failed", error=brief_reason(error), retry=True)


def _remove_leftovers(output: Path) -> None:
    """Remove the temporary files that a killed process left next to a map (:mod:`mm_ovseg.files`)."""
    companions = r"_coverage|_confidence|_probabilities|_stac|\.tif\.aux"
    leftover = re.compile(rf"\.{re.escape(output.stem)}({companions})?\.\d+\.tmp\..+")
    with suppress(OSError):
        for path in output.parent.iterdir():
            if leftover.fullmatch(path.name):
                path.unlink()
