"""The run: from paired tiles to 8-bit pairs on disk, in parallel and resumable."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from mm_ovseg.data.input_files import raster_inputs
from mm_ovseg.data.preparation.dropped import BROKEN, Dropped, drop_broken, nothing_left
from mm_ovseg.data.preparation.journal import Journal
from mm_ovseg.data.preparation.pairing import TilePair
from mm_ovseg.data.preparation.pool import process_all
from mm_ovseg.data.preparation.settings import PairSettings, check_tile, settle_range, settle_scale
from mm_ovseg.data.preparation.summary import Summary
from mm_ovseg.data.preparation.tile import TileTask, process_tile
from mm_ovseg.data.split import SPLITS
from mm_ovseg.errors import DataError
from mm_ovseg.files import check_outputs
from mm_ovseg.raster import RasterInfo, check_same_grid, read_raster_info

__all__ = ["Preparation", "Split", "prepare_pairs"]

OVERLAPPING = "overlaps a held-out tile"


@dataclass(frozen=True)
class Split:
    """How tiles are held out.

    Attributes:
        assign: From tiles and the headers of their RGB files to "train", "val" or None for each: None for a tile that
            may be in neither, because it overlaps a held-out one.
        settings: What ``assign`` depends on: for the manifest, and to tell whether an earlier run held out the same.
    """

    assign: Callable[[Sequence[TilePair], Sequence[RasterInfo]], Sequence[str | None]]
    settings: dict


@dataclass(frozen=True)
class Preparation:
    """What is to be prepared, and how.

    Attributes:
        archive: Name of the published data, for people.
        prefix: Start of the names of all files written, so that several archives can share the output folder.
        output: Folder to write ``train`` and ``val`` into, each with ``rgb`` and ``sar``.
        settings: How tiles become pairs.
        split: How tiles are held out.
        workers: Processes; the result does not depend on it.
        strict: Whether the first tile that cannot be read is an error, rather than named and counted.
        dry_run: Look at everything and write nothing.
    """

    archive: str
    prefix: str
    output: Path
    settings: PairSettings
    split: Split
    workers: int = 1
    strict: bool = False
    dry_run: bool = False


def prepare_pairs(preparation: Preparation, pairs: Sequence[TilePair], dropped: Sequence[Dropped] = ()) -> Summary:
    """Cut, scale and write all pairs, and ``manifest_PREFIX.json``.

    Interrupted and called again, it goes on with the tiles that are not finished; the files of finished ones are
    checked by their SHA-256 and made again where they differ. Called again when all is done, it changes nothing.

    Args:
        preparation: What and how.
        pairs: The tiles.
        dropped: Files that were found to belong to no pair, to be counted with the rest.

    Returns:
        What was made. In a dry run: what would be.

    Raises:
        DataError: The output cannot be written, holds some of the tiles or pairs made with other settings, not one tile
            gives a pair, or, if strict, a tile cannot be read.
        ConfigError: The split names a scene that does not exist.
    """
    prefix, output, settings = preparation.prefix, preparation.output, preparation.settings
    written = [path for split in SPLITS for path in (output / split).glob(f"*/{prefix}_*")]
    check_outputs(
        {"--output": [*written, output / f"manifest_{prefix}.json"]},
        raster_inputs(
            {"one of the RGB tiles": [pair.rgb for pair in pairs], "one of the SAR tiles": [pair.sar for pair in pairs]}
        ),
    )
    journal = None if preparation.dry_run else Journal(output, prefix)
    if journal is not None and journal.settings is not None and not settings.sar_range:
        # What the first run measured holds for the whole archive, also for what has been added to it since.
        settings = replace(settings, sar_range=tuple(journal.settings.get("sar_range", ())))
    summary = Summary(preparation.archive, settings, preparation.split.settings, len(pairs), dropped=list(dropped))

    headers = _read_headers(pairs, summary, preparation.strict)
    summary.settings = settle_scale(settings, [sar for _, _, sar in headers])
    tiles = _check_tiles(headers, summary, preparation.strict)
    if not tiles:
        raise nothing_left(summary.archive, summary.tiles, summary.dropped)
    summary.settings = settings = settle_range(summary.settings, [pair for pair, _ in tiles])
    tasks = {task.pair.name: task for task in _plan_tasks(tiles, preparation, summary)}

    if journal is not None:
        journal.start({**asdict(settings), **preparation.split.settings})
        for split in SPLITS:  # what a killed run was writing
            for path in (output / split).glob(f"*/.{prefix}_*.tmp.tif"):
                path.unlink()
    # closing: an error here must end the worker processes, not wait for all that they have still to do.
    with closing(process_all(process_tile, tasks, journal, preparation.workers, title="cutting pairs")) as results:
        for result, done_before in results:
            summary.pairs += result["pairs"]
            summary.done_before += done_before
            for entry in (Dropped(**entry) for entry in result["dropped"]):
                if entry.reason == BROKEN:
                    drop_broken(entry, summary.dropped, preparation.strict)
                else:
                    summary.dropped.append(entry)
    if not summary.pairs:
        raise nothing_left(summary.archive, summary.tiles, summary.dropped)
    if journal is not None:
        for file in journal.files - {pair[kind]["file"] for pair in summary.pairs for kind in ("rgb", "sar")}:
            (output / file).unlink(missing_ok=True)  # of a tile that has changed since, or overlaps a new held-out one
        summary.write_manifest(output / f"manifest_{prefix}.json")
    return summary


def _read_headers(
    pairs: Sequence[TilePair], summary: Summary, strict: bool
) -> list[tuple[TilePair, RasterInfo, RasterInfo]]:
    """The pairs whose two files can be opened and lie on one grid, with their headers."""
    headers = []
    for pair in tqdm(pairs, desc="reading headers", unit="tile"):
        try:
            rgb, sar = read_raster_info(pair.rgb), read_raster_info(pair.sar)
            check_same_grid(rgb, sar)
            headers.append((pair, rgb, sar))
        except DataError as error:
            drop_broken(Dropped(pair.name, BROKEN, str(error)), summary.dropped, strict)
    return headers


def _check_tiles(
    headers: Sequence[tuple[TilePair, RasterInfo, RasterInfo]], summary: Summary, strict: bool
) -> list[tuple[TilePair, RasterInfo]]:
    """The pairs whose files hold what the settings say, with the headers of their RGB files."""
    tiles = []
    for pair, rgb, sar in headers:
        try:
            check_tile(pair, rgb, sar, summary.settings)
            tiles.append((pair, rgb))
        except DataError as error:
            drop_broken(Dropped(pair.name, BROKEN, str(error)), summary.dropped, strict)
    return tiles


def _plan_tasks(
    tiles: Sequence[tuple[TilePair, RasterInfo]], preparation: Preparation, summary: Summary
) -> list[TileTask]:
    """The tiles that have a split."""
    output = None if preparation.dry_run else preparation.output
    tasks = []
    splits = preparation.split.assign([pair for pair, _ in tiles], [rgb for _, rgb in tiles])
    for (pair, _), split in zip(tiles, splits, strict=True):
        if split is None:
            summary.dropped.append(Dropped(pair.name, OVERLAPPING))
        else:
            tasks.append(TileTask(pair, split, preparation.prefix, summary.settings, output))
    return tasks
