"""The trainer of both stages: Detectron2's, with RGB-SAR data and a vocabulary per dataset."""

import errno
import logging
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from torch import nn

from mm_ovseg.checkpoint.checkpointer import StrictCheckpointer
from mm_ovseg.data.loader import build_train_loader, in_own_process_group
from mm_ovseg.data.mappers import build_dataset_mapper
from mm_ovseg.data.registration import check_dataset
from mm_ovseg.engine.best_checkpoint import BestCheckpointHook
from mm_ovseg.engine.initialization import initialize_text_projections
from mm_ovseg.engine.interruption import InterruptionHook
from mm_ovseg.engine.optimizer import build_optimizer
from mm_ovseg.engine.prediction_images import PredictionImages
from mm_ovseg.engine.prompts import read_prompts
from mm_ovseg.engine.training_step import AccumulatingTrainer, unwrap
from mm_ovseg.engine.weights_and_biases import WeightsAndBiasesHook, import_wandb
from mm_ovseg.errors import CheckpointError, ConfigError, TrainingError
from mm_ovseg.evaluation import build_evaluator, check_evaluator_types
from mm_ovseg.files import remove_leftovers
from mm_ovseg.randomness import derived_seed

__all__ = ["Trainer"]

logger = logging.getLogger(__name__)

