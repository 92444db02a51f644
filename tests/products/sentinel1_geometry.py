"""A radar on a circular orbit: where each pixel of its image is, from zero-Doppler geometry alone."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.polynomial import polynomial
from pyproj import Transformer

EARTH_RATE, GRAVITY = 7.2921150e-5, 3.986004418e14  # rad/s, m³/s²
SPEED_OF_LIGHT = 299_792_458.0
ORBIT_RADIUS, INCLINATION = 7_071_000.0, np.radians(98.18)
NEAR_RANGE = 800_000.0  # metres from the satellite to the first sample
TO_DEGREES = Transformer.from_crs("EPSG:4978", "EPSG:4979", always_xy=True)


@dataclass(frozen=True)
class Geometry:
    """The geometry of an image.

    Attributes:
        lines, samples: Size of the image.
        spacing: Metres between pixels on the ground.
        argument: Degrees from the equator along the orbit, at the first line.
        node: Degrees of longitude where the orbit crosses the equator northwards, at the first line.
    """

    lines: int
    samples: int
    spacing: float = 10.0
    argument: float = 45.0
    node: float = 20.0
    rate: float = field(default=float(np.sqrt(GRAVITY / ORBIT_RADIUS**3)), init=False)

    @property
    def interval(self) -> float:
        """Seconds between lines; the ground moves 6.8 km a second under the satellite."""
        return self.spacing / 6800.0

    def satellite(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities (..., 3) in the Earth-fixed frame, in seconds after the first line."""
        angle = np.radians(self.argument) + self.rate * times
        turn = np.radians(self.node) - EARTH_RATE * times
        in_plane = np.stack([np.cos(angle), np.sin(angle) * np.cos(INCLINATION), np.sin(angle) * np.sin(INCLINATION)])
        along = np.stack([-np.sin(angle), np.cos(angle) * np.cos(INCLINATION), np.cos(angle) * np.sin(INCLINATION)])
        position, velocity = (_turned(vector, turn) for vector in (ORBIT_RADIUS * in_plane, ORBIT_RADIUS * along))
        drift = EARTH_RATE * np.stack([position[1], -position[0], np.zeros_like(turn)])
        return np.moveaxis(position, 0, -1), np.moveaxis(self.rate * velocity + drift, 0, -1)

    def origin(self, times: np.ndarray) -> np.ndarray:
        """Slant range of the first sample, which drifts with time."""
        return NEAR_RANGE + 20.0 * np.asarray(times)

    @cached_property
    def coefficients(self) -> np.ndarray:
        """Of the polynomial from slant range beyond the origin to ground range."""
        slant = np.linspace(0, 220_000, 200)
        return np.r_[0.0, polynomial.polyfit(slant, _ground_range(slant) / slant.clip(1), 5, w=slant)]

    def slant_range(self, lines: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Slant range of the centres of pixels."""
        wanted, slant = pixels * self.spacing, pixels * self.spacing * 0.6
        slope = polynomial.polyder(self.coefficients)
        for _ in range(20):
            slant = slant - (polynomial.polyval(slant, self.coefficients) - wanted) / polynomial.polyval(slant, slope)
        return slant + self.origin(lines * self.interval)

    def ground(self, lines, pixels, height=0.0) -> tuple[np.ndarray, np.ndarray]:
        """Longitudes and latitudes of pixels, counted from 0 at the centre of the first; of any shape.

        Args:
            lines, pixels: Places in the image; need not be whole.
            height: Metres above the ellipsoid.
        """
        lines, pixels = np.broadcast_arrays(np.asarray(lines, float), np.asarray(pixels, float))
        position, velocity = self.satellite(lines * self.interval)
        ahead = velocity / np.linalg.norm(velocity, axis=-1, keepdims=True)
        down = -position + (position * ahead).sum(-1, keepdims=True) * ahead
        down /= np.linalg.norm(down, axis=-1, keepdims=True)
        right = np.cross(down, ahead)
        slant = self.slant_range(lines, pixels)[..., np.newaxis]

        def place(angle):
            look = np.cos(angle)[..., np.newaxis] * down + np.sin(angle)[..., np.newaxis] * right
            return TO_DEGREES.transform(*np.moveaxis(position + slant * look, -1, 0))

        before, after = np.full(lines.shape, np.radians(30)), np.full(lines.shape, np.radians(35))
        off = place(before)[2] - height
        for _ in range(12):  # the secant method
            now = place(after)[2] - height
            step = np.where(now == off, 0, now * (after - before) / np.where(now == off, 1, now - off))
            before, after, off = after, after - step, now
        longitudes, latitudes, _ = place(after)
        return longitudes, latitudes


def _turned(vectors: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Vectors (3, ...) turned around the Earth's axis."""
    x, y, z = vectors
    return np.stack([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y, z])


def _ground_range(slant: np.ndarray) -> np.ndarray:
    """Ground range on a sphere, from that of the first sample."""
    radius = 6_371_000.0

    def angle(distance):
        return np.arccos((ORBIT_RADIUS**2 + radius**2 - distance**2) / (2 * ORBIT_RADIUS * radius))

    return radius * (angle(NEAR_RANGE + slant) - angle(NEAR_RANGE))
