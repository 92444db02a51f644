"""Published pairs without labels: matched by name, checked, converted to one SAR range, and cut into tiles."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.data.tile.run import OVERLAPPING, check_tile_outputs, make_tiles, nothing_left, open_journal
from mm_ovseg.data.tile.settings import TileRun, cut_windows
from mm_ovseg.data.tile.tile_job import TileJob
from mm_ovseg.data.tile.tile_report import TileReport
from mm_ovseg.errors import DataError
from mm_ovseg.jobs import Skipped, skip_unreadable
from mm_ovseg.raster import RasterInfo, SARReader, check_same_grid, read_raster_info
from mm_ovseg.raster.footprint import Footprint, footprints

__all__ = ["AUTO_SCALE", "Assign", "match_by_name", "tile_pairs"]

AUTO_SCALE = "auto"
WHOLE_RANGE = (-127.5, 127.5)  # one dB per step, wider than SAR values of any calibration
MEASURED_FILES = 32


# From the names, footprints and RGB paths of pairs to "train", "val" or, for a pair that would be trained on but
# overlaps a held-out one, None.
Assign = Callable[[Sequence[str], Sequence[Footprint | None], Sequence[Path]], Sequence[str | None]]
Headers = list[tuple[SceneFiles, RasterInfo, RasterInfo]]  # headers of the RGB and the SAR file


def match_by_name(
    rgb: Sequence[Path], sar: Sequence[Path], name_of: Callable[[Path], str]
) -> tuple[list[SceneFiles], list[Skipped]]:
    """Match RGB and SAR files by name.

    Args:
        rgb, sar: In any order.
        name_of: Returns the part of a file's name that its partner shares.

    Returns:
        The pairs, sorted by name, and the skipped files: those without a partner, and those with the name of another
        file of their kind, of which the first by path is used.

    Raises:
        DataError: No file has a partner.
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
            "present and completely unpacked."
        )
    for kind, other in (("RGB", "SAR"), ("SAR", "RGB")):
        skipped += [Skipped(name, f"no {other} file", str(found[kind][name])) for name in found[kind].keys() - names]
    return [SceneFiles(name, (found["RGB"][name],), (found["SAR"][name],)) for name in sorted(names)], skipped


def tile_pairs(
    run: TileRun,
    pairs: Sequence[SceneFiles],
    assign: Assign,
    *,
    split: dict,
    skipped: Sequence[Skipped] = (),
    sar_scale: str = AUTO_SCALE,
    sar_range: tuple[float, ...] = (),
) -> TileReport:
    """Write 8-bit tiles of pairs, and ``manifest_PREFIX.json``.

    After an interruption, another call continues; if everything is done, it changes nothing.

    Args:
        run: With a prefix, three RGB bands and the SAR bands. ``sar_scale`` and ``sar_range`` replace its SAR settings.
        pairs: RGB and SAR file of each pair, on one grid.
        assign: Splits the pairs.
        split: Settings of the split, for the manifest and for comparison with an earlier run.
        skipped: Files without a pair, for the report.
        sar_scale: One of :data:`~mm_ovseg.raster.SAR_UNITS`, or ``"auto"``: 8-bit files are used as they are, others
            are amplitude.
        sar_range: (low, high) in dB that become 0 and 255; empty to measure it over all pairs.

    Raises:
        DataError: The output contains files of the pairs; or see :func:`~mm_ovseg.data.tile.run.make_tiles`.
    """
    check_tile_outputs(run.output, pairs, run.prefix)
    journal = open_journal(run)
    report = TileReport(run, split, len(pairs), skipped=list(skipped))
    headers = []
    for pair in tqdm(pairs, desc="reading headers", unit="pair"):
        try:
            headers.append((pair, *_read_headers(pair, run.settings.sar.bands, sar_scale)))
        except DataError as error:
            skip_unreadable(pair.name, str(error), report.skipped, strict=run.strict)
    if not headers:
        raise nothing_left(report)
    if sar_scale == AUTO_SCALE:
        sar_scale = "8bit" if all(set(sar.dtypes) == {"uint8"} for _, _, sar in headers) else "amplitude"
    reader = replace(run.settings.sar, scale=sar_scale)
    if sar_scale != "8bit":
        if not sar_range and journal is not None and journal.files and journal.settings["sar"]["scale"] == sar_scale:
            # The range that the first run measured applies to all pairs, including those added since.
            sar_range = tuple(journal.settings["sar"]["value_range"])
        sar_range = sar_range or _measure_range([sar.path for _, _, sar in headers], reader)
        reader = replace(reader, value_range=sar_range)
    report.run = replace(run, settings=replace(run.settings, sar=reader))
    make_tiles(report, _plan(report, headers, assign), journal, title="cutting pairs")
    return report


