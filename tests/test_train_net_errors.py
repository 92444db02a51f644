"""What train_net.py says of bad input: one sentence, before any work."""

import re

import open_clip
import pytest
import torch

import train_net
from laptop.drawn_world import write_synthetic_dataset
from tests.conftest import ROOT

STAGE_2 = "projects/laptop/configs/quickstart_mm_ovseg.yaml"


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """A folder for DETECTRON2_DATASETS."""
    root = tmp_path_factory.mktemp("datasets")
    write_synthetic_dataset(root / "synthetic", num_train=3, num_val=2, size=64)
    return root


@pytest.fixture
def command(datasets, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    settings = ["MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 2]
    return ["--config-file", ROOT / STAGE_2, *settings, "OUTPUT_DIR", tmp_path]


def fails(capsys, *words):
    """Run train_net.py in this process; returns the one line of its error."""
    with pytest.raises(SystemExit) as stop:
        train_net.main([str(word) for word in words])
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("words,message", [
    (["DATASETS.TRAIN", "('atlantis_train',)"], "'atlantis_train', which is not registered"),
    (["DATASETS.TEST", "('atlantis_val',)"], "'atlantis_val', which is not registered"),
    (["DATASETS.TRAIN", "()"], "DATASETS.TRAIN is empty"),
    (["MODEL.DENSE_ENCODER.FIT_DATASET", "atlantis"], "MODEL.DENSE_ENCODER.FIT_DATASET names 'atlantis', which is not"),
    (["MODEL.DENSE_ENCODER.FIT_DATASET", "cmu_pairs_train", "MODEL.DENSE_ENCODER.FIT_IMAGES", "0"], "IMAGES is 0"),
    (["DATASETS.TEST", "('cmu_pairs_val',)"], "'cmu_pairs_val', which has no labels to evaluate on"),
    (["SOLVER.IMS_PER_BATCH", "0"], "IMS_PER_BATCH is 0"),
    (["MODEL.WEIGHTS", "nowhere.pth"], r"nowhere\.pth does not exist"),
    (["MODEL.DENSE_ENCODER_SAR.WEIGHTS", "nowhere.pth"], r"nowhere\.pth does not exist"),
    (["MODEL.CLIP.PRETRAINED", "nowhere"], "'nowhere', which is neither a file nor"),
    (["LOSS.NAME", "hinge"], "LOSS.NAME is 'hinge'"),
    (["SOLVER.OPTIMIZER", "LION"], "SOLVER.OPTIMIZER is 'LION'"),
    (["MODEL.AGGREGATOR.WINDOW_SIZE", "5"], "must divide"),
    (["INPUT.DATASET_MAPPER_NAME", "nothing"], "nothing"),
    (["SOLVER.LR_SCHEDULER_NAME", "Cosine"], "SOLVER.LR_SCHEDULER_NAME Cosine cannot be built .*WarmupCosineLR"),
    (["SOLVER.WARMUP_METHOD", "slow"], "cannot be built .*WARMUP_METHOD linear"),
    (["SOLVER.MAX_ITER", "0"], "SOLVER.MAX_ITER is 0; it must be at least 1"),
    (["SOLVER.CHECKPOINT_PERIOD", "0"], "CHECKPOINT_PERIOD is 0"),
    (["SOLVER.MAX_CHECKPOINTS", "-1"], "MAX_CHECKPOINTS is -1"),
    (["SOLVER.BASE_LR", "nan"], "SOLVER.BASE_LR"),
    (["SOLVER.REFERENCE_WORLD_SIZE", "3"], "REFERENCE_WORLD_SIZE 3"),
    (["SOLVER.NESTEROV", "True"], "NESTEROV needs SOLVER.OPTIMIZER SGD"),
    (["SOLVER.OPTIMIZER", "SGD", "SOLVER.MOMENTUM", "1.0"], "MOMENTUM is 1.0"),
    (["SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "model"], "CLIP_TYPE is 'model'"),
    (["SOLVER.CLIP_GRADIENTS.NORM_TYPE", "0.0"], "NORM_TYPE is 0.0"),
    (["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "float8"], "SOLVER.AMP.DTYPE is 'float8'"),
    (["INPUT.RELEASED_GEOMETRY", "True"], "INPUT.RELEASED_GEOMETRY is on, which is for evaluation only"),
    (["MODEL.DEVICE", "warp"], "warp"),
    (["SOLVER.BASE_RL", "1"], "The config key SOLVER.BASE_RL"),
])  # fmt: skip
def test_bad_settings_end_in_one_sentence(command, capsys, words, message):
    assert re.search(message, fails(capsys, *command, *words))


def test_eval_only_needs_weights(command, capsys):
    assert "--eval-only needs weights" in fails(capsys, "--eval-only", *command)
    assert "--eval-only needs weights" in fails(capsys, "--eval-only", "--resume", *command)


def test_a_model_that_needs_no_training(datasets, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    weights = tmp_path / "clip.pth"
    torch.save(open_clip.create_model("ViT-laptop-4").state_dict(), weights)
    words = ["--config-file", ROOT / "configs/siblings/segearth_ov_vitb16.yaml", "OUTPUT_DIR", tmp_path]
    words += ["DATASETS.FILES", [str(ROOT / "projects/laptop/datasets.yaml")], "DATASETS.TEST", "('synthetic_val',)"]
    words += ["MODEL.DEVICE", "cpu", "MODEL.CLIP.NAME", "ViT-laptop-4", "MODEL.TEXT.TEMPLATES", "['{}']"]
    words += ["MODEL.CLIP.IMAGE_SIZE", 64, "INPUT.MIN_SIZE_TEST", 48]
    words += ["MODEL.SEGEARTH.STRIDE", 64, "DATALOADER.NUM_WORKERS", 0]
    assert "SegEarthOV needs no training; evaluate it with --eval-only" in fails(capsys, *words)
    assert "--eval-only needs weights: add MODEL.CLIP.PRETRAINED openai" in fails(capsys, "--eval-only", *words)
    train_net.main([str(word) for word in ("--eval-only", *words, "MODEL.CLIP.PRETRAINED", weights)])
    assert "mIoU-unseen" in (tmp_path / "log.txt").read_text()


def test_an_output_folder_that_is_a_file(command, capsys, tmp_path):
    (tmp_path / "taken").write_text("a file")
    assert "taken is a file" in fails(capsys, *command, "OUTPUT_DIR", tmp_path / "taken")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has GPUs")
def test_gpus_are_not_replaced_by_processes_on_the_cpu_unasked(datasets, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    words = ["--num-gpus", 4, "--config-file", ROOT / STAGE_2, "OUTPUT_DIR", tmp_path]
    assert "--num-gpus is 4, but this machine has no GPU" in fails(capsys, *words)
