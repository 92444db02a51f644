"""Receiving a visitor's file."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from mm_ovseg.app.visitors import UploadedFile, Visitors

__all__ = ["store_upload"]

MAX_NAME = 100  # characters
MIN_FREE = 1_000_000_000  # bytes of the disk that stay free


async def store_upload(request: Request, visitors: Visitors, visitor: str, *, max_bytes: int) -> UploadedFile:
    """Store the one file of a form, whose length the gate has checked, in a folder of its visitor.

    Raises:
        HTTPException: the form is broken, the file is empty or too large, or the disk is full.
    """
    length = int(request.headers["content-length"])
    try:
        with _room(visitors, length):
            return await _store(request, visitors, visitor, max_bytes)
    except OSError as error:
        raise HTTPException(507, "The server could not store the file; try again later.") from error


async def _store(request: Request, visitors: Visitors, visitor: str, max_bytes: int) -> UploadedFile:
    async with request.form(max_files=1, max_fields=1) as form:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise HTTPException(400, "No file was sent; choose it again.")
        name = _shown_name(upload.filename)
        if not upload.size:
            raise HTTPException(400, f"{name} is empty; choose another file.")
        if upload.size > max_bytes:
            raise HTTPException(413, f"{name} exceeds {max_bytes / 1e6:g} MB; choose a smaller file.")
        folder = visitors.new_folder(visitor)
        path = folder / folder.name
        await run_in_threadpool(_write, upload.file, path)
    file = UploadedFile(folder.name, folder, name, path)
    visitors.keep(visitor, file)
    return file


@contextmanager
def _room(visitors: Visitors, length: int) -> Iterator[None]:
    """Reserve room on the disk for an upload: twice its length, since for a while there are two copies.

    Raises:
        HTTPException: 507, there is too little, counting all other uploads on their way.
    """
    visitors.reserved_bytes += 2 * length
    try:
        if shutil.disk_usage(visitors.folder).free < visitors.reserved_bytes + MIN_FREE:
            raise HTTPException(507, "The server's disk is full; try again later.")
        yield
    finally:
        visitors.reserved_bytes -= 2 * length


def _shown_name(name: str | None) -> str:
    """The last part of a file name, without what cannot be shown."""
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter for letter in last if letter.isprintable())[-MAX_NAME:] or "image"


def _write(file: BinaryIO, path: Path) -> None:
    try:
        with open(path, "wb") as target:
            shutil.copyfileobj(file, target, 1 << 20)
    except OSError:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise
