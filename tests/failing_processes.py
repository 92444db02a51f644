"""What several processes do in the tests of the launcher: one fails, and the others wait in vain."""

import importlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.errors import DataError
from tests.forked_ranks import fork_ranks

launch_module = importlib.import_module("mm_ovseg.engine.launch")  # its name in the package is the function


def launch(main, args, log, environment):
    """Launch a function of this module, with the output in a file."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where the tests run in the background
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.update(environment)
    fork_ranks()
    launch_module.END_SECONDS = 1.0
    try:
        clean_exit(lambda _: launch_module.launch(main, args))(args)
    finally:
        if main is count_threads:
            print(threads())


def greet(cfg, args):
    places = comm.all_gather((comm.get_local_rank(), comm.get_local_size()))
    if comm.is_main_process():
        print(places)


def wait_for_ever():
    threading.Event().wait()  # as in a collective operation of NCCL, nothing ends it


def refuse_data(cfg, args):
    if comm.get_rank() == 1:
        raise DataError("sar.tif is empty; replace it.")
    wait_for_ever()


def refuse_data_in_all(cfg, args):
    raise DataError("sar.tif is empty; replace it.")


def break_down(cfg, args):
    if comm.get_rank() == 1:
        raise ZeroDivisionError("a defect")
    comm.synchronize()


def be_killed(cfg, args):
    if comm.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    comm.synchronize()


def leave_alone(cfg, args):
    if comm.get_rank() == 1:
        sys.exit(3)
    wait_for_ever()


def be_signalled(cfg, args):
    comm.synchronize()
    if comm.is_main_process():
        os.kill(os.getppid(), int(os.environ["SIGNAL"]))
    while True:
        time.sleep(0.01)


def kill_the_starter(cfg, args):
    comm.synchronize()
    if comm.is_main_process():
        os.kill(os.getppid(), signal.SIGKILL)
    wait_for_ever()


def count_threads(cfg, args):
    model = DistributedDataParallel(nn.Linear(2, 2))
    in_a_cycle = [model]
    in_a_cycle.append(in_a_cycle)
    comm.all_gather("anything")
    print(threads() > 0)
    sys.exit(int(os.environ["CODE"]))


def threads():
    """The number of threads of PyTorch."""
    return sum(path.read_text().startswith("pt_") for path in Path("/proc/self/task").glob("*/comm"))
