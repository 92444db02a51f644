"""Small files with the structure of ``realtrain``, filled with noise."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from sentinel.mosaics import SOURCES
from sentinel.scenes import CLASS_NAMES

__all__ = ["write_captions", "write_pair_archives", "write_scene_archives"]


def write_pair_archives(folder: Path) -> None:
    """One image of each scene of sentinel.pairs, 256 or 512 pixels wide at 10 m."""
    images = {
        "sen12_pairs.zip": {"ROIs1868_summer_59_p2": (256, 256), "ROIs1868_summer_59_p7": (256, 256),
                            "ROIs1868_summer_59_p9": (256, 256), "ROIs1970_fall_11_p201": (256, 256),
                            "ROIs1970_fall_2_p9": (256, 256), "ROIs1970_fall_8_p1": (256, 256)},
        "volkov_pairs.zip": {"003": (512, 256), "046": (256, 256), "151": (256, 256), "156": (256, 256),
                             "216": (256, 256), "252": (256, 256)},
        "india_pairs.zip": {f"pair_{number}": (183, 366) for number in (1, 2, 3)},
    }  # fmt: skip
    rng = np.random.default_rng(0)
    for archive, sizes in images.items():
        with zipfile.ZipFile(folder / archive, "w") as file:
            for name, (height, width) in sizes.items():
                _add(file, f"rgb/{name}.jpg", rng.integers(60, 200, (height, width, 3), np.uint8))
                _add(file, f"sar/{name}.jpg", rng.integers(20, 200, (height, width), np.uint8))


def write_scene_archives(folder: Path, per_folder: int = 10, side: int = 112) -> None:
    """Smooth blue scenes of water and noise of other classes, ``per_folder`` of each class; NWPU has one test scene."""
    rng = np.random.default_rng(0)
    water = {(source.archive, source.folder) for source in SOURCES if source.class_name == "water"}
    for name, classes in CLASS_NAMES.items():
        archive, train = f"{name}.zip", "train/" if name == "nwpu12" else ""
        with zipfile.ZipFile(folder / archive, "w") as file:
            for scenes in (f"{train}{class_name}/" for class_name in classes):
                for number in range(per_folder):
                    scene = np.full((side, side, 3), (20, 40, 70), np.uint8)
                    if (archive, scenes) not in water:
                        scene = rng.integers(0, 255, scene.shape, np.uint8)
                    _add(file, f"{scenes}{number:03d}.jpg", scene)
            if train:
                _add(file, "test/lake/100.jpg", scene)


def write_captions(folder: Path) -> None:
    """Two captions of one scene of AID, and one of another."""
    lines = [
        "file,caption",
        "Airport/000.jpg,many planes",
        "Airport/000.jpg,a runway",
        '"Park/001.jpg","trees, a lake"',
    ]
    (folder / "aid_captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _add(file: zipfile.ZipFile, name: str, image: np.ndarray) -> None:
    with file.open(name, "w") as member:
        Image.fromarray(image).save(member, "JPEG", quality=95)
