"""Arguments shared by several commands."""

import argparse
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from mm_ovseg.errors import ConfigError

__all__ = [
    "DELIVERABLES",
    "PRINT_DPI",
    "PRINT_WIDTH",
    "SAR_SCALES",
    "add_class_arguments",
    "add_config_arguments",
    "add_dataset_file_argument",
    "add_decision_arguments",
    "add_deliver_argument",
    "add_picture_arguments",
    "add_rgb_arguments",
    "check_pictures",
    "check_positive",
    "from_arguments",
]

# Copies from mm_ovseg.visualization.picture_file, mm_ovseg.raster and mm_ovseg.inference.deliverables, whose imports
# would slow down --help.
PRINT_WIDTH = 6.9
PRINT_DPI = 300
SAR_SCALES = ("8bit", "db", "amplitude", "power")
DELIVERABLES = {
    "stac": "a STAC item, MAP_stac.json",
    "table": "a raster attribute table, MAP.tif.aux.xml",
    "layers": "area of interest and image footprints, in the file of --vector",
}

Options = TypeVar("Options")


def add_config_arguments(
    parser: argparse.ArgumentParser,
    *,
    required: bool = True,
    default: Path | None = None,
    help: str = "a config from configs/, or your own",
) -> None:
    """Add ``--config-file`` and ``--opts``."""
    parser.add_argument("--config-file", required=required, default=default, metavar="FILE", help=help)
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="config overrides, at the end: KEY VALUE ..."
    )


def add_class_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add ``--classes`` and ``--unseen``."""
    parser.add_argument(
        "--classes",
        required=required,
        metavar="NAMES",
        help='"water,road,city"; with synonyms: "water,river,lake; road,street"; or a JSON class file',
    )
    parser.add_argument(
        "--unseen", metavar="NAMES", help="classes that had no labels in training (default: those of the class file)"
    )


def add_decision_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--background`` and ``--min-score``."""
    parser.add_argument(
        "--background",
        metavar="NAMES",
        help='names that compete with the classes and are mapped to "none", such as "bare ground, something else" '
        '(default: for one name alone, or with a calibration, the other classes of the training; "": nothing)',
    )
    parser.add_argument(
        "--min-score",
        metavar="SCORE",
        help='minimum score, 0..1, below which a pixel is "none"; by class: "water=0.3; road=0.2" (default: the '
        "calibration's; without one 0, or 0.5 for one name alone that training saw)",
    )


def add_dataset_file_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--dataset-file``."""
    parser.add_argument(
        "--dataset-file", action="append", default=[], metavar="YAML", help="a file that declares datasets"
    )


def add_deliver_argument(parser: argparse.ArgumentParser, choices: Iterable[str]) -> None:
    """Add ``--deliver``, with some of :data:`DELIVERABLES`."""
    which = "; ".join(f"{choice}: {DELIVERABLES[choice]}" for choice in choices)
    parser.add_argument("--deliver", nargs="+", choices=choices, default=[], help=f"also write {which}")


def add_rgb_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--rgb-bands`` and ``--rgb-range``."""
    which = "band numbers, from 1 (default: the bands labelled as such, else the first three)"
    parser.add_argument("--rgb-bands", type=int, nargs=3, default=(), metavar=("RED", "GREEN", "BLUE"), help=which)
    which = "values mapped to 0 and 255 if RGB is not 8-bit (INPUT.RGB.RANGE)"
    parser.add_argument("--rgb-range", type=float, nargs=2, default=(), metavar=("LOW", "HIGH"), help=which)


def add_picture_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add ``--output``, one or more pictures, ``--width`` and ``--dpi``."""
    parser.add_argument(
        "--output",
        required=required,
        default=[],
        nargs="+",
        type=Path,
        metavar="FILE",
        help="one or more files: .png, .jpg, .pdf, .svg",
    )
    parser.add_argument(
        "--width", type=float, default=PRINT_WIDTH, metavar="INCHES", help=f"width of the page (default: {PRINT_WIDTH})"
    )
    parser.add_argument("--dpi", type=int, default=PRINT_DPI, help=f"pixels per inch (default: {PRINT_DPI})")


def check_pictures(*paths: Path) -> None:
    """Check that pictures can be written, before any long computation.

    Raises:
        DataError: a name does not end in a picture format, or its folder is not writable.
    """
    from mm_ovseg.files import check_writable_folder
    from mm_ovseg.visualization.picture_file import check_picture_name

    for path in paths:
        check_picture_name(path)
        check_writable_folder(path.parent)


def check_positive(args: argparse.Namespace, *names: str) -> None:
    """Check that options are positive numbers.

    Raises:
        ConfigError: one is not.
    """
    for name in names:
        value = getattr(args, name.replace("-", "_"))
        if not 0 < value < float("inf"):
            raise ConfigError(f"--{name} is {value:g}; give a positive number.")


def from_arguments(options: type[Options], args: argparse.Namespace, **others: Any) -> Options:
    """Make a dataclass from the arguments named like its fields; ``others`` take precedence."""
    given = vars(args) | others
    return options(**{field.name: given[field.name] for field in dataclasses.fields(options) if field.name in given})
