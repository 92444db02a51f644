"""Choosing the evaluator of a dataset by its ``evaluator_type``, as Detectron2's ``train_net.py`` does."""

import os
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from mm_ovseg.data.catalog import label_scheme
from mm_ovseg.data.registration import check_dataset
from mm_ovseg.decision import Calibration
from mm_ovseg.errors import ConfigError
from mm_ovseg.evaluation.open_vocabulary import Decide
from mm_ovseg.evaluation.retrieval import RetrievalEvaluator
from mm_ovseg.evaluation.seen_unseen import SeenUnseenSemSegEvaluator
from mm_ovseg.vocabulary import unseen_classes

__all__ = ["EVALUATOR_TYPES", "build_evaluator", "check_evaluator_types"]

# evaluator_type of a dataset -> tasks of the models that it can score; stage 1 can use labelled pairs, too.
EVALUATOR_TYPES = {
    "rgb_sar_sem_seg": ("sem_seg", "retrieval"),
    "sem_seg": ("sem_seg", "retrieval"),  # Detectron2's name, which is also the default
    "rgb_sar_retrieval": ("retrieval",),
}


def build_evaluator(
    cfg: CfgNode,
    dataset_name: str,
    output_dir: str | os.PathLike | None = None,
    *,
    names: Sequence[str] | None = None,
    calibration: Calibration | None = None,
    decide: Decide | None = None,
) -> DatasetEvaluator:
    """Build the evaluator of a dataset for the model of a config.

    ======================= ================================ ==============================
    ``evaluator_type``      model's ``task`` is ``sem_seg``  model's ``task`` is ``retrieval``
    ======================= ================================ ==============================
    ``rgb_sar_sem_seg``     SeenUnseenSemSegEvaluator        RetrievalEvaluator
    ``sem_seg``, none       the same                         the same
    ``rgb_sar_retrieval``   an error: there are no labels    RetrievalEvaluator
    ======================= ================================ ==============================

    Args:
        cfg: ``MODEL.META_ARCHITECTURE`` names the model; ``DATASETS.UNSEEN``, ``INPUT.SKIP_CORRUPT``, ``CMU.BLOCKS``,
            ``TEST.ABSENT_NAMES``, ``TEST.SINGLE_NAMES`` and ``TEST.MODALITIES`` are used.
        dataset_name: a registered dataset.
        output_dir: folder for the evaluator's files; None: write no files.
        names: what the model is asked for, one for each class; None: the classes.
        calibration: of the model's scores.
        decide: names -> the decision that users get; None: with the calibration alone.

    Raises:
        ConfigError: the dataset cannot score the model, or there are not as many absent names.
        DataError, VocabularyError: its labels have no valid meaning; see
            :func:`~mm_ovseg.data.catalog.label_scheme`.
    """
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    check_evaluator_types(model, [dataset_name])
    if model.task == "retrieval":
        return RetrievalEvaluator(dataset_name, blocks=cfg.CMU.BLOCKS, output_dir=output_dir)
    scheme = label_scheme(MetadataCatalog.get(dataset_name))
    unseen = unseen_classes(scheme.classes, scheme.unseen, cfg.DATASETS.UNSEEN)
    return SeenUnseenSemSegEvaluator(
        dataset_name,
        output_dir=output_dir,
        unseen_classes=unseen,
        skip_corrupt=cfg.INPUT.SKIP_CORRUPT,
        names=names,
        calibration=calibration,
        decide=decide,
        num_absent_names=cfg.TEST.ABSENT_NAMES,
        single_names=cfg.TEST.SINGLE_NAMES,
        modalities=cfg.TEST.MODALITIES,
    )


def check_evaluator_types(model: nn.Module | type[nn.Module], dataset_names: Sequence[str]) -> None:
    """Check that every dataset can score a model.

    Args:
        model: its ``task`` is ``"sem_seg"`` or ``"retrieval"``.
        dataset_names: those of DATASETS.TEST.

    Raises:
        ConfigError: the model has no such task, or a dataset is not registered or has no suitable
            ``evaluator_type``.
    """
    task = getattr(model, "task", None)
    if task not in ("sem_seg", "retrieval"):
        name = getattr(model, "__name__", type(model).__name__)
        raise ConfigError(f"{name} has the task {task!r}; set its class attribute task to 'sem_seg' or 'retrieval'.")
    for name in dataset_names:
        check_dataset(name, "DATASETS.TEST", any_form=True)
        evaluator_type = MetadataCatalog.get(name).get("evaluator_type", "sem_seg")
        if evaluator_type not in EVALUATOR_TYPES:
            raise ConfigError(
                f"DATASETS.TEST names '{name}', whose evaluator_type is {evaluator_type!r}; set "
                f"{' or '.join(map(repr, EVALUATOR_TYPES))} in its metadata."
            )
        if task not in EVALUATOR_TYPES[evaluator_type]:
            raise ConfigError(f"DATASETS.TEST names '{name}', which has no labels to evaluate on; declare them.")
