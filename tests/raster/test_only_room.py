"""Only mm_ovseg.raster opens or writes rasters and vector files, and lower rooms import nothing from upper ones."""

import ast

import pytest

from tests.conftest import ROOT

MODULES = {"fiona", "geopandas", "gdal", "imageio", "ogr", "osgeo", "pyogrio", "skimage", "tifffile", "torchvision.io"}
# The rooms of mm_ovseg that each may import from, besides itself and the modules that belong to no room.
ROOMS = {"raster": set(), "data": {"raster"}, "checkpoint": set(), "modeling": {"checkpoint"}}
ROOMS["baselines"] = {"checkpoint", "modeling"}
ROOMS["visualization"] = {"raster", "data"}
ROOMS["evaluation"] = {"raster", "data", "visualization"}
ROOMS["engine"] = {"raster", "data", "checkpoint", "modeling", "baselines", "visualization", "evaluation"}
ROOMS["products"] = {"raster", "data"}
ROOMS["inference"] = {*ROOMS["engine"], "engine", "products"}
ROOMS["export"] = ROOMS["efficiency"] = ROOMS["inference"]
ROOMS["accuracy"] = {*ROOMS["inference"], "inference"}
ROOMS["tables"] = {*ROOMS["inference"], "efficiency"}
ROOMS["app"] = {*ROOMS["inference"], "inference"}
NAMES = {"DatasetReader", "DatasetWriter", "MemoryFile", "WarpedVRT", "imdecode", "imread", "imwrite"}
CALLS = {("rasterio", "open"), ("rasterio", "shutil"), ("rasterio", "vrt"), ("rasterio", "io"), ("Image", "open")}
ALLOWED = {
    "mm_ovseg/engine/prediction_images.py": {"Image.open": "reads back the figures that it drew"},
    "mm_ovseg/inference/map_writer.py": {"save": "a class map as PNG with a palette, which has no place on the ground"},
    "projects/laptop/laptop/drawn_world/dataset.py": {"save": "PNG of the drawn world"},
}


def uses(source: str) -> set[str]:
    """What a module calls or imports to open or write images and vector files."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = names if isinstance(node, ast.Import) else [node.module or ""]
            found |= {name for name in names if name in NAMES}
            found |= {module.split(".")[0] for module in modules if {module, module.split(".")[0]} & MODULES}
            found |= {module for module in modules if module in ("rasterio.shutil", "rasterio.vrt", "rasterio.io")}
            if getattr(node, "module", "") == "rasterio" and "open" in names:
                found.add("rasterio.open")
        elif isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if (owner, node.attr) in CALLS:
                found.add(f"{owner}.{node.attr}")
            elif node.attr in NAMES or (node.attr == "save" and owner in ("image", "picture")):
                found.add(node.attr)
        elif isinstance(node, ast.Name) and node.id in NAMES:
            found.add(node.id)
    return found


def modules():
    for folder in ("mm_ovseg", "tools", "demo", "datasets", "projects"):
        yield from sorted((ROOT / folder).rglob("*.py"))
    yield from sorted(ROOT.glob("*.py"))


def test_nothing_else_opens_or_writes_rasters_and_vector_files():
    found = {}
    for path in modules():
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith("mm_ovseg/raster/") and (of_module := uses(path.read_text(encoding="utf-8"))):
            found[name] = of_module
    assert len(found) < len(list(modules())) / 4
    assert found == {name: set(reasons) for name, reasons in ALLOWED.items() if (ROOT / name).exists()}


def imported_rooms(source: str) -> set[str]:
    """The folders of mm_ovseg that a module imports from."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    parts = (module.split(".") for module in modules)
    return {names[1] for names in parts if names[0] == "mm_ovseg" and len(names) > 1 and is_room(names[1])}


def is_room(name: str) -> bool:
    return (ROOT / "mm_ovseg" / name).is_dir()


@pytest.mark.parametrize("room", ROOMS)
def test_lower_rooms_import_nothing_from_upper_ones(room):
    paths = sorted((ROOT / "mm_ovseg" / room).rglob("*.py"))
    found = {path.name: imported_rooms(path.read_text(encoding="utf-8")) - ROOMS[room] - {room} for path in paths}
    assert paths and not {name: rooms for name, rooms in found.items() if rooms}


@pytest.mark.parametrize("line", [
    "import mm_ovseg.engine.setup",
    "from mm_ovseg import engine",
    "def build():\n    from mm_ovseg.engine import load_config",
])  # fmt: skip
def test_imports_of_other_rooms_are_found(line):
    assert imported_rooms(line) == {"engine"} and not imported_rooms("from mm_ovseg.errors import DataError")


@pytest.mark.parametrize("line, use", [
    ("import rasterio\nrasterio.open('a.tif')", "rasterio.open"),
    ("from rasterio import open", "rasterio.open"),
    ("from rasterio.vrt import WarpedVRT", "WarpedVRT"),
    ("import fiona.crs", "fiona"),
    ("from osgeo import gdal", "osgeo"),
    ("import geopandas as gpd", "geopandas"),
    ("import cv2\ncv2.imread('a.png')", "imread"),
    ("from cv2 import imwrite", "imwrite"),
    ("from PIL import Image\nImage.open('a.png')", "Image.open"),
    ("def read():\n    import tifffile", "tifffile"),
])  # fmt: skip
def test_what_opens_files_is_found(line, use):
    assert use in uses(line)
    assert not uses("import numpy as np\nfrom rasterio import Affine\nfrom mm_ovseg.raster import open_raster\n")
