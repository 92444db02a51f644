"""Datasets of RGB-SAR pairs, and how their files are found and paired."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mm_ovseg.errors import DataError
from mm_ovseg.raster import read_raster_info
from mm_ovseg.raster.trust import check_links

__all__ = ["RASTER_SUFFIXES", "RGBSARDataset", "is_raster_file", "match_files"]

RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
NAMES_SHOWN = 10


@dataclass(frozen=True)
class RGBSARDataset:
    """A dataset with the checked arguments of :func:`mm_ovseg.data.register_rgb_sar_dataset`.

    ``label_values`` are sorted (raw value, class index or ``ignore_label``) pairs; ``pairs`` are the keys of the pairs
    to use, None for all.
    """

    name: str
    root: str
    rgb: str
    sar: str
    labels: str | None
    classes: tuple[str, ...]
    unseen: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    ignore_label: int
    label_values: tuple[tuple[int, int], ...] | None
    ground_sampling_distance: float | None
    pairs: tuple[str, ...] | None = None

    @property
    def folder(self) -> Path:
        """The root; a relative one is within the current value of ``$DETECTRON2_DATASETS``."""
        return Path(os.environ.get("DETECTRON2_DATASETS", "datasets"), Path(self.root).expanduser()).expanduser()

    @property
    def patterns(self) -> dict[str, str]:
        """The pattern in the root of each kind of files: "RGB", "SAR" and, if the dataset has labels, "label"."""
        patterns = {"RGB": self.rgb, "SAR": self.sar}
        return patterns if self.labels is None else {**patterns, "label": self.labels}

    def load(self) -> list[dict]:
        """List the pairs as dataset dicts, sorted by key.

        Raises:
            DataError: A folder is missing, no pair is found, a file has no partner, or a link points outside the root.
        """
        sources = {kind: self._one_file_each(pattern) for kind, pattern in self.patterns.items()}
        if not any(sources.values()):
            places = ", ".join(str(self.folder / pattern) for pattern in self.patterns.values())
            raise DataError(
                f"Dataset '{self.name}' has no files ({', '.join(RASTER_SUFFIXES)}) at {places}; put the data there, "
                "or correct the dataset's declaration."
            )
        self._check_partners(sources)
        return [self._dataset_dict(key, sources) for key in sorted(sources["RGB"])]

    def find(self, pattern: str) -> dict[str, list[Path]]:
        """The files of a folder, or those that match a pattern with one star, by key, regardless of ``pairs``.

        A key has several files if they differ only in their suffix, which :meth:`load` refuses.

        Raises:
            DataError: The folder does not exist.
        """
        folder, _ = _split_pattern(self.folder, pattern)
        if not folder.is_dir():
            raise DataError(
                f"The folder {folder} of dataset '{self.name}' does not exist; put the data there, or set the "
                "environment variable DETECTRON2_DATASETS to the folder that contains your datasets."
            )
        return match_files(self.folder, pattern)

    def _one_file_each(self, pattern: str) -> dict[str, Path]:
        """The files of :meth:`find` that are among the pairs, by key."""
        found, wanted = {}, None if self.pairs is None else set(self.pairs)
        for key, files in self.find(pattern).items():
            if wanted is not None and key not in wanted:
                continue
            if len(files) > 1:
                raise DataError(
                    f"{files[0]} and {files[1]} differ only in their suffix, so neither can be paired; remove one, or "
                    f"declare dataset '{self.name}' with a pattern that matches one kind, such as '*{files[1].suffix}'."
                )
            found[key] = files[0]
        check_links(found.values(), self.folder)
        return found

    def _check_partners(self, sources: Mapping[str, Mapping[str, Path]]) -> None:
        keys = set().union(*sources.values()) if self.pairs is None else set(self.pairs)
        complaints = [
            f"there is no {kind} file for {len(missing)} of {len(keys)} names "
            f"({', '.join(missing[:NAMES_SHOWN])}{', ...' * (len(missing) > NAMES_SHOWN)})"
            for kind, files in sources.items()
            if (missing := sorted(keys - files.keys()))
        ]
        if complaints:
            raise DataError(
                f"Dataset '{self.name}' at {self.folder} has no partner for some files: {'; '.join(complaints)}; add "
                "the missing files or remove those without a partner."
            )

    def _dataset_dict(self, key: str, sources: Mapping[str, Mapping[str, Path]]) -> dict:
        sample = {
            "file_name": str(sources["RGB"][key]),
            "sar_file_name": str(sources["SAR"][key]),
            "image_id": key,
            "dataset_name": self.name,
        }
        if "label" in sources:
            sample["sem_seg_file_name"] = str(sources["label"][key])
        try:
            info = read_raster_info(sources["RGB"][key])
        except DataError:
            return sample  # the mapper reports or skips a damaged file (INPUT.SKIP_CORRUPT)
        return sample | {"height": info.grid.height, "width": info.grid.width}


def match_files(root: Path, pattern: str) -> dict[str, list[Path]]:
    """The images of a folder in ``root``, or those that match a pattern with one star, by key, sorted.

    The key is the file name without suffix, or the part that the star matches; several files may share one.
    """
    folder, file_pattern = _split_pattern(root, pattern)
    before, after = (re.escape(part) for part in file_pattern.split("*"))
    key_expression = re.compile(f"{before}(.+){after}", re.DOTALL)
    names_suffix = Path(file_pattern).suffix.lower() in RASTER_SUFFIXES
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if is_raster_file(file) and (match := key_expression.fullmatch(file.name if names_suffix else file.stem)):
            found.setdefault(match.group(1), []).append(file)
    return found


def is_raster_file(path: Path) -> bool:
    """Whether a file counts as part of a dataset: an image by its suffix and not hidden."""
    return path.suffix.lower() in RASTER_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _split_pattern(root: Path, pattern: str) -> tuple[Path, str]:
    """The folder in which to look, and the pattern of its files."""
    path = root / pattern
    return (path.parent, path.name) if "*" in path.name else (path, "*")
