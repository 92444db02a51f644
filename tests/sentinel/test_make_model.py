"""The one command that makes the Sentinel model."""

import shlex

import pytest
from detectron2.data import DatasetCatalog

import distil_text
import make_model
import prepare
from make_model import build_steps, main
from mm_ovseg.cli import calibrate, train
from mm_ovseg.cli.main import build_parser
from mm_ovseg.engine import load_config
from mm_ovseg.errors import TrainingError
from tests.conftest import ROOT, load_tool

PARSERS = {
    "projects/sentinel/prepare.py": prepare.parse_arguments,
    "projects/sentinel/distil_text.py": distil_text.parse_arguments,
    "projects/sentinel/pretrain.py": load_tool("pretrain", "projects/sentinel").parse_arguments,
    "train_net.py": build_parser(train).parse_args,
    "tools/publish_weights.py": load_tool("publish_weights").parse_arguments,
    "-m mm_ovseg calibrate": build_parser(calibrate).parse_args,
}


def test_dry_run_prints_command_lines_of_programs_and_configs_that_exist(capsys, tmp_path):
    main(["--source", str(tmp_path), "--output", str(tmp_path / "output"), "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 + 2 * 4
    for line in lines:
        environment, python, *command = shlex.split(line)
        assert environment.startswith("DETECTRON2_DATASETS=") and python == "python"
        named = [word for word in command if word.startswith(("projects/", "configs/", "tools/", "train_net"))]
        assert named and all((ROOT / word).is_file() for word in named), line


def test_the_commands_accept_their_command_lines(tmp_path):
    called = set()
    for _, command in build_steps(tmp_path / "source", tmp_path / "output", [1]):
        words = 3 if command[0] == "-m" else 1
        program = " ".join(command[:words])
        called.add(program)
        args = PARSERS[program](command[words:])
        if "config_file" in args:
            cfg = load_config(args.config_file, args.opts)
            assert {*cfg.DATASETS.TRAIN, *getattr(args, "dataset", ())} <= set(DatasetCatalog)
    assert called == set(PARSERS)


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
