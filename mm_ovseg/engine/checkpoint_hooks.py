"""Which checkpoints are kept: the latest ones, and the one with the best evaluation, also across resumed runs."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.engine import hooks

from mm_ovseg.checkpoint.checkpointer import BEST_CHECKPOINT, StrictCheckpointer
from mm_ovseg.files import complete_file

__all__ = ["BestCheckpointHook", "PeriodicCheckpointHook"]

logger = logging.getLogger(__name__)


class PeriodicCheckpointHook(hooks.PeriodicCheckpointer):
    """Detectron2's hook, for which the periodic checkpoints of a resumed run count, too, and those of interruptions."""

    def before_train(self) -> None:
        """List the checkpoints of the resumed run."""
        super().before_train()
        if self.trainer.start_iter > 0:
            before = self.checkpointer.numbered_checkpoints(self.trainer.start_iter)
            self.recent_checkpoints = [str(path) for path in before]

    def step(self, iteration: int, **states: Any) -> None:
        """Like Detectron2's, which deletes one old checkpoint for each new one, however many there were."""
        super().step(iteration, **states)
        while self.max_to_keep is not None and len(self.recent_checkpoints) > self.max_to_keep:
            Path(self.recent_checkpoints.pop(0)).unlink(missing_ok=True)


class BestCheckpointHook(hooks.BestCheckpointer):
    """Detectron2's hook, with the best score kept in a file, so that a resumed training knows it.

    Args:
        eval_period: iterations between evaluations; 0: only after the last iteration.
        checkpointer: saves ``model_best.pth``; ``model_best.json`` beside it records the score and the iteration.
        metric: name of the score; higher is better.
        scored_on: what scores depend on, such as the dataset and its classes, as JSON; a resumed run compares its
            scores with the recorded one only if this is equal.
    """

    def __init__(
        self, eval_period: int, checkpointer: StrictCheckpointer, metric: str, scored_on: Mapping[str, Any]
    ) -> None:
        super().__init__(eval_period, checkpointer, metric, file_prefix=BEST_CHECKPOINT)
        self._score_file = Path(checkpointer.save_dir) / f"{BEST_CHECKPOINT}.json"
        self._scored_on = {"metric": metric, **scored_on}

    def before_train(self) -> None:
        """Read the best score of the resumed run."""
        if self.trainer.start_iter == 0 or not self._score_file.is_file():
            return
        score = json.loads(self._score_file.read_text(encoding="utf-8"))
        # Earlier versions recorded the metric only.
        changed = [key for key, value in self._scored_on.items() if score.get(key, value) != value]
        if not changed:
            self.best_metric, self.best_iter = score["value"], score["iteration"]
            return
        logger.warning(
            "%s.pth was chosen by another %s, whose scores cannot be compared with those of this run; the next "
            "evaluation replaces it.",
            *(BEST_CHECKPOINT, " and ".join(key.replace("_", " ") for key in changed)),
        )

    def _best_checking(self) -> None:
        before = (self.best_metric, self.best_iter)
        super()._best_checking()
        if (self.best_metric, self.best_iter) != before:
            # After the checkpoint: otherwise, if a run is killed in between, its score would block later checkpoints.
            score = {**self._scored_on, "value": float(self.best_metric), "iteration": int(self.best_iter)}
            with complete_file(self._score_file) as temporary:
                temporary.write_text(json.dumps(score), encoding="utf-8")
