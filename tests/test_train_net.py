"""train_net.py as a user runs it: both stages, resume, evaluation, torchrun, and what happens to bad input."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.engine import DefaultTrainer, TrainerBase
from detectron2.modeling import build_model
from PIL import Image
from safetensors.torch import save_file

import train_net
from laptop.drawn_world import SYNTHETIC_CLASSES, write_synthetic_dataset
from mm_ovseg.engine import load_config
from mm_ovseg.engine.training_step import AccumulatingTrainer
from mm_ovseg.evaluation import count_pixels
from tests import training_process
from tests.conftest import ROOT
from tests.patience import PATIENCE
from tests.test_train_net_errors import fails

STAGE_1 = "projects/laptop/configs/quickstart_cmu.yaml"
STAGE_2 = "projects/laptop/configs/quickstart_mm_ovseg.yaml"
SHORT = ["MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 2]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """A folder for DETECTRON2_DATASETS with a small synthetic dataset in it."""
    root = tmp_path_factory.mktemp("datasets")
    write_synthetic_dataset(root / "synthetic", num_train=3, num_val=2, size=64)
    return root


def run(datasets, config, output, *words, status=0):
    """Run train_net.py in a process of its own; returns its output."""
    words = ["--config-file", ROOT / config, *words, "OUTPUT_DIR", output]
    log = output.with_name(f"{output.name}.log")
    ended, printed = training_process.run(words, log, DETECTRON2_DATASETS=str(datasets))
    assert ended == status, printed
    return printed


def run_command(datasets, config, output, *words, launcher=(sys.executable,), **variables):
    """Run a command line, with environment variables."""
    command = [*launcher, "train_net.py", "--config-file", config, *words, "OUTPUT_DIR", output]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets), "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(
        [str(word) for word in command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def stage_1(datasets, tmp_path_factory):
    output = tmp_path_factory.mktemp("stage_1")
    run_command(datasets, STAGE_1, output, *SHORT)
    return output


@pytest.fixture(scope="module")
def stage_2(datasets, stage_1, tmp_path_factory):
    output = tmp_path_factory.mktemp("stage_2")
    words = ["MODEL.DENSE_ENCODER_SAR.WEIGHTS", stage_1 / "model_final.pth", "SOLVER.CHECKPOINT_PERIOD", 2]
    run(datasets, STAGE_2, output, *SHORT, *words)
    return output


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def evaluation_of(output):
    return json.loads((output / "inference" / "synthetic_val" / "sem_seg_evaluation.json").read_text())


def test_stage_1_changes_the_student_only(stage_1):
    model = load(stage_1 / "model_final.pth")["model"]
    names = [name.removeprefix("teacher.") for name in model if name.startswith("teacher.")]
    assert names and len(model) == 2 * len(names)
    assert any(not torch.equal(model[f"teacher.{name}"], model[f"student.{name}"]) for name in names)


def test_stage_2_starts_from_the_student_of_stage_1(stage_1, stage_2):
    student, model = load(stage_1 / "model_final.pth")["model"], load(stage_2 / "model_final.pth")["model"]
    prefix = "dino_sar.encoder."
    names = [name.removeprefix(prefix) for name in model if name.startswith(prefix)]
    assert names and all(torch.equal(model[prefix + name], student[f"student.{name}"]) for name in names)


def test_training_leaves_scores_pictures_curves_and_the_best_checkpoint(stage_2):
    evaluation = evaluation_of(stage_2)
    assert evaluation["classes"] == list(SYNTHETIC_CLASSES)
    assert evaluation["results"]["num_images"] == 2
    assert 0 <= evaluation["results"]["mIoU-seen"] <= 100
    assert (stage_2 / "inference" / "synthetic_val" / "confusion_matrix.png").stat().st_size > 1000
    assert (stage_2 / "model_best.pth").is_file() and (stage_2 / "config.yaml").is_file()
    assert list(stage_2.glob("events.out.tfevents*"))
    assert "sem_seg/mIoU-unseen" in json.loads((stage_2 / "metrics.json").read_text().splitlines()[-1])


def test_eval_only_gives_the_scores_that_training_gave(datasets, stage_2, tmp_path):
    words = ["--eval-only", *SHORT, "MODEL.WEIGHTS", stage_2 / "model_final.pth"]
    printed = run(datasets, STAGE_2, tmp_path, *words)
    assert "mIoU-unseen" in printed
    assert evaluation_of(tmp_path) == evaluation_of(stage_2)


def test_eval_only_takes_safetensors_of_the_hub_and_asks_for_the_names_of_a_prompt_file(datasets, stage_2, tmp_path):
    repository = tmp_path / "hub" / "models--agency--maps"
    snapshot = repository / "snapshots" / ("0" * 40)
    for folder in (snapshot, repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    save_file(load(stage_2 / "model_final.pth")["model"], snapshot / "model.safetensors")
    names = ["town", "street", "wood", "river, lake", "field"]
    (tmp_path / "prompts.json").write_text(json.dumps({"classes": names}))

    words = ["--eval-only", *SHORT, "MODEL.WEIGHTS", "hf://agency/maps/model.safetensors"]
    words += ["TEST.PROMPT_FILES", (str(tmp_path / "prompts.json"),)]
    run_command(datasets, STAGE_2, tmp_path, *words, HF_HUB_CACHE=str(tmp_path / "hub"), HF_HUB_OFFLINE="1")
    evaluation = evaluation_of(tmp_path)
    assert evaluation["classes"] == list(SYNTHETIC_CLASSES)
    assert evaluation["confusion_matrix"] != evaluation_of(stage_2)["confusion_matrix"]


def test_resume_goes_on_where_training_stopped(datasets, stage_2):
    before = load(stage_2 / "model_final.pth")
    assert before["iteration"] == 1
    printed = run(datasets, STAGE_2, stage_2, "--resume", *SHORT[:-1], 4)
    assert re.search(r"Starting training from iteration 2\b", printed)
    after = load(stage_2 / "model_final.pth")
    assert after["iteration"] == 3
    assert after["trainer"]["_trainer"]["optimizer"]["state"][0]["step"] == 4  # the optimiser's state came along


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)


def test_two_processes_of_torchrun_train_and_score_as_one(datasets, tmp_path):
    words = [*SHORT, "SOLVER.AMP.ENABLED", True, "SOLVER.ACCUMULATION_STEPS", 2]
    run_command(datasets, STAGE_2, tmp_path / "two", *words, launcher=TORCHRUN)
    assert load(tmp_path / "two" / "model_final.pth")["iteration"] == 1
    run(datasets, STAGE_2, tmp_path / "one", "--eval-only", *SHORT, "MODEL.WEIGHTS", tmp_path / "two/model_final.pth")
    assert evaluation_of(tmp_path / "two") == evaluation_of(tmp_path / "one")


@pytest.fixture
def command(datasets, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    return ["--config-file", ROOT / STAGE_2, *SHORT, "OUTPUT_DIR", tmp_path]


def test_the_released_evaluation_leaves_sar_where_it_was(command, stage_2, datasets, tmp_path):
    words = ["--eval-only", *command, "MODEL.WEIGHTS", stage_2 / "model_final.pth", "INPUT.RELEASED_GEOMETRY", True]
    train_net.main([str(word) for word in words])

    cfg = load_config(ROOT / STAGE_2, ["MODEL.DEVICE", "cpu"])
    model = build_model(cfg).eval()
    model.load_state_dict(load(stage_2 / "model_final.pth")["model"])
    model.set_vocabulary(SYNTHETIC_CLASSES)
    expected = 0
    for sample in DatasetCatalog.get("synthetic_val"):
        rgb, sar, label = (Image.open(sample[key]) for key in ("file_name", "sar_file_name", "sem_seg_file_name"))
        padded = np.full((384, 384), 128)
        padded[:64, :64] = sar
        item = {"image": np.array(rgb.resize((384, 384), Image.BILINEAR)).transpose(2, 0, 1), "sar_image": [padded] * 3}
        item = {key: torch.from_numpy(np.array(image)).float() for key, image in item.items()}
        (output,) = model([{**item, "height": 64, "width": 64}])
        expected += count_pixels(np.array(label), output["sem_seg"].argmax(dim=0).numpy(), len(SYNTHETIC_CLASSES), 255)
    assert evaluation_of(tmp_path)["confusion_matrix"] == expected.tolist()
    assert evaluation_of(stage_2)["confusion_matrix"] != expected.tolist()


@pytest.fixture
def trainer_of_main(monkeypatch):
    """DefaultTrainer as on Detectron2's main branch, which saves and loads the optimiser itself."""

    def load_state_dict(self, state_dict):
        TrainerBase.load_state_dict(self, state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    def state_dict(self):
        return {**TrainerBase.state_dict(self), "_trainer": self._trainer.state_dict()}

    monkeypatch.setattr(DefaultTrainer, "load_state_dict", load_state_dict)
    monkeypatch.setattr(DefaultTrainer, "state_dict", state_dict)


def test_a_resumed_run_does_not_overwrite_a_better_checkpoint(command, trainer_of_main, tmp_path, capsys):
    words = [*command, "TEST.EVAL_PERIOD", 1, "SOLVER.CHECKPOINT_PERIOD", 1, "VISUALIZATION.PAIRS", 0]
    train_net.main([str(word) for word in words])
    score_file = tmp_path / "model_best.json"
    score = json.loads(score_file.read_text())
    assert score["metric"] == "sem_seg/mIoU-seen" and score["classes"] == list(SYNTHETIC_CLASSES)
    assert score["dataset"] == "synthetic_val" and score["unseen_classes"] and 0 <= score["value"] <= 100
    score_file.write_text(json.dumps({**score, "value": 99.0}))
    best = (tmp_path / "model_best.pth").read_bytes()
    train_net.main([str(word) for word in ("--resume", *words, "SOLVER.MAX_ITER", 4)])
    assert (tmp_path / "model_best.pth").read_bytes() == best
    with pytest.raises(SystemExit):  # everything learns at the base rate, so there are fewer groups
        train_net.main(
            [str(word) for word in ("--resume", *words, "SOLVER.MAX_ITER", 6, "SOLVER.CLIP_MULTIPLIER", 1.0)]
        )
    assert "cannot be resumed with this config" in capsys.readouterr().err
    # With other classes, scores cannot be compared; and a run that is over is not resumed in silence.
    printed = fails(capsys, "--resume", *words, "SOLVER.MAX_ITER", 3)
    assert "is of iteration 4, beyond SOLVER.MAX_ITER 3" in printed
    assert (tmp_path / "model_best.pth").read_bytes() == best
    train_net.main([str(word) for word in ("--resume", *words, "SOLVER.MAX_ITER", 5, "DATASETS.UNSEEN", "road")])
    assert "was chosen by another unseen classes" in capsys.readouterr().out
    assert json.loads(score_file.read_text())["unseen_classes"] == ["road"]
    assert (tmp_path / "model_best.pth").read_bytes() != best
    # The three latest are kept, also of what the first runs left.
    assert [path.name for path in sorted(tmp_path.glob("model_0*.pth"))] == [f"model_000000{n}.pth" for n in (2, 3, 4)]
    for number in (0, 1):  # as of a run that kept more, or was interrupted often
        (tmp_path / f"model_000000{number}.pth").write_bytes((tmp_path / "model_0000002.pth").read_bytes())
    train_net.main([str(word) for word in ("--resume", *words, "SOLVER.MAX_ITER", 6, "DATASETS.TEST", "()")])
    assert [path.name for path in sorted(tmp_path.glob("model_0*.pth"))] == [f"model_000000{n}.pth" for n in (3, 4, 5)]


def train(config, output, *words):
    """Run train_net.py in this process, on the CPU."""
    words = ["--config-file", ROOT / config, *words, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", output]
    train_net.main([str(word) for word in words])


def test_stage_1_is_evaluated_by_retrieval(command, stage_1, tmp_path):
    words = ["DATASETS.TEST", "('synthetic_clear_val',)", "TEST.BEST_CHECKPOINT_METRIC"]
    words += ["retrieval/token_sar_to_rgb_recall@1", "TEST.EVAL_PERIOD", 1, "SOLVER.IMS_PER_BATCH", 2]
    train(STAGE_1, tmp_path / "trained", *words, "SOLVER.MAX_ITER", 2)
    report_file = "inference/synthetic_clear_val/retrieval_evaluation.json"
    trained = json.loads((tmp_path / "trained" / report_file).read_text())
    assert trained["blocks"] == [1, 2, 3]
    assert trained["results"]["num_pairs"] == 2 and trained["results"]["image_chance@1"] == 50
    assert 0 <= trained["results"]["token_sar_to_rgb_recall@1"] <= 100
    best = json.loads((tmp_path / "trained" / "model_best.json").read_text())
    assert best["value"] >= trained["results"]["token_sar_to_rgb_recall@1"]
    weights = ["MODEL.WEIGHTS", tmp_path / "trained" / "model_final.pth"]
    train(STAGE_1, tmp_path / "evaluated", "--eval-only", *words, *weights)
    assert json.loads((tmp_path / "evaluated" / report_file).read_text()) == trained


def test_a_clip_student_and_a_moving_average_feed_stage_2(command, tmp_path):
    words = ["CMU.ENCODER", "clip", "CMU.BLOCKS", "[1, 2, 4]", "CMU.EMA_DECAY", 0.5, *SHORT[2:]]
    train(STAGE_1, tmp_path / "cmu", *words)
    weights = tmp_path / "cmu" / "model_final.pth"
    taught = load(weights)["model"]
    prefix = "student_average.module.visual."
    names = [name.removeprefix(prefix) for name in taught if name.startswith(prefix)]
    assert names and taught["student_average.n_averaged"] == 2
    for other in ("student", "teacher"):  # what it averages, and what it began with
        assert any(not torch.equal(taught[prefix + name], taught[f"{other}.visual.{name}"]) for name in names)

    words = ["MODEL.CLIP_SAR.ENABLED", True, "MODEL.CLIP_SAR.WEIGHTS", weights, "DATASETS.TEST", "()"]
    train(STAGE_2, tmp_path / "fused", *words, *SHORT[2:])
    fused = load(tmp_path / "fused" / "model_final.pth")["model"]
    assert all(torch.equal(fused[f"clip_sar.encoder.visual.{name}"], taught[prefix + name]) for name in names)


def test_a_clip_student_is_no_clip(command, capsys, tmp_path):
    train(STAGE_1, tmp_path / "cmu", "CMU.ENCODER", "clip", "CMU.BLOCKS", "[4]", *SHORT[2:], "SOLVER.MAX_ITER", 1)
    weights = tmp_path / "cmu" / "model_final.pth"
    printed = fails(capsys, *command, "MODEL.CLIP.PRETRAINED", weights)  # it has no text tower
    assert "model_final.pth holds weights of another architecture" in printed
    assert "another architecture" in fails(capsys, *command, "MODEL.DENSE_ENCODER_SAR.WEIGHTS", weights)


@pytest.fixture
def recorded_losses(monkeypatch):
    """The loss of every iteration of this process, by the iteration."""
    losses = {}
    write_metrics = AccumulatingTrainer._write_metrics

    def record(self, values, *args):
        losses[self.iter] = sum(values.values()).item()
        write_metrics(self, values, *args)

    monkeypatch.setattr(AccumulatingTrainer, "_write_metrics", record)
    return losses


@pytest.mark.parametrize("config,settings,workers", [
    (STAGE_1, ["SEED", -1, "CMU.EMA_DECAY", 0.9, "CMU.LEARNED_TEMPERATURE", True], (0, 1)),
    (STAGE_1, ["SOLVER.ACCUMULATION_STEPS", 2, "INPUT.SAR.SPECKLE_LOOKS", 2.0], (1, 0)),
    (STAGE_2, ["SOLVER.WARMUP_ITERS", 3], (1, 2)),
])  # fmt: skip
def test_a_resumed_run_has_the_losses_of_one_that_was_never_interrupted(
    command, recorded_losses, tmp_path, config, settings, workers
):
    words = [*settings, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 5, "SOLVER.CHECKPOINT_PERIOD", 2]
    words += ["DATASETS.TEST", "()", "DATALOADER.NUM_WORKERS"]
    train(config, tmp_path / "whole", *words, workers[0])
    whole = dict(recorded_losses)
    assert list(whole) == [0, 1, 2, 3, 4] and len(set(whole.values())) == 5
    recorded_losses.clear()
    interrupted = tmp_path / "interrupted"
    interrupted.mkdir()
    (tmp_path / "whole" / "model_0000001.pth").rename(interrupted / "model_0000001.pth")
    (interrupted / "last_checkpoint").write_text("model_0000001.pth")
    train(config, interrupted, "--resume", *words, workers[1])
    assert recorded_losses == {iteration: whole[iteration] for iteration in (2, 3, 4)}
    first, second = (load(folder / "model_final.pth")["model"] for folder in (tmp_path / "whole", interrupted))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_dense_encoder_starts_fitted_to_clip_where_the_config_asks_for_it(command, tmp_path):
    words = ["DATASETS.TEST", "()", "SOLVER.BASE_LR", 0.0, "SOLVER.WEIGHT_DECAY", 0.0]
    words += ["SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR"]  # the cosine of Detectron2's main branch divides by it
    fitted = ["MODEL.DENSE_ENCODER.FIT_DATASET", "synthetic_clear_train", "MODEL.DENSE_ENCODER.FIT_IMAGES", 4]
    weights = {}
    for name, added in (("random", []), ("fitted", fitted), ("again", fitted)):
        train(STAGE_2, tmp_path / name, *SHORT, *words, *added)
        weights[name] = load(tmp_path / name / "model_final.pth")["model"]
    changed = {name for name, value in weights["random"].items() if not torch.equal(value, weights["fitted"][name])}
    encoders = ("dino", "dino_sar")
    assert changed == {f"{encoder}.projection.dense.{kind}" for encoder in encoders for kind in ("weight", "bias")}
    assert all(torch.equal(value, weights["again"][name]) for name, value in weights["fitted"].items())
    # Weights that are given, and a run that goes on, stay as they are.
    words += ["MODEL.DENSE_ENCODER.FIT_IMAGES", 2]
    train(STAGE_2, tmp_path / "fitted", "--resume", *SHORT[:-1], 4, *fitted[:2], *words)
    resumed = load(tmp_path / "fitted" / "model_final.pth")["model"]
    train(STAGE_2, tmp_path / "given", *SHORT, *fitted, *words, "MODEL.WEIGHTS", tmp_path / "random/model_final.pth")
    given = load(tmp_path / "given" / "model_final.pth")["model"]
    assert all(torch.equal(value, resumed[name]) for name, value in weights["fitted"].items())
    assert all(torch.equal(value, given[name]) for name, value in weights["random"].items())


def test_several_test_sets_are_each_asked_for_their_own_classes(command, capsys, datasets, stage_2, tmp_path):
    declared = tmp_path / "other.yaml"
    declared.write_text(
        "datasets: {train_net_other: {root: synthetic/val, rgb: rgb, sar: sar, labels: labels, "
        "classes: [town, street, wood, lake, field, sand]}}"
    )
    names = "('synthetic_val', 'train_net_other')"
    weights = ["MODEL.WEIGHTS", stage_2 / "model_final.pth"]
    files = [str(ROOT / "projects/laptop/datasets.yaml"), str(declared)]
    words = ["--eval-only", *command, *weights, "DATASETS.FILES", files, "DATASETS.TEST", names]
    train_net.main([str(word) for word in words])
    assert evaluation_of(tmp_path)["results"] == evaluation_of(stage_2)["results"]
    other = json.loads((tmp_path / "inference" / "train_net_other" / "sem_seg_evaluation.json").read_text())
    assert len(other["confusion_matrix"]) == 6 and other["results"]["mIoU-unseen"] is None


def test_weights_of_another_architecture(command, capsys, stage_1):
    printed = fails(capsys, *command, "MODEL.WEIGHTS", stage_1 / "model_final.pth")
    assert "another architecture" in printed and "model_final.pth" in printed


def test_a_corrupt_file_stops_training_or_is_skipped_and_counted(tmp_path, monkeypatch):
    write_synthetic_dataset(tmp_path / "synthetic", num_train=3, num_val=3, size=64)
    for split in ("train", "val"):
        (tmp_path / "synthetic" / split / "sar" / "00001.png").write_bytes(b"not a picture")
    (tmp_path / "synthetic" / "val" / "labels" / "00002.png").write_bytes(b"not a picture")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    command = ["--config-file", ROOT / STAGE_2, *SHORT, "OUTPUT_DIR", tmp_path / "output"]
    printed = run(tmp_path, STAGE_2, tmp_path / "stopped", *SHORT, "SOLVER.MAX_ITER", 6, status=2)
    assert re.search(r"error: .*sar/00001\.png", printed) and "Traceback" not in printed
    train_net.main([str(word) for word in (*command, "INPUT.SKIP_CORRUPT", True, "SOLVER.MAX_ITER", 4)])
    results = evaluation_of(tmp_path / "output")["results"]
    assert (results["num_images"], results["num_skipped"]) == (1, 2)
    lines = [json.loads(line) for line in (tmp_path / "output" / "metrics.json").read_text().splitlines()]
    assert max(line.get("data/skipped_files", 0) for line in lines) >= 2
