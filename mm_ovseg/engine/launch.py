"""Starting one process per device: by Detectron2's launcher, or within ``torchrun``."""

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
    """Run ``main(args)`` in the requested number of processes.

    Under ``torchrun`` the processes exist already and only join their group (NCCL with CUDA, else gloo). Otherwise
    ``args.num_gpus``, ``num_machines``, ``machine_rank`` and ``dist_url`` configure Detectron2's launcher.

    Args:
        main: importable by name, and wrapped in ``clean_exit``, so that a failing process prints one line.
        args: from Detectron2's ``default_argument_parser``.

    Raises:
        ConfigError: there are fewer GPUs than requested.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _join_torchrun()
        status = 0
        try:
            main(args)
        except (
            SystemExit
        ) as stop:  # its traceback, dropped after this block, keeps the trainer and thus the group alive
            status = stop.code
        _leave_torchrun()
        if status:
            sys.exit(status)
        return
    processes = args.num_gpus * args.num_machines
    if processes > 1 and args.num_gpus > torch.cuda.device_count():
        raise ConfigError(
            f"--num-gpus is {args.num_gpus}, but this machine has {torch.cuda.device_count()}; "
            "use torchrun for several processes without GPUs."
        )
    try:
        with _forwarded_signals() if processes > 1 else nullcontext():
            detectron2_launch(
                main,
                args.num_gpus,
                num_machines=args.num_machines,
                machine_rank=args.machine_rank,
                dist_url=args.dist_url,
                args=(args,),
            )
    except ProcessExitedException as error:
        # The process has printed the reason. A negative status is the signal that killed it.
        sys.exit(error.exit_code if error.exit_code >= 0 else exit_status(-error.exit_code))


@contextmanager
def _forwarded_signals() -> Iterator[None]:
    """Forward SIGINT and SIGTERM to the child processes, and outlive them."""

    def forward(number: int, frame: FrameType | None) -> None:
        for process in multiprocessing.active_children():
            os.kill(process.pid, number)

    before = {number: signal.signal(number, forward) for number in SIGNALS}
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
    # Detectron2 gets local ranks from this group; its releases set it differently, but store it in the same place.
    comm._LOCAL_PROCESS_GROUP, _ = dist.new_subgroups(local_size)
    comm.synchronize()


def _leave_torchrun() -> None:
    """Stop the threads of the group, which would abort the process if they outlived the interpreter."""
    dist.destroy_process_group()
    # The threads stop with the last reference; Detectron2 and the cycle of trainer and hooks hold some.
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()
    gc.collect()
