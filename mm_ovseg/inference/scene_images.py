"""The images of a scene: products become rasters beside the map before anything is read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mm_ovseg.inference.scene_options import NO_CLOUDS, SceneOptions
from mm_ovseg.products import Preparation, is_product, prepare_image
from mm_ovseg.raster import Paths

__all__ = ["SceneImages", "has_products", "images_folder", "prepare_scene"]


@dataclass(frozen=True)
class SceneImages:
    """The rasters of a scene.

    Attributes:
        rgb, sar: as for :class:`~mm_ovseg.data.scene_source.SceneSource`.
        options: with the clouds of the optical product, unless a mask was given; those that are asked for.
        about: "rgb" and "sar" -> what their products are (:class:`~mm_ovseg.products.PreparedImage`); empty for plain
            rasters.
        warnings: sentences that the user must read.
    """

    rgb: Paths | None
    sar: Paths | None
    options: SceneOptions
    about: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


def images_folder(output: Path) -> Path:
    """The folder beside a map that holds the rasters of its products."""
    return output.with_name(f"{output.stem}_images")


def has_products(rgb: Paths | None, sar: Paths | None) -> bool:
    """Whether an image must be prepared."""
    return any(paths is not None and is_product(paths, kind) for paths, kind in ((rgb, "rgb"), (sar, "sar")))


def prepare_scene(
    rgb: Paths | None, sar: Paths | None, output: Path, options: SceneOptions, *, trusted: bool
) -> SceneImages:
    """Prepare the images that are products, in :func:`images_folder`; what is there already is used again.

    Args:
        rgb, sar, output, options: as in :meth:`~mm_ovseg.inference.scene.ScenePredictor.segment`.
        trusted: whether the files may be products, which name other files and addresses.

    Raises:
        DataError, ConfigError: as of :func:`~mm_ovseg.products.prepare_image`.
    """
    preparation = Preparation(
        folder=images_folder(output), dem=options.dem, area=options.area, area_layer=options.area_layer
    )
    prepared = {
        kind: prepare_image(paths, kind, preparation)
        for kind, paths in (("rgb", rgb), ("sar", sar))
        if trusted and paths is not None
    }
    clouds = prepared["rgb"].clouds if "rgb" in prepared else None
    if options.clouds == NO_CLOUDS:
        options = replace(options, clouds=None)
    elif options.clouds is None and clouds is not None:
        options = replace(options, clouds=clouds.path, cloud_values=clouds.values)
    return SceneImages(
        *(prepared[kind].paths if kind in prepared else paths for kind, paths in (("rgb", rgb), ("sar", sar))),
        options,
        {kind: image.about for kind, image in prepared.items() if image.about},
        tuple(warning for image in prepared.values() for warning in image.warnings),
    )
