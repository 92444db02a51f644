"""The files of each labelled pair, and the split that it belongs to."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mm_ovseg.data.preparation.dropped import Dropped
from mm_ovseg.data.preparation.labelled.layout import LABELS, SAR, DatasetLayout
from mm_ovseg.data.preparation.labelled.pattern import SPLIT_FIELD, FilePattern
from mm_ovseg.data.preparation.pairing import TilePair
from mm_ovseg.data.preparation.split import split_by_scene
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.files import sha256
from mm_ovseg.plain_data import read_text

__all__ = ["Sample", "SplitRule", "assign_splits", "group_samples"]


@dataclass(frozen=True)
class Sample:
    """A labelled pair as published.

    Attributes:
        name: What its files' names share.
        split: "train" or "val"; None while it is not known.
        files: By kind: one or more of RGB, SAR, labels.
    """

    name: str
    split: str | None
    files: Mapping[str, Path]

    @property
    def full_name(self) -> str:
        """The name that no other sample has, whatever its split."""
        return f"{self.split}/{self.name}"

    @property
    def rgb_kinds(self) -> tuple[str, ...]:
        """The kinds of RGB that it has, at least one."""
        return tuple(kind for kind in self.files if kind not in (SAR, LABELS))

    def pair(self, rgb_kind: str) -> TilePair:
        """One of the kinds of RGB, with SAR."""
        return TilePair(self.full_name, self.files[rgb_kind], self.files[SAR])


@dataclass(frozen=True)
class SplitRule:
    """How samples whose paths do not tell their split are held out.

    Attributes:
        val_list: File with a name a line, with or without suffix and folders: those are held out. None: go by share.
        val_fraction: Share of the scenes to hold out, 0..1; None if nothing was said.
        scene: Expression whose first group is the scene in a name; samples of a scene stay together.
        seed: Another one holds out other scenes.
    """

    val_list: Path | None = None
    val_fraction: float | None = None
    scene: str = "(.*)"
    seed: int = 0

    def settings(self) -> dict:
        """What the result hangs on, for the journal and the manifest."""
        if self.val_list is not None:
            return {"split_by": "list", "val_list_sha256": sha256(self.val_list)}
        if self.val_fraction is None:
            return {"split_by": "nothing"}
        return {"split_by": "scene", "val_fraction": self.val_fraction, "scene": self.scene, "seed": self.seed}


def group_samples(
    files: Iterable[Path], patterns: Sequence[FilePattern], layout: DatasetLayout
) -> tuple[list[Sample], list[Dropped]]:
    """Bring together the files that share split and name.

    Args:
        files: All files; those of no pattern are passed over.
        patterns: What they are.
        layout: The dataset. A kind of RGB of which a split has no file at all is left out there.

    Returns:
        The samples that have SAR, labels and every kind of RGB that their split has, sorted by split and name; and
        what is none: without all of its files, or with the name of another file.
    """
    groups: dict[tuple[str | None, str], dict[str, Path]] = {}
    kinds_there: dict[str | None, set[str]] = {}
    dropped = []
    for path in sorted(files):
        for pattern in patterns:
            if (name := pattern.name_of(path)) is None:
                continue
            group = groups.setdefault((pattern.split, name), {})
            kinds_there.setdefault(pattern.split, set()).add(pattern.kind)
            if (first := group.setdefault(pattern.kind, path)) is not path:
                dropped.append(Dropped(name, "the name of another tile", f"{path} besides {first}"))
    samples = []
    for (split, name), found in groups.items():
        rgb = [kind for kind in layout.rgb_kinds if kind in kinds_there[split]] or ["RGB"]
        if missing := [kind for kind in (*rgb, SAR, LABELS) if kind not in found]:
            reason = f"no {' and no '.join(missing)} file"
            dropped.append(Dropped(name, reason, ", ".join(map(str, found.values()))))
        else:
            samples.append(Sample(name, split, found))
    samples.sort(key=lambda sample: (sample.split or "", sample.name))
    return samples, sorted(dropped, key=lambda entry: (entry.name, entry.reason, entry.detail))


def assign_splits(
    samples: Sequence[Sample], rule: SplitRule, layout: DatasetLayout
) -> tuple[list[Sample], list[Dropped]]:
    """Give samples whose paths do not tell it a split; those of the others stays.

    A dataset that has one split only takes all of them there, unless the rule holds some out.

    Returns:
        The samples that go to a split which the dataset has, sorted by split and name; and the others.

    Raises:
        ConfigError: The rule says nothing, or is malformed.
        DataError: The list cannot be read, or has a name that no sample has.
    """
    names = [sample.name for sample in samples]
    if any(sample.split for sample in samples):
        splits = [sample.split for sample in samples]
    elif rule.val_list is not None:
        held_out = _read_val_list(rule.val_list, names)
        splits = ["val" if name in held_out else "train" for name in names]
    elif rule.val_fraction is not None:
        scenes = [_scene(rule.scene, name) for name in names]
        splits = split_by_scene(scenes, val_fraction=rule.val_fraction, seed=rule.seed)
    elif len(layout.splits) == 1:
        splits = [*layout.splits] * len(names)
    else:
        raise ConfigError(
            f"Nothing says which of the {len(samples)} tiles of {layout.title} are for validation: give --val-list "
            f"with a file of their names, or --val-fraction, or write {SPLIT_FIELD} where the paths have it."
        )
    placed, dropped = [], []
    for sample, split in zip(samples, splits, strict=True):
        if split in layout.splits:
            placed.append(Sample(sample.name, split, sample.files))
        else:
            dropped.append(Dropped(sample.name, f"would be for {split}, which {layout.title} is not used for"))
    return sorted(placed, key=lambda sample: (sample.split, sample.name)), dropped


def _read_val_list(path: Path, names: Sequence[str]) -> set[str]:
    known = set(names)
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    held_out = set()
    for line in lines:
        match = next((name for name in (line, Path(line).name, Path(line).stem) if name in known), None)
        if match is None:
            raise DataError(f"The list {path} has '{line}', which no tile is called; names are such as '{min(names)}'.")
        held_out.add(match)
    return held_out


def _scene(expression: str, name: str) -> str:
    try:
        match = re.search(expression, name)
        return match[1] if match else name
    except (re.error, IndexError) as error:
        raise ConfigError(f"--scene '{expression}' is no regular expression with a group ({error}).") from error
