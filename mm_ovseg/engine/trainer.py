"""The trainer of both stages: Detectron2's, with RGB-SAR data and a vocabulary per dataset."""

import errno
import logging
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, build_detection_test_loader
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import build_model
from detectron2.projects.deeplab import build_lr_scheduler
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from torch import nn

from mm_ovseg.checkpoint.checkpointer import StrictCheckpointer
from mm_ovseg.data.loader import build_train_loader, in_own_process_group
from mm_ovseg.data.mappers import build_dataset_mapper
from mm_ovseg.decision import Calibration, Decision
from mm_ovseg.engine.checkpoint_hooks import BestCheckpointHook, PeriodicCheckpointHook
from mm_ovseg.engine.config_checks import check_needs_training, check_solver
from mm_ovseg.engine.dataset_checks import check_datasets, list_test_pairs
from mm_ovseg.engine.decisions import build_decision
from mm_ovseg.engine.initialization import initialize_text_projections
from mm_ovseg.engine.interruption import InterruptionHook
from mm_ovseg.engine.many_vocabularies import ManyVocabularies
from mm_ovseg.engine.optimizer import build_optimizer
from mm_ovseg.engine.prediction_images import PredictionImages
from mm_ovseg.engine.prompts import read_prompts
from mm_ovseg.engine.training_step import AccumulatingTrainer, step_arguments, unwrap
from mm_ovseg.engine.weights_and_biases import WeightsAndBiasesHook, import_wandb
from mm_ovseg.errors import CheckpointError, ConfigError, TrainingError
from mm_ovseg.evaluation import build_evaluator, check_evaluator_types
from mm_ovseg.files import remove_leftovers
from mm_ovseg.modeling.precision import allow_tf32
from mm_ovseg.randomness import derived_seed
from mm_ovseg.visualization.dataset_sheet import choose_evenly
from mm_ovseg.vocabulary import unseen_classes

__all__ = ["Trainer"]

logger = logging.getLogger(__name__)

