"""RGB images as the encoders take them: uint8, 0..255."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster.band import Band
from mm_ovseg.raster.image_reader import ImageReader, Window, check_range, stretch
from mm_ovseg.raster.source import Paths, RasterSource
from mm_ovseg.raster.units import REFLECTANCE

__all__ = ["REFLECTANCE_RANGE", "RGBReader", "read_rgb"]

# The curve from reflectance to 0..255, the same for all sensors, levels and tiles: linear, cut at both ends.
REFLECTANCE_RANGE = (0.0, 0.3)
COLORS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
MAX_REFLECTANCE = 2.0  # of a range that can be meant; snow and sunlit clouds exceed 1


@dataclass(frozen=True, kw_only=True)
class RGBReader(ImageReader):
    """Reads RGB images. A single grey band gives three equal channels, a palette its colours.

    Attributes:
        bands: Red, green and blue, 1-based; empty for those with these colour interpretations, or else the first three.
            Where a file declares them, and reflectance, they cannot be in another order.
        value_range: (low, high) in the file's units, with its scale and offset applied; empty for 8-bit bands. 8-bit
            bands that cannot reach ``high`` are used as they are. Bands that declare reflectance have
            :data:`REFLECTANCE_RANGE` if it is empty.
        nodata: Value that means no data where all channels have it.

    Raises:
        ConfigError: There are not three bands, or the range is empty.
    """

    kind = "RGB"
    key = "INPUT.RGB"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.bands) not in (0, 3):
            raise ConfigError(
                f"INPUT.RGB.BANDS is {list(self.bands)}; give three 1-based bands (red, green, blue), or []."
            )
        if self.value_range:
            check_range(self.value_range, "INPUT.RGB.RANGE")

    def _values_of_array(self, array: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        if array.ndim != 3 or (not self.bands and array.shape[2] != 3):
            raise DataError(
                f"{name} has shape {array.shape}; give (height, width, 3), red, green and blue, or set INPUT.RGB.BANDS "
                "to three bands of (height, width, bands)."
            )
        values, known = self._take(array, name, "float32" if self.value_range else "uint8")
        is_8bit = self._is_8bit(array.dtype.name)
        valid = self._combine(known, [None if is_8bit else self.nodata] * values.shape[2]) & _all_finite(values)
        return (self._of_8bit(values) if is_8bit else values), valid

    def _with_unit(self, unit: str, name: str) -> "RGBReader":
        if unit != REFLECTANCE:
            return self
        if self.value_range and self.value_range[1] > MAX_REFLECTANCE:
            raise ConfigError(
                f"INPUT.RGB.RANGE is {list(self.value_range)}, but {name} is in reflectance, 0 to 1; leave it out, or "
                f"give a range of reflectance, such as {list(REFLECTANCE_RANGE)}."
            )
        return replace(self, value_range=self.value_range or REFLECTANCE_RANGE)

    def _choose(self, source: RasterSource) -> list[int]:
        """The three bands to read, or a single one."""
        if not self.bands and len(source.paths) > 1 and len(source.data_bands()) != 3:
            raise DataError(
                f"{source.name} has {len(source.data_bands())} bands; give three files of one band each, red, green "
                "and blue, or set INPUT.RGB.BANDS to three of the bands."
            )
        bands = self._check_bands(source.color_bands(), len(source.bands), source.name)
        if len(bands) == 2:
            raise DataError(
                f"{source.name} has two bands, which are not an RGB image; set INPUT.RGB.BANDS to three bands."
            )
        chosen = [source.bands[band - 1] for band in bands]
        is_reordered = sorted(bands) == sorted(source.color_bands()) != bands
        if is_reordered and all(band.unit == REFLECTANCE and band.meaning in COLORS for band in chosen):
            raise ConfigError(
                f"INPUT.RGB.BANDS is {bands}, but {source.name} declares {source.color_bands()} as red, green and "
                "blue; leave it out."
            )
        return bands

    def unread(self, image: np.ndarray, source: RasterSource) -> list[np.ndarray]:
        """The stored values, three arrays (H, W), with which a source would be read as the image, uint8 (H, W, 3)."""
        reader, stored, chosen = self.suited_to(source), [], self.choose(source)
        for channel, number in enumerate(chosen if len(chosen) == 3 else chosen * 3):
            values, band = image[..., channel].astype(np.float64), source.bands[number - 1]
            if reader.value_range and not reader._is_8bit(band.dtype, band.scale, band.offset):
                low, high = reader.value_range
                values = ((low + values * (high - low) / 255) - band.offset) / band.scale
            if (white := source.white_value(number)) is not None:
                values = white - values
            if (dtype := np.dtype(band.dtype)).kind in "iu":
                values = np.clip(np.rint(values), np.iinfo(dtype).min, np.iinfo(dtype).max)
            stored.append(values.astype(dtype))
        return stored

    def smallest_step(self, band: Band) -> float:
        """The difference from which two stored values of a band certainly give different image values."""
        if np.dtype(band.dtype).kind in "iu" or not self.value_range:
            return 1
        return (self.value_range[1] - self.value_range[0]) / 255 / abs(band.scale)

    def _is_8bit(self, dtype: str, scale: float = 1.0, offset: float = 0.0) -> bool:
        """Whether there is a range that a band of 0..255 cannot reach, so meant for other files of the dataset."""
        return bool(self.value_range) and dtype == "uint8" and 255 * scale + offset < self.value_range[1]

    def _of_8bit(self, values: np.ndarray) -> np.ndarray:
        """The values of the range that become 0..255 again, float32."""
        low, high = self.value_range
        return low + np.float32(values) * np.float32((high - low) / 255)

    @property
    def _range_words(self) -> tuple[str, str]:
        if not self.value_range:
            return "8 bits", "the file"
        return f"INPUT.RGB.RANGE {list(self.value_range)}", "INPUT.RGB.RANGE"

    def _check_types(self, types: Sequence[str], name: str) -> None:
        if complex_types := [dtype for dtype in types if dtype.startswith("complex")]:
            raise DataError(f"{name} holds {complex_types[0]} values, which are not an RGB image; give another file.")
        if not self.value_range and (other_types := [dtype for dtype in types if dtype != "uint8"]):
            raise DataError(
                f"{name} holds {other_types[0]} values; set INPUT.RGB.RANGE to the [low, high] that become 0 and 255 "
                "(for Sentinel-2, [0, 3000] before processing baseline 04.00, and [1000, 4000] since)."
            )

    def _values(self, source: RasterSource, bands: list[int], window: Window | None) -> tuple[np.ndarray, np.ndarray]:
        values, unmasked = source.read(bands, window, "float32" if self.value_range else "uint8", nodata=False)
        chosen = [source.bands[band - 1] for band in bands]
        missing = source.is_nodata(values, bands)
        if self.nodata is not None:
            missing = (values == self.nodata) | (False if missing is None else missing)
        valid = np.ones(values.shape[:2], dtype=bool) if unmasked is None else unmasked.all(axis=2)
        if missing is not None:
            valid &= self._combine(~missing, [self._meaning_of_nodata(band) for band in chosen])
        source.make_zero_black(values, bands)
        if chosen[0].dtype == "uint8" and (colors := source.palette_colors(values, bands)) is not None:
            return (self._of_8bit(colors) if self._is_8bit("uint8") else colors), valid
        if self.value_range:
            is_8bit = [self._is_8bit(band.dtype, band.scale, band.offset) for band in chosen]
            of_8bit = self._of_8bit(values[..., is_8bit])
            source.scale(values, bands)
            values[..., is_8bit] = of_8bit
        return values, valid & _all_finite(values)

    def _combine(self, known: np.ndarray, nodata: Sequence[float | None]) -> np.ndarray:
        """Where pixels (H, W, n) are valid by their values: a single channel may hold the nodata value, such as 0 red.

        A nodata value outside of the range, which no measurement can have, counts in each channel by itself.
        """
        impossible = [
            value is not None and bool(self.value_range) and not self.value_range[0] <= value <= self.value_range[1]
            for value in nodata
        ]
        valid = known.any(axis=2)
        return valid & known[..., impossible].all(axis=2) if any(impossible) else valid

    def _meaning_of_nodata(self, band: Band) -> float | None:
        """The nodata value of a band, of the file or the settings, in the units of the range."""
        nodata = self.nodata if band.nodata is None else band.nodata
        if nodata is None or self._is_8bit(band.dtype, band.scale, band.offset):
            return None
        return nodata * band.scale + band.offset

    def _finish(self, values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = stretch(values, valid, np.array([self.value_range])) if self.value_range else values
        if image.dtype != np.uint8:
            image = np.rint(image).astype(np.uint8)
        image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
        if not valid.all():
            image = np.where(valid[..., np.newaxis], image, np.uint8(0))
        return np.ascontiguousarray(image), valid


def read_rgb(
    path: Paths, window: Window | None = None, *, any_format: bool = False, **settings: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Read an RGB image from a file, or from several that provide its bands; see :class:`RGBReader`.

    Returns:
        image: uint8 (H, W, 3), 0..255; 0 where not valid.
        valid: bool (H, W).
    """
    return RGBReader(**settings).read_file(path, window, any_format=any_format)


def _all_finite(values: np.ndarray) -> np.ndarray | bool:
    return np.isfinite(values).all(axis=2) if values.dtype.kind == "f" else True
