"""train_net.py as a user starts it: resumed with a loss scaler, and in several processes (NCCL, or gloo on a CPU)."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from laptop.drawn_world import write_synthetic_dataset
from tests import training_process
from tests.conftest import ROOT
from tests.gpu.conftest import SMALL, STAGES

ITERATIONS = 6
RUNS = ("one", "many")
# Relative. Kernels of CUDA may add in another order each time, which float16 makes visible.
RESUMED_TOLERANCE = 1e-3
PROCESSES_TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder for DETECTRON2_DATASETS."""
    folder = tmp_path_factory.mktemp("data")
    write_synthetic_dataset(folder / "synthetic", num_train=5, num_val=2, size=64)
    return folder


def words(stage, output, *more):
    config = ROOT / f"projects/laptop/configs/quickstart_{STAGES[stage]}.yaml"
    settings = ["SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", ITERATIONS, "DATASETS.TEST", "()", "SOLVER.BASE_LR", 1e-4]
    return ["--config-file", config, *SMALL, *settings, *more, "OUTPUT_DIR", output]


def load(output):
    return torch.load(output / "model_final.pth", map_location="cpu", weights_only=True)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_resumed_run_has_the_losses_and_the_loss_scale_of_one_that_was_not(data, tmp_path, check, stage):
    float16 = ["SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "float16", "SOLVER.CHECKPOINT_PERIOD", 2]

    def run(name, fault=None, *first):
        log = tmp_path / f"{len(list(tmp_path.glob('*.log')))}.log"
        command = [*first, *words(stage, tmp_path / name, *float16)]
        return training_process.run(command, log, fault, DETECTRON2_DATASETS=str(data))

    status, whole = run("whole")
    assert status == 0, whole
    status, stopped = run("stopped", ("signals", 2, signal.SIGTERM))
    assert status == 128 + signal.SIGTERM, stopped
    status, resumed = run("stopped", None, "--resume")
    assert status == 0, resumed
    ours = training_process.losses(stopped) | training_process.losses(resumed)
    expected = training_process.losses(whole)
    assert list(ours) == list(expected) == list(range(ITERATIONS))
    worst = max(abs(ours[number] / loss - 1) for number, loss in expected.items())
    check("losses, the worst relative deviation", worst, RESUMED_TOLERANCE)
    scales = [load(tmp_path / name)["trainer"]["_trainer"]["grad_scaler"] for name in ("whole", "stopped")]
    assert scales[0] == scales[1] and scales[0]["scale"] > 0


def test_a_killed_process_ends_the_one_that_waits_for_it(data, tmp_path, device):
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("needs 2 GPUs")
    fault = ("on_rank", 1, "signals", 1, signal.SIGKILL)
    command = ["--num-gpus", 2, *words(2, tmp_path / "killed"), "MODEL.DEVICE", device.type]
    status, printed = training_process.run(command, tmp_path / "log", fault, DETECTRON2_DATASETS=str(data))
    assert status == 128 + signal.SIGKILL and "error: Rank 1 of 2" in printed, printed


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("processes", [1, 2])
def test_processes_learn_what_one_learns_from_the_same_global_batch(data, tmp_path, check, device, stage, processes):
    if device.type == "cuda" and torch.cuda.device_count() < processes:
        pytest.skip(f"needs {processes} GPUs")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
    for name, launcher in zip(RUNS, ([], torchrun), strict=True):
        command = [sys.executable, *launcher, ROOT / "train_net.py", *words(stage, tmp_path / name)]
        done = subprocess.run(
            [str(word) for word in command],
            cwd=ROOT,
            env={**os.environ, "DETECTRON2_DATASETS": str(data), "OMP_NUM_THREADS": "1", "NCCL_DEBUG": "VERSION"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    if device.type == "cuda" and processes > 1:
        assert "NCCL version" in done.stdout + done.stderr
    losses = [json.loads((tmp_path / name / "metrics.json").read_text())["total_loss"] for name in RUNS]
    check("loss, relative deviation", abs(losses[1] / losses[0] - 1), PROCESSES_TOLERANCE)
    one, many = (torch.cat([value.flatten() for value in load(tmp_path / name)["model"].values()]) for name in RUNS)
    check("weights, relative deviation", float((many - one).norm() / one.norm()), PROCESSES_TOLERANCE)
