"""A scene with labels for `mm-ovseg dataset tile`, and runs of it."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin

from tests.conftest import run_cli

UTM = CRS.from_epsg(32633)
PLACE = from_origin(500_000, 5_000_000, 10, 10)
HEIGHT, WIDTH = 96, 130
SIZE = 16


def run(options, output, *flags, code=0):
    words = [str(word) for key, value in options.items() for word in (key, *np.atleast_1d(value))]
    words += ["--output", output, *flags]
    if code == 0:
        run_cli("dataset tile", *words)
        return
    with pytest.raises(SystemExit) as stopped:
        run_cli("dataset tile", *words)
    assert stopped.value.code != 0


def tiles_of(output):
    """(split, row, column) -> the tile's RGB, SAR and labels."""
    tiles = {}
    for split in ("train", "val"):
        for path in sorted((output / split / "rgb").glob("*.tif")):
            arrays = {}
            for kind in ("rgb", "sar", "labels"):
                with rasterio.open(output / split / kind / path.name) as file:
                    arrays[kind], arrays["bounds"], arrays["crs"] = file.read(), file.bounds, file.crs
            row, column = (int(part[1:]) for part in path.stem.split("_")[-2:])
            tiles[split, row, column] = arrays
    return tiles


def polygon(left, top, right, bottom):
    """In pixels of the scene."""
    corners = [PLACE @ corner for corner in ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))]
    return {"type": "Polygon", "coordinates": [corners]}


def write_geojson(path, features, crs="EPSG:32633"):
    content = {"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": crs}}}
    content["features"] = [
        {"type": "Feature", "geometry": geometry, "properties": {"use": value}} for geometry, value in features
    ]
    path.write_text(json.dumps(content))
    return path
