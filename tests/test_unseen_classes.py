"""DATASETS.UNSEEN and --unseen: which classes training does not see is chosen by the experiment, not by the files."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog

import train_net
from laptop.drawn_world import SYNTHETIC_CLASSES, write_synthetic_dataset
from mm_ovseg.data import build_dataset_mapper
from mm_ovseg.engine import Trainer, load_config
from mm_ovseg.errors import VocabularyError

CONFIG = "projects/laptop/configs/quickstart_mm_ovseg.yaml"
SHORT = ["MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2", "DATALOADER.NUM_WORKERS", "0"]


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """A small synthetic dataset, whose own unseen classes are road and water."""
    write_synthetic_dataset(tmp_path / "synthetic", num_train=2, num_val=1, size=64)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path


def labels_of_training(cfg):
    mapper = build_dataset_mapper(cfg, True)
    pairs = DatasetCatalog.get(cfg.DATASETS.TRAIN[0])
    return {int(value) for pair in pairs for value in np.unique(mapper(pair)["sem_seg"])}


@pytest.mark.parametrize("chosen,seen", [
    (None, ("city", "forest", "farmland")),
    ("Forest , farmland", ("city", "road", "water")),
    (["city"], ("road", "forest", "water", "farmland")),
    ("", SYNTHETIC_CLASSES),
])  # fmt: skip
def test_model_and_labels_know_the_seen_classes_only(datasets, chosen, seen):
    overrides = [*SHORT, *([] if chosen is None else ["DATASETS.UNSEEN", chosen])]
    cfg = load_config(CONFIG, overrides)
    assert Trainer.build_model(cfg).train_vocabulary == seen
    assert labels_of_training(cfg) <= {*range(len(seen)), 255}
    assert max(labels_of_training(cfg) - {255}) == len(seen) - 1


def test_the_command_line_trains_and_scores_with_the_split_it_names(datasets, tmp_path, monkeypatch):
    output = tmp_path / "run"
    train_net.main(["--config-file", CONFIG, "--unseen", "water,city", *SHORT, "OUTPUT_DIR", str(output)])
    scores = json.loads((output / "inference" / "synthetic_val" / "sem_seg_evaluation.json").read_text())
    assert scores["unseen_classes"] == ["city", "water"]
    results = scores["results"]
    assert results["mIoU-unseen"] == pytest.approx(np.nanmean([results["IoU-city"], results["IoU-water"]]))
    assert load_config(output / "config.yaml").DATASETS.UNSEEN == ["water", "city"]


@pytest.mark.parametrize("chosen,message", [
    ("water,lava", "The unseen names lava are not among the classes (city, road"),
    ("water,,road", "is empty"),
    ((1, 2), "is not a string"),
])  # fmt: skip
def test_names_that_are_no_classes(datasets, chosen, message):
    with pytest.raises(VocabularyError) as error:
        load_config(CONFIG, ["DATASETS.UNSEEN", chosen])
    assert message in str(error.value)


def test_nothing_is_left_to_see(datasets, capsys, tmp_path):
    words = ["--unseen", ",".join(SYNTHETIC_CLASSES), *SHORT, "OUTPUT_DIR", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stopped:
        train_net.main(["--config-file", CONFIG, *words])
    assert stopped.value.code not in (0, None)
    assert "has unseen classes only" in capsys.readouterr().err


def test_the_declared_split_is_left_as_it_is(datasets):
    """An override of one run must not reach the next one in the same process."""
    load_config(CONFIG, ["DATASETS.UNSEEN", "city"])
    cfg = load_config(CONFIG, SHORT)
    assert Trainer.build_model(cfg).train_vocabulary == ("city", "forest", "farmland")
    assert labels_of_training(cfg) == {0, 1, 2, 255}
