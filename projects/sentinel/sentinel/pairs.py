"""The real pairs as tiles of 10 m: haze removed from RGB, SAR on one scale in decibels, split by region.

**RGB** becomes surface reflectance, 0..0.3 -> 0..255, as :data:`mm_ovseg.raster.rgb.REFLECTANCE_RANGE` reads products.
From each channel of a scene its dark object, a low percentile of all its images, is subtracted; what is left is
multiplied by the gains of the scene, and :data:`DARK_REFLECTANCE` is added, which woods and water still reflect.
Volkov's are true-colour images of level 1C (255 is a reflectance of 0.3558), whose gains also undo the transmittance of
the air (about 0.95, 0.9 and 0.82). The others were stretched by unknown curves; their gains were chosen by eye, so that
woods, fields and roofs look as they do in reflectance.

**SAR** becomes decibels on one scale of 25 dB: VV -25..0 -> 0..255, and VH, which is about 7 dB lower on like ground,
-32..-7 -> 0..255. What the files hold was found from the standard deviation in windows of 9x9 pixels at each mean:

* SEN1-2: VV, constant 20 to 28 of 255 (2 to 2.8 dB) from mean 60 to 200, so decibels; the set is documented as VV cut
  to -25..0 dB. Unchanged.
* Volkov: VH, the standard deviation grows with the mean (0.15 to 0.19 of it; a line through 10 at 0), so amplitude
  with an offset of 10: 20 log10(value - 10) + constant. The constant -55 dB puts the sea at Los Angeles (35) at -27 dB
  and its built-up ground (107) at -15 dB; San Antonio is brighter by a factor of 1.45 there (149), so -58 dB: built-up
  ground and woods (152) -15 dB, fields (80) -21 dB.
* India: constant 25 to 28 of 255 from mean 36 to 110, which is 2.1 dB if 255 is 20 dB: the usual picture of decibels,
  -20..0 -> 0..255. Delhi's median is -13 dB, which is VH. Water and some dry ground are below -20 dB, cut to 0; such
  pixels get -20 dB less up to :data:`CUT_DEPTH`, by the share of cut pixels around them (water, where all are: -26 dB).

**Split**: blocks of neighbouring ground are held out, in Volkov's by the place of an image in its Sentinel-2 tile (the
edges of images n and n + 13, or n + 12 in the second and third tile, fit together), in SEN1-2 runs of patches (patches
n and n + 1 share half of their ground; those that share any with the other part are left out), and the eastern tiles
of India's scenes.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mm_ovseg.errors import DataError
from sentinel.archive import Archive, write_image

__all__ = ["SCENES", "Scene", "haze_of", "remove_haze", "sar_to_scale", "write_pairs"]

TILE = 256  # pixels
DARK_REFLECTANCE = (9.0, 20.0, 12.0)  # of 255, reflectances of 0.011, 0.024 and 0.014
AMPLITUDE_OFFSET = 10.0
DECIBELS = 25.0  # of 0..255
VV_LOW, VH_LOW = -25.0, -32.0
INDIA_LOW, INDIA_DECIBELS = -20.0, 20.0
CUT_DEPTH, CUT_WINDOW, CUT_VALUE = 6.0, 7, 2  # dB, pixels, and the largest value (JPEG alters 0)
INDIA_ZOOM = 1.4  # 14 m to 10 m
INDIA_FIRST_HELD_OUT = 10  # column of tiles, of 13
COAST = (151, 163, 164, 165, 175, 176, 177, 187, 188, 189, 199, 201, 202, 213, 214)  # hazier than the rest of its tile
VOLKOV_GAINS = (1.25, 1.32, 1.45)


@dataclass(frozen=True)
class Scene:
    """Images of one set that share their haze and their SAR scale.

    Attributes:
        name: Start of the names of its tiles.
        archive: The zip file.
        pattern: Regular expression of the names of its images, whose group is their number.
        numbers: Numbers of its images; other images that fit the pattern are of other scenes.
        gains: Factors of red, green and blue after the dark object is subtracted.
        sar_kind: "vv", "amplitude" or "india"; see this module.
        dark_percentile: Percentile of the dark object; higher where shadows or the edge of a picture are darker.
        sar_constant: dB, for amplitude.
        held_out: Numbers of the images for validation.
        left_out: Numbers of the images that share ground with both parts.
    """

    name: str
    archive: str
    pattern: str
    gains: tuple[float, float, float]
    sar_kind: str
    numbers: Sequence[int] = range(1000)
    dark_percentile: float = 0.1
    sar_constant: float = 0.0
    held_out: Sequence[int] = ()
    left_out: Sequence[int] = ()

    def images(self, archive: Archive) -> dict[int, str]:
        """Number of each image -> its name without folder."""
        found = {}
        for path in archive.names("rgb/"):
            name = path.removeprefix("rgb/")
            if (match := re.fullmatch(self.pattern, name)) and int(match[1]) in self.numbers:
                found[int(match[1])] = name
        return dict(sorted(found.items()))

    def split(self, number: int, column: int) -> str | None:
        """The part of a tile: "train", "val" or, if it is left out, None."""
        if number in self.left_out:
            return None
        is_east = self.sar_kind == "india" and column >= INDIA_FIRST_HELD_OUT
        return "val" if number in self.held_out or is_east else "train"


def _volkov(name: str, numbers: Sequence[int], constant: float, held_out: Sequence[int]) -> Scene:
    return Scene(name, "volkov_pairs.zip", r"(\d+)\.jpg", VOLKOV_GAINS, "amplitude", numbers, 0.5, constant, held_out)


def _sen12(name: str, place: str, gains: tuple, numbers: Sequence, held_out: Sequence, left_out: Sequence) -> Scene:
    pattern = rf"ROIs{place}_p(\d+)\.jpg"
    return Scene(name, "sen12_pairs.zip", pattern, gains, "vv", numbers, held_out=held_out, left_out=left_out)


SCENES = (
    _sen12("farmland", "1868_summer_59", (0.9, 0.9, 0.9), range(1, 100), range(2, 7), (7,)),
    _sen12("hills", "1970_fall_11", (0.6, 0.6, 0.6), range(201, 226), (208, 209, 210), (207,)),
    _sen12("dry", "1970_fall_2", (1.2, 1.2, 1.0), range(1, 226), range(1, 5), (5,)),
    _sen12("suburbs", "1970_fall_8", (1.6, 1.6, 1.6), range(1, 100), (10, 11, 19, 20, 40, 41, 49), (9, 39)),
    *(Scene(f"india{n}", "india_pairs.zip", rf"pair_({n})\.jpg", (0.75, 0.75, 0.75), "india") for n in (1, 2, 3)),
    _volkov("losangeles", range(110), -55.0, (14, 15, 46, 59, 73)),
    _volkov("coast", COAST, -55.0, (213, 214)),
    _volkov("inland", sorted({*range(120, 216)} - {*COAST}), -55.0, (145, 196, 207, 208)),
    _volkov("sanantonio", range(216, 300), -58.0, (252, 253, 263, 274, 283)),
)


def haze_of(images: Iterable[np.ndarray], percentile: float) -> np.ndarray:
    """The dark object of each channel (3,) of a scene's images, uint8 (H, W, 3); black pixels lack data."""
    pixels = np.concatenate([image[::4, ::4].reshape(-1, 3) for image in images])
    known = pixels[pixels.any(axis=1)]
    return np.percentile(known if len(known) else pixels, percentile, axis=0)


