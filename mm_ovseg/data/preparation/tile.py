"""One tile: cut into windows, scaled to 8 bit, written as pairs of GeoTIFF files."""

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window
from rasterio.windows import transform as window_transform

from mm_ovseg.data.preparation.dropped import BROKEN, Dropped
from mm_ovseg.data.preparation.pairing import TilePair
from mm_ovseg.data.preparation.settings import PairSettings
from mm_ovseg.data.raster import RasterInfo, read_raster_info, read_rgb, read_sar
from mm_ovseg.errors import DataError
from mm_ovseg.files import complete_file, sha256

__all__ = ["TileTask", "cut_windows", "is_intact", "process_tile", "write_geotiff"]


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
        rgb_info, sar_info = read_raster_info(task.pair.rgb), read_raster_info(task.pair.sar)
        files = {} if task.output is None else {"rgb": task.pair.rgb, "sar": task.pair.sar}
        source = {kind: _describe_source(path) for kind, path in files.items()}
        windows = cut_windows(rgb_info.height, rgb_info.width, task.settings.size, task.settings.overlap)
        # All of the tile before any of it is written: a truncated file shows only where it ends.
        images = [_read_window(task, rgb_info, window) for window in windows]
    except DataError as error:
        result["dropped"] = [asdict(Dropped(task.pair.name, BROKEN, str(error)))]
        return result, False
    for window, (rgb, rgb_valid, sar, sar_valid) in zip(windows, images, strict=True):
        name = f"{task.prefix}_{task.pair.name}"
        if len(windows) > 1:
            name += f"_r{window.row_off:04d}_c{window.col_off:04d}"
        if reason := _reason_to_drop(rgb, rgb_valid, sar, sar_valid, task.settings.min_valid):
            result["dropped"].append(asdict(Dropped(name, reason)))
            continue
        pair = {"name": name, "split": task.split, "rgb": {}, "sar": {}, "source": {**source}}
        pair["source"]["window"] = [window.col_off, window.row_off, window.width, window.height]
        pair["valid"] = round(float((rgb_valid & sar_valid).mean()), 4)
        pair["clipped"] = round(float(np.isin(sar[sar_valid], (0, 255)).mean()), 4)
        if task.output is not None:
            for kind, image, valid, info in (("rgb", rgb, rgb_valid, rgb_info), ("sar", sar, sar_valid, sar_info)):
                file = Path(task.split, kind, f"{name}.tif")
                write_geotiff(task.output / file, image, valid, info, window)
                pair[kind] = {"file": file.as_posix(), "sha256": sha256(task.output / file)}
        result["pairs"].append(pair)
    return result, False


def cut_windows(height: int, width: int, size: int, overlap: int) -> list[Window]:
    """Cover a tile with as few windows as possible, spread evenly, row by row.

    Args:
        height, width: Of the tile, in pixels.
        size: Side of a window; along an axis on which the tile is smaller, the window is as long as the tile. 0: one
            window that is the tile.
        overlap: Pixels that neighbours share at least; they share more where the tile is no multiple of the step.
    """
    rows, columns = (_starts(length, size, overlap) for length in (height, width))
    return [
        Window(column, row, min(size or width, width), min(size or height, height))
        for row in rows
        for column in columns
    ]


def _starts(length: int, size: int, overlap: int) -> list[int]:
    if size == 0 or length <= size:
        return [0]
    gaps = -(-(length - size) // (size - overlap))  # between windows, rounded up
    return [index * (length - size) // gaps for index in range(gaps + 1)]


def _read_window(
    task: TileTask, rgb_info: RasterInfo, window: Window
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """RGB uint8 (H, W, 3), where it has data (H, W), SAR uint8 (H, W, polarisations), where it has data (H, W)."""
    settings = task.settings
    is_8bit = set(rgb_info.dtypes) == {"uint8"}
    rgb, rgb_valid = read_rgb(
        task.pair.rgb,
        bands=(1, 2, 3),
        value_range=() if is_8bit else settings.rgb_range,
        window=window,
        nodata=settings.rgb_nodata,
    )
    sar, sar_valid = read_sar(
        task.pair.sar,
        scale=settings.sar_scale,
        value_range=settings.sar_range or (0.0, 1.0),  # 8-bit files need none
        bands=settings.sar_bands,
        window=window,
        nodata=settings.sar_nodata,
    )
    # One polarisation comes as three equal channels and two with their mean: what the reader makes again.
    return rgb, rgb_valid, np.rint(sar[..., : len(settings.sar_bands)]).astype(np.uint8), sar_valid


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


def write_geotiff(path: Path, image: np.ndarray, valid: np.ndarray, info: RasterInfo, window: Window) -> None:
    """Write uint8 (H, W, bands) on its place on the ground, with a mask where there are pixels without data."""
    height, width, count = image.shape
    profile = {"driver": "GTiff", "dtype": "uint8", "height": height, "width": width, "count": count}
    profile |= {"compress": "deflate", "predictor": 2, "photometric": "rgb" if count == 3 else "minisblack"}
    if info.transform is not None:
        profile |= {"crs": info.crs, "transform": window_transform(window, info.transform)}
    with complete_file(path) as temporary, warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(temporary, "w", **profile) as file:
            file.write(image.transpose(2, 0, 1))
            if not valid.all():
                file.write_mask(valid)


def is_intact(output: Path, written: dict) -> bool:
    """Whether a file is as a result says that it was written."""
    path = output / written["file"]
    return path.is_file() and sha256(path) == written["sha256"]


def _describe_source(path: Path) -> dict:
    """Name and hash of a file, wherever the archive lies."""
    return {"file": f"{path.parent.name}/{path.name}", "sha256": sha256(path)}
