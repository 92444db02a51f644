"""The scenes of the page: their files, how they are read, and the images that are shown of them."""

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from rasterio.enums import ColorInterp

from mm_ovseg.app.messages import page_message
from mm_ovseg.app.place import Place
from mm_ovseg.app.reading import describe_reading
from mm_ovseg.data.pair_reader import image_readers
from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.errors import DataError, check_needed
from mm_ovseg.products import CloudLayer
from mm_ovseg.raster import Grid, write_geotiff
from mm_ovseg.raster.cog import write_cog

__all__ = ["Scene", "SceneFiles", "make_scene"]

PIXELS_AT_ONCE = 4_000_000
RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
COPYING = 0.5  # of the time that reading takes
PARTS = 100  # of the progress of an image

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class SceneFiles:
    """The files of a scene.

    Attributes:
        rgb, sar: of each image; None for no such image.
        names: what messages call the files; for those that are not in it, their names.
        name: of the scene.
        attribution: whose images they are; None if that is not known.
        clouds: where RGB is under cloud; None if that is not known.
        warnings: what is to be said of them.
    """

    rgb: tuple[Path, ...] | None
    sar: tuple[Path, ...] | None
    names: Mapping[Path, str] = field(default_factory=dict)
    name: str = "scene"
    attribution: str | None = None
    clouds: CloudLayer | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = {path: path.name for path in (*(self.rgb or ()), *(self.sar or ()))}
        object.__setattr__(self, "names", {**names, **self.names})


@dataclass(frozen=True, eq=False)
class Scene:
    """A scene that can be looked at and mapped.

    Attributes:
        id: names it in requests.
        folder: of the images to show, and of features.
        files: its files.
        cfg: with the reading of the files.
        place: where it is.
        reading: as :func:`~mm_ovseg.app.reading.describe_reading` says it.
        warnings: sentences for the visitor.
    """

    id: str
    folder: Path
    files: SceneFiles
    cfg: CfgNode
    place: Place
    reading: Mapping[str, Any]
    warnings: tuple[str, ...]

    @property
    def images(self) -> list[str]:
        """The images that it has, "rgb" and "sar"."""
        return [kind for kind in ("rgb", "sar") if getattr(self.files, kind) is not None]

    def image(self, kind: str) -> Path:
        """The Cloud-Optimised GeoTIFF, RGBA, of an image as the model sees it."""
        return self.folder / f"{kind}.tif"

    def describe(self) -> dict[str, Any]:
        """The scene in the page's interface."""
        grid = self.place.grid
        return {
            "id": self.id,
            "name": self.files.name,
            "width": grid.width,
            "height": grid.height,
            "crs": self.place.crs_name,
            "bounds": self.place.bounds,
            "meters_per_pixel": grid.pixel_size_metres,
            "native_zoom": self.place.native_zoom,
            "images": self.images,
            "reading": self.reading,
            "warnings": self.warnings,
            "attribution": self.files.attribution,
        }


def make_scene(
    files: SceneFiles,
    cfg: CfgNode,
    folder: Path,
    *,
    max_pixels: float,
    progress: Progress,
    should_stop: Callable[[], bool],
) -> Scene:
    """Open the files of a scene, and write the images to show.

    Args:
        files: its files.
        cfg: ``INPUT`` says how they are read.
        folder: an empty one; its name becomes the id.
        max_pixels: maximum size, rows times columns.
        progress: called with what is done, the total, and "reading".
        should_stop: returns True if the scene is no longer wanted.

    Raises:
        MMOVSegError: the files cannot be used.
        StoppedError: ``should_stop`` returned True. In either case, the folder is removed.
    """
    try:
        rgb_reader, sar_reader = image_readers(cfg)
        with SceneSource(files.rgb, files.sar, rgb_reader=rgb_reader, sar_reader=sar_reader) as source:
            grid = source.grid
            if grid.width * grid.height > max_pixels:
                raise DataError(
                    f"{(files.rgb or files.sar)[0]} has {grid.width}x{grid.height} pixels, more than the "
                    f"{max_pixels / 1e6:g} million allowed; cut it into smaller images."
                )
            concerns = (*files.warnings, *source.concerns())
            warnings = tuple(page_message(concern, files.names) for concern in concerns)
            reading = describe_reading(cfg, files.rgb, files.sar)
            scene = Scene(folder.name, folder, files, cfg, Place(grid), reading, warnings)
            for index, kind in enumerate(scene.images):
                told = _of_image(progress, index, len(scene.images))
                _write_image(source, kind, scene.image(kind), told, should_stop)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return scene


def _of_image(progress: Progress, index: int, images: int) -> Callable[[float], None]:
    """Tells the done share, 0..1, of an image."""
    return lambda share: progress(round((index + share) * PARTS), images * PARTS, "reading")


def _write_image(
    source: SceneSource, kind: str, path: Path, told: Callable[[float], None], should_stop: Callable[[], bool]
) -> None:
    """Write an image as the model sees it, with alpha 0 where it has no data, strip by strip."""
    grid: Grid = source.grid
    read = source.read_rgb if kind == "rgb" else source.read_sar
    rows_at_once = max(1, PIXELS_AT_ONCE // grid.width)

    def strips() -> Iterator[np.ndarray]:
        for row in range(0, grid.height, rows_at_once):
            check_needed(should_stop)
            rows = min(rows_at_once, grid.height - row)
            image, valid = read((row, 0, rows, grid.width))
            alpha = np.where(valid, np.uint8(255), np.uint8(0))
            yield np.concatenate([np.rint(image).astype(np.uint8).transpose(2, 0, 1), alpha[np.newaxis]])
            told((row + rows) / grid.height * (1 - COPYING))

    plain = path.with_name(f"{secrets.token_hex(8)}.tif")
    try:
        write_geotiff(plain, strips(), grid, bands=4, meanings=RGBA, level=1)
        write_cog(plain, path, categorical=False, level=1)
    finally:
        plain.unlink(missing_ok=True)
    told(1)
