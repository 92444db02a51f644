"""A static STAC catalogue with small Cloud-Optimised GeoTIFFs: Sentinel-2 tiles and terrain-corrected Sentinel-1.

All show one ground: its reflectance and backscatter are functions of the place, :func:`reflectance` and :func:`power`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

__all__ = [
    "CORNER",
    "SIDE",
    "power",
    "reflectance",
    "sentinel1_item",
    "sentinel2_item",
    "write_area",
    "write_catalogue",
    "write_cog",
]

CORNER = (500_000.0, 4_000_000.0)  # of the first tile, in EPSG:32633
SIDE, BLOCK = 400, 128  # pixels of 10 m
COLORS = {"B04": "red", "B03": "green", "B02": "blue"}


def noise(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """A number in 0..1 for each place, different from pixel to pixel."""
    return np.modf(np.abs(np.sin(x * 0.0129898 + y * 0.078233 + seed) * 43758.5453))[0]


def places(corner: tuple[float, float], size: tuple[int, int], pixel: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of pixel centres, each (height, width)."""
    height, width = size
    return np.meshgrid(corner[0] + (np.arange(width) + 0.5) * pixel, corner[1] - (np.arange(height) + 0.5) * pixel)


def reflectance(name: str, corner: tuple[float, float], size: tuple[int, int], pixel: float = 10.0) -> np.ndarray:
    """The reflectance of a band, in whole 1/10000, (height, width)."""
    x, y = places(corner, size, pixel)
    return np.round(100 + noise(x, y, list(COLORS).index(name)) * 2800).astype(int) / 10000


def power(name: str, corner: tuple[float, float], size: tuple[int, int], pixel: float = 10.0) -> np.ndarray:
    """The backscatter of a polarisation, linear, float32 (height, width)."""
    x, y = places(corner, size, pixel)
    return (0.01 + noise(x, y, 7 if name == "VV" else 11) * 0.3).astype(np.float32)


