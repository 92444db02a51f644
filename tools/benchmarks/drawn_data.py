"""Synthetic files for benchmarks: a dataset, and a scene."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import array_bounds, from_origin
from rasterio.warp import transform_bounds

from mm_ovseg.raster import Grid, write_geotiff

sys.path.append(str(Path(__file__).resolve().parents[2] / "projects" / "laptop"))  # not installed

from laptop.drawn_world import generate_scene, register_synthetic_dataset, write_synthetic_dataset  # noqa: E402

DATASET_SCENES = 4  # each takes a second or two to draw
TILE = 256  # pixels; side of the drawn tile, which the scene repeats
DEGREES_PER_METRE = 9e-6  # along a meridian
RGB_CRS, CORNER = CRS.from_epsg(32652), (430_000.0, 4_000_000.0)
SAR_CRS = CRS.from_epsg(4326)
MAX_DECIBELS = 5.0  # for an amplitude of 255
BLOCK_ROWS = 256


@contextmanager
def drawn_dataset(size: int) -> Iterator[str]:
    """The name of a registered training dataset of PNG files, ``size`` pixels per side, removed after the block."""
    with TemporaryDirectory(prefix="mm_ovseg_benchmark_") as folder:
        root = Path(folder) / "drawn"
        write_synthetic_dataset(root, num_train=DATASET_SCENES, num_val=0, size=size, show_progress=sys.stderr.isatty())
        names = register_synthetic_dataset(root, name=Path(folder).name)
        try:
            yield names[0]
        finally:
            for name in names:
                DatasetCatalog.remove(name)
                MetadataCatalog.pop(name, None)


def write_scene_pair(folder: Path, height: int, width: int, metres: float = 10.0) -> tuple[Path, Path]:
    """Write a scene as two files on different grids, as in real archives; memory use does not depend on the size.

    RGB is uint8 in UTM; SAR is float32 in dB, in degrees of longitude and latitude, with pixels as high as those of RGB
    and a fifth narrower, and covers all of RGB. Both are tiled and deflated.

    Args:
        folder: an existing folder.
        height, width: size of RGB in pixels.
        metres: side of RGB's pixels.

    Returns:
        The files of RGB and of SAR.

    Raises:
        DataError: they cannot be written.
    """
    scene = generate_scene(0, TILE, cloud_cover=0.2)
    decibels = 20 * np.log10(np.maximum(scene.sar, 1) / np.float32(255)) + np.float32(MAX_DECIBELS)
    rgb_transform = from_origin(*CORNER, metres, metres)
    sar_degrees = metres * DEGREES_PER_METRE
    rgb, sar = folder / "rgb.tif", folder / "sar.tif"

    def rgb_rows() -> Iterator[np.ndarray]:
        columns = np.arange(width) % TILE
        for row in range(0, height, BLOCK_ROWS):
            rows = np.arange(row, min(row + BLOCK_ROWS, height)) % TILE
            yield scene.rgb[np.ix_(rows, columns)].transpose(2, 0, 1)

    write_geotiff(rgb, rgb_rows(), Grid(width, height, RGB_CRS, rgb_transform), bands=3)
    bounds = array_bounds(height, width, rgb_transform)
    west, south, east, north = transform_bounds(RGB_CRS, SAR_CRS, *bounds)
    sar_height, sar_width = (math.ceil(side / sar_degrees) + 1 for side in (north - south, east - west))
    sar_transform = from_origin(west, north, sar_degrees, sar_degrees)
    to_rgb = Transformer.from_crs(SAR_CRS.to_epsg(), RGB_CRS.to_epsg(), always_xy=True)

    def sar_rows() -> Iterator[np.ndarray]:
        for row in range(0, sar_height, BLOCK_ROWS):
            count = min(BLOCK_ROWS, sar_height - row)
            centers = np.meshgrid(np.arange(sar_width) + 0.5, np.arange(row, row + count) + 0.5)
            places = ~rgb_transform @ to_rgb.transform(*(sar_transform @ centers))
            columns, rows = (np.floor(place).astype(int) % TILE for place in places)
            yield decibels[rows, columns][np.newaxis]

    grid = Grid(sar_width, sar_height, SAR_CRS, sar_transform)
    write_geotiff(sar, sar_rows(), grid, dtype="float32", nodata=math.nan)
    return rgb, sar
