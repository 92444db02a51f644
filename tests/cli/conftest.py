import numpy as np
import pytest
import rasterio

from tests.cli.labelled_scene import HEIGHT, PLACE, SIZE, UTM, WIDTH


@pytest.fixture
def write(tmp_path):
    def write(name, array, crs=UTM, transform=PLACE, **profile):
        bands = array[None] if array.ndim == 2 else array
        path = tmp_path / name
        with rasterio.open(
            path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2],
            dtype=array.dtype, crs=crs, transform=transform, **profile,
        ) as file:  # fmt: skip
            file.write(bands)
        return path

    return write


@pytest.fixture
def scene(write):
    """RGB whose red is the row and green the column, SAR in dB on the same grid, labels in vertical stripes of 10."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    rgb = np.stack([rows + 1, columns + 1, np.full_like(rows, 7)]).astype(np.uint8)
    decibels = (-25 + rows / HEIGHT * 20).astype(np.float32)
    labels = (columns // 10 % 3).astype(np.uint8)
    return {
        "--rgb": write("rgb.tif", rgb),
        "--sar": write("sar.tif", decibels),
        "--labels": write("labels.tif", labels),
        "--sar-scale": "db",
        "--size": SIZE,
        "--square": 2,
        "--classes": "water,forest,city",
    }
