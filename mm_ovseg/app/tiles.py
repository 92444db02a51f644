"""Drawing tiles of scenes and maps, 256 pixels wide, as PNG."""

from pathlib import Path

import cv2
import numpy as np
from matplotlib import colormaps
from rasterio import Affine
from rasterio.windows import Window
from rio_tiler import reader
from rio_tiler.constants import WEB_MERCATOR_TMS
from rio_tiler.models import ImageData

from mm_ovseg.app.page_map import PageMap
from mm_ovseg.app.place import MAX_ZOOM, TILE, WEB_MERCATOR, Place
from mm_ovseg.app.scenes import Scene
from mm_ovseg.data.palette import NONE_COLOR
from mm_ovseg.decision import NODATA_CLASS, NONE_CLASS
from mm_ovseg.raster import open_raster
from mm_ovseg.raster.crs import full_turn

__all__ = ["draw_class_tile", "draw_confidence_tile", "draw_image_tile"]

CONFIDENCE_COLORS = colormaps["viridis"]  # readable for colour-blind people, and in greyscale
Tile = tuple[int, int, int]  # zoom, x, y


def draw_image_tile(scene: Scene, kind: str, tile: Tile) -> bytes:
    """A tile of the "rgb" or "sar" image."""
    image = _read(scene.image(kind), scene.place, (0, 0), tile, resampling="bilinear")
    if image is None:
        return EMPTY
    return _png(np.concatenate([image.array.data, image.mask[np.newaxis]]).transpose(1, 2, 0))


def draw_class_tile(page_map: PageMap, tile: Tile, min_percent: int = 0) -> bytes:
    """A tile of a map in the colours of its legend; classes below a minimum score, in percent, are drawn as none."""
    classes = _read_layer(page_map, page_map.geotiff, tile)
    if classes is None:
        return EMPTY
    if min_percent:
        percent = _read_layer(page_map, page_map.confidence, tile)
        classes[(percent < min_percent) & (classes != NODATA_CLASS)] = NONE_CLASS
    table = np.zeros((256, 4), np.uint8)
    table[NONE_CLASS] = (*NONE_COLOR, 255)
    for entry in page_map.classes:
        table[entry["value"]] = (*entry["color"], 255)
    return _png(table[classes])


def draw_confidence_tile(page_map: PageMap, tile: Tile, min_percent: int = 0) -> bytes:
    """A tile of the confidence; classes below a minimum score, in percent, are drawn as none."""
    percent = _read_layer(page_map, page_map.confidence, tile)
    if percent is None:
        return EMPTY
    if min_percent:
        classes = _read_layer(page_map, page_map.geotiff, tile)
        percent[(percent < min_percent) & (classes < NONE_CLASS)] = NONE_CLASS
    table = np.zeros((256, 4), np.uint8)
    table[:101] = CONFIDENCE_COLORS(np.linspace(0, 1, 101), bytes=True)
    table[NONE_CLASS] = (*NONE_COLOR, 255)
    return _png(table[percent])


def _read_layer(page_map: PageMap, path: Path, tile: Tile) -> np.ndarray | None:
    """A tile of a map's classes or percent, uint8 (256, 256); None outside of the map."""
    layer = _read(path, page_map.scene.place, page_map.window[:2], tile)
    return None if layer is None else layer.array.filled(NODATA_CLASS)[0]


def _read(
    path: Path, place: Place, origin: tuple[int, int], tile: Tile, resampling: str = "nearest"
) -> ImageData | None:
    """A tile of a raster; None if it is outside.

    Args:
        path: a Cloud-Optimised GeoTIFF of the scene or a part of it.
        place: that of the scene.
        origin: (row, column) of the part's first pixel.
        tile: the tile.
        resampling: how pixels are resampled.
    """
    zoom, x, y = tile
    if not (0 <= zoom <= MAX_ZOOM and 0 <= x < 2**zoom and 0 <= y < 2**zoom):
        return None
    size = {"width": TILE, "height": TILE}
    with open_raster(path) as dataset:
        if place.is_on_map:
            return reader.part(
                dataset,
                WEB_MERCATOR_TMS.xy_bounds((x, y, zoom)),
                dst_crs=WEB_MERCATOR,
                reproject_method=resampling,
                vrt_options=_turned(dataset.transform, place, (x + 0.5) / 2**zoom * 360 - 180),
                **size,
            )
        side = TILE * 2.0 ** (place.native_zoom - zoom)  # in pixels of the scene
        left, top = x * side - origin[1], y * side - origin[0]
        if not (-side < left < dataset.width and -side < top < dataset.height):
            return None
        window = Window(left, top, side, side)
        method = resampling if side > TILE else "nearest"
        return reader.read(dataset, window=window, resampling_method=method, **size)


def _turned(transform: Affine, place: Place, longitude: float) -> dict[str, Affine] | None:
    """Options that move a raster beyond the date line by whole turns of the globe to near a longitude."""
    (_, west), (_, east) = place.bounds
    turns = round(((west + east) / 2 - longitude) / 360)
    turn = full_turn(place.grid.crs)
    return {"src_transform": Affine.translation(-turns * turn, 0) @ transform} if turns and turn else None


def _png(rgba: np.ndarray) -> bytes:
    """RGBA uint8 (H, W, 4) as PNG."""
    if not rgba[..., 3].any():
        return EMPTY
    _, encoded = cv2.imencode(".png", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    return encoded.tobytes()


EMPTY = cv2.imencode(".png", np.zeros((TILE, TILE, 4), np.uint8))[1].tobytes()
