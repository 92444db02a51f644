"""Training augmentation of RGB-SAR pairs: shared geometry for RGB, SAR and label, radiometry per image.

In evaluation pairs keep their geometry, are resized, or get the geometry of the released code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from fvcore.transforms.transform import NoOpTransform, PadTransform, Transform
from PIL import Image

from mm_ovseg.choices import check_choice
from mm_ovseg.data.clouds import Clouds, build_clouds
from mm_ovseg.errors import ConfigError
from mm_ovseg.raster import count_polarisations, sar_unit, three_channels

__all__ = [
    "ColorJitter",
    "PadToSize",
    "PairAugmentation",
    "PairSample",
    "RandomClouds",
    "ReleasedGeometry",
    "ResizeShortestSide",
    "Speckle",
    "build_augmentations",
]

FLIPS = {"none": (), "horizontal": ("horizontal",), "vertical": ("vertical",), "both": ("horizontal", "vertical")}
RELEASED_SIDE, RELEASED_PADDING = 384, 128  # pixels, grey value
INVALID = 255  # marks pixels without data while masks are transformed; padding has no data, either


@dataclass
class PairSample:
    """The arrays of a pair or of a window of a scene.

    RGB is uint8 (H, W, 3), SAR float32 (H, W, 3) 0..255, masks are bool and the label is uint8, both (H, W).
    Without RGB, the image is zeros and its mask False everywhere. A pair without SAR has the same for SAR or, if it is
    not for training, None for both.
    """

    image: np.ndarray
    image_valid: np.ndarray
    sar_image: np.ndarray | None
    sar_valid: np.ndarray | None
    sem_seg: np.ndarray | None = None


class PairAugmentation:
    """Augments a pair: geometry once for all arrays, then clouds over RGB, then radiometry of each image."""

    def __init__(
        self,
        geometry: Sequence[T.Augmentation],
        *,
        clouds: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        rgb: Sequence[Callable[[np.ndarray], np.ndarray]] = (),
        sar: Sequence[Callable[[np.ndarray], np.ndarray]] = (),
    ) -> None:
        """Make an augmentation.

        Args:
            geometry: Detectron2 augmentations that move pixels without changing their values.
            clouds: Function from the cropped RGB image, uint8 (H, W, 3), and its valid mask, bool (H, W), to the image
                under clouds; None for clear sky.
            rgb: Functions from the RGB image, uint8 (H, W, 3), to the same.
            sar: Functions from the SAR image, float32 (H, W, 3) 0..255, to the same.
        """
        self.geometry = T.AugmentationList(geometry)
        self.clouds, self.rgb, self.sar = clouds, list(rgb), list(sar)

    def __call__(self, sample: PairSample) -> PairSample:
        """Return the augmented pair; pixels without data stay 0 in the images."""
        aug_input = T.AugInput(sample.image, sem_seg=sample.sem_seg)
        transforms = self.geometry(aug_input)
        image, sar_image, sar_valid = aug_input.image, sample.sar_image, sample.sar_valid
        image_valid = _move_mask(transforms, sample.image_valid)
        if self.clouds is not None:
            image = self.clouds(image, image_valid)
        for change in self.rgb:
            image = change(image)
        if sar_image is not None:
            sar_image = transforms.apply_image(sar_image)
            for change in self.sar:
                sar_image = change(sar_image)
            sar_valid = _move_mask(transforms, sar_valid)
            sar_image = _blank(sar_image, sar_valid)
        return PairSample(_blank(image, image_valid), image_valid, sar_image, sar_valid, aug_input.sem_seg)


class ReleasedGeometry:
    """The geometry of the released code's evaluation, in which SAR does not lie on RGB.

    RGB is resized, its shorter side to 384 pixels; SAR is not. Both are then cut to the top left 384 x 384 pixels, or
    padded to that size with 128 at the right and the bottom. Every pixel counts as valid, padding too.
    """

    def __init__(self, max_size: int) -> None:
        """Take the longest side of the resized RGB image, in pixels, which only very long images reach."""
        self._resize = T.ResizeShortestEdge(RELEASED_SIDE, max_size)

    def __call__(self, sample: PairSample) -> PairSample:
        """Return the pair as the released code would give it to the model, (384, 384, 3) each."""
        resized = self._resize.get_transform(sample.image).apply_image(sample.image)
        valid = np.ones((RELEASED_SIDE, RELEASED_SIDE), bool)
        return PairSample(_cut_or_pad(resized), valid, _cut_or_pad(sample.sar_image), valid)


def build_augmentations(cfg: CfgNode, is_train: bool) -> PairAugmentation | ReleasedGeometry:
    """Build the augmentation of a config.

    Training: random resize of the shorter side, random crop, padding to the crop size, flips; clouds and colour jitter
    of RGB and speckle of SAR if enabled. Testing: resize to ``INPUT.MIN_SIZE_TEST`` unless it is 0, or the geometry of
    the released code for ``INPUT.RELEASED_GEOMETRY``.

    Raises:
        ConfigError: A key of ``INPUT`` has an unknown value, two exclude each other, or the library that draws the
            clouds is not installed.
    """
    if cfg.INPUT.RELEASED_GEOMETRY:
        if is_train:
            raise ConfigError("INPUT.RELEASED_GEOMETRY is on, which is for evaluation only; set it to False to train.")
        if cfg.INPUT.MIN_SIZE_TEST:
            raise ConfigError(
                f"INPUT.MIN_SIZE_TEST is {cfg.INPUT.MIN_SIZE_TEST}, but INPUT.RELEASED_GEOMETRY has its own size; set "
                "one of them to 0 or False."
            )
        return ReleasedGeometry(cfg.INPUT.MAX_SIZE_TEST)
    if not is_train:
        sizes, longest, sampling = (cfg.INPUT.MIN_SIZE_TEST,), cfg.INPUT.MAX_SIZE_TEST, "choice"
        return PairAugmentation([ResizeShortestSide(sizes, longest, sampling)] if sizes[0] else [])
    check_choice("INPUT.RANDOM_FLIP", cfg.INPUT.RANDOM_FLIP, FLIPS)
    geometry: list[T.Augmentation] = [
        ResizeShortestSide(cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING)
    ]
    if cfg.INPUT.CROP.ENABLED:
        if cfg.INPUT.CROP.TYPE != "absolute":
            raise ConfigError(f"INPUT.CROP.TYPE is '{cfg.INPUT.CROP.TYPE}'; only 'absolute' gives equal sizes.")
        height, width = cfg.INPUT.CROP.SIZE
        geometry.append(T.RandomCrop("absolute", (height, width)))
        geometry.append(PadToSize(height, width, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE))
    geometry += [
        T.RandomFlip(horizontal=direction == "horizontal", vertical=direction == "vertical")
        for direction in FLIPS[cfg.INPUT.RANDOM_FLIP]
    ]
    rgb = [ColorJitter()] if cfg.INPUT.COLOR_AUG_SSD else []
    looks = cfg.INPUT.SAR.SPECKLE_LOOKS
    sar = [Speckle(looks, cfg.INPUT.SAR.SCALE, cfg.INPUT.SAR.RANGE)] if looks > 0 else []
    clouds = None
    if cfg.INPUT.CLOUDS.ENABLED:
        clouds = RandomClouds(build_clouds(cfg.INPUT.CLOUDS.KIND, cfg.INPUT.CLOUDS.COVER), cfg.INPUT.CLOUDS.PROBABILITY)
    return PairAugmentation(geometry, clouds=clouds, rgb=rgb, sar=sar)


class ResizeShortestSide(T.ResizeShortestEdge):
    """Detectron2's resize, with the same filter for both images.

    Detectron2 smooths uint8 images when it shrinks them, but not float images, so only SAR would be aliased.
    """

    def __init__(self, short_edge_length: Sequence[int], max_size: int, sample_style: str) -> None:
        """Take Detectron2's arguments, in pixels, and check them."""
        if sample_style not in ("choice", "range") or (sample_style == "range" and len(short_edge_length) != 2):
            raise ConfigError(
                f"INPUT.MIN_SIZE_TRAIN_SAMPLING is '{sample_style}' and MIN_SIZE_TRAIN {tuple(short_edge_length)}; "
                "use 'choice' with any number of sizes, or 'range' with two."
            )
        super().__init__(tuple(short_edge_length), max_size, sample_style)

    def get_transform(self, image: np.ndarray) -> Transform:
        """Draw a size for an image (H, W, channels)."""
        resize = super().get_transform(image)
        if not isinstance(resize, T.ResizeTransform) or (resize.h, resize.w) == (resize.new_h, resize.new_w):
            return NoOpTransform()
        return _SmoothResizeTransform(resize.h, resize.w, resize.new_h, resize.new_w)