FINAL_CHECKPOINT = "model_final.pth"
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Trainer(DefaultTrainer):
    """Trains, resumes and evaluates the model of a config.

    Raises:
        ConfigError: the model needs no training, the batch size is not divisible by the number of processes, or a
            setting of the solver is out of range.
        ConfigError, DataError, VocabularyError: a dataset cannot be used; see
            :func:`~mm_ovseg.engine.dataset_checks.check_datasets`.
    """

    def __init__(self, cfg: CfgNode) -> None:
        TrainerBase.__init__(self)  # DefaultTrainer's builds a training loop for CUDA only
        check_needs_training(cfg)
        check_solver(cfg)
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        batch, processes = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
        if batch < 1 or batch % processes:
            raise ConfigError(f"SOLVER.IMS_PER_BATCH is {batch}; give a positive multiple of {processes} processes.")
        check_datasets(cfg, training=True)
        self.dataset_mapper = build_dataset_mapper(cfg, True)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = build_train_loader(cfg, self.dataset_mapper)
        self.seed = data_loader.seed
        device = torch.device(cfg.MODEL.DEVICE)
        if comm.get_world_size() > 1:
            model = create_ddp_model(
                model,
                broadcast_buffers=False,
                device_ids=[comm.get_local_rank()] if device.type == "cuda" else None,
            )
        self._trainer = AccumulatingTrainer(model, data_loader, optimizer, **step_arguments(cfg))
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
        default_hooks = [self._keep_few(hook) for hook in super().build_hooks()]
        added: list[HookBase] = []
        if hasattr(self.dataset_mapper, "skipped"):  # custom mappers need not count
            added.append(hooks.CallbackHook(after_step=count_skipped_files))
        if comm.is_main_process() and self.cfg.DATASETS.TEST:
            metric, dataset = self.cfg.TEST.BEST_CHECKPOINT_METRIC, self.cfg.DATASETS.TEST[0]
            if len(self.cfg.DATASETS.TEST) > 1:
                metric = f"{dataset}/{metric}"  # how the results of several datasets are named
            classes, unseen = (MetadataCatalog.get(dataset).get(key, []) for key in ("stuff_classes", "unseen_classes"))
            unseen = unseen_classes(classes, unseen, self.cfg.DATASETS.UNSEEN)
            scored_on = {"dataset": dataset, "classes": list(classes), "unseen_classes": list(unseen)}
            added.append(BestCheckpointHook(self.cfg.TEST.EVAL_PERIOD, self.checkpointer, metric, scored_on))
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

    def _keep_few(self, hook: HookBase | None) -> HookBase | None:
        """The hook, or in place of Detectron2's periodic checkpointer, which keeps all, one that keeps the latest."""
        if not isinstance(hook, hooks.PeriodicCheckpointer):
            return hook
        solver = self.cfg.SOLVER
        return PeriodicCheckpointHook(
            self.checkpointer, solver.CHECKPOINT_PERIOD, max_to_keep=solver.MAX_CHECKPOINTS or None
        )

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

        Raises:
            ConfigError: the resumed run is already beyond SOLVER.MAX_ITER.
            CheckpointError: the weights do not fit the model, or the checkpoint the optimiser.
        """
        if comm.is_main_process():
            remove_leftovers(self.cfg.OUTPUT_DIR)
            if not resume:
                self.checkpointer.start_over()
        super().resume_or_load(resume)
        if self.start_iter > self.max_iter:
            raise ConfigError(
                f"--resume: the checkpoint in {self.cfg.OUTPUT_DIR} is of iteration {self.start_iter}, beyond "
                f"SOLVER.MAX_ITER {self.max_iter}; raise MAX_ITER to train on, or evaluate with --eval-only."
            )
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
        """The state to resume from, including the seed and the optimiser's state."""
        # Not DefaultTrainer's: release 0.6 leaves out the optimiser, and main loads it without a clear error.
        return {**TrainerBase.state_dict(self), "_trainer": self._trainer.state_dict(), "seed": self.seed}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state of :meth:`state_dict`; SEED takes precedence over its seed."""
        TrainerBase.load_state_dict(self, state_dict)
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
        """Build the model and log its size; Detectron2 logs every layer, which is too long to read.

        Sets what float32 means in this process, by ``MODEL.ALLOW_TF32``.
        """
        allow_tf32(cfg.MODEL.ALLOW_TF32)
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
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """Detectron2's, with the schedule of its DeepLab.

        Raises:
            ConfigError: it knows no such schedule, or the schedule's settings do not fit.
        """
        try:
            return build_lr_scheduler(cfg, optimizer)
        except (ValueError, AssertionError, ArithmeticError) as error:
            raise ConfigError(
                f"SOLVER.LR_SCHEDULER_NAME {cfg.SOLVER.LR_SCHEDULER_NAME} cannot be built ({error}); WarmupCosineLR, "
                "WarmupMultiStepLR and WarmupPolyLR are known, with SOLVER.WARMUP_METHOD linear or constant."
            ) from error

    @classmethod
    def build_test_loader(
        cls, cfg: CfgNode, dataset_name: str, max_pairs: int | None = None
    ) -> torch.utils.data.DataLoader:
        """A loader of one dataset, or of ``max_pairs`` of it, in order, with each pair in its original size."""
        mapper, workers = build_dataset_mapper(cfg, False), cfg.DATALOADER.NUM_WORKERS
        pairs = list_test_pairs(cfg, dataset_name, mapper)
        pairs = pairs if max_pairs is None else choose_evenly(pairs, max_pairs)
        data_loader = build_detection_test_loader(pairs, mapper=mapper, num_workers=workers, collate_fn=drop_skipped)
        data_loader.worker_init_fn = in_own_process_group
        return data_loader

    @classmethod
    def build_evaluator(
        cls,
        cfg: CfgNode,
        dataset_name: str,
        calibration: Calibration | None = None,
        decide: Callable[[Sequence[str]], Decision] | None = None,
    ) -> DatasetEvaluator:
        """See :func:`mm_ovseg.evaluation.build_evaluator`; each dataset has its own output folder."""
        names = dict(zip(cfg.DATASETS.TEST, read_prompts(cfg), strict=True)).get(dataset_name)
        folder = f"{cfg.OUTPUT_DIR}/inference/{dataset_name}"
        options = {"names": names or None, "calibration": calibration, "decide": decide}
        return build_evaluator(cfg, dataset_name, folder, **options)

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: list[DatasetEvaluator] | None = None,
        *,
        calibration: Calibration | None = None,
    ) -> OrderedDict:
        """Evaluate on every dataset of DATASETS.TEST.

        Segmentation models are asked for the class names of each dataset, or for those of TEST.PROMPT_FILES, and for
        others that an evaluator wants to test.

        Args:
            cfg, model, evaluators: as in Detectron2.
            calibration: of the model's weights, for evaluators that are built here.

        Returns:
            The results, keyed by dataset name if there are several datasets.
        """
        unwrapped = unwrap(model)
        check_evaluator_types(unwrapped, cfg.DATASETS.TEST)
        prompts = read_prompts(cfg) if unwrapped.task == "sem_seg" else None
        options = {}  # none by default, so that build_evaluator may be overridden with Detectron2's arguments
        if calibration is not None or cfg.TEST.ABSENT_NAMES or cfg.TEST.SINGLE_NAMES:
            options = {"calibration": calibration, "decide": partial(build_decision, unwrapped, calibration)}
        results = OrderedDict()
        for index, dataset_name in enumerate(cfg.DATASETS.TEST):
            if prompts is not None:
                unwrapped.set_vocabulary(prompts[index])
            single = cfg.clone()
            single.defrost()
            single.DATASETS.TEST = (dataset_name,)
            given = evaluators is not None
            evaluator = evaluators[index] if given else cls.build_evaluator(cfg, dataset_name, **options)
            vocabularies = getattr(evaluator, "vocabularies", {})
            asked = ManyVocabularies(model, vocabularies) if vocabularies else model
            results[dataset_name] = super().test(single, asked, [evaluator])
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
