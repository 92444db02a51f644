"""Which files of a published dataset are of which kind, split and name, by where they lie."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

from mm_ovseg.data.declaration import RASTER_SUFFIXES
from mm_ovseg.data.preparation.labelled.layout import DatasetLayout
from mm_ovseg.data.preparation.split import SPLITS
from mm_ovseg.errors import ConfigError

__all__ = ["SPLIT_FIELD", "FilePattern", "authors_patterns", "processed_patterns"]

SPLIT_FIELD = "{split}"
_ARCHIVE_SUFFIX = re.compile(r"(\.tar)?\.(zip|tar|gz|tgz|bz2|xz)$", re.IGNORECASE)


@dataclass(frozen=True)
class FilePattern:
    """Files of one kind.

    Attributes:
        kind: Of RGB, ``SAR`` or ``LABELS``.
        split: "train" or "val"; None where the path does not say it.
        path: The last folders of the files' paths, and, if it has a ``*``, which stands for the name that the files of
            a pair share, also the file name, with or without its suffix. Without: all files of the folder.
    """

    kind: str
    split: str | None
    path: str

    def name_of(self, path: PurePath) -> str | None:
        """The name that a file shares with its partners; None where it is not of this kind.

        An archive counts as a folder with its name, whether the suffix (``.zip``) is spelt out or not.
        """
        *folders, file = PurePosixPath(self.path if "*" in self.path else f"{self.path}/*").parts
        tail = path.parts[:-1][-len(folders) :] if folders else ()
        if [_ARCHIVE_SUFFIX.sub("", part) for part in tail] != folders:
            return None
        before, after = map(re.escape, file.split("*"))
        has_suffix = PurePosixPath(file).suffix.lower() in RASTER_SUFFIXES
        match = re.fullmatch(f"{before}(.+){after}", path.name if has_suffix else path.stem, re.DOTALL)
        return match[1] if match else None


def processed_patterns(layout: DatasetLayout, folder: str = "") -> list[FilePattern]:
    """Where the processed release holds the files of a dataset.

    Args:
        layout: The dataset.
        folder: What the files must lie in, above the folder of their split.
    """
    return [
        FilePattern(kind, split, str(PurePosixPath(folder, split, place)))
        for split, split_layout in layout.splits.items()
        for kind, place in split_layout.folders.items()
    ]


def authors_patterns(
    defaults: Mapping[str, str], given: Mapping[str, str], split_folders: Iterable[str]
) -> list[FilePattern]:
    """Where the archive of a dataset's authors holds its files.

    Args:
        defaults: Kind -> path as in :class:`FilePattern`, in which ``{split}`` stands for the folder of a split.
        given: Those of the user, which go before the defaults, and stand alone if none of them has ``{split}``.
        split_folders: What ``{split}`` is for training and for validation.

    Raises:
        ConfigError: A path has another number of stars, or one in a folder, or only some name the split.
    """
    stand_alone = given and not any(SPLIT_FIELD in path for path in given.values())
    paths = given if stand_alone else {**defaults, **given}
    if len({SPLIT_FIELD in path for path in paths.values()}) > 1:
        raise ConfigError(
            f"{SPLIT_FIELD} stands in some of the patterns only ({', '.join(paths.values())}); write it in all or none."
        )
    for path in paths.values():
        *folders, _ = PurePosixPath(path).parts or ("",)
        if not path or path.count("*") > 1 or any("*" in folder for folder in folders):
            raise ConfigError(
                f"The pattern '{path}' is neither a folder nor a path with one * in the file name, such as "
                "'images/rgb_*.png'."
            )
    if not any(SPLIT_FIELD in path for path in paths.values()):
        return [FilePattern(kind, None, path) for kind, path in paths.items()]
    return [
        FilePattern(kind, split, path.replace(SPLIT_FIELD, folder))
        for split, folder in zip(SPLITS, split_folders, strict=True)
        for kind, path in paths.items()
    ]
