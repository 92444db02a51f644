"""The files on the server that a visitor may access."""

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

__all__ = ["COOKIE", "REFUSED_FILE", "VisitorFiles", "new_cookie", "visitor_name"]

COOKIE = "mm_ovseg_visitor"
COOKIE_VALUE = re.compile(r"[\w-]{43}", re.ASCII)  # as made by new_cookie
# One message for all reasons, so that it does not reveal which files exist.
REFUSED_FILE = "The page cannot use this file; choose it again."


def new_cookie() -> str:
    """A new value of the cookie that identifies a visitor."""
    return secrets.token_urlsafe(32)


def visitor_name(cookie: str | None) -> str | None:
    """The name of a visitor's folder; None if the cookie is not one of ours."""
    return hashlib.sha256(cookie.encode()).hexdigest() if cookie and COOKIE_VALUE.fullmatch(cookie) else None


class VisitorFiles:
    """The folders of visitors, and the check of every path in a request.

    Every upload and every map gets a new folder with an unguessable name in the folder of its visitor. Visitors without
    a cookie share one, in which each knows only the names of their own folders.

    Args:
        folder: the folder of all visitors.
        shared: files that all visitors may use.
    """

    def __init__(self, folder: Path, shared: Iterable[Path] = ()) -> None:
        self._folder = Path(os.path.realpath(folder))
        self.shared = frozenset(os.path.abspath(path) for path in shared)

    def new_folder(self, visitor: str | None) -> Path:
        """The path of a new folder for a visitor; the folder is not created."""
        return self._folder_of(visitor) / secrets.token_hex(16)

    def allows(self, path: object, visitor: str | None) -> bool:
        """Whether a path is a regular file below the visitor's own folder, or shared.

        Other paths are not accessed at all, so that nothing about them is revealed.
        """
        if not isinstance(path, str) or "\0" in path:
            return False
        if path in self.shared:
            return True
        if os.path.normpath(path) != path or not path.startswith(f"{self._folder_of(visitor)}{os.sep}"):
            return False
        try:
            return os.path.realpath(path) == path and stat.S_ISREG(os.lstat(path).st_mode)
        except (OSError, ValueError):
            return False

    def _folder_of(self, visitor: str | None) -> Path:
        return self._folder / (visitor or "without_cookie")
