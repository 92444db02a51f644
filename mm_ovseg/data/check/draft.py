"""Drafting a dataset from a folder: where its files are, what they mean, how to read them, and what is held out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mm_ovseg.data.check.contents import FileContents
from mm_ovseg.data.check.dataset_check import check_datasets
from mm_ovseg.data.check.findings import ERROR, Finding
from mm_ovseg.data.check.folder_search import KINDS, FolderLayout, find_layout
from mm_ovseg.data.check.input_settings import guess_rgb_settings, guess_sar_settings
from mm_ovseg.data.check.label_meaning import ClassScheme, guess_classes
from mm_ovseg.data.check.label_numbers import IGNORED
from mm_ovseg.data.check.pair_files import PairFiles, find_pairs, read_pairs
from mm_ovseg.data.pair_reader import PairReader
from mm_ovseg.data.palette import class_colors
from mm_ovseg.data.registration import read_class_file
from mm_ovseg.data.rgb_sar_dataset import RGBSARDataset
from mm_ovseg.data.split import SPLITS, HoldOut, hold_out
from mm_ovseg.data.tile.label_values import parse_legend, read_legend
from mm_ovseg.errors import DataError
from mm_ovseg.plain_data import read_text
from mm_ovseg.raster import RGBReader, SARReader
from mm_ovseg.raster.footprint import common_pixel_size, footprints

__all__ = ["Draft", "draft_dataset"]

# Names of the folders of an existing split.
TRAIN_FOLDERS, VAL_FOLDERS = ("train", "training"), ("val", "valid", "validation", "test")
CLASS_FILES = ("classes.json", "classes.txt")
ARGUMENTS = {"BANDS": "bands", "RANGE": "value_range", "SCALE": "scale"}  # config key -> argument of the reader


@dataclass(frozen=True)
class Draft:
    """The contents of a folder, and the datasets made from them.

    Attributes:
        root: The folder.
        layouts: The layout of the files: one, or those of the training and the validation folder.
        files: Kind ("RGB", "SAR", "label") -> contents of its files, including broken ones.
        scheme: Meaning of the labels; None if none can be used.
        input_settings: "RGB" and "SAR" -> keys of INPUT.RGB and INPUT.SAR that differ from the defaults.
        train, val: The datasets; ``val`` is None if nothing can be held out.
        sizes: Number of pairs of each.
        how_split: The criterion of the split, for users.
        findings: The problems, worst first.
    """

    root: Path
    layouts: tuple[FolderLayout, ...]
    files: dict[str, list[FileContents]]
    scheme: ClassScheme | None
    input_settings: dict[str, dict[str, Any]]
    train: RGBSARDataset
    val: RGBSARDataset | None
    sizes: tuple[int, int]
    how_split: str
    findings: list[Finding]


def draft_dataset(
    root: Path,
    name: str,
    *,
    rgb: str = "",
    sar: str = "",
    labels: str = "",
    names: Sequence[str] = (),
    label_values: str = "",
    val_fraction: float = 0.2,
) -> Draft:
    """Draft a dataset from a folder.

    Args:
        root: The folder, or one with subfolders such as train and val, each with its files.
        name: Prefix of the datasets' names, NAME_train and NAME_val.
        rgb, sar, labels: Folders or patterns, if known.
        names: Class names in the order of the label values, if known.
        label_values: Meaning of the label values, if known: ``"0: land, 1: water, -1: ignore"``, or the path of a
            file with such lines.
        val_fraction: Share of the pairs to hold out, 0..1.

    Raises:
        DataError: No pair of RGB and SAR can be used (the message has the worst reason), or ``label_values`` cannot be
            read.
        VocabularyError: The meaning of the label values is uncertain.
    """
    layouts = tuple(find_layout(folder, rgb=rgb, sar=sar, labels=labels) for folder in _split_folders(root))
    datasets = [_declare(f"{name}_{split}", layout) for split, layout in zip(SPLITS, layouts, strict=False)]
    pairs = read_pairs(find_pairs(datasets)[0])
    files = {kind: [file for pair in pairs for file in pair.files.get(kind, ())] for kind in KINDS}
    scheme = _guess_scheme(root, files["label"], names, label_values)
    settings = {"RGB": guess_rgb_settings(files["RGB"]), "SAR": guess_sar_settings(files["SAR"])}
    metres = common_pixel_size(footprints([file.info.grid for file in files["RGB"] if file.info is not None]))
    meaning: dict[str, Any] = {"labels": None}
    if scheme is not None:
        values = None if scheme.label_values is None else tuple(scheme.label_values.items())
        colors = class_colors(scheme.names, scheme.colors, owner="The dataset")
        meaning = {"classes": scheme.names, "colors": colors, "label_values": values}
    datasets = [replace(dataset, ground_sampling_distance=metres, **meaning) for dataset in datasets]
    findings = check_datasets(datasets, _reader(settings))
    broken = {(finding.dataset, finding.pair) for finding in findings if finding.severity == ERROR}
    # If labels are left out, a label without images is not an error.
    whole = [pair for pair in pairs if pair.single.keys() >= {"RGB", "SAR"}]
    usable = [
        [pair for pair in whole if pair.dataset.name == dataset.name and (dataset.name, pair.key) not in broken]
        for dataset in datasets
    ]
    if not usable[0]:
        reason = "; ".join(part for part in (findings[0].message, findings[0].advice) if part)
        raise DataError(f"{layouts[0].root} has no usable pair: {reason}.")
    if len(datasets) == 1:
        split = _split(usable[0], scheme, val_fraction)
        keys, how_split = (split.train, split.val), split.how
        datasets = [
            replace(datasets[0], name=f"{name}_{part}", pairs=of_part)
            for part, of_part in zip(SPLITS, keys, strict=True)
        ]
    else:
        keys, how_split = [tuple(pair.key for pair in of_dataset) for of_dataset in usable], "as the folders are"
        incomplete = {dataset for dataset, key in broken if key}
        datasets = [
            replace(dataset, pairs=of_dataset) if dataset.name in incomplete else dataset
            for dataset, of_dataset in zip(datasets, keys, strict=True)
        ]
    val = datasets[1] if keys[1] else None
    sizes = (len(keys[0]), len(keys[1]))
    return Draft(root, layouts, files, scheme, settings, datasets[0], val, sizes, how_split, findings)


def _split_folders(root: Path) -> list[Path]:
    """The training and the validation folder if both exist, else the folder itself."""
    found = [
        next((root / name for name in names if (root / name).is_dir()), None) for names in (TRAIN_FOLDERS, VAL_FOLDERS)
    ]
    return [root] if None in found else found


def _declare(name: str, layout: FolderLayout) -> RGBSARDataset:
    """The dataset without anything that depends on the contents of the files."""
    root = str(layout.root.resolve())
    return RGBSARDataset(name, root, layout.rgb, layout.sar, layout.labels, (), (), (), IGNORED, None, None)


def _guess_scheme(
    root: Path, labels: Sequence[FileContents], names: Sequence[str], label_values: str
) -> ClassScheme | None:
    names, colors, source = (list(names), None, "--classes") if names else _names_beside(root)
    legend = None
    if label_values:
        source = "--label-values"
        if ":" in label_values and not Path(label_values).is_file():
            legend = parse_legend(label_values, names or None, source=source)
        else:
            legend = read_legend(Path(label_values), names or None)
    scheme = guess_classes(labels, names, source, legend)
    return scheme if scheme is None or colors is None else replace(scheme, colors=colors)


def _names_beside(root: Path) -> tuple[list[str], list | None, str]:
    """Class names, colours (if any) and name of a class file beside the images."""
    json_file, text_file = (root / name for name in CLASS_FILES)
    if json_file.is_file():
        content = read_class_file(json_file)
        return content["classes"], content.get("colors"), json_file.name
    if text_file.is_file():
        lines = read_text(text_file).splitlines()
        return [line.strip() for line in lines if line.strip()], None, text_file.name
    return [], None, ""


def _reader(settings: Mapping[str, Mapping[str, Any]]) -> PairReader:
    arguments = {
        kind: {ARGUMENTS[key]: tuple(value) if isinstance(value, list) else value for key, value in of_kind.items()}
        for kind, of_kind in settings.items()
    }
    return PairReader(RGBReader(**arguments["RGB"]), SARReader(**arguments["SAR"]))


def _split(pairs: Sequence[PairFiles], scheme: ClassScheme | None, val_fraction: float) -> HoldOut:
    rgb = [pair.single["RGB"] for pair in pairs]
    classes: list[Counter[int]] = []
    for pair in pairs:
        counts: Counter[int] = Counter()
        if scheme is not None and "label" in pair.single:
            for value, pixels in (pair.single["label"].values or {}).items():
                counts[scheme.index_of.get(value, IGNORED)] += pixels
            del counts[IGNORED]
        classes.append(counts)
    return hold_out(
        [pair.key for pair in pairs],
        footprints=footprints([None if file.info is None else file.info.grid for file in rgb]),
        contents=[file.digest for file in rgb],
        classes=classes,
        val_fraction=val_fraction,
    )
