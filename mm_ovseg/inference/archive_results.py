"""The table of what became of an archive's scenes."""

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from mm_ovseg.files import complete_file

__all__ = ["RESULTS", "SceneResult", "write_results"]

RESULTS = "results.csv"  # in the folder of the maps


@dataclass(frozen=True)
class SceneResult:
    """What became of a scene; the fields are the columns of the table.

    Attributes:
        name: of the scene.
        rgb, sar: its files; several are separated by ``;``.
        status: skipped scenes were finished by an earlier run.
        attempts: how often a worker was given it; 0 where it was skipped.
        seconds: that workers had it, all attempts together.
        output: the map; empty where it failed.
        sar_share: of the mapped pixels, those made from RGB and SAR, 0..1; None where nothing was mapped.
        error: one sentence on why it failed.
    """

    name: str
    rgb: str
    sar: str
    status: Literal["done", "skipped", "failed"]
    attempts: int
    seconds: float
    output: str
    sar_share: float | None
    error: str


def write_results(path: Path, results: Iterable[SceneResult]) -> None:
    """Write results as a CSV file, which is whole at any moment.

    Raises:
        DataError: it cannot be written.
    """
    with complete_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(SceneResult)])
        writer.writeheader()
        writer.writerows(map(asdict, results))
