"""One tile: cut into windows, scaled to 8 bit, written as pairs of GeoTIFF files."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rasterio.enums import ColorInterp

from mm_ovseg.data.preparation.dropped import BROKEN, Dropped
from mm_ovseg.data.preparation.pairing import TilePair
from mm_ovseg.data.preparation.settings import PairSettings
from mm_ovseg.errors import DataError
from mm_ovseg.files import sha256
from mm_ovseg.raster import Grid, RasterSource, RGBReader, SARReader, write_geotiff

__all__ = ["TileTask", "cut_windows", "is_intact", "process_tile", "write_tile"]


@dataclass(frozen=True)
class TileTask:
    """A tile to be prepared.

    Attributes:
        pair: Its files.
        split: "train" or "val".
        prefix: Start of the names of the files to write.
        settings: How.
        output: Folder that holds the splits; None to look at everything and write nothing.
    """

    pair: TilePair
    split: str
    prefix: str
    settings: PairSettings
    output: Path | None

    def fingerprint(self) -> list:
        """What tells, without reading it, whether a tile is still the one that was prepared."""
        statuses = [path.stat() for path in (self.pair.rgb, self.pair.sar)]
        return [self.split, *([status.st_size, status.st_mtime_ns] for status in statuses)]


def process_tile(task: TileTask, previous: dict | None = None) -> tuple[dict, bool]:
    """Prepare a tile, or find that it has been.

    Args:
        task: The tile.
        previous: The result of an earlier call for this tile, with these settings.

    Returns:
        The result, and whether it is the earlier one, whose files were found as they were written. The result has
        ``name``, ``fingerprint``, ``pairs`` and ``dropped``, ready for JSON. Each pair has ``name``, ``split``,
        ``rgb`` and ``sar`` (``file`` relative to the output folder, and its ``sha256``; not when nothing is written),
        ``source`` (the same of the tile's files, and the ``window``: column, row, width, height), ``valid`` (share of
        pixels with both RGB and SAR) and ``clipped`` (share of the SAR values with data that became 0 or 255).
        A tile that cannot be read has one entry in ``dropped``, with the reason ``BROKEN``, and no pairs.

    Raises:
        DataError: A file cannot be written.
    """
    result = {"name": task.pair.name, "fingerprint": task.fingerprint(), "pairs": [], "dropped": []}
    if previous is not None and previous["fingerprint"] == result["fingerprint"]:
        written = [pair[kind] for pair in previous["pairs"] for kind in ("rgb", "sar")]
        if all(is_intact(task.output, file) for file in written):
            return previous, True
    try:
        files = {} if task.output is None else {"rgb": task.pair.rgb, "sar": task.pair.sar}
        source = {kind: _describe_source(path) for kind, path in files.items()}
        # All of the tile before any of it is written: a truncated file shows only where it ends.
        grid, images = _read_windows(task)
    except DataError as error:
        result["dropped"] = [asdict(Dropped(task.pair.name, BROKEN, str(error)))]
        return result, False
    for (row, column, height, width), (rgb, rgb_valid, sar, sar_valid) in images.items():
        name = f"{task.prefix}_{task.pair.name}"
        if len(images) > 1:
            name += f"_r{row:04d}_c{column:04d}"
        if reason := _reason_to_drop(rgb, rgb_valid, sar, sar_valid, task.settings.min_valid):
            result["dropped"].append(asdict(Dropped(name, reason)))
            continue
        pair = {"name": name, "split": task.split, "rgb": {}, "sar": {}, "source": {**source}}
        pair["source"]["window"] = [column, row, width, height]
        pair["valid"] = round(float((rgb_valid & sar_valid).mean()), 4)
        pair["clipped"] = round(float(np.isin(sar[sar_valid], (0, 255)).mean()), 4)
        if task.output is not None:
            place = grid.window(row, column, height, width)
            for kind, image, valid in (("rgb", rgb, rgb_valid), ("sar", sar, sar_valid)):
                file = Path(task.split, kind, f"{name}.tif")
                write_tile(task.output / file, image, valid, place)
                pair[kind] = {"file": file.as_posix(), "sha256": sha256(task.output / file)}
        result["pairs"].append(pair)
    return result, False


def cut_windows(height: int, width: int, size: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Cover a tile with as few windows (row, column, height, width) as possible, spread evenly, row by row.

    Args:
        height, width: Of the tile, in pixels.
        size: Side of a window; along an axis on which the tile is smaller, the window is as long as the tile. 0: one
            window that is the tile.
        overlap: Pixels that neighbours share at least; they share more where the tile is not a multiple of the step.
    """
    rows, columns = (_starts(length, size, overlap) for length in (height, width))
    return [(row, column, min(size or height, height), min(size or width, width)) for row in rows for column in columns]


