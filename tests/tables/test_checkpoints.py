"""mm-ovseg tables --checkpoints: each is evaluated by mm-ovseg eval, once."""

import json
import shutil

import pytest
import torch
from detectron2.modeling import build_model

from laptop.drawn_world import write_synthetic_dataset
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.tables import checkpoints, evaluate_checkpoints
from tests.conftest import ROOT, run_cli

QUICKSTART = str(ROOT / "configs" / "quickstart" / "mm_ovseg.yaml")
GSNET = str(ROOT / "configs" / "siblings" / "gsnet_vitb16_384.yaml")
SETTING = str(ROOT / "configs" / "settings" / "ddhr_sk.yaml")
SIZES = ["MODEL.DEVICE", "cpu", "MODEL.CLIP.IMAGE_SIZE", "96", "MODEL.DENSE_ENCODER.IMAGE_SIZE", "96"]
RECORD = "output/evaluated/mm_ovseg-own/evaluated.json"
EVALUATION = "output/evaluated/mm_ovseg-own/inference/drawn_val/sem_seg_evaluation.json"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a setting of one's own, weights, and a list that names both."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    write_synthetic_dataset(tmp_path / "drawn", num_train=0, num_val=1, size=96)
    classes = json.dumps(["settlement", "road", "water", "forest", "farmland"])
    (tmp_path / "data.yaml").write_text(
        f"datasets: {{drawn_val: {{root: {tmp_path}/drawn/val, rgb: rgb, sar: sar, labels: labels, "
        f"classes: {classes}, unseen: [road, water]}}}}"
    )
    (tmp_path / "own.yaml").write_text(
        '_BASE_: none.yaml\nDATASETS: {FILES: [data.yaml], TRAIN: ["drawn_val"], TEST: ["drawn_val"]}'
    )
    torch.manual_seed(0)
    model = build_model(load_config(QUICKSTART, [*SIZES, "DATASETS.TRAIN", "()", "DATASETS.TEST", "()"]))
    torch.save({"model": model.state_dict()}, "weights.pth")
    write_list({"config": "own.yaml", "base": QUICKSTART, "weights": "weights.pth", "opts": SIZES})
    return tmp_path


def write_list(*entries):
    with open("list.yaml", "w") as file:
        json.dump(entries, file)


def test_a_checkpoint_is_evaluated_once_until_something_changes(project, capfd, forget_datasets):
    words = ["--runs", "output", "--checkpoints", "list.yaml", "--tables", "2"]
    run_cli("tables", *words)
    printed = capfd.readouterr()
    assert printed.out.startswith("## Table 2") and "Evaluating 1 of 1, mm_ovseg-own." in printed.err
    assert f"{EVALUATION} is left out: a model trained on drawn_val" in printed.err  # in no setting of the paper's
    report = json.loads((project / EVALUATION).read_text())
    assert report["dataset"] == "drawn_val" and report["unseen_classes"] == ["road", "water"]
    first = (project / EVALUATION).stat().st_mtime_ns, (project / RECORD).read_text()

    run_cli("tables", *words[:1], project / "output", *words[2:])
    assert "Evaluating" not in capfd.readouterr().err
    assert first == ((project / EVALUATION).stat().st_mtime_ns, (project / RECORD).read_text())


def test_a_failure_is_no_evaluation(project, monkeypatch, forget_datasets):
    """What an earlier config or other weights gave does not stand for it."""
    monkeypatch.setattr(checkpoints.sys, "executable", shutil.which("false"))
    (project / EVALUATION).parent.mkdir(parents=True)
    (project / EVALUATION).write_text("{}")
    for record in ("{}", "{", json.dumps({"config": "other"})):
        (project / RECORD).write_text(record)
        with pytest.raises(DataError, match=r"Entry 1 of .*/list\.yaml could not be evaluated; the reason is printed"):
            evaluate_checkpoints(project / "list.yaml", project / "output")
        assert not (project / EVALUATION).exists() and (project / RECORD).read_text() == "{}"


class Done:
    returncode = 0


