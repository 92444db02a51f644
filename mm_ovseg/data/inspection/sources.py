"""The files of a dataset by pair, also of one that is too broken to be loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mm_ovseg.data.declaration import RASTER_SUFFIXES, RGBSARDataset
from mm_ovseg.data.inspection.findings import Finding, error_finding
from mm_ovseg.errors import DataError

__all__ = ["Pair", "find_pairs"]


@dataclass(frozen=True)
class Pair:
    """The files that share a key.

    Attributes:
        key: What their names have in common.
        dataset: The dataset that they are checked as a part of.
        files: Those of each kind ("RGB", "SAR", "label") that the dataset has; empty where there is none.
        is_used: Whether the dataset takes the pair; False for files in its folders that no dataset lists.
    """

    key: str
    dataset: RGBSARDataset
    files: dict[str, list[Path]]
    is_used: bool = True

    @property
    def paths(self) -> dict[str, Path]:
        """The file of each kind, of which there is exactly one."""
        return {kind: paths[0] for kind, paths in self.files.items() if len(paths) == 1}


def find_pairs(datasets: Sequence[RGBSARDataset]) -> tuple[list[Pair], list[Finding]]:
    """Find the files of datasets.

    Files that lie where a dataset looks for its own, but are in the lists of none of the datasets, come with the first
    of these.

    Returns:
        The pairs, and what is wrong with folders, partners and names.
    """
    pairs: list[Pair] = []
    findings: list[Finding] = []
    listed: dict[tuple, set[str]] = {}
    for dataset in datasets:
        listed.setdefault(_place(dataset), set()).update(dataset.pairs or ())
    searched = set()
    for dataset in datasets:
        sources: dict[str, dict[str, list[Path]]] = {}
        for kind, pattern in dataset.patterns.items():
            try:
                sources[kind] = dataset.find(pattern)
            except DataError as error:
                findings.append(error_finding("missing-folder", dataset.name, str(dataset.folder / pattern), error))
        if len(sources) < len(dataset.patterns):
            continue
        found = set().union(*sources.values())
        used = found if dataset.pairs is None else set(dataset.pairs)
        if not used:
            findings.append(_no_files(dataset))
        unlisted = set() if _place(dataset) in searched else found - used - listed[_place(dataset)]
        searched.add(_place(dataset))
        for key in sorted(used | unlisted):
            files = {kind: of_kind.get(key, []) for kind, of_kind in sources.items()}
            pairs.append(Pair(key, dataset, files, is_used=key in used))
    for pair in pairs:
        findings += _check_names(pair)
    return pairs, findings


def _place(dataset: RGBSARDataset) -> tuple:
    return str(dataset.folder), *dataset.patterns.items()


def _no_files(dataset: RGBSARDataset) -> Finding:
    places = ", ".join(str(dataset.folder / pattern) for pattern in dataset.patterns.values())
    return Finding(
        "no-files",
        dataset.name,
        str(dataset.folder),
        f"there are no files ({', '.join(RASTER_SUFFIXES)}) at {places}",
        "put the data there, or correct the dataset's declaration",
    )


def _check_names(pair: Pair) -> list[Finding]:
    """What is wrong with a pair's file names: missing partners, and several files of one name."""
    findings = []
    present = [path for paths in pair.files.values() for path in paths]
    missing = [kind for kind, paths in pair.files.items() if not paths]
    if missing:
        wanted = " and no ".join(f"{kind} file" for kind in missing)
        places = " and ".join(pair.dataset.patterns[kind].replace("*", pair.key) for kind in missing)
        message = f"there is no {wanted} for {' and '.join(map(str, present))} (looked in {places})"
        advice = "add what is missing, or remove the rest"
        if not present:
            message = f"there are no files of the pair '{pair.key}', which the dataset lists"
            advice = "add them, or remove the name from the list"
        file = str(present[0]) if present else pair.key
        findings.append(Finding("missing-partner", pair.dataset.name, file, message, advice, pair.key))
    for paths in pair.files.values():
        if len(paths) > 1:
            message = f"{' and '.join(map(str, paths))} differ in their suffix only"
            advice = "remove all but one"
            findings.append(Finding("duplicate-name", pair.dataset.name, str(paths[1]), message, advice, pair.key))
    return findings
