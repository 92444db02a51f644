"""From the module of a command to its parser, and to its run."""

import argparse
from collections.abc import Sequence
from types import ModuleType

__all__ = ["build_parser", "run_command"]


def build_parser(command: ModuleType, prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of a command.

    Args:
        command: a module with a docstring, ``add_arguments(parser)`` and ``run(args)``.
        prog: what its help calls it; None for the name of the script that runs.
    """
    parser = argparse.ArgumentParser(
        prog=prog, description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_arguments(parser)
    return parser


def run_command(command: ModuleType, arguments: Sequence[str] | None, prog: str | None = None) -> None:
    """Run a command with the words that follow its name; to be called under ``clean_exit``.

    Args:
        command: as of :func:`build_parser`.
        arguments: the words; None for those of ``sys.argv``.
        prog: as of :func:`build_parser`.
    """
    command.run(build_parser(command, prog).parse_args(arguments))
