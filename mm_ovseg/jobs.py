"""Work on many files: in parallel, with a journal for resuming an interrupted run, and a list of skipped files.

A command makes a :class:`Job` per file and passes them all to :func:`run_jobs`.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from mm_ovseg.errors import DataError
from mm_ovseg.files import check_writable_folder, complete_file, sha256

__all__ = ["Finished", "Job", "Journal", "Skipped", "count_reasons", "file_states", "run_jobs", "skip_unreadable"]

UNREADABLE = "cannot be read"  # the only reason for which the next run tries again
JOURNAL_FORMAT = 2


@dataclass(frozen=True)
class Skipped:
    """Something that a run skips: its name, the reason, in words that others may share, and perhaps the details."""

    name: str
    reason: str
    detail: str = ""


def count_reasons(skipped: Iterable[Skipped]) -> dict[str, int]:
    """Reason -> number of skipped ones."""
    return dict(sorted(Counter(entry.reason for entry in skipped).items()))


def skip_unreadable(name: str, detail: str, skipped: list[Skipped], *, strict: bool = False) -> None:
    """Print why a file cannot be read, and add it to the skipped ones.

    Raises:
        DataError: Raised instead if ``strict``.
    """
    if strict:
        raise DataError(detail)
    tqdm.write(f"skipped: {detail}", file=sys.stderr)
    skipped.append(Skipped(name, UNREADABLE, detail))


class Job(Protocol):
    """A piece of work with a unique name; picklable."""

    name: str

    def fingerprint(self) -> list:
        """A value, ready for JSON, that changes when the sources do; see :func:`file_states`."""

    def read(self) -> Any:
        """Read everything needed. The job is skipped if this raises a DataError or OSError."""

    def write(self, content: Any) -> dict:
        """Write the content that :meth:`read` has returned.

        Returns:
            The result, ready for JSON: ``made``, a list of dicts; ``files``, path relative to the output folder ->
            SHA-256; ``skipped``, a list of :class:`Skipped` as dicts; and anything else the command needs.

        Raises:
            DataError: A file cannot be written.
        """


@dataclass
class Finished:
    """The results of all jobs, what was skipped, and the number of jobs that an earlier run had finished."""

    results: list[dict] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    done_before: int = 0

    @property
    def made(self) -> list[dict]:
        """The ``made`` entries of all jobs."""
        return [entry for result in self.results for entry in result["made"]]


def file_states(paths: Iterable[Path]) -> list[list[int]]:
    """Size and modification time of each file, which show whether it has changed without reading it."""
    return [[status.st_size, status.st_mtime_ns] for status in map(Path.stat, paths)]


class Journal:
    """A file of JSON lines in the output folder: the settings, then the result of every finished job.

    Args:
        output: The folder.
        name: Name of the journal, which is ``.NAME_journal.jsonl``.
        folders: Folders in the output folder to which the jobs write.
        prefix: Prefix of the names of all files that they write there.

    Attributes:
        settings: Settings with which everything in the folder was made; None in a new journal.
        results: Job name -> its latest result.
        files: All files named in any result, relative to the output folder.

    Raises:
        DataError: The folder is not writable, or has such files but no journal, or one of another version.
    """

    def __init__(self, output: Path, name: str, folders: Sequence[Path | str], prefix: str = "") -> None:
        check_writable_folder(output)
        self.path = output / f".{name}_journal.jsonl"
        self.settings: dict | None = None
        self.results: dict[str, dict] = {}
        self.files: set[str] = set()
        self._folders, self._prefix = [output / folder for folder in folders], prefix
        if not self.path.exists():
            if foreign := next((path for path in self._find(f"{prefix}*") if not path.name.startswith(".")), None):
                raise DataError(
                    f"{output} has files such as {foreign} but not their journal "
                    f"({self.path.name}); move them away, or choose another --output."
                )
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the last line of a killed run
            if "settings" not in entry:
                self._take(entry)
            elif entry.get("format") == JOURNAL_FORMAT:
                self.settings = entry["settings"]
            else:
                raise DataError(
                    f"{self.path} was written by another version of mm_ovseg, so this run cannot continue it; choose "
                    "another --output."
                )

    def start(self, settings: Mapping) -> None:
        """Start writing, after the lines that were read. Partial lines and files of a killed run are removed.

        Raises:
            DataError: There are files made with other settings.
        """
        settings = json.loads(json.dumps(settings))
        if self.settings != settings and not self.files:
            self.results.clear()  # none of their files exist
        elif self.settings != settings:
            differing = [
                f"{name} {old} instead of {new}"
                for name in sorted({*settings, *self.settings})
                if (old := self.settings.get(name)) != (new := settings.get(name))
            ]
            raise DataError(
                f"{self.path.parent} contains files made with other settings ({'; '.join(differing)}); choose another "
                f"--output, or remove those files together with {self.path.name}."
            )
        self.settings = settings
        with complete_file(self.path) as temporary:
            lines = [{"settings": settings, "format": JOURNAL_FORMAT}, *self.results.values()]
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        for path in list(self._find(f".{self._prefix}*.tmp.*")):
            path.unlink()

    def append(self, result: dict) -> None:
        """Record that a job is finished.

        Raises:
            DataError: The disk is full.
        """
        self._take(result)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written ({error.strerror}); free some space and run again."
            ) from error

    def _find(self, pattern: str) -> Iterator[Path]:
        return (path for folder in self._folders for path in sorted(folder.rglob(pattern)) if path.is_file())

    def _take(self, result: dict) -> None:
        self.results[result["name"]] = result
        self.files |= result["files"].keys()


def run_jobs(
    jobs: Sequence[Job], output: Path | None, journal: Journal | None, *, workers: int, title: str, strict: bool = False
) -> Finished:
    """Run jobs with a progress bar. A job in the journal runs again only if its sources or files have changed.

    Args:
        jobs: Jobs with unique names.
        output: The folder to which they write; None if they write nothing.
        journal: A started journal for finished jobs, except those with unreadable sources; None for no journal.
        workers: Number of processes; 1 is this one.
        title: Title of the progress bar.
        strict: Whether a source that cannot be read is an error; otherwise its job is skipped.

    Raises:
        DataError: A worker process was killed, a file cannot be written, or, if strict, read.
    """
    finished = Finished()
    earlier = {} if journal is None else dict(journal.results)
    arguments = [(job, output, earlier.get(job.name)) for job in jobs]
    # closing: an error here must end the worker processes instead of waiting for all their remaining work.
    with closing(_run_all(arguments, workers)) as results, tqdm(total=len(jobs), desc=title) as progress:
        for result, is_done_before in results:
            skipped = [Skipped(**entry) for entry in result["skipped"]]
            if skipped and skipped[0].reason == UNREADABLE:
                skip_unreadable(skipped[0].name, skipped[0].detail, finished.skipped, strict=strict)
            else:
                finished.skipped += skipped
                if journal is not None and not is_done_before:
                    journal.append(result)
            finished.results.append(result)
            finished.done_before += is_done_before
            progress.update()
    return finished


def _run_all(arguments: Sequence[tuple], workers: int) -> Iterator[tuple[dict, bool]]:
    if workers == 1:
        yield from (_run(*of_job) for of_job in arguments)
        return
    pool = ProcessPoolExecutor(workers)
    try:
        for future in as_completed([pool.submit(_run, *of_job) for of_job in arguments]):
            yield future.result()
    except BrokenProcessPool as error:
        raise DataError(
            "A worker process was killed, perhaps because memory ran out; run again with fewer --workers: finished "
            "work is kept."
        ) from error
    finally:
        with suppress(KeyboardInterrupt):
            pool.shutdown(cancel_futures=True)


def _run(job: Job, output: Path | None, earlier: dict | None) -> tuple[dict, bool]:
    """The result of a job, and whether it is the earlier one, whose files are unchanged."""
    result = {"name": job.name, "fingerprint": [], "made": [], "files": {}, "skipped": []}
    try:
        result["fingerprint"] = job.fingerprint()
        if earlier is not None and earlier["fingerprint"] == result["fingerprint"]:
            files = [(output / file, digest) for file, digest in earlier["files"].items()]
            if all(path.is_file() and sha256(path) == digest for path, digest in files):
                return earlier, True
        content = job.read()
    except (DataError, OSError) as error:
        result["skipped"] = [asdict(Skipped(job.name, UNREADABLE, str(error)))]
        return result, False
    return result | job.write(content), False
