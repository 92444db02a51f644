"""STAC items of maps, with their classes."""

import itertools
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from rasterio import Affine

import mm_ovseg
from mm_ovseg.data.palette import LegendEntry
from mm_ovseg.decision import NODATA_CLASS
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.files import write_json
from mm_ovseg.inference.map_images import MapTimes
from mm_ovseg.raster import Grid
from mm_ovseg.raster.crs import LONGITUDE_LATITUDE
from mm_ovseg.raster.polygon_projection import PolygonProjector

if TYPE_CHECKING:
    import pystac

__all__ = ["MapAsset", "check_on_earth", "import_pystac", "write_stac_item"]

PROCESSING = "https://stac-extensions.github.io/processing/v1.0.0/schema.json"
# A twentieth of a pixel, 5 metres, is the tolerance of the outline, which is cut at the antimeridian, as GeoJSON asks.
EARTH = Grid(360_000, 180_000, LONGITUDE_LATITUDE, Affine(1e-3, 0, -180, 0, -1e-3, 90))
DECIMALS = 7  # of degrees


@dataclass(frozen=True)
class MapAsset:
    """A file of an item.

    Attributes:
        path: the file.
        title: what it is.
        roles: such as "data" or "metadata".
        media_type: None for that of our rasters, COGs of 8 bits whose nodata value is 255.
        legend: the classes of a raster; empty for others.
        bands: the number of bands of a raster.
        unit: that of a raster's values, "" for none.
    """

    path: Path
    title: str
    roles: tuple[str, ...]
    media_type: str | None = None
    legend: Sequence[LegendEntry] = ()
    bands: int = 1
    unit: str = ""


def import_pystac() -> ModuleType:
    """The optional pystac, with the extensions that are used.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import pystac
        import pystac.extensions.classification
        import pystac.extensions.projection
        import pystac.extensions.raster
    except ImportError as error:
        raise ConfigError(f"--deliver stac needs pystac ({error}); run: pip install 'mm_ovseg[stac]'.") from error
    return pystac


def check_on_earth(grid: Grid) -> None:
    """Check that an item can say where a map is.

    Raises:
        DataError: the map is not georeferenced, or in a local system.
    """
    if grid.pixel_size_metres is None:
        raise DataError(
            "The map has no place on the Earth, which a STAC item must tell; georeference the images, or leave "
            "--deliver stac out."
        )


def write_stac_item(
    path: Path,
    grid: Grid,
    assets: Mapping[str, MapAsset],
    *,
    title: str,
    times: MapTimes,
    derived_from: Sequence[str] = (),
    software: Mapping[str, str] | None = None,
) -> None:
    """Write an item with the extensions classification, projection, raster and processing.

    Args:
        path: the item; its id is the stem of the map, and paths to assets are relative to it.
        grid: that of the rasters, on the Earth.
        assets: key -> file; "map" is the first.
        title: what the map is.
        times: those of the images.
        derived_from: addresses, and paths relative to the item, of what the map was made from.
        software: name -> version of further programs.

    Raises:
        DataError: the file cannot be written.
    """
    pystac = import_pystac()
    outline = shapely.Polygon(grid.outline())
    [place] = PolygonProjector(grid.crs, EARTH, os.fspath(path)).project(np.array([outline]))
    # The projector's polygons are a little larger.
    place = shapely.transform(place, lambda points: points.clip((-180, -90), (180, 90)).round(DECIMALS))
    item = pystac.Item(
        id=assets["map"].path.stem,
        geometry=_geojson(place),
        bbox=_bounds(place),
        datetime=times.start if times.start == times.end else None,
        start_datetime=None if times.start == times.end else times.start,
        end_datetime=None if times.start == times.end else times.end,
        stac_extensions=[PROCESSING],
        properties={
            "title": title,
            "description": times.about,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "gsd": grid.pixel_size_metres,
            "processing:software": {"mm_ovseg": mm_ovseg.__version__, **(software or {})},
        },
    )
    authority = grid.crs.to_authority()
    pystac.extensions.projection.ProjectionExtension.ext(item, add_if_missing=True).apply(
        code=None if authority is None else ":".join(authority),
        wkt2=grid.crs.to_wkt(version="WKT2_2019") if authority is None else None,
        bbox=[float(value) for value in shapely.bounds(outline)],
        shape=[grid.height, grid.width],
        transform=list(grid.transform)[:6],
    )
    for key, asset in assets.items():
        item.add_asset(key, _asset(asset, path.parent, grid, item))
    for href in derived_from:
        item.add_link(pystac.Link(pystac.RelType.DERIVED_FROM, href))
    write_json(path, item.to_dict(include_self_link=False, transform_hrefs=False))


def _asset(asset: MapAsset, folder: Path, grid: Grid, item: "pystac.Item") -> "pystac.Asset":
    pystac = import_pystac()
    raster = pystac.extensions.raster
    made = pystac.Asset(
        href=f"./{Path(os.path.relpath(asset.path, folder)).as_posix()}",
        title=asset.title,
        media_type=asset.media_type or pystac.MediaType.COG,
        roles=list(asset.roles),
    )
    made.set_owner(item)
    if asset.media_type is None:
        band = raster.RasterBand.create(
            nodata=NODATA_CLASS,
            sampling=raster.Sampling.AREA,
            data_type=raster.DataType.UINT8,
            spatial_resolution=grid.pixel_size_metres,
            unit=asset.unit or None,
        )
        raster.RasterExtension.ext(made, add_if_missing=True).apply([band] * asset.bands)
    if asset.legend:
        classes = pystac.extensions.classification.ClassificationExtension.ext(made, add_if_missing=True)
        classes.apply(classes=_classes(asset.legend))
    return made


def _classes(legend: Sequence[LegendEntry]) -> list["pystac.extensions.classification.Classification"]:
    create = import_pystac().extensions.classification.Classification.create
    names: list[str] = []
    for entry in legend:
        name = _short_name(entry.name) or f"class_{entry.value}"
        names.append(f"{name}_{entry.value}" if name in names else name)
    classes = [
        create(entry.value, name=name, title=entry.name, color_hint="{:02X}{:02X}{:02X}".format(*entry.color))
        for name, entry in zip(names, legend, strict=True)
    ]
    return [*classes, create(NODATA_CLASS, name="nodata", title="no data", nodata=True)]


def _short_name(name: str) -> str:
    """A class name in the letters that STAC allows; "" if none is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub("[^0-9A-Za-z-]+", "_", plain).strip("_")


def _geojson(place: shapely.MultiPolygon) -> dict[str, Any]:
    parts = shapely.get_parts(shapely.orient_polygons(place))
    return shapely.geometry.mapping(parts[0] if len(parts) == 1 else shapely.MultiPolygon(list(parts)))


def _bounds(place: shapely.MultiPolygon) -> list[float]:
    """West, south, east, north; west is more than east across the antimeridian, as in RFC 7946."""
    west, south, east, north = map(float, shapely.bounds(place))
    if (west, east) == (-180, 180):
        spans = sorted(tuple(bounds[[0, 2]]) for bounds in shapely.bounds(shapely.get_parts(place)))
        gaps = [(after[0] - before[1], after[0], before[1]) for before, after in itertools.pairwise(spans)]
        gap, west_of_gap, east_of_gap = max(gaps, default=(0, west, east))
        if gap > 0:
            west, east = map(float, (west_of_gap, east_of_gap))
    return [west, south, east, north]
