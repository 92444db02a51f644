"""Checking datasets: everything that is wrong with them, found in one go."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mm_ovseg.data.declaration import RGBSARDataset
from mm_ovseg.data.inspection.facts import FileFacts, for_each, read_facts
from mm_ovseg.data.inspection.file_checks import check_files
from mm_ovseg.data.inspection.findings import ERROR, Finding, worst_first
from mm_ovseg.data.inspection.overlap_checks import check_contents, check_places
from mm_ovseg.data.inspection.set_checks import check_classes, check_consistency, check_sar_range
from mm_ovseg.data.inspection.sources import Pair, find_pairs
from mm_ovseg.data.pair_reader import PairReader

__all__ = ["check_datasets", "read_all_facts"]

MAX_WORKERS = 16


def check_datasets(
    datasets: Sequence[RGBSARDataset],
    reader: PairReader,
    *,
    facts: Mapping[Path, FileFacts] | None = None,
    workers: int | None = None,
) -> list[Finding]:
    """Check datasets, each for itself and against the others.

    Files in a dataset's folders that no dataset lists (``pairs``) are checked too, as a part of the first.

    Args:
        datasets: The declarations, which MetadataCatalog keeps as ``declaration``.
        reader: Reads RGB and SAR with the settings of the config.
        facts: What is known of files already.
        workers: Threads that read; None: one for each core.

    Returns:
        The findings, worst first.
    """
    workers = workers or min(os.cpu_count() or 1, MAX_WORKERS)
    pairs, findings = find_pairs(datasets)
    known = dict(facts or {})
    unknown = {path for pair in pairs for paths in pair.files.values() for path in paths} - known.keys()
    known |= read_all_facts(sorted(unknown), workers)
    for of_pair in for_each(
        lambda pair: check_files(pair, known, reader), pairs, workers=workers, title="checking", unit="pair"
    ):
        findings += of_pair
    told = {finding.file for finding in findings}
    for dataset in datasets:
        of_set = _check_as_a_set(dataset, [pair for pair in pairs if pair.dataset is dataset], known, reader)
        # That a file is unlike the rest is news only where nothing else is wrong with it.
        findings += [finding for finding in of_set if finding.kind != "other-type" or finding.file not in told]
    findings += check_classes(datasets, pairs, known)
    findings += check_contents(pairs, known)
    findings += check_places(pairs, known)
    findings += _left_out(pairs, findings)
    return worst_first(findings)


def read_all_facts(paths: Sequence[Path], workers: int | None = None) -> dict[Path, FileFacts]:
    """What each of many files holds."""
    workers = workers or min(os.cpu_count() or 1, MAX_WORKERS)
    found = for_each(
        lambda path: read_facts(path, files=len(paths)), paths, workers=workers, title="reading", unit="file"
    )
    return dict(zip(paths, found, strict=True))


def _check_as_a_set(
    dataset: RGBSARDataset, pairs: Sequence[Pair], facts: Mapping[Path, FileFacts], reader: PairReader
) -> list[Finding]:
    findings = []
    for kind in dataset.patterns:
        findings += check_consistency(pairs, facts, kind)
    sar = [facts[path] for pair in pairs for path in pair.files.get("SAR", ()) if facts[path].error is None]
    return findings + check_sar_range(dataset, sar, reader.sar)


def _left_out(pairs: Sequence[Pair], findings: Sequence[Finding]) -> list[Finding]:
    """Pairs that no dataset lists, though there is nothing wrong with them."""
    wrong = {(finding.dataset, finding.pair) for finding in findings if finding.severity == ERROR}
    return [
        Finding(
            "left-out",
            pair.dataset.name,
            str(pair.paths["RGB"]),
            f"{pair.paths['RGB']} is in the folder of {pair.dataset.name} but in no list of pairs",
            "add its name to a list, if it is meant to be used",
            pair.key,
        )
        for pair in pairs
        if not pair.is_used and (pair.dataset.name, pair.key) not in wrong
    ]