FINAL_CHECKPOINT = "model_final.pth"
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Trainer(DefaultTrainer):
    """Trains, resumes and evaluates the model of a config.

    Raises:
        ConfigError: a dataset is not registered, or the batch size is not divisible by the number of processes.
    """

    def __init__(self, cfg: CfgNode) -> None:
        TrainerBase.__init__(self)  # DefaultTrainer's builds a training loop for CUDA only
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        batch, processes = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
        if batch < 1 or batch % processes:
            raise ConfigError(f"SOLVER.IMS_PER_BATCH is {batch}; give a positive multiple of {processes} processes.")
        for key in ("TRAIN", "TEST"):
            for name in cfg.DATASETS[key]:
                check_dataset(name, f"DATASETS.{key}", any_form=True)
        if not cfg.DATASETS.TRAIN:
            raise ConfigError("DATASETS.TRAIN is empty; name at least one registered dataset.")
        if cfg.MODEL.DENSE_ENCODER.FIT_DATASET:
            check_dataset(cfg.MODEL.DENSE_ENCODER.FIT_DATASET, "MODEL.DENSE_ENCODER.FIT_DATASET", any_form=True)
        model = self.build_model(cfg)
        check_evaluator_types(model, cfg.DATASETS.TEST)
        read_prompts(cfg)  # to find errors now rather than at the first evaluation
        optimizer = self.build_optimizer(cfg, model)
        self.dataset_mapper = build_dataset_mapper(cfg, True)
        data_loader = build_train_loader(cfg, self.dataset_mapper)
        self.seed = data_loader.seed
        device = torch.device(cfg.MODEL.DEVICE)
        if comm.get_world_size() > 1:
            model = create_ddp_model(
                model,
                broadcast_buffers=False,
                device_ids=[comm.get_local_rank()] if device.type == "cuda" else None,
            )
        clipping = cfg.SOLVER.CLIP_GRADIENTS
        self._trainer = AccumulatingTrainer(
            model,
            data_loader,
            optimizer,
            accumulation_steps=cfg.SOLVER.ACCUMULATION_STEPS,
            max_gradient_norm=clipping.CLIP_VALUE if clipping.ENABLED and clipping.CLIP_TYPE == "full_model" else None,
            autocast_dtype=cfg.SOLVER.AMP.DTYPE if cfg.SOLVER.AMP.ENABLED else None,
            device_type=device.type,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = StrictCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def build_hooks(self) -> list[HookBase]:
        """Detectron2's hooks, and those for random seeds, skipped files, images and the best checkpoint.

        The best checkpoint is chosen by ``TEST.BEST_CHECKPOINT_METRIC`` of the first dataset of ``DATASETS.TEST``.
        """
        default_hooks = super().build_hooks()
        added: list[HookBase] = []
        if hasattr(self.dataset_mapper, "skipped"):  # custom mappers need not count
            added.append(hooks.CallbackHook(after_step=count_skipped_files))
        if comm.is_main_process() and self.cfg.DATASETS.TEST:
            metric = self.cfg.TEST.BEST_CHECKPOINT_METRIC
            if len(self.cfg.DATASETS.TEST) > 1:
                metric = f"{self.cfg.DATASETS.TEST[0]}/{metric}"  # how the results of several datasets are named
            added.append(BestCheckpointHook(self.cfg.TEST.EVAL_PERIOD, self.checkpointer, metric))
        model = unwrap(self._trainer.model)
        if model.task == "sem_seg" and self.cfg.DATASETS.TEST and self.cfg.VISUALIZATION.PAIRS > 0:
            added.append(hooks.EvalHook(self.cfg.TEST.EVAL_PERIOD, PredictionImages(self.cfg, model)))
        if self.cfg.WANDB.ENABLED:
            import_wandb()  # if it is missing, all processes must stop
            if comm.is_main_process():
                added.append(WeightsAndBiasesHook(self.cfg))
        # After the evaluation, and before the writers, which come last on the main process.
        position = len(default_hooks) - 1 if comm.is_main_process() else len(default_hooks)
        self._interruption = InterruptionHook(self.checkpointer)
        seed = hooks.CallbackHook(before_step=seed_iteration)
        return [seed, *default_hooks[:position], *added, *default_hooks[position:], self._interruption]

    def after_step(self) -> None:
        """Run the hooks; report a full disk in one sentence."""
        with self._clear_disk_errors():
            super().after_step()

    def after_train(self) -> None:
        """Run the hooks; as the last evaluation is slow, a signal stops it at once."""
        self._interruption.release()
        if self.iter == self.max_iter - 1:  # an error in the last iteration: EvalHook would evaluate all the same
            self._hooks = [hook for hook in self._hooks if not isinstance(hook, hooks.EvalHook)]
        with self._clear_disk_errors():
            super().after_train()

    @contextmanager
    def _clear_disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # from the event writers; checkpoints and scores have their own errors
            if error.errno not in DISK_ERRORS:
                raise
            raise TrainingError(
                f"Training stops: {self.cfg.OUTPUT_DIR} cannot be written to ({error.strerror}). Free some space; "
                "the same command with --resume continues from the last checkpoint."
            ) from error

    def resume_or_load(self, resume: bool = True) -> None:
        """As in Detectron2; a resumed run continues with the next batch and random numbers.

        A new run without weights fits DINO to CLIP if the config asks for it.
        """
        if comm.is_main_process():
            remove_leftovers(self.cfg.OUTPUT_DIR)
            if not resume:
                self.checkpointer.start_over()
        super().resume_or_load(resume)
        if self.start_iter == 0 and not self.cfg.MODEL.WEIGHTS:
            initialize_text_projections(self.cfg, unwrap(self._trainer.model), self.seed)
        data_loader = self._trainer.data_loader
        data_loader.seed = self.seed
        data_loader.first_batch = self.start_iter * self.cfg.SOLVER.ACCUMULATION_STEPS

    def train(self) -> OrderedDict | None:
        """As in Detectron2; also renames the last checkpoint of a run that was killed before it could."""
        if self.start_iter == self.max_iter and Path(self.checkpointer.get_checkpoint_file()).name != FINAL_CHECKPOINT:
            self.checkpointer.save(Path(FINAL_CHECKPOINT).stem, iteration=self.iter)
        return super().train()

    def state_dict(self) -> dict:
        """The state to resume from, including the seed and the optimiser, which Detectron2 0.6 leaves out."""
        return {**super().state_dict(), "_trainer": self._trainer.state_dict(), "seed": self.seed}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state of :meth:`state_dict`; SEED takes precedence over its seed."""
        super().load_state_dict(state_dict)
        if self.cfg.SEED < 0:
            self.seed = state_dict.get("seed", self.seed)
        try:
            self._trainer.load_state_dict(state_dict["_trainer"])
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"The checkpoint in {self.cfg.OUTPUT_DIR} cannot be resumed with this config ({error}): its optimiser "
                "had other parameters or parameter groups. Resume with the config it was made with."
            ) from error

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Build the model and log its size; Detectron2 logs every layer, which is too long to read."""
        model = build_model(cfg)
        total = sum(parameter.numel() for parameter in model.parameters())
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        logger.info("%s: %.2fM parameters, %.2fM trainable.", type(model).__name__, total / 1e6, trainable / 1e6)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See :func:`mm_ovseg.engine.optimizer.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> torch.utils.data.DataLoader:
        """A loader of one dataset, in order, with each pair in its original size."""
        mapper = build_dataset_mapper(cfg, False)
        data_loader = build_detection_test_loader(cfg, dataset_name, mapper=mapper, collate_fn=drop_skipped)
        data_loader.worker_init_fn = in_own_process_group
        return data_loader

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """See :func:`mm_ovseg.evaluation.build_evaluator`; each dataset has its own output folder."""
        return build_evaluator(cfg, dataset_name, f"{cfg.OUTPUT_DIR}/inference/{dataset_name}")

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: list[DatasetEvaluator] | None = None) -> OrderedDict:
        """Evaluate on every dataset of DATASETS.TEST.

        Segmentation models are asked for the class names of each dataset, or for those of TEST.PROMPT_FILES.

        Returns:
            The results, keyed by dataset name if there are several datasets.
        """
        unwrapped = unwrap(model)
        check_evaluator_types(unwrapped, cfg.DATASETS.TEST)
        prompts = read_prompts(cfg) if unwrapped.task == "sem_seg" else None
        results = OrderedDict()
        for index, dataset_name in enumerate(cfg.DATASETS.TEST):
            if prompts is not None:
                unwrapped.set_vocabulary(prompts[index])
            single = cfg.clone()
            single.defrost()
            single.DATASETS.TEST = (dataset_name,)
            evaluator = [evaluators[index]] if evaluators is not None else None
            results[dataset_name] = super().test(single, model, evaluator)
        return next(iter(results.values())) if len(results) == 1 else results


def seed_iteration(trainer: Trainer) -> None:
    """Seed the random numbers of an iteration, per process, so that they do not depend on interruptions."""
    seed_all_rng(derived_seed(trainer.seed, "iteration", trainer.iter, comm.get_rank()))


def count_skipped_files(trainer: Trainer) -> None:
    """Log the number of unreadable samples that the loader skipped (INPUT.SKIP_CORRUPT), if any."""
    skipped = trainer.dataset_mapper.skipped.value
    if skipped:
        trainer.storage.put_scalar("data/skipped_files", skipped, smoothing_hint=False)


def drop_skipped(batch: list[dict]) -> list[dict]:
    """Collate a batch without the samples that the mapper could not read."""
    return [item for item in batch if "skipped" not in item]
