"""Reading from the web with GET requests: the only module that accesses the network, for addresses that users name.

Answers are limited in size, redirections in number and to HTTP(S), and tries are repeated with growing pauses.
"""

import functools
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.plain_data import MAX_CHARACTERS

__all__ = ["RemotePart", "fetch_part", "fetch_text", "is_address", "without_query", "without_signature"]

logger = logging.getLogger(__name__)

PAUSES = (1.0, 4.0, 15.0, 60.0)  # seconds before each further try
TIMEOUT = 60  # seconds without any answer
MAX_REDIRECTS = 5
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)  # statuses after which a further try may succeed
REFUSED, GONE = (401, 403), (404, 410)
UNSIGNED = (404, 409)  # what Planetary Computer's files answer, too
CONTENT_RANGE = re.compile(r"bytes (?P<first>\d{1,18})-(?P<last>\d{1,18})/(?P<size>\d{1,18})")
# Names in the query of a signed address: of Amazon, Google, Azure (which abbreviates), and of tokens.
SIGNATURE = re.compile(
    r"x-(amz|goog)-.*|signature|expires|key-pair-id|policy|awsaccesskeyid|googleaccessid|(access_?)?token|api_?key|"
    r"s[a-z]|ske|skoid|sktid|sks|skt|skv|sip|spr|sig",
    re.IGNORECASE,
)
# Planetary Computer's files, which need a signature that its own package gives.
SIGNED_HOST = ".blob.core.windows.net"


@dataclass(frozen=True)
class RemotePart:
    """A part of a file on the web.

    Attributes:
        content: Its bytes.
        size: Size of the whole file, in bytes.
        version: Changes with the file's content; "" if the server does not tell.
    """

    content: bytes
    size: int
    version: str


class _Failure(DataError):
    """A try that failed, but may succeed later."""


def is_address(name: str | os.PathLike) -> bool:
    """Whether a name is an address on the web."""
    if not isinstance(name, str) or re.match(r"https?://", name, re.IGNORECASE) is None:
        return False
    try:
        return bool(urlsplit(name).hostname)
    except ValueError:
        return False


