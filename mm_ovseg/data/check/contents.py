"""The contents of a raster file, independent of the settings with which it will be read."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from rasterio.enums import ColorInterp

from mm_ovseg.errors import DataError
from mm_ovseg.raster import Band, LabelReader, RasterInfo, RasterSource

__all__ = ["FileContents", "pooled_sample", "read_contents"]

SAMPLE_BUDGET = 2_000_000  # pixels, over all files
MIN_SAMPLED, MAX_SAMPLED = 64, 16384  # pixels per file
MAX_VALUES = 256


@dataclass(frozen=True)
class FileContents:
    """The contents of a file. An unreadable file has an error and, if it could be opened, a header.

    Attributes:
        path: The file.
        error: Why it cannot be read.
        info: Its header.
        digest: Hash of its pixels, equal for files with the same values.
        bands: Its bands without alpha.
        palette: (red, green, blue) of the values 0, 1, ... of a palette image.
        categories: Value -> name, which GDAL stores beside the file (``FILE.aux.xml``).
        is_lossy: Whether its compression changes values (JPEG).
        nan_share: Share of the pixels that are NaN in a band, 0..1.
        is_gray: Whether it has at least three bands, of which the first three are equal.
        sample: float32 (N, bands): valid pixels, evenly spread over the file, with scale and offset applied.
        values: Value -> number of valid pixels, for a single band of few integers; else None.
    """

    path: Path
    error: DataError | None = None
    info: RasterInfo | None = None
    digest: str = ""
    bands: tuple[Band, ...] = ()
    palette: tuple[tuple[int, int, int], ...] | None = None
    categories: dict[int, str] = field(default_factory=dict)
    is_lossy: bool = False
    nan_share: float = 0.0
    is_gray: bool = False
    sample: np.ndarray = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32), repr=False)
    values: dict[int, int] | None = field(default=None, repr=False)

    @property
    def dtype(self) -> str:
        """NumPy type name of the first band."""
        return self.bands[0].dtype

    @property
    def colors(self) -> list[int]:
        """Positions in ``bands`` of red, green and blue by colour interpretation; empty if undeclared."""
        places = {band.meaning: place for place, band in enumerate(self.bands)}
        colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        return [places[color] for color in colors] if all(color in places for color in colors) else []


def read_contents(
    path: Path, *, num_files: int = 1, check: Callable[[RasterSource, FileContents], None] | None = None
) -> FileContents:
    """Read the contents of a file.

    Args:
        path: The file.
        num_files: Number of files that are read in total; the more, the fewer pixels are sampled from each.
        check: Called with the open file, if it can be read.
    """
    info = None
    try:
        with RasterSource(path) as source:
            info = source.info
            contents = _contents_of(path, source, num_files)
            if check is not None:
                check(source, contents)
            return contents
    except DataError as error:
        return FileContents(path, error, info)


def pooled_sample(files: Iterable[FileContents], bands: int) -> np.ndarray:
    """The sampled pixels of the files with this number of bands, float32 (N, bands)."""
    samples = [file.sample for file in files if file.sample.shape[1] == bands]
    return np.concatenate(samples) if samples else np.empty((0, bands), dtype=np.float32)


def _contents_of(path: Path, source: RasterSource, num_files: int) -> FileContents:
    bands = source.data_bands()
    image, known = source.read(bands)  # (H, W, bands)
    valid = np.ones(image.shape[:2], dtype=bool) if known is None else known.all(axis=2)
    colors = source.color_table(bands[0]) if len(bands) == 1 else None
    try:
        values = dict(LabelReader({}).read(source)[1])  # no value is known, so all are counted
    except DataError:
        values = None
    return FileContents(
        path=path,
        info=source.info,
        digest=hashlib.blake2b(f"{image.shape} {image.dtype}".encode() + image.tobytes()).hexdigest(),
        bands=tuple(source.bands[band - 1] for band in bands),
        palette=None if colors is None else tuple(colors.get(n, (0, 0, 0))[:3] for n in range(max(colors) + 1)),
        categories=_categories(path),
        is_lossy=source.is_lossy,
        nan_share=float(np.isnan(image).any(axis=2).mean()),
        is_gray=image.shape[2] >= 3 and bool((image[..., :1] == image[..., 1:3]).all()),
        sample=_sample(image, valid, source, bands, num_files),
        values=values if values is not None and len(values) <= MAX_VALUES else None,
    )


def _categories(path: Path) -> dict[int, str]:
    try:  # rasterio does not read them
        tree = ElementTree.parse(path.with_name(f"{path.name}.aux.xml"))
    except (OSError, ElementTree.ParseError):
        return {}
    names = [(element.text or "").strip() for element in tree.iterfind(".//CategoryNames/Category")]
    return {value: name for value, name in enumerate(names) if name}


def _sample(image: np.ndarray, valid: np.ndarray, source: RasterSource, bands: list[int], num_files: int) -> np.ndarray:
    if image.dtype.kind == "c":
        return np.empty((0, image.shape[2]), dtype=np.float32)
    places = np.flatnonzero(valid)
    wanted = min(MAX_SAMPLED, max(MIN_SAMPLED, SAMPLE_BUDGET // num_files))
    places = places[:: max(1, len(places) // wanted)]
    sample = image.reshape(-1, image.shape[2])[places].astype(np.float32)
    source.scale(sample, bands)
    return sample
