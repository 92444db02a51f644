import importlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from argparse import Namespace

import pytest
import torch
from torch.multiprocessing import ProcessExitedException

from mm_ovseg.engine import launch as launch_function
from mm_ovseg.errors import ConfigError

launch_module = importlib.import_module("mm_ovseg.engine.launch")  # its name in the package is the function


def arguments(num_gpus):
    return Namespace(num_gpus=num_gpus, num_machines=1, machine_rank=0, dist_url="auto")


def test_one_process_runs_here():
    calls = []
    launch_function(calls.append, arguments(1))
    assert len(calls) == 1


def test_more_gpus_than_there_are_is_a_config_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="--num-gpus is 3, but this machine has 2"):
        launch_function(print, arguments(3))


def test_the_status_of_a_failed_process_is_ours(monkeypatch):
    def fail(*args, **kwargs):
        raise ProcessExitedException("process 0 ended", error_index=0, error_pid=1, exit_code=2)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(launch_module, "detectron2_launch", fail)
    with pytest.raises(SystemExit) as stop:
        launch_function(print, arguments(2))
    assert stop.value.code == 2


@pytest.mark.parametrize("number,status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_passed_on_and_the_launcher_ends_after_its_processes(monkeypatch, number, status):
    def start(*args, **kwargs):
        process = multiprocessing.get_context("fork").Process(target=wait_for_a_signal)
        process.start()
        time.sleep(0.3)  # until it waits
        os.kill(os.getpid(), number)
        process.join()
        raise ProcessExitedException("ended", error_index=0, error_pid=process.pid, exit_code=process.exitcode)

    before = signal.getsignal(number)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(launch_module, "detectron2_launch", start)
    with pytest.raises(SystemExit) as stop:
        launch_function(print, arguments(2))
    assert stop.value.code == status and signal.getsignal(number) is before


def wait_for_a_signal():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    time.sleep(60)


@pytest.mark.parametrize("ending,status", [("", 0), ("sys.exit(3)", 3)])
def test_no_thread_of_the_group_is_left_to_abort_the_process_at_its_end(ending, status):
    """Seen once in a suite: "terminate called without an active exception", after an evaluation that was complete."""
    program = f"""
        import glob, sys
        import torch
        from detectron2.utils import comm
        from mm_ovseg.engine import launch

        def threads():
            return sum(open(path).read().startswith("pt_") for path in glob.glob("/proc/self/task/*/comm"))

        def run(args):
            model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
            in_a_cycle = [model]
            in_a_cycle.append(in_a_cycle)
            comm.all_gather("anything")
            print(threads() > 0)
            {ending}

        try:
            launch(run, None)
        finally:
            print(threads())
    """
    rank = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "one"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, **rank, **address},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout.split()) == (status, ["True", "0"]), done.stderr