def without_query(address: str) -> str:
    """An address without the part that may hold a signature or password, as messages show it."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def without_signature(address: str) -> str:
    """An address without what changes whenever it is signed: the same for the same file."""
    parts = urlsplit(address)
    kept = [(name, value) for name, value in parse_qsl(parts.query) if not SIGNATURE.fullmatch(name)]
    return without_query(address) + (f"?{urlencode(kept)}" if kept else "")


def fetch_text(address: str) -> str:
    """Fetch a text in UTF-8.

    Raises:
        DataError: It cannot be fetched, is too large or not UTF-8.
        ConfigError: The package that fetches is not installed.
    """
    content, _ = _get(address, None, 4 * MAX_CHARACTERS)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{without_query(address)} is not text in UTF-8; check the address.") from error


def fetch_part(address: str, first: int, last: int) -> RemotePart:
    """Fetch the bytes of a file from ``first`` to ``last``, both included; fewer at its end.

    Raises:
        DataError: They cannot be fetched, or the server only gives whole files.
        ConfigError: The package that fetches is not installed.
    """
    content, headers = _get(address, (first, last), last - first + 1)
    size = int(CONTENT_RANGE.fullmatch(headers["Content-Range"])["size"])
    return RemotePart(content, size, headers.get("ETag") or headers.get("Last-Modified") or "")


def _get(address: str, part: tuple[int, int] | None, max_bytes: int) -> tuple[bytes, Mapping[str, str]]:
    """The content and headers of the answer for a part of a file, or for all of it."""
    for pause in (*PAUSES, None):
        try:
            return _try(address, part, max_bytes)
        except _Failure as failure:
            if pause is None:
                raise DataError(
                    f"{without_query(address)} cannot be fetched ({failure}, in {len(PAUSES) + 1} tries); run the same "
                    "command again later: it keeps what has been fetched."
                ) from failure
            logger.warning("%s: %s; trying again in %g s.", without_query(address), failure, pause)
            time.sleep(pause)
    raise AssertionError("unreachable")


def _try(address: str, part: tuple[int, int] | None, max_bytes: int) -> tuple[bytes, Mapping[str, str]]:
    requests = _import_requests()
    shown, target = without_query(address), _signed(address)
    headers = {} if part is None else {"Range": "bytes={}-{}".format(*part), "Accept-Encoding": "identity"}
    try:
        for _ in range(MAX_REDIRECTS + 1):
            with _session().get(target, headers=headers, stream=True, allow_redirects=False, timeout=TIMEOUT) as answer:
                if answer.is_redirect:
                    target = _redirected(shown, target, answer.headers["Location"])
                    continue
                _check_status(shown, answer.status_code, part is not None)
                content = _content(shown, answer, max_bytes)
                if part is not None:
                    _check_part(answer.headers, part[0], len(content))
                return content, answer.headers
    except ValueError as error:  # of requests and what it builds on
        raise DataError(f"{shown} is not an address ({type(error).__name__}); correct it.") from error
    except requests.RequestException as error:
        raise _Failure(_reason(error)) from error
    raise DataError(f"{shown} redirects more than {MAX_REDIRECTS} times; give the address that it leads to.")


def _check_status(shown: str, status: int, is_part: bool) -> None:
    is_signed_host = (urlsplit(shown).hostname or "").endswith(SIGNED_HOST)
    if status in TEMPORARY:
        raise _Failure(f"the server answered {status}")
    if status in REFUSED or (status in UNSIGNED and is_signed_host):
        hint = " (for Planetary Computer: pip install planetary-computer)" if is_signed_host else ""
        raise DataError(
            f"{shown} is refused (the server answered {status}); if such addresses are signed, give the item newly "
            f"signed{hint}: what has been fetched is kept."
        )
    if status in GONE:
        raise DataError(f"{shown} does not exist (the server answered {status}); check the address and its item.")
    if is_part and status == 200:
        raise DataError(
            f"{shown} is on a server that only gives whole files, not parts of them; download it, and give the file."
        )
    if status != (206 if is_part else 200):
        raise DataError(f"{shown} cannot be fetched (the server answered {status}); check the address.")


def _content(shown: str, answer: Any, max_bytes: int) -> bytes:
    content = bytearray()
    for piece in answer.iter_content(1 << 16):
        content += piece
        if len(content) > max_bytes:
            raise DataError(f"{shown} answers with more than {max_bytes} bytes, which is refused; check the address.")
    return bytes(content)


def _check_part(headers: Mapping[str, str], first: int, length: int) -> None:
    found = CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if found is None or int(found["first"]) != first or int(found["last"]) - first + 1 != length:
        raise _Failure("the answer is incomplete")


def _redirected(shown: str, source: str, location: str) -> str:
    target = urljoin(source, location)
    if not is_address(target) or (urlsplit(source).scheme, urlsplit(target).scheme) == ("https", "http"):
        raise DataError(
            f"{shown} redirects to {urlsplit(target).scheme}:, which is refused; give the address of the file itself."
        )
    return target


def _reason(error: Exception) -> str:
    """The innermost reason, without addresses, which may hold signatures."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or type(error).__name__


def _signed(address: str) -> str:
    """The address with the signature that Planetary Computer's package, if it is installed, gives for its files."""
    parts = urlsplit(address)
    if parts.query or not (parts.hostname or "").endswith(SIGNED_HOST):
        return address
    try:
        import planetary_computer
    except ImportError:
        return address
    try:
        return planetary_computer.sign_url(address)
    except Exception as error:  # it accesses the network
        raise _Failure(f"it cannot be signed: {type(error).__name__}") from error


@functools.cache
def _session() -> Any:
    return _import_requests().Session()


def _import_requests() -> ModuleType:
    try:
        import requests
    except ImportError as error:
        raise ConfigError(f"Fetching needs requests ({error}); run: pip install 'mm_ovseg[stac]'.") from error
    return requests
