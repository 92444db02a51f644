"""Registering datasets of RGB-SAR pairs in Detectron2's catalogs, from Python or from a YAML file."""

import inspect
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from mm_ovseg.data.palette import class_colors
from mm_ovseg.data.rgb_sar_dataset import RGBSARDataset
from mm_ovseg.decision import MAX_CLASSES
from mm_ovseg.errors import ConfigError, DataError, MMOVSegError, VocabularyError
from mm_ovseg.plain_data import parse_json, parse_yaml, read_text
from mm_ovseg.vocabulary import select_unseen, validate_class_names

__all__ = [
    "check_dataset",
    "check_label_numbers",
    "read_class_file",
    "register_datasets_from_file",
    "register_rgb_sar_dataset",
]

CLASS_FILE_KEYS = ("classes", "colors", "unseen")


def register_rgb_sar_dataset(
    name: str,
    *,
    root: str | os.PathLike,
    rgb: str,
    sar: str,
    labels: str | None = None,
    classes: Sequence[str] = (),
    unseen: Sequence[str] = (),
    colors: Sequence[Sequence[int]] | None = None,
    ignore_label: int = 255,
    label_values: Mapping[int, int] | None = None,
    ground_sampling_distance: float | None = None,
    pairs: Sequence[str] | None = None,
) -> None:
    """Register a dataset of co-registered RGB-SAR pairs. Its files are looked up when it is first used.

    The files of a pair share a key: the file name without suffix, or the part that ``*`` matches in a pattern.
    Registering a name again with the same arguments does nothing.

    Args:
        name: Its name in configs (``DATASETS.TRAIN``, ``DATASETS.TEST``).
        root: Folder of the dataset; a relative one is within ``$DETECTRON2_DATASETS`` (default ``datasets``).
        rgb: Folder of the RGB files in ``root``, or a pattern with one ``*`` in the file name (``"rgb_*.png"``).
        sar: The same for SAR.
        labels: The same for the label maps, with one integer per pixel; None for unlabelled pairs.
        classes: Class names, seen and unseen, in the order of the label indices. A name may consist of synonyms
            separated by commas. Unlabelled pairs (for stage 1) need none.
        unseen: Those of ``classes`` whose labels training does not see.
        colors: (red, green, blue) of each class, 0..255; None for conventional colours.
        ignore_label: Label value for no class.
        label_values: Raw value in the label files -> class index or ``ignore_label``; None if the files hold
            class indices.
        ground_sampling_distance: Metres per pixel; None if unknown or mixed.
        pairs: Keys of the pairs to use, so that several datasets can share folders; None for all.

    Raises:
        VocabularyError: There are labels but no classes, a class is repeated, an unseen class is not among the classes,
            or the colours are invalid.
        DataError: The name belongs to another dataset, or a pattern, label value, ``ignore_label`` or list of pairs is
            invalid.
    """
    try:
        # Without labels, class names have no indices to name.
        class_names = validate_class_names(classes) if labels is not None or classes else ()
        unseen_names = select_unseen(class_names, () if unseen is None else unseen)
    except VocabularyError as error:
        raise VocabularyError(f"Dataset '{name}': {error}") from error
    if not isinstance(root, str | os.PathLike):
        raise DataError(f"Dataset '{name}' has root={root!r}; give the path of a folder.")
    check_label_numbers(name, len(class_names), ignore_label, label_values)
    if ground_sampling_distance is not None and not (
        isinstance(ground_sampling_distance, int | float) and ground_sampling_distance > 0
    ):
        raise DataError(
            f"Dataset '{name}' has ground_sampling_distance={ground_sampling_distance!r}; give metres per pixel, or "
            "None."
        )
    dataset = RGBSARDataset(
        name=name,
        root=os.fspath(root),
        rgb=_check_pattern(name, "rgb", rgb),
        sar=_check_pattern(name, "sar", sar),
        labels=None if labels is None else _check_pattern(name, "labels", labels),
        classes=class_names,
        unseen=unseen_names,
        colors=class_colors(class_names, colors, owner=f"Dataset '{name}'"),
        ignore_label=ignore_label,
        label_values=None if label_values is None else tuple(sorted(label_values.items())),
        ground_sampling_distance=ground_sampling_distance,
        pairs=_check_pairs(name, pairs),
    )
    if name in DatasetCatalog:
        if MetadataCatalog.get(name).get("declaration") == dataset:
            return
        raise DataError(
            f"A dataset named '{name}' is registered already, with other arguments; choose another name, or call "
            f"DatasetCatalog.remove('{name}') first."
        )
    MetadataCatalog.pop(name, None)  # left over from a removed dataset of this name
    DatasetCatalog.register(name, dataset.load)
    MetadataCatalog.get(name).set(
        declaration=dataset,
        stuff_classes=list(dataset.classes),
        stuff_colors=[list(color) for color in dataset.colors],
        unseen_classes=list(dataset.unseen),
        ignore_label=ignore_label,
        label_values=None if dataset.label_values is None else dict(dataset.label_values),
        ground_sampling_distance=ground_sampling_distance,
        evaluator_type="rgb_sar_retrieval" if labels is None else "rgb_sar_sem_seg",
    )


