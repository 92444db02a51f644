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

__all__ = ["WeightsAndBiasesHook", "WeightsAndBiasesWriter", "import_wandb"]

RUN_ID_FILE = "wandb_run_id.txt"
ITERATION = "iteration"
SMOOTHING = 20  # iterations, as of what Detectron2 writes for TensorBoard


def import_wandb() -> ModuleType:
    """The library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(
            "WANDB.ENABLED needs Weights & Biases; install it by pip install 'mm_ovseg[wandb]', or set it to False."
        ) from error
    return wandb


class WeightsAndBiasesWriter(EventWriter):
    """Sends what TensorBoard gets: the latest scalars, smoothed where they are noisy, and images.

    Args:
        cfg: ``WANDB`` says where the run appears; all settings become those of the run. Under ``OUTPUT_DIR`` lie the
            library's own files, and the run's name there, ``wandb_run_id.txt``, by which a resumed training goes on.

    Raises:
        ConfigError: the library is not installed.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self._wandb = import_wandb()
        self._cfg = cfg
        self._run: Any = None
        self._last_write = -1
        self.failed = False  # what close() reports

    def start(self, *, resumed: bool) -> None:
        """Open a run, or, if training is resumed, the one that it belongs to.

        Raises:
            ConfigError: nobody is logged in, or the service cannot be reached or refuses.
        """
        folder = Path(self._cfg.OUTPUT_DIR)
        id_file = folder / RUN_ID_FILE
        run_id = id_file.read_text(encoding="utf-8").strip() if resumed and id_file.is_file() else None
        settings = self._cfg.WANDB
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
                f"Weights & Biases could not start ({brief_reason(error)}); log in by 'wandb login', set "
                "WANDB_MODE=offline in the environment, or set WANDB.ENABLED False."
            ) from error
        id_file.write_text(self._run.id, encoding="utf-8")
        # Its own counter of steps never goes back, as a resumed training does, to its last checkpoint.
        self._run.define_metric("*", step_metric=ITERATION)

    def write(self) -> None:
        """Send what is new."""
        if self._run is None:
            return
        storage = get_event_storage()
        news: dict[int, dict[str, Any]] = defaultdict(dict)
        for name, (value, iteration) in storage.latest_with_smoothing_hint(SMOOTHING).items():
            if iteration > self._last_write:
                news[iteration][name] = value
        self._last_write = max(news, default=self._last_write)
        # Detectron2's writer for TensorBoard reads them here too, and then clears them: this one has to come first.
        for name, image, iteration in storage._vis_data:
            news[iteration][name] = self._wandb.Image(image.permute(1, 2, 0).numpy())
        for iteration in sorted(news):
            self._run.log({**news[iteration], ITERATION: iteration})

    def close(self) -> None:
        """End the run."""
        if self._run is not None:
            self._run.finish(exit_code=int(self.failed))


class WeightsAndBiasesHook(hooks.PeriodicWriter):
    """Runs a :class:`WeightsAndBiasesWriter` on the main process; stands before the hook of the other writers."""

    def __init__(self, cfg: CfgNode) -> None:
        self._writer = WeightsAndBiasesWriter(cfg)
        super().__init__([self._writer])

    def before_train(self) -> None:
        """Open the run."""
        self._writer.start(resumed=self.trainer.start_iter > 0)

    def after_train(self) -> None:
        """Send the last evaluation, and say whether training has come to its end."""
        self._writer.failed = self.trainer.iter + 1 < self.trainer.max_iter
        super().after_train()
