"""What the tests of optical products read from prepared images."""

import numpy as np

from mm_ovseg.data.cloud_mask import CloudMask
from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.products import Preparation, prepare_image
from mm_ovseg.raster import RasterSource


def prepare(tmp_path, paths, name="out"):
    """Prepare optical products in a folder of that name."""
    return prepare_image(paths, "rgb", Preparation(folder=tmp_path / name))


def reflectance(prepared):
    """Physical values of an image, float (3, H, W); NaN where it has no data."""
    with RasterSource(prepared.paths) as source:
        stored, valid = source.read([1, 2, 3], dtype="float64")
        source.scale(stored, [1, 2, 3])
        assert source.unit([1, 2, 3]) == "reflectance"
    return np.where(True if valid is None else valid, stored, np.nan).transpose(2, 0, 1)


def clouds(prepared):
    """Where the product says that clouds are, bool (H, W) on the image's grid."""
    layer = prepared.clouds
    with SceneSource(prepared.paths, None) as scene, CloudMask(layer.path, scene, layer.values) as mask:
        assert mask.covered == 1 and not mask.concerns()
        return mask.read(0, 0, *scene.grid.shape)
