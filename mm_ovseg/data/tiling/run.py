"""The run: from scenes to tiles on disk and the files that declare them, in parallel and resumable."""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml
from rasterio import Affine
from tqdm import tqdm

import mm_ovseg
from mm_ovseg.data.input_files import raster_inputs
from mm_ovseg.data.preparation.dropped import BROKEN, Dropped, nothing_left
from mm_ovseg.data.preparation.journal import Journal
from mm_ovseg.data.preparation.pool import process_all
from mm_ovseg.data.split import SPLITS, split_into_squares
from mm_ovseg.data.tiling.legend import Legend
from mm_ovseg.data.tiling.scenes import LabelledScene
from mm_ovseg.data.tiling.summary import TilingSummary
from mm_ovseg.data.tiling.tile import (
    SceneTile,
    TilingSettings,
    open_labels,
    open_scene,
    process_tile,
    windows_of,
)
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.files import check_outputs, complete_file
from mm_ovseg.raster import Grid
from mm_ovseg.raster.footprint import Footprint, common_pixel_size, footprints

__all__ = ["Tiling", "tile_scenes", "tiling_inputs", "tiling_outputs"]

OVERLAPPING = "overlaps a held-out tile"
KINDS = ("rgb", "sar", "labels")
MANIFEST, CLASSES, DECLARATION = "manifest.json", "classes.json", "dataset.yaml"


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
        workers: processes; the result does not depend on it.
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
        DataError: a scene cannot be opened, the output cannot be written, holds files of the scenes or tiles made with
            other settings, or not one tile is left.
    """
    check_outputs(tiling_outputs(tiling.output), tiling_inputs(scenes))
    journal = None if tiling.dry_run else Journal(tiling.output, tiling.name, _foreign(tiling))
    tasks, summary = _plan(tiling, scenes)
    if journal is not None:
        # Through JSON, as it comes back from the journal.
        split = {"square": tiling.square, "val_fraction": tiling.val_fraction, "seed": tiling.seed}
        journal.start({**asdict(tiling.settings), **asdict(tiling.legend), **split})
        for folder in _folders(tiling.output):  # what a killed run was writing
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


def tiling_inputs(scenes: Sequence[LabelledScene]) -> dict[str, Iterable[str | os.PathLike | None]]:
    """What :func:`tile_scenes` reads, for :func:`mm_ovseg.files.check_outputs`."""
    return raster_inputs(
        {
            "one of the RGB images": [path for scene in scenes for path in scene.rgb],
            "one of the SAR images": [path for scene in scenes for path in scene.sar],
            "one of the label maps": [scene.labels for scene in scenes],
        }
    )


def tiling_outputs(output: Path) -> dict[str, list[Path]]:
    """What :func:`tile_scenes` writes to a folder, for :func:`mm_ovseg.files.check_outputs`."""
    return {"--output": [*_folders(output), *(output / name for name in (MANIFEST, CLASSES, DECLARATION))]}


def _plan(tiling: Tiling, scenes: Sequence[LabelledScene]) -> tuple[dict[str, SceneTile], TilingSummary]:
    """The tiles that have a split, by name, in the order of scenes and places."""
    output = None if tiling.dry_run else tiling.output
    windows, grids, concerns = [], [], []
    for scene in tqdm(scenes, desc="opening scenes", unit="scene", leave=False):
        with open_scene(scene, tiling.settings) as source:
            if source.covered == 0:
                raise DataError(
                    f"{source.sar_name} covers nothing of {scene.rgb[0]}; check that the files belong together."
                )
            concerns += source.concerns()
            if tiling.settings.attribute is None:
                with closing(open_labels(scene, source, tiling.settings, tiling.legend)) as labels:
                    concerns += labels.concerns()
            for window in windows_of(source.grid, tiling.settings):
                windows.append((scene, window))
                grids.append(source.grid.window(*window))
    places = footprints(grids)
    metres = common_pixel_size(places)
    places = [place or _in_pixels(*tile) for place, tile in zip(places, windows, strict=True)]
    splits = split_into_squares(
        places,
        sides=_sides(places, tiling.square * tiling.settings.size),
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
    return tasks, TilingSummary(
        tiling.name, tiling.legend.classes, tiling.unseen, len(windows), metres, dropped=dropped, concerns=concerns
    )


def _in_pixels(scene: LabelledScene, window: tuple[int, int, int, int]) -> Footprint:
    """Where a window lies in its scene, which cannot show the ground of another, as far as anybody can tell."""
    row, column, height, width = window
    (place,) = footprints([Grid(width, height, None, Affine.translation(column, row))])
    return replace(place, plane=f"pixels of {scene.name}")


def _sides(places: Sequence[Footprint], pixels: int) -> dict[str, float]:
    """The side of squares in each plane: so many of its largest pixels, to two digits, so that a scene more or less
    moves no square because its pixels are a little larger or smaller on the ground.
    """
    largest: dict[str, float] = {}
    for place in places:
        largest[place.plane] = max(place.pixel, largest.get(place.plane, 0.0))
    return {plane: pixels * float(f"{pixel:.2g}") for plane, pixel in largest.items()}


def _folders(output: Path) -> list[Path]:
    return [output / split / kind for split in SPLITS for kind in KINDS]


def _foreign(tiling: Tiling) -> list[Path]:
    return [path for folder in _folders(tiling.output) for path in sorted(folder.glob("*.tif"))]


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
        (MANIFEST, json.dumps(manifest, indent=1) + "\n"),
        (CLASSES, json.dumps(classes, indent=1, ensure_ascii=False) + "\n"),
        (DECLARATION, yaml.safe_dump(declared, sort_keys=False, allow_unicode=True)),
    ):
        with complete_file(tiling.output / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
