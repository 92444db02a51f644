"""Downloaded archives: listing or unpacking the needed files, never outside the given folder.

Files are unpacked rather than read in place: a ``.tar.gz`` has no random access, so GDAL would decompress everything
before a file in every process.
"""

import json
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from mm_ovseg.errors import ConfigError, DataError, brief_reason
from mm_ovseg.files import complete_file

__all__ = ["Wanted", "find_files", "gather_files", "is_unpacked", "list_archive", "unpack_archive"]

BLOCK_BYTES = 1 << 20
# A zip of some kilobytes can stand for terabytes; images are hardly compressed, since their formats are already.
FREE_BYTES, MAX_RATIO = 1 << 30, 100
STATE = ".unpacked.json"  # which archive the folder contains, and whether completely
# Raised by tarfile, zipfile and decompressors for archives that are damaged, truncated, encrypted or unusual.
READING_ERRORS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
READING_ERRORS += (EOFError, OSError, RuntimeError, ValueError)

Wanted = Callable[[PurePosixPath], bool]
Member = tuple[
    PurePosixPath, int, Callable[[], IO[bytes]]
]  # path, size, and a function that opens it while it is the latest one


def gather_files(
    sources: Sequence[Path], wanted: Wanted, *, what: str, work: Path, dry_run: bool
) -> tuple[list[Path], dict[Path, int]]:
    """Find the wanted files in folders and archives; archives are unpacked.

    Args:
        sources: Folders and archives.
        wanted: Whether the file at a path, in the archive or the folder, is needed.
        what: Description of the wanted files, for messages.
        work: Folder in which each archive is unpacked, to a subfolder of its name.
        dry_run: Do not unpack anything.

    Returns:
        The files; and, in a dry run, path -> size in bytes of the files that would be unpacked.

    Raises:
        ConfigError: Two archives have the same name.
        DataError: A source has no wanted file; or see :func:`unpack_archive`.
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
            raise DataError(f"{source} contains no {what}; give the archive, or the folder to which it was unpacked.")
    return files, packed


def find_files(folder: Path, wanted: Wanted) -> list[Path]:
    """The wanted files in a folder, at any depth, sorted by path."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(folder / path for path in paths if _is_wanted(PurePosixPath(path.as_posix()), wanted))


def list_archive(archive: Path, wanted: Wanted) -> dict[PurePosixPath, int]:
    """The wanted files of an archive, with their sizes in bytes; raises the errors of :func:`unpack_archive`."""
    return {path: size for path, size, _ in _members(archive, wanted)}


def is_unpacked(archive: Path, folder: Path) -> bool:
    """Whether :func:`unpack_archive` has completely unpacked this very archive into a folder."""
    return _has_state(archive, folder, complete=True)


def unpack_archive(archive: Path, folder: Path, wanted: Wanted) -> None:
    """Unpack the wanted files of a .tar, .tar.gz or .zip under their own paths.

    After an interruption, it continues with the missing files; if the archive was completely unpacked, it does nothing,
    whatever is wanted. The wanted files of another archive that was unpacked there are removed. Links and devices are
    never unpacked.

    Raises:
        DataError: The archive is missing, damaged, truncated or not an archive, a wanted file would end up outside of
            ``folder``, they are far larger than the archive, or the disk is full.
    """
    if is_unpacked(archive, folder):
        return
    is_continued = _has_state(archive, folder, complete=False)
    if archive.is_file():
        if not is_continued and (folder / STATE).exists():
            for other in find_files(folder, wanted):  # of an earlier archive of that name
                other.unlink()
        _write_state(archive, folder, complete=False)
    allowed = FREE_BYTES + MAX_RATIO * archive.stat().st_size if archive.is_file() else 0
    with tqdm(desc=f"unpacking {archive.name}", unit="B", unit_scale=True) as progress:
        for path, size, open_member in _members(archive, wanted):
            if path.is_absolute() or ".." in path.parts:
                raise DataError(f"{archive} contains '{path}', which escapes the folder: do not trust this archive.")
            allowed -= size
            if allowed < 0:
                raise DataError(
                    f"{archive} unpacks to more than {MAX_RATIO} times its size ('{path}'): do not trust this archive."
                )
            target = folder / path
            if not (is_continued and target.is_file() and target.stat().st_size == size):
                with complete_file(target) as temporary, temporary.open("wb") as file:
                    file.writelines(_blocks(archive, open_member))
            progress.update(size)
    for leftover in folder.rglob(".*.tmp.*"):  # left by a killed call
        leftover.unlink()
    _write_state(archive, folder, complete=True)


def _blocks(archive: Path, open_member: Callable[[], IO[bytes]]) -> Iterator[bytes]:
    with _naming(archive):
        content = open_member()
        while block := content.read(BLOCK_BYTES):
            yield block


def _is_wanted(path: PurePosixPath, wanted: Wanted) -> bool:
    """Whether to unpack a file; hidden ones are half-written, or metadata that macOS adds to archives."""
    return not path.name.startswith(".") and wanted(path)


def _state(archive: Path, complete: bool) -> str:
    status = archive.stat()
    return json.dumps({"size": status.st_size, "modified_ns": status.st_mtime_ns, "complete": complete})


def _has_state(archive: Path, folder: Path, complete: bool) -> bool:
    try:
        return (folder / STATE).read_text(encoding="utf-8") == _state(archive, complete)
    except (OSError, ValueError):
        return False


def _write_state(archive: Path, folder: Path, complete: bool) -> None:
    with complete_file(folder / STATE) as temporary:
        temporary.write_text(_state(archive, complete), encoding="utf-8")


def _members(archive: Path, wanted: Wanted) -> Iterator[Member]:
    """The wanted regular files of an archive, in its order."""
    if not archive.is_file():
        raise DataError(
            f"{archive} does not exist; give the downloaded archive, or the folder to which it was unpacked."
        )
    with _naming(archive):
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as content:
                for member in content.infolist():
                    if not member.is_dir() and _is_wanted(path := PurePosixPath(member.filename), wanted):
                        yield path, member.file_size, partial(content.open, member)
        else:  # "|": read once from front to back, as a compressed tar requires
            with tarfile.open(archive, "r|*") as content:
                for member in content:
                    if member.isfile() and _is_wanted(path := PurePosixPath(member.name), wanted):
                        yield path, member.size, partial(content.extractfile, member)


@contextmanager
def _naming(archive: Path) -> Iterator[None]:
    """Turn any error in reading an archive into a sentence that names it."""
    try:
        yield
    except READING_ERRORS as error:
        raise DataError(
            f"{archive} cannot be read completely as a .tar, .tar.gz or .zip ({brief_reason(error)}); it is damaged or "
            "incomplete: download it again."
        ) from error
