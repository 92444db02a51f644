"""The labelled and captioned scenes that the RGB encoders learn from: AID, NWPU (12 classes) and RSSCN7."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mm_ovseg.errors import DataError
from sentinel.archive import Archive

__all__ = ["CLASS_NAMES", "Scenes", "read_scenes"]

SIDE = 112  # pixels
HELD_OUT = 10  # every tenth scene of a class is held out, and NWPU's own test scenes

# The names of the folders, as people write them.
CLASS_NAMES: dict[str, dict[str, str]] = {
    "aid": {
        "Airport": "airport",
        "BareLand": "bare ground",
        "BaseballField": "baseball field",
        "Beach": "beach",
        "Bridge": "bridge",
        "Center": "city center",
        "Church": "church",
        "Commercial": "commercial area",
        "DenseResidential": "dense residential area",
        "Desert": "desert",
        "Farmland": "farmland",
        "Forest": "forest",
        "Industrial": "industrial area",
        "Meadow": "meadow",
        "MediumResidential": "residential area",
        "Mountain": "mountain",
        "Park": "park",
        "Parking": "parking lot",
        "Playground": "playground",
        "Pond": "pond",
        "Port": "port",
        "RailwayStation": "railway station",
        "Resort": "resort",
        "River": "river",
        "School": "school",
        "SparseResidential": "houses",
        "Square": "square",
        "Stadium": "stadium",
        "StorageTanks": "storage tanks",
        "Viaduct": "viaduct",
    },
    "nwpu12": {
        "beach": "beach",
        "commercial_area": "commercial area",
        "desert": "desert",
        "farmland": "farmland",
        "forest": "forest",
        "industrial_area": "industrial area",
        "island": "island",
        "lake": "lake",
        "mountain": "mountain",
        "residential": "residential area",
        "river": "river",
        "wetland": "wetland",
    },
    "rsscn7": {
        "aGrass": "grassland",
        "bField": "fields",
        "cIndustry": "industrial area",
        "dRiverLake": "water",
        "eForest": "forest",
        "fResident": "residential area",
        "gParking": "parking lot",
    },
}


@dataclass(frozen=True)
class Scenes:
    """All scenes of the sets in memory.

    Attributes:
        images: uint8 (N, 112, 112, 3).
        files: "CLASS/NAME.jpg" of each.
        sets: of each, an index into ``CLASS_NAMES``.
        labels: of each, an index into the classes of its set.
        held_out: bool (N,); not for training.
    """

    images: np.ndarray
    files: list[str]
    sets: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray


def read_scenes(source: Path) -> Scenes:
    """Read the zips ``aid.zip``, ``nwpu12.zip`` and ``rsscn7.zip`` of a folder.

    Raises:
        DataError: a zip is missing or damaged, or has too few scenes of a class to hold one out.
    """
    images, files, sets, labels, held_out = [], [], [], [], []
    for set_index, (name, classes) in enumerate(CLASS_NAMES.items()):
        counts = dict.fromkeys(classes, 0)
        with Archive(source / f"{name}.zip") as archive:
            for member in tqdm(archive.names(), desc=name, unit="scene"):
                folder, file = Path(member).parent.name, Path(member).name
                if folder not in classes:
                    continue
                image = archive.read(member)
                if image.shape[:2] != (SIDE, SIDE):
                    image = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
                counts[folder] += 1
                images.append(image)
                files.append(f"{folder}/{file}")
                sets.append(set_index)
                labels.append(list(classes).index(folder))
                held_out.append(member.startswith("test/") or counts[folder] % HELD_OUT == 0)
            for folder, count in counts.items():
                if count < HELD_OUT:
                    raise DataError(f"{archive.path} has {count} scenes in {folder}/; copy it again.")
    return Scenes(np.stack(images), files, np.array(sets), np.array(labels), np.array(held_out))
