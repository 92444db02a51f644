"""Errors that users can cause and fix.

Every message is one or two sentences that name the file, key or value at fault and say what to do. Command lines
print the message and exit with status 2 (:func:`mm_ovseg.cli.clean_exit.clean_exit`); library users catch
:class:`MMOVSegError`.
"""

import os
import traceback
from collections.abc import Callable

__all__ = [
    "DEBUG_VARIABLE",
    "MAX_REASON",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ExportError",
    "MMOVSegError",
    "ProcessError",
    "StoppedError",
    "TrainingError",
    "UnreadableWeightsError",
    "VocabularyError",
    "brief_reason",
    "check_needed",
    "exit_message",
]

DEBUG_VARIABLE = "MM_OVSEG_DEBUG"  # 1: commands show the tracebacks of errors of ours too
MAX_REASON = 300  # characters


class MMOVSegError(Exception):
    """Base of all errors whose message is meant for the user."""


class ConfigError(MMOVSegError):
    """A configuration key or value is wrong."""


class DataError(MMOVSegError):
    """A raster, label map or dataset declaration cannot be used as it is."""


class VocabularyError(MMOVSegError):
    """A list of class names is empty, repeats a name, or names a class that does not exist."""


class CheckpointError(MMOVSegError):
    """A weights file is missing, unreadable or made for another architecture."""


class ExportError(MMOVSegError):
    """A model cannot be exported, or the exported file computes something else."""


class UnreadableWeightsError(CheckpointError):
    """A weights file is missing or unreadable; an earlier checkpoint may be usable."""


class ProcessError(MMOVSegError):
    """A model is used in a process that did not build it."""


class StoppedError(MMOVSegError):
    """A run was cancelled before it finished."""


class TrainingError(MMOVSegError):
    """Training cannot continue, for example because the loss is not finite."""


def brief_reason(error: Exception) -> str:
    """Another library's error for use in a message: its type and the start of its text, in one line."""
    message = " ".join(str(error).split())[:MAX_REASON]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def check_needed(should_stop: Callable[[], bool] | None) -> None:
    """Raise if a scene is no longer needed.

    Args:
        should_stop: returns True to stop; None never stops.

    Raises:
        StoppedError: ``should_stop`` returned True.
    """
    if should_stop is not None and should_stop():
        raise StoppedError("The scene is not finished: it is no longer needed.")


def exit_message(error: BaseException) -> tuple[str, int]:
    """What a command prints on stderr when an exception ends it, and its exit status.

    That is one line and 2 for an error of ours, a traceback and 1 for any other.
    """
    if isinstance(error, KeyboardInterrupt):
        return "Stopped.", 130
    if isinstance(error, MMOVSegError) and os.environ.get(DEBUG_VARIABLE) != "1":
        return f"error: {error}", 2
    return "".join(traceback.format_exception(error)).rstrip(), 1
