"""What a run has made: counts for people, the manifest for programs."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tabulate import tabulate

import mm_ovseg
from mm_ovseg.data.preparation.dropped import Dropped, count_reasons
from mm_ovseg.data.preparation.settings import PairSettings
from mm_ovseg.data.split import SPLITS
from mm_ovseg.files import complete_file

__all__ = ["Summary"]

CLIPPED_SHARE_TO_WARN = 0.2


@dataclass
class Summary:
    """What a run has made, or, if dry, would make.

    Attributes:
        archive: Name of the published data, for people.
        settings: How tiles became pairs, with what was measured.
        split_settings: How tiles were held out.
        tiles: Number of RGB-SAR tiles that were found.
        pairs: The pairs; see :func:`~mm_ovseg.data.preparation.tile.process_tile`.
        dropped: What gave no pair.
        done_before: Number of tiles that an earlier run had finished.
    """

    archive: str
    settings: PairSettings
    split_settings: dict
    tiles: int
    pairs: list[dict] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    done_before: int = 0

    def pair_counts(self) -> dict[str, int]:
        """Number of pairs of each split."""
        return {split: sum(pair["split"] == split for pair in self.pairs) for split in SPLITS}

    def format(self) -> str:
        """A table of the counts, the range of the SAR values, and what needs a look."""
        rows = [("tiles", self.tiles)]
        if self.done_before:
            rows.append(("tiles done before", self.done_before))
        rows += [(f"{split} pairs", count) for split, count in self.pair_counts().items()]
        rows += [(f"dropped: {reason}", count) for reason, count in count_reasons(self.dropped).items()]
        lines = [tabulate(rows, headers=[self.archive, "number"], tablefmt="github")]
        if self.settings.sar_range:
            low, high = self.settings.sar_range
            lines.append(f"SAR ({self.settings.sar_scale}): {low:g} to {high:g} dB became 0 to 255.")
            clipped = sum(pair["clipped"] for pair in self.pairs) / max(len(self.pairs), 1)
            if clipped > CLIPPED_SHARE_TO_WARN:
                lines.append(f"warning: {clipped:.0%} of the SAR values lie at its ends or beyond; widen --sar-range.")
        lines += [
            f"warning: there is no {split} pair; another --seed or --val-fraction splits otherwise."
            for split, count in self.pair_counts().items()
            if not count
        ]
        return "\n".join(lines)

    def manifest(self) -> dict:
        """Settings, counts, every pair with the SHA-256 of its files and sources, and what was dropped."""
        return {
            "archive": self.archive,
            "mm_ovseg_version": mm_ovseg.__version__,
            "settings": asdict(self.settings),
            "split": self.split_settings,
            "counts": {"tiles": self.tiles, "pairs": self.pair_counts(), "dropped": count_reasons(self.dropped)},
            "pairs": sorted(self.pairs, key=lambda pair: (pair["name"], pair["split"])),
            "dropped": [asdict(entry) for entry in sorted(self.dropped, key=lambda entry: (entry.name, entry.reason))],
        }

    def write_manifest(self, path: Path) -> None:
        """Write the manifest as JSON.

        Raises:
            DataError: The file cannot be written.
        """
        with complete_file(path) as temporary:
            temporary.write_text(json.dumps(self.manifest(), indent=1) + "\n", encoding="utf-8")