def write_cog(
    path: Path,
    values: np.ndarray,
    corner: tuple[float, float],
    *,
    pixel: float = 10.0,
    epsg: int = 32633,
    nodata: float | None = None,
) -> None:
    """Write values (H, W) or (bands, H, W) as a Cloud-Optimised GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = values if values.ndim == 3 else values[np.newaxis]
    profile = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype.name}
    place = {"crs": CRS.from_epsg(epsg), "transform": Affine(pixel, 0, corner[0], 0, -pixel, corner[1])}
    options = {"driver": "COG", "blocksize": BLOCK, "compress": "DEFLATE", "overviews": "NONE"}
    with rasterio.open(path, "w", nodata=nodata, **profile, **place, **options) as file:
        file.write(values)


def footprint(corner: tuple[float, float], size: tuple[int, int], pixel: float, epsg: int) -> dict[str, Any]:
    """The geometry and bounding box of a raster in longitude and latitude."""
    west, south = corner[0], corner[1] - size[0] * pixel
    box = transform_bounds(CRS.from_epsg(epsg), "OGC:CRS84", west, south, corner[0] + size[1] * pixel, corner[1])
    ring = [[box[0], box[1]], [box[2], box[1]], [box[2], box[3]], [box[0], box[3]], [box[0], box[1]]]
    return {"bbox": list(box), "geometry": {"type": "Polygon", "coordinates": [ring]}}


def write_item(folder: Path, name: str, assets: Mapping[str, Any], place: Mapping[str, Any], **fields: Any) -> Path:
    """Write an item, whose other fields are its collection and properties."""
    collection = fields.pop("collection", None)
    item = {"type": "Feature", "stac_version": "1.0.0", "id": name, "stac_extensions": [], "links": [], **place}
    item |= {"collection": collection} if collection else {}
    path = folder / name / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**item, "properties": fields, "assets": dict(assets)}))
    return path


def sentinel2_item(
    folder: Path,
    name: str,
    corner: tuple[float, float] = CORNER,
    *,
    size: tuple[int, int] = (SIDE, SIDE),
    baseline: str = "04.00",
    acquired: str = "2023-06-10T10:00:00Z",
    clouds: float = 5.0,
    epsg: int = 32633,
    declares: Mapping[str, Any] | None = None,
    **properties: Any,
) -> Path:
    """Write a tile as Planetary Computer lays it out: without scale and offset, unless ``declares`` has them.

    The first 20 columns have no data, and SCL says that a square of 40 pixels further on is cloud.
    """
    added = 1000 if baseline >= "04.00" else 0
    assets: dict[str, Any] = {}
    for band, color in COLORS.items():
        values = (np.round(reflectance(band, corner, size) * 10000) + added).astype(np.uint16)
        values[:, :20] = 0
        write_cog(folder / name / f"{band}.tif", values, corner, epsg=epsg, nodata=0)
        assets[band] = {"href": f"./{band}.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]}
        assets[band] |= {"eo:bands": [{"name": band, "common_name": color}], "gsd": 10}
        assets[band] |= {"raster:bands": [dict(declares)]} if declares else {}
    classes = np.full((size[0] // 2, size[1] // 2), 4, np.uint8)
    classes[:, :10] = 0
    classes[20:40, 20:40] = 9
    write_cog(folder / name / "SCL.tif", classes, corner, pixel=20.0, epsg=epsg, nodata=0)
    assets["SCL"] = {"href": "./SCL.tif", "type": "image/tiff; application=geotiff", "roles": ["data"], "gsd": 20}
    assets["visual"] = {"href": "./TCI.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]}
    assets["preview"] = {"href": "./preview.jpg", "type": "image/jpeg", "roles": ["thumbnail"]}
    fields = {"datetime": acquired, "platform": "sentinel-2a", "instruments": ["msi"], "eo:cloud_cover": clouds}
    fields |= {"s2:processing_baseline": baseline, "collection": "sentinel-2-l2a", **properties}
    return write_item(folder, name, assets, footprint(corner, size, 10.0, epsg), **fields)


def sentinel1_item(
    folder: Path,
    name: str,
    corner: tuple[float, float] = CORNER,
    *,
    size: tuple[int, int] = (SIDE, SIDE),
    polarisations: Sequence[str] = ("VV", "VH"),
    acquired: str = "2023-06-11T17:00:00Z",
    epsg: int = 32633,
    **properties: Any,
) -> Path:
    """Write a scene as Planetary Computer's sentinel-1-rtc: linear gamma0, -32768 without data."""
    assets = {}
    for polarisation in polarisations:
        values = power(polarisation, corner, size)
        values[:, -15:] = -32768
        write_cog(folder / name / f"{polarisation.lower()}.tif", values, corner, epsg=epsg, nodata=-32768)
        assets[polarisation.lower()] = {
            "href": f"{polarisation.lower()}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "raster:bands": [{"nodata": -32768, "data_type": "float32", "spatial_resolution": 10.0}],
        }
    fields = {"datetime": acquired, "platform": "SENTINEL-1A", "sar:polarizations": list(polarisations)}
    fields |= {"collection": "sentinel-1-rtc", **properties}
    return write_item(folder, name, assets, footprint(corner, size, 10.0, epsg), **fields)


def write_catalogue(folder: Path, items: Sequence[Path]) -> Path:
    """Write a catalogue of one collection for each collection of the items."""
    collections: dict[str, list[Path]] = {}
    for item in items:
        collections.setdefault(json.loads(item.read_text())["collection"], []).append(item)
    links = []
    for name, members in collections.items():
        content = {"type": "Collection", "stac_version": "1.0.0", "id": name, "description": name, "license": "other"}
        content["extent"] = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
        content["links"] = [{"rel": "item", "href": f"./{item.relative_to(folder)}"} for item in members]
        content["links"].append({"rel": "root", "href": "./catalog.json"})
        (folder / f"{name}.json").write_text(json.dumps(content))
        links.append({"rel": "child", "href": f"./{name}.json"})
    catalogue = {"type": "Catalog", "stac_version": "1.0.0", "id": "all", "description": "all", "links": links}
    (folder / "catalog.json").write_text(json.dumps(catalogue))
    return folder / "catalog.json"


def write_area(path: Path, left: float, top: float, right: float, bottom: float, epsg: int = 32633) -> Path:
    """Write a box in map coordinates as GeoJSON with this reference system."""
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    content = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{epsg}"}},
        "features": [{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}],
    }
    path.write_text(json.dumps(content))
    return path
