"""Rasters on the web: opened by GDAL like files, but fetched only in the parts that are read, and each part once."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import rasterio
from rasterio import DatasetReader

from mm_ovseg.errors import DataError
from mm_ovseg.raster.remote import fetch_part, without_query
from mm_ovseg.raster.trust import TIFF_BEGINNINGS

__all__ = ["RemoteFile"]

CHUNK = 1 << 14  # bytes; whole chunks are fetched
MAX_CHUNKS = 512  # per request
MAX_BYTES = 1 << 30  # read at once: more than a block that may be decoded
JPEG_2000 = b"\0\0\0\x0cjP  "


class RemoteFile(os.PathLike):
    """A GeoTIFF or JPEG 2000 file on the web, which :func:`~mm_ovseg.raster.open_raster` opens.

    What is fetched is kept in a local file of the same layout, with holes, and is not fetched again, neither in this
    process nor in a later one. A request is only made if something is missing there.

    Args:
        address: The file, http:// or https://.
        copy: The local file; another with the suffix ``.parts`` says what it holds. Missing folders are created.
    """

    def __init__(self, address: str, copy: Path) -> None:
        self.address, self._copy = address, copy
        self._list = copy.with_name(f"{copy.name}.parts")
        self._size, self._version, self._chunks = self._load()
        self._error: BaseException | None = None

    def __fspath__(self) -> str:
        return without_query(self.address)

    __str__ = __fspath__

    def check(self) -> None:
        """Raise the error that reading met within GDAL, which would hide it.

        Raises:
            DataError: A part cannot be fetched, the file has changed, or the copy cannot be written.
        """
        error, self._error = self._error, None
        if error is not None:
            raise error

    @contextmanager
    def open(self) -> Iterator[DatasetReader]:
        """Open the raster; GDAL sees nothing but this file, not even others beside it.

        Raises:
            DataError: It is neither a GeoTIFF nor a JPEG 2000 file, or see :meth:`check`.
        """
        beginning = self.read(0, len(JPEG_2000))
        self.check()
        driver = "GTiff" if beginning[:4] in TIFF_BEGINNINGS else "JP2OpenJPEG"
        if driver != "GTiff" and beginning != JPEG_2000:
            raise DataError(f"{self} is neither a GeoTIFF nor a JPEG 2000 file; check the item.")
        name = secrets.token_hex(8)  # GDAL looks for others beside it by this name, and finds none

        def opener(path: str, mode: str = "rb") -> _Stream:
            if path != name or mode != "rb":
                raise FileNotFoundError(path)
            return _Stream(self)

        with rasterio.open(name, driver=driver, sharing=False, opener=opener) as dataset:
            yield dataset

    @property
    def size(self) -> int:
        """Its size in bytes; 0 if it could not be asked for."""
        if self._size is None:
            self.read(0, 1)
        return self._size or 0

    def read(self, first: int, count: int) -> bytes:
        """Bytes from ``first`` on: fewer at the file's end, and none after an error, which :meth:`check` raises."""
        if self._error is not None:
            return b""
        try:
            if self._size is None:
                self._fetch(0, 1)
            last = min(first + count, self._size) - 1
            if last < first:
                return b""
            if last - first >= MAX_BYTES:
                raise DataError(f"{self} has a part of more than {MAX_BYTES} bytes, which is refused; check it.")
            self._complete(first // CHUNK, last // CHUNK + 1)
            with open(self._copy, "rb") as file:
                file.seek(first)
                return file.read(last - first + 1)
        except BaseException as error:  # also an interruption: GDAL would swallow it
            self._error = error
            if isinstance(error, OSError):
                self._error = DataError(f"{self._copy} cannot be written ({error.strerror}); make room for it.")
                self._error.__cause__ = error
            return b""

    def _complete(self, start: int, end: int) -> None:
        """Fetch the chunks from ``start`` to before ``end`` that are missing, neighbours together."""
        missing = [chunk for chunk in range(start, end) if chunk not in self._chunks]
        while missing:
            run = 1
            while run < min(len(missing), MAX_CHUNKS) and missing[run] == missing[0] + run:
                run += 1
            self._fetch(missing[0], run)
            del missing[:run]

    def _fetch(self, chunk: int, count: int) -> None:
        end = (chunk + count) * CHUNK
        part = fetch_part(self.address, chunk * CHUNK, (end if self._size is None else min(end, self._size)) - 1)
        if self._size is None:
            self._size, self._version = part.size, part.version
            self._copy.parent.mkdir(parents=True, exist_ok=True)
            self._copy.touch()
            self._list.write_text(json.dumps([self._size, self._version]) + "\n", encoding="utf-8")
        elif (part.size, part.version) != (self._size, self._version):
            self._list.unlink(missing_ok=True)
            raise DataError(f"{self} has changed while it was fetched; run the same command again.")
        expected = min(end, self._size) - chunk * CHUNK
        if len(part.content) != expected:
            raise DataError(f"{self} is shorter than its server says; check it.")
        with open(self._copy, "r+b") as file:
            file.seek(chunk * CHUNK)
            file.write(part.content)
            _to_disk(file)
        with open(self._list, "ab") as file:  # only what is on disk is listed
            file.write(f"{chunk} {count}\n".encode())
            _to_disk(file)
        self._chunks.update(range(chunk, chunk + count))

    def _load(self) -> tuple[int | None, str, set[int]]:
        """Size, version and chunks of the copy; (None, "", empty) if no copy can be continued."""
        try:
            header, *lines = self._list.read_bytes().decode().split("\n")
            size, version = json.loads(header)
            pairs = [tuple(map(int, line.split())) for line in lines[:-1]]  # the last one is empty, or cut short
            chunks = {chunk for first, count in pairs for chunk in range(first, first + count)}
            is_whole = self._copy.stat().st_size >= min(size, (max(chunks, default=-1) + 1) * CHUNK)
        except (OSError, ValueError):
            return None, "", set()
        return (size, version, chunks) if is_whole else (None, "", set())


class _Stream:
    """What rasterio asks of a file that it reads."""

    def __init__(self, file: RemoteFile) -> None:
        self._file, self._place = file, 0

    def read(self, count: int = -1) -> bytes:
        content = self._file.read(self._place, count if count >= 0 else max(self._file.size - self._place, 0))
        self._place += len(content)
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._file.size}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def close(self) -> None:
        pass

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *error: Any) -> None:
        pass


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