def register_datasets_from_file(path: str | os.PathLike) -> list[str]:
    """Register every dataset that a YAML file declares; see ``datasets/example.yaml`` for an example.

    Args:
        path: The YAML file: ``datasets: {name: {argument of register_rgb_sar_dataset: value, ...}, ...}`` and,
            optionally, ``defaults: {argument: value}`` for all of them. ``classes`` is a list, or the path, relative to
            the YAML file, of a class file (:func:`read_class_file`), whose colours and unseen classes are used unless
            the YAML file gives its own. ``pairs`` is a list, or the path, relative to the YAML file, of a text file
            with one key per line; blank lines and comments (#) are ignored.

    Returns:
        The names of the datasets.

    Raises:
        ConfigError: The file is missing or malformed, or has an unknown key.
        DataError, VocabularyError: See :func:`register_rgb_sar_dataset`.
    """
    path = Path(path)
    content = _read_mapping(path, parse_yaml)
    _check_keys(path, "the file", content, ("datasets", "defaults"))
    datasets, defaults = content.get("datasets"), content.get("defaults") or {}
    if not isinstance(datasets, dict) or not datasets:
        raise ConfigError(f"{path} declares no dataset; write 'datasets:' and below it a name with its arguments.")
    parameters = inspect.signature(register_rgb_sar_dataset).parameters
    allowed = [argument for argument in parameters if argument != "name"]
    required = [argument for argument in allowed if parameters[argument].default is inspect.Parameter.empty]
    for name, declared in {"defaults": defaults, **datasets}.items():
        if not isinstance(name, str) or not isinstance(declared, dict):
            raise ConfigError(f"{path} has no arguments under '{name}'; write them below it, as 'key: value' lines.")
        _check_keys(path, f"'{name}'", declared, allowed)
    for name, declared in datasets.items():
        arguments = {key: value for key, value in {**defaults, **declared}.items() if value is not None}
        needed = [*required, "classes"] if "labels" in arguments else required
        if missing := [argument for argument in needed if argument not in arguments]:
            raise ConfigError(f"{path} declares '{name}' without {', '.join(missing)}; add what is missing.")
        if isinstance(arguments.get("classes"), str):
            class_file = read_class_file(path.parent / arguments["classes"])
            arguments = {**class_file, **arguments, "classes": class_file["classes"]}
        if isinstance(arguments.get("pairs"), str):
            lines = map(str.strip, read_text(path.parent / arguments["pairs"], ConfigError).splitlines())
            arguments["pairs"] = [line for line in lines if line and not line.startswith("#")]
        try:
            register_rgb_sar_dataset(name, **arguments)
        except MMOVSegError as error:
            raise type(error)(f"{path}: {error}") from error
    return list(datasets)


def check_dataset(name: str, key: str, *, any_form: bool = False) -> None:
    """Check that a dataset is registered.

    Args:
        name: The dataset.
        key: The config key or option that names it.
        any_form: Whether to accept any dataset in Detectron2's catalog, not only those of RGB-SAR pairs registered
            with :func:`register_rgb_sar_dataset`.

    Raises:
        ConfigError: It is not registered; the message lists those that are.
    """
    known = sorted(known for known in DatasetCatalog if MetadataCatalog.get(known).get("declaration") is not None)
    if name not in (DatasetCatalog if any_form else known):
        raise ConfigError(
            f"{key} names '{name}', which is not registered as a dataset of RGB-SAR pairs; there are "
            f"{', '.join(known)}. Declare your own in a YAML file and name that in DATASETS.FILES, or, on a command "
            "line that has it, with --dataset-file."
        )


