"""The options of segmenting a scene."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path

from detectron2.config import CfgNode

from mm_ovseg.data.cloud_mask import CloudValues, check_cloud_values
from mm_ovseg.data.pair_reader import image_readers
from mm_ovseg.errors import ConfigError
from mm_ovseg.inference.batches import check_batch_size
from mm_ovseg.inference.cloud_detection import DETECT, import_detector
from mm_ovseg.raster import Paths, check_sampling_distance

__all__ = ["NO_CLOUDS", "SceneOptions", "check_images", "check_options"]

NO_CLOUDS = "none"  # not even those that a product knows


@dataclass(frozen=True)
class SceneOptions:
    """How a scene is segmented and which files are written.

    Attributes:
        window: side of a window in pixels; None for that of training crops.
        overlap: overlap of neighbouring windows, as a share of the window, 0 <= overlap < 1.
        ground_sampling_distance: metres per pixel of the map; None for that of RGB, or of SAR without RGB.
        batch_size: windows per batch.
        confidence: also write the score of each pixel's class, in percent.
        probabilities: also write the scores of all classes, in percent.
        vector: a GeoPackage to write polygons to, or None.
        min_area: hectares; smaller polygons are merged into their largest neighbour; the map is unchanged.
        deliver: what else is written: "stac", a STAC item; "table", a raster attribute table; "layers", the area of
            interest and the footprints of the images, in the file of ``vector``.
        simplify: tolerance of simplified polygons in metres; None keeps the edges of the pixels.
        area: a vector file with the polygons to map, or None for the whole scene.
        area_layer: name of its layer; None if it has only one.
        part: (row, column, height, width) in pixels of the scene: its map alone is made, as large as the part; needs a
            georeference if there is a mask of clouds. None for the whole scene.
        clouds: a raster that says where RGB is under cloud, "detect" to detect clouds, "none" to ignore them, or None
            for what the optical product says, if it says anything.
        cloud_values: its values that mean cloud; see :class:`~mm_ovseg.data.cloud_mask.CloudMask`.
        near_infrared: the band of near infrared in the RGB files, from 1, to detect clouds.
        dem: a digital elevation model for the terrain correction of a radar product; None to do without.
        min_covered: share of the scene that the SAR file's extent must cover, 0..1.
        correct_shift: correct the estimated shift of SAR against RGB, if it is reliable.
        resume: continue an interrupted run with the same options.
        keep_features: a folder that keeps the encoders' features of each window, for further maps of the same scene
            with other names; None for none.
        max_features: gigabytes (10^9 bytes) that the folder may take.
    """

    window: int | None = None
    overlap: float = 0.25
    ground_sampling_distance: float | None = None
    batch_size: int = 1
    confidence: bool = False
    probabilities: bool = False
    vector: Path | None = None
    min_area: float | None = None
    simplify: float | None = None
    deliver: Sequence[str] = ()
    area: Path | None = None
    area_layer: str | None = None
    part: tuple[int, int, int, int] | None = None
    clouds: str | os.PathLike | None = None
    cloud_values: CloudValues = None
    near_infrared: int | None = None
    dem: Path | None = None
    min_covered: float = 0.1
    correct_shift: bool = False
    resume: bool = False
    keep_features: Path | None = None
    max_features: float = 20

    @property
    def overlap_pixels(self) -> int:
        """The overlap of neighbouring windows; ``window`` must not be None."""
        return round(self.overlap * self.window)


def check_images(rgb: Paths | None, sar: Paths | None, options: SceneOptions) -> None:
    """Check that a scene has an image, and RGB if clouds in it matter.

    Raises:
        ConfigError: it has not.
    """
    if not rgb and not sar:
        raise ConfigError("The scene has no image; give --rgb, --sar or both.")
    if options.clouds not in (None, NO_CLOUDS) and not rgb:
        raise ConfigError("--clouds says where clouds cover RGB, but there is no RGB; leave it out, or give --rgb.")


def check_options(options: SceneOptions, cfg: CfgNode) -> SceneOptions:
    """Check the options as far as possible without opening files.

    Returns:
        The options, with the size of the windows.

    Raises:
        ConfigError: an option, or a setting of ``cfg.INPUT``, is invalid.
    """
    if options.window is None:
        options = replace(options, window=cfg.INPUT.CROP.SIZE[0])
    window, overlap = options.window, options.overlap
    if not isinstance(window, Integral) or window < 1:
        raise ConfigError(f"The window is {window} pixels wide; give a positive whole number.")
    if not isinstance(overlap, Real) or not 0 <= overlap < 1 or options.overlap_pixels == window:
        raise ConfigError(f"The overlap is {overlap}; give a share of the window from 0 to below 1, such as 0.25.")
    if not 0 <= options.min_covered <= 1:
        raise ConfigError(f"--min-covered is {options.min_covered}; give a share from 0 to 1.")
    check_batch_size(options.batch_size)
    for name, value, unit in (("--min-area", options.min_area, "hectares"), ("--simplify", options.simplify, "metres")):
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"{name} is {value}; give a positive number of {unit}.")
    if not options.max_features > 0:
        raise ConfigError(f"--max-features is {options.max_features}; give a positive number of gigabytes.")
    check_sampling_distance(options.ground_sampling_distance)
    check_cloud_values(options.cloud_values)
    if options.clouds == DETECT:
        if options.near_infrared is None:
            raise ConfigError(f"--clouds {DETECT} needs the band of near infrared; give it with --nir-band.")
        import_detector()
    image_readers(cfg)
    return options
