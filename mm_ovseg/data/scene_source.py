"""Reading windows of a scene: RGB and SAR on one grid, whatever grids their files have."""

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from mm_ovseg.data.raster import check_rgb_arguments, check_sar_arguments, decode_rgb, decode_sar
from mm_ovseg.data.raster_file import check_same_grid, open_raster, raster_errors, raster_info
from mm_ovseg.data.scene_grid import (
    SceneGrid,
    check_on_grid,
    covered_share,
    pixel_size_metres,
    scene_grid,
)
from mm_ovseg.errors import DataError, MMOVSegError

__all__ = ["SceneSource", "SceneWindow"]

# Where neither file has a reference system both lie in one plane, and any projection will do for that.
ANY_PLANE = CRS.from_epsg(3857)
GDAL_CACHE_BYTES = 256 << 20


@dataclass(frozen=True)
class SceneWindow:
    """A window of a scene as the model takes it.

    Attributes:
        image: uint8 (H, W, 3), RGB, 0..255.
        image_valid: bool (H, W), where RGB has data.
        sar_image: float32 (H, W, 3), 0..255.
        sar_valid: bool (H, W), where SAR has data.
    """

    image: np.ndarray
    image_valid: np.ndarray
    sar_image: np.ndarray
    sar_valid: np.ndarray


class SceneSource:
    """An RGB and a SAR raster, open for reading windows on one grid; a context manager.

    The grid is that of RGB, or one of the same extent at another ground sampling distance. A raster on another grid is
    resampled bilinearly, window by window, with a kernel that widens where the grid's pixels are larger than its own.
    Not for several threads at once.

    Args:
        rgb: the file, or three files of one band each, red, green and blue, on one grid.
        sar: the file, on any grid; None for a scene without SAR.
        ground_sampling_distance: metres a pixel to work at; None for RGB's own.
        rgb_bands, rgb_range: as in :func:`mm_ovseg.data.raster.read_rgb`.
        sar_scale, sar_range, sar_bands: as in :func:`mm_ovseg.data.raster.read_sar`.
        sar_shift: (rows, columns) in pixels of the grid by which SAR content is moved down and right before use.

    Attributes:
        grid: the grid.
        covered: the share of it that the SAR file's extent covers, 0..1.

    Raises:
        ConfigError: an argument has the wrong form.
        DataError: a file cannot be read, or SAR cannot be placed on the grid of RGB.
    """

    def __init__(
        self,
        rgb: str | os.PathLike | Sequence[str | os.PathLike],
        sar: str | os.PathLike | None,
        *,
        ground_sampling_distance: float | None = None,
        rgb_bands: Sequence[int] = (),
        rgb_range: Sequence[float] = (),
        sar_scale: str = "8bit",
        sar_range: Sequence[float] = (-25.0, 0.0),
        sar_bands: Sequence[int] = (),
        sar_shift: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        check_rgb_arguments(rgb_bands, rgb_range)
        check_sar_arguments(sar_scale, sar_range, sar_bands)
        self._rgb_settings = {"bands": rgb_bands, "value_range": rgb_range}
        self._sar_settings = {"scale": sar_scale, "value_range": sar_range, "bands": sar_bands}
        self._stack = ExitStack()
        try:
            self._stack.enter_context(rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES))
            self._rgb_name, dataset = self._open_rgb(rgb)
            own_grid = scene_grid(dataset, self._rgb_name)
            self.grid = scene_grid(dataset, self._rgb_name, ground_sampling_distance)
            on_grid = (self.grid.width, self.grid.height) == (own_grid.width, own_grid.height)
            self._rgb = dataset if on_grid else self._warp(dataset, self._rgb_name, own_grid.transform, self.grid)
            self._sar_name, self._sar, self.covered = sar, None, 0.0
            if sar is not None:
                self._sar, self.covered = self._open_sar(sar, dataset, on_grid, sar_shift)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> "SceneSource":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def read(self, row: int, column: int, height: int, width: int) -> SceneWindow:
        """Read a window; what lies beyond the scene's last row and column is 0 and not valid.

        Raises:
            DataError: a block of a file cannot be read.
        """
        inside = (min(height, self.grid.height - row), min(width, self.grid.width - column))
        window = Window(column, row, inside[1], inside[0])
        with raster_errors(self._rgb_name):
            image, image_valid = decode_rgb(self._rgb, self._rgb_name, window=window, **self._rgb_settings)
        if self._sar is None:
            sar_image, sar_valid = np.zeros((*inside, 3), np.float32), np.zeros(inside, bool)
        else:
            with raster_errors(self._sar_name):
                sar_image, sar_valid = decode_sar(self._sar, self._sar_name, window=window, **self._sar_settings)
        if inside == (height, width):
            return SceneWindow(image, image_valid, sar_image, sar_valid)
        padding = ((0, height - inside[0]), (0, width - inside[1]))
        return SceneWindow(
            np.pad(image, (*padding, (0, 0))),
            np.pad(image_valid, padding),
            np.pad(sar_image, (*padding, (0, 0))),
            np.pad(sar_valid, padding),
        )

    def _open_rgb(self, rgb: str | os.PathLike | Sequence[str | os.PathLike]) -> tuple[str, rasterio.DatasetReader]:
        paths = [rgb] if isinstance(rgb, str | os.PathLike) else list(rgb)
        datasets = [self._stack.enter_context(open_raster(path)) for path in paths]
        if len(paths) == 1:
            return str(paths[0]), datasets[0]
        if len(paths) != 3 or any(dataset.count != 1 for dataset in datasets):
            raise DataError(
                f"{', '.join(map(str, paths))}: give RGB as one file, or as three files of one band each, red, green "
                "and blue."
            )
        infos = [raster_info(path, dataset) for path, dataset in zip(paths, datasets, strict=True)]
        for other in infos[1:]:
            check_same_grid(infos[0], other)
        name = f"{paths[0]} (with {Path(paths[1]).name} and {Path(paths[2]).name})"
        with raster_errors(name):
            return name, self._stack.enter_context(rasterio.open(_stacked(datasets)))

    def _open_sar(
        self, sar: str | os.PathLike, rgb: rasterio.DatasetReader, on_grid: bool, shift: tuple[float, float]
    ) -> tuple[rasterio.DatasetReader, float]:
        """The SAR raster on the grid, and the share of the grid that it covers."""
        dataset = self._stack.enter_context(open_raster(sar))
        rgb_info, sar_info = raster_info(self._rgb_name, rgb), raster_info(sar, dataset)
        unplaced = rgb.crs is None or dataset.crs is None
        check_on_grid(dataset, sar)
        transform = dataset.transform
        try:
            check_same_grid(rgb_info, sar_info)
        except MMOVSegError as error:
            if unplaced:
                raise DataError(
                    f"{error} Where a file has no coordinate reference system, it cannot be put on the other's grid "
                    "here; give it one (gdal_edit -a_srs does so)."
                ) from error
        else:
            if on_grid and shift == (0.0, 0.0):
                return dataset, 1.0
            transform = rgb.transform
        grid = replace(self.grid, crs=ANY_PLANE, transform=rgb.transform) if unplaced else self.grid
        step = grid.transform @ Affine.translation(shift[1], shift[0]) @ ~grid.transform
        moved = step @ _near(grid, dataset, transform)
        covered = 1.0 if unplaced else covered_share(grid, dataset, moved)
        return self._warp(dataset, str(sar), moved, grid), covered

    def _warp(self, dataset: rasterio.DatasetReader, name: str, transform: Affine, grid: SceneGrid) -> WarpedVRT:
        """A raster resampled to a grid; where it has no data, or does not reach, no data."""
        options: dict[str, Any] = {"src_crs": dataset.crs or grid.crs, "src_transform": transform, "crs": grid.crs}
        scale = _scale(dataset, grid, transform)
        is_palette = ColorInterp.palette in dataset.colorinterp
        has_alpha = ColorInterp.alpha in dataset.colorinterp
        if dataset.nodata is None and not has_alpha:
            if dataset.dtypes[0].startswith("float"):
                options |= {"src_nodata": np.nan, "nodata": np.nan}
            else:
                options |= {"add_alpha": True}
        with raster_errors(name):
            return self._stack.enter_context(
                WarpedVRT(
                    dataset,
                    transform=grid.transform,
                    width=grid.width,
                    height=grid.height,
                    resampling=Resampling.nearest if is_palette else Resampling.bilinear,
                    # Pixels; GDAL's own 1/8 comes out differently in every window.
                    tolerance=1e-3,
                    # The kernel widens where pixels grow; by how much GDAL would guess anew from every window.
                    XSCALE=scale,
                    YSCALE=scale,
                    **options,
                )
            )


