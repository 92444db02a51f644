"""Small tiles with the names and bands of TerraMind's examples."""

import numpy as np
import rasterio
from rasterio import Affine

SIDE = 64
PROFILE = {
    "driver": "GTiff",
    "width": SIDE,
    "height": SIDE,
    "crs": "EPSG:32718",
    "transform": Affine(10, 0, 7e5, 0, -10, 6e6),
}
# Red, green and blue reflectance, and VV and VH in dB, by label value: water, trees, flooded vegetation, crops.
LOOKS = {
    1: (0.02, 0.03, 0.06, -21, -28),
    2: (0.02, 0.04, 0.02, -9, -14),
    3: (0.03, 0.04, 0.03, -9, -15),
    4: (0.08, 0.12, 0.06, -13, -18),
}


def write_tile(folder, site, *, values=(1, 2), offset=0, as_reflectance=True, seed=0):
    """Write one tile of vertical stripes of the label values, with a little noise.

    ``offset`` is in the stored reflectance, as in tiles since processing baseline 04.00.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    label = np.repeat(np.array(values, np.uint8), -(-SIDE // len(values)))[:SIDE][None].repeat(SIDE, 0)
    looks = np.array([LOOKS.get(value, (0,) * 5) for value in range(max(values) + 1)])[label].transpose(2, 0, 1)
    bands = np.zeros((12, SIDE, SIDE), np.int16) + np.int16(offset)
    bands[[3, 2, 1]] += np.rint(looks[:3] * 1e4 + rng.normal(0, 20, (3, SIDE, SIDE))).astype(np.int16)
    rendered = np.clip(looks[:3] / 0.3 * 255, 0, 255).astype(np.uint8)
    files = {"label": label[None], "sar": looks[3:] + rng.normal(0, 0.5, (2, SIDE, SIDE)), "rgb": rendered}
    if as_reflectance:
        files["s2l2a"] = bands
    for kind, pixels in files.items():
        profile = {**PROFILE, "count": len(pixels), "dtype": pixels.dtype}
        with rasterio.open(folder / f"{kind}_{site}.tif", "w", **profile) as file:
            file.write(pixels)
    return label
