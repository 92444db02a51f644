"""Published pairs without labels: found by name, checked, brought to one range of SAR values, and cut into tiles."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.data.tile.report import TileReport
from mm_ovseg.data.tile.run import OVERLAPPING, check_tile_outputs, make_tiles, nothing_left, open_journal
from mm_ovseg.data.tile.settings import TileRun, cut_windows
from mm_ovseg.data.tile.tile_job import TileJob
from mm_ovseg.errors import DataError
from mm_ovseg.jobs import Journal, Skipped, skip_unreadable
from mm_ovseg.raster import RasterInfo, SARReader, check_same_grid, read_raster_info
from mm_ovseg.raster.footprint import Footprint, footprints

__all__ = ["AUTO_SCALE", "PairSplit", "match_files", "tile_pairs"]

AUTO_SCALE = "auto"
WHOLE_RANGE = (-127.5, 127.5)  # one dB a step, and wider than SAR values of any calibration
MEASURED_TILES = 32
MEASURED_STEP = 5  # every fifth row and column
MEASURED_PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True)
class PairSplit:
    """How pairs are held out.

    Attributes:
        assign: From the names of pairs, their places and the paths of their RGB files to "train", "val" or, for one
            that would be trained on but overlaps a held-out pair, None.
        settings: What it depends on, for the manifest, and to tell whether an earlier run held out the same.
    """

    assign: Callable[[Sequence[str], Sequence[Footprint | None], Sequence[Path]], Sequence[str | None]]
    settings: dict


def match_files(
    rgb: Sequence[Path], sar: Sequence[Path], name_of: Callable[[Path], str]
) -> tuple[list[SceneFiles], list[Skipped]]:
    """Match RGB and SAR files by name.

    Args:
        rgb, sar: In any order.
        name_of: The part of a file's name that its partner shares.

    Returns:
        The pairs, sorted by name; and the files that are skipped: those without partner, and those with the name of
        another file of their kind, of which the first by path is taken.

    Raises:
        DataError: There are no pairs.
    """
    found: dict[str, dict[str, Path]] = {"RGB": {}, "SAR": {}}
    skipped = []
    for kind, paths in (("RGB", rgb), ("SAR", sar)):
        for path in sorted(paths):
            if (first := found[kind].setdefault(name_of(path), path)) is not path:
                skipped.append(Skipped(name_of(path), "the name of another tile", f"{path} besides {first}"))
    names = found["RGB"].keys() & found["SAR"].keys()
    if not names:
        raise DataError(
            f"There is no pair among {len(rgb)} RGB and {len(sar)} SAR files; check that both parts of the archive are "
            "there and completely unpacked."
        )
    for kind, other in (("RGB", "SAR"), ("SAR", "RGB")):
        skipped += [Skipped(name, f"no {other} file", str(found[kind][name])) for name in found[kind].keys() - names]
    return [SceneFiles(name, (found["RGB"][name],), (found["SAR"][name],)) for name in sorted(names)], skipped


def tile_pairs(
    run: TileRun,
    pairs: Sequence[SceneFiles],
    split: PairSplit,
    *,
    sar_scale: str = AUTO_SCALE,
    sar_range: tuple[float, ...] = (),
    skipped: Sequence[Skipped] = (),
) -> TileReport:
    """Write 8-bit tiles of pairs, and ``manifest_PREFIX.json``.

    Interrupted and called again, it continues with the pairs that are not finished. Called again when everything is
    done, it changes nothing.

    Args:
        run: With a prefix, three RGB bands and the SAR bands. SAR's unit and range are replaced by the next two.
        pairs: RGB and SAR file of each, on one grid.
        split: How pairs are held out.
        sar_scale: One of :data:`~mm_ovseg.raster.SAR_UNITS`, or ``"auto"``: 8-bit files as they are, others as
            amplitude.
        sar_range: (low, high) in dB that become 0 and 255; empty to measure it once for all pairs.
        skipped: Files that belong to no pair, to be counted with the rest.

    Raises:
        DataError: The output has files of the pairs; or as of :func:`~mm_ovseg.data.tile.run.make_tiles`.
    """
    check_tile_outputs(run.output, pairs, run.prefix)
    journal = open_journal(run)
    report = TileReport(run, split.settings, len(pairs), skipped=list(skipped))
    headers = _read_headers(report, pairs)
    if sar_scale == AUTO_SCALE:
        is_8bit = all(set(sar.dtypes) == {"uint8"} for _, _, sar in headers)
        sar_scale = "8bit" if is_8bit else "amplitude"
    reader = replace(run.settings.sar, scale=sar_scale)
    headers = _check_bands(report, headers, reader)
    if not headers:
        raise nothing_left(report)
    if sar_scale != "8bit":
        sar_range = sar_range or _range_of_earlier_run(journal, sar_scale)
        sar_range = sar_range or _measure_range([pair.sar[0] for pair, _, _ in headers], reader)
        reader = replace(reader, value_range=sar_range)
    report.run = replace(run, settings=replace(run.settings, sar=reader))
    make_tiles(report, _plan(report, headers, split), journal, title="cutting pairs")
    return report


Headers = list[tuple[SceneFiles, RasterInfo, RasterInfo]]  # of the RGB and the SAR file


def _read_headers(report: TileReport, pairs: Sequence[SceneFiles]) -> Headers:
    """The pairs whose two files can be opened and lie on one grid."""
    headers = []
    for pair in tqdm(pairs, desc="reading headers", unit="pair"):
        try:
            rgb, sar = read_raster_info(pair.rgb[0]), read_raster_info(pair.sar[0])
            check_same_grid(rgb, sar)
            headers.append((pair, rgb, sar))
        except DataError as error:
            skip_unreadable(pair.name, str(error), report.skipped, strict=report.run.strict)
    return headers


def _check_bands(report: TileReport, headers: Headers, reader: SARReader) -> Headers:
    """The pairs whose files hold what the settings say."""
    kept, last = [], max(reader.bands)
    for pair, rgb, sar in headers:
        if rgb.count < 3:
            fault = f"{rgb.path} has {rgb.count} band(s); an RGB file has three."
        elif sar.count < last:
            fault = f"{sar.path} has no band {last}, but {sar.count}; choose other SAR bands."
        elif reader.scale == "8bit" and set(sar.dtypes) != {"uint8"}:
            fault = f"{sar.path} holds {sar.dtypes[0]} values, not 8-bit ones; say what they are with --sar-scale."
        else:
            kept.append((pair, rgb, sar))
            continue
        skip_unreadable(pair.name, fault, report.skipped, strict=report.run.strict)
    return kept


def _range_of_earlier_run(journal: Journal | None, sar_scale: str) -> tuple[float, ...]:
    """What the first run measured holds for all pairs, also for those that have been added since."""
    if journal is None or not journal.files or journal.settings["sar"]["scale"] != sar_scale:
        return ()
    return tuple(journal.settings["sar"]["value_range"])


def _measure_range(paths: Sequence[Path], reader: SARReader) -> tuple[float, float]:
    """From the 1st to the 99th percentile, in whole dB outwards, over all chosen bands of files evenly among all."""
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(MEASURED_TILES, len(paths))).round().astype(int))
    samples = []
    for index in chosen:
        try:
            sar, valid = replace(reader, value_range=WHOLE_RANGE).read_file(paths[index])
        except DataError:
            continue  # named and counted when its turn comes
        sar, valid = (pixels[::MEASURED_STEP, ::MEASURED_STEP] for pixels in (sar, valid))
        samples.append(sar[valid][:, : len(reader.bands)].ravel() + WHOLE_RANGE[0])
    values = np.concatenate([*samples, []])
    if not values.size:
        raise DataError(
            f"{len(chosen)} SAR tiles were looked at for their range in dB and none has data; give --sar-range, or "
            "check --sar-nodata and --sar-scale."
        )
    low, high = np.percentile(values, MEASURED_PERCENTILES)
    return float(math.floor(low)), float(max(math.ceil(high), math.floor(low) + 1))


def _plan(report: TileReport, headers: Headers, split: PairSplit) -> list[TileJob]:
    """The jobs of the pairs that are in a split."""
    run, jobs = report.run, []
    names, paths = [pair.name for pair, _, _ in headers], [rgb.path for _, rgb, _ in headers]
    splits = split.assign(names, footprints([rgb for _, rgb, _ in headers]), paths)
    output = None if run.dry_run else run.output
    for (pair, rgb, _), of_split in zip(headers, splits, strict=True):
        if of_split is None:
            report.skipped.append(Skipped(pair.name, OVERLAPPING))
            continue
        windows = cut_windows(rgb.height, rgb.width, run.settings.size, run.settings.overlap, spread=True)
        of_name = {f"_r{window[0]:04d}_c{window[1]:04d}" if len(windows) > 1 else "": window for window in windows}
        of_name = {f"{run.prefix}{pair.name}{end}": window for end, window in of_name.items()}
        jobs.append(TileJob(pair.name, pair, of_name, of_split, run.settings, None, output, hash_sources=True))
    return jobs
