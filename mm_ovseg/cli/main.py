"""The command ``mm-ovseg``: lists its commands, and dispatches to them."""

import argparse
import difflib
import importlib
import importlib.metadata
from collections.abc import Sequence
from types import ModuleType

from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.errors import ConfigError

__all__ = ["COMMANDS", "build_parser", "main", "run_command"]

# Name: (module, summary). The first word of a two-word command is its group.
COMMANDS = {
    "train": ("mm_ovseg.cli.train", "train either stage, or resume training"),
    "eval": ("mm_ovseg.cli.eval", "evaluate a model on labelled pairs"),
    "segment": ("mm_ovseg.cli.segment", "segment one pair or folders of pairs"),
    "scene": ("mm_ovseg.cli.scene", "segment a large scene into a map for QGIS"),
    "archive": ("mm_ovseg.cli.archive", "segment many scenes on all cores, GPUs or machines"),
    "prepare": ("mm_ovseg.cli.prepare", "make plain rasters of satellite products"),
    "change": ("mm_ovseg.cli.change", "compare two maps: changes, and what was flooded"),
    "sample": ("mm_ovseg.cli.sample", "draw points of a map for people to label"),
    "assess": ("mm_ovseg.cli.assess", "estimate a map's accuracy and areas from labelled points"),
    "dataset new": ("mm_ovseg.cli.dataset_new", "declare a folder of images as a dataset"),
    "dataset check": ("mm_ovseg.cli.dataset_check", "list what to fix in a dataset, worst first"),
    "dataset preview": ("mm_ovseg.cli.dataset_preview", "draw samples of a dataset"),
    "dataset tile": ("mm_ovseg.cli.dataset_tile", "tile large scenes into a dataset"),
    "dataset clouds": ("mm_ovseg.cli.dataset_clouds", "draw clouds over clear images"),
    "convert": ("mm_ovseg.cli.convert", "convert a published checkpoint"),
    "figure": ("mm_ovseg.cli.figure", "draw pairs with ground truth and predictions"),
    "explain": ("mm_ovseg.cli.explain", "draw how a model arrives at a class"),
    "scores": ("mm_ovseg.cli.scores", "plot the scores of evaluations"),
    "tables": ("mm_ovseg.cli.tables", "write the paper's tables with your runs"),
    "efficiency": ("mm_ovseg.cli.efficiency", "measure parameters, FLOPs, time and memory of a config"),
    "calibrate": ("mm_ovseg.cli.calibrate", "make the scores of a model probabilities"),
    "export": ("mm_ovseg.cli.export", "export a model to ONNX or PyTorch"),
    "app": ("mm_ovseg.cli.app", "serve the web page"),
}


@clean_exit
def main(arguments: Sequence[str]) -> None:
    """Run the command named by the first words, or list the commands.

    Raises:
        ConfigError: the command is unknown.
    """
    if list(arguments) == ["--version"]:
        print(f"mm-ovseg {importlib.metadata.version('mm_ovseg')}")
        return
    names = (" ".join(arguments[:2]), " ".join(arguments[:1]))
    command = next((name for name in names if name in COMMANDS), None)
    if command is None:
        _list_commands(arguments)
        return
    module, _ = COMMANDS[command]
    run_command(importlib.import_module(module), arguments[len(command.split()) :], prog=f"mm-ovseg {command}")


def build_parser(command: ModuleType, prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of a command's module; ``prog`` is its name in the help, None for the name of the script."""
    parser = argparse.ArgumentParser(
        prog=prog, description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_arguments(parser)
    return parser


def run_command(command: ModuleType, arguments: Sequence[str] | None, prog: str | None = None) -> None:
    """Run a command under ``clean_exit``, with the given arguments or, for None, those of ``sys.argv``."""
    command.run(build_parser(command, prog).parse_args(arguments))


def _list_commands(words: Sequence[str]) -> None:
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    group = words[0] if words and words[0] in groups else None
    rest = [word for word in words if word not in (group, "-h", "--help")]
    if rest:
        asked = f"{group} {rest[0]}" if group else rest[0]
        close = difflib.get_close_matches(asked, COMMANDS, n=1)
        hint = f"did you mean 'mm-ovseg {close[0]}'?" if close else "'mm-ovseg --help' lists the commands."
        raise ConfigError(f"There is no command 'mm-ovseg {asked}'; {hint}")
    shown = {name: summary for name, (_, summary) in COMMANDS.items() if group in (None, name.split()[0])}
    width = max(map(len, shown))
    print(f"usage: mm-ovseg {group or 'COMMAND'} ...\n")
    print(*(f"  {name:{width}}  {summary}" for name, summary in shown.items()), sep="\n")
    if group is None:
        print("\nmm-ovseg segment --config-file configs/mm_ovseg_vitb16_384.yaml --input rgb.tif --sar sar.tif \\")
        print('    --classes "water,road,city,forest" --output maps --opts MODEL.WEIGHTS model.pth')
    print(
        "\n'mm-ovseg COMMAND --help' shows the options of a command, with examples; 'mm-ovseg --version' the version."
    )
