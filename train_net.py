#!/usr/bin/env python
"""``mm-ovseg train`` as a script: trains either stage, resumes, or evaluates; under ``torchrun`` too."""

from collections.abc import Sequence

from mm_ovseg.cli import train
from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.cli.main import run_command


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and start the processes."""
    run_command(train, arguments)


if __name__ == "__main__":
    main()
