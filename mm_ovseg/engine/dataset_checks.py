"""Checks of the datasets of a run, before it starts."""

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY

from mm_ovseg.data.catalog import label_scheme, list_pairs
from mm_ovseg.data.loader import list_training_pairs
from mm_ovseg.data.mappers import build_dataset_mapper
from mm_ovseg.data.registration import check_dataset
from mm_ovseg.engine.prompts import read_prompts
from mm_ovseg.errors import ConfigError
from mm_ovseg.evaluation import check_evaluator_types
from mm_ovseg.evaluation.open_vocabulary import choose_absent_names

__all__ = ["check_datasets", "list_test_pairs"]


def check_datasets(cfg: CfgNode, *, training: bool) -> None:
    """Check that the datasets of a run can be used, which otherwise only their first use would show.

    Files are listed, not read.

    Args:
        cfg: ``DATASETS``, ``TEST.PROMPT_FILES``, ``TEST.ABSENT_NAMES`` and, of the model, its task and ``FIT_DATASET``
            are checked.
        training: False: only what an evaluation uses.

    Raises:
        ConfigError: a dataset is not registered or does not suit the model, or a prompt file does not suit a dataset.
        DataError: a dataset has no pairs, or its pairs lack files, or its label numbers are invalid.
        VocabularyError: a dataset has no classes, or invalid ones.
    """
    if training:
        _check_training(cfg)
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    check_evaluator_types(model, cfg.DATASETS.TEST)
    for name in cfg.DATASETS.TEST:
        if model.task == "sem_seg":
            label_scheme(MetadataCatalog.get(name))
        list_test_pairs(cfg, name, build_dataset_mapper(cfg, False))
    prompts = read_prompts(cfg)
    if cfg.TEST.ABSENT_NAMES and model.task == "sem_seg":
        for names in prompts:
            choose_absent_names(cfg.TEST.ABSENT_NAMES, names)


def list_test_pairs(cfg: CfgNode, name: str, mapper: object) -> list[dict]:
    """The pairs of a test set, with the entries that the mapper and the evaluator read.

    Raises:
        ConfigError, DataError: see :func:`~mm_ovseg.data.catalog.list_pairs`.
    """
    task = getattr(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), "task", None)
    of_evaluator = ("file_name", "sem_seg_file_name") if task == "sem_seg" else ("file_name",)
    return list_pairs(name, "DATASETS.TEST", dict.fromkeys((*getattr(mapper, "entries", ()), *of_evaluator)))


def _check_training(cfg: CfgNode) -> None:
    if not cfg.DATASETS.TRAIN:
        raise ConfigError("DATASETS.TRAIN is empty; name at least one registered dataset.")
    dense = cfg.MODEL.DENSE_ENCODER
    if dense.FIT_DATASET:
        check_dataset(dense.FIT_DATASET, "MODEL.DENSE_ENCODER.FIT_DATASET", any_form=True)
        if dense.FIT_IMAGES < 1:
            raise ConfigError(
                f"MODEL.DENSE_ENCODER.FIT_IMAGES is {dense.FIT_IMAGES}; give at least 1, or leave "
                "MODEL.DENSE_ENCODER.FIT_DATASET empty."
            )
    list_training_pairs(cfg, build_dataset_mapper(cfg, True))
