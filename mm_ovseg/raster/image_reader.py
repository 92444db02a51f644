"""The base of the RGB and SAR readers: from the values in files or arrays to 0..255.

Scaling depends on the settings only, never on a tile's own minimum and maximum: the same pixel gives the same value
whatever surrounds it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster.grid import sample_windows
from mm_ovseg.raster.placement import Placement
from mm_ovseg.raster.resampling import resample_image
from mm_ovseg.raster.source import Paths, RasterSource

__all__ = ["ImageReader", "Window", "check_range", "stretch"]

Window = tuple[int, int, int, int]  # row, column, height, width

ZEROS = 0.1  # share of a raster's pixels
AT_ONE_END = 0.5  # share of its values


@dataclass(frozen=True, kw_only=True)
class ImageReader:
    """Reads images as 0..255: the base of :class:`~mm_ovseg.raster.RGBReader` and :class:`~mm_ovseg.raster.SARReader`.

    Attributes:
        bands: 1-based bands to read; empty for the defaults.
        value_range: The values that become 0 and 255.
        nodata: Stored value that means no data, besides what a file declares; None for no other.
    """

    kind: ClassVar[str]
    key: ClassVar[str]  # in the config

    bands: tuple[int, ...] = ()
    value_range: tuple = ()
    nodata: float | None = None

    def __post_init__(self) -> None:
        if self.nodata is not None and (isinstance(self.nodata, bool) or not isinstance(self.nodata, int | float)):
            raise ConfigError(f"{self.key}.NODATA is {self.nodata!r}; give a number, or None.")
        object.__setattr__(self, "bands", tuple(self.bands))
        object.__setattr__(self, "value_range", tuple(self.value_range))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as a dict, ready for JSON."""
        return asdict(self)

    def read(self, source: RasterSource, window: Window | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Read an image on the source's own grid.

        Args:
            source: The raster.
            window: (row, column, height, width); None for all of it.

        Returns:
            image: (H, W, 3), 0..255; 0 where not valid. RGB is uint8, SAR float32.
            valid: bool (H, W).

        Raises:
            DataError: A block cannot be read, a band is missing, or the raster does not match the settings.
        """
        reader = self.suited_to(source)
        return reader._finish(*reader._values(source, reader.choose(source), window))

    def read_file(
        self, path: Paths, window: Window | None = None, *, any_format: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Open a file, or several that provide the bands, and :meth:`read` it."""
        with RasterSource(path, any_format=any_format) as source:
            return self.read(source, window)

    def read_onto(self, source: RasterSource, placement: Placement, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read a window of another grid, resampled as ``placement`` says; see :meth:`read`."""
        if placement.is_identity:
            return self.read(source, window)
        return self.suited_to(source)._resample(source, placement, window)

    def _resample(self, source: RasterSource, placement: Placement, window: Window) -> tuple[np.ndarray, np.ndarray]:
        bands = self.choose(source)

        def read(*part: int) -> tuple[np.ndarray, np.ndarray]:
            values, valid = self._values(source, bands, part)
            return self._to_mean(values, valid), valid

        values, valid = resample_image(read, placement, *window)
        return self._finish(self._from_mean(values), valid)

    def read_array(self, array: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The image that :meth:`read` gives for a file with the values of an array, which is not modified.

        Args:
            array: (H, W, C), or (H, W) for SAR. Masked elements and NaN are no data.
            name: Its name, for messages.

        Raises:
            DataError: The array has another shape or type, or lacks a band.
        """
        if array.dtype.kind not in "uifc":
            raise DataError(f"{name} holds {array.dtype} values; give numbers, such as uint8 or float32.")
        self._check_types([str(array.dtype)], name)
        if 0 in array.shape:
            raise DataError(f"{name} has shape {array.shape}, so it has no pixels; give an image that has some.")
        return self._finish(*self._values_of_array(array, name))

    def suited_to(self, source: RasterSource) -> "ImageReader":
        """The reader with the unit that a source declares; itself if it declares none.

        Raises:
            ConfigError: The range does not fit that unit.
            DataError: The bands declare different units.
        """
        return self._with_unit(source.unit(self._choose(source)), source.name)

    def choose(self, source: RasterSource) -> list[int]:
        """The 1-based bands to read.

        Raises:
            DataError: One is missing, or of a type that the settings do not expect.
        """
        bands = self._choose(source)
        self.suited_to(source)._check_types([source.bands[band - 1].dtype for band in bands], source.name)
        return bands

    def concerns(self, source: RasterSource) -> list[str]:
        """Warnings about settings that probably do not fit a source, as sentences.

        They concern images at one end of the range, negative values in a unit that has none, and 0 as nodata, and are
        based on a sample of its pixels, which does not depend on what is read later.
        """
        return self.suited_to(source)._concerns(source)

    def _concerns(self, source: RasterSource) -> list[str]:
        bands = self.choose(source)
        zeros = pixels = known = impossible = 0
        ends = np.zeros(2)  # pixels at the low and at the high end; each channel counts a third
        for window in sample_windows(*source.grid.shape):
            stored, of_file = source.read(bands, window)
            image, valid = self._finish(*self._values(source, bands, window))
            negative = (stored < 0).any(axis=2) & ~valid & (True if of_file is None else of_file.all(axis=2))
            impossible += int(negative.sum())
            known += int((negative | valid).sum())
            zeros += int(((stored == 0).all(axis=2) & valid).sum())
            pixels += int(valid.sum())
            shown = image[valid]
            ends += [(shown <= 0).mean(axis=1).sum(), (shown >= 255).mean(axis=1).sum()]
        found = []
        range_text, range_keys = self._range_words
        if self.nodata is None and impossible > ZEROS * known:
            found.append(
                f"{impossible / known:.0%} of the {self.kind} pixels of {source.name} are negative and count as "
                f"no data; check {range_keys}."
            )
        if not pixels:
            return found
        if self.nodata is None and source.is_declared_valid and zeros > ZEROS * pixels:
            found.append(
                f"{zeros / pixels:.0%} of the {self.kind} pixels of {source.name} are exactly 0, and the file declares "
                f"no nodata value; if they mean no data, say so ({self.key}.NODATA 0, or "
                f"--{self.kind.lower()}-nodata 0 where tiles are cut)."
            )
        for share, end, which in ((ends[0] / pixels, 0, "low"), (ends[1] / pixels, 255, "high")):
            if share > AT_ONE_END:
                found.append(
                    f"{share:.0%} of the {self.kind} values of {source.name} become {end}, the {which} end of "
                    f"{range_text}; check {range_keys}."
                )
        return found

    @property
    def _range_words(self) -> tuple[str, str]:
        """The range and the keys to check, as messages name them."""
        raise NotImplementedError

    def _choose(self, source: RasterSource) -> list[int]:
        """As :meth:`choose`, whatever the bands' types."""
        raise NotImplementedError

    def _with_unit(self, unit: str, name: str) -> "ImageReader":
        """The reader for a file of that name with values in a unit; "" for that of the settings."""
        raise NotImplementedError

    def _check_types(self, types: Sequence[str], name: str) -> None:
        """Check that the settings fit the NumPy types of the bands."""
        raise NotImplementedError

    def _check_bands(self, default: Sequence[int], count: int, name: str) -> list[int]:
        """The 1-based bands to read, checked against a raster of ``count`` bands."""
        bands = list(self.bands or default)
        if absent := [band for band in bands if not 1 <= band <= count]:
            raise DataError(f"{name} has no band {absent[0]}, only bands 1 to {count}; correct {self.key}.BANDS.")
        return bands

    def _values(self, source: RasterSource, bands: list[int], window: Window | None) -> tuple[np.ndarray, np.ndarray]:
        """Values in the unit of the settings, float32 (H, W, n), or uint8 if they are 0..255 already, and valid."""
        raise NotImplementedError

    def _values_of_array(self, array: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Like :meth:`_values`, for an array."""
        raise NotImplementedError

    def _to_mean(self, values: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Values in a unit in which they can be averaged."""
        return values

    def _from_mean(self, values: np.ndarray) -> np.ndarray:
        return values

    def _finish(self, values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The image of values in the unit of the settings."""
        raise NotImplementedError

    def _take(self, array: np.ndarray, name: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
        """A copy (H, W, n) of the bands to read from an array (H, W, C), and where they are valid."""
        count = array.shape[2]
        bands = self._check_bands(range(1, min(count, 3) + 1), count, name)
        chosen = array[..., [band - 1 for band in bands]]
        values, valid = np.ma.getdata(chosen), ~np.ma.getmaskarray(chosen)
        if self.nodata is not None:
            valid &= values != self.nodata
        with np.errstate(over="ignore"):  # beyond float32 is infinite, so without data
            return values.astype(dtype, copy=False), valid


def check_range(value_range: Sequence[float], key: str) -> None:
    """Check that a range is two numbers, the first below the second.

    Raises:
        ConfigError: It is not.
    """
    numbers = len(value_range) == 2 and all(isinstance(value, int | float) for value in value_range)
    if not numbers or not value_range[0] < value_range[1]:
        raise ConfigError(f"{key} is {list(value_range)}; give [low, high] with low below high.")


def stretch(values: np.ndarray, valid: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Map the range [low, high] of each band, (n, 2), to 0..255 and clip; invalid pixels become 0."""
    low = np.float32(ranges[:, 0])
    image = np.where(valid[..., np.newaxis], values, low).astype(np.float32, copy=False)
    image -= low
    image *= np.float32(255.0 / (ranges[:, 1] - ranges[:, 0]))
    return np.clip(image, 0.0, 255.0, out=image)
