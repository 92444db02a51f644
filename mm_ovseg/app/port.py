"""The port of the page."""

import socket

from mm_ovseg.errors import ConfigError

__all__ = ["open_port"]

MAX_PORT = 65535


def open_port(host: str, port: int) -> socket.socket:
    """A socket bound to a host and port, before the slow loading of a model.

    Raises:
        ConfigError: the address or port does not exist on this machine, or is in use.
    """
    if not 0 <= port <= MAX_PORT:
        raise ConfigError(f"--port is {port}; give a number from 1 to {MAX_PORT}, or 0 for any free port.")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ConfigError(
            f"The page cannot be served at {host}, port {port} ({error.strerror}); choose another --port or --host."
        ) from error
    return listener
