"""The process group of a run, for PyTorch and for Detectron2."""

import gc
import os
import warnings
from datetime import timedelta

import torch
import torch.distributed as dist
from detectron2.utils import comm

from mm_ovseg.engine.failures import Place
from mm_ovseg.errors import ConfigError

__all__ = ["START_TIMEOUT", "TIMEOUT", "check_device", "join_group", "leave_group"]

# How long a process waits for the others in a collective operation. A failed one ends the run at once, so this is for
# what only one has to do: its last images of an evaluation, or listing and counting a dataset on a slow disk.
TIMEOUT = timedelta(hours=2)
START_TIMEOUT = timedelta(minutes=30)  # how long the processes wait for those of machines that are started later

DETECTRON2_GLOO_GROUP = comm._get_global_gloo_group


def check_device(name: str, processes: int) -> None:
    """Check that ``MODEL.DEVICE`` offers one device to each of several processes on this machine.

    Raises:
        ConfigError: there are too few GPUs, the device is one of them, or is neither of GPUs nor the CPU.
    """
    device = torch.device(name)
    if device.type == "cpu":
        return
    if device.type != "cuda":
        raise ConfigError(f"MODEL.DEVICE is '{name}', which one process alone can use; give cuda or cpu.")
    if processes > torch.cuda.device_count():
        raise ConfigError(
            f"{processes} processes were asked for, but this machine has {torch.cuda.device_count()} GPUs; lower "
            "--num-gpus (--nproc-per-node of torchrun), or use MODEL.DEVICE cpu."
        )
    if device.index is not None:
        raise ConfigError(f"MODEL.DEVICE is '{name}', but each process has a GPU of its own; give MODEL.DEVICE cuda.")


def join_group(device: str, place: Place, store: dist.Store) -> None:
    """Wait for all processes of the run and form their group, with NCCL for CUDA and gloo for other devices.

    Args:
        device: ``MODEL.DEVICE``; the process gets the GPU with its local rank.
        place: of this process.
        store: a connection to the store of the run.

    Raises:
        ConfigError: see :func:`check_device`; or some processes have not started within ``START_TIMEOUT``.
    """
    # Detectron2's way to gather objects, once in every process.
    warnings.filterwarnings("ignore", message="TypedStorage is deprecated", module=r"detectron2\.")
    check_device(device, place.local_size)
    is_cuda = torch.device(device).type == "cuda"
    if is_cuda:
        torch.cuda.set_device(place.local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(torch.get_num_threads() // place.local_size, 1))
    _await_all(place, store)
    dist.init_process_group(
        "nccl" if is_cuda else "gloo", store=store, rank=place.rank, world_size=place.size, timeout=TIMEOUT
    )
    # Detectron2 gets local ranks from this group; its releases set it differently, but store it in the same place.
    comm._LOCAL_PROCESS_GROUP, _ = dist.new_subgroups(place.local_size, timeout=TIMEOUT)
    if is_cuda:  # Detectron2 gathers objects in a second group, which it would make with PyTorch's timeout
        objects = dist.new_group(backend="gloo", timeout=TIMEOUT)
        comm._get_global_gloo_group = lambda: objects
    comm.synchronize()


def _await_all(place: Place, store: dist.Store) -> None:
    store.set(f"started/{place.rank}", "")
    started = [f"started/{rank}" for rank in range(place.size)]
    try:
        store.wait(started, START_TIMEOUT)
    except RuntimeError as error:
        missing = [str(rank) for rank, key in enumerate(started) if not store.check([key])]
        raise ConfigError(
            f"Of {place.size} processes, those with rank {', '.join(missing)} have not started; run the same command "
            "on all machines."
        ) from error


def leave_group() -> None:
    """Stop the threads of the group, which would abort the process if they outlived the interpreter."""
    dist.destroy_process_group()
    # The threads stop with the last reference; Detectron2 and the cycle of trainer and hooks hold some.
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group = DETECTRON2_GLOO_GROUP
    DETECTRON2_GLOO_GROUP.cache_clear()
    gc.collect()
