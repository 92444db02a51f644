"""The files of datasets by pair, including datasets that are too broken to be loaded."""

import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rasterio.errors import NotGeoreferencedWarning
from tqdm.contrib.concurrent import thread_map

from mm_ovseg.data.check.contents import FileContents, read_contents
from mm_ovseg.data.check.findings import Finding
from mm_ovseg.data.rgb_sar_dataset import RASTER_SUFFIXES, RGBSARDataset
from mm_ovseg.errors import DataError, MMOVSegError
from mm_ovseg.raster import RasterSource

__all__ = ["PairFiles", "find_pairs", "read_pairs"]

MAX_WORKERS = 16


@dataclass(frozen=True)
class PairFiles:
    """The files that share a key.

    Attributes:
        key: The common part of their names.
        dataset: The dataset with which they are checked.
        files: Kind ("RGB", "SAR", "label") -> the files, with only their path until they are read.
        is_used: Whether the dataset uses the pair; False for files in its folders that no dataset lists.
    """

    key: str
    dataset: RGBSARDataset
    files: dict[str, list[FileContents]]
    is_used: bool = True

    @property
    def single(self) -> dict[str, FileContents]:
        """Kind -> file, for kinds with exactly one file."""
        return {kind: files[0] for kind, files in self.files.items() if len(files) == 1}

    def readable(self, kind: str) -> list[FileContents]:
        """The files of a kind that could be read."""
        return [file for file in self.files.get(kind, ()) if file.error is None]

    def finding(self, kind: str, path: Path | str, problem: str | MMOVSegError, advice: str = "") -> Finding:
        """A finding about one of the files; an error's advice follows its last semicolon."""
        if isinstance(problem, MMOVSegError):
            problem, advice = _split_error(problem)
        return Finding(kind, self.dataset.name, str(path), problem, advice, self.key)


def find_pairs(datasets: Sequence[RGBSARDataset]) -> tuple[list[PairFiles], list[Finding]]:
    """Find the files of datasets.

    Files in a dataset's folders that no dataset lists are assigned to the first dataset with these folders.

    Returns:
        The pairs, and the problems with folders, partners and names.
    """
    pairs: list[PairFiles] = []
    findings: list[Finding] = []
    known = defaultdict(set)  # location -> keys that a dataset lists or that were found before
    for dataset in datasets:
        known[_place(dataset)].update(dataset.pairs or ())
    for dataset in datasets:
        found: dict[str, dict[str, list[Path]]] = {}
        for kind, pattern in dataset.patterns.items():
            try:
                found[kind] = dataset.find(pattern)
            except DataError as error:
                place = str(dataset.folder / pattern)
                findings.append(Finding("missing-folder", dataset.name, place, *_split_error(error)))
        if len(found) < len(dataset.patterns):
            continue
        keys = set().union(*found.values())
        used = keys if dataset.pairs is None else set(dataset.pairs)
        if not used:
            places = ", ".join(str(dataset.folder / pattern) for pattern in dataset.patterns.values())
            message = f"there are no files ({', '.join(RASTER_SUFFIXES)}) at {places}"
            advice = "put the data there, or correct the declaration of the dataset"
            findings.append(Finding("no-files", dataset.name, str(dataset.folder), message, advice))
        unlisted = keys - used - known[_place(dataset)]
        known[_place(dataset)] |= keys
        for key in sorted(used | unlisted):
            files = {kind: [FileContents(path) for path in paths.get(key, ())] for kind, paths in found.items()}
            pairs.append(PairFiles(key, dataset, files, is_used=key in used))
    return pairs, findings + [finding for pair in pairs for finding in _check_names(pair)]


def read_pairs(
    pairs: Sequence[PairFiles],
    *,
    check: Callable[[PairFiles, str, RasterSource, FileContents], None] | None = None,
    workers: int | None = None,
) -> list[PairFiles]:
    """Read the files of pairs, in threads, with a progress bar on a terminal.

    Args:
        pairs: The pairs.
        check: Called for each readable file while it is open, with its pair, kind, source and contents.
        workers: Number of threads; None for one per core.

    Returns:
        The pairs with the contents of their files.
    """
    num_files = sum(len(files) for pair in pairs for files in pair.files.values())

    def read(pair: PairFiles) -> PairFiles:
        contents = {
            kind: [
                read_contents(file.path, num_files=num_files, check=check and partial(check, pair, kind))
                for file in files
            ]
            for kind, files in pair.files.items()
        }
        return replace(pair, files=contents)

    workers = workers or min(os.cpu_count() or 1, MAX_WORKERS)
    with warnings.catch_warnings():
        # open_raster does the same, but resets what another thread has set.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return thread_map(read, pairs, max_workers=workers, desc="reading", unit="pair", leave=False, disable=None)


def _split_error(error: MMOVSegError) -> tuple[str, str]:
    """The message and the advice of a sentence such as "a.tif is empty; copy it again."."""
    message, _, advice = str(error).rpartition("; ")
    return (message or advice).rstrip("."), advice.rstrip(".") if message else ""


def _place(dataset: RGBSARDataset) -> tuple:
    return str(dataset.folder), *dataset.patterns.items()


def _check_names(pair: PairFiles) -> Iterator[Finding]:
    """Find missing partners and files with the same name."""
    present = [file.path for files in pair.files.values() for file in files]
    missing = [kind for kind, files in pair.files.items() if not files]
    if not present:
        message = f"there are no files of the pair '{pair.key}', which the dataset lists"
        yield pair.finding("missing-partner", pair.key, message, "add them, or remove the name from the list")
    elif missing:
        wanted = " and no ".join(f"{kind} file" for kind in missing)
        places = " and ".join(pair.dataset.patterns[kind].replace("*", pair.key) for kind in missing)
        message = f"there is no {wanted} for {' and '.join(map(str, present))} (looked in {places})"
        yield pair.finding("missing-partner", present[0], message, "add what is missing, or remove the others")
    for files in pair.files.values():
        if len(files) > 1:
            message = f"{' and '.join(str(file.path) for file in files)} differ only in their suffix"
            yield pair.finding("duplicate-name", files[1].path, message, "keep one of them")
