"""Archives as downloaded: the files that are needed, listed or unpacked, never outside the given folder.

Files are unpacked rather than read in place: a ``.tar.gz`` has no random access, so GDAL would decompress everything
before a file, once in every process.
"""

import json
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import IO

from tqdm import tqdm

from mm_ovseg.errors import ConfigError, DataError, brief_reason
from mm_ovseg.files import complete_file

__all__ = ["find_files", "gather_files", "is_unpacked", "list_archive", "unpack_archive"]

BLOCK_BYTES = 1 << 20
STATE = ".unpacked.json"  # which archive the folder holds, and whether all of it
# What tarfile, zipfile and the decompressors raise for archives that are damaged, cut off, encrypted or unusual.
READING_ERRORS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)

Wanted = Callable[[PurePosixPath], bool]
Member = tuple[PurePosixPath, int, Callable[[], IO[bytes]]]  # path, size, and what opens it while it is the latest one


def gather_files(
    sources: Sequence[Path], wanted: Wanted, *, what: str, work: Path, dry_run: bool
) -> tuple[list[Path], dict[Path, int]]:
    """Find the wanted files of folders and archives; archives are unpacked.

    Args:
        sources: Folders and archives.
        wanted: Whether the file at a path, in the archive or below the folder, is needed. It must not change between
            runs: an archive that is unpacked is not opened again.
        what: What messages call the wanted files.
        work: Folder in which each archive is unpacked, to a folder of its name.
        dry_run: Leave in the archives what is not unpacked yet.

    Returns:
        The files; and path -> size in bytes of those that a dry run leaves in archives, as they would be unpacked.

    Raises:
        ConfigError: Two archives have the same name.
        DataError: A source has no wanted file, or as of :func:`unpack_archive`.
    """
    names = [source.name for source in sources if not source.is_dir()]
    if len(names) > len(set(names)):
        raise ConfigError(f"Two archives have the same name ({', '.join(names)}); rename one of them.")
    files: list[Path] = []
    packed: dict[Path, int] = {}
    for source in sources:
        folder = source if source.is_dir() else work / source.name
        if dry_run and folder is not source and not is_unpacked(source, folder):
            found = {folder / path: size for path, size in list_archive(source, wanted).items()}
            packed |= found
        else:
            if folder is not source:
                unpack_archive(source, folder, wanted)
            found = find_files(folder, wanted)
            files += found
        if not found:
            raise DataError(f"{source} holds no {what}; give the archive, or the folder it was unpacked to.")
    return files, packed


def find_files(folder: Path, wanted: Wanted) -> list[Path]:
    """The wanted files below a folder, to any depth, sorted by path."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(folder / path for path in paths if _is_visible(path) and wanted(PurePosixPath(path.as_posix())))


def list_archive(archive: Path, wanted: Wanted) -> dict[PurePosixPath, int]:
    """The wanted files of an archive, with their sizes in bytes. Nothing is written.

    Raises:
        DataError: As of :func:`unpack_archive`.
    """
    with _members(archive) as members:
        return {path: size for path, size, _ in members if _is_visible(path) and wanted(path)}


def is_unpacked(archive: Path, folder: Path) -> bool:
    """Whether :func:`unpack_archive` has completely unpacked this very archive into a folder."""
    return archive.is_file() and _read_state(folder) == _state(archive, complete=True)


def unpack_archive(archive: Path, folder: Path, wanted: Wanted) -> None:
    """Unpack the wanted files of a .tar, .tar.gz or .zip under their own paths.

    Interrupted, it continues with the files that are not there yet; called again when all are there, it does nothing.

    Args:
        archive: The file.
        folder: Where to; it is made.
        wanted: Whether the file at a path in the archive is needed. Links and devices never are.

    Raises:
        DataError: The archive is missing, damaged, cut off or not an archive, a wanted file would land outside
            ``folder``, or the disk is full.
    """
    if is_unpacked(archive, folder):
        return
    is_continued = archive.is_file() and _read_state(folder) == _state(archive, complete=False)
    with _members(archive) as members, tqdm(desc=f"unpacking {archive.name}", unit="B", unit_scale=True) as progress:
        _write_state(folder, archive, complete=False)
        for path, size, open_member in members:
            if not (_is_visible(path) and wanted(path)):
                continue
            if path.is_absolute() or ".." in path.parts:
                raise DataError(f"{archive} holds '{path}', which leads out of any folder: do not trust this archive.")
            target = folder / path
            if not (is_continued and target.is_file() and target.stat().st_size == size):
                with complete_file(target) as temporary, temporary.open("wb") as file:
                    file.writelines(_blocks(archive, open_member))
            progress.update(size)
    for leftover in folder.rglob(".*.tmp.*"):  # of a killed call
        leftover.unlink()
    _write_state(folder, archive, complete=True)


def _blocks(archive: Path, open_member: Callable[[], IO[bytes]]) -> Iterator[bytes]:
    with _naming(archive):
        content = open_member()
        while block := content.read(BLOCK_BYTES):
            yield block


def _is_visible(path: PurePath) -> bool:
    """Neither half-written nor one of the notes that macOS puts beside the files it packs."""
    return not path.name.startswith(".")


def _state(archive: Path, complete: bool) -> dict:
    status = archive.stat()
    return {"size": status.st_size, "modified_ns": status.st_mtime_ns, "complete": complete}


def _read_state(folder: Path) -> dict | None:
    try:
        return json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write_state(folder: Path, archive: Path, complete: bool) -> None:
    with complete_file(folder / STATE) as temporary:
        temporary.write_text(json.dumps(_state(archive, complete)), encoding="utf-8")


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[Member]]:
    """The regular files of an archive, in its order."""
    if not archive.is_file():
        raise DataError(f"{archive} does not exist; give the archive as downloaded, or the folder it was unpacked to.")
    with _naming(archive):
        is_zip = zipfile.is_zipfile(archive)
        # "|": read once from front to back, which is what a compressed tar allows.
        content = zipfile.ZipFile(archive) if is_zip else tarfile.open(archive, "r|*")  # noqa: SIM115 (closed below)
    with content:
        yield _zip_members(content) if is_zip else _tar_members(archive, content)


def _zip_members(content: zipfile.ZipFile) -> Iterator[Member]:
    for member in content.infolist():
        if not member.is_dir():
            yield PurePosixPath(member.filename), member.file_size, partial(content.open, member)


def _tar_members(archive: Path, content: tarfile.TarFile) -> Iterator[Member]:
    while True:
        with _naming(archive):
            member = content.next()
        if member is None:
            return
        if member.isfile():
            yield PurePosixPath(member.name), member.size, partial(content.extractfile, member)


@contextmanager
def _naming(archive: Path) -> Iterator[None]:
    """Turns whatever goes wrong in reading an archive into a sentence that names it."""
    try:
        yield
    except READING_ERRORS as error:
        raise DataError(
            f"{archive} cannot be read completely as a .tar, .tar.gz or .zip ({brief_reason(error)}); it is damaged or "
            "incomplete: download it again."
        ) from error
