"""What one raster file holds, whatever the settings that it is going to be read with."""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from xml.etree import ElementTree

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from tqdm import tqdm

from mm_ovseg.errors import DataError
from mm_ovseg.raster import RasterInfo, RasterSource, read_raster_info

__all__ = ["FileFacts", "for_each", "pooled_sample", "read_facts"]

SAMPLE_BUDGET = 2_000_000  # pixels over all files
MAX_SAMPLED = 16384  # pixels of a file
MAX_VALUES = 256

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class FileFacts:
    """What a file holds; of one that cannot be read only the path and the error, and ``info`` where there is a header.

    Attributes:
        path: The file.
        error: Why it cannot be read.
        info: Its header.
        digest: Hash of its pixels: equal where two files hold the same numbers.
        bands: 1-based bands that are not alpha.
        colors: 1-based bands that the file calls red, green and blue; empty where it does not.
        band_names: Description of each of ``bands``, in lower case.
        palette: (red, green, blue) of the values 0, 1, ... of a palette file.
        categories: Value -> name, as GDAL keeps them beside the file (``FILE.aux.xml``).
        is_lossy: Whether its compression changes numbers (JPEG).
        nan_share: Share of the pixels that are NaN in a band, 0..1.
        gray: There are three bands or more, and the first three are equal.
        sample: float32 (N, bands): pixels with data, evenly over the file, with its scale and offset applied.
        values: Value -> number of pixels with data, where there is one band of few whole numbers; else None.
    """

    path: Path
    error: DataError | None = None
    info: RasterInfo | None = None
    digest: str = ""
    bands: tuple[int, ...] = ()
    colors: tuple[int, ...] = ()
    band_names: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] | None = None
    categories: dict[int, str] = field(default_factory=dict)
    is_lossy: bool = False
    nan_share: float = 0.0
    gray: bool = False
    sample: np.ndarray = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32), repr=False)
    values: dict[int, int] | None = field(default=None, repr=False)


def read_facts(path: str | os.PathLike, *, files: int = 1) -> FileFacts:
    """Look into a file.

    Args:
        path: The file.
        files: As many are looked into; the more, the fewer pixels of each are kept.
    """
    path, info = Path(path), None
    try:
        info = read_raster_info(path)
        with RasterSource(path) as source:
            bands = source.data_bands()
            image, known = source.read(bands)  # (H, W, bands)
            nan = np.isnan(image).any(axis=2) if image.dtype.kind in "fc" else np.zeros(image.shape[:2], dtype=bool)
            valid = np.ones(image.shape[:2], dtype=bool) if known is None else known.all(axis=2)
            chosen = [source.bands[band - 1] for band in bands]
            return FileFacts(
                path=path,
                info=info,
                digest=hashlib.blake2b(f"{image.shape} {image.dtype}".encode() + image.tobytes()).hexdigest(),
                bands=tuple(bands),
                colors=tuple(source.color_bands()) if any(b.meaning == ColorInterp.red for b in chosen) else (),
                band_names=tuple(band.description.lower() for band in chosen),
                palette=_palette(source, bands),
                categories=_categories(path),
                is_lossy=source.is_lossy,
                nan_share=float(nan.mean()),
                gray=image.shape[2] >= 3 and all(np.array_equal(image[..., 0], image[..., band]) for band in (1, 2)),
                sample=_sample(image, valid, source, bands, files),
                values=_values(image[valid]),
            )
    except DataError as error:
        return FileFacts(path=path, info=info, error=error)


def pooled_sample(facts: Iterable[FileFacts], bands: int) -> np.ndarray:
    """The sampled pixels of all those files that have as many bands, float32 (N, bands)."""
    samples = [entry.sample for entry in facts if entry.sample.shape[1] == bands]
    return np.concatenate(samples) if samples else np.empty((0, bands), dtype=np.float32)


def for_each(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, title: str, unit: str
) -> list[Result]:
    """Call a function for each item, in threads, with a progress bar where there is a terminal.

    Returns:
        The results, in the order of the items.
    """
    items = list(items)
    with warnings.catch_warnings(), ThreadPoolExecutor(max(1, workers)) as pool:
        # open_raster does the same, but what it restores is what another thread has set.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        results = pool.map(function, items)
        return list(tqdm(results, desc=title, total=len(items), unit=unit, leave=False, disable=None))


def _palette(source: RasterSource, bands: list[int]) -> tuple[tuple[int, int, int], ...] | None:
    """The colours that a palette file gives to its values, without the unused end of a palette of 256."""
    colors = source.color_table(bands[0]) if len(bands) == 1 else None
    return (
        None if colors is None else tuple(tuple(colors.get(value, (0, 0, 0))[:3]) for value in range(max(colors) + 1))
    )


def _categories(path: Path) -> dict[int, str]:
    """The names of values in the file that GDAL keeps beside a raster; rasterio does not read them."""
    sidecar = path.with_name(f"{path.name}.aux.xml")
    try:
        names = [element.text or "" for element in ElementTree.parse(sidecar).iterfind(".//CategoryNames/Category")]
    except (OSError, ElementTree.ParseError):
        return {}
    return {value: name.strip() for value, name in enumerate(names) if name.strip()}


def _sample(image: np.ndarray, valid: np.ndarray, source: RasterSource, bands: list[int], files: int) -> np.ndarray:
    if image.dtype.kind == "c":
        return np.empty((0, image.shape[2]), dtype=np.float32)
    pixels = image.reshape(-1, image.shape[2])
    places = np.flatnonzero(valid.ravel())
    wanted = min(MAX_SAMPLED, max(64, SAMPLE_BUDGET // files))
    places = places[:: max(1, len(places) // wanted)]
    sample = pixels[places].astype(np.float32)
    source.scale(sample, bands)
    return sample


def _values(pixels: np.ndarray) -> dict[int, int] | None:
    """How often each value occurs among pixels (N, bands) of one band; None where that is not a label map."""
    if pixels.shape[1] != 1 or pixels.dtype.kind not in "iuf":
        return None
    if pixels.dtype == np.uint8:
        counts = np.bincount(pixels.ravel(), minlength=256)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, counts = np.unique(pixels, return_counts=True)
    if len(values) > MAX_VALUES or not np.isfinite(values).all() or (values != np.rint(values)).any():
        return None
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}
