"""From labelled pairs to probabilities: fitted, found beside the weights, used, and refused where they are stale."""

import json
import shutil

import numpy as np
import pytest

from laptop.drawn_world import write_synthetic_dataset
from mm_ovseg.checkpoint.weights_file import SHIPPED_WEIGHTS
from mm_ovseg.engine import load_config
from mm_ovseg.errors import CheckpointError
from mm_ovseg.inference import Predictor, ScenePredictor
from mm_ovseg.raster import read_label
from tests.conftest import ROOT, run_cli

CONFIG = ROOT / "configs/quickstart/demo.yaml"
DATASETS = ROOT / "projects/laptop/datasets.yaml"


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """The folder of datasets."""
    folder = tmp_path_factory.mktemp("datasets")
    write_synthetic_dataset(folder / "synthetic", num_train=0, num_val=3, size=64)
    return folder


@pytest.fixture
def weights(datasets, tmp_path, monkeypatch, forget_datasets):
    """A trained model in a folder of its own."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    monkeypatch.chdir(tmp_path)
    return shutil.copy(SHIPPED_WEIGHTS["quickstart://"], tmp_path / "model.safetensors")


def calibrate(weights, *arguments, dataset=("synthetic_val",), options=()):
    overrides = ("MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "MODEL.WEIGHTS", weights, *options)
    files = ("--config-file", CONFIG, "--dataset-file", DATASETS)
    run_cli("calibrate", *files, "--dataset", *dataset, *arguments, "--opts", *overrides)


def evaluate(weights, output, *options):
    overrides = ("MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "MODEL.WEIGHTS", weights, "OUTPUT_DIR", output)
    overrides += ("DATASETS.FILES", f"('{DATASETS}',)", "DATASETS.TEST", "('synthetic_val',)", *options)
    run_cli("eval", "--config-file", CONFIG, *overrides)
    return json.loads((output / "inference/synthetic_val/sem_seg_evaluation.json").read_text())


def test_scores_become_probabilities(weights, datasets, tmp_path, capsys):
    raw = evaluate(weights, tmp_path / "raw")
    calibrate(weights)
    printed = capsys.readouterr().out
    path = tmp_path / "model.calibration.json"
    assert "3 pairs of synthetic_val" in printed and "Of 20 names never seen, one must exceed" in printed
    assert printed.endswith(f"{path}\n")
    content = json.loads(path.read_text())
    labels = [
        read_label(file, num_classes=5, ignore_label=255) for file in (datasets / "synthetic/val/labels").iterdir()
    ]
    seen = sum(np.isin(label, (0, 2, 4)).sum() for label in labels)
    assert content["fitted_on"]["pixels"] == seen  # road and water are unseen: their labels are not used
    assert list(content["min_scores"]) == content["fitted_on"]["seen_classes"] == ["city", "forest", "farmland"]
    assert content["ece"]["after"] < content["ece"]["before"]

    # Found by itself: the map stays, its confidence is what was fitted.
    options = ("TEST.ABSENT_NAMES", "3", "TEST.SINGLE_NAMES", "True")
    calibrated = evaluate(weights, tmp_path / "calibrated", *options)
    assert calibrated["confusion_matrix"] == raw["confusion_matrix"]
    for group in ("", "-seen", "-unseen"):
        assert calibrated["confidence"][f"ECE-raw{group}"] == raw["confidence"][f"ECE{group}"]
    assert calibrated["confidence"]["ECE-seen"] != raw["confidence"]["ECE-seen"]
    assert "ECE-raw" not in raw["confidence"] and "single_names" not in raw
    assert calibrated["absent_names"]["argmax-none"] == 0 < calibrated["absent_names"]["decision-none"]
    assert calibrated["single_names"]["IoU-forest"] > 0
    cfg = load_config(CONFIG, ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", str(weights)])
    assert Predictor(cfg, ["water"]).calibration.scale == content["scale"]
    pair = [datasets / f"synthetic/val/{kind}/00000.png" for kind in ("rgb", "sar")]
    report = ScenePredictor(cfg, ["water"]).segment(*pair, tmp_path / "map.tif")
    assert report["calibration"]["path"] == str(path) and len(report["calibration"]["sha256"]) == 64
    assert report["settings"]["calibration"]["scale"] == content["scale"]
    none = load_config(CONFIG, ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", str(weights), "MODEL.CALIBRATION", "none"])
    assert Predictor(none, ["water"]).calibration is None

    # An existing one stays, unless asked; of other weights it is never used.
    with pytest.raises(SystemExit):
        calibrate(weights)
    assert "model.calibration.json exists; give --overwrite" in capsys.readouterr().err
    assert json.loads(path.read_text()) == content
    calibrate(weights, "--overwrite", "--max-pairs", 1)
    assert json.loads(path.read_text())["fitted_on"]["pairs"] == 1
    (tmp_path / "other.json").write_text(path.read_text().replace('"sha256": "', '"sha256": "0'))
    for command in (evaluate, lambda *arguments: Predictor(cfg_with(arguments[0], "other.json"), ["water"])):
        with pytest.raises((SystemExit, CheckpointError)) as error:
            command(weights, tmp_path / "stale", "MODEL.CALIBRATION", "other.json")
        assert "other.json was fitted with other weights" in f"{error.value}{capsys.readouterr().err}"


def cfg_with(weights, calibration):
    return load_config(CONFIG, ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", str(weights), "MODEL.CALIBRATION", calibration])


@pytest.mark.parametrize(("arguments", "words"), [
    ({"dataset": ["nowhere"]}, ["--dataset", "nowhere", "not registered"]),
    ({"dataset": ["synthetic_val"], "options": ("DATASETS.TRAIN", "('synthetic_val',)")}, ["in DATASETS.TRAIN"]),
    ({"options": ("MODEL.WEIGHTS", "")}, ["belongs to trained weights"]),
    ({"options": ("MODEL.WEIGHTS", "quickstart://")}, ["--output"]),
    ({"options": ("DATASETS.UNSEEN", "city,road,forest,water,farmland")}, ["unseen classes only"]),
    ({"max": 0}, ["--max-pairs is 0"]),
])  # fmt: skip
def test_what_does_not_fit_is_one_sentence(weights, capsys, arguments, words):
    words_of_max = ("--max-pairs", arguments.pop("max")) if "max" in arguments else ()
    with pytest.raises(SystemExit) as error:
        calibrate(weights, *words_of_max, **arguments)
    message = capsys.readouterr().err
    assert error.value.code == 2 and message.startswith("error: ") and message.count("\n") == 1
    assert all(word in message for word in words), message


def test_the_weights_and_the_config_are_not_overwritten(weights, capsys):
    for output in (weights, DATASETS):
        with pytest.raises(SystemExit):
            calibrate(weights, "--output", output, "--overwrite")
        assert "choose another --output" in capsys.readouterr().err
