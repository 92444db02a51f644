"""The files of published data: in folders, or unpacked from archives as downloaded."""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from mm_ovseg.data.preparation.archive import find_files, is_unpacked, list_archive, unpack_archive
from mm_ovseg.errors import ConfigError, DataError

__all__ = ["gather_files"]


def gather_files(
    sources: Sequence[Path], wanted: Callable[[PurePosixPath], bool], *, what: str, work: Path, dry_run: bool
) -> tuple[list[Path], dict[Path, int]]:
    """Find the wanted files of all sources; those that are archives are unpacked.

    Args:
        sources: Folders and archives.
        wanted: Says of a path, in the archive or below the folder, whether the file is needed. It must say the same
            in every run: an archive that has been unpacked is not opened again.
        what: What messages call the wanted files.
        work: Folder in which each archive is unpacked, to a folder of its name.
        dry_run: Leave in the archives what is not unpacked yet.

    Returns:
        The files; and those that a dry run leaves in archives, as the paths that they would have, with their sizes in
        bytes.

    Raises:
        ConfigError: Two archives have one name.
        DataError: A source has no wanted file, or as :func:`~mm_ovseg.data.preparation.archive.unpack_archive`.
    """
    names = [source.name for source in sources if not source.is_dir()]
    if len(names) > len(set(names)):
        raise ConfigError(f"Two archives have one name ({', '.join(names)}); rename one of them.")
    files: list[Path] = []
    packed: dict[Path, int] = {}
    for source in sources:
        folder = source if source.is_dir() else work / source.name
        found: list[Path] = []
        left_packed: dict[Path, int] = {}
        if dry_run and folder is not source and not is_unpacked(source, folder):
            left_packed = {folder / path: size for path, size in list_archive(source, wanted).items()}
        else:
            if folder is not source:
                unpack_archive(source, folder, wanted)
            found = find_files(folder, wanted)
        if not (found or left_packed):
            raise DataError(f"{source} holds no {what}; give the archive, or the folder it was unpacked to.")
        files += found
        packed |= left_packed
    return files, packed
