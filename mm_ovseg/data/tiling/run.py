"""The run: from scenes to tiles on disk and the files that declare them, in parallel and resumable."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from tqdm import tqdm

import mm_ovseg
from mm_ovseg.data.preparation.dropped import BROKEN, Dropped, nothing_left
from mm_ovseg.data.preparation.journal import Journal
from mm_ovseg.data.preparation.pool import process_all
from mm_ovseg.data.preparation.split import SPLITS
from mm_ovseg.data.scene_grid import pixel_size_metres
from mm_ovseg.data.tiling.legend import Legend
from mm_ovseg.data.tiling.scenes import LabelledScene
from mm_ovseg.data.tiling.split import split_into_squares
from mm_ovseg.data.tiling.summary import TilingSummary
from mm_ovseg.data.tiling.tile import (
    SceneTile,
    TilingSettings,
    open_scene,
    place_of,
    process_tile,
    windows_of,
)
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.files import complete_file

__all__ = ["Tiling", "tile_scenes"]

OVERLAPPING = "overlaps a held-out tile"
METRES_TOLERANCE = 0.05  # relative, of pixels that count as equally large
KINDS = ("rgb", "sar", "labels")


@dataclass(frozen=True)
class Tiling:
    """What is to be made, and how.

    Attributes:
        name: the datasets are called ``NAME_train`` and ``NAME_val``.
        output: folder to write ``train``, ``val`` and the files that declare them to.
        settings: how scenes become tiles.
        legend: what the labels mean.
        unseen: classes that training does not see.
        square: side of the squares of ground that are held out, in tiles.
        val_fraction: share of the squares that is held out, 0..1.
        seed: another one holds out other squares.
        workers: processes; the result does not hang on it.
        dry_run: look at everything and write nothing.
    """

    name: str
    output: Path
    settings: TilingSettings
    legend: Legend
    unseen: tuple[str, ...] = ()
    square: int = 4
    val_fraction: float = 0.2
    seed: int = 0
    workers: int = 1
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.square < 1:
            raise ConfigError(f"--square is {self.square}; give 1 or more tiles.")
        if not 0 <= self.val_fraction <= 1:
            raise ConfigError(f"--val-fraction is {self.val_fraction}; give a share from 0 to 1.")
        if self.workers < 1:
            raise ConfigError(f"--workers is {self.workers}; give 1 or more.")
        background = self.settings.background
        if background is not None and background not in self.legend.classes:
            raise ConfigError(
                f"--background is '{background}', which is none of the classes {', '.join(self.legend.classes)}."
            )


def tile_scenes(tiling: Tiling, scenes: Sequence[LabelledScene]) -> TilingSummary:
    """Write tiles, ``dataset.yaml``, ``classes.json`` and ``manifest.json``.

    Interrupted and called again, it goes on with the tiles that are not finished. Called again when all is done, it
    changes nothing.

    Args:
        tiling: what and how.
        scenes: the scenes.

    Returns:
        What was made. In a dry run: what would be.

    Raises:
        ConfigError: a setting is out of range.
        DataError: a scene cannot be opened, the output cannot be written or holds tiles made with other settings, or
            not one tile is left.
    """
    journal = None if tiling.dry_run else Journal(tiling.output, tiling.name, _foreign(tiling))
    tasks, summary = _plan(tiling, scenes)
    if journal is not None:
        # Through JSON, as it comes back from the journal.
        split = {"square": tiling.square, "val_fraction": tiling.val_fraction, "seed": tiling.seed}
        journal.start({**asdict(tiling.settings), **asdict(tiling.legend), **split})
        for folder in _folders(tiling):  # what a killed run was writing
            for path in folder.glob(".*.tmp.tif"):
                path.unlink()
    # closing: an error here must end the worker processes, not wait for all that they have still to do.
    with closing(process_all(process_tile, tasks, journal, tiling.workers, title="cutting tiles")) as results:
        for result, done_before in results:
            summary.pairs += result["pairs"]
            summary.done_before += done_before
            summary.unknown_in_dropped.update(result.get("unknown", {}))
            summary.left_out.update(result.get("left_out", {}))
            for entry in (Dropped(**entry) for entry in result["dropped"]):
                if entry.reason == BROKEN:
                    raise DataError(entry.detail)
                summary.dropped.append(entry)
    if not summary.pairs:
        raise nothing_left(tiling.name, summary.tiles, summary.dropped)
    if journal is not None:
        for file in journal.files - {pair[kind]["file"] for pair in summary.pairs for kind in KINDS}:
            (tiling.output / file).unlink(missing_ok=True)  # of a scene that has changed since
        _write_declaration(tiling, summary)
    return summary


def _plan(tiling: Tiling, scenes: Sequence[LabelledScene]) -> tuple[dict[str, SceneTile], TilingSummary]:
    """The tiles that have a split, by name, in the order of scenes and places."""
    output = None if tiling.dry_run else tiling.output
    windows, places, sizes = [], [], []
    for scene in tqdm(scenes, desc="opening scenes", unit="scene", leave=False):
        with open_scene(scene, tiling.settings) as source:
            if source.covered == 0:
                raise DataError(f"{scene.sar} covers nothing of {scene.rgb[0]}; check that the files belong together.")
            sizes.append(pixel_size_metres(source.grid))
            for window in windows_of(source.grid, tiling.settings):
                windows.append((scene, window))
                places.append(place_of(scene.name, source.grid, window))
    splits = split_into_squares(
        places,
        square=tiling.square * tiling.settings.size,
        val_fraction=tiling.val_fraction,
        seed=tiling.seed,
    )
    tasks, dropped = {}, []
    for (scene, window), split in zip(windows, splits, strict=True):
        task = SceneTile(scene, window, split or "", tiling.settings, tiling.legend, output)
        if split is None:
            dropped.append(Dropped(task.name, OVERLAPPING))
        else:
            tasks[task.name] = task
    summary = TilingSummary(
        tiling.name, tiling.legend.classes, tiling.unseen, len(windows), _common(sizes), dropped=dropped
    )
    return tasks, summary


def _common(sizes: Sequence[float | None]) -> float | None:
    """Metres a pixel, where all scenes agree."""
    if None in sizes or max(sizes) > min(sizes) * (1 + METRES_TOLERANCE):
        return None
    return float(f"{sum(sizes) / len(sizes):.3g}")


def _folders(tiling: Tiling) -> list[Path]:
    return [tiling.output / split / kind for split in SPLITS for kind in KINDS]


def _foreign(tiling: Tiling) -> list[Path]:
    return [path for folder in _folders(tiling) for path in sorted(folder.glob("*.tif"))]


def _write_declaration(tiling: Tiling, summary: TilingSummary) -> None:
    """The manifest, the class file, and, last, the declaration."""
    classes = {"classes": list(tiling.legend.classes), "unseen": list(tiling.unseen)}
    declared = {
        "defaults": {
            **{kind: kind for kind in KINDS},
            **classes,
            "ground_sampling_distance": summary.ground_sampling_distance,
        },
        "datasets": {
            f"{tiling.name}_{split}": {"root": str((tiling.output / split).absolute())}
            for split, count in summary.pair_counts().items()
            if count
        },
    }
    manifest = {
        "mm_ovseg_version": mm_ovseg.__version__,
        "settings": asdict(tiling.settings),
        "legend": tiling.legend.table,
        "split": {"square": tiling.square, "val_fraction": tiling.val_fraction, "seed": tiling.seed},
        **summary.manifest(),
    }
    for file, text in (
        ("manifest.json", json.dumps(manifest, indent=1) + "\n"),
        ("classes.json", json.dumps(classes, indent=1, ensure_ascii=False) + "\n"),
        ("dataset.yaml", yaml.safe_dump(declared, sort_keys=False, allow_unicode=True)),
    ):
        with complete_file(tiling.output / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