class _SmoothResizeTransform(T.ResizeTransform):
    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        if img.dtype != np.float32:
            return np.array(super().apply_image(img, interp))  # a copy: Pillow's own memory is read-only
        size = (self.new_w, self.new_h)
        channels = [Image.fromarray(img[..., index]).resize(size, Image.BILINEAR) for index in range(img.shape[2])]
        return np.stack(channels, axis=2)


class PadToSize(T.Augmentation):
    """Pads at the right and the bottom: images with 0, labels with the ignore value."""

    def __init__(self, height: int, width: int, ignore_label: int) -> None:
        """Take the minimum size of a sample, in pixels."""
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        """The padding of an image (H, W, channels)."""
        height, width = image.shape[:2]
        bottom, right = max(self.height - height, 0), max(self.width - width, 0)
        if not bottom and not right:
            return NoOpTransform()
        return PadTransform(0, 0, right, bottom, width, height, pad_value=0, seg_pad_value=self.ignore_label)


class RandomClouds:
    """Draws clouds over a random share of the images; raises a ConfigError if ``probability`` is not within 0..1."""

    def __init__(self, clouds: Clouds, probability: float) -> None:
        if not 0 <= probability <= 1:
            raise ConfigError(f"INPUT.CLOUDS.PROBABILITY is {probability}; give a number from 0 to 1.")
        self.clouds = clouds
        self.probability = probability

    def __call__(self, image: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Maybe draw clouds over the valid pixels, bool (H, W), of an RGB image, uint8 (H, W, 3)."""
        if np.random.rand() >= self.probability:
            return image
        return self.clouds(image, valid, seed=np.random.randint(2**32, dtype=np.uint32)).image


class ColorJitter:
    """The photometric distortion of SSD: brightness, contrast, saturation and hue, each with probability 1/2."""

    BRIGHTNESS = 32.0  # largest offset, of 255
    CONTRAST = (0.5, 1.5)  # factor
    SATURATION = (0.5, 1.5)  # factor
    HUE = 18  # largest rotation, of OpenCV's 180

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Distort an RGB image, uint8 (H, W, 3)."""
        # As in SSD, contrast is randomly changed before or after the colours.
        changes = [self._contrast, self._colors] if _coin() else [self._colors, self._contrast]
        for change in [self._brightness, *changes]:
            image = change(image)
        return image

    def _brightness(self, image: np.ndarray) -> np.ndarray:
        offset = np.random.uniform(-self.BRIGHTNESS, self.BRIGHTNESS)
        return _map_values(image, 1.0, offset) if _coin() else image

    def _contrast(self, image: np.ndarray) -> np.ndarray:
        factor = np.random.uniform(*self.CONTRAST)
        return _map_values(image, factor, 0.0) if _coin() else image

    def _colors(self, image: np.ndarray) -> np.ndarray:
        factor = np.random.uniform(*self.SATURATION) if _coin() else 1.0
        turn = np.random.randint(-self.HUE, self.HUE + 1) if _coin() else 0
        if factor == 1.0 and turn == 0:
            return image  # converting to HSV and back would round
        hsv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV)
        turned = (np.arange(256) + turn) % 180
        hsv[..., 0] = turned.astype(np.uint8)[hsv[..., 0]]
        hsv[..., 1] = _map_values(hsv[..., 1], factor, 0.0)
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


