"""Clouds over clear RGB images: the common interface, and the kinds drawn by satellite-cloud-generator.

    clouds = build_clouds("thick")
    cloudy = clouds(image, valid, seed=7)
    cloudy.image, cloudy.opacity

OpenEarthMap-SAR's thin and thick variants were made with that library (Czerkawski and Tachtatzis,
https://github.com/strath-ai/SatelliteCloudGenerator; Apache-2.0). To add your own clouds, register a function
``(cover) -> Clouds`` in :data:`CLOUDS_REGISTRY`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import cv2
import numpy as np
import torch
from fvcore.common.registry import Registry

from mm_ovseg.choices import check_registered
from mm_ovseg.errors import ConfigError
from mm_ovseg.randomness import derived_seed, seeded

__all__ = ["CLOUDS_REGISTRY", "Clouds", "CloudyImage", "GeneratedClouds", "build_clouds", "import_cloud_generator"]

CLOUDS_REGISTRY = Registry("CLOUDS")
CLOUDS_REGISTRY.__doc__ = """
Registry of functions ``(cover)`` that return a :class:`Clouds`; ``cover`` is as in :func:`build_clouds`.
"""

# Side in pixels of the square on which clouds are drawn. The library's noise needs some room, and its clouds scale with
# the square, so a larger one would only cost memory.
MIN_SIDE, MAX_SIDE = 64, 2048
# Side in pixels of OpenEarthMap's tiles. The library misaligns the channels by a fixed number of pixels, which in small
# images would turn clouds into rainbows.
ALIGNED_SIDE = 1024
COVERED = 0.1  # share of the core's opacity above which a pixel counts as cloudy
# The library's own depth and shadow parameters.
SHADOW_DEPTH, SHADOW_THRESHOLD, SHADOW_DECAY = (0.3, 0.6), 0.4, 1.5
# In pixels; the last one blurs the ground under opaque cloud.
BLUR_DEVIATIONS = (0.5, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class CloudyImage:
    """An image under clouds.

    Attributes:
        image: uint8 (H, W, 3); unchanged where it has no data, cloud or shadow.
        opacity: float32 (H, W), 0 (clear) to 1 (the ground is invisible), including haze; 0 without data.
        shadow: float32 (H, W), loss of light in the clouds' shadow, 0 to 1; 0 without data.
    """

    image: np.ndarray
    opacity: np.ndarray
    shadow: np.ndarray


class Clouds(Protocol):
    """Draws clouds of one kind over an image."""

    def __call__(self, image: np.ndarray, valid: np.ndarray, seed: int) -> CloudyImage:
        """Draw clouds. Deterministic to the bit, whatever was drawn before and for any number of threads.

        Args:
            image: RGB, uint8 (H, W, 3); not modified.
            valid: bool (H, W), where the image has data.
            seed: 0..2^32 - 1. The global random states of Python, NumPy and PyTorch are not changed.
        """
        ...


def build_clouds(kind: str, cover: Sequence[float] = ()) -> Clouds:
    """The clouds of a kind.

    Args:
        kind: ``"thin"``, ``"thick"`` or ``"varied"``, drawn by satellite-cloud-generator; ``"fractal"``, which
            needs no library; or another name in :data:`CLOUDS_REGISTRY`.
        cover: (low, high), within 0..1: the range from which the share of ground under clouds is drawn for each image;
            empty for the kind's default.

    Raises:
        ConfigError: The kind is unknown, ``cover`` is not a range, or the library is not installed.
    """
    check_registered("The kind of clouds", kind, CLOUDS_REGISTRY)
    if len(cover) not in (0, 2) or (len(cover) == 2 and not 0 <= cover[0] <= cover[1] <= 1):
        raise ConfigError(f"The cloud cover is {list(cover)}; give [low, high] with 0 <= low <= high <= 1, or [].")
    return CLOUDS_REGISTRY.get(kind)(tuple(cover))


def import_cloud_generator() -> ModuleType:
    """The optional satellite-cloud-generator; a :class:`ConfigError` if it is not installed."""
    try:
        import satellite_cloud_generator
    except ImportError as error:
        raise ConfigError(
            f"Thin, thick and varied clouds need satellite-cloud-generator ({error}); run: "
            "pip install 'mm_ovseg[clouds]', or choose clouds of the kind 'fractal'."
        ) from error
    return satellite_cloud_generator


class GeneratedClouds:
    """Clouds of satellite-cloud-generator, drawn with a random one of several presets.

    The noise, levels and colours are the library's, with four differences: random states are our own; the ground under
    cloud is blurred by mixing a few fixed widths, since a kernel per pixel takes 120 times the memory of the image;
    channels are misaligned in proportion to the image size, like the clouds; and non-square images are cropped from a
    square, the only shape of the library's noise.

    Args:
        presets: Names of the library's presets, such as ``"THIN_CONFIG"``.
        cover: As in :func:`build_clouds`; empty for the presets' own thresholds.

    Raises:
        ConfigError: The library is not installed.
    """

    def __init__(self, presets: Sequence[str], cover: Sequence[float] = ()) -> None:
        self.presets = tuple(presets)
        self.cover = tuple(cover)
        import_cloud_generator()

    def __call__(self, image: np.ndarray, valid: np.ndarray, seed: int) -> CloudyImage:
        """Draw clouds; see :class:`Clouds`."""
        if not valid.any():
            nothing = np.zeros(valid.shape, np.float32)
            return CloudyImage(image.copy(), nothing, nothing.copy())
        rng = np.random.default_rng(seed)
        library = import_cloud_generator()
        preset = getattr(library, self.presets[rng.integers(len(self.presets))])
        # The rounding of sums over pixels depends on the number of threads.
        with _one_thread(), torch.no_grad():
            shadow = self._draw_shadow(library, preset, rng, valid.shape, derived_seed(seed, "shadow"))
            cloud = self._draw_cloud(library, preset, rng, valid.shape, derived_seed(seed, "cloud"))
            ground = image / np.float32(255)
            ground[~valid] = ground[valid].mean(axis=0)  # so that they do not affect the clouds' colour and the blur
            shaded = library.mix(_tensor(ground), _tensor(shadow), blur_scaling=0.0, cloud_color=False, invert=True)
            opacity = cloud.mean(axis=2)
            blurred = _blur(_array(shaded), opacity)
            mixed = library.mix(_tensor(blurred), _tensor(cloud), blur_scaling=0.0, cloud_color=preset["cloud_color"])
        cloudy = np.clip(np.rint(_array(mixed) * 255), 0, 255).astype(np.uint8)
        return CloudyImage(
            np.where(valid[..., None], cloudy, image),
            np.where(valid, opacity, np.float32(0)),
            np.where(valid, shadow[..., 0], np.float32(0)),
        )

    def _draw_shadow(
        self, library: ModuleType, preset: dict, rng: np.random.Generator, shape: tuple[int, int], seed: int
    ) -> np.ndarray:
        """The shadow, (H, W, 1). As in the library, its shape is not that of the clouds, and fog has none."""
        depth, locality = _draw(rng, SHADOW_DEPTH), _draw_integer(rng, preset["locality_degree"])
        if np.min(preset["min_lvl"]) > 0:
            return np.zeros((*shape, 1), np.float32)
        return _draw_levels(
            library,
            shape,
            seed,
            channels=1,
            max_lvl=depth,
            min_lvl=0.0,
            clear_threshold=SHADOW_THRESHOLD,
            decay_factor=SHADOW_DECAY,
            locality_degree=max(locality - 1, 1),
            channel_offset=0,
            channel_magnitude_shift=0.0,
        )

    def _draw_cloud(
        self, library: ModuleType, preset: dict, rng: np.random.Generator, shape: tuple[int, int], seed: int
    ) -> np.ndarray:
        """The opacity in each channel, (H, W, 3), 0..1."""
        haze, core = _draw(rng, preset["min_lvl"]), _draw(rng, preset["max_lvl"])
        decay, locality = _draw(rng, preset["decay_factor"]), _draw_integer(rng, preset["locality_degree"])
        threshold = _draw(rng, preset["clear_threshold"])
        if self.cover:
            threshold, locality = _reach_cover(library, shape, seed, _draw(rng, self.cover), decay, locality)
        return _draw_levels(
            library,
            shape,
            seed,
            channels=3,
            max_lvl=max(haze, core),
            min_lvl=haze,
            clear_threshold=threshold,
            decay_factor=decay,
            locality_degree=locality,
            channel_offset=round(preset["channel_offset"] * _canvas(shape)[0] / ALIGNED_SIDE),
        )


@CLOUDS_REGISTRY.register()
def thin(cover: Sequence[float] = ()) -> GeneratedClouds:
    """Translucent clouds with cores of 0.4 to 0.7 and a little haze."""
    return GeneratedClouds(["THIN_CONFIG"], cover)


@CLOUDS_REGISTRY.register()
def thick(cover: Sequence[float] = ()) -> GeneratedClouds:
    """Clouds with opaque cores, either large or smaller and scattered."""
    return GeneratedClouds(["BIG_CONFIG", "LOCAL_CONFIG"], cover)


@CLOUDS_REGISTRY.register()
def varied(cover: Sequence[float] = ()) -> GeneratedClouds:
    """Randomly thin, thick and large, thick and scattered, foggy, or anything in between."""
    return GeneratedClouds(["THIN_CONFIG", "BIG_CONFIG", "LOCAL_CONFIG", "FOG_CONFIG", "WIDE_CONFIG"], cover)


def _draw(rng: np.random.Generator, low_high: float | Sequence[float]) -> float:
    """A given number, or a random one between two."""
    low, high = np.broadcast_to(low_high, 2)
    return float(rng.uniform(low, high))


def _draw_integer(rng: np.random.Generator, low_high: int | Sequence[int]) -> int:
    low, high = np.broadcast_to(low_high, 2)
    return int(rng.integers(low, high, endpoint=True))


def _canvas(shape: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """Side of the square on which clouds for an image (H, W) are drawn, and the size (H, W) of the part to crop."""
    longest = max(shape)
    side = min(max(longest, MIN_SIDE), MAX_SIDE)
    shrink = min(side / longest, 1.0)
    return side, (max(round(shape[0] * shrink), 1), max(round(shape[1] * shrink), 1))


def _draw_levels(
    library: ModuleType, shape: tuple[int, int], seed: int, *, channels: int, **arguments: float
) -> np.ndarray:
    """The library's noise with these ``arguments``, float32 (H, W, channels), 0..1."""
    side, (height, width) = _canvas(shape)
    with seeded(seed):
        _, levels = library.add_cloud(
            torch.zeros(1, channels, side, side), **arguments, blur_scaling=0.0, cloud_color=False, return_cloud=True
        )
    cut = np.ascontiguousarray(_array(levels)[:height, :width])
    if (height, width) != shape:
        cut = cv2.resize(cut, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return cut.reshape(*shape, channels)  # OpenCV drops a single channel


def _reach_cover(
    library: ModuleType, shape: tuple[int, int], seed: int, cover: float, decay: float, locality: int
) -> tuple[float, int]:
    """The ``clear_threshold`` and ``locality_degree`` with which the clouds of this seed cover a share of the image.

    The degree is the number of noise fields that are multiplied: more of them give more scattered clouds, which can
    cover less. It is lowered from ``locality`` as far as needed.
    """
    side, (height, width) = _canvas(shape)
    with seeded(seed):  # the noise that the library is going to draw
        layers = [library.generate_perlin(shape=(side, side), decay_factor=decay)[0] for _ in range(locality)]
    layers = [(layer - layer.min()) / (layer.max() - layer.min()) for layer in layers]
    threshold = 0.0
    while layers:
        noise = torch.stack(layers).prod(dim=0)
        peak, edge = float(noise.max()), float(np.quantile(noise[:height, :width].numpy(), 1 - cover))
        # With it, (edge - threshold) / (peak - threshold) is COVERED.
        threshold = (edge - COVERED * peak) / (1 - COVERED)
        if threshold >= 0:
            break
        layers.pop()
    return max(threshold, 0.0), max(len(layers), 1)


def _blur(image: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Blur an image (H, W, 3) by twice its opacity (H, W) in pixels, like ground seen through a cloud."""
    levels = len(BLUR_DEVIATIONS)
    weights = opacity[..., None] * np.float32(levels)
    result, sharper = image.copy(), image
    for level, deviation in enumerate(BLUR_DEVIATIONS):
        softer = cv2.GaussianBlur(image, (0, 0), deviation, borderType=cv2.BORDER_REPLICATE)
        result += np.clip(weights - np.float32(level), 0, 1) * (softer - sharper)
        sharper = softer
    return result


def _tensor(image: np.ndarray) -> torch.Tensor:
    """Convert (H, W, channels) to (1, channels, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


def _array(image: torch.Tensor) -> np.ndarray:
    """Convert (1, channels, H, W) to (H, W, channels)."""
    return image[0].permute(1, 2, 0).numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
