"""Large scenes with labels, cut into tiles; squares of ground are held out."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from rasterio import Affine
from tqdm import tqdm

from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.data.split import split_into_squares
from mm_ovseg.data.tile.run import OVERLAPPING, check_tile_outputs, make_tiles, open_journal
from mm_ovseg.data.tile.settings import TileRun, Window, cut_windows
from mm_ovseg.data.tile.tile_job import TileJob, open_labels, open_scene
from mm_ovseg.data.tile.tile_report import TileReport
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.jobs import Skipped
from mm_ovseg.raster import Grid
from mm_ovseg.raster.footprint import Footprint, common_pixel_size, footprints

__all__ = ["tile_scenes"]


def tile_scenes(
    run: TileRun, scenes: Sequence[SceneFiles], *, square: int = 4, val_fraction: float = 0.2, seed: int = 0
) -> TileReport:
    """Write tiles, ``dataset.yaml``, ``classes.json`` and ``manifest.json``.

    After an interruption, another call continues; if everything is done, it changes nothing.

    Args:
        run: The run, with a legend.
        scenes: At least one, with labels.
        square: Side in tiles of the squares of ground that are held out.
        val_fraction, seed: See :func:`~mm_ovseg.data.split.split_into_squares`.

    Raises:
        ConfigError: ``square`` or ``val_fraction`` is out of range.
        DataError: A scene cannot be read, the output contains files of the scenes, or see
            :func:`~mm_ovseg.data.tile.run.make_tiles`.
    """
    if square < 1:
        raise ConfigError(f"--square is {square}; give 1 or more tiles.")
    if not 0 <= val_fraction <= 1:
        raise ConfigError(f"--val-fraction is {val_fraction}; give a share from 0 to 1.")
    check_tile_outputs(run.output, scenes)
    journal = open_journal(run)
    tiles, concerns = _open_all(run, scenes)
    places = footprints([grid for _, _, grid in tiles])
    metres = common_pixel_size(places)
    places = [place or _place_in_pixels(*tile) for place, tile in zip(places, tiles, strict=True)]
    sides = _sides(places, square * run.settings.size)
    splits = split_into_squares(places, sides=sides, val_fraction=val_fraction, seed=seed)
    split = {"square": square, "val_fraction": val_fraction, "seed": seed}
    report = TileReport(run, split, len(tiles), metres, concerns=concerns)
    jobs = []
    for (scene, window, _), of_split in zip(tiles, splits, strict=True):
        name = f"{scene.name}_r{window[0]:06d}_c{window[1]:06d}"
        if of_split is None:
            report.skipped.append(Skipped(name, OVERLAPPING))
        else:
            output = None if run.dry_run else run.output
            jobs.append(TileJob(name, scene, {name: window}, of_split, run.settings, run.legend, output))
    make_tiles(report, jobs, journal, title="cutting tiles")
    return report


def _open_all(run: TileRun, scenes: Sequence[SceneFiles]) -> tuple[list[tuple[SceneFiles, Window, Grid]], list[str]]:
    """The tiles of all scenes, with their grids, and warnings about the scenes' files."""
    tiles, concerns = [], []
    for scene in tqdm(scenes, desc="opening scenes", unit="scene", leave=False):
        with open_scene(scene, run.settings) as source:
            if source.covered == 0:
                raise DataError(
                    f"{source.sar_name} covers no part of {scene.rgb[0]}; check that the files belong together."
                )
            concerns += source.concerns()
            if run.settings.attribute is None:
                with closing(open_labels(scene, source, run.settings, run.legend)) as labels:
                    concerns += labels.concerns()
            for window in cut_windows(*source.grid.shape, run.settings.size, run.settings.overlap):
                tiles.append((scene, window, source.grid.window(*window)))
    return tiles, concerns


def _place_in_pixels(scene: SceneFiles, window: Window, grid: Grid) -> Footprint:
    """The footprint of a tile in the pixels of its scene, which is assumed not to overlap any other scene."""
    row, column, height, width = window
    (place,) = footprints([Grid(width, height, None, Affine.translation(column, row))])
    return replace(place, plane=f"pixels of {scene.name}")


def _sides(places: Sequence[Footprint], pixels: int) -> dict[str, float]:
    """The side of squares in each plane: ``pixels`` times its largest pixel, to two digits, so that another scene
    with pixels of slightly different size on the ground moves no square.
    """
    largest: dict[str, float] = {}
    for place in places:
        largest[place.plane] = max(place.pixel, largest.get(place.plane, 0.0))
    return {plane: pixels * float(f"{pixel:.2g}") for plane, pixel in largest.items()}
