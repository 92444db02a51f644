"""The one command that makes the Sentinel model."""

import shlex
from pathlib import Path

import pytest

import make_model
from make_model import build_steps, main
from mm_ovseg.errors import TrainingError

ROOT = Path(__file__).resolve().parents[2]


def test_dry_run_prints_command_lines_of_programs_and_configs_that_exist(capsys, tmp_path):
    main(["--source", str(tmp_path), "--output", str(tmp_path / "output"), "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 + 2 * 4
    for line in lines:
        environment, python, *command = shlex.split(line)
        assert environment.startswith("DETECTRON2_DATASETS=") and python == "python"
        named = [word for word in command if word.startswith(("projects/", "configs/", "tools/", "train_net"))]
        assert named and all((ROOT / word).is_file() for word in named), line


def test_finished_steps_are_not_repeated_and_a_failed_one_says_how_to_continue(capsys, tmp_path, monkeypatch):
    for done, _ in build_steps(tmp_path, tmp_path, [1]):
        done.parent.mkdir(parents=True, exist_ok=True)
        done.touch()
    monkeypatch.setattr(make_model.subprocess, "run", lambda *_args, **_options: pytest.fail("a step was repeated"))
    for done, command in build_steps(tmp_path, tmp_path, [1]):
        make_model.run_step(done, command, tmp_path)
    assert capsys.readouterr().out.count("is there") == 9
    monkeypatch.undo()
    with pytest.raises(TrainingError, match="run the same command again"):
        make_model.run_step(tmp_path / "missing", ["-c", "pass"], tmp_path)
