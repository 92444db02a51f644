"""The paper's tables: its numbers and those of runs, side by side."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mm_ovseg.efficiency.report import PAPER_COLUMNS, paper_rows
from mm_ovseg.tables.methods import METHODS, SETTINGS, STUDIED, training_facts
from mm_ovseg.tables.runs import Runs

__all__ = ["TABLES", "Column", "Row", "Table", "build_tables"]

PAPER_TABLES = Path(__file__).with_name("paper_tables.json")
NOTHING = (None,) * 7  # in the six settings and the mean

Values = Sequence[float | None]


class Column(NamedTuple):
    """How a column of numbers is written.

    Attributes:
        title: its header.
        paper, ours: how numbers are formatted.
        is_compared: whether the difference of the two means anything.
    """

    title: str
    paper: str = ".1f"
    ours: str = ".1f"
    is_compared: bool = True


@dataclass
class Row:
    """Numbers of the paper and ours, one a column, None where one is missing.

    Attributes:
        labels: one for each label column; rows that share all but the first are ranked with each other.
    """

    labels: tuple[str, ...]
    paper: Values
    ours: Values


@dataclass
class Table:
    """A table.

    Attributes:
        title: as in the paper, and what it shows.
        labels: headers of the first columns.
        is_ranked: whether the best and the second best of each column are marked.
        note: sentences below it; may be empty.
    """

    title: str
    labels: tuple[str, ...]
    columns: list[Column]
    rows: list[Row]
    is_ranked: bool = True
    note: str = ""


def build_tables(runs: Runs, names: Iterable[str]) -> list[Table]:
    """Build the tables of these names, keys of ``TABLES``, in the paper's order."""
    wanted = set(names)
    return [build(runs) for name, build in TABLES.items() if name in wanted]


def _accuracy(runs: Runs) -> Table:
    rows = [Row((name,), paper_tables()["2"][name], _by_setting(runs, name)) for name in METHODS]
    return Table("Table 2. mIoU in the six settings, ViT-B/16", ("method",), _setting_columns(), rows)


def _training(runs: Runs) -> Table:
    columns = [Column("trainable parameters, million", "g", ".2f")]
    columns += [Column("batch", "g", "g"), Column("learning rate", "g", "g")]
    rows = [Row((name,), values, training_facts(name)) for name, values in paper_tables()["A1"].items()]
    note = "Ours are those of the configs. The paper rounds its millions down."
    return Table("Table A1. Training, ViT-B/16", ("method",), columns, rows, is_ranked=False, note=note)


def _efficiency(runs: Runs) -> Table:
    columns = [
        Column(title, "g", ".1f" if name.endswith(("ms", "millions")) else ".3g", name == "parameters_millions")
        for name, title in PAPER_COLUMNS.items()
    ]
    columns.append(Column(f"mIoU, {STUDIED}"))
    rows = []
    for row in paper_rows():
        method = {"full MM-OVSeg": "MM-OVSeg", "GSNet": "GSNet"}.get(row["module"], "")
        paper = [*(row[name] for name in PAPER_COLUMNS), _paper_accuracy(method, STUDIED)]
        measurement = runs.measured.get(row["module"])
        values = measurement.values if measurement else NOTHING[: len(PAPER_COLUMNS)]
        ours = [*values, _score(runs, method, STUDIED)]
        rows.append(Row((row["module"],), paper, ours))
    note = (
        "The paper's are of one A100; it does not say how many pairs its milliseconds are for, nor what work its CO₂ "
        "covers. Ours are milliseconds per pair, and kg of CO₂ per 1000 pairs: compare the rows with each other. Our "
        "CMU module includes its teacher."
    )
    machines = [f"{name} on {measurement.device}" for name, measurement in sorted(runs.measured.items())]
    note += f" Measured: {', '.join(machines)}." if machines else ""
    return Table("Table A2. Efficiency", ("",), columns, rows, is_ranked=False, note=note)


def _seen_unseen(runs: Runs) -> Table:
    paper = paper_tables()["A3"]
    rows = [
        Row((name, kind), paper.get(name, {}).get(kind, NOTHING), _by_setting(runs, name, score=f"mIoU-{kind}"))
        for name in METHODS
        for kind in ("unseen", "seen")
    ]
    title = "Table A3. mIoU of unseen and of seen classes, ViT-B/16"
    return Table(title, ("method", "classes"), _setting_columns(), rows)


def _large(runs: Runs) -> Table:
    rows = [Row((name,), paper, _by_setting(runs, name, "ViT-L/14")) for name, paper in paper_tables()["A4"].items()]
    return Table("Table A4. mIoU in the six settings, ViT-L/14", ("method",), _setting_columns(), rows)


def _encoder_study(runs: Runs) -> Table:
    rows = [
        Row((name,), paper, [_score(runs, "MM-OVSeg" if name == "DINO only" else name, STUDIED)])
        for name, paper in paper_tables()["A5"].items()
    ]
    columns = [Column(f"mIoU, {STUDIED}")]
    return Table("Table A5. Encoders with a SAR twin from stage 1, ViT-B/16", ("encoders",), columns, rows)


# Name on the command line: how it is built.
TABLES: dict[str, Callable[[Runs], Table]] = {
    "2": _accuracy,
    "A1": _training,
    "A2": _efficiency,
    "A3": _seen_unseen,
    "A4": _large,
    "A5": _encoder_study,
}


@cache
def paper_tables() -> dict[str, Any]:
    """The paper's numbers, but for those of :func:`mm_ovseg.efficiency.report.paper_rows`."""
    return json.loads(PAPER_TABLES.read_text(encoding="utf-8"))


def _paper_accuracy(method: str, setting: str) -> float | None:
    return dict(zip(SETTINGS, paper_tables()["2"].get(method, NOTHING), strict=False)).get(setting)


def _score(runs: Runs, method: str, setting: str, size: str = "ViT-B/16", score: str = "mIoU") -> float | None:
    return runs.scores.get((method, size, setting), {}).get(score)


def _by_setting(runs: Runs, method: str, size: str = "ViT-B/16", score: str = "mIoU") -> Values:
    """A method's scores in the six settings, and their mean if there are all six."""
    scores = [_score(runs, method, setting, size, score) for setting in SETTINGS]
    return [*scores, None if None in scores else sum(scores) / len(scores)]


def _setting_columns() -> list[Column]:
    return [Column(title) for title in (*SETTINGS, "mean")]
