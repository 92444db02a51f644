import platform
import signal
import socket
from argparse import Namespace
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from mm_ovseg.engine import launch as launch_function
from mm_ovseg.engine.failures import Place
from mm_ovseg.engine.process_group import check_device, join_group
from mm_ovseg.errors import ConfigError
from tests import failing_processes
from tests.conftest import ROOT
from tests.patience import PATIENCE
from tests.training_process import context, left_of, wait_until

CONFIG = str(ROOT / "projects/laptop/configs/quickstart_cmu.yaml")


def arguments(num_gpus, *opts, num_machines=1, machine_rank=0, dist_url="tcp://127.0.0.1:1"):
    return Namespace(
        config_file=CONFIG,
        base=None,
        opts=["MODEL.DEVICE", "cpu", *opts],
        num_gpus=num_gpus,
        num_machines=num_machines,
        machine_rank=machine_rank,
        dist_url=dist_url,
    )


def test_one_process_runs_here():
    calls = []
    launch_function(lambda *given: calls.append(given), arguments(1))
    ((cfg, args),) = calls
    assert cfg.MODEL.DEVICE == "cpu" and args.num_gpus == 1


@pytest.mark.parametrize("device,message", [("cuda", "this machine has 2 GPUs"), ("cuda:1", "give MODEL.DEVICE cuda")])
def test_each_process_has_a_gpu_of_its_own(monkeypatch, device, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_device("cuda", 2)
    check_device("cpu", 8)
    with pytest.raises(ConfigError, match=message):
        check_device(device, 2 if ":" in device else 3)


@pytest.mark.parametrize("changes,message", [
    ({"num_gpus": 0}, "--num-gpus is 0; give 1 or more"),
    ({"num_machines": 0}, "--num-machines is 0; give 1 or more"),
    ({"num_machines": 2, "machine_rank": 2}, "--machine-rank is 2; give 0..1"),
    ({"num_machines": 2, "dist_url": "127.0.0.1:80"}, "--dist-url is '127.0.0.1:80'; give tcp://HOST:PORT"),
    ({"num_machines": 2, "dist_url": "tcp://a.invalid:80", "machine_rank": 1}, "tcp://a.invalid:80 does not answer"),
    ({"opts": ["SOLVER.BASE_RL", "1"]}, "did you mean"),
])  # fmt: skip
def test_what_cannot_be_started_is_a_config_error(changes, message):
    args = arguments(2)
    for name, value in changes.items():
        setattr(args, name, value)
    with pytest.raises(ConfigError, match=message):
        launch_function(print, args)


def test_a_port_in_use_is_a_config_error():
    with socket.create_server(("0.0.0.0", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"{url} cannot be listened on"):
            launch_function(print, arguments(1, num_machines=2, dist_url=url))


def test_processes_that_never_start_are_named(monkeypatch):
    monkeypatch.setattr("mm_ovseg.engine.process_group.START_TIMEOUT", timedelta(seconds=0.1))
    store = dist.HashStore()
    store.set("started/1", "")
    with pytest.raises(ConfigError, match="Of 4 processes, those with rank 2, 3 have not started"):
        join_group("cpu", Place(rank=0, size=4, local_rank=0, local_size=2, machine=0), store)


@pytest.fixture
def start(tmp_path):
    """A function that starts a process that launches; ``finish`` gives its exit status and what was printed."""
    started = []

    def start(main, args, **environment):
        log = tmp_path / f"{len(started)}.log"
        process = context.Process(target=failing_processes.launch, args=(main, args, log, environment))
        process.start()
        started.append(process)
        return process, log

    yield start
    for process in started:
        process.kill()


def finish(process, log):
    process.join(PATIENCE)
    assert process.exitcode is not None, log.read_text()
    return process.exitcode, log.read_text()


HOST = platform.node()
REFUSED = f"error: sar.tif is empty; replace it.\nRank 1 of 2 on {HOST} failed; all ranks were stopped.\n"
KILLED = f"error: Rank 1 of 2 on {HOST} was killed"
CONTINUE = "all ranks were stopped. The same command with --resume continues a training from its last checkpoint.\n"


@pytest.mark.parametrize("main,status,printed", [
    (failing_processes.greet, 0, "[(0, 2), (1, 2)]\n"),
    (failing_processes.refuse_data, 2, REFUSED),
    (failing_processes.be_killed, 137, f"{KILLED} by SIGKILL, perhaps for lack of memory; {CONTINUE}"),
    (failing_processes.leave_alone, 3, ""),
])  # fmt: skip
def test_a_process_that_fails_ends_the_others_with_its_reason(start, main, status, printed):
    assert finish(*start(main, arguments(2))) == (status, printed)


def test_the_same_error_in_all_processes_is_printed_once(start):
    status, printed = finish(*start(failing_processes.refuse_data_in_all, arguments(3)))
    assert status == 2 and printed.count("error: sar.tif is empty") == printed.count("\n") - 1 == 1


def test_a_defect_is_printed_with_its_traceback_alone(start):
    status, printed = finish(*start(failing_processes.break_down, arguments(2)))
    assert status == 1 and printed.count("Traceback") == 1
    assert printed.endswith(f"ZeroDivisionError: a defect\nRank 1 of 2 on {HOST} failed; all ranks were stopped.\n")


@pytest.mark.parametrize("number,status,printed", [(signal.SIGTERM, 143, ""), (signal.SIGINT, 130, "Stopped.\n")])
def test_a_signal_is_forwarded_and_the_launcher_ends_after_its_processes(start, number, status, printed):
    assert finish(*start(failing_processes.be_signalled, arguments(2), SIGNAL=str(int(number)))) == (status, printed)


def test_processes_end_without_the_one_that_started_them(start):
    process, log = start(failing_processes.kill_the_starter, arguments(2))
    assert finish(process, log)[0] == -signal.SIGKILL
    wait_until(lambda: not left_of(process))


def on_two_machines(start, main, *opts):
    """Launch on two "machines" of one process each; returns the exit status and output of each."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    shared = {"num_machines": 2, "dist_url": url}
    second = start(main, arguments(1, *opts, machine_rank=1, **shared))
    first = start(main, arguments(1, machine_rank=0, **shared))
    return finish(*first), finish(*second)


@pytest.mark.parametrize("main,status,printed", [
    (failing_processes.greet, 0, ("[(0, 1), (0, 1)]\n", "")),
    (failing_processes.refuse_data, 2, (REFUSED, REFUSED)),
    (failing_processes.be_killed, 137, (KILLED, KILLED)),
])  # fmt: skip
def test_processes_of_two_machines_end_together(start, main, status, printed):
    ended = on_two_machines(start, main)
    assert [status for status, _ in ended] == [status, status]
    for (_, found), expected in zip(ended, printed, strict=True):
        assert found.startswith(expected) and found.count("error: ") == expected.count("error: ")


def test_a_machine_with_a_config_error_ends_the_other(start):
    (status, printed), (_, same) = on_two_machines(start, failing_processes.greet, "SOLVER.BASE_RL", "1")
    assert status == 2 and printed == same and printed.startswith("error: The config key SOLVER.BASE_RL")


def in_torchrun(start, main, processes=2, **environment):
    """Processes, as torchrun starts them; returns the exit status and output of each."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "TORCHELASTIC_RUN_ID": "one"}
    shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), **environment}
    started = [start(main, arguments(1), RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(processes)]
    return [finish(*one) for one in started]


def test_in_torchrun_the_others_see_that_a_process_was_killed(start):
    (status, printed), (killed, _) = in_torchrun(start, failing_processes.be_killed)
    assert (status, killed) == (1, -signal.SIGKILL)
    assert printed == f"{KILLED}, perhaps for lack of memory; {CONTINUE}"


def test_in_torchrun_an_error_is_printed_once_too(start):
    assert in_torchrun(start, failing_processes.refuse_data) == [(2, ""), (2, REFUSED)]


@pytest.mark.parametrize("code", [0, 3])
def test_no_thread_of_the_group_is_left_to_abort_the_process_at_its_end(start, code):
    """Seen once in a suite: "terminate called without an active exception", after an evaluation that was complete."""
    ((status, printed),) = in_torchrun(start, failing_processes.count_threads, processes=1, CODE=str(code))
    assert (status, printed) == (code, "True\n0\n")
