"""Config files from any folder: what they build on, and what the paths in them count from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog

from mm_ovseg.engine import load_config
from mm_ovseg.engine.config_file import config_files, read_config_file
from mm_ovseg.errors import ConfigError
from tests.conftest import ROOT
from tests.patience import PATIENCE

CPU = ["MODEL.DEVICE", "cpu"]
DECLARED = "datasets: {NAME: {root: x, rgb: rgb, sar: sar, classes: [water, road]}}"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def declare(path, name):
    return write(path, DECLARED.replace("NAME", name))


def test_a_dataset_file_counts_from_the_config_that_names_it_whatever_builds_on_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    declare(tmp_path / "project" / "lists" / "mine.yaml", "from_its_folder")
    declare(tmp_path / "lists" / "mine.yaml", "from_the_working_folder")
    write(tmp_path / "project" / "base.yaml", "DATASETS: {FILES: [lists/mine.yaml]}")
    own = write(tmp_path / "other" / "own.yaml", "_BASE_: ../project/base.yaml\nSEED: 7")
    cfg = load_config(own, CPU)
    assert [str(tmp_path / "project" / "lists" / "mine.yaml")] == cfg.DATASETS.FILES and cfg.SEED == 7
    assert "from_its_folder" in DatasetCatalog and "from_the_working_folder" not in DatasetCatalog


def test_then_from_the_checkout_then_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    declare(tmp_path / "projects" / "laptop" / "datasets.yaml", "decoy_of_laptop")
    declare(tmp_path / "here.yaml", "found_here")
    files = "('projects/laptop/datasets.yaml', 'here.yaml')"
    config = write(tmp_path / "configs" / "own.yaml", f'DATASETS: {{FILES: "{files}"}}')
    cfg = load_config(config, CPU)
    assert list(cfg.DATASETS.FILES) == [str(ROOT / "projects" / "laptop" / "datasets.yaml"), "here.yaml"]
    assert "laptop_val" in DatasetCatalog and "found_here" in DatasetCatalog and "decoy_of_laptop" not in DatasetCatalog


def test_a_config_of_the_package_is_found_from_an_empty_folder_unless_there_is_one_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = write(tmp_path / "own.yaml", "_BASE_: configs/base.yaml\nSEED: 7")
    assert config_files("own.yaml") == [Path("own.yaml"), ROOT / "configs" / "base.yaml"]
    assert load_config(own, CPU).SEED == 7 and load_config("configs/base.yaml", CPU).SEED == -1
    with pytest.raises(ConfigError, match="'base.yaml' does not exist"):
        load_config("base.yaml", CPU)
    write(tmp_path / "configs" / "base.yaml", "SEED: 8")
    assert load_config("configs/base.yaml", CPU).SEED == 8


def test_on_the_command_line_a_path_counts_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = write(tmp_path / "project" / "own.yaml", "SEED: 1")
    declare(tmp_path / "project" / "typed.yaml", "beside_the_config")
    with pytest.raises(ConfigError, match=rf"FILES lists typed.yaml, which does not exist in the working.*{tmp_path}"):
        load_config(config, [*CPU, "DATASETS.FILES", "['typed.yaml']"])
    declare(tmp_path / "typed.yaml", "in_the_working_folder")
    load_config(config, [*CPU, "DATASETS.FILES", "['typed.yaml']"])
    assert "in_the_working_folder" in DatasetCatalog and "beside_the_config" not in DatasetCatalog


def test_a_missing_dataset_file_stops_only_what_needs_datasets(tmp_path):
    config = write(tmp_path / "own.yaml", "DATASETS: {FILES: [absent.yaml], TRAIN: [absent_train]}")
    with pytest.raises(ConfigError, match=rf"absent.yaml, .* first from that file's folder and from {ROOT}\."):
        load_config(config, CPU)
    assert load_config(config, CPU, needs_datasets=False).DATASETS.TRAIN == ("absent_train",)
    assert load_config(config, [*CPU, "DATASETS.FILES", "[]"]).DATASETS.FILES == []


def test_weights_beside_the_config_are_found_and_others_count_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "project" / "model.pth", "")
    write(tmp_path / "project" / "names.json", "")
    text = "MODEL: {WEIGHTS: model.pth, DENSE_ENCODER_SAR: {WEIGHTS: output/sar.pth}, CLIP: {PRETRAINED: openai}}"
    cfg = load_config(write(tmp_path / "project" / "own.yaml", text + "\nTEST: {PROMPT_FILES: ['names.json']}"), CPU)
    assert str(tmp_path / "project" / "model.pth") == cfg.MODEL.WEIGHTS
    assert cfg.MODEL.DENSE_ENCODER_SAR.WEIGHTS == "output/sar.pth" and cfg.MODEL.CLIP.PRETRAINED == "openai"
    text = "TEST: {PROMPT_FILES: \"('names.json', 'pie.json')\"}\n_BASE_: own.yaml"
    cfg = load_config(write(tmp_path / "project" / "more.yaml", text), CPU)
    assert (str(tmp_path / "project" / "names.json"), "pie.json") == cfg.TEST.PROMPT_FILES


def test_several_bases_in_their_order(tmp_path):
    write(tmp_path / "a.yaml", "SEED: 1\nSOLVER: {MAX_ITER: 1, IMS_PER_BATCH: 1}")
    write(tmp_path / "b.yaml", "SEED: 2\nSOLVER: {MAX_ITER: 2}")
    content = read_config_file(write(tmp_path / "c.yaml", "_BASE_: [a.yaml, b.yaml]\nSEED: 3"))
    assert content == {"SEED": 3, "SOLVER": {"MAX_ITER": 2, "IMS_PER_BATCH": 1}}


def test_another_base_takes_the_place_of_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.yaml", "SEED: 1\nSOLVER: {MAX_ITER: 1}")
    write(tmp_path / "b.yaml", "SEED: 2")
    own = write(tmp_path / "own" / "c.yaml", "_BASE_: [../a.yaml, ../b.yaml]\nOUTPUT_DIR: here")
    other = write(tmp_path / "models" / "d.yaml", "_BASE_: e.yaml\nSEED: 4\nOUTPUT_DIR: there")
    write(tmp_path / "models" / "e.yaml", "SEED: 5\nVERSION: 2\nMODEL: {WEIGHTS: model.pth}")
    write(tmp_path / "models" / "model.pth", "")
    content = read_config_file(own, "models/d.yaml")
    assert content == {
        "SEED": 4,
        "VERSION": 2,
        "OUTPUT_DIR": "here",
        "MODEL": {"WEIGHTS": str(tmp_path / "models" / "model.pth")},
    }
    assert [path.name for path in config_files(own, "models/d.yaml")] == ["c.yaml", "d.yaml", "e.yaml"]
    write(tmp_path / "gone.yaml", "_BASE_: nowhere.yaml")  # which need not exist then
    assert load_config("gone.yaml", CPU, base=other).SEED == 4
    assert load_config("gone.yaml", CPU, base="configs/base.yaml").SOLVER.MAX_ITER == 80000  # the package's


@pytest.mark.parametrize("own,base,message", [
    ("SEED: 1", "a.yaml", "own.yaml has no _BASE_; give a config that has one"),
    ("_BASE_: a.yaml", "none.yaml", "--base none.yaml does not exist; give a config of a model"),
    ("_BASE_: a.yaml", "https://a.org/a.yaml", "--base https://a.org/a.yaml does not exist"),
    ("_BASE_: a.yaml", ".", r"--base \. does not exist"),
    ("_BASE_: a.yaml", "own.yaml", "own.yaml builds on itself"),
    ("_BASE_: a.yaml", "circle.yaml", "own.yaml builds on itself"),
    ("_BASE_: a.yaml", "list.yaml", "list.yaml does not hold"),
])  # fmt: skip
def test_another_base_that_cannot_be_used_is_one_sentence(tmp_path, monkeypatch, own, base, message):
    monkeypatch.chdir(tmp_path)
    for name, text in (("a", "SEED: 1"), ("own", own), ("circle", "_BASE_: own.yaml"), ("list", "[1]")):
        write(tmp_path / f"{name}.yaml", text)
    with pytest.raises(ConfigError, match=message):
        load_config("own.yaml", CPU, base=base)


@pytest.mark.parametrize("text,message", [
    ("_BASE_: 3", "builds on 3, which is not a path"),
    ("_BASE_: [a.yaml, own.yaml]", "builds on itself"),
    ("_BASE_: a.yaml\nSEED: {X: 1}", "gives keys to SEED, which is a value"),
    ("", "does not hold 'KEY: value' entries"),
    ("VERSION: 1", "has VERSION 1"),
    ("DATASETS: {FILES: [3]}", "FILES holds 3, which is not a path"),
])  # fmt: skip
def test_wrong_files_are_one_sentence(tmp_path, text, message):
    write(tmp_path / "a.yaml", "SEED: 1")
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path / "own.yaml", text), CPU)


def test_a_missing_config_says_from_where_it_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"'configs/none.yaml' does not exist in the working folder, {tmp_path};"):
        load_config("configs/none.yaml")


@pytest.mark.parametrize("words,message", [
    (["SEED=1"], "'SEED=1' joins .* write SEED 1"),
    (["SEED", "1", "OUTPUT_DIR=maps"], "write OUTPUT_DIR maps"),
    (["SEED=1", "OUTPUT_DIR=maps"], "write SEED 1"),
    (["SEED=", "1"], "write SEED VALUE"),
])  # fmt: skip
def test_an_equals_sign_between_key_and_value_is_explained(words, message):
    with pytest.raises(ConfigError, match=message):
        load_config(ROOT / "configs" / "base.yaml", words)


def test_a_value_may_hold_an_equals_sign():
    assert load_config(ROOT / "configs" / "base.yaml", [*CPU, "OUTPUT_DIR", "a=b"]).OUTPUT_DIR == "a=b"


def test_a_shipped_config_trains_from_another_folder_in_any_locale(tmp_path):
    """A config with a mark and letters that the locale lacks, which log.txt takes all the same."""
    config = tmp_path / "own.yaml"
    config.write_text(f"\ufeff# 水\n_BASE_: {ROOT}/projects/laptop/configs/mm_ovseg.yaml", encoding="utf-8")
    words = ["--config-file", config.name, *CPU, "OUTPUT_DIR", "out", "DATASETS.TRAIN", "('no_such_set',)"]
    variables = {"PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, ROOT / "train_net.py", *words],
        cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "no_such_set" in done.stderr and "Traceback" not in done.stderr
    assert "Logging error" not in done.stderr + done.stdout
    assert "水" in Path(tmp_path / "out" / "log.txt").read_text(encoding="utf-8")
