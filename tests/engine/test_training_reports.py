"""What a training run shows while it goes on: TensorBoard's event files, and Weights & Biases (a stand-in of it)."""

import sys
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.engine.hooks import EvalHook
from detectron2.utils.events import EventStorage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from laptop.drawn_world import write_synthetic_dataset
from mm_ovseg.data.palette import default_colors
from mm_ovseg.engine import Trainer, load_config
from mm_ovseg.engine.prediction_images import PredictionImages
from mm_ovseg.engine.weights_and_biases import RUN_ID_FILE
from mm_ovseg.errors import ConfigError, DataError
from tests.conftest import ROOT


@pytest.fixture
def make_config(tmp_path, monkeypatch):
    """A function ``(*overrides) -> cfg`` of a short training on a synthetic dataset."""
    write_synthetic_dataset(tmp_path / "datasets" / "synthetic", num_train=2, num_val=4, size=64)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    (tmp_path / "run").mkdir()

    def make(*overrides):
        words = ["MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", 1, "SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 1]
        words += ["SOLVER.CHECKPOINT_PERIOD", 1, "DATALOADER.NUM_WORKERS", 0, "VISUALIZATION.PAIRS", 1]
        words += ["OUTPUT_DIR", tmp_path / "run", *overrides]
        return load_config(ROOT / "projects/laptop/configs/quickstart_mm_ovseg.yaml", [str(word) for word in words])

    return make


class FakeWandb:
    """Keeps what it is told."""

    class errors:
        class Error(Exception):
            pass

    def __init__(self):
        self.calls = []
        self.logged = defaultdict(dict)
        self.failure = None

    def init(self, **arguments):
        if self.failure:
            raise self.errors.Error(self.failure)
        self.calls.append(arguments)
        return SimpleNamespace(
            id=arguments["id"] or "abc123",
            define_metric=lambda name, step_metric: None,
            log=lambda values: self.logged[values["iteration"]].update(values),
            finish=lambda exit_code: self.calls.append(exit_code),
        )

    def Image(self, pixels):
        return pixels


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def train(cfg, resume=False):
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()


def test_scores_and_predictions_over_time(make_config, wandb, tmp_path):
    train(make_config("WANDB.ENABLED", True, "WANDB.NAME", "short"))
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    images = events.Images("synthetic_val/predictions")
    assert [image.step for image in images] == [0, 2]
    assert images[0].encoded_image_string != images[1].encoded_image_string
    for name in ("sem_seg/mIoU", "sem_seg/mIoU-seen", "sem_seg/mIoU-unseen"):
        assert [event.step for event in events.Scalars(name)] == [0, 2]
    assert (tmp_path / "run/inference/synthetic_val/predictions.png").is_file()

    # Weights & Biases got the same, though TensorBoard's writer clears the images that it has written.
    assert wandb.logged[0]["synthetic_val/predictions"].shape[2] == 3
    for event in events.Scalars("sem_seg/mIoU-unseen"):
        assert wandb.logged[event.step]["sem_seg/mIoU-unseen"] == pytest.approx(event.value)
    assert "total_loss" in {name for values in wandb.logged.values() for name in values}
    first, status = wandb.calls
    assert (first["project"], first["entity"], first["name"], first["id"]) == ("mm_ovseg", None, "short", None)
    assert first["config"]["SOLVER"]["MAX_ITER"] == 2 and status == 0

    # A resumed training goes on in its run; one that begins again in the same folder gets its own.
    train(make_config("WANDB.ENABLED", True, "SOLVER.MAX_ITER", 3, "DATASETS.TEST", "()"), resume=True)
    assert (wandb.calls[2]["id"], wandb.calls[2]["resume"], wandb.calls[2]["name"]) == ("abc123", "allow", "run")
    assert "total_loss" in wandb.logged[2]


def test_a_new_training_in_an_old_folder_is_a_new_run(make_config, wandb, tmp_path):
    (tmp_path / "run" / RUN_ID_FILE).write_text("of-before")
    train(make_config("WANDB.ENABLED", True, "SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()"))
    assert wandb.calls[0]["id"] is None
    assert (tmp_path / "run" / RUN_ID_FILE).read_text() == "abc123"


def test_a_training_that_fails_is_reported_as_failed(make_config, wandb, monkeypatch):
    trainer = Trainer(make_config("WANDB.ENABLED", True, "DATASETS.TEST", "()", "SOLVER.MAX_ITER", 9))
    trainer.resume_or_load(resume=False)

    def fail():
        raise DataError("a file is gone")

    monkeypatch.setattr(trainer, "run_step", fail)
    with pytest.raises(DataError):
        trainer.train()
    assert wandb.calls[-1] == 1


def test_weights_and_biases_that_cannot_start(make_config, wandb, monkeypatch):
    wandb.failure = "No API key configured."
    with pytest.raises(ConfigError, match="No API key configured.*wandb login.*WANDB_MODE=offline"):
        train(make_config("WANDB.ENABLED", True, "DATASETS.TEST", "()"))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install 'mm_ovseg\[wandb\]'"):
        Trainer(make_config("WANDB.ENABLED", True))


class Answers(torch.nn.Module):
    """Answers with a class that it is told, and keeps what it was asked."""

    answer = 0

    def __init__(self):
        super().__init__()
        self.asked = []

    def set_vocabulary(self, names):
        self.names = names

    def forward(self, items):
        (item,) = items
        self.asked.append((item["file_name"], self.training))
        scores = torch.zeros(len(self.names), item["height"], item["width"])
        scores[self.answer] = 1
        return [{"sem_seg": scores}]


def draw(cfg, model):
    """Returns the pictures of two calls."""
    images = PredictionImages(cfg, model)
    with EventStorage() as storage:
        for _ in range(2):
            images()
            model.answer += 1
    return [image.numpy() for _, image, _ in storage._vis_data]


def test_the_pairs_are_fixed_and_the_model_goes_on_training(make_config):
    model = Answers()
    first, second = draw(make_config("VISUALIZATION.PAIRS", 2), model)
    assert [name[-9:] for name, _ in model.asked] == ["00000.png", "00003.png"] * 2
    assert not any(training for _, training in model.asked) and model.training
    assert model.names == ("city", "road", "forest", "water", "farmland")
    assert first.shape == second.shape and first.shape[0] == 3 and first.dtype == np.uint8
    changed = (first != second).any(axis=0)  # the last column, of predictions
    width = first.shape[2]
    assert changed[:, int(0.8 * width) : int(0.95 * width)].mean() > 0.8 and not changed[:, : int(0.75 * width)].any()
    assert tuple(first[:, 100, int(0.9 * width)]) == default_colors(["city"])[0]  # the model's answer


def test_pairs_that_cannot_be_read_are_left_out_if_the_config_says_so(make_config, tmp_path):
    (tmp_path / "datasets/synthetic/val/sar/00000.png").write_bytes(b"nothing")
    model = Answers()
    with pytest.raises(DataError, match=r"sar/00000\.png"):
        draw(make_config(), model)
    assert draw(make_config("INPUT.SKIP_CORRUPT", True), model) == []
    assert len(draw(make_config("INPUT.SKIP_CORRUPT", True, "VISUALIZATION.PAIRS", 2), model)) == 2
    assert {name[-9:] for name, _ in model.asked} == {"00003.png"}
    (tmp_path / "datasets/synthetic/val/labels/00003.png").write_bytes(b"nothing")
    assert draw(make_config("INPUT.SKIP_CORRUPT", True, "VISUALIZATION.PAIRS", 2), model) == []


def test_no_pictures_if_none_are_wanted_or_the_model_segments_nothing(make_config):
    stage_1 = ["MODEL.META_ARCHITECTURE", "CrossModalUnification"]
    for words, evaluations in (([], 2), (["VISUALIZATION.PAIRS", 0], 1), (["DATASETS.TEST", "()"], 1), (stage_1, 1)):
        trainer = Trainer(make_config(*words))
        assert sum(isinstance(hook, EvalHook) for hook in trainer._hooks) == evaluations