def _near(grid: SceneGrid, dataset: rasterio.DatasetReader, transform: Affine) -> Affine:
    """The transform of a raster in degrees, moved around the globe to where the grid counts its longitudes."""
    if dataset.crs is None or not dataset.crs.is_geographic or dataset.crs != grid.crs:
        return transform
    turns = [Affine.translation(degrees, 0) @ transform for degrees in (0, -360, 360)]
    return max(turns, key=lambda turned: covered_share(grid, dataset, turned))


def _scale(dataset: rasterio.DatasetReader, grid: SceneGrid, transform: Affine) -> float:
    """Pixels of the grid in one of the raster's, along an axis."""
    crs = dataset.crs
    if crs in (grid.crs, None):
        return math.sqrt(abs(transform.determinant / grid.transform.determinant))
    own = pixel_size_metres(SceneGrid(dataset.width, dataset.height, crs, transform))
    goal = pixel_size_metres(grid)
    return 1.0 if own is None or goal is None else own / goal


def _stacked(datasets: Sequence[rasterio.DatasetReader]) -> str:
    """GDAL's description of a raster whose bands are those of several files."""
    first = datasets[0]
    bands = "".join(
        f'<VRTRasterBand dataType="{rasterio.dtypes._gdal_typename(dataset.dtypes[0])}" band="{index}">'
        + (f"<NoDataValue>{dataset.nodata}</NoDataValue>" if dataset.nodata is not None else "")
        + f"<Scale>{dataset.scales[0]!r}</Scale><Offset>{dataset.offsets[0]!r}</Offset>"
        + f"<SimpleSource><SourceFilename>{escape(str(Path(dataset.name).absolute()))}</SourceFilename>"
        + "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for index, dataset in enumerate(datasets, start=1)
    )
    place = "" if first.crs is None else f"<SRS>{escape(first.crs.to_wkt())}</SRS>"
    if not first.transform.is_identity:
        place += f"<GeoTransform>{', '.join(map(repr, first.transform.to_gdal()))}</GeoTransform>"
    return f'<VRTDataset rasterXSize="{first.width}" rasterYSize="{first.height}">{place}{bands}</VRTDataset>'