def _starts(length: int, size: int, overlap: int) -> list[int]:
    if size == 0 or length <= size:
        return [0]
    gaps = -(-(length - size) // (size - overlap))  # between windows, rounded up
    return [index * (length - size) // gaps for index in range(gaps + 1)]


def _read_windows(
    task: TileTask,
) -> tuple[Grid, dict[tuple[int, int, int, int], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]]:
    """The tile's grid, and of each window RGB uint8 (H, W, 3), where it has data (H, W), SAR uint8 (H, W, n), where.

    One polarisation comes as three equal channels and two with their mean: what the reader makes again is left out.
    """
    settings = task.settings
    with RasterSource(task.pair.rgb) as rgb, RasterSource(task.pair.sar) as sar:
        rgb.align(sar)
        is_8bit = all(band.dtype == "uint8" for band in rgb.bands)
        rgb_reader = RGBReader(
            bands=(1, 2, 3), value_range=() if is_8bit else settings.rgb_range, nodata=settings.rgb_nodata
        )
        sar_reader = SARReader(
            bands=settings.sar_bands,
            value_range=settings.sar_range or (0.0, 1.0),  # 8-bit files need none
            nodata=settings.sar_nodata,
            scale=settings.sar_scale,
        )
        images = {}
        for window in cut_windows(rgb.grid.height, rgb.grid.width, settings.size, settings.overlap):
            sar_image, sar_valid = sar_reader.read(sar, window)
            polarisations = np.rint(sar_image[..., : len(settings.sar_bands)]).astype(np.uint8)
            images[window] = (*rgb_reader.read(rgb, window), polarisations, sar_valid)
        return rgb.grid, images


def _reason_to_drop(
    rgb: np.ndarray, rgb_valid: np.ndarray, sar: np.ndarray, sar_valid: np.ndarray, min_valid: float
) -> str | None:
    for kind, valid in (("RGB", rgb_valid), ("SAR", sar_valid), ("RGB and SAR together", rgb_valid & sar_valid)):
        if not valid.any() or valid.mean() < min_valid:
            return f"too few pixels with {kind}"
    for kind, image, valid in (("RGB", rgb, rgb_valid), ("SAR", sar, sar_valid)):
        values = image[valid]
        if (values == values[0]).all():
            return f"the same {kind} everywhere"
    return None


def write_tile(path: Path, image: np.ndarray, valid: np.ndarray, grid: Grid) -> None:
    """Write uint8 (H, W, bands) on its grid, with a mask where there are pixels without data."""
    meanings = (ColorInterp.red, ColorInterp.green, ColorInterp.blue) if image.shape[2] == 3 else ()
    write_geotiff(path, image.transpose(2, 0, 1), grid, valid=None if valid.all() else valid, meanings=meanings)


def is_intact(output: Path, written: dict) -> bool:
    """Whether a file is as a result says that it was written."""
    path = output / written["file"]
    return path.is_file() and sha256(path) == written["sha256"]


def _describe_source(path: Path) -> dict:
    """Name and hash of a file, wherever the archive lies."""
    return {"file": f"{path.parent.name}/{path.name}", "sha256": sha256(path)}
