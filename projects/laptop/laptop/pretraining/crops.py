"""Random crops of a labelled dataset's RGB images, held in memory."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from mm_ovseg.errors import DataError
from mm_ovseg.raster import read_label, read_rgb

__all__ = ["LabelledScenes"]


class LabelledScenes:
    """All RGB images and label maps of a registered dataset.

    Args:
        name: the dataset; every pair must have a label.

    Attributes:
        classes: names of the classes.
        images: (3, H, W) uint8 for each scene.
        labels: (H, W) uint8 class indices for each scene.

    Raises:
        DataError: a label is missing or a file unreadable.
    """

    def __init__(self, name: str) -> None:
        metadata = MetadataCatalog.get(name)
        self.images, self.labels = [], []
        for item in DatasetCatalog.get(name):
            if "sem_seg_file_name" not in item:
                raise DataError(f"{item['file_name']} has no label; '{name}' cannot be captioned.")
            image, _ = read_rgb(item["file_name"])  # (H, W, 3)
            self.images.append(torch.from_numpy(image.astype(np.uint8)).permute(2, 0, 1))
            self.labels.append(
                read_label(
                    item["sem_seg_file_name"],
                    num_classes=len(metadata.stuff_classes),
                    ignore_label=metadata.ignore_label,
                )
            )
        self.classes: Sequence[str] = tuple(metadata.stuff_classes)

    def crops(self, size: int, generator: np.random.Generator) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        """Draw crops endlessly, flipped and rotated at random.

        Args:
            size: side of a crop in pixels.
            generator: draws scenes, positions and rotations.

        Yields:
            A crop (3, size, size) uint8, and the share of its pixels that each class has, (T,) float.

        Raises:
            DataError: a scene is smaller than a crop.
        """
        smallest = min(min(label.shape) for label in self.labels)
        if smallest < size:
            raise DataError(f"Crops have {size} pixels, but the smallest scene has only {smallest} pixels.")
        while True:
            index = generator.integers(len(self.images))
            image, label = self.images[index], self.labels[index]
            row, column = (generator.integers(side - size + 1) for side in label.shape)
            window = (slice(row, row + size), slice(column, column + size))
            crop = torch.rot90(image[(slice(None), *window)], int(generator.integers(4)), dims=(1, 2))
            if generator.integers(2):
                crop = crop.flip(2)
            counts = np.bincount(label[window].ravel(), minlength=len(self.classes))[: len(self.classes)]
            yield crop, counts / size**2
