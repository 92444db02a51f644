"""Checks of config values that must be one of several."""

from collections.abc import Iterable

from fvcore.common.registry import Registry

from mm_ovseg.errors import ConfigError

__all__ = ["check_choice", "check_registered"]


def check_choice(key: str, value: object, known: Iterable[object]) -> None:
    """Check that the value of a config key is one of the known ones.

    Raises:
        ConfigError: it is not; the message lists the known ones.
    """
    known = list(known)
    if value not in known:
        raise ConfigError(f"{key} is '{value}'; choose one of {', '.join(map(str, known))}.")


def check_registered(key: str, name: str, registry: Registry) -> None:
    """Like :func:`check_choice`, for the names in a registry."""
    check_choice(key, name, sorted(registered for registered, _ in registry))
