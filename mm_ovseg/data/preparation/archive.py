"""Archives as downloaded: listing and unpacking the files that are needed, never outside the folder asked for.

Files are unpacked rather than read in place: in a ``.tar.gz`` there is no random access, so GDAL would decompress all
that comes before a file, once for every process.
"""

import json
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import IO

from tqdm import tqdm

from mm_ovseg.errors import DataError, brief_reason
from mm_ovseg.files import complete_file

__all__ = ["find_files", "is_unpacked", "list_archive", "unpack_archive"]

_COPY_BLOCK = 1 << 20  # bytes
_STATE = ".unpacked.json"  # which archive the folder holds, and whether all of it
# What tarfile, zipfile and the decompressors raise for damaged, cut off, encrypted or exotic archives.
_READING_ERRORS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)

_Member = tuple[PurePosixPath, int, Callable[[], IO[bytes]]]  # path, size, and what opens it while it is the latest one


def find_files(folder: Path, wanted: Callable[[PurePosixPath], bool]) -> list[Path]:
    """The wanted files below a folder, sorted by path.

    Args:
        folder: Where to look, to any depth.
        wanted: Says of a path below ``folder`` whether the file is needed.
    """
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(folder / path for path in paths if _is_visible(path) and wanted(PurePosixPath(path.as_posix())))


def list_archive(archive: Path, wanted: Callable[[PurePosixPath], bool]) -> dict[PurePosixPath, int]:
    """The wanted files of an archive, with their sizes in bytes. Nothing is written.

    Raises:
        DataError: As :func:`unpack_archive`.
    """
    with _members(archive) as members:
        return {path: size for path, size, _ in members if _is_visible(path) and wanted(path)}


def is_unpacked(archive: Path, folder: Path) -> bool:
    """Whether :func:`unpack_archive` has unpacked this very archive into a folder, to the end."""
    return archive.is_file() and _read_state(folder) == _state(archive, complete=True)


def unpack_archive(archive: Path, folder: Path, wanted: Callable[[PurePosixPath], bool]) -> None:
    """Unpack the wanted files of a .tar, .tar.gz or .zip under their own paths.

    Interrupted, it goes on with the files that are not there yet; called again when all are there, it does nothing.

    Args:
        archive: The file.
        folder: Where to; it is made.
        wanted: Says of a path in the archive whether the file is needed. Links and devices never are.

    Raises:
        DataError: The archive is missing, damaged, cut off or no archive, a wanted file would land outside ``folder``,
            or the disk takes no more.
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
                    with _naming(archive):
                        content = open_member()
                    while block := _read_block(archive, content):
                        file.write(block)
            progress.update(size)
    for leftover in folder.rglob(".*.tmp.*"):  # of a killed call
        leftover.unlink()
    _write_state(folder, archive, complete=True)


def _read_block(archive: Path, content: IO[bytes]) -> bytes:
    with _naming(archive):
        return content.read(_COPY_BLOCK)


def _is_visible(path: PurePath) -> bool:
    """Neither half-written nor one of the notes that macOS puts beside the files it packs."""
    return not path.name.startswith(".")


def _state(archive: Path, complete: bool) -> dict:
    status = archive.stat()
    return {"size": status.st_size, "modified_ns": status.st_mtime_ns, "complete": complete}


def _read_state(folder: Path) -> dict | None:
    try:
        return json.loads((folder / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write_state(folder: Path, archive: Path, complete: bool) -> None:
    with complete_file(folder / _STATE) as temporary:
        temporary.write_text(json.dumps(_state(archive, complete)), encoding="utf-8")


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    """The regular files of an archive, in its order."""
    if not archive.is_file():
        raise DataError(f"{archive} does not exist; give the archive as downloaded, or the folder it was unpacked to.")
    with _naming(archive):
        is_zip = zipfile.is_zipfile(archive)
        # "|": read once from front to back, which is what a compressed tar allows.
        content = zipfile.ZipFile(archive) if is_zip else tarfile.open(archive, "r|*")  # noqa: SIM115 (closed below)
    with content:
        yield _zip_members(content) if is_zip else _tar_members(archive, content)


def _zip_members(content: zipfile.ZipFile) -> Iterator[_Member]:
    for member in content.infolist():
        if not member.is_dir():
            yield PurePosixPath(member.filename), member.file_size, partial(content.open, member)


def _tar_members(archive: Path, content: tarfile.TarFile) -> Iterator[_Member]:
    while True:
        with _naming(archive):
            member = content.next()
        if member is None:
            return
        if member.isfile():
            yield PurePosixPath(member.name), member.size, partial(content.extractfile, member)


@contextmanager
def _naming(archive: Path) -> Iterator[None]:
    """Whatever goes wrong in reading an archive becomes a sentence that names it."""
    try:
        yield
    except _READING_ERRORS as error:
        raise DataError(
            f"{archive} cannot be read as a .tar, .tar.gz or .zip to its end ({brief_reason(error)}); it is damaged or "
            "not complete: download it again."
        ) from error
