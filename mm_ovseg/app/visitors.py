"""What each visitor has on the server: uploaded files, scenes and maps, which no other visitor reaches."""

import hashlib
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from starlette.exceptions import HTTPException

__all__ = ["COOKIE", "UploadedFile", "Visitors", "new_cookie", "visitor_name"]

COOKIE = "mm_ovseg_visitor"
COOKIE_VALUE = re.compile(r"[\w-]{43}", re.ASCII)  # as made by new_cookie
KEPT_SECONDS = 3600  # after a visitor's last request
MAX_KEPT = 20  # of a visitor, of each kind; the oldest goes first
# One message for all reasons, so that it does not reveal what others have.
NOT_FOUND = "This is no longer on the server, which forgets what was not used for an hour; open it again."


class Thing(Protocol):
    """What a visitor may have; its files are in a folder of its own."""

    id: str
    folder: Path


T = TypeVar("T", bound=Thing)


@dataclass(frozen=True, eq=False)
class UploadedFile:
    """A file from a visitor.

    Attributes:
        id: names it in requests.
        folder: holds nothing else.
        name: what the visitor calls it; never part of a path.
        path: where it is.
    """

    id: str
    folder: Path
    name: str
    path: Path


@dataclass(eq=False)
class _Visitor:
    last_use: float
    things: dict[str, Thing] = field(default_factory=dict)
    streams: int = 0


def new_cookie() -> str:
    """A new value of the cookie that identifies a visitor."""
    return secrets.token_urlsafe(32)


def visitor_name(cookie: str | None) -> str | None:
    """The name of a visitor's folder; None if the cookie is not one of ours."""
    return hashlib.sha256(cookie.encode()).hexdigest() if cookie and COOKIE_VALUE.fullmatch(cookie) else None


class Visitors:
    """Everything that visitors have, and what all of them share; threads may use it.

    Args:
        folder: for all files.
        clock: seconds.

    Attributes:
        reserved_bytes: of the disk, for uploads that are on their way.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self._clock = folder, clock
        self.reserved_bytes = 0
        self._visitors: dict[str, _Visitor] = {}
        self._shared: dict[str, Thing] = {}
        self._lock = threading.Lock()

    def new_folder(self, visitor: str) -> Path:
        """A new folder of a visitor, whose name is a new id that nobody guesses."""
        folder = self.folder / visitor / secrets.token_urlsafe(24)
        folder.mkdir(parents=True)
        return folder

    def share(self, thing: Thing) -> None:
        """Let all visitors find something, for as long as the server runs."""
        self._shared[thing.id] = thing

    def keep(self, visitor: str, thing: Thing) -> None:
        """Let a visitor find something, in place of the oldest one of its kind if there are many."""
        with self._lock:
            things = self._used(visitor).things
            things[thing.id] = thing
            oldest = [other for other in things.values() if type(other) is type(thing)][:-MAX_KEPT]
            for other in oldest:
                del things[other.id]
        for other in oldest:
            shutil.rmtree(other.folder, ignore_errors=True)

    def find(self, visitor: str, kind: type[T], name: object) -> T:
        """What a request names by its id.

        Raises:
            HTTPException: 404, the visitor has nothing of this kind and id.
        """
        with self._lock:
            things = self._used(visitor).things
            thing = (things.get(name) or self._shared.get(name)) if isinstance(name, str) else None
        if not isinstance(thing, kind):
            raise HTTPException(404, NOT_FOUND)
        return thing

    @contextmanager
    def present(self, visitor: str) -> Iterator[None]:
        """Keep everything of a visitor within the block, however long it takes."""
        with self._lock:
            self._used(visitor).streams += 1
        try:
            yield
        finally:
            with self._lock:
                self._used(visitor).streams -= 1

    def remove_idle(self) -> None:
        """Delete everything of the visitors whose last request was an hour ago."""
        now = self._clock()
        with self._lock:
            idle = [
                name
                for name, visitor in self._visitors.items()
                if not visitor.streams and now - visitor.last_use > KEPT_SECONDS
            ]
            for name in idle:
                del self._visitors[name]
        for name in idle:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _used(self, name: str) -> _Visitor:
        visitor = self._visitors.setdefault(name, _Visitor(0.0))
        visitor.last_use = self._clock()
        return visitor
