"""A dataset drafted from a folder: what lies where, what it means, how to read it, and what is held out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mm_ovseg.data.declaration import RGBSARDataset
from mm_ovseg.data.inspection.check import check_datasets, read_all_facts
from mm_ovseg.data.inspection.classes import ClassScheme, guess_classes
from mm_ovseg.data.inspection.facts import FileFacts
from mm_ovseg.data.inspection.findings import ERROR, Finding
from mm_ovseg.data.inspection.layout import Layout, find_layout
from mm_ovseg.data.inspection.numbering import IGNORED
from mm_ovseg.data.inspection.reading import guess_rgb_settings, guess_sar_settings
from mm_ovseg.data.inspection.sources import Pair, find_pairs
from mm_ovseg.data.pair_reader import PairReader
from mm_ovseg.data.palette import class_colors
from mm_ovseg.data.registration import read_class_file
from mm_ovseg.data.split import hold_out
from mm_ovseg.data.tile.label_values import Legend, parse_legend, read_legend
from mm_ovseg.errors import DataError
from mm_ovseg.plain_data import read_text
from mm_ovseg.raster import RGBReader, SARReader
from mm_ovseg.raster.footprint import common_pixel_size, footprints

__all__ = ["Draft", "draft_dataset"]

# Names of folders of a split that somebody has made already.
TRAIN_FOLDERS, VAL_FOLDERS = ("train", "training"), ("val", "valid", "validation", "test")
CLASS_FILES = ("classes.json", "classes.txt")


@dataclass(frozen=True)
class Draft:
    """What was seen in a folder, and the datasets that it gives.

    Attributes:
        root: The folder.
        layouts: Where the files lie: one, or those of the training and the validation folder.
        facts: What each file holds.
        scheme: What the labels mean; None where there are none that can be used.
        rgb_settings, sar_settings: Keys of INPUT.RGB and INPUT.SAR that are not the defaults.
        train, val: The declarations; ``val`` is None where nothing can be held out.
        sizes: Number of pairs of both.
        how_split: What the split goes by, for people.
        findings: What is wrong, worst first.
    """

    root: Path
    layouts: tuple[Layout, ...]
    facts: dict[Path, FileFacts]
    scheme: ClassScheme | None
    rgb_settings: dict[str, Any]
    sar_settings: dict[str, Any]
    train: RGBSARDataset
    val: RGBSARDataset | None
    sizes: tuple[int, int]
    how_split: str
    findings: list[Finding]

    def files(self, kind: str) -> list[FileFacts]:
        """What the files of a kind ("RGB", "SAR", "label") hold, broken ones too."""
        pairs, _ = find_pairs([replace(dataset, pairs=None) for dataset in (self.train, self.val) if dataset])
        paths = dict.fromkeys(path for pair in pairs for path in pair.files.get(kind, ()))
        return [self.facts[path] for path in paths]


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
    """Look at a folder.

    Args:
        root: The folder; or one with folders such as train and val, each with its files.
        name: What the datasets are to be called: NAME_train and NAME_val.
        rgb, sar, labels: Folders or patterns, where they are known already.
        names: Class names in the order of the label numbers, where they are known already.
        label_values: What the label numbers mean, where it is known already: ``"0: land, 1: water, -1: ignore"``, or
            the path of a file of such lines.
        val_fraction: Share of the pairs to hold out, 0..1.

    Raises:
        DataError: There are no pairs of RGB and SAR that can be used; the message has the worst reason. Or
            ``label_values`` cannot be read.
        VocabularyError: It is not certain what the label numbers mean.
    """
    roots = _split_folders(root) or [root]
    layouts = tuple(find_layout(folder, rgb=rgb, sar=sar, labels=labels) for folder in roots)
    drafts = [_declare(name, split, layout) for split, layout in zip(("train", "val"), layouts, strict=False)]
    pairs, _ = find_pairs(drafts)
    facts = read_all_facts([path for pair in pairs for paths in pair.files.values() for path in paths])
    of_kind = {
        kind: [facts[path] for pair in pairs for path in pair.files.get(kind, ())] for kind in ("RGB", "SAR", "label")
    }
    known_names, colors, source = (list(names), None, "--classes") if names else _names_beside(root)
    legend = _read_label_values(label_values, known_names or None) if label_values else None
    scheme = guess_classes(of_kind["label"], known_names, "--label-values" if legend else source, legend)
    if scheme is not None and colors is not None:
        scheme = replace(scheme, colors=colors)
    drafts = [_complete(draft, scheme, of_kind["RGB"]) for draft in drafts]
    rgb_settings, sar_settings = guess_rgb_settings(of_kind["RGB"]), guess_sar_settings(of_kind["SAR"])
    findings = check_datasets(drafts, _reader(rgb_settings, sar_settings), facts=facts)
    broken = {(finding.dataset, finding.pair) for finding in findings if finding.severity == ERROR}
    pairs, _ = find_pairs(drafts)
    usable = [
        [pair for pair in pairs if pair.dataset is draft and (draft.name, pair.key) not in broken] for draft in drafts
    ]
    if not usable[0]:
        reason = "; ".join(part for part in (findings[0].message, findings[0].advice) if part)
        raise DataError(f"{layouts[0].root} has no pair that can be used: {reason}.")
    if len(drafts) == 1:
        train, val, how_split = _split(drafts[0], name, usable[0], facts, scheme, val_fraction)
    else:
        train, val = (_limit(draft, of_draft, broken) for draft, of_draft in zip(drafts, usable, strict=True))
        val = val if usable[1] else None
        how_split = "as the folders are"
    sizes = (len(usable[0]), len(usable[1])) if len(drafts) > 1 else (len(train.pairs), len(val.pairs) if val else 0)
    return Draft(root, layouts, facts, scheme, rgb_settings, sar_settings, train, val, sizes, how_split, findings)


def _split_folders(root: Path) -> list[Path] | None:
    """The training and the validation folder, where somebody has made them; else None."""
    found = [
        next((root / name for name in names if (root / name).is_dir()), None) for names in (TRAIN_FOLDERS, VAL_FOLDERS)
    ]
    return None if None in found else found


def _names_beside(root: Path) -> tuple[list[str], list | None, str]:
    """Class names, and colours if there are any, of a class file beside the images."""
    json_file, text_file = (root / name for name in CLASS_FILES)
    if json_file.is_file():
        content = read_class_file(json_file)
        return content["classes"], content.get("colors"), json_file.name
    if text_file.is_file():
        lines = read_text(text_file).splitlines()
        return [line.strip() for line in lines if line.strip()], None, text_file.name
    return [], None, ""


def _read_label_values(typed: str, names: Sequence[str] | None) -> Legend:
    """What ``--label-values`` says, itself or in the file that it names."""
    if ":" in typed and not Path(typed).is_file():
        return parse_legend(typed, names, source="--label-values")
    return read_legend(Path(typed), names)


def _declare(name: str, split: str, layout: Layout) -> RGBSARDataset:
    """The declaration without what only the files tell."""
    root = str(layout.root.resolve())
    return RGBSARDataset(
        f"{name}_{split}", root, layout.rgb, layout.sar, layout.labels, (), (), (), IGNORED, None, None
    )


def _complete(draft: RGBSARDataset, scheme: ClassScheme | None, rgb: Sequence[FileFacts]) -> RGBSARDataset:
    metres = common_pixel_size(footprints([entry.info for entry in rgb if entry.info is not None]))
    draft = replace(draft, ground_sampling_distance=metres)
    if scheme is None:
        return replace(draft, labels=None)
    return replace(
        draft,
        classes=scheme.names,
        colors=class_colors(scheme.names, scheme.colors, owner="The dataset"),
        label_values=None if scheme.label_values is None else tuple(scheme.label_values.items()),
    )


def _reader(rgb: Mapping[str, Any], sar: Mapping[str, Any]) -> PairReader:
    names = {"BANDS": "bands", "RANGE": "value_range", "SCALE": "scale"}
    return PairReader(
        RGBReader(**{names[key]: tuple(value) for key, value in rgb.items()}),
        SARReader(**{names[key]: value if key == "SCALE" else tuple(value) for key, value in sar.items()}),
    )


def _split(
    draft: RGBSARDataset,
    name: str,
    pairs: Sequence[Pair],
    facts: Mapping[Path, FileFacts],
    scheme: ClassScheme | None,
    val_fraction: float,
) -> tuple[RGBSARDataset, RGBSARDataset | None, str]:
    rgb = [facts[pair.paths["RGB"]] for pair in pairs]
    classes = [
        _class_counts(facts[pair.paths["label"]], scheme) if scheme and "label" in pair.paths else {} for pair in pairs
    ]
    split = hold_out(
        [pair.key for pair in pairs],
        footprints=footprints([entry.info for entry in rgb]),
        contents=[entry.digest for entry in rgb],
        classes=classes,
        val_fraction=val_fraction,
    )
    val = replace(draft, name=f"{name}_val", pairs=split.val) if split.val else None
    return replace(draft, pairs=split.train), val, split.how


def _class_counts(label: FileFacts, scheme: ClassScheme) -> Counter[int]:
    counts: Counter[int] = Counter()
    for value, pixels in (label.values or {}).items():
        counts[scheme.index_of.get(value, IGNORED)] += pixels
    del counts[IGNORED]
    return counts


def _limit(draft: RGBSARDataset, usable: Sequence[Pair], broken: set[tuple[str, str]]) -> RGBSARDataset:
    """The declaration; of its usable pairs only, where others are broken."""
    if not any(dataset == draft.name and key for dataset, key in broken):
        return draft
    return replace(draft, pairs=tuple(pair.key for pair in usable))
