"""Working through tiles in parallel, noting each in the journal as it is finished."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import TypeVar

from tqdm import tqdm

from mm_ovseg.data.preparation.dropped import BROKEN
from mm_ovseg.data.preparation.journal import Journal
from mm_ovseg.errors import DataError

__all__ = ["process_all"]

Task = TypeVar("Task")
# From a task and the result of an earlier run, if there is one, to the result, and whether it is the earlier one.
Process = Callable[[Task, dict | None], tuple[dict, bool]]


def process_all(
    process: Process, tasks: Mapping[str, Task], journal: Journal | None, workers: int, *, title: str
) -> Iterator[tuple[dict, bool]]:
    """Process tasks, with a progress bar. Close the iterator to end the worker processes early.

    Args:
        process: A function of a module, so that it can be sent to another process. Its result is ready for JSON and
            has ``dropped``, a list of dicts like :class:`~mm_ovseg.data.preparation.dropped.Dropped`.
        tasks: The tasks by the name of their result.
        journal: Where finished ones are noted, but those that could not be read; None to note nothing.
        workers: Processes; 1: this one.
        title: Of the progress bar.

    Yields:
        The results as they are finished, and whether an earlier run had finished them.

    Raises:
        DataError: A worker process was killed, the journal cannot be written, or ``process`` raises it.
    """
    earlier = {} if journal is None else dict(journal.results)
    arguments = [(task, earlier.get(name)) for name, task in tasks.items()]
    with tqdm(total=len(tasks), desc=title, unit="tile") as progress:
        for result, done_before in _results(process, arguments, workers):
            is_broken = any(entry["reason"] == BROKEN for entry in result["dropped"])
            if journal is not None and not done_before and not is_broken:
                journal.append(result)
            progress.update()
            yield result, done_before


def _results(process: Process, arguments: list[tuple[Task, dict | None]], workers: int) -> Iterator[tuple[dict, bool]]:
    if workers == 1:
        for task, previous in arguments:
            yield process(task, previous)
        return
    pool = ProcessPoolExecutor(workers)
    try:
        for future in as_completed([pool.submit(process, task, previous) for task, previous in arguments]):
            yield future.result()
    except BrokenProcessPool as error:
        raise DataError(
            "A worker process was killed, perhaps for want of memory; run again, with fewer --workers: what is "
            "finished is kept."
        ) from error
    finally:
        with suppress(KeyboardInterrupt):
            pool.shutdown(cancel_futures=True)
