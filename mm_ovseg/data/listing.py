"""Listing the pairs of datasets only once per run, since that reads the header of every RGB file."""

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from mm_ovseg.errors import DataError

__all__ = ["listed_once"]


@contextmanager
def listed_once(names: Sequence[str]) -> Iterator[None]:
    """Within the block, which every process enters, let the main process list datasets for all processes.

    Args:
        names: Datasets; those that are not registered or cannot be listed raise their errors when used.

    Raises:
        DataError: The main process has the files of a dataset, but this one, on another machine, does not.
    """
    with ExitStack() as stack:
        for name in dict.fromkeys(names):
            if name in DatasetCatalog:
                stack.enter_context(_listed(name))
        yield


@contextmanager
def _listed(name: str) -> Iterator[None]:
    pairs, are_there = None, False
    if comm.is_main_process():
        with suppress(Exception):  # if only the main process failed, the others would wait for it
            pairs = DatasetCatalog.get(name)
            are_there = _are_there(pairs)
    pairs, are_there = comm.all_gather((pairs, are_there))[0]
    if not isinstance(pairs, list):
        yield
        return
    if are_there and not _are_there(pairs):
        raise DataError(
            f"This machine lacks dataset '{name}': {pairs[0]['file_name']} does not exist; put the datasets into the "
            "same folder of every machine."
        )
    load = DatasetCatalog[name]
    DatasetCatalog.remove(name)
    DatasetCatalog.register(name, lambda: [copy.copy(pair) for pair in pairs])
    try:
        yield
    finally:
        DatasetCatalog.remove(name)
        DatasetCatalog.register(name, load)


def _are_there(pairs: Sequence[Mapping]) -> bool:
    return bool(pairs) and os.path.exists(pairs[0]["file_name"])
