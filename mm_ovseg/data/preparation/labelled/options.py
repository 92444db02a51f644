"""What the command lines of ``datasets/prepare_*.py`` for labelled datasets have in common."""

import argparse
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from mm_ovseg.data.declaration import RASTER_SUFFIXES
from mm_ovseg.data.preparation.dropped import count_reasons
from mm_ovseg.data.preparation.labelled.label_table import (
    LabelTable,
    find_label_table,
    read_label_table,
    released_label_table,
)
from mm_ovseg.data.preparation.labelled.layout import LABELS, SAR, DatasetLayout
from mm_ovseg.data.preparation.labelled.pattern import SPLIT_FIELD, FilePattern, authors_patterns, processed_patterns
from mm_ovseg.data.preparation.labelled.prepare import LabelledPreparation, prepare_labelled
from mm_ovseg.data.preparation.labelled.samples import SplitRule, assign_splits, group_samples
from mm_ovseg.data.preparation.options import (
    add_file_arguments,
    add_intensity_arguments,
    check_arguments,
    print_packed,
)
from mm_ovseg.data.preparation.settings import PairSettings
from mm_ovseg.data.preparation.sources import gather_files
from mm_ovseg.errors import ConfigError, DataError

__all__ = ["Authors", "add_labelled_arguments", "run_labelled"]

PROCESSED, AUTHORS = "processed", "authors"
_FOLDERS_SHOWN = 12


@dataclass(frozen=True)
class Authors:
    """What becomes of the archive of a dataset's authors.

    Attributes:
        layout: The dataset that its files become.
        label_table: Name of our table of what its label maps hold.
    """

    layout: DatasetLayout
    label_table: str


@dataclass(frozen=True)
class _Release:
    """A dataset in one of the forms in which it is published."""

    title: str
    layout: DatasetLayout
    patterns: Sequence[FilePattern]
    tables: Mapping[str, LabelTable]

    def has_labels_in(self, files: Sequence[Path]) -> bool:
        patterns = [pattern for pattern in self.patterns if pattern.kind == LABELS]
        return any(pattern.name_of(path) is not None for path in files for pattern in patterns)


def add_labelled_arguments(parser: argparse.ArgumentParser, patterns: Mapping[str, str]) -> None:
    """Add the arguments that all labelled datasets share.

    Args:
        parser: Where to.
        patterns: Kind of file -> where it is looked for in the authors' archive, unless the user says otherwise.
    """
    add_file_arguments(parser, Path(os.environ.get("DETECTRON2_DATASETS", "datasets")))
    parser.add_argument(
        "--source",
        choices=("auto", PROCESSED, AUTHORS),
        default="auto",
        help="the release for the paper, or the authors' own (default: by the names of the folders)",
    )
    authors = parser.add_argument_group(
        "the authors' own release",
        "Where its files lie: a folder, or a path with one * for what the files of a pair share.\n"
        f"{SPLIT_FIELD} stands for the folder of a split. Where the paths given have none, the others'\n"
        "defaults are not looked at, and --val-list or --val-fraction says which tiles to hold out.",
    )
    for kind, pattern in patterns.items():
        authors.add_argument(_option(kind), dest=kind, metavar="PATTERN", help=f"default: {pattern}")
    authors.add_argument(
        "--split-folders",
        nargs=2,
        default=("train", "val"),
        metavar=("TRAIN", "VAL"),
        help=f"what {SPLIT_FIELD} stands for (default: train val)",
    )
    authors.add_argument("--label-table", type=Path, help="JSON file that says what the label maps hold")
    authors.add_argument("--val-list", type=Path, help="text file with the tiles to hold out")
    authors.add_argument("--val-fraction", type=float, help="share of the scenes to hold out instead")
    authors.add_argument(
        "--scene",
        default="(.*)",
        metavar="REGEX",
        help="its first group is the scene in a name, which is held out as a whole (default: each tile is one)",
    )
    authors.add_argument("--seed", type=int, default=0, help="another one holds out others (default: 0)")
    pixels = parser.add_argument_group("pixels", "Images of 8 bit are copied as they are; these are for others.")
    add_intensity_arguments(pixels, PairSettings())
    pixels.add_argument("--sar-bands", type=int, nargs="+", default=[1], metavar="BAND", help="one to three, from 1")


