import argparse
import ast
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys

import pytest

import mm_ovseg
from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.errors import ConfigError, DataError, MMOVSegError
from tests.conftest import ROOT
from tests.patience import PATIENCE

COMMANDS = sorted(
    path
    for folder in (".", "tools", "demo", "datasets", "projects/laptop", "projects/sentinel")
    for path in (ROOT / folder).glob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8") and path.name != "install_detectron2.py"
)  # which runs before this package can


@clean_exit
def program(error):
    if isinstance(error, Exception):
        raise error
    return "done"


@clean_exit
def command(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[])
    args = parser.parse_args(arguments)
    if args.opts != ["A", "b"]:
        raise DataError(f"{args.opts} {os.environ.get('MM_OVSEG_DEBUG')}")


def test_a_result_passes_through():
    assert program() == "done"


def test_our_errors_become_one_line_and_status_2(capsys):
    with pytest.raises(SystemExit) as stop:
        program(DataError("sar.tif is empty; replace it."))
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: sar.tif is empty; replace it.\n"


def test_debugging_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("MM_OVSEG_DEBUG", "1")
    with pytest.raises(ConfigError):
        program(ConfigError("x"))


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("before", [None, "0"])
def test_the_option_shows_the_traceback_wherever_it_stands(monkeypatch, capsys, listed, before):
    if before is None:
        monkeypatch.delenv("MM_OVSEG_DEBUG", raising=False)
    else:
        monkeypatch.setenv("MM_OVSEG_DEBUG", before)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["command.py", *words])
        try:
            return command(list(words)) if listed else command()
        finally:
            assert sys.argv == ["command.py", *words]

    for words in (["--debug"], ["--debug", "--opts", "A"], ["--opts", "A", "--debug"]):
        # What the command starts sees it too.
        with pytest.raises(DataError, match="1$"):
            call(*words)
        assert os.environ.get("MM_OVSEG_DEBUG") == before
    call("--opts", "A", "b", "--debug")
    with pytest.raises(SystemExit) as stop:
        call("--opts", "A")
    assert stop.value.code == 2
    with pytest.raises(SystemExit):
        call("--help")
    assert "--debug  show the traceback" in capsys.readouterr().out


def test_defects_of_the_program_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        program(ZeroDivisionError())


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_every_command_line_ends_so(path):
    functions = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    (main,) = [node for node in functions if node.name == "main"]
    assert [decorator.id for decorator in main.decorator_list] == ["clean_exit"]


def test_a_command_of_the_project(tmp_path):
    arguments = [sys.executable, "train_net.py", "--config-file", str(tmp_path / "none.yaml"), "X", "y"]
    environment = {key: value for key, value in os.environ.items() if key != "MM_OVSEG_DEBUG"}

    ended = subprocess.run(
        [*arguments, "--debug"], cwd=ROOT, env=environment, text=True, capture_output=True, check=False
    )
    assert ended.returncode == 1 and "Traceback" in ended.stderr and "mm_ovseg.errors.ConfigError" in ended.stderr


def test_one_hierarchy_of_errors():
    """Whatever class of ours is raised, whoever catches MMOVSegError catches it."""
    names = [module.name for module in pkgutil.walk_packages(mm_ovseg.__path__, "mm_ovseg.")]
    classes = {
        value
        for name in names
        if not name.endswith("__main__")
        for value in vars(importlib.import_module(name)).values()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__.startswith("mm_ovseg")
    }
    assert len(classes) >= 6
    assert not [value for value in classes if not issubclass(value, MMOVSegError)]


SHOUT = """
import logging, sys
from tqdm import tqdm
from mm_ovseg.cli.clean_exit import clean_exit

@clean_exit
def main(arguments):
    print("道路 Straße")
    logging.basicConfig(stream=sys.stdout, level=logging.INFO)
    for _ in tqdm(range(2), desc="道路"):
        for _ in range(5000):
            print("more than a pipe's buffer holds")
    logging.info("Wälder %s", chr(0xdcff))
    print("道路", file=sys.stderr)
    open(arguments[0], "w").close()

main()
"""
NARROW = [
    {"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "utf-8"},
]  # fmt: skip


@pytest.mark.parametrize("variables", NARROW, ids=str)
def test_letters_that_a_terminal_lacks_are_replaced(tmp_path, variables):
    (tmp_path / "shout.py").write_text(SHOUT, encoding="utf-8")
    words = [sys.executable, tmp_path / "shout.py", tmp_path / "done"]
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(words, env=environment, capture_output=True, check=False)
    assert ended.returncode == 0 and b"error" not in ended.stderr.lower() and b"Traceback" not in ended.stderr
    first, *_, last = ended.stdout.splitlines()
    assert first.startswith("道路 Straße".encode() if "utf-8" in variables.values() else b"?? Stra")
    assert last.startswith(b"INFO:root:W") and last.endswith(b" ?")


@pytest.mark.parametrize("streams", ["stdout", "both"])
def test_a_reader_who_leaves_does_not_end_the_work(tmp_path, streams):
    with open(tmp_path / "errors", "wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", SHOUT, str(tmp_path / "done")],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
            stdout=subprocess.PIPE,
            stderr=errors if streams == "stdout" else subprocess.STDOUT,
        )
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=PATIENCE) == 0
    assert (tmp_path / "done").exists()
    said = (tmp_path / "errors").read_text(encoding="utf-8")
    assert "Traceback" not in said and "Broken" not in said and ("道路" in said) == (streams == "stdout")


def test_the_streams_are_given_back():
    before = sys.stdout, sys.stderr
    program()
    with pytest.raises(ZeroDivisionError):
        program(ZeroDivisionError())
    assert (sys.stdout, sys.stderr) == before
