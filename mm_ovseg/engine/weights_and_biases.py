"""Reporting a training run to Weights & Biases (https://wandb.ai), online or, with ``WANDB_MODE=offline``, to disk."""

from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.engine import hooks
from detectron2.utils.events import EventWriter, get_event_storage

from mm_ovseg.errors import ConfigError, brief_reason

__all__ = ["WeightsAndBiasesHook", "import_wandb"]

RUN_ID_FILE = "wandb_run_id.txt"
ITERATION = "iteration"
SMOOTHING_WINDOW = 20  # iterations, as in Detectron2's writer for TensorBoard


def import_wandb() -> ModuleType:
    """Import wandb.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(
            "WANDB.ENABLED needs Weights & Biases; run: pip install 'mm_ovseg[wandb]', or set it to False."
        ) from error
    return wandb


class WeightsAndBiasesHook(hooks.PeriodicWriter, EventWriter):
    """Logs the same scalars (smoothed if noisy) and images as TensorBoard; for the main process.

    This hook must run before the other writers, since TensorBoard's clears the images.

    Args:
        cfg: ``WANDB`` names the run, which records all settings. ``OUTPUT_DIR`` holds the files of wandb and
            ``wandb_run_id.txt``, with which a resumed training continues its run.

    Raises:
        ConfigError: the library is not installed.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__([self])
        self._wandb = import_wandb()
        self._cfg = cfg
        self._run: Any = None
        self._last_written = -1

    def before_train(self) -> None:
        """Open a run or, when training resumes, the previous run.

        Raises:
            ConfigError: nobody is logged in, or the service is unreachable or refuses.
        """
        folder, settings = Path(self._cfg.OUTPUT_DIR), self._cfg.WANDB
        id_file = folder / RUN_ID_FILE
        resumes = self.trainer.start_iter > 0 and id_file.is_file()
        run_id = id_file.read_text(encoding="utf-8").strip() if resumes else None
        try:
            self._run = self._wandb.init(
                project=settings.PROJECT,
                entity=settings.ENTITY or None,
                name=settings.NAME or folder.resolve().name,
                id=run_id,
                resume="allow" if run_id else None,
                dir=str(folder),
                config=yaml.safe_load(self._cfg.dump()),
            )
        except self._wandb.errors.Error as error:
            raise ConfigError(
                f"Weights & Biases could not start ({brief_reason(error)}); run 'wandb login', set WANDB_MODE=offline "
                "in the environment, or set WANDB.ENABLED to False."
            ) from error
        id_file.write_text(self._run.id, encoding="utf-8")
        # The step counter of wandb cannot go back to the last checkpoint, as a resumed training does.
        self._run.define_metric("*", step_metric=ITERATION)

    def write(self) -> None:
        """Send new scalars and images."""
        if self._run is None:
            return
        storage = get_event_storage()
        new: dict[int, dict[str, Any]] = defaultdict(dict)
        for name, (value, iteration) in storage.latest_with_smoothing_hint(SMOOTHING_WINDOW).items():
            if iteration > self._last_written:
                new[iteration][name] = value
        self._last_written = max(new, default=self._last_written)
        for name, image, iteration in storage._vis_data:
            new[iteration][name] = self._wandb.Image(image.permute(1, 2, 0).numpy())
        for iteration in sorted(new):
            self._run.log({**new[iteration], ITERATION: iteration})

    def close(self) -> None:
        """Finish the run, as failed unless training is complete."""
        if self._run is not None:
            self._run.finish(exit_code=int(self.trainer.iter + 1 < self.trainer.max_iter))
