"""Writing files so that nothing half-written is ever left, and telling them apart."""

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mm_ovseg.errors import DataError

__all__ = ["check_writable_folder", "complete_file", "remove_leftovers", "sha256"]

TEMPORARY = re.compile(r"\..+\.\d+\.tmp(\.\w+)?")  # as complete_file names them


def check_writable_folder(folder: str | os.PathLike) -> None:
    """Check, before long work, that files can be written to a folder, which need not exist yet.

    Raises:
        DataError: the folder, or the first one above it that exists, is a file or closed to us; or its name has bytes
            that are not characters of the file system's encoding, which not all libraries can write to.
    """
    if any("\udc80" <= character <= "\udcff" for character in str(folder)):
        raise DataError(f"The folder name {str(folder)!r} is not text in this locale; choose another folder.")
    existing = Path(folder).absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise DataError(f"{folder} cannot be written to ({existing} is a file, not a folder); choose another folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise DataError(f"{folder} cannot be written to ({existing} is closed to you); choose another folder.")


@contextmanager
def complete_file(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path to write to, which replaces ``path`` once the block has ended without an error.

    The bytes are on the disk before the file gets its name, so that not even a power cut leaves half of it there.

    with complete_file("maps/city.png") as temporary:
        image.save(temporary)

    Args:
        path: the file to write; missing folders are made, an existing file is replaced.

    Yields:
        A path in the same folder and with the same suffix, which no other call uses.

    Raises:
        DataError: the file cannot be written. What else is raised in the block passes through. In either case the
            temporary file is removed, and what was at ``path`` stays.
    """
    path = Path(path)
    # Hidden, so that no dataset that is read from this folder takes it for one of its files.
    temporary = path.parent / f".{path.stem}.{secrets.randbits(48)}.tmp{path.suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
        with suppress(OSError):  # not every file system can flush a folder
            _flush_to_disk(path.parent)
    except OSError as error:  # rasterio's errors in writing are of this type too
        raise DataError(f"{path} cannot be written ({_reason(error)}); choose another place for it.") from error
    finally:
        # After success there is none; and where the folder is a file or closed, looking for it fails.
        with suppress(OSError):
            temporary.unlink()


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Remove the temporary files of :func:`complete_file` that processes left in a folder when they were killed.

    Only for a folder that no other process writes to.
    """
    for path in Path(folder).glob(".*.tmp*"):
        if TEMPORARY.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


def sha256(path: str | os.PathLike) -> str:
    """The hash of a file's bytes, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    """One line on why."""
    if isinstance(error, FileExistsError):
        return f"{error.filename} is a file, not a folder"
    # Where rasterio says "see previous exception", this is it.
    return error.strerror or " ".join(str(error.__cause__ or error).split())
