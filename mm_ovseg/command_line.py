"""How every command line of the project ends: with its result, or with one clear sentence."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mm_ovseg.errors import MMOVSegError

__all__ = ["INTERRUPTED", "clean_exit"]

INTERRUPTED = 130  # exit status after Ctrl-C, as of a shell
DEBUG_VARIABLE = "MM_OVSEG_DEBUG"
DEBUG_OPTION = "--debug"

Result = TypeVar("Result")


def clean_exit(main: Callable[..., Result]) -> Callable[..., Result]:
    """Turn the project's own errors into one line on stderr and exit status 2.

    ``--debug`` anywhere on the command line, or ``MM_OVSEG_DEBUG=1`` in the environment, shows the traceback instead;
    the option is taken out before ``main`` reads the others, from ``sys.argv`` or from the list that it is called with.
    Other exceptions pass through: they are defects of the program, not of its input.
    """

    @functools.wraps(main)
    def wrapper(*args, **kwargs) -> Result:
        typed = args[0] if args and isinstance(args[0], list | tuple) else sys.argv[1:]
        others = [word for word in typed if word != DEBUG_OPTION]
        if args and typed is args[0]:
            args = (others, *args[1:])
        else:
            sys.argv[1:] = others
        with _debugging(len(others) < len(typed)):
            try:
                return main(*args, **kwargs)
            except MMOVSegError as error:
                if os.environ.get(DEBUG_VARIABLE) == "1":
                    raise
                print(f"error: {error}", file=sys.stderr)
                sys.exit(2)
            except SystemExit as stop:
                if stop.code == 0 and not {"-h", "--help"}.isdisjoint(others):
                    print(f"\nof every command:\n  {DEBUG_OPTION}  show the traceback of an error")
                raise

    return wrapper


@contextmanager
def _debugging(wanted: bool) -> Iterator[None]:
    """By the environment, since the processes that a command starts are to know."""
    before = os.environ.get(DEBUG_VARIABLE)
    if wanted:
        os.environ[DEBUG_VARIABLE] = "1"
    try:
        yield
    finally:
        if wanted and before is None:
            del os.environ[DEBUG_VARIABLE]
        elif wanted:
            os.environ[DEBUG_VARIABLE] = before
