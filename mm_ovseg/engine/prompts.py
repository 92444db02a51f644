"""The class names that an evaluation asks for."""

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from mm_ovseg.data.builtin import find_class_file
from mm_ovseg.data.registration import read_class_file
from mm_ovseg.errors import ConfigError, VocabularyError
from mm_ovseg.vocabulary import validate_class_names

__all__ = ["read_prompts"]


def read_prompts(cfg: CfgNode) -> list[tuple[str, ...]]:
    """The names to ask for on each dataset of DATASETS.TEST, in the order of its classes.

    By default those of the dataset, or else those of TEST.PROMPT_FILES.

    Raises:
        ConfigError: a file is missing or malformed, or its number of names differs from the number of classes.
        VocabularyError: a file has no names, or a repeated name.
    """
    classes = [tuple(MetadataCatalog.get(name).get("stuff_classes", ())) for name in cfg.DATASETS.TEST]
    files = cfg.TEST.PROMPT_FILES
    if not files:
        return classes
    if len(files) != len(classes):
        raise ConfigError(
            f"TEST.PROMPT_FILES lists {len(files)} files for {len(classes)} datasets of DATASETS.TEST; "
            "give one for each, or none."
        )
    prompts = []
    for dataset, own, file in zip(cfg.DATASETS.TEST, classes, files, strict=True):
        if not isinstance(file, str):
            raise ConfigError(f"TEST.PROMPT_FILES holds {file!r}, which is not a path; write it in quotes.")
        try:
            names = validate_class_names(read_class_file(find_class_file(file))["classes"])
        except VocabularyError as error:
            raise VocabularyError(f"{file}: {error}") from error
        if len(names) != len(own):
            raise ConfigError(
                f"TEST.PROMPT_FILES gives {file}, with {len(names)} names, to {dataset}, which has {len(own)} classes "
                f"({', '.join(own)}); give a file with a name for each, in this order."
            )
        prompts.append(names)
    return prompts
