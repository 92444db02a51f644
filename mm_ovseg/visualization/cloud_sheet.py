"""The picture to choose a kind of clouds by: a few images, clear and under each kind."""

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from mm_ovseg.data.clouds import build_clouds
from mm_ovseg.data.cloudy_images import seed_of
from mm_ovseg.data.input_files import raster_inputs
from mm_ovseg.files import check_outputs, complete_file
from mm_ovseg.raster import read_rgb

__all__ = ["draw_cloud_sheet"]

PANEL = 256  # pixels of an image's longer side
INCHES, GAP, TITLE = 1.9, 0.05, 0.25
DPI = 110


def draw_cloud_sheet(
    path: str | os.PathLike,
    images: Sequence[tuple[str, Path]],
    kinds: Sequence[str],
    *,
    seed: int = 0,
    cover: Sequence[float] = (),
    rgb_bands: Sequence[int] = (),
    rgb_range: Sequence[float] = (),
) -> None:
    """Draw images, clear and under each kind of clouds, one image a row.

    The clouds are drawn for the picture's size: like those that ``add_clouds`` draws in kind, not in place.

    Args:
        path: PNG, JPEG or PDF to write.
        images: name, as it goes into the seed, and file of each.
        kinds, cover: as in :func:`~mm_ovseg.data.clouds.build_clouds`.
        seed: of all clouds.
        rgb_bands, rgb_range: as ``bands`` and ``value_range`` of :func:`~mm_ovseg.raster.RGBReader`.

    Raises:
        ConfigError: a kind is not there.
        DataError: an image cannot be read, or the picture not written.
    """
    check_outputs({"output": [path]}, raster_inputs({"one of the images": [file for _, file in images]}))
    table = []
    for name, file in images:
        image, valid = read_rgb(file, bands=tuple(rgb_bands), value_range=tuple(rgb_range))
        scale = min(1.0, PANEL / max(image.shape[:2]))
        size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])  # width, height
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        valid = cv2.resize(valid.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        table.append([image, *(build_clouds(kind, cover)(image, valid, seed_of(seed, name)).image for kind in kinds)])
    width = (len(kinds) + 1) * (INCHES + GAP) - GAP
    height = TITLE + len(table) * (INCHES + GAP) - GAP
    figure = Figure(figsize=(width, height), dpi=DPI)
    for row, panels in enumerate(table):
        for column, (title, panel) in enumerate(zip(["clear", *kinds], panels, strict=True)):
            left, bottom = column * (INCHES + GAP), height - TITLE - (row + 1) * (INCHES + GAP) + GAP
            axes = figure.add_axes((left / width, bottom / height, INCHES / width, INCHES / height))
            axes.imshow(panel)
            axes.set_axis_off()
            if row == 0:
                axes.set_title(title, fontsize=10, pad=4)
    with complete_file(path) as temporary:
        figure.savefig(temporary)
