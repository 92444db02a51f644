"""How every command line of the project ends: with its result, or with one clear sentence."""

import functools
import os
import sys
from collections.abc import Callable
from typing import TypeVar

from mm_ovseg.errors import MMOVSegError

__all__ = ["INTERRUPTED", "clean_exit"]

INTERRUPTED = 130  # exit status after Ctrl-C, as of a shell

Result = TypeVar("Result")


def clean_exit(main: Callable[..., Result]) -> Callable[..., Result]:
    """Turn the project's own errors into one line on stderr and exit status 2.

    Set the environment variable ``MM_OVSEG_DEBUG=1`` to see the traceback instead. Other exceptions pass through: they
    are defects of the program, not of its input.
    """

    @functools.wraps(main)
    def wrapper(*args, **kwargs) -> Result:
        try:
            return main(*args, **kwargs)
        except MMOVSegError as error:
            if os.environ.get("MM_OVSEG_DEBUG") == "1":
                raise
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    return wrapper
