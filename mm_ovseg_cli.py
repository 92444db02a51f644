"""The command ``mm-ovseg``: one door to the command lines of this project.

``mm-ovseg scene ...`` is ``python tools/segment_scene.py ...``: the same function with the same arguments. This module
lies beside the package, not in it, because importing the package imports PyTorch, which ``mm-ovseg --help`` does not
need.
"""

import difflib
import importlib
import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, NoReturn

__all__ = ["DOORS", "Door", "main"]

ROOT = Path(__file__).resolve().parent
PACKAGE = "mm_ovseg"
WRONG_COMMAND_LINE = 2


class Door(NamedTuple):
    """Where a command leads.

    Attributes:
        script: The command line's file, relative to the checkout; its ``main()`` reads ``sys.argv``.
        summary: What it does, in a line.
        words: Arguments that come before those of the user.
        description: What its help says instead of the script's docstring.
    """

    script: str
    summary: str
    words: tuple[str, ...] = ()
    description: str = ""


DOORS = {
    "train": Door("train_net.py", "train either stage, or resume"),
    "eval": Door(
        "train_net.py",
        "score a model on labelled pairs",
        words=("--eval-only",),
        description="Score a model on DATASETS.TEST: IoU of every class, of seen and of unseen ones; or retrieval.\n\n"
        "mm-ovseg eval --config-file configs/mm_ovseg_vitb16_384.yaml MODEL.WEIGHTS model.pth",
    ),
    "segment": Door("demo/demo.py", "segment a pair, or folders of them, into maps and figures"),
    "scene": Door("tools/segment_scene.py", "segment a whole scene into a map for QGIS"),
    "archive": Door("tools/segment_archive.py", "segment many scenes, on all cores, GPUs or machines"),
    "dataset new": Door("tools/new_dataset.py", "look at a folder of images, and declare it"),
    "dataset check": Door("tools/check_dataset.py", "say what to mend in a dataset, worst first"),
    "dataset preview": Door("tools/preview_dataset.py", "draw samples of a dataset"),
    "dataset tile": Door("tools/tile_scenes.py", "tile large scenes into a dataset"),
    "dataset clouds": Door("tools/add_clouds.py", "draw clouds over clear images"),
    "convert": Door("tools/convert_official_checkpoint.py", "bring a published checkpoint to this project's names"),
    "benchmark": Door("tools/benchmark.py", "measure speed and memory"),
    "figure": Door("tools/make_figure.py", "draw rows of pairs, ground truth and predictions"),
    "explain": Door("tools/explain.py", "draw what the model saw of a class"),
    "efficiency": Door("tools/efficiency.py", "tell parameters, FLOPs, time and memory of a config"),
    "export": Door("tools/export_model.py", "write the model as ONNX"),
    "app": Door("mm_ovseg/app/__main__.py", "open the web page"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Lead to the command that the first words name, or list the commands."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--debug"]:  # as of every script it may stand anywhere
        words = [*words[1:], *words[:1]]
    if words == ["--version"]:
        print(f"mm-ovseg {importlib.metadata.version(PACKAGE)}")
        return
    command = next((name for name in (" ".join(words[:2]), " ".join(words[:1])) if name in DOORS), None)
    if command is None:
        _show_list(words)
        return
    _run(command, words[len(command.split()) :])


def _run(command: str, words: Sequence[str]) -> None:
    door = DOORS[command]
    if not _is_there(door):
        if _is_checkout():
            _fail(f"'mm-ovseg {command}' is {door.script}, which {ROOT} does not hold; update the checkout.")
        _fail(
            f"'mm-ovseg {command}' is {door.script} of the project's checkout, which is no part of the installed "
            "package; clone the project, and there run `make setup`, or pip install --editable."
        )
    module = _import(ROOT / door.script)
    module.__doc__ = door.description or _with_doors(module.__doc__ or "")
    sys.argv = [f"mm-ovseg {command}", *door.words, *words]
    module.main()


def _import(script: Path) -> ModuleType:
    """Import a script under its name, from its folder first, as Python does, so that processes it starts find it."""
    if script.is_relative_to(ROOT / PACKAGE):
        return importlib.import_module(".".join(script.relative_to(ROOT).with_suffix("").parts))
    sys.path.insert(0, str(script.parent))
    return importlib.import_module(script.stem)


def _with_doors(text: str) -> str:
    """A script's docstring, whose examples call this command instead."""
    for name, door in DOORS.items():
        if not door.words:
            text = text.replace(f"python {door.script} ", f"mm-ovseg {name} ")
    return text


def _show_list(words: Sequence[str]) -> None:
    """List the commands, all or those of a group; end with an error where ``words`` ask for something else."""
    groups = {name.split()[0] for name in DOORS if " " in name}
    group = words[0] if words and words[0] in groups else None
    rest = [word for word in words if word not in (group, "-h", "--help", "--debug")]
    if rest:
        asked = f"{group} {rest[0]}" if group else rest[0]
        close = difflib.get_close_matches(asked, DOORS, n=1)
        hint = f"did you mean 'mm-ovseg {close[0]}'?" if close else "'mm-ovseg --help' lists the commands."
        _fail(f"There is no command 'mm-ovseg {asked}'; {hint}")
    shown = {
        name: door for name, door in DOORS.items() if (group is None or name.split()[0] == group) and _is_there(door)
    }
    print(f"usage: mm-ovseg {group or 'COMMAND'} ...\n")
    width = max(map(len, shown), default=0)
    print(*(f"  {name:{width}}  {door.summary}" for name, door in shown.items()), sep="\n")
    if group is None:
        print("\nmm-ovseg segment --config-file configs/mm_ovseg_vitb16_384.yaml --input rgb.tif --sar sar.tif \\")
        print('    --classes "water,road,city,forest" --output maps --opts MODEL.WEIGHTS model.pth')
    print("\n'mm-ovseg COMMAND --help' tells the options of a command, with examples.")
    if not _is_checkout():
        print("Other commands are scripts of the project's checkout, which is not here: pip install --editable.")


def _is_checkout() -> bool:
    return (ROOT / "setup.py").is_file()


def _is_there(door: Door) -> bool:
    # Where packages are installed, other projects may have scripts of the same names.
    return (ROOT / door.script).is_file() and (_is_checkout() or door.script.startswith(f"{PACKAGE}/"))


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(WRONG_COMMAND_LINE)
