"""Means and negatives over all processes, without making any of them wait for its device."""

from functools import cache

import torch
import torch.distributed as dist
from detectron2.utils import comm

from mm_ovseg.errors import DataError

__all__ = ["gather_rows", "mean_over_processes"]


def mean_over_processes(total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """The mean over everything that the processes count, for DistributedDataParallel.

    Args:
        total: a scalar, the sum over what this process counts; or several such sums, of any shape.
        count: a scalar, its number or total weight, without gradient.

    Returns:
        ``total`` times the number of processes, divided by the count of all processes, or by 1 if that is 0. Averaged
        over processes, as DistributedDataParallel averages gradients, it is the mean, as in a single process.
    """
    processes = comm.get_world_size()
    if processes > 1:
        count = count.clone()
        dist.all_reduce(count)
    return total * processes / count.where(count > 0, 1)


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """The rows (N, ...) of all processes in order of rank, (processes * N, ...).

    Gradients flow from all processes back to the process of a row.

    Raises:
        DataError: N differs between processes. This is found out at the first call for a shape only, since the
            processes have to wait for each other; later, the backend fails or hangs.
    """
    if comm.get_world_size() == 1:
        return rows
    _check_equal(tuple(rows.shape))
    return _GatherRows.apply(rows)


@cache
def _check_equal(shape: tuple[int, ...]) -> None:
    shapes = comm.all_gather(shape)
    if len(set(shapes)) > 1:
        raise DataError(
            f"The processes have batches of different sizes ({', '.join(map(str, shapes))}); give each process the "
            "same number of pairs."
        )


class _GatherRows(torch.autograd.Function):
    """``torch.distributed.all_gather`` with a gradient; PyTorch's own is deprecated."""

    @staticmethod
    def forward(_ctx, rows: torch.Tensor) -> torch.Tensor:
        gathered = [torch.empty_like(rows) for _ in range(comm.get_world_size())]
        dist.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(_ctx, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.chunk(comm.get_world_size())[comm.get_rank()]