def check_label_numbers(name: str, num_classes: int, ignore_label: int, label_values: Mapping[int, int] | None) -> None:
    """Check the numbers of a dataset; see :func:`mm_ovseg.data.register_rgb_sar_dataset`.

    Raises:
        VocabularyError: There are too many classes.
        DataError: ``ignore_label`` or ``label_values`` is invalid.
    """
    if num_classes > MAX_CLASSES:
        raise VocabularyError(f"Dataset '{name}' has {num_classes} classes; an 8-bit map has at most {MAX_CLASSES}.")
    if not isinstance(ignore_label, int) or not num_classes <= ignore_label <= 255:
        raise DataError(
            f"Dataset '{name}' has ignore_label {ignore_label}; give a number from {num_classes}, the number of "
            "classes, to 255 (label_values can map other values in the files to it)."
        )
    if label_values is None:
        return
    if not isinstance(label_values, Mapping) or not label_values:
        raise DataError(
            f"Dataset '{name}' has label_values {label_values!r}; give 'value in the file: class index' pairs."
        )
    targets = [*range(num_classes), ignore_label]
    for raw, index in label_values.items():
        if isinstance(raw, bool) or not isinstance(raw, int) or isinstance(index, bool) or index not in targets:
            raise DataError(
                f"Dataset '{name}' has the label value {raw!r}: {index!r}; the first must be an integer, the "
                f"second a class index from 0 to {num_classes - 1} or the ignore_label {ignore_label}."
            )


def read_class_file(path: str | os.PathLike) -> dict[str, Any]:
    """Read a JSON class file: ``{"classes": [...], "colors": [[red, green, blue], ...], "unseen": [...]}``.

    Returns:
        Its content; ``colors`` and ``unseen`` only if the file has them.

    Raises:
        ConfigError: The file is missing or malformed.
    """
    path = Path(path)
    content = _read_mapping(path, parse_json)
    _check_keys(path, "the file", content, CLASS_FILE_KEYS)
    if "classes" not in content:
        raise ConfigError(f"{path} has no 'classes'; add the list of class names.")
    return content


def _read_mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    text = read_text(path, ConfigError)
    try:
        content = parse(text)
    except ValueError as error:
        raise ConfigError(f"{path} is malformed ({error}); correct it.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} does not consist of 'key: value' entries; see datasets/README.md.")
    return content


def _check_keys(path: Path, where: str, content: Mapping[str, Any], allowed: Sequence[str]) -> None:
    if unknown := [str(key) for key in content if key not in allowed]:
        raise ConfigError(
            f"{path}: unknown key {', '.join(unknown)} in {where}; the allowed keys are {', '.join(allowed)}."
        )


def _check_pattern(name: str, argument: str, pattern: str) -> str:
    if not isinstance(pattern, str) or not pattern or "*" in os.path.dirname(pattern) or pattern.count("*") > 1:
        raise DataError(
            f"Dataset '{name}' has {argument}={pattern!r}; give a folder, or a pattern with one * in the file name, "
            "such as 'images/rgb_*.png'."
        )
    if os.path.isabs(pattern) or os.path.normpath(pattern).split(os.sep)[0] == os.pardir or "\0" in pattern:
        raise DataError(
            f"Dataset '{name}' has {argument}={pattern!r}, which leaves its root; give a folder inside, or set root to "
            "a folder that contains all."
        )
    return pattern


def _check_pairs(name: str, pairs: Sequence[str] | None) -> tuple[str, ...] | None:
    if pairs is None:
        return None
    if not isinstance(pairs, list | tuple) or not pairs or not all(isinstance(key, str) for key in pairs):
        raise DataError(
            f"Dataset '{name}' has pairs={pairs!r}; give the names of the pairs as strings, at least one, or leave "
            "pairs out to use all."
        )
    if repeated := [key for key, count in Counter(pairs).items() if count > 1]:
        raise DataError(f"Dataset '{name}' names the pair '{repeated[0]}' twice in pairs; keep it once.")
    return tuple(pairs)
