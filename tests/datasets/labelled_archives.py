"""Small archives of the three labelled datasets: as processed for the paper, and as their authors are taken to publish.

Labels are vertical stripes, one a value in use, so that each class is known by its column.
"""

import tarfile
import zipfile

import numpy as np
from PIL import Image

from tests.datasets.conftest import noise, write_tile

SIZE = 32
PIE = ["background", "city", "road", "water", "forest", "farmland"]
DDHR = ["city", "road", "forest", "water", "farmland"]
DDHR_CH = ["city", "road", "farmland", "forest", "water"]
OEM = ["bareland", "rangeland", "developed space", "road", "tree", "water", "agriculture land", "building"]

# folder: kinds of files, suffix of the RGB files, number of classes that the masks show
PROCESSED = {
    "PIE_RGBSAR/train": (("rgb", "rgb_clouds"), "sar", "D2masks6", ".png", 4),
    "PIE_RGBSAR/val": (("rgb", "rgb_clouds"), "sar", "D2masks6", ".png", 6),
    "DDSK/train": (("rgb_clouds",), "sar", "D2masks3class", ".png", 3),
    "DDSK/val": (("rgb_clouds",), "sar", "D2masks", ".png", 5),
    "DDCH/val": (("rgb_clouds",), "sar", "D2masks", ".jpg", 5),
    "OEM/train": (("rgb_cloud", "rgb_cloud_thin"), "imgs", "D2masks5class", ".png", 5),
    "OEM/val": (("rgb_cloud", "rgb_cloud_thin"), "imgs", "D2masks", ".png", 8),
}


def stripes(values, size=SIZE):
    """(size, size) with a vertical stripe of each value."""
    columns = np.arange(size) * len(values) // size
    return np.tile(np.array(values)[columns], (size, 1)).astype(np.uint8)


def write_picture(path, array):
    """Write (H, W) or (H, W, 3) as PNG or JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_processed(folder, title, count=2, size=SIZE):
    """Write the release of "PIE_RGBSAR", "DDSK", "DDCH" or "OEM", unpacked, as it was processed for the paper."""
    for place, (rgb_kinds, sar, labels, suffix, classes) in PROCESSED.items():
        if not place.startswith(title):
            continue
        for index in range(count):
            for kind in rgb_kinds:
                write_picture(folder / place / kind / f"tile_{index}{suffix}", noise(size, size, 3, index))
            write_picture(folder / place / sar / f"tile_{index}.png", noise(size, size, 1, index + 50)[..., 0])
            write_picture(folder / place / labels / f"tile_{index}.png", stripes([*range(classes), 255], size))
    return folder / title


def write_authors(folder, label, rgb="rgb", sar="sar", labels="labels", splits=("train", "val"), count=2, size=SIZE):
    """Write a release as the authors are taken to publish it: GeoTIFFs; ``label`` is (H, W) or (H, W, 3)."""
    for split_index, split in enumerate(splits):
        for index in range(count):
            seed = 10 * split_index + index
            corner = (600_000.0 + 100 * seed, 5_748_000.0)
            for kind, pixels in (
                (rgb, noise(size, size, 3, seed)),
                (sar, noise(size, size, 1, seed + 50)),
                (labels, label if label.ndim == 3 else label[..., None]),
            ):
                write_tile(folder / split / kind / f"{split}_{index}.tif", pixels, corner)
    return folder


def pack(folder, archive, top=""):
    """Pack a folder as .zip or .tar.gz, its content below ``top``."""
    paths = [(path, f"{top}/{path.relative_to(folder).as_posix()}".lstrip("/")) for path in sorted(folder.rglob("*.*"))]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path, name in paths:
                file.write(path, name)
    else:
        with tarfile.open(archive, "w:gz") as file:
            for path, name in paths:
                file.add(path, arcname=name)
    return archive
