"""Small archives with the structure of ``realtrain``, filled with noise."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from sentinel.mosaics import SOURCES

__all__ = ["write_pair_archives", "write_scene_archives"]


def write_pair_archives(folder: Path) -> None:
    """One image of each scene of sentinel.pairs, 256 or 512 pixels wide at 10 m."""
    images = {
        "sen12_pairs.zip": {"ROIs1868_summer_59_p2": (256, 256), "ROIs1868_summer_59_p7": (256, 256),
                            "ROIs1868_summer_59_p9": (256, 256), "ROIs1970_fall_11_p201": (256, 256),
                            "ROIs1970_fall_2_p9": (256, 256), "ROIs1970_fall_8_p1": (256, 256)},
        "volkov_pairs.zip": {"003": (512, 256), "046": (256, 256), "151": (256, 256), "156": (256, 256),
                             "252": (256, 256)},
        "india_pairs.zip": {f"pair_{number}": (183, 366) for number in (1, 2, 3)},
    }  # fmt: skip
    rng = np.random.default_rng(0)
    for archive, sizes in images.items():
        with zipfile.ZipFile(folder / archive, "w") as file:
            for name, (height, width) in sizes.items():
                _add(file, f"rgb/{name}.jpg", rng.integers(60, 200, (height, width, 3), np.uint8))
                _add(file, f"sar/{name}.jpg", rng.integers(20, 200, (height, width), np.uint8))


def write_scene_archives(folder: Path, per_folder: int = 10) -> None:
    """Smooth blue scenes of water and noise of other classes, ``per_folder`` of each folder."""
    rng = np.random.default_rng(0)
    files = {name: zipfile.ZipFile(folder / name, "w") for name in {source.archive for source in SOURCES}}
    for source in SOURCES:
        for number in range(per_folder):
            scene = np.full((112, 112, 3), (20, 40, 70), np.uint8)
            if source.class_name != "water":
                scene = rng.integers(0, 255, scene.shape, np.uint8)
            _add(files[source.archive], f"{source.folder}{number:03d}.jpg", scene)
    for file in files.values():
        file.close()


def _add(file: zipfile.ZipFile, name: str, image: np.ndarray) -> None:
    with file.open(name, "w") as member:
        Image.fromarray(image).save(member, "JPEG", quality=95)
