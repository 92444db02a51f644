"""Images for `mm-ovseg dataset clouds`, and runs of it."""

import warnings

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

from tests.conftest import run_cli

DRIVERS = {".tif": "GTiff", ".png": "PNG", ".jpg": "JPEG"}
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
GRID = {"crs": "EPSG:32631", "transform": from_origin(500_000, 5_700_000, 2.0, 2.0)}
SENTINEL = {"scales": (1e-4,) * 5, "offsets": (-0.1,) * 5, "descriptions": ("B1", "B2", "B3", "B4", "B8 near infrared")}


def write(path, bands, meanings=None, mask=None, **profile):
    """Write (bands, H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    profile = {"driver": DRIVERS[path.suffix], "dtype": bands.dtype, **profile}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", count=count, height=height, width=width, **profile) as file:
            if meanings:
                file.colorinterp = meanings
            file.write(bands)
            if mask is not None:
                file.write_mask(mask)
    return path


def read(path):
    """Bands (bands, H, W), and what they mean."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read(), file.colorinterp


def ground(count=3, shape=(70, 80), seed=0):
    return np.random.default_rng(seed).integers(20, 90, (count, *shape), dtype=np.uint8)


def run(*arguments, status=None):
    """Run the command in this process; ``status`` is what it exits with."""
    words = ["--workers", 1, "--kind", "fractal", *arguments]
    if status is None:
        run_cli("dataset clouds", *words)
        return
    with pytest.raises(SystemExit) as stopped:
        run_cli("dataset clouds", *words)
    assert stopped.value.code == status


def contents(folder):
    """The bytes of every file that is for users, by its path."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def one(tmp_path, path, *arguments):
    """Draw clouds over one file and return the cloudy one and its mask, (H, W)."""
    run(path.parent, tmp_path / "out", *arguments)
    (mask,) = (tmp_path / "out" / "cloud_masks").glob(f"{path.stem}.*[!l]")
    return tmp_path / "out" / "rgb_clouds" / path.name, read(mask)[0][0]
