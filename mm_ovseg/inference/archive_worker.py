"""What a worker process does with the scenes of an archive that it is given. Knows nothing of who gives them."""

import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.errors import MMOVSegError, brief_reason
from mm_ovseg.inference.scene import ScenePredictor
from mm_ovseg.inference.scene_options import SceneOptions

__all__ = ["Outcome", "SceneWorker"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a worker fared.

    Attributes:
        status: "ready" of a model, else of a scene.
        sar_share: of the mapped pixels, those made from RGB and SAR, 0..1; None where nothing is mapped.
        error: why it failed, one sentence where ``retry`` is off, else a part of one.
        retry: whether it may go well in another process; faults of files and settings stay.
    """

    status: Literal["ready", "done", "skipped", "failed"]
    sar_share: float | None = None
    error: str = ""
    retry: bool = False


class SceneWorker:
    """Builds a model once, and segments scene after scene with it.

    Args:
        make_predictor: gives the predictor.
        threads: that PyTorch may use on the CPU.
        folder: to work in, so that relative paths mean what they mean to who gives the work.
    """

    def __init__(self, make_predictor: Callable[[], ScenePredictor], threads: int, folder: str) -> None:
        torch.set_num_threads(threads)
        with suppress(OSError):  # on another machine, where it need not exist if all paths are absolute
            os.chdir(folder)
        self._make_predictor = make_predictor
        self._predictor: ScenePredictor | None = None

    def build(self) -> Outcome:
        """Build the model, which all scenes need."""
        try:
            self._predictor = self._make_predictor()
        except Exception as error:
            return _failure(error)
        return Outcome("ready")

    def segment(self, scene: SceneFiles, output: Path, options: SceneOptions) -> Outcome:
        """Segment a scene into ``output``, unless ``options.resume`` finds its map finished."""
        images = (scene.rgb, scene.sar or None)
        try:
            report = self._predictor.finished_report(*images, output, options) if options.resume else None
            if report is not None:
                return Outcome("skipped", _sar_share(report))
            _remove_leftovers(output)
            return Outcome("done", _sar_share(self._predictor.segment(*images, output, options)))
        except Exception as error:
            return _failure(error)


def _failure(error: Exception) -> Outcome:
    if isinstance(error, MMOVSegError):
        return Outcome("failed", error=str(error))
    # The traceback goes to the worker's log, for whoever mends the program.
    logger.error("A worker failed.", exc_info=error)
    return Outcome("failed", error=brief_reason(error), retry=True)


def _sar_share(report: dict[str, Any]) -> float | None:
    both, alone = (report["coverage"][name] for name in ("rgb_and_sar", "rgb_only"))
    return both / (both + alone) if both + alone else None


def _remove_leftovers(output: Path) -> None:
    """Remove the temporary files beside a map that a killed process could not (:mod:`mm_ovseg.files`)."""
    leftover = re.compile(rf"\.{re.escape(output.stem)}(_coverage|_confidence|_probabilities)?\.\d+\.tmp\..+")
    with suppress(OSError):
        for path in output.parent.iterdir():
            if leftover.fullmatch(path.name):
                path.unlink()
