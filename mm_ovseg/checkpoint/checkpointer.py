"""A strict version of Detectron2's checkpointer: weights that do not fit the model are refused."""

import logging
import platform
import re
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm

from mm_ovseg.checkpoint.official import VARIANTS, convert_official_state_dict, detect_variant
from mm_ovseg.checkpoint.rename_tables import ENCODERS
from mm_ovseg.checkpoint.state_dict import describe_misfits, find_container, unwrap_state_dict
from mm_ovseg.checkpoint.weights_file import complete_weights_file, load_weights_file, local_weights_path
from mm_ovseg.errors import CheckpointError, DataError, UnreadableWeightsError
from mm_ovseg.files import complete_file

__all__ = ["BEST_CHECKPOINT", "StrictCheckpointer"]

logger = logging.getLogger(__name__)

BEST_CHECKPOINT = "model_best"  # name, without suffix, of the checkpoint with the best evaluation
NUMBERED = re.compile(r"model_(\d+)\.pth")


class StrictCheckpointer(DetectionCheckpointer):
    """Loads ``.pth`` and ``.safetensors`` files of tensors, completely or not at all.

    Detectron2's own only warns about weights that do not fit, so that a random model may draw maps.
    """

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint; "" loads nothing.

        Args:
            path: a local file or ``hf://organisation/repository/file``. A published checkpoint of MM-OVSeg, GSNet or
                CAT-Seg is converted.
            args, kwargs: passed to Detectron2's ``load``.

        Raises:
            CheckpointError: the file is missing, unreadable, or of another architecture.
        """
        self._source, self._variant = path, None
        try:
            return super().load(str(local_weights_path(path)) if path else path, *args, **kwargs)
        finally:
            # Detectron2's main branch leaves it set after an error, and would load nothing more.
            self._parsed_url_during_load = None

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Like Detectron2's, but if the last checkpoint is truncated or missing, resume from the one before it.

        Raises:
            CheckpointError: see :meth:`load`; or no checkpoint can be read, or other processes read another one.
        """
        if resume and self.has_checkpoint():
            loaded, name = self._load_last()
        else:
            loaded, name = super().resume_or_load(path, resume=resume), ""
        if resume:
            _check_same_everywhere(name)
        return loaded

    def _load_last(self) -> tuple[dict[str, Any], str]:
        """The content of the last checkpoint that can be read, and its name."""
        last = Path(self.get_checkpoint_file())
        match = NUMBERED.fullmatch(last.name)
        earlier = self.numbered_checkpoints(None if match is None else int(match[1]))  # all precede model_final
        while True:
            try:
                return self.load(str(last)), last.name
            except UnreadableWeightsError as error:
                if not earlier:
                    raise CheckpointError(
                        f"{error} There is no checkpoint before it to resume from; train without --resume."
                    ) from error
                last = earlier.pop()
                logger.warning("%s Resuming from the checkpoint before it, %s.", error, last)

    def save(self, name: str, **kwargs: Any) -> None:
        """Like Detectron2's, but the file gets its name, and is the one to resume from, only once it is complete.

        Raises:
            CheckpointError: it cannot be written, for example because the disk is full; the previous one is kept.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        path = Path(self.save_dir) / f"{name}.pth"
        states = {key: part.state_dict() for key, part in self.checkpointables.items()}
        logger.info("Saving checkpoint to %s", path)
        try:
            with complete_weights_file(path) as temporary:
                torch.save({"model": self.model.state_dict(), **states, **kwargs}, temporary)
            self.tag_last_checkpoint(path.name)
        except DataError as error:
            last = self.get_checkpoint_file()
            advice = f" {last} is complete; --resume continues from it." if last else ""
            raise CheckpointError(f"{error}{advice}") from error

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Record the checkpoint to resume from, which is never the best one."""
        if last_filename_basename != f"{BEST_CHECKPOINT}.pth":
            with complete_file(Path(self.save_dir) / "last_checkpoint") as temporary:
                temporary.write_text(last_filename_basename, encoding="utf-8")

    def start_over(self) -> None:
        """Prepare the folder for a new run that ignores the checkpoints of an earlier one.

        Otherwise ``--resume`` would continue the earlier run if the new one were killed before its first checkpoint.
        """
        if self.save_to_disk and self.has_checkpoint():
            logger.warning(
                "Training starts over, without --resume, and replaces the checkpoints of an earlier run in %s. To "
                "continue that run instead, stop, write %s into the file last_checkpoint there, and add --resume.",
                *(self.save_dir, Path(self.get_checkpoint_file()).name),
            )
            (Path(self.save_dir) / "last_checkpoint").unlink()

    def numbered_checkpoints(self, before: int | None = None) -> list[Path]:
        """The checkpoints of iterations in the folder, latest last; those of iterations below ``before`` only."""
        paths = Path(self.save_dir).iterdir()
        numbered = {int(match[1]): path for path in paths if (match := NUMBERED.fullmatch(path.name))}
        return [path for iteration, path in sorted(numbered.items()) if before is None or iteration < before]

    def _load_file(self, filename: str) -> dict[str, Any]:
        content = load_weights_file(filename)
        others = {} if find_container(content) is None else content
        try:
            state_dict = unwrap_state_dict(content)
            self._variant = detect_variant(state_dict)
            if self._variant is None:
                return {**others, "model": state_dict}
            published = VARIANTS[self._variant]
            if self._variant in ENCODERS:
                raise CheckpointError(f"The file holds {published.title}, only an encoder; give it as {published.use}.")
            converted = convert_official_state_dict(state_dict, self._variant)
        except CheckpointError as error:
            raise CheckpointError(f"{self._source}: {error}") from error
        logger.info(
            "%s is the published %s: %d tensors were converted to %d of ours.",
            *(self._source, published.title, len(state_dict), len(converted)),
        )
        return {"model": converted}

    def _load_model(self, checkpoint: dict[str, Any]) -> None:
        incompatible = super()._load_model(checkpoint)
        reshaped = incompatible.incorrect_shapes  # fvcore also counts them as missing
        problems = describe_misfits(
            missing=set(incompatible.missing_keys) - {name for name, *_ in reshaped},
            unexpected=incompatible.unexpected_keys,
            reshaped=reshaped,
        )
        if problems:
            advice = "Give the config that the weights were trained with"
            if self._variant is not None:
                published = VARIANTS[self._variant]
                advice = f"They are those of {published.title}; give them as {published.use}"
            raise CheckpointError(
                f"{self._source} holds weights of another architecture than this config: {problems}. {advice}."
            )


def _check_same_everywhere(name: str) -> None:
    """Check that all processes resume from the checkpoint of this name, "" for none."""
    machines = {found: machine for machine, found in comm.all_gather((platform.node(), name))}
    if len(machines) > 1:
        found = " but ".join(f"{name or 'no checkpoint'} on {machine}" for name, machine in machines.items())
        raise CheckpointError(
            f"--resume finds {found}; use an OUTPUT_DIR that all machines share, or copy the same checkpoints and the "
            "file last_checkpoint to all of them."
        )
