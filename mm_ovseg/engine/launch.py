"""Starting one process a device: by Detectron2's launcher, or within ``torchrun``."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable

import torch
import torch.distributed as dist
from detectron2.engine import launch as detectron2_launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

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
        try:
            main(args)
        finally:
            dist.destroy_process_group()
        return
    processes = args.num_gpus * args.num_machines
    if processes > 1 and args.num_gpus > torch.cuda.device_count():
        raise ConfigError(
            f"--num-gpus is {args.num_gpus}, but this machine has {torch.cuda.device_count()}; "
            "for several processes without GPUs use torchrun."
        )
    try:
        detectron2_launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ProcessExitedException as error:
        sys.exit(error.exit_code)  # the process has said why


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
