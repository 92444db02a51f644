"""Detectron2's checkpointer, made strict: weights fit the model or are refused."""

from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer

from mm_ovseg.checkpoint.files import load_weights_file
from mm_ovseg.errors import CheckpointError

__all__ = ["BEST_CHECKPOINT", "StrictCheckpointer"]

BEST_CHECKPOINT = "model_best"  # name, without suffix, of the checkpoint with the best evaluation


class StrictCheckpointer(DetectionCheckpointer):
    """Loads ``.pth`` and ``.safetensors`` files of tensors, and nothing half.

    Detectron2's own skips what does not fit with a warning, and so maps land with a random model.
    """

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint; "" loads nothing.

        Raises:
            CheckpointError: the file is missing, unreadable, or of another architecture.
        """
        if path and not Path(path).is_file():
            raise CheckpointError(f"The weights file {path} does not exist; check MODEL.WEIGHTS.")
        self._path = path
        return super().load(path, *args, **kwargs)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Remember where to resume; the best checkpoint, written beside, is not the last one."""
        if last_filename_basename != f"{BEST_CHECKPOINT}.pth":
            super().tag_last_checkpoint(last_filename_basename)

    def _load_file(self, filename: str) -> dict[str, Any]:
        content = load_weights_file(filename)
        return content if "model" in content else {"model": content}

    def _load_model(self, checkpoint: dict[str, Any]) -> None:
        incompatible = super()._load_model(checkpoint)
        groups = {
            "missing": list(incompatible.missing_keys),
            "left over": list(incompatible.unexpected_keys),
            "of another shape": [key for key, *_ in incompatible.incorrect_shapes],
        }
        problems = [
            f"{len(keys)} {label} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
            for label, keys in groups.items()
            if keys
        ]
        if problems:
            raise CheckpointError(
                f"{self._path} holds weights of another architecture than this config: {'; '.join(problems)}. "
                "Give the config that the weights were trained with."
            )