class Speckle:
    """Multiplies SAR by speckle: gamma-distributed in linear power, with mean 1 and variance 1 / looks.

    Each polarisation gets its own speckle; the channels of a single one stay equal.
    """

    def __init__(self, looks: float, scale: str, value_range: Sequence) -> None:
        """Take the parameters of the speckle.

        Args:
            looks: Number of looks, > 0; smaller is stronger.
            scale: ``INPUT.SAR.SCALE``, one of :data:`mm_ovseg.raster.SAR_UNITS`.
            value_range: ``INPUT.SAR.RANGE``, in dB.
        """
        self.looks = looks
        self.unit = sar_unit(scale)
        self.value_range = value_range

    def __call__(self, sar_image: np.ndarray) -> np.ndarray:
        """Apply speckle to a SAR image, float32 (H, W, 3), 0..255."""
        bands = sar_image[..., : count_polarisations(sar_image)]  # (H, W, 1 to 3)
        power = np.random.gamma(self.looks, 1.0 / self.looks, size=bands.shape).astype(np.float32)
        if self.unit.to_decibels is None:
            speckled = self.unit.from_power(self.unit.to_power(bands) * power)
        else:
            ranges = np.reshape(self.value_range, (-1, 2))
            ranges = ranges[np.minimum(np.arange(bands.shape[2]), len(ranges) - 1)]  # per polarisation
            per_decibel = (255.0 / (ranges[:, 1] - ranges[:, 0])).astype(np.float32)
            smallest = np.finfo(np.float32).tiny  # with few looks a draw may be 0
            speckled = bands + 10.0 * per_decibel * np.log10(np.maximum(power, smallest))
        return np.ascontiguousarray(three_channels(np.clip(speckled, 0.0, 255.0)))


def _coin() -> bool:
    return np.random.rand() < 0.5


def _map_values(image: np.ndarray, factor: float, offset: float) -> np.ndarray:
    """``factor * image + offset`` of a uint8 array, clipped to 0..255."""
    table = np.clip(np.rint(np.arange(256) * factor + offset), 0, 255).astype(np.uint8)
    return table[image]


def _cut_or_pad(image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) cut or padded to the released code's size."""
    result = np.full((RELEASED_SIDE, RELEASED_SIDE, 3), RELEASED_PADDING, image.dtype)
    kept = image[:RELEASED_SIDE, :RELEASED_SIDE]
    result[: kept.shape[0], : kept.shape[1]] = kept
    return result


def _move_mask(transforms: Transform, valid: np.ndarray) -> np.ndarray:
    marked = np.where(valid, np.uint8(0), np.uint8(INVALID))
    return transforms.apply_segmentation(marked) == 0


def _blank(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Set pixels without data to 0."""
    return image if valid.all() else np.where(valid[..., None], image, image.dtype.type(0))
