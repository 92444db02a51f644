import importlib
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
