"""What Detectron2's catalogs hold of a dataset, checked: its pairs, and the meaning of its labels.

A dataset is one of :func:`~mm_ovseg.data.register_rgb_sar_dataset`, or of any function that is registered in
Detectron2's ``DatasetCatalog`` and returns dicts with ``file_name``, ``sar_file_name`` and ``sem_seg_file_name``.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from detectron2.data import DatasetCatalog, Metadata

from mm_ovseg.data.registration import check_dataset, check_label_numbers
from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.vocabulary import select_unseen, validate_class_names

__all__ = ["LabelScheme", "label_scheme", "list_pairs"]


@dataclass(frozen=True)
class LabelScheme:
    """The meaning of the numbers in a dataset's label files.

    Attributes:
        classes: Class names in the order of their indices.
        unseen: Those whose labels training does not see.
        ignore_label: Label value for no class.
        label_values: Raw value -> class index or ``ignore_label``; None if the files hold class indices.
    """

    classes: tuple[str, ...]
    unseen: tuple[str, ...]
    ignore_label: int
    label_values: Mapping[int, int] | None


def label_scheme(metadata: Metadata) -> LabelScheme:
    """The label scheme in the metadata of a dataset.

    ``stuff_classes`` must be there; ``unseen_classes`` (none), ``ignore_label`` (255) and ``label_values`` (None) have
    defaults.

    Raises:
        VocabularyError: The dataset has no classes, or a name of a class or of an unseen class is invalid.
        DataError: ``ignore_label`` or ``label_values`` is invalid.
    """
    name = metadata.name
    classes, unseen = metadata.get("stuff_classes"), metadata.get("unseen_classes", ())
    if classes is None or (isinstance(classes, Sequence) and not classes):
        raise VocabularyError(
            f"Dataset '{name}' has no classes; declare them, in the order of the label numbers, or set them with "
            f"MetadataCatalog.get('{name}').set(stuff_classes=[...])."
        )
    try:
        validate_class_names(classes)
        select_unseen(classes, unseen)
    except VocabularyError as error:
        raise VocabularyError(f"Dataset '{name}': {error}") from error
    if differing := [word for word in unseen if word not in classes]:
        raise VocabularyError(
            f"Dataset '{name}' has the unseen_classes {', '.join(differing)}, which its stuff_classes "
            f"({', '.join(classes)}) spell differently; spell them alike."
        )
    ignore_label, label_values = metadata.get("ignore_label", 255), metadata.get("label_values")
    check_label_numbers(name, len(classes), ignore_label, label_values)
    return LabelScheme(tuple(classes), tuple(unseen), ignore_label, label_values)


def list_pairs(name: str, key: str, entries: Iterable[str] = ()) -> list[dict]:
    """List the pairs of a dataset.

    Args:
        name: The dataset.
        key: The config key that names it.
        entries: Keys of paths that every pair needs, such as ``sem_seg_file_name``.

    Returns:
        Its dataset dicts, copied; ``dataset_name`` is ``name`` in each.

    Raises:
        ConfigError: It is not registered.
        DataError: Its files cannot be listed, it has no pairs, or a pair lacks an entry.
    """
    check_dataset(name, key, any_form=True)
    pairs = DatasetCatalog.get(name)
    if not isinstance(pairs, Sequence) or not all(isinstance(pair, Mapping) for pair in pairs):
        raise DataError(
            f"{key} names '{name}', whose function in DatasetCatalog does not return a list of dicts; make it return "
            "one dict for each pair."
        )
    if not pairs:
        raise DataError(f"{key} names '{name}', which has no pairs; add some, or leave it out.")
    for entry in entries:
        for index, pair in enumerate(pairs):
            if not isinstance(pair.get(entry), str | os.PathLike):
                raise DataError(
                    f"{key} names '{name}', whose pair {index} ({pair.get('file_name', 'no file_name')}) has no "
                    f"'{entry}', which is needed here; add the path to its dict."
                )
    return [{**pair, "dataset_name": name} for pair in pairs]
