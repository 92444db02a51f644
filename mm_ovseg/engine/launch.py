"""Starting one process a device: by Detectron2's launcher, or within ``torchrun``."""

import gc
import multiprocessing
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

import torch
import torch.distributed as dist
from detectron2.engine import launch as detectron2_launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

from mm_ovseg.engine.interruption import SIGNALS, exit_status
from mm_ovseg.errors import ConfigError

__all__ = ["launch"]


def launch(main: Callable[[Namespace], None], args: Namespace) -> None:
    """Run ``main(args)`` in as many processes as asked for.

    Under ``torchrun`` the processes are there already and only join their group (NCCL with CUDA, else gloo). Otherwise
    ``args.num_gpus``, ``num_machines``, ``machine_rank`` and ``dist_url`` say what Detectron2's launcher starts.

    Args:
        main: importable by name, and wrapped in ``clean_exit``, so that a process that fails says why in one line.
        args: from Detectron2's ``default_argument_parser``.

    Raises:
        ConfigError: more GPUs are asked for than there are.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _join_torchrun()
        status = 0
        try:
            main(args)
        except SystemExit as stop:  # whose traceback, gone after this block, holds the trainer and so the group
            status = stop.code
        _leave_torchrun()
        if status:
            sys.exit(status)
        return
    processes = args.num_gpus * args.num_machines
    if processes > 1 and args.num_gpus > torch.cuda.device_count():
        raise ConfigError(
            f"--num-gpus is {args.num_gpus}, but this machine has {torch.cuda.device_count()}; "
            "for several processes without GPUs use torchrun."
        )
    try:
        with _signals_passed_on() if processes > 1 else nullcontext():
            detectron2_launch(
                main,
                args.num_gpus,
                num_machines=args.num_machines,
                machine_rank=args.machine_rank,
                dist_url=args.dist_url,
                args=(args,),
            )
    except ProcessExitedException as error:
        # The process has said why. Below 0 a signal has ended it.
        sys.exit(error.exit_code if error.exit_code >= 0 else exit_status(-error.exit_code))


@contextmanager
def _signals_passed_on() -> Iterator[None]:
    """SIGINT and SIGTERM go to the processes that this one has started; it ends after them."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in multiprocessing.active_children():
            os.kill(process.pid, number)

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _join_torchrun() -> None:
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    # Detectron2 asks this group for local ranks; its releases differ in how to set it, not in where it lies.
    for first in range(0, dist.get_world_size(), local_size):
        group = dist.new_group(list(range(first, first + local_size)))
        if first <= dist.get_rank() < first + local_size:
            comm._LOCAL_PROCESS_GROUP = group
    comm.synchronize()


def _leave_torchrun() -> None:
    """End the group's threads, which would abort a process whose interpreter they outlive."""
    dist.destroy_process_group()
    # The threads end with the last reference: Detectron2 keeps some, and so does the cycle of a trainer and its hooks.
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()
    gc.collect()
