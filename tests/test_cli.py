"""mm-ovseg: every command leads to its script, with the script's arguments, help and exit status."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mm_ovseg_cli
from mm_ovseg_cli import DOORS
from tests.conftest import ROOT

# Runs what lies in the working folder.
COPY = [sys.executable, "-c", "from mm_ovseg_cli import main; main()"]
THERE = [name for name, door in DOORS.items() if (ROOT / door.script).is_file()]


@pytest.fixture(autouse=True)
def same_process(monkeypatch):
    """What a command changes in its process is undone."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    stems = {Path(door.script).stem for door in DOORS.values()}
    before = {stem: sys.modules.pop(stem) for stem in stems & sys.modules.keys()}
    yield
    for stem in stems & sys.modules.keys():
        del sys.modules[stem]
    sys.modules.update(before)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder that the module believes to be its own."""
    monkeypatch.setattr(mm_ovseg_cli, "ROOT", tmp_path)
    return tmp_path


def write_script(root, script, text):
    (root / script).parent.mkdir(parents=True, exist_ok=True)
    (root / script).write_text(text)


def fails(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        mm_ovseg_cli.main(words)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("name", THERE)
def test_the_help_of_every_command_has_an_example_of_it(name, capsys):
    with pytest.raises(SystemExit) as stop:
        mm_ovseg_cli.main([*name.split(), "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: mm-ovseg {name} ")
    assert re.search(rf"^(\$ |    )?mm-ovseg {name} \S", printed, flags=re.MULTILINE)
    assert f"python {DOORS[name].script}" not in printed


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_list_holds_the_commands_whose_scripts_are_there(words, elsewhere, capsys):
    for script in ("setup.py", "train_net.py", "tools/export_model.py"):
        write_script(elsewhere, script, "")
    mm_ovseg_cli.main(words)
    printed = capsys.readouterr().out
    listed = [line.split("  ")[1] for line in printed.splitlines() if line.startswith("  ")]
    assert listed[:3] == ["train", "eval", "export"]
    assert "  dataset" not in printed and "pip install" not in printed


def test_the_list_of_a_group(capsys):
    for words in (["dataset"], ["dataset", "--help"]):
        mm_ovseg_cli.main(words)
        printed = capsys.readouterr().out
        assert "dataset tile" in printed and "convert" not in printed


def test_the_list_comes_without_pytorch():
    code = "import sys, mm_ovseg_cli; mm_ovseg_cli.main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.parametrize("words,hint", [
    (["trian"], "'mm-ovseg trian'; did you mean 'mm-ovseg train'?"),
    (["dataset", "chek"], "'mm-ovseg dataset chek'; did you mean 'mm-ovseg dataset check'?"),
    (["--wrong"], "'mm-ovseg --wrong'; 'mm-ovseg --help' lists"),
])  # fmt: skip
def test_a_command_that_does_not_exist(words, hint, capsys):
    assert hint in fails(capsys, *words)


def test_what_is_missing_is_said(elsewhere, capsys):
    write_script(elsewhere, "tools/benchmark.py", "raise AssertionError('of another project')")
    assert "no part of the installed package; clone the project" in fails(capsys, "benchmark")
    mm_ovseg_cli.main([])
    printed = capsys.readouterr().out
    assert "pip install --editable" in printed and "benchmark" not in printed
    write_script(elsewhere, "setup.py", "")
    assert "tools/export_model.py, which" in fails(capsys, "export")


SCRIPT = '''"""Scores.

python train_net.py --config-file x.yaml
"""
import sys
def main():
    print(sys.argv, __doc__)
    sys.exit(7)
'''


@pytest.mark.parametrize("words,passed", [
    (["train", "--x", "y"], ["mm-ovseg train", "--x", "y"]),
    (["--debug", "train", "A", "b"], ["mm-ovseg train", "A", "b", "--debug"]),
    (["eval", "--num-gpus", "2"], ["mm-ovseg eval", "--eval-only", "--num-gpus", "2"]),
])  # fmt: skip
def test_words_and_exit_status_pass_through(words, passed, elsewhere, capsys):
    write_script(elsewhere, "setup.py", "")
    write_script(elsewhere, "train_net.py", SCRIPT)
    with pytest.raises(SystemExit) as stop:
        mm_ovseg_cli.main(words)
    assert stop.value.code == 7
    printed = capsys.readouterr().out
    assert printed.startswith(str(passed))
    assert ("mm-ovseg train --config-file x.yaml" in printed) == (words[0] != "eval")
    # Processes that a command starts import its functions by the script's name.
    assert Path(sys.modules["train_net"].__file__) == elsewhere / "train_net.py" and sys.path[0] == str(elsewhere)


def test_a_command_of_the_package_needs_no_checkout(tmp_path):
    shutil.copy(ROOT / "mm_ovseg_cli.py", tmp_path)
    for module, text in (("__init__", ""), ("app/__init__", ""), ("app/__main__", "def main():\n    print('page')")):
        write_script(tmp_path, f"mm_ovseg/{module}.py", text)
    command = [*COPY, "app"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout == "page\n"


WAITING = """import sys, time
def main():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def heed_interrupts():
    """A shell lets what it runs in the background ignore SIGINT; where the tests are, their commands inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupting_reaches_the_command(tmp_path):
    shutil.copy(ROOT / "mm_ovseg_cli.py", tmp_path)
    write_script(tmp_path, "setup.py", "")
    write_script(tmp_path, "demo/demo.py", WAITING)
    options = {"stdout": subprocess.PIPE, "text": True, "preexec_fn": heed_interrupts}
    with subprocess.Popen([*COPY, "segment"], cwd=tmp_path, **options) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130


def test_an_error_is_one_line_and_debugging_shows_where(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("MM_OVSEG_DEBUG", raising=False)
    words = ["eval", "--config-file", str(tmp_path / "none.yaml")]
    assert fails(capsys, *words).startswith("error: The config file")
    with pytest.raises(Exception, match="The config file") as error:
        mm_ovseg_cli.main(["--debug", *words])
    assert type(error.value).__name__ == "ConfigError"


def test_the_installed_command():
    command = Path(sys.executable).with_name("mm-ovseg")
    if not command.exists():
        pytest.skip("mm-ovseg is not installed beside this Python; `make setup` does it.")
    version = subprocess.run([command, "--version"], cwd=os.sep, capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"mm-ovseg \d+\.\d+\.\d+\n", version)
