"""What a run has made of a labelled dataset: counts and class frequencies for people, the manifest for programs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from tabulate import tabulate

from mm_ovseg.data.preparation.labelled.label_table import LabelTable
from mm_ovseg.data.preparation.labelled.layout import CLEAR, DatasetLayout
from mm_ovseg.data.preparation.summary import Summary

__all__ = ["LabelledSummary"]


@dataclass
class LabelledSummary(Summary):
    """What a run has made, or, if dry, would make.

    Attributes:
        layout: The dataset.
        tables: What the label maps of each split hold.
        pairs: See :func:`~mm_ovseg.data.preparation.labelled.sample_task.process_sample`.
    """

    layout: DatasetLayout = field(kw_only=True)
    tables: Mapping[str, LabelTable] = field(kw_only=True)

    def dataset_counts(self) -> dict[str, int]:
        """Number of pairs that each registered dataset will find."""
        return {
            name: sum(pair["split"] == split and kind in pair["kinds"] for pair in self.pairs)
            for split, split_layout in self.layout.splits.items()
            for kind, name in split_layout.names.items()
        }

    def pixel_counts(self, split: str) -> dict[str, int]:
        """Number of pixels of each class in the label maps of a split, as published, and of none ("ignored")."""
        pairs = [pair for pair in self.pairs if pair["split"] == split]
        counts = {name: sum(pair["pixels"][index] for pair in pairs) for index, name in enumerate(self.layout.classes)}
        return {**counts, "ignored": sum(pair["ignored"] for pair in pairs)}

    def format(self) -> str:
        """Tables of the counts and the class frequencies, and what needs a look."""
        lines = [self.format_counts(self.dataset_counts()), "", self._format_frequencies(), ""]
        if self.settings.sar_range:
            lines.append(self.format_range())
        return "\n".join(lines + self._warnings())

    def manifest(self) -> dict:
        """As of pairs without labels, with the table and the class frequencies of each split."""
        manifest = super().manifest()
        manifest["counts"]["datasets"] = self.dataset_counts()
        manifest["labels"] = {split: asdict(table) for split, table in self.tables.items()}
        manifest["pixels"] = {split: self.pixel_counts(split) for split in self.layout.splits}
        return manifest

    def _shown(self, split: str) -> list[str]:
        """The classes that the label maps of a split can show."""
        indices = set(self.tables[split].codes.values())
        return [name for index, name in enumerate(self.layout.classes) if index in indices]

    def _format_frequencies(self) -> str:
        """Percent of the labelled pixels for each class, and of all for those ignored, in each split."""
        columns = {}
        for split in self.layout.splits:
            counts = self.pixel_counts(split)
            total, shown = sum(counts.values()), self._shown(split)
            labelled = total - counts["ignored"]
            columns[split] = [
                f"{counts[name] / max(labelled, 1):.2%}" if name in shown else "not in these masks"
                for name in self.layout.classes
            ]
            columns[split].append(f"{counts['ignored'] / max(total, 1):.2%} of all")
        names = [f"{name} (unseen)" if name in self.layout.unseen else name for name in self.layout.classes]
        rows = zip([*names, "ignored"], *columns.values(), strict=True)
        alignment = ["left", *["right"] * len(columns)]
        return tabulate(rows, headers=["pixels", *columns], tablefmt="github", colalign=alignment)

    def _warnings(self) -> list[str]:
        warnings = []
        counts = self.dataset_counts()
        for split, split_layout in self.layout.splits.items():
            for kind, name in split_layout.names.items():
                if counts[name]:
                    continue
                remedy = f"its RGB would be in {self.layout.folder}/{split}/{kind}"
                if kind != CLEAR and any(CLEAR in pair["kinds"] for pair in self.pairs if pair["split"] == split):
                    remedy += f": tools/add_clouds.py can make it of {self.layout.folder}/{split}/{CLEAR}"
                warnings.append(f"warning: there is no pair for {name}; {remedy}.")
            missing = [name for name in self._shown(split) if not self.pixel_counts(split)[name]]
            if missing and self.pair_counts()[split]:
                warnings.append(f"warning: no {split} label map has {', '.join(missing)}.")
        table = next(iter(self.tables.values()))
        if table.assumed:
            name = next(name for name in reversed(counts) if counts[name] or name == next(iter(counts)))
            warnings.append(
                f"warning: what the label maps hold is an assumption ({table.name}). {table.source} Compare the "
                f"frequencies above with what the authors publish, look at tools/preview_dataset.py {name}, and give "
                "--label-table if it is wrong."
            )
        return warnings
