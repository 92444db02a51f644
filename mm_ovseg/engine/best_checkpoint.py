"""Keeping the checkpoint with the best evaluation, also across resumed runs."""

import json
from pathlib import Path

from detectron2.engine import hooks

from mm_ovseg.checkpoint.checkpointer import BEST_CHECKPOINT, StrictCheckpointer
from mm_ovseg.files import complete_file

__all__ = ["BestCheckpointHook"]


class BestCheckpointHook(hooks.BestCheckpointer):
    """Detectron2's hook, with the best score kept in a file, so that a resumed training knows it.

    Args:
        eval_period: iterations between evaluations; 0: only after the last iteration.
        checkpointer: saves ``model_best.pth``; ``model_best.json`` beside it records the score and the iteration.
        metric: name of the score; higher is better.
    """

    def __init__(self, eval_period: int, checkpointer: StrictCheckpointer, metric: str) -> None:
        super().__init__(eval_period, checkpointer, metric, file_prefix=BEST_CHECKPOINT)
        self._score_file = Path(checkpointer.save_dir) / f"{BEST_CHECKPOINT}.json"

    def before_train(self) -> None:
        """Read the best score of the resumed run."""
        if self.trainer.start_iter > 0 and self._score_file.is_file():
            score = json.loads(self._score_file.read_text(encoding="utf-8"))
            if score["metric"] == self._val_metric:
                self.best_metric, self.best_iter = score["value"], score["iteration"]

    def _best_checking(self) -> None:
        before = (self.best_metric, self.best_iter)
        super()._best_checking()
        if (self.best_metric, self.best_iter) != before:
            # After the checkpoint: otherwise, if a run is killed in between, its score would block later checkpoints.
            score = {"metric": self._val_metric, "value": float(self.best_metric), "iteration": int(self.best_iter)}
            with complete_file(self._score_file) as temporary:
                temporary.write_text(json.dumps(score), encoding="utf-8")
