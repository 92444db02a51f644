"""Run a function in processes of one group, forked from the server of tests.training_process."""

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from tests import training_process  # noqa: F401, it says what the server imports


def run_in_group(function, folder, processes=2):
    """What ``function(rank)`` returns in each process of a group on gloo, in order of rank.

    Args:
        function: of a module that the processes can import; it returns what ``torch.save`` writes.
        folder: an empty one.
        processes: their number.
    """
    arguments = (function, folder, processes)
    multiprocessing.start_processes(_main, args=arguments, nprocs=processes, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(processes)]


def _main(rank, function, folder, processes):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=processes)
    torch.save(function(rank), folder / f"{rank}.pt")
    dist.destroy_process_group()
