"""Which tiles are held out: whole squares of ground, so that no training tile touches what is evaluated on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rasterio.crs import CRS

from mm_ovseg.data.preparation.split import keep_apart, split_by_scene

__all__ = ["TilePlace", "split_into_squares"]


@dataclass(frozen=True)
class TilePlace:
    """Where a tile lies.

    Attributes:
        scene: name of its scene.
        crs: reference system of the bounds; None where they are pixels of the scene.
        bounds: left, bottom, right, top.
        pixel: side of a pixel in units of the bounds.
    """

    scene: str
    crs: CRS | None
    bounds: tuple[float, float, float, float]
    pixel: float


def split_into_squares(
    tiles: Sequence[TilePlace], *, square: int, val_fraction: float, seed: int = 0
) -> list[str | None]:
    """Hold out squares of ground, the same ones for all scenes that show them.

    Args:
        tiles: of all scenes.
        square: its side in pixels; of scenes with different pixels the largest count.
        val_fraction: share of the squares that hold a tile's centre, 0..1; at least one unless it is 0 or there is one
            only.
        seed: another one holds out other squares.

    Returns:
        For each tile "train", "val", or None for one that would be trained on but overlaps a held-out tile.
    """
    bounds = np.array([tile.bounds for tile in tiles]).reshape(-1, 4)
    # Scenes without place on Earth cannot show the same ground, as far as anybody can tell.
    planes = np.array([tile.crs.to_wkt() if tile.crs is not None else f"scene {tile.scene}" for tile in tiles])
    pixels = np.array([tile.pixel for tile in tiles])
    names = np.empty(len(tiles), dtype=object)
    for plane in np.unique(planes):
        here = planes == plane
        side = square * pixels[here].max()
        places = np.floor((bounds[here, :2] + bounds[here, 2:]) / 2 / side).astype(int)
        names[here] = [f"{plane} {column} {row}" for column, row in places.tolist()]
    held_out = np.array(split_by_scene(names.tolist(), val_fraction=val_fraction, seed=seed)) == "val"
    return keep_apart(bounds, planes, held_out, margins=pixels / 2)  # neighbours share an edge, up to rounding
