"""The report of a run: tables for users, the manifest for programs."""

from collections import Counter
from dataclasses import asdict, dataclass, field

from tabulate import tabulate

import mm_ovseg
from mm_ovseg.data.split import SPLITS
from mm_ovseg.data.tile.settings import TileRun
from mm_ovseg.jobs import Skipped, count_reasons
from mm_ovseg.raster.vector import format_left_out

__all__ = ["TileReport"]

UNKNOWN_SHOWN = 10
CLIPPED_TO_WARN = 0.2  # share of the SAR values


@dataclass
class TileReport:
    """The tiles that a run has made or, in a dry run, would make.

    Attributes:
        run: The run.
        split: Settings of the split.
        tiles: Number of tiles found, including skipped ones.
        ground_sampling_distance: Metres per pixel; None if unknown or if scenes differ.
        made: The tiles; see :meth:`mm_ovseg.data.tile.tile_job.TileJob.write`.
        skipped: Everything that gave no tile.
        done_before: Number of jobs that an earlier run had finished.
        concerns: Warnings about the scenes' files, as sentences.
        unknown: Label value without meaning -> number of pixels, in skipped tiles.
        left_out: Scene -> reason -> number of unusable label geometries.
    """

    run: TileRun
    split: dict
    tiles: int
    ground_sampling_distance: float | None = None
    made: list[dict] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    done_before: int = 0
    concerns: list[str] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)

    def pair_counts(self) -> dict[str, int]:
        """Number of pairs in each split."""
        return {split: sum(entry["split"] == split for entry in self.made) for split in SPLITS}

    def format(self) -> str:
        """Tables of the counts and class frequencies, and warnings."""
        rows = [("tiles", self.tiles)]
        if self.done_before:
            rows.append(("tiles done before", self.done_before))
        rows += [(f"{split} pairs", count) for split, count in self.pair_counts().items()]
        rows += [(f"skipped: {reason}", count) for reason, count in count_reasons(self.skipped).items()]
        lines = [tabulate(rows, headers=[self.run.name, "number"], tablefmt="github")]
        if self.run.legend is not None:
            lines += ["", self._format_frequencies()]
        elif self.run.settings.sar.scale != "8bit":
            low, high = self.run.settings.sar.value_range
            lines.append(f"SAR ({self.run.settings.sar.scale}): {low:g} to {high:g} dB became 0 to 255.")
        return "\n".join(lines + [f"warning: {warning}" for warning in self._warnings()])

    def manifest(self) -> dict:
        """Settings, counts, all tiles with the SHA-256 of their files, and skipped ones."""
        content = {
            "name": self.run.name,
            "mm_ovseg_version": mm_ovseg.__version__,
            "settings": asdict(self.run.settings),
            "split": self.split,
            "counts": {"tiles": self.tiles, "pairs": self.pair_counts(), "skipped": count_reasons(self.skipped)},
        }
        if self.run.legend is not None:
            content |= {
                "legend": self.run.legend.table,
                "pixels": {split: self._pixel_counts(split) for split in SPLITS},
                "unknown_values": dict(sorted(self._all_unknown().items())),
                "left_out_geometries": {name: reasons for name, reasons in sorted(self.left_out.items()) if reasons},
            }
        return content | {
            "pairs": sorted(self.made, key=lambda entry: (entry["name"], entry["split"])),
            "skipped": [asdict(entry) for entry in sorted(self.skipped, key=lambda entry: (entry.name, entry.reason))],
        }

    def _pixel_counts(self, split: str) -> dict[str, int]:
        counts = [entry["pixels"] for entry in self.made if entry["split"] == split]
        return {name: sum(count[index] for count in counts) for index, name in enumerate(self.run.legend.classes)}

    def _all_unknown(self) -> Counter[str]:
        return sum((Counter(entry["unknown"]) for entry in self.made), self.unknown)

    def _format_frequencies(self) -> str:
        columns = []
        for split in SPLITS:
            counts = self._pixel_counts(split)
            total = max(sum(counts.values()), 1)
            columns.append([f"{count / total:.2%}" for count in counts.values()])
        names = [f"{name} (unseen)" if name in self.run.unseen else name for name in self.run.legend.classes]
        return tabulate(
            zip(names, *columns, strict=True),
            headers=["labelled pixels", *SPLITS],
            tablefmt="github",
            colalign=("left", "right", "right"),
        )

    def _warnings(self) -> list[str]:
        counts = self.pair_counts()
        warnings = list(self.concerns)
        warnings += [
            f"there is no {split} pair; another --seed, another --val-fraction or smaller squares change the split."
            for split, count in counts.items()
            if not count
        ]
        if self.run.legend is None:
            clipped = sum(entry["clipped"] for entry in self.made) / len(self.made)
            if clipped > CLIPPED_TO_WARN and self.run.settings.sar.scale != "8bit":
                warnings.append(f"{clipped:.0%} of the SAR values are at its ends or beyond; widen --sar-range.")
            return warnings
        for split in SPLITS:
            missing = [name for name, count in self._pixel_counts(split).items() if not count]
            if missing and counts[split]:
                warnings.append(f"no {split} tile shows {', '.join(missing)}.")
        if unknown := self._all_unknown().most_common():
            shown = ", ".join(f"{value} ({count} pixels)" for value, count in unknown[:UNKNOWN_SHOWN])
            if others := unknown[UNKNOWN_SHOWN:]:
                shown += f", and {len(others)} others ({sum(count for _, count in others)} pixels)"
            warnings.append(f"these label values belong to no class and are ignored: {shown}.")
        return warnings + [
            f"geometries of the labels of {name} are left out: {format_left_out(reasons)}."
            for name, reasons in sorted(self.left_out.items())
            if reasons
        ]
