"""What decides about the pixels of prepared pairs, and what of it is measured on the archive."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mm_ovseg.data.preparation.pairing import TilePair
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import SAR_UNITS, RasterInfo, read_sar

__all__ = ["AUTO_SCALE", "PairSettings", "check_tile", "settle_range", "settle_scale"]

AUTO_SCALE = "auto"
# One dB a step, and wider than SAR values in dB, of whatever calibration, go.
_WHOLE_RANGE = (-127.5, 127.5)
_MEASURED_TILES = 32
_MEASURED_STEP = 5  # every fifth row and column
_MEASURED_PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True)
class PairSettings:
    """How a tile becomes 8-bit pairs.

    Attributes:
        size: Largest side of a pair in pixels; larger tiles are cut. 0: tiles stay whole.
        overlap: Pixels that neighbouring windows share at least.
        rgb_range: (low, high) that become 0 and 255 in files that are not 8-bit.
        rgb_nodata: Value that, in all three channels at once, means no data; None for what the file declares.
        sar_bands: One to three 1-based bands.
        sar_scale: One of ``SAR_UNITS``, or ``"auto"``: 8-bit files as they are, all others as amplitude.
        sar_range: (low, high) in dB that become 0 and 255; empty to measure it, once for all tiles.
        sar_nodata: Value that, in any of the bands, means no data; None for what the file declares.
        min_valid: Share of a window's pixels, 0..1, at which RGB and SAR must both have data.
    """

    size: int = 512
    overlap: int = 0
    rgb_range: tuple[float, ...] = (0.0, 2047.0)
    rgb_nodata: float | None = None
    sar_bands: tuple[int, ...] = (1,)
    sar_scale: str = AUTO_SCALE
    sar_range: tuple[float, ...] = ()
    sar_nodata: float | None = None
    min_valid: float = 0.5

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: One is out of range; the message names it as the command lines do.
        """
        if self.size < 0:
            raise ConfigError(f"--size is {self.size}; give a number of pixels, or 0 for whole tiles.")
        if self.overlap < 0 or (self.size and self.overlap >= self.size):
            raise ConfigError(f"--overlap is {self.overlap}; give 0 or more, and less than --size ({self.size}).")
        if not 0 <= self.min_valid <= 1:
            raise ConfigError(f"--min-valid is {self.min_valid}; give a share from 0 to 1.")
        if self.sar_scale not in (AUTO_SCALE, *SAR_UNITS):
            raise ConfigError(f"--sar-scale is '{self.sar_scale}'; choose {AUTO_SCALE}, {', '.join(SAR_UNITS)}.")
        if not 1 <= len(self.sar_bands) <= 3 or min(self.sar_bands) < 1:
            raise ConfigError(f"The SAR bands are {list(self.sar_bands)}; give one to three, from 1.")
        for option, low_high in (("--rgb-range", self.rgb_range), ("--sar-range", self.sar_range)):
            if low_high and not low_high[0] < low_high[1]:
                raise ConfigError(f"{option} is {low_high[0]:g} {low_high[1]:g}; the first must be below the second.")


def settle_scale(settings: PairSettings, sar: Sequence[RasterInfo]) -> PairSettings:
    """Replace the scale "auto" by what the SAR files of the archive hold, by their type."""
    if settings.sar_scale == AUTO_SCALE:
        is_8bit = all(set(info.dtypes) == {"uint8"} for info in sar)
        settings = replace(settings, sar_scale="8bit" if is_8bit else "amplitude")
    return settings


def settle_range(settings: PairSettings, tiles: Sequence[TilePair]) -> PairSettings:
    """Measure the range in dB where none is given, once for the whole archive.

    It goes from the 1st to the 99th percentile, in whole dB outwards, over all chosen bands of up to 32 tiles that lie
    evenly among ``tiles``: no tile decides about itself, and whoever has the same tiles gets the same.

    Args:
        settings: With a settled scale.
        tiles: All tiles.

    Returns:
        Settings with a ``sar_range``, which is empty for 8-bit files: they are taken as they are.

    Raises:
        DataError: No tile has SAR data to measure.
    """
    if settings.sar_scale == "8bit":
        return replace(settings, sar_range=())
    return settings if settings.sar_range else replace(settings, sar_range=_measure_range(settings, tiles))


def check_tile(pair: TilePair, rgb: RasterInfo, sar: RasterInfo, settings: PairSettings) -> None:
    """Check that the files of a tile hold what the settings say.

    Raises:
        DataError: They do not; the message names the file and the option.
    """
    if rgb.count < 3:
        raise DataError(f"{pair.rgb} has {rgb.count} band(s); an RGB tile has three.")
    if sar.count < max(settings.sar_bands):
        raise DataError(f"{pair.sar} has no band {max(settings.sar_bands)}, but {sar.count}; choose other SAR bands.")
    if settings.sar_scale == "8bit" and set(sar.dtypes) != {"uint8"}:
        raise DataError(f"{pair.sar} holds {sar.dtypes[0]} values, not 8-bit ones; say what they are with --sar-scale.")


def _measure_range(settings: PairSettings, tiles: Sequence[TilePair]) -> tuple[float, float]:
    chosen = np.unique(np.linspace(0, len(tiles) - 1, min(_MEASURED_TILES, len(tiles))).round().astype(int))
    samples = []
    for index in chosen:
        try:
            sar, valid = read_sar(
                tiles[index].sar,
                scale=settings.sar_scale,
                value_range=_WHOLE_RANGE,
                bands=settings.sar_bands,
                nodata=settings.sar_nodata,
            )
        except DataError:
            continue  # named and counted when its turn comes
        sar = sar[::_MEASURED_STEP, ::_MEASURED_STEP, : len(settings.sar_bands)]
        samples.append(sar[valid[::_MEASURED_STEP, ::_MEASURED_STEP]].ravel() + _WHOLE_RANGE[0])
    values = np.concatenate(samples) if samples else np.empty(0)
    if not values.size:
        raise DataError(
            f"{len(chosen)} SAR tiles were looked at for their range in dB and none has data; give --sar-range, or "
            "check --sar-nodata and --sar-scale."
        )
    low, high = np.percentile(values, _MEASURED_PERCENTILES)
    low, high = math.floor(low), math.ceil(high)
    return float(low), float(max(high, low + 1))
