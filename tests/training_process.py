"""Commands in processes of their own, which may fail at a chosen moment.

They are forked from a server that has imported everything, so one starts in a moment.
"""

import importlib
import io
import multiprocessing
import os
import re
import resource
import signal
import socket
import sys
import time
from pathlib import Path

import torch
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

import train_net
from mm_ovseg import files
from mm_ovseg.engine.interruption import DUPLICATE_SECONDS
from mm_ovseg.engine.training_step import AccumulatingTrainer
from mm_ovseg.evaluation import SeenUnseenSemSegEvaluator
from tests.forked_ranks import fork_ranks
from tests.patience import PATIENCE

launch = importlib.import_module("mm_ovseg.engine.launch")  # its name in the package is the function
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.training_process", "tests.failing_processes"])


def start(words, log, fault=None, *, main=train_net.main, **environment):
    """Start ``main(WORDS)``, with its output in a file; ``fault`` is (name of a function here, arguments...)."""
    arguments = (main, [str(word) for word in words], str(log), fault, environment)
    process = context.Process(target=_main, args=arguments)
    process.start()
    return process


def run(words, log, fault=None, **options):
    """As :func:`start`; returns the exit status, below 0 for a signal, and what was printed."""
    return finish(start(words, log, fault, **options), log)


def finish(process, log):
    """Wait for a process; returns its exit status and what it printed."""
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        raise AssertionError("it hangs: " + log.read_text())
    return process.exitcode, log.read_text()


def torchrun_variables():
    """The environment variables that torchrun sets for each of two processes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    shared = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]


def left_of(process):
    """The processes that a process of :func:`start` has started and that still run."""
    return [
        path.parent.name
        for path in Path("/proc").glob("[0-9]*/stat")
        if (fields := _fields(path)) and fields[3] == str(process.pid) and fields[0] != "Z"
    ]


def wait_until(condition):
    """Wait for an event, which comes soon."""
    for _ in range(100 * PATIENCE):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it does not happen")


def _fields(path):
    """State, parent, process group, session, ..., of a process; nothing if it has ended."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _main(main, words, log, fault, environment):
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.update(environment)
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # for readers, as in a process of the command line
    fork_ranks()
    _print_losses()
    if fault is not None:
        globals()[fault[0]](*fault[1:])
    main(words)


def _print_losses():
    """Print the loss of every iteration, averaged over the processes, on the main one."""
    write_metrics = AccumulatingTrainer._write_metrics

    def write(self, *args):
        write_metrics(self, *args)
        if comm.is_main_process():
            print(f"loss {self.iter} {get_event_storage().latest()['total_loss'][0]:.9g}")

    AccumulatingTrainer._write_metrics = write


def losses(printed):
    """The losses of a run's output, by the iteration."""
    return {int(number): float(loss) for number, loss in re.findall(r"^loss (\d+) (\S+)$", printed, flags=re.MULTILINE)}


def _in_iteration(iteration, act):
    run_step = AccumulatingTrainer.run_step

    def step(self):
        if self.iter == iteration:
            act(self)
        run_step(self)

    AccumulatingTrainer.run_step = step


def signals(iteration, *numbers):
    """Get signals in an iteration; where there are several, far enough apart that none counts as a copy."""

    def act(_):
        for place, number in enumerate(numbers):
            if place:
                time.sleep(1.1 * DUPLICATE_SECONDS)
            os.kill(os.getpid(), number)

    _in_iteration(iteration, act)


def killed_while_writing(name, share):
    """Die when this share of the bytes of a checkpoint is written."""
    save = torch.save

    def part(content, path):
        if name in str(path):
            buffer = io.BytesIO()
            save(content, buffer)
            path.write_bytes(buffer.getvalue()[: int(share * buffer.tell())])
            os.kill(os.getpid(), signal.SIGKILL)
        save(content, path)

    torch.save = part


def killed_when_replacing(name, occasion, done):
    """Die when a file is to get its name for the n-th time, before or after that."""
    replace = files.os.replace
    left = [occasion]

    def kill(source, target):
        if str(target).endswith(name):
            left[0] -= 1
            if left[0] == 0 and done:
                replace(source, target)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    files.os.replace = kill


def disk_is_full(iteration):
    """From an iteration on, the disk takes no file above 100 kB; checkpoints are larger, the log and curves are not."""
    _in_iteration(iteration, lambda _: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)))


def on_rank(rank, name, *arguments):
    """Only one of several processes has the fault."""
    join_group = launch.join_group

    def join(*args):
        join_group(*args)
        if comm.get_rank() == rank:
            globals()[name](*arguments)

    launch.join_group = join


def not_a_number(iteration):
    """The loss is not finite in an iteration."""

    def act(trainer):
        trainer.model.register_forward_hook(lambda *given: {name: loss * torch.nan for name, loss in given[2].items()})

    _in_iteration(iteration, act)


def breaks(iteration):
    """An iteration meets a defect of the program."""
    _in_iteration(iteration, lambda _: 1 / 0)


def killed_in_evaluation():
    """Die at the first image of an evaluation."""
    SeenUnseenSemSegEvaluator.process = lambda *_: os.kill(os.getpid(), signal.SIGKILL)


def count_synchronisations():
    """Print when the main process starts to average a part of the gradients over the processes."""
    initialize = DistributedDataParallel.__init__

    def average(group, bucket):
        if comm.is_main_process():
            print(f"average {bucket.index()}")
        return allreduce_hook(group, bucket)

    def initialize_and_count(self, *args, **options):
        initialize(self, *args, **options)
        self.register_comm_hook(None, average)

    DistributedDataParallel.__init__ = initialize_and_count
