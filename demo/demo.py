#!/usr/bin/env python
"""``mm-ovseg segment`` as a script: segments RGB-SAR pairs into maps and figures."""

from collections.abc import Sequence

from mm_ovseg.cli import segment
from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.cli.main import run_command


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Segment what the command line names."""
    run_command(segment, arguments)


if __name__ == "__main__":
    main()
