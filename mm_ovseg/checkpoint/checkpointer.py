"""Detectron2's checkpointer, made strict: weights fit the model or are refused."""

import logging
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer

from mm_ovseg.checkpoint.files import load_weights_file, local_weights_path
from mm_ovseg.checkpoint.official import VARIANTS, convert_official_state_dict, detect_variant
from mm_ovseg.checkpoint.state_dict import describe_misfits, find_container, unwrap_state_dict
from mm_ovseg.errors import CheckpointError

__all__ = ["BEST_CHECKPOINT", "StrictCheckpointer"]

logger = logging.getLogger(__name__)

BEST_CHECKPOINT = "model_best"  # name, without suffix, of the checkpoint with the best evaluation


class StrictCheckpointer(DetectionCheckpointer):
    """Loads ``.pth`` and ``.safetensors`` files of tensors, and nothing half.

    Detectron2's own skips what does not fit with a warning, and so maps land with a random model.
    """

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint; "" loads nothing.

        Args:
            path: a local file or ``hf://organisation/repository/file``. A published checkpoint of MM-OVSeg, GSNet or
                CAT-Seg is converted on the way.
            args: as of Detectron2's.
            kwargs: as of Detectron2's.

        Raises:
            CheckpointError: the file is missing, unreadable, or of another architecture.
        """
        self._source, self._variant = path, None
        return super().load(str(local_weights_path(path)) if path else path, *args, **kwargs)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Remember where to resume; the best checkpoint, written beside, is not the last one."""
        if last_filename_basename != f"{BEST_CHECKPOINT}.pth":
            super().tag_last_checkpoint(last_filename_basename)

    def _load_file(self, filename: str) -> dict[str, Any]:
        content = load_weights_file(filename)
        container = find_container(content)
        beside = {} if container is None else {key: value for key, value in content.items() if key != container}
        try:
            state_dict = unwrap_state_dict(content)
            self._variant = detect_variant(state_dict)
            if self._variant is None:
                return {**beside, "model": state_dict}
            published = VARIANTS[self._variant]
            if published.size is None:
                raise CheckpointError(f"The file holds {published.title}, an encoder only; give it as {published.use}.")
            converted = convert_official_state_dict(state_dict, self._variant)
        except CheckpointError as error:
            raise CheckpointError(f"{self._source}: {error}") from error
        logger.info(
            "%s is the published %s: %d tensors were converted into %d of ours.",
            *(self._source, published.title, len(state_dict), len(converted)),
        )
        return {"model": converted}

    def _load_model(self, checkpoint: dict[str, Any]) -> None:
        incompatible = super()._load_model(checkpoint)
        reshaped = incompatible.incorrect_shapes  # fvcore counts them as missing too
        problems = describe_misfits(
            missing=set(incompatible.missing_keys) - {name for name, *_ in reshaped},
            unexpected=incompatible.unexpected_keys,
            reshaped=reshaped,
        )
        if problems:
            fitting = "the config that the weights were trained with"
            if self._variant is not None:
                published = VARIANTS[self._variant]
                fitting = f"that of {published.title} ({published.use})"
            raise CheckpointError(
                f"{self._source} holds weights of another architecture than this config: {problems}. Give {fitting}."
            )
