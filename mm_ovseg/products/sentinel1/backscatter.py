"""Radiometric calibration of Sentinel-1 images: from digital numbers to backscatter, without the sensor's noise."""

from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from mm_ovseg.products.sentinel1.safe_folder import Annotation, Channel, Xml, check_same_acquisition, read_acquisition

__all__ = ["MIN_POWER", "Calibration"]

# -50 dB: what is darker than the sensor's noise stays a measurement, since a power of 0 would mean no data.
MIN_POWER = 1e-5
# By the processor's version: before 2.90 noise depends on the range alone.
NOISE_VECTORS = (("noiseRangeVector", "noiseRangeLut"), ("noiseVector", "noiseLut"))


class Calibration:
    """Converts the digital numbers of one polarisation to gamma nought, with respect to the ellipsoid.

    That is (DN² - noise) / gamma², at least :data:`MIN_POWER`. The noise is the product's estimate of thermal noise,
    along the range times along the azimuth. Both tables are interpolated linearly along lines and samples.

    Args:
        channel: The files of the polarisation.
        annotation: Its annotation.

    Raises:
        DataError: A table is damaged, incomplete, or of another product.
    """

    def __init__(self, channel: Channel, annotation: Annotation) -> None:
        calibration, noise = Xml(channel.calibration), Xml(channel.noise)
        for xml in (calibration, noise):
            check_same_acquisition(xml.path, read_acquisition(xml), annotation)
            if xml.text("polarisation").upper() != annotation.polarisation:
                raise xml.damaged(f"it is not of {annotation.polarisation}")
        self._gamma = _Table.read(calibration, "calibrationVector", "gamma", annotation.size[0])
        if self._gamma.values.min() <= 0:
            raise calibration.damaged("its gamma is not positive")
        vectors = next((names for names in NOISE_VECTORS if noise.all(names[0])), NOISE_VECTORS[0])
        self._noise = _Table.read(noise, *vectors, annotation.size[0])
        self._blocks = [_Block.read(noise, block, annotation) for block in noise.all("noiseAzimuthVector")]

    def power(self, numbers: np.ndarray, row: int, column: int) -> np.ndarray:
        """Gamma nought in linear power.

        Args:
            numbers: Digital numbers (H, W) of a window.
            row, column: Its first row and column.

        Returns:
            float32 (H, W).
        """
        height, width = numbers.shape
        noise = self._noise.window(row, column, height, width)
        for block in self._blocks:
            block.apply(noise, row, column)
        gamma = self._gamma.window(row, column, height, width)
        power = (np.square(numbers, dtype=np.float32) - noise) / np.square(gamma)
        return np.maximum(power, MIN_POWER, out=power)


@dataclass(frozen=True)
class _Table:
    """Values along lines.

    Attributes:
        lines: (N,) increasing.
        values: float32 (N, samples).
    """

    lines: np.ndarray
    values: np.ndarray

    @classmethod
    def read(cls, xml: Xml, vector: str, name: str, samples: int) -> "_Table":
        """The table of the values called ``name`` in the elements called ``vector``."""
        rows = {}
        for element in xml.all(vector):
            places, values = xml.numbers("pixel", element), xml.numbers(name, element)
            if len(places) != len(values) or (np.diff(places) <= 0).any():
                raise xml.damaged(f"a {vector} has {len(values)} values at {len(places)} pixels, or not in their order")
            rows[xml.number("line", element)] = np.interp(np.arange(samples), places, values).astype(np.float32)
        if not rows:
            raise xml.damaged(f"it has no {vector}")
        lines = sorted(rows)
        return cls(np.array(lines), np.stack([rows[line] for line in lines]))

    def window(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """The values, float32 (height, width), of a window of the image."""
        place = np.interp(np.arange(row, row + height), self.lines, np.arange(len(self.lines)))
        before = np.minimum(place.astype(int), max(len(self.lines) - 2, 0))
        share = (place - before).astype(np.float32)[:, np.newaxis]
        near = self.values[:, column : column + width]
        after = np.minimum(before + 1, len(self.lines) - 1)
        return near[before] * (1 - share) + near[after] * share


@dataclass(frozen=True)
class _Block:
    """How the noise varies along the azimuth in a part of the image.

    Attributes:
        rows, columns: First row and column of the part, and the ones behind its last.
        lines, factors: (N,) places and values.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    lines: np.ndarray
    factors: np.ndarray

    @classmethod
    def read(cls, xml: Xml, element: Element, annotation: Annotation) -> "_Block":
        lines, factors = xml.numbers("line", element), xml.numbers("noiseAzimuthLut", element)
        if len(lines) != len(factors) or (np.diff(lines) <= 0).any():
            raise xml.damaged(
                f"a noiseAzimuthVector has {len(factors)} values at {len(lines)} lines, or not in their order"
            )
        bounds = []
        for axis, length in zip(("RangeSample", "AzimuthLine"), annotation.size, strict=True):
            whole = element.find(f"{{*}}first{axis}") is None  # of products of one swath
            ends = (0, length - 1) if whole else (xml.number(f"{end}{axis}", element) for end in ("first", "last"))
            first, last = map(int, ends)
            bounds.append((first, last + 1))
        return cls(*bounds[::-1], lines, factors)

    def apply(self, noise: np.ndarray, row: int, column: int) -> None:
        """Multiply the noise (H, W) of a window that starts at a row and column, in place."""
        (top, bottom), (left, right) = self.rows, self.columns
        top, bottom = max(top - row, 0), min(bottom - row, noise.shape[0])
        left, right = max(left - column, 0), min(right - column, noise.shape[1])
        if top < bottom and left < right:
            factors = np.interp(np.arange(top, bottom) + row, self.lines, self.factors).astype(np.float32)
            noise[top:bottom, left:right] *= factors[:, np.newaxis]
