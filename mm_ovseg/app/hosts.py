"""The names of the page. Requests with another name may come from a web site whose name resolves to this machine."""

import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from mm_ovseg.errors import ConfigError

__all__ = ["Hosts"]

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")


class Hosts:
    """Decides which ``Host`` and ``Origin`` headers are the page's own.

    Args:
        host: the name or address that the page listens on. For all addresses (``0.0.0.0``, ``::``), the names of the
            machine are known too.
        allowed: additional names or addresses, for example of a reverse proxy.

    Raises:
        ConfigError: one of ``allowed`` is not a name or an address.
    """

    def __init__(self, host: str, allowed: Sequence[str] = ()) -> None:
        self._allowed = frozenset(_checked_name(name) for name in allowed)
        names = {host.lower()}
        address = _address(host)
        everywhere = address is not None and address.is_unspecified
        if everywhere or host.lower() in LOCAL_NAMES or (address is not None and address.is_loopback):
            names |= LOCAL_NAMES
        if everywhere:
            names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        self._names = self._allowed | names

    def knows(self, host: str, connected: str | None) -> bool:
        """Whether a ``Host`` header is the page's.

        Args:
            host: a name or an address, with or without a port.
            connected: the address of this machine that received the request.
        """
        name = _host_name(host)
        return name is not None and (name in self._names or name == connected)

    def trusts(self, origin: str, hosts: Sequence[str]) -> bool:
        """Whether an ``Origin`` header is the page's own: the requested host, or an allowed one.

        Args:
            origin: a scheme, a host and optionally a port; or ``null``.
            hosts: the request's ``Host`` header, and ``X-Forwarded-Host`` if there is one.
        """
        scheme, separator, host = origin.partition("://")
        if not separator or scheme not in ("http", "https"):
            return False
        name = _host_name(host)
        return name is not None and (name in self._allowed or host.lower() in {known.lower() for known in hosts})


def _host_name(host: str) -> str | None:
    """The name or address in ``name:port``, in lower case and without brackets; None if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 (raises if it is not a number)
    except ValueError:
        return None
    return parts.hostname if parts.netloc == host and "@" not in host else None


def _checked_name(name: str) -> str:
    bare = name.removeprefix("[").removesuffix("]").lower()
    if _address(bare) is None and not HOST_NAME.fullmatch(bare):
        raise ConfigError(f"--allowed-host is {name!r}; give a name or an address, without scheme and port.")
    return bare


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
