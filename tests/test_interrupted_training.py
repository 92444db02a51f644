"""Training that is interrupted, killed or out of disk, and then resumed, ends with the weights of one that was not."""

import os
import random
import re
import shutil
import signal

import pytest
import torch

from laptop.drawn_world import write_synthetic_dataset
from tests import training_process
from tests.conftest import ROOT
from tests.patience import PATIENCE

SMALL = [
    "MODEL.DEVICE",
    "cpu",
    "MODEL.DENSE_ENCODER.IMAGE_SIZE",
    64,
    "MODEL.CLIP.IMAGE_SIZE",
    64,
    "INPUT.CROP.SIZE",
    "(64, 64)",
]
SMALL += ["MODEL.AGGREGATOR.WINDOW_SIZE", 4, "INPUT.MIN_SIZE_TRAIN", "(64,)", "SOLVER.IMS_PER_BATCH", 2]
SMALL += ["SOLVER.MAX_ITER", 6, "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.WARMUP_ITERS", 3, "DATASETS.TEST", "()"]
STAGE_1 = ["--config-file", ROOT / "projects/laptop/configs/quickstart_cmu.yaml", *SMALL, "CMU.EMA_DECAY", 0.9]
STAGE_1 += ["CMU.LEARNED_TEMPERATURE", True, "INPUT.SAR.SPECKLE_LOOKS", 2.0, "SOLVER.AMP.ENABLED", True]
STAGE_2 = ["--config-file", ROOT / "projects/laptop/configs/quickstart_mm_ovseg.yaml", *SMALL]
STAGES = {1: STAGE_1, 2: STAGE_2}
KILLS = int(os.environ.get("MM_OVSEG_KILLS", "3"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function as :func:`tests.training_process.run`, with the dataset there."""
    folder = tmp_path_factory.mktemp("data")
    write_synthetic_dataset(folder / "synthetic", num_train=5, num_val=2, size=64)

    def run(output, words, fault=None, *, start_only=False, **environment):
        log = output.parent / f"{output.name}.log"
        words = [*words, "OUTPUT_DIR", output]
        environment = {"DETECTRON2_DATASETS": str(folder), **environment}
        process = training_process.start(words, log, fault, **environment)
        return (process, log) if start_only else training_process.finish(process, log)

    return run


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """The checkpoints of uninterrupted training, by the stage."""
    folders = {}
    for stage, words in STAGES.items():
        folders[stage] = tmp_path_factory.mktemp("whole") / "output"
        status, printed = run(folders[stage], words)
        assert status == 0, printed
    return folders


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def flat(value, name=""):
    """Everything in nested containers, by its path."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {path: leaf for key, child in items for path, leaf in flat(child, f"{name}/{key}").items()}
    return {name: value}


def check_same_state(folder, expected):
    """Weights, optimiser, schedule, scaler and iteration are the same, bit for bit; and nothing lies about."""
    made, wanted = flat(load(folder / "model_final.pth")), flat(load(expected / "model_final.pth"))
    assert made.keys() == wanted.keys() and len(made) > 100
    different = [
        name
        for name, value in wanted.items()
        if not (torch.equal(value, made[name]) if isinstance(value, torch.Tensor) else value == made[name])
    ]
    assert not different
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    assert not [path.name for path in folder.iterdir() if ".tmp" in path.name]


@pytest.mark.parametrize("number,status,stage,workers", [
    (signal.SIGTERM, 143, 2, 1),
    (signal.SIGINT, 130, 1, 0),
])  # fmt: skip
def test_a_signal_leaves_a_checkpoint_that_training_goes_on_from(run, whole, tmp_path, number, status, stage, workers):
    output = tmp_path / "output"
    words = [*STAGES[stage], "DATALOADER.NUM_WORKERS", workers]
    stopped, printed = run(output, words, ("signals", 2, number))
    assert stopped == status and "Traceback" not in printed
    assert f"{number.name}: saving a checkpoint after this iteration; a second signal stops at once." in printed
    assert f"{number.name}: stopped after iteration 2; the same command with --resume" in printed
    assert (output / "last_checkpoint").read_text() == "model_0000002.pth"  # none was due there
    resumed, printed = run(output, ["--resume", *words])
    assert resumed == 0 and "Starting training from iteration 3" in printed
    check_same_state(output, whole[stage])


def test_a_second_signal_stops_at_once(run, tmp_path):
    stopped, printed = run(tmp_path / "output", STAGE_1, ("signals", 2, signal.SIGTERM, signal.SIGTERM))
    assert stopped == -signal.SIGTERM and "stopped after iteration" not in printed
    assert (tmp_path / "output" / "last_checkpoint").read_text() == "model_0000001.pth"


def test_a_signal_in_the_last_iteration_leaves_the_evaluation_to_resume(run, whole, tmp_path):
    output = tmp_path / "output"
    words = [*STAGE_2, "DATASETS.TEST", "('synthetic_val',)"]
    stopped, printed = run(output, words, ("signals", 5, signal.SIGTERM))
    assert stopped == 143 and "training was complete" in printed
    report = output / "inference" / "synthetic_val" / "sem_seg_evaluation.json"
    assert not report.exists()
    killed, printed = run(output, ["--resume", *words], ("killed_while_writing", "model_best", 0.5))
    assert killed == -signal.SIGKILL, printed
    resumed, printed = run(output, ["--resume", *words])
    assert resumed == 0 and report.exists() and (output / "model_best.json").exists(), printed
    best, final = (load(output / f"model_{name}.pth")["model"] for name in ("best", "final"))
    assert all(torch.equal(value, best[name]) for name, value in final.items())
    check_same_state(output, whole[2])


@pytest.mark.parametrize("fault,resumed_from", [
    (("signals", 1, signal.SIGKILL), None),
    (("signals", 3, signal.SIGKILL), 2),
    (("killed_while_writing", "model_0000003", 0.0), 2),
    (("killed_while_writing", "model_0000003", 0.99), 2),
    (("killed_when_replacing", "model_0000003.pth", 1, False), 2),
    (("killed_when_replacing", "model_0000003.pth", 1, True), 2),
    (("killed_when_replacing", "last_checkpoint", 2, False), 2),
    (("killed_when_replacing", "last_checkpoint", 2, True), 4),
    (("killed_while_writing", "model_final", 0.7), 6),
])  # fmt: skip
def test_a_killed_training_goes_on_from_its_last_whole_checkpoint(run, whole, tmp_path, fault, resumed_from):
    output = tmp_path / "output"
    killed, printed = run(output, STAGE_1, fault)
    assert killed == -signal.SIGKILL, printed
    for path in output.glob("model_*.pth"):
        load(path)  # what has its name is whole
    resumed, printed = run(output, ["--resume", *STAGE_1])
    assert resumed == 0, printed
    assert f"Starting training from iteration {resumed_from or 0}\n" in printed
    check_same_state(output, whole[1])


def test_kills_at_random_moments_lose_nothing(run, whole, tmp_path):
    draw = random.Random(0)
    output, kills, attempts = tmp_path / "output", 0, 0
    status = None
    while status != 0:
        # It gets a little longer each time, so that there is progress however slow the machine is.
        process, log = run(output, ["--resume", *STAGE_2], start_only=True)
        process.join(timeout=draw.uniform(0.2, 2.5) * (1 + attempts / 20) if kills < KILLS else PATIENCE)
        if process.exitcode is None:
            process.kill()
            kills += 1
        status, printed = training_process.finish(process, log)
        attempts += 1
        assert status in (0, -signal.SIGKILL), printed
        if status == 0 and kills < KILLS:  # once more, from the start
            check_same_state(output, whole[2])
            shutil.rmtree(output)
            output, status = tmp_path / f"output_{attempts}", None
    check_same_state(output, whole[2])
    print(f"{kills} kills, {attempts} starts")


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_truncated_last_checkpoint_falls_back_to_the_one_before(run, whole, tmp_path, share):
    output = tmp_path / "output"
    output.mkdir()
    for name in ("model_0000001.pth", "model_0000003.pth", "model_0000005.pth"):
        (output / name).write_bytes((whole[1] / name).read_bytes())
    last = output / "model_0000003.pth"
    last.write_bytes(last.read_bytes()[: int(share * last.stat().st_size)])
    (output / "last_checkpoint").write_text(last.name)
    resumed, printed = run(output, ["--resume", *STAGE_1])
    assert resumed == 0 and "Starting training from iteration 2\n" in printed
    warning = next(line for line in printed.splitlines() if "Resuming from the checkpoint before it" in line)
    assert "WARNING" in warning and "model_0000003.pth is not a readable" in warning and "model_0000001.pth" in warning
    check_same_state(output, whole[1])


def test_a_full_disk_is_one_error_and_leaves_the_last_good_checkpoint(run, whole, tmp_path):
    output = tmp_path / "output"
    status, printed = run(output, STAGE_1, ("disk_is_full", 2))
    assert status == 2 and "Traceback" not in printed
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "model_0000003.pth cannot be written" in errors[0]
    assert re.search(r"model_0000001\.pth is complete; --resume continues from it", errors[0])
    assert sorted(path.name for path in output.glob("*.pth")) == ["model_0000001.pth"]
    resumed, printed = run(output, ["--resume", *STAGE_1])
    assert resumed == 0, printed
    check_same_state(output, whole[1])


def test_an_error_in_the_last_iteration_is_reported_without_an_evaluation(run, tmp_path):
    words = [*STAGE_2, "SOLVER.MAX_ITER", 2, "DATASETS.TEST", "('synthetic_val',)"]
    status, printed = run(tmp_path / "output", words, ("not_a_number", 1))
    assert status == 2 and "error: The loss is not finite at iteration 1" in printed
    assert "Start inference" not in printed and "Traceback" not in printed


def test_a_run_that_starts_anew_is_never_resumed_from_an_older_one(run, whole, tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    older = load(whole[1] / "model_0000003.pth")
    older["model"] = {name: torch.zeros_like(value) for name, value in older["model"].items()}
    torch.save(older, output / "model_0000003.pth")
    (output / "last_checkpoint").write_text("model_0000003.pth")
    killed, printed = run(output, STAGE_1, ("signals", 0, signal.SIGKILL))
    assert killed == -signal.SIGKILL and "replaces the checkpoints of an earlier run" in printed
    assert run(output, ["--resume", *STAGE_1])[0] == 0
    check_same_state(output, whole[1])


def test_a_seed_makes_training_and_evaluation_repeatable(run, whole, tmp_path):
    words = [*STAGE_2, "DATASETS.TEST", "('synthetic_val',)"]
    status, printed = run(tmp_path / "again", [*words, "DATALOADER.NUM_WORKERS", 2])
    assert status == 0, printed
    check_same_state(tmp_path / "again", whole[2])
    weights = ["MODEL.WEIGHTS", tmp_path / "again" / "model_final.pth"]
    assert run(tmp_path / "evaluated", ["--eval-only", *words, *weights])[0] == 0
    report = "inference/synthetic_val/sem_seg_evaluation.json"
    assert (tmp_path / "evaluated" / report).read_bytes() == (tmp_path / "again" / report).read_bytes()
    assert run(tmp_path / "other", [*STAGE_2, "SEED", 2, "SOLVER.MAX_ITER", 1])[0] == 0
    first, second = (load(folder / "model_final.pth")["model"] for folder in (tmp_path / "again", tmp_path / "other"))
    frozen_or_equal = [name for name in first if torch.equal(first[name], second[name])]
    assert len(frozen_or_equal) < len(first) / 2


def run_two(run, outputs, words, faults=(None, None)):
    """Two processes, as torchrun starts them, with an output folder each; returns (exit status, output) of each."""
    started = [
        run(output, words, fault, start_only=True, **variables)
        for output, fault, variables in zip(outputs, faults, training_process.torchrun_variables(), strict=True)
    ]
    return [training_process.finish(*process) for process in started]


@pytest.mark.parametrize("stage", [1, 2])
def test_two_processes_stop_together_and_go_on_with_the_losses_of_one(run, whole, tmp_path, stage):
    # All tokens: of a sample each process would draw its own.
    words = [*STAGES[stage], "CMU.TOKENS_PER_IMAGE", 10000, "SOLVER.AMP.ENABLED", False]
    folders = [tmp_path / "first", tmp_path / "second"]
    stopped = run_two(run, folders, words, (None, ("signals", 2, signal.SIGTERM)))
    assert [status for status, _ in stopped] == [143, 143], stopped
    assert "SIGTERM: stopped after iteration 2" in stopped[0][1]
    assert (folders[0] / "last_checkpoint").read_text() == "model_0000002.pth"
    assert not list(folders[1].glob("*.pth")) and not (folders[1] / "last_checkpoint").exists()

    (tmp_path / "link").symlink_to(folders[0])  # the same folder, with a log of its own
    resumed = run_two(run, [folders[0], tmp_path / "link"], ["--resume", *words])
    assert [status for status, _ in resumed] == [0, 0], resumed
    status, printed = run(tmp_path / "one", words)
    assert status == 0, printed
    two = training_process.losses(stopped[0][1]) | training_process.losses(resumed[0][1])
    one = training_process.losses(printed)
    assert list(two) == list(one) == [0, 1, 2, 3, 4, 5] and len(set(one.values())) == 6
    assert two == pytest.approx(one, rel=1e-4)

    uninterrupted = [tmp_path / "whole_first", tmp_path / "whole_second"]
    assert [status for status, _ in run_two(run, uninterrupted, words)] == [0, 0]
    check_same_state(folders[0], uninterrupted[0])


@pytest.mark.parametrize("stage,settings", [
    (1, ["CMU.ENCODER", "clip", "CMU.BLOCKS", "[1, 2, 4]"]),
    (2, ["MODEL.CLIP_SAR.ENABLED", True, "LOSS.NAME", "cross_entropy", "SOLVER.ACCUMULATION_STEPS", 2]),
    (2, ["MODEL.DENSE_ENCODER_SAR.ENABLED", False, "MODEL.DENSE_ENCODER.ENABLED", False]),
])  # fmt: skip
def test_no_variant_has_parameters_that_two_processes_wait_for_in_vain(run, tmp_path, stage, settings):
    words = [*STAGES[stage], *settings, "SOLVER.MAX_ITER", 2]
    done = run_two(run, [tmp_path / "first", tmp_path / "second"], words)
    assert [status for status, _ in done] == [0, 0], done