def run_labelled(
    args: argparse.Namespace,
    *,
    layouts: Sequence[DatasetLayout],
    authors: Authors | None,
    patterns: Mapping[str, str],
) -> None:
    """Do what a command line asks for, and print the summaries.

    Args:
        args: The command line, with the arguments of :func:`add_labelled_arguments`.
        layouts: The datasets that the processed release may hold. Of several, each lies in its own folder.
        authors: What the authors' own archive becomes; None if the command line does not say it.
        patterns: As in :func:`add_labelled_arguments`.

    Raises:
        ConfigError: An argument is wrong or lacking.
        DataError: As :func:`~mm_ovseg.data.preparation.labelled.prepare.prepare_labelled`, or there are no such files.
    """
    check_arguments(args)
    work = args.work or args.output / "sources"
    given = {kind: getattr(args, kind) for kind in patterns if getattr(args, kind) is not None}
    published = authors_patterns(patterns, given, args.split_folders)
    settings = PairSettings(
        size=0,
        rgb_range=tuple(args.rgb_range),
        sar_bands=tuple(args.sar_bands),
        sar_scale=args.sar_scale,
        sar_range=tuple(args.sar_range),
    )
    # All images, whatever the patterns: the next run may have others, and an archive is unpacked once.
    files, packed = gather_files(args.inputs, _is_image, what="images", work=work, dry_run=args.dry_run)
    for release in _choose_releases(args, [*files, *packed], layouts, authors, published):
        samples, dropped = group_samples([*files, *packed], release.patterns, release.layout)
        if not samples:
            raise _nothing_found(release, [*files, *packed], count_reasons(dropped))
        rule = SplitRule(args.val_list, args.val_fraction, args.scene, args.seed)
        samples, outside = assign_splits(samples, rule, release.layout)
        has_folders = release.patterns[0].split is not None
        split_settings = {"split_by": "folders"} if has_folders else rule.settings()
        if packed:
            print_packed(release.title, len(samples), packed, work)
            continue
        preparation = LabelledPreparation(
            layout=release.layout,
            release=release.title,
            output=args.output,
            tables=release.tables,
            settings=settings,
            split_settings=split_settings,
            workers=args.workers,
            strict=args.strict,
            dry_run=args.dry_run,
        )
        print(prepare_labelled(preparation, samples, [*dropped, *outside]).format())
        if args.dry_run:
            print("A dry run: nothing was written.")
        else:
            print(f"The pairs and manifest_{release.layout.prefix}.json are in {preparation.folder}.")
    if work.is_dir() and not args.dry_run:
        print(f"{work} holds the unpacked archives, which are no longer needed.")


def _choose_releases(
    args: argparse.Namespace,
    files: Sequence[Path],
    layouts: Sequence[DatasetLayout],
    authors: Authors | None,
    published: Sequence[FilePattern],
) -> list[_Release]:
    """What the files are to be taken for: --source, or else what the folders of the label maps tell."""
    processed = [
        _Release(
            "processed release",
            layout,
            processed_patterns(layout, layout.folder if len(layouts) > 1 else ""),
            {split: released_label_table(layout, split) for split in layout.splits},
        )
        for layout in layouts
    ]
    if args.source != AUTHORS and (found := [release for release in processed if release.has_labels_in(files)]):
        if args.label_table is not None:
            raise ConfigError(
                "--label-table is for the authors' release, but these are the folders of the processed one, whose "
                f"values are known; leave it out, or add --source {AUTHORS}."
            )
        return found
    if args.source == PROCESSED:
        raise _nothing_found(processed[0], files, {})
    if authors is None:
        raise ConfigError(
            "These are not the folders of the processed release, so --region has to say which of the authors' regions "
            "the files show."
        )
    table = read_label_table(args.label_table or find_label_table(authors.label_table), authors.layout.classes)
    tables = dict.fromkeys(authors.layout.splits, table)
    return [_Release("authors' release", authors.layout, published, tables)]


def _is_image(path: PurePath) -> bool:
    return path.suffix.lower() in RASTER_SUFFIXES


def _nothing_found(release: _Release, files: Sequence[Path], reasons: Mapping[str, int]) -> DataError:
    """The error to raise when no sample is complete: what was looked for, and what there is."""
    looked_for = ", ".join(f"{pattern.kind} in {pattern.path}" for pattern in release.patterns)
    found = "; ".join(f"{reason}: {count}" for reason, count in reasons.items()) or "none of these is there"
    parents = [path.absolute().parent for path in files]
    top = os.path.commonpath([parent.parent for parent in parents])
    counts = sorted(Counter(parent.relative_to(top).as_posix() for parent in parents).items())
    folders = ", ".join(f"{folder} ({count})" for folder, count in counts[:_FOLDERS_SHOWN])
    options = ", ".join(map(_option, (*release.layout.rgb_kinds, SAR, LABELS)))
    return DataError(
        f"{release.layout.title}, {release.title}: no tile has all of its files ({found}). Looked for {looked_for}; "
        f"the images lie in {folders}{', ...' if len(counts) > _FOLDERS_SHOWN else ''} below {top}. Say with "
        f"{options} where they are."
    )


def _option(kind: str) -> str:
    return f"--{kind.replace('_', '-')}"