def remove_haze(image: np.ndarray, haze: np.ndarray, gains: Sequence[float]) -> np.ndarray:
    """RGB, uint8 (H, W, 3), as reflectance, 0..0.3 -> 0..255; see this module."""
    clear = (image.astype(np.float32) - np.float32(haze)) * np.float32(gains) + np.float32(DARK_REFLECTANCE)
    return np.clip(np.rint(clear), 0, 255).astype(np.uint8)


def sar_to_scale(sar: np.ndarray, kind: str, constant: float = 0.0) -> np.ndarray:
    """SAR of one of the sets, uint8 (H, W), on the common scale of 25 dB, uint8; see this module."""
    if kind == "vv":
        return sar
    values = sar.astype(np.float32)
    if kind == "amplitude":
        decibels = 20 * np.log10(np.maximum(values - AMPLITUDE_OFFSET, 1)) + constant
    else:
        cut_share = cv2.blur(np.float32(sar <= CUT_VALUE), (CUT_WINDOW, CUT_WINDOW))
        decibels = INDIA_LOW + values * (INDIA_DECIBELS / 255) - np.where(sar <= CUT_VALUE, CUT_DEPTH * cut_share, 0)
    return np.clip(np.rint((decibels - VH_LOW) * (255 / DECIBELS)), 0, 255).astype(np.uint8)


def write_pairs(source: Path, output: Path) -> None:
    """Write ``output/{train,val}/{rgb,sar}/NAME.tif`` of all scenes; finished images are not written again.

    Args:
        source: Folder of the zip archives.
        output: Folder of the tiles.

    Raises:
        DataError: An archive cannot be read, or a file not be written.
    """
    for scene in SCENES:
        with Archive(source / scene.archive) as archive:
            images = scene.images(archive)
            if not images:
                raise DataError(f"{archive.path} has no RGB image of {scene.name} ({scene.pattern}); copy it again.")
            haze = haze_of((archive.read(f"rgb/{name}") for name in images.values()), scene.dark_percentile)
            for number, name in tqdm(images.items(), desc=scene.name, unit="image"):
                _write_image(scene, number, name, archive, haze, output)


def _write_image(scene: Scene, number: int, name: str, archive: Archive, haze: np.ndarray, output: Path) -> None:
    rgb = remove_haze(archive.read(f"rgb/{name}"), haze, scene.gains)
    sar = sar_to_scale(archive.read(f"sar/{name}"), scene.sar_kind, scene.sar_constant)
    if scene.sar_kind == "india":
        rgb, sar = (cv2.resize(image, None, fx=INDIA_ZOOM, fy=INDIA_ZOOM) for image in (rgb, sar))
    for row in range(rgb.shape[0] // TILE):
        for column in range(rgb.shape[1] // TILE):
            split = scene.split(number, column)
            if split is None:
                continue
            window = np.s_[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            for kind, image in (("rgb", rgb), ("sar", sar)):
                path = output / split / kind / f"{scene.name}_{number:03d}_{row:02d}_{column:02d}.tif"
                if not path.exists():
                    write_image(path, image[window])
