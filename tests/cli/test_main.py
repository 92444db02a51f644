"""mm-ovseg: every command leads to its module, with its own arguments, help and exit status."""

import argparse
import importlib
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from detectron2.engine import default_argument_parser

from mm_ovseg.checkpoint.official import VARIANTS
from mm_ovseg.cli import arguments, convert, dataset_clouds, train
from mm_ovseg.cli.main import COMMANDS, build_parser, main
from mm_ovseg.data.clouds import CLOUDS_REGISTRY
from mm_ovseg.errors import ConfigError
from mm_ovseg.raster import SAR_UNITS
from mm_ovseg.visualization import picture_file
from tests.conftest import CLI, ROOT, run_cli
from tests.patience import PATIENCE


def fails(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_an_example_of_it(name, capsys):
    with pytest.raises(SystemExit) as stop:
        run_cli(name, "--help")
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: mm-ovseg {name} ")
    assert re.search(rf"^mm-ovseg {name} \S", printed, flags=re.MULTILINE)
    assert "--debug  show the traceback" in printed


def test_every_module_of_a_command_is_listed():
    modules = {path.stem for path in (ROOT / "mm_ovseg" / "cli").glob("*.py") if "def run(" in path.read_text()}
    listed = {module.removeprefix("mm_ovseg.cli.") for module, _ in COMMANDS.values()}
    assert listed == modules | {"eval"}
    for module, _ in COMMANDS.values():
        command = importlib.import_module(module)
        assert command.__doc__ and callable(command.add_arguments) and callable(command.run)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_list_holds_all_commands(words, capsys):
    main(words)
    printed = capsys.readouterr().out
    assert re.findall(r"^  (\w.*?)  ", printed, flags=re.MULTILINE) == list(COMMANDS)


def test_the_list_of_a_group(capsys):
    for words in (["dataset"], ["dataset", "--help"]):
        main(words)
        printed = capsys.readouterr().out
        assert "dataset tile" in printed and "convert" not in printed


@pytest.mark.parametrize("words,hint", [
    (["trian"], "'mm-ovseg trian'; did you mean 'mm-ovseg train'?"),
    (["dataset", "chek"], "'mm-ovseg dataset chek'; did you mean 'mm-ovseg dataset check'?"),
    (["--wrong"], "'mm-ovseg --wrong'; 'mm-ovseg --help' lists"),
])  # fmt: skip
def test_a_command_that_does_not_exist(words, hint, capsys):
    assert hint in fails(capsys, *words)


@pytest.fixture
def echo(monkeypatch):
    """A command that says what it gets, and exits with 7."""

    def run(args):
        print(args)
        sys.exit(7)

    module = ModuleType("echo", "Echo.")
    module.add_arguments = lambda parser: parser.add_argument("words", nargs=argparse.REMAINDER)
    module.run = run
    monkeypatch.setitem(sys.modules, "echo", module)
    monkeypatch.setitem(COMMANDS, "echo", ("echo", "echo"))


@pytest.mark.parametrize("words", [["echo", "A", "--debug", "b"], ["--debug", "echo", "A", "b"]])
def test_words_and_exit_status_pass_through(words, echo, capsys):
    before = list(sys.argv), list(sys.path)
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 7
    assert capsys.readouterr().out == "Namespace(words=['A', 'b'])\n"
    assert (sys.argv, sys.path) == before


def test_eval_is_train_that_only_evaluates():
    args = build_parser(importlib.import_module("mm_ovseg.cli.eval")).parse_args(["--config-file", "x.yaml", "A", "b"])
    assert args.eval_only and args.opts == ["A", "b"] and not build_parser(train).parse_args([]).eval_only


def test_the_arguments_of_training_are_those_of_detectron2():
    def options(parser):
        return {
            action.dest: (action.option_strings, action.nargs, action.type, type(action), action.default)
            for action in parser._actions
        }

    own, theirs = options(build_parser(train)), options(default_argument_parser())
    assert theirs.pop("help") and {name: own[name] for name in theirs} == theirs
    assert own.keys() - theirs.keys() == {"help", "base", "unseen"}
    empty = default_argument_parser().parse_args([])
    assert {**vars(build_parser(train).parse_args([]))} == {**vars(empty), "base": None, "unseen": None}


def test_what_help_states_without_importing_it_is_so():
    assert set(arguments.SAR_SCALES) == set(SAR_UNITS)
    assert (arguments.PRINT_WIDTH, arguments.PRINT_DPI) == (picture_file.PRINT_WIDTH, picture_file.PRINT_DPI)
    assert set(convert.VARIANTS) == set(VARIANTS)
    assert set(dataset_clouds.KINDS) == {name for name, _ in CLOUDS_REGISTRY}


WAITING = """
import sys, time, types
from mm_ovseg.cli.clean_exit import stopping
from mm_ovseg.cli.main import COMMANDS, main

def run(args):
    with stopping("it was only waiting."):
        print("ready", flush=True)
        time.sleep(600)

module = types.ModuleType("waiting", "Wait.")
module.add_arguments, module.run = lambda parser: None, run
sys.modules["waiting"], COMMANDS["wait"] = module, ("waiting", "wait")
main(["wait"])
"""


def heed_interrupts():
    """A shell lets what it runs in the background ignore SIGINT; where the tests are, their commands inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupting_reaches_the_command():
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", WAITING], cwd=ROOT, preexec_fn=heed_interrupts, **streams) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stderr.read() == "Stopped; it was only waiting.\n"


def test_an_error_is_one_line_and_debugging_shows_where(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("MM_OVSEG_DEBUG", raising=False)
    words = ["eval", "--config-file", str(tmp_path / "none.yaml")]
    assert fails(capsys, *words).startswith("error: The config file")
    with pytest.raises(ConfigError, match="The config file"):
        main(["--debug", *words])


def test_the_installed_command():
    command = Path(sys.executable).with_name("mm-ovseg")
    if not command.exists():
        pytest.skip("mm-ovseg is not installed beside this Python; `make setup` does it.")
    for words in ([command], CLI):
        version = subprocess.run([*words, "--version"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert re.fullmatch(r"mm-ovseg \d+\.\d+\.\d+\n", version)


HEAVY = {"torch", "detectron2", "rasterio", "cv2", "matplotlib", "numpy"}
HELP = """
import sys
from mm_ovseg.cli.main import COMMANDS, main

for name in COMMANDS:
    try:
        main([*name.split(), "--help"])
    except SystemExit:
        pass
main(["--help"])
main(["--version"])
print("imported:", *sys.modules)
"""


def test_help_imports_nothing_that_takes_long():
    done = subprocess.run([sys.executable, "-c", HELP], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.count("usage: mm-ovseg") == len(COMMANDS) + 1
    assert not HEAVY & {*done.stdout.splitlines()[-1].split()}