def _read_headers(pair: SceneFiles, sar_bands: Sequence[int], sar_scale: str) -> tuple[RasterInfo, RasterInfo]:
    """The headers of the RGB and the SAR file, checked to share one grid and to match the settings."""
    rgb, sar = read_raster_info(pair.rgb[0]), read_raster_info(pair.sar[0])
    check_same_grid(rgb, sar)
    if rgb.count < 3:
        raise DataError(f"{rgb.path} has {rgb.count} band(s); an RGB file must have three.")
    if sar.count < max(sar_bands):
        raise DataError(f"{sar.path} has only {sar.count} band(s), not band {max(sar_bands)}; choose other SAR bands.")
    if sar_scale == "8bit" and set(sar.dtypes) != {"uint8"}:
        raise DataError(f"{sar.path} holds {sar.dtypes[0]} values, not 8-bit ones; give their unit with --sar-scale.")
    return rgb, sar


def _measure_range(paths: Sequence[Path], reader: SARReader) -> tuple[float, float]:
    """The 1st and 99th percentile, rounded outwards to whole dB, over every fifth row and column of the files."""
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(MEASURED_FILES, len(paths))).round().astype(int))
    samples = []
    for index in chosen:
        try:
            sar, valid = replace(reader, value_range=WHOLE_RANGE).read_file(paths[index])
        except DataError:
            continue  # reported when it is tiled
        samples.append(sar[::5, ::5][valid[::5, ::5]][:, : len(reader.bands)].ravel() + WHOLE_RANGE[0])
    values = np.concatenate([*samples, []])
    if not values.size:
        raise DataError(
            f"{len(chosen)} SAR tiles were sampled for their range in dB and none has data; give --sar-range, or "
            "check --sar-nodata and --sar-scale."
        )
    low, high = np.percentile(values, (1, 99))
    return float(math.floor(low)), float(max(math.ceil(high), math.floor(low) + 1))


def _plan(report: TileReport, headers: Headers, assign: Assign) -> list[TileJob]:
    """The jobs of the pairs that are in a split."""
    run, jobs = report.run, []
    names, paths = [pair.name for pair, _, _ in headers], [rgb.path for _, rgb, _ in headers]
    splits = assign(names, footprints([rgb.grid for _, rgb, _ in headers]), paths)
    output = None if run.dry_run else run.output
    for (pair, rgb, _), of_split in zip(headers, splits, strict=True):
        if of_split is None:
            report.skipped.append(Skipped(pair.name, OVERLAPPING))
            continue
        windows = cut_windows(*rgb.grid.shape, run.settings.size, run.settings.overlap, spread=True)
        of_name = {f"_r{window[0]:04d}_c{window[1]:04d}" if len(windows) > 1 else "": window for window in windows}
        of_name = {f"{run.prefix}{pair.name}{end}": window for end, window in of_name.items()}
        jobs.append(TileJob(pair.name, pair, of_name, of_split, run.settings, None, output, hash_sources=True))
    return jobs
