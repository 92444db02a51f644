"""Where the registered datasets of one published dataset expect their files, and what their masks hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from detectron2.data import MetadataCatalog

import mm_ovseg.data.builtin  # noqa: F401 (registers the datasets)
from mm_ovseg.data.declaration import RGBSARDataset
from mm_ovseg.data.preparation.split import SPLITS

__all__ = ["CLEAR", "LABELS", "SAR", "DatasetLayout", "SplitLayout"]

# Kinds of files. Those of RGB are named as their folders; CLEAR has a folder also where no registered dataset reads it,
# since clouds can be put over it.
CLEAR, SAR, LABELS = "rgb", "sar", "labels"


@dataclass(frozen=True)
class SplitLayout:
    """One split of a published dataset.

    Attributes:
        folders: Kind of file -> its folder in that of the split.
        names: Kind of RGB -> the registered dataset that reads it.
        mask_values: The mask value of each class; ``ignore_label`` for one that the masks of the split do not show.
    """

    folders: Mapping[str, str]
    names: Mapping[str, str]
    mask_values: tuple[int, ...]


@dataclass(frozen=True)
class DatasetLayout:
    """A published dataset, as the registered datasets read it. The declarations of these are all that it is made of.

    Attributes:
        title: Its name, for people.
        folder: In $DETECTRON2_DATASETS, that of its splits.
        splits: Those that there are, of "train" and "val".
        classes, unseen: Names, in the order of the class indices.
        colors: (red, green, blue) of each class.
        ignore_label: Mask value of no class.
    """

    title: str
    folder: str
    splits: Mapping[str, SplitLayout]
    classes: tuple[str, ...]
    unseen: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    ignore_label: int

    @classmethod
    def of_registered(cls, title: str, names: Sequence[str]) -> "DatasetLayout":
        """The layout of registered datasets, which share classes, a folder, SAR and masks, and differ in RGB.

        Args:
            title: As above.
            names: Of all splits.
        """
        declarations: dict[str, list[RGBSARDataset]] = {}
        for name in names:
            declaration = MetadataCatalog.get(name).declaration
            declarations.setdefault(Path(declaration.root).name, []).append(declaration)
        first = next(iter(declarations.values()))[0]
        return cls(
            title=title,
            folder=Path(first.root).parent.as_posix(),
            splits={split: _split_layout(declarations[split]) for split in SPLITS if split in declarations},
            classes=first.classes,
            unseen=first.unseen,
            colors=first.colors,
            ignore_label=first.ignore_label,
        )

    @property
    def prefix(self) -> str:
        """Of the names of journal and manifest."""
        return self.folder.lower()

    @property
    def rgb_kinds(self) -> tuple[str, ...]:
        """The kinds of RGB, which every split has."""
        return tuple(kind for kind in next(iter(self.splits.values())).folders if kind not in (SAR, LABELS))

    def file(self, split: str, kind: str, name: str) -> PurePosixPath:
        """The path of a file below ``folder``."""
        return PurePosixPath(split, self.splits[split].folders[kind], name)


def _split_layout(declarations: Sequence[RGBSARDataset]) -> SplitLayout:
    first = declarations[0]
    mask_values = list(range(len(first.classes)))
    if first.label_values is not None:
        value_of = {index: value for value, index in first.label_values}
        mask_values = [value_of.get(index, first.ignore_label) for index in mask_values]
    rgb = {declaration.rgb: declaration.name for declaration in declarations}
    return SplitLayout(
        folders={CLEAR: CLEAR, **{kind: kind for kind in rgb}, SAR: first.sar, LABELS: first.labels},
        names=rgb,
        mask_values=tuple(mask_values),
    )
