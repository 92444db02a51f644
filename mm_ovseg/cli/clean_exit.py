"""How every command of the project ends: with its result, or with one clear error message."""

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

from mm_ovseg.errors import DEBUG_VARIABLE, MMOVSegError, exit_message

__all__ = ["INTERRUPTED", "clean_exit", "forgiving_output", "stopping"]

INTERRUPTED = 130  # exit status after Ctrl-C, as in a shell
DEBUG_OPTION = "--debug"

Result = TypeVar("Result")


def clean_exit(main: Callable[..., Result]) -> Callable[..., Result]:
    """Turn the project's own errors into one line on stderr and exit status 2.

    ``main`` takes the command line as a list, by default ``sys.argv[1:]``; in a process started by a command, it may
    take something else. ``--debug`` anywhere on the command line, or ``MM_OVSEG_DEBUG=1`` in the environment, shows the
    traceback instead; it is not passed on to ``main``. Other exceptions propagate: they are bugs, not errors of the
    input.

    Output never ends a command: characters that stdout cannot encode are replaced by "?", and output to a closed pipe
    (``| head``) is dropped.
    """

    @functools.wraps(main)
    def wrapper(arguments: Any = None) -> Result:
        words: Sequence[str] = []
        if arguments is None or isinstance(arguments, list | tuple):
            words = sys.argv[1:] if arguments is None else arguments
            arguments = [word for word in words if word != DEBUG_OPTION]
        with _debugging(DEBUG_OPTION in words), forgiving_output():
            try:
                return main(arguments)
            except MMOVSegError as error:
                if os.environ.get(DEBUG_VARIABLE) == "1":
                    raise
                message, status = exit_message(error)
                print(message, file=sys.stderr)
                sys.exit(status)
            except SystemExit as stop:
                if stop.code == 0 and not {"-h", "--help"}.isdisjoint(words):
                    print(f"\nevery command:\n  {DEBUG_OPTION}  show the traceback of an error")
                raise

    return wrapper


@contextmanager
def stopping(advice: str) -> Iterator[None]:
    """On Ctrl-C, print advice on stderr and exit with its status."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"Stopped; {advice}", file=sys.stderr)
        sys.exit(INTERRUPTED)


@contextmanager
def _debugging(wanted: bool) -> Iterator[None]:
    """Through the environment, so that the processes that a command starts inherit it."""
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


class _Output:
    """A text stream that drops its output once the reader has closed the pipe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._discard()

    def _discard(self) -> None:
        """Redirect the file descriptor to /dev/null, for this stream's buffer and for libraries that write to it."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def forgiving_output() -> Iterator[None]:
    """Within the block, output never ends the process: see :func:`clean_exit`."""
    before = sys.stdout, sys.stderr
    # stderr replaces characters itself.
    if hasattr(sys.stdout, "reconfigure") and sys.stdout.errors != "replace":
        sys.stdout.reconfigure(errors="replace")
    if not isinstance(sys.stdout, _Output):  # a command within another
        sys.stdout, sys.stderr = (stream and _Output(stream) for stream in before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before
