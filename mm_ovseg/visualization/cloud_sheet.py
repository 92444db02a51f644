"""A contact sheet of clouds: a few images, clear and under each kind of clouds."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from mm_ovseg.data.clouds import build_clouds
from mm_ovseg.data.input_files import raster_inputs
from mm_ovseg.files import check_outputs, complete_file
from mm_ovseg.randomness import derived_seed
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
    """Draw images, clear and under each kind of clouds, one image per row.

    Clouds are drawn at the size of the picture, so their positions differ from those in full-size images.

    Args:
        path: PNG, JPEG or PDF to write.
        images: name (which determines the seed) and file of each.
        kinds, cover: as in :func:`~mm_ovseg.data.clouds.build_clouds`.
        seed: seed of all clouds.
        rgb_bands, rgb_range: as ``bands`` and ``value_range`` of :func:`~mm_ovseg.raster.RGBReader`.

    Raises:
        ConfigError: a kind is unknown.
        DataError: an image cannot be read, or the picture cannot be written.
    """
    check_outputs({"output": [path]}, raster_inputs({"one of the images": [file for _, file in images]}))
    table = []
    for name, file in images:
        image, valid = read_rgb(file, bands=tuple(rgb_bands), value_range=tuple(rgb_range))
        scale = min(1.0, PANEL / max(image.shape[:2]))
        size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])  # width, height
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        valid = cv2.resize(valid.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        of_file = derived_seed(seed, name)
        table.append([image, *(build_clouds(kind, cover)(image, valid, of_file).image for kind in kinds)])
    width = (len(kinds) + 1) * (INCHES + GAP) - GAP
    height = TITLE + len(table) * (INCHES + GAP) - GAP
    figure = Figure(figsize=(width, height), dpi=DPI)
    gaps = {"wspace": GAP / INCHES, "hspace": GAP / INCHES}
    edges = {"left": 0, "right": 1, "bottom": 0, "top": 1 - TITLE / height}
    grid = figure.subplots(len(table), len(kinds) + 1, squeeze=False, gridspec_kw=gaps | edges)
    for axes, panel in zip(grid.flat, itertools.chain(*table), strict=True):
        axes.imshow(panel)
        axes.set_axis_off()
    for axes, title in zip(grid[0], ["clear", *kinds], strict=True):
        axes.set_title(title, fontsize=10, pad=4)
    with complete_file(path) as temporary:
        figure.savefig(temporary)
