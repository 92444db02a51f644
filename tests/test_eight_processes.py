"""Eight processes train and score as one does, and all of them end, with one reason, when one fails."""

import re
import signal
import socket

import pytest
import torch

from laptop.drawn_world import write_synthetic_dataset
from tests import training_process
from tests.conftest import ROOT
from tests.test_interrupted_training import STAGE_1, STAGE_2, load

EIGHT = ["--num-gpus", 8]
SHARED = ["SOLVER.IMS_PER_BATCH", 8, "SOLVER.MAX_ITER", 3]
# All tokens: of a sample each process would draw its own.
WORDS_1 = [
    *STAGE_1,
    *SHARED,
    "SOLVER.AMP.ENABLED",
    False,
    "CMU.TOKENS_PER_IMAGE",
    10000,
    "CMU.SYMMETRIC",
    True,
    "CMU.LEARNED_TEMPERATURE",
    True,
    "CMU.EMA_DECAY",
    0.5,
    "DATASETS.TEST",
    "('synthetic_clear_val',)",
]
WORDS_1 += ["TEST.BEST_CHECKPOINT_METRIC", "retrieval/token_sar_to_rgb_recall@1"]
WORDS_2 = [*STAGE_2, *SHARED, "SOLVER.ACCUMULATION_STEPS", 2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function that trains in a process of its own, or several; returns (exit status, what was printed).

    With ``start_only`` it returns the process and the file of what it prints.
    """
    folder = tmp_path_factory.mktemp("data")
    write_synthetic_dataset(folder / "synthetic", num_train=16, num_val=11, size=64)
    write_synthetic_dataset(folder / "few", num_train=1, num_val=3, size=64)
    write_synthetic_dataset(folder / "broken" / "synthetic", num_train=8, num_val=1, size=64)
    (folder / "broken" / "synthetic" / "train" / "sar" / "00003.png").write_bytes(b"not a picture")

    def run(output, words, fault=None, *, start_only=False, data=""):
        log = output.parent / f"{output.name}.log"
        words = [*words, "OUTPUT_DIR", output]
        process = training_process.start(words, log, fault, DETECTRON2_DATASETS=str(folder / data))
        if start_only:
            return process, log
        status, printed = training_process.finish(process, log)
        training_process.wait_until(
            lambda: not training_process.left_of(process)
        )  # the readers of a killed process take 5 seconds
        return status, printed

    return run


@pytest.fixture(scope="module")
def two_test_sets(tmp_path_factory):
    """The settings to evaluate on 11 images, and on fewer than there are processes."""
    declared = tmp_path_factory.mktemp("declared") / "few.yaml"
    declared.write_text(
        "datasets: {few_val: {root: few/val, rgb: rgb, sar: sar, labels: labels, "
        "classes: [city, road, forest, water, farmland]}}"
    )
    return [
        "DATASETS.FILES",
        f"['{ROOT / 'projects/laptop/datasets.yaml'}', '{declared}']",
        "DATASETS.TEST",
        "('synthetic_val', 'few_val')",
    ]


@pytest.fixture(scope="module")
def one(run, tmp_path_factory):
    """The folder and the output of stage 2 in one process, without an evaluation."""
    output = tmp_path_factory.mktemp("one") / "output"
    status, printed = run(output, WORDS_2)
    assert status == 0, printed
    return output, printed


def check_close(folder, expected):
    """The weights are those of another run, up to the order of sums."""
    made, wanted = (load(path / "model_final.pth")["model"] for path in (folder, expected))
    assert made.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(made[name], value, rtol=1e-6, atol=1e-8, msg=name)


def test_stage_2_with_accumulation_in_eight_processes_is_that_of_one(run, one, two_test_sets, tmp_path):
    output, words = tmp_path / "eight", [*WORDS_2, *two_test_sets]
    status, printed = run(output, [*EIGHT, *words], ("count_synchronisations",))
    assert status == 0, printed
    losses = training_process.losses(printed)
    assert losses == pytest.approx(training_process.losses(one[1]), rel=1e-4) and len(set(losses.values())) == 3
    check_close(output, one[0])
    # In each of three iterations, which have two batches, each part of the gradient is averaged once.
    assert len(re.findall(r"^average 0$", printed, flags=re.MULTILINE)) == 3

    status, printed = run(tmp_path / "evaluated", ["--eval-only", *words, "MODEL.WEIGHTS", output / "model_final.pth"])
    assert status == 0, printed
    for name in ("synthetic_val", "few_val"):
        report = f"inference/{name}/sem_seg_evaluation.json"
        assert (output / report).read_bytes() == (tmp_path / "evaluated" / report).read_bytes()


def test_stage_1_in_eight_processes_is_that_of_one_also_when_interrupted(run, tmp_path):
    output = tmp_path / "eight"
    status, printed = run(output, [*EIGHT, *WORDS_1], ("on_rank", 3, "signals", 1, signal.SIGTERM))
    assert status == 143 and "SIGTERM: stopped after iteration 1" in printed and "error: " not in printed
    assert [path.name for path in output.glob("*.pth")] == ["model_0000001.pth"]
    losses = training_process.losses(printed)
    status, printed = run(output, [*EIGHT, "--resume", *WORDS_1])
    assert status == 0, printed
    losses |= training_process.losses(printed)
    status, printed = run(tmp_path / "one", WORDS_1)
    assert status == 0, printed
    assert losses == pytest.approx(training_process.losses(printed), rel=1e-4) and len(set(losses.values())) == 3
    check_close(output, tmp_path / "one")

    weights = ["MODEL.WEIGHTS", output / "model_final.pth"]
    status, printed = run(tmp_path / "one", ["--eval-only", *WORDS_1, *weights])
    assert status == 0, printed
    report = "inference/synthetic_clear_val/retrieval_evaluation.json"
    assert (output / report).read_bytes() == (tmp_path / "one" / report).read_bytes()


@pytest.mark.parametrize("fault,data,words,status,message", [
    (None, "broken", ["DATALOADER.NUM_WORKERS", 1], 2, r"error: .*sar/00003\.png.*\nRank \d of 8 on .* failed; all"),
    (("on_rank", 3, "not_a_number", 1), "", [], 2, r"error: The loss is not finite at iteration 1 .*\nRank 3 of 8 on"),
    (("on_rank", 0, "signals", 1, signal.SIGKILL), "", [], 137, r"error: Rank 0 of 8 on .* was killed by SIGKILL"),
    (("on_rank", 2, "killed_in_evaluation"), "", ["--eval-only"], 137, r"error: Rank 2 of 8 on .* was killed by SIG"),
])  # fmt: skip
def test_a_process_that_fails_ends_all_with_its_reason_alone(run, one, tmp_path, fault, data, words, status, message):
    options = [word for word in words if word == "--eval-only"]
    settings = [*words[len(options) :], "DATASETS.TEST", "('synthetic_val',)", "SOLVER.MAX_ITER", 2]
    settings += ["MODEL.WEIGHTS", one[0] / "model_final.pth"]
    ended, printed = run(tmp_path / "eight", [*EIGHT, *options, *WORDS_2, *settings], fault, data=data)
    assert ended == status, printed
    assert "Traceback" not in printed and len(re.findall("^error: ", printed, flags=re.MULTILINE)) == 1
    assert re.search(f"^{message}", printed, flags=re.MULTILINE), printed


def test_a_signal_to_one_of_two_in_the_last_iteration_leaves_the_final_checkpoint(run, tmp_path):
    fault = ("on_rank", 1, "signals", 2, signal.SIGTERM)
    status, printed = run(tmp_path / "two", ["--num-gpus", 2, *WORDS_2], fault)
    assert status == 143 and "Traceback" not in printed, printed
    assert load(tmp_path / "two" / "model_final.pth")["iteration"] == 2


def on_two_machines(run, tmp_path, words):
    """Train on two "machines" with two processes each, words of their own; returns (exit status, output) of each."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    places = [["--num-gpus", 2, "--num-machines", 2, "--machine-rank", rank, "--dist-url", url] for rank in range(2)]
    (tmp_path / "link").symlink_to(tmp_path / "shared")  # the same folder, with a log of its own
    started = [
        run(tmp_path / name, [*place, *WORDS_2, *own], start_only=True)
        for name, place, own in zip(("shared", "link"), places, words, strict=True)
    ]
    return [training_process.finish(*process) for process in started]


def test_two_machines_train_as_one(run, one, tmp_path):
    (tmp_path / "shared").mkdir()
    first, second = on_two_machines(run, tmp_path, [[], []])
    assert (first[0], second[0]) == (0, 0), first[1] + second[1]
    assert training_process.losses(first[1]) == pytest.approx(training_process.losses(one[1]), rel=1e-4)
    check_close(tmp_path / "shared", one[0])


def test_a_machine_that_lacks_the_weights_ends_both_with_its_reason(run, one, tmp_path):
    (tmp_path / "shared").mkdir()
    lacking = [["MODEL.WEIGHTS", one[0] / "model_final.pth"], ["MODEL.WEIGHTS", tmp_path / "nowhere.pth"]]
    for status, printed in on_two_machines(run, tmp_path, lacking):
        assert status == 2 and "Traceback" not in printed
        errors = re.findall(r"^error: .*\n.*", printed, flags=re.MULTILINE)
        assert len(errors) == 1
        assert re.search(r"nowhere\.pth does not exist.*\nRank [23] of 4 on .* failed; all ranks were", errors[0])
