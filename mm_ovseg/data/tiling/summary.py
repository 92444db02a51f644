"""What a run of tiling has made: counts and class frequencies for people, the manifest for programs."""

from collections import Counter
from dataclasses import asdict, dataclass, field

from tabulate import tabulate

from mm_ovseg.data.preparation.dropped import Dropped, count_reasons
from mm_ovseg.data.split import SPLITS
from mm_ovseg.raster.vector import format_left_out

__all__ = ["TilingSummary"]

UNKNOWN_SHOWN = 10


@dataclass
class TilingSummary:
    """What a run has made, or, if dry, would make.

    Attributes:
        name: of the datasets, without ``_train`` and ``_val``.
        classes, unseen: class names.
        tiles: number of windows of all scenes.
        ground_sampling_distance: metres a pixel; None where scenes differ or do not say.
        pairs: see :func:`~mm_ovseg.data.tiling.tile.process_tile`.
        dropped: what gave no pair.
        done_before: number of tiles that an earlier run had finished.
        concerns: sentences on what the scenes' files probably do not mean.
        unknown_in_dropped: value -> pixels of what has no meaning, in windows that gave no pair.
        left_out: scene -> reason -> number of geometries of its labels that are not polygons or cannot be used.
    """

    name: str
    classes: tuple[str, ...]
    unseen: tuple[str, ...]
    tiles: int
    ground_sampling_distance: float | None
    pairs: list[dict] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    done_before: int = 0
    concerns: list[str] = field(default_factory=list)
    unknown_in_dropped: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)

    def pair_counts(self) -> dict[str, int]:
        """Number of pairs of each split."""
        return {split: sum(pair["split"] == split for pair in self.pairs) for split in SPLITS}

    def pixel_counts(self, split: str) -> dict[str, int]:
        """Pixels of each class in the labels of a split."""
        counts = [pair["pixels"] for pair in self.pairs if pair["split"] == split]
        return {name: sum(count[index] for count in counts) for index, name in enumerate(self.classes)}

    def unknown(self) -> Counter[str]:
        """Pixels of each value of the labels that has no meaning."""
        return sum((Counter(pair["unknown"]) for pair in self.pairs), self.unknown_in_dropped)

    def format(self) -> str:
        """Tables of the counts and class frequencies, and what needs a look."""
        rows = [("windows", self.tiles)]
        if self.done_before:
            rows.append(("done before", self.done_before))
        rows += [(f"{self.name}_{split}", count) for split, count in self.pair_counts().items()]
        rows += [(f"dropped: {reason}", count) for reason, count in count_reasons(self.dropped).items()]
        lines = [tabulate(rows, headers=["tiles", "number"], tablefmt="github"), "", self._format_frequencies()]
        return "\n".join(lines + self._warnings())

    def manifest(self) -> dict:
        """Counts, class frequencies, every pair with the SHA-256 of its files, and what was dropped."""
        return {
            "counts": {"tiles": self.tiles, "pairs": self.pair_counts(), "dropped": count_reasons(self.dropped)},
            "pixels": {split: self.pixel_counts(split) for split in SPLITS},
            "unknown_values": dict(self.unknown()),
            "left_out_geometries": {name: reasons for name, reasons in sorted(self.left_out.items()) if reasons},
            "pairs": sorted(self.pairs, key=lambda pair: pair["name"]),
            "dropped": [asdict(entry) for entry in sorted(self.dropped, key=lambda entry: entry.name)],
        }

    def _format_frequencies(self) -> str:
        columns = []
        for split in SPLITS:
            counts = self.pixel_counts(split)
            total = max(sum(counts.values()), 1)
            columns.append([f"{count / total:.2%}" for count in counts.values()])
        names = [f"{name} (unseen)" if name in self.unseen else name for name in self.classes]
        return tabulate(
            zip(names, *columns, strict=True),
            headers=["labelled pixels", *SPLITS],
            tablefmt="github",
            colalign=("left", "right", "right"),
        )

    def _warnings(self) -> list[str]:
        counts = self.pair_counts()
        warnings = [f"warning: {concern}" for concern in self.concerns]
        warnings += [
            f"warning: there is no {split} tile; a smaller --square, another --seed or --val-fraction splits otherwise."
            for split in SPLITS
            if not counts[split]
        ]
        for split in SPLITS:
            missing = [name for name, count in self.pixel_counts(split).items() if not count]
            if missing and counts[split]:
                warnings.append(f"warning: no {split} tile shows {', '.join(missing)}.")
        if unknown := self.unknown():
            shown = ", ".join(f"{value} ({count} pixels)" for value, count in unknown.most_common(UNKNOWN_SHOWN))
            others = unknown.most_common()[UNKNOWN_SHOWN:]
            if others:
                shown += f", and {len(others)} others ({sum(count for _, count in others)} pixels)"
            warnings.append(f"warning: these label values mean nothing here and are ignored: {shown}.")
        warnings += [
            f"warning: geometries of the labels of {name} are left out: {format_left_out(reasons)}."
            for name, reasons in sorted(self.left_out.items())
            if reasons
        ]
        return warnings
