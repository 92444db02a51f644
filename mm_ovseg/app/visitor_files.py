"""Which of the server's files a visitor may name."""

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

from mm_ovseg.errors import DataError

__all__ = ["COOKIE", "REFUSED_FILE", "VisitorFiles", "new_cookie", "visitor_name"]

COOKIE = "mm_ovseg_visitor"
COOKIE_VALUE = re.compile(r"[\w-]{43}", re.ASCII)  # of new_cookie
# One sentence whatever the reason, so that nobody learns which files the server has.
REFUSED_FILE = "The page cannot use this file; choose it again."


def new_cookie() -> str:
    """A value of the cookie, by which a browser is known again."""
    return secrets.token_urlsafe(32)


def visitor_name(cookie: str | None) -> str | None:
    """The name of the folder of a visitor; None where the cookie is not one of ours."""
    return hashlib.sha256(cookie.encode()).hexdigest() if cookie and COOKIE_VALUE.fullmatch(cookie) else None


class VisitorFiles:
    """The folders of visitors, and the check of every path that a request names.

    Every upload and every map gets a folder of its own, whose name cannot be guessed, below the folder of its visitor.
    Those who keep no cookie share that one, and know the names of their own folders only.

    Args:
        folder: of all visitors.
        shared: files that everybody may use.
    """

    def __init__(self, folder: Path, shared: Iterable[Path] = ()) -> None:
        self._folder = Path(os.path.realpath(folder))
        self.shared = frozenset(os.path.abspath(path) for path in shared)

    def new_folder(self, visitor: str | None) -> Path:
        """Where a folder of that visitor can be made."""
        return self._of(visitor) / secrets.token_hex(16)

    def check(self, path: object, visitor: str | None) -> None:
        """Let only regular files pass, below the visitor's own folder or shared.

        Other paths are not even looked at, so nothing about them can be told.

        Raises:
            DataError: the path is another one; always in the same words.
        """
        if not self._is_own(path, visitor):
            raise DataError(REFUSED_FILE)

    def _of(self, visitor: str | None) -> Path:
        return self._folder / (visitor or "without_cookie")

    def _is_own(self, path: object, visitor: str | None) -> bool:
        if not isinstance(path, str) or "\0" in path:
            return False
        if path in self.shared:
            return True
        if os.path.normpath(path) != path or not path.startswith(f"{self._of(visitor)}{os.sep}"):
            return False
        try:
            return os.path.realpath(path) == path and stat.S_ISREG(os.lstat(path).st_mode)
        except (OSError, ValueError):
            return False
