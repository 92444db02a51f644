"""Writing files atomically, and comparing paths and contents."""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mm_ovseg.errors import DataError

__all__ = [
    "check_outputs",
    "check_writable_folder",
    "complete_file",
    "file_state",
    "is_leftover",
    "remove_leftovers",
    "sha256",
    "write_json",
]

MAX_NAME_BYTES = 255  # of a file name, on nearly all file systems
MAX_STEM = 48  # characters, in temporary names
TEMPORARY = re.compile(r"\..+\.\d+\.tmp(\.\w+)?")  # as complete_file names them


def check_writable_folder(folder: str | os.PathLike) -> None:
    """Check, before long work, that a folder, which need not exist yet, is writable.

    Raises:
        DataError: the folder, or its first existing parent, is a file or not writable; or its name has bytes that are
            not characters in the file system's encoding, which some libraries cannot handle.
    """
    if any("\udc80" <= character <= "\udcff" for character in str(folder)):
        raise DataError(f"The folder name {str(folder)!r} is not text in this locale; choose another folder.")
    existing = Path(folder).absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise DataError(f"{folder} cannot be written to ({existing} is a file, not a folder); choose another folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise DataError(f"{folder} cannot be written to ({existing} is not writable); choose another folder.")


def check_outputs(
    outputs: Mapping[str, Iterable[str | os.PathLike | None]], inputs: Mapping[str, Iterable[str | os.PathLike | None]]
) -> None:
    """Check, before any work, that no output replaces an input or another output.

    Paths are compared by the files that they lead to, whatever their spelling, through symbolic and hard links.

    Args:
        outputs: option that names them -> paths, which need not exist; None for a file that is not wanted. An existing
            folder may lose all its contents.
        inputs: description, such as "the RGB image" -> paths; None and missing files are skipped. Only iterated over if
            an output already exists.

    Raises:
        DataError: a path is both, an input is in a folder that is an output, two options name the same file, or a name
            is longer than file systems allow.
    """
    option_of: dict[str, str] = {}  # real path -> option
    written: dict[tuple[int, int], tuple[Path, str]] = {}  # identity -> path, option
    has_folders = False
    for option, paths in outputs.items():
        for path in (Path(path) for path in paths if path is not None):
            if (length := len(os.fsencode(path.name))) > MAX_NAME_BYTES:
                raise DataError(
                    f"{path} has a name of {length} bytes, more than the {MAX_NAME_BYTES} that file systems allow; "
                    f"choose a shorter {option}."
                )
            first = option_of.setdefault(os.path.realpath(path), option)
            if first != option:
                raise DataError(f"{path} would be written for both {first} and {option}; choose another {option}.")
            if (identity := _identity(path)) is not None:
                written[identity] = path, option
                has_folders = has_folders or path.is_dir()
    if not written:
        return
    for what, paths in inputs.items():
        for path in (Path(path) for path in paths if path is not None):
            if (found := written.get(_identity(path))) is not None:
                raise DataError(f"{found[0]} is {what} itself; choose another {found[1]}.")
            if not has_folders or not path.exists():
                continue
            # Its own folder, and that of the file that it links to.
            for folder in (*Path(os.path.abspath(path)).parents, *Path(os.path.realpath(path)).parents):
                if (found := written.get(_identity(folder))) is not None:
                    raise DataError(
                        f"{path}, {what}, is in {found[0]}, which is written to; choose another {found[1]}."
                    )


@contextmanager
def complete_file(path: str | os.PathLike) -> Iterator[Path]:
    """Provide a temporary path to write to, which replaces ``path`` once the block has ended without an error.

    The bytes are on disk before the file gets its name, so that not even a power cut leaves a partial file.

    with complete_file("maps/city.png") as temporary:
        image.save(temporary)

    Args:
        path: the file to write; missing folders are created and an existing file is replaced.

    Yields:
        A path in the same folder and with the same suffix, which no other call uses.

    Raises:
        DataError: the file cannot be written. Other errors in the block pass through. In either case the temporary file
            is removed, and an existing file at ``path`` is kept.
    """
    path = Path(path)
    # Hidden, so that no dataset in this folder takes it for one of its files.
    temporary = path.parent / f".{path.stem[:MAX_STEM]}.{secrets.randbits(48)}.tmp{path.suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
        with suppress(OSError):  # not every file system can flush a folder
            _flush_to_disk(path.parent)
    except OSError as error:  # includes rasterio's errors in writing
        raise DataError(f"{path} cannot be written ({_reason(error)}); choose another place for it.") from error
    finally:
        # After success it is gone; and if the folder is a file or inaccessible, looking for it fails.
        with suppress(OSError):
            temporary.unlink()


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write JSON in UTF-8, atomically.

    Raises:
        DataError: the file cannot be written.
    """
    with complete_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def is_leftover(path: Path) -> bool:
    """Whether a file has a name that :func:`complete_file` gives to what is being written."""
    return TEMPORARY.fullmatch(path.name) is not None


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Remove temporary files of :func:`complete_file` that killed processes left in a folder.

    Only for folders to which no other process writes.
    """
    for path in Path(folder).glob(".*.tmp*"):
        if is_leftover(path):
            with suppress(OSError):
                path.unlink()


def file_state(path: Path) -> list:
    """Name, size and modification time of a file; only the name if it is within a file, such as NETCDF:"sar.nc":vv."""
    if not path.exists():
        return [str(path)]
    status = path.stat()
    return [str(path.absolute()), status.st_size, status.st_mtime_ns]


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


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, which all paths to a file share; None if the file does not exist."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    return status.st_dev, status.st_ino


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    if isinstance(error, FileExistsError):
        return f"{error.filename} is a file, not a folder"
    # If rasterio says "see previous exception", this is the one.
    return error.strerror or " ".join(str(error.__cause__ or error).split())
