"""``python -m mm_ovseg`` is ``mm-ovseg``."""

from mm_ovseg.cli.main import main

if __name__ == "__main__":
    main()
