"""SAR images as the encoders take them: float32, 0..255, three channels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster.image_reader import ImageReader, Window, check_range, stretch
from mm_ovseg.raster.placement import Placement
from mm_ovseg.raster.source import Paths, RasterSource
from mm_ovseg.raster.units import SAR_UNITS, SARUnit, decibel_ranges, sar_unit

__all__ = ["SARReader", "count_polarisations", "read_sar", "three_channels"]

ROUNDING = 0.51  # of 0..255, in a mean that was written as an integer
MAX_POWER = np.float32(1e37)  # so that sums fit in float32
MAX_DECIBELS = 300.0  # so that power fits in float32


@dataclass(frozen=True, kw_only=True)
class SARReader(ImageReader):
    """Reads SAR images as the three channels that the encoders take.

    One band gives three equal channels; two (a, b) give a, b and their mean; three are used as they are. SAR is
    resampled in linear power.

    Attributes:
        bands: One to three polarisations; empty for the file's first three at most.
        scale: Unit of the values in files that declare none, a key of :data:`~mm_ovseg.raster.units.SAR_UNITS`.
        value_range: (low, high) in dB, or one such pair per band; not used for ``"8bit"``.
        nodata: Value that, in any of the bands, means no data.

    Raises:
        ConfigError: The unit is unknown, too many bands are given, or a range is empty.
    """

    kind = "SAR"
    key = "INPUT.SAR"

    value_range: tuple = (-25.0, 0.0)
    scale: str = "8bit"

    def __post_init__(self) -> None:
        super().__post_init__()
        sar_unit(self.scale)
        if len(self.bands) > 3:
            raise ConfigError(f"INPUT.SAR.BANDS is {list(self.bands)}; give one to three 1-based bands, or [].")
        nested = len(self.value_range) > 0 and all(isinstance(part, list | tuple) for part in self.value_range)
        for part in self.value_range if nested else [self.value_range]:
            check_range(part, "INPUT.SAR.RANGE")
        ranges = tuple(tuple(part) if nested else part for part in self.value_range)
        object.__setattr__(self, "value_range", ranges)
        object.__setattr__(self, "scale", self.scale.lower())

    @property
    def unit(self) -> SARUnit:
        """The unit of the files' values."""
        return sar_unit(self.scale)

    def suited_to(self, source: RasterSource) -> "SARReader":
        """As :meth:`ImageReader.suited_to`; the names of bands of floats count if the setting is left at "8bit"."""
        reader = super().suited_to(source)
        bands = [source.bands[band - 1] for band in self._choose(source)]
        if reader.scale == "8bit" and all(band.dtype.startswith("float") for band in bands):
            units = {band.named_unit for band in bands}
            return reader._with_unit(units.pop() if len(units) == 1 else "", source.name)
        return reader

    def _values_of_array(self, array: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        if array.ndim not in (2, 3):
            raise DataError(f"{name} has shape {array.shape}; give (height, width) or (height, width, bands).")
        values, known = self._take(array.reshape(*array.shape[:2], -1), name, "float32")
        return values, (known & self.unit.measured(values)).all(axis=2)

    def _with_unit(self, unit: str, name: str) -> "SARReader":
        return replace(self, scale=unit) if unit in SAR_UNITS else self

    def _choose(self, source: RasterSource) -> list[int]:
        """The one to three bands to read."""
        return self._check_bands(source.data_bands()[:3], len(source.bands), source.name)

    @property
    def _range_words(self) -> tuple[str, str]:
        if self.unit.to_decibels is None:
            return "8 bits", "the file"
        return f"INPUT.SAR.RANGE {list(self.value_range)} dB", "INPUT.SAR.SCALE and INPUT.SAR.RANGE"

    def _check_types(self, types: Sequence[str], name: str) -> None:
        if any(of_band.startswith("complex") for of_band in types):
            raise DataError(f"{name} holds complex values; write their amplitude and set INPUT.SAR.SCALE to amplitude.")
        if self.scale == "8bit" and (other_types := [dtype for dtype in types if dtype != "uint8"]):
            raise DataError(
                f"{name} holds {other_types[0]} values, not 8-bit ones; set INPUT.SAR.SCALE to what they are (power, "
                "amplitude or db) and INPUT.SAR.RANGE to the dB that become 0 and 255."
            )

    def _values(self, source: RasterSource, bands: list[int], window: Window | None) -> tuple[np.ndarray, np.ndarray]:
        values, known = source.read(bands, window, "float32")
        valid = np.ones(values.shape[:2], dtype=bool) if known is None else known.all(axis=2)
        if self.nodata is not None:
            valid &= (values != np.float32(self.nodata)).all(axis=2)
        source.make_zero_black(values, bands)
        if self.unit.to_decibels is None:  # uint8 in the file
            colors = source.palette_colors(values, bands)
            return (values if colors is None else colors.astype(np.float32)), valid
        source.scale(values, bands)
        return values, valid & self.unit.measured(values).all(axis=2)

    def _resample(self, source: RasterSource, placement: Placement, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`ImageReader.read_onto`.

        Raises:
            ConfigError: The range is of values that are not dB, so that they cannot be averaged in power.
        """
        if self.scale == "db" and np.abs(self.value_range).max() > MAX_DECIBELS:
            raise ConfigError(
                f"INPUT.SAR.RANGE {list(self.value_range)} is not in dB, so {source.name} cannot be resampled; let the "
                "file declare how its values become dB (such as gdal_edit -scale 0.01), and give a range in dB."
            )
        return super()._resample(source, placement, window)

    def _to_mean(self, values: np.ndarray, valid: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.minimum(self.unit.to_power(np.where(valid[..., np.newaxis], values, np.float32(1))), MAX_POWER)

    def _from_mean(self, values: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):  # 0 where not valid
            return self.unit.from_power(values)

    def _finish(self, values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sar = values
        if self.unit.to_decibels is not None:
            sar = self.unit.to_decibels(np.where(valid[..., np.newaxis], sar, np.float32(1)))
            sar = stretch(sar, valid, decibel_ranges(self.value_range, sar.shape[2]))
        elif not valid.all():
            sar = np.where(valid[..., np.newaxis], sar, np.float32(0))
        return np.ascontiguousarray(three_channels(sar)), valid


def read_sar(
    path: Paths, window: Window | None = None, *, any_format: bool = False, **settings: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Read a SAR image from a file, or from several that provide its bands; see :class:`SARReader`.

    Returns:
        sar: float32 (H, W, 3), 0..255; 0 where not valid.
        valid: bool (H, W).
    """
    return SARReader(**settings).read_file(path, window, any_format=any_format)


def three_channels(bands: np.ndarray) -> np.ndarray:
    """One to three polarisations, float (H, W, n), as the three channels of the encoders; see :class:`SARReader`."""
    if bands.shape[2] == 1:
        return np.repeat(bands, 3, axis=2)
    return np.concatenate([bands, bands.mean(axis=2, keepdims=True)], axis=2) if bands.shape[2] == 2 else bands


def count_polarisations(sar_image: np.ndarray) -> int:
    """The number of polarisations from which :func:`three_channels` made the channels (H, W, 3)."""
    first, second, third = np.moveaxis(sar_image, 2, 0)
    if np.array_equal(first, second) and np.array_equal(first, third):
        return 1
    return 2 if np.abs(third - (first + second) / 2).max() <= ROUNDING else 3
