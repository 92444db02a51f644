"""Listing the pairs of datasets only once per run, since that reads the header of every RGB file."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from detectron2.data import DatasetCatalog
from detectron2.utils import comm

__all__ = ["listed_once"]


@contextmanager
def listed_once(names: Sequence[str]) -> Iterator[None]:
    """Within the block, which every process enters, let the main process list datasets for all processes.

    Args:
        names: Datasets; those that are not registered or cannot be listed raise their errors when used.
    """
    with ExitStack() as stack:
        for name in dict.fromkeys(names):
            if name in DatasetCatalog:
                stack.enter_context(_listed(name))
        yield


@contextmanager
def _listed(name: str) -> Iterator[None]:
    pairs = None
    if comm.is_main_process():
        with suppress(Exception):  # if only the main process failed, the others would wait for it
            pairs = DatasetCatalog.get(name)
    pairs = comm.all_gather(pairs)[0]
    if not isinstance(pairs, list):
        yield
        return
    load = DatasetCatalog[name]
    DatasetCatalog.remove(name)
    DatasetCatalog.register(name, lambda: [copy.copy(pair) for pair in pairs])
    try:
        yield
    finally:
        DatasetCatalog.remove(name)
        DatasetCatalog.register(name, load)