@pytest.mark.parametrize("key,value", [
    ("weights", "other.pth"), ("opts", [*SIZES, "TEST.PROMPT_FILES", "('pie.json',)"]), ("config", "copy/own.yaml")
])  # fmt: skip
def test_what_an_evaluation_is_made_from(project, monkeypatch, forget_datasets, key, value):
    """Its config and its weights, by their content."""
    calls = []

    def write(command, **_):
        calls.append(command)
        (project / EVALUATION).parent.mkdir(parents=True, exist_ok=True)
        (project / EVALUATION).write_text("{}")
        return Done

    monkeypatch.setattr(checkpoints.subprocess, "run", write)
    (project / "copy").mkdir()
    text = (project / "own.yaml").read_text().replace("data.yaml", "../data.yaml")
    (project / "copy" / "own.yaml").write_text(f"{text}\nSEED: 3")
    torch.save({}, "other.pth")
    entry = {"config": "own.yaml", "base": QUICKSTART, "weights": "weights.pth", "opts": SIZES}
    for _ in range(2):
        evaluate_checkpoints(project / "list.yaml", project / "output")
    assert len(calls) == 1
    assert calls[0][1:8] == ["-m", "mm_ovseg", "eval", "--config-file", "own.yaml", "--base", QUICKSTART]
    assert calls[0][-4:] == [
        "MODEL.WEIGHTS",
        "weights.pth",
        "OUTPUT_DIR",
        str(project / "output/evaluated/mm_ovseg-own"),
    ]
    write_list(entry | {key: value})
    for _ in range(2):
        evaluate_checkpoints(project / "list.yaml", project / "output")
    assert len(calls) == 2
    torch.save({"a": torch.zeros(1)}, entry["weights"] if key != "weights" else value)  # the same name
    evaluate_checkpoints(project / "list.yaml", project / "output")
    (project / EVALUATION).unlink()
    evaluate_checkpoints(project / "list.yaml", project / "output")
    assert len(calls) == 4


def test_an_evaluation_without_weights_of_the_model_is_made_from_those_of_its_parts(project, monkeypatch):
    calls = []
    monkeypatch.setattr(checkpoints.subprocess, "run", lambda command, **_: calls.append(command) or Done)
    write_list({"config": "own.yaml", "base": QUICKSTART, "opts": [*SIZES, "MODEL.CLIP.PRETRAINED", "clip.pth"]})
    for content, expected in ((1.0, 1), (1.0, 1), (2.0, 2)):
        torch.save({"a": torch.tensor(content)}, "clip.pth")
        evaluate_checkpoints(project / "list.yaml", project / "output")
        (project / EVALUATION).parent.mkdir(parents=True, exist_ok=True)
        (project / EVALUATION).write_text("{}")
        assert len(calls) == expected


@pytest.mark.parametrize("entries,message", [
    ([], "it is not a list of checkpoints"),
    (["a.pth"], "'a.pth' has no config"),
    ([{"weights": "a.pth"}], "has no config"),
    ([{"config": SETTING, "weight": "a.pth"}], "has the key 'weight'"),
    ([{"config": SETTING, "weights": 3}], "has values of a wrong type"),
    ([{"config": SETTING, "opts": "SEED 1"}], "has values of a wrong type"),
    ([{"config": "none.yaml"}], "The config file 'none.yaml' does not exist"),
    ([{"config": SETTING, "base": "none.yaml"}], "--base none.yaml does not exist"),
    ([{"config": SETTING, "opts": ["SEED"]}], "are not pairs of KEY VALUE"),
    ([{"config": SETTING, "base": GSNET}] * 2, "two entries into output/evaluated/gsnet_vitb16_384-ddhr_sk; give"),
])  # fmt: skip
def test_wrong_lists_are_one_sentence_before_anything_is_evaluated(tmp_path, monkeypatch, entries, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(checkpoints.subprocess, "run")
    write_list(*entries)
    with pytest.raises(ConfigError, match=message):
        evaluate_checkpoints(tmp_path / "list.yaml", checkpoints.Path("output"))
    assert [path.name for path in tmp_path.iterdir()] == ["list.yaml"]


def test_a_folder_of_someone_elses_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output" / "evaluated" / "ddhr_sk").mkdir(parents=True)
    (tmp_path / "output" / "evaluated" / "ddhr_sk" / "model_final.pth").touch()
    write_list({"config": SETTING})
    with pytest.raises(DataError, match="output/evaluated/ddhr_sk was not made from a list of checkpoints; move it"):
        evaluate_checkpoints(tmp_path / "list.yaml", checkpoints.Path("output"))
