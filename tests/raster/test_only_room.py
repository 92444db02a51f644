"""mm_ovseg.raster is the only place that opens or writes rasters and vector files."""

import ast

import pytest

from tests.conftest import ROOT

MODULES = {"fiona", "geopandas", "gdal", "imageio", "ogr", "osgeo", "pyogrio", "skimage", "tifffile", "torchvision.io"}
NAMES = {"DatasetReader", "DatasetWriter", "MemoryFile", "WarpedVRT", "imdecode", "imread", "imwrite"}
CALLS = {("rasterio", "open"), ("rasterio", "shutil"), ("rasterio", "vrt"), ("rasterio", "io"), ("Image", "open")}
ALLOWED = {
    "mm_ovseg/engine/prediction_images.py": {"Image.open": "reads back the figures that it drew"},
    "mm_ovseg/data/vector_file.py": {"fiona": "vector files move to mm_ovseg.raster"},
    "mm_ovseg/inference/map_writer.py": {"save": "a class map as PNG with a palette, which has no place on the ground"},
    "mm_ovseg/data/synthetic/dataset.py": {"save": "PNG and JPEG of the drawn world"},
    "tools/soak.py": {"rasterio.open": "becomes a test"},
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
    for folder in ("mm_ovseg", "tools", "demo", "datasets"):
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
