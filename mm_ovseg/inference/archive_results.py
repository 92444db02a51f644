"""The table of what became of an archive's scenes."""

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from mm_ovseg.data.manifest import SEPARATOR, SceneFiles
from mm_ovseg.files import complete_file

__all__ = ["RESULTS", "ResultsTable", "SceneResult", "describe_files"]

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


class ResultsTable:
    """A CSV file of results, in the order of the scenes, whole at any moment.

    Args:
        path: the file, which is replaced at every result.
        scenes: all that results may be of.
    """

    def __init__(self, path: Path, scenes: Iterable[SceneFiles]) -> None:
        self.path = path
        self._results: dict[str, SceneResult | None] = dict.fromkeys(scene.name for scene in scenes)

    def add(self, result: SceneResult) -> None:
        """Take in a result and write the table.

        Raises:
            DataError: it cannot be written.
        """
        self._results[result.name] = result
        with complete_file(self.path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(SceneResult)])
            writer.writeheader()
            writer.writerows(asdict(result) for result in self._results.values() if result is not None)

    def count(self, status: str) -> int:
        """Scenes of that status."""
        return Counter(result.status for result in self._results.values() if result is not None)[status]


def describe_files(scene: SceneFiles) -> tuple[str, str]:
    """The columns ``rgb`` and ``sar``: absolute, so that the table can be read from any folder."""
    rgb, sar = (SEPARATOR.join(str(path.absolute()) for path in paths) for paths in (scene.rgb, scene.sar))
    return rgb, sar
