"""What is wrong with the files of one pair: read as training reads them, and compared with each other."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from mm_ovseg.data.inspection.facts import FileFacts
from mm_ovseg.data.inspection.findings import Finding, error_finding
from mm_ovseg.data.inspection.sources import Pair
from mm_ovseg.data.pair_reader import PairReader
from mm_ovseg.errors import DataError
from mm_ovseg.raster import check_same_grid, read_label

__all__ = ["check_files"]

LITTLE_DATA = 0.5  # share of the pixels
MUCH_CLIPPED = 0.5  # share of a file's SAR values


def check_files(pair: Pair, facts: Mapping[Path, FileFacts], reader: PairReader) -> list[Finding]:
    """Check the files of a pair.

    Args:
        pair: Its files may be missing or broken.
        facts: What each file holds.
        reader: Reads RGB and SAR with the settings of the config.
    """
    findings: list[Finding] = []

    def add(kind: str, path: Path, message: str, advice: str) -> None:
        findings.append(Finding(kind, pair.dataset.name, str(path), message, advice, pair.key))

    def add_error(kind: str, path: Path, error: DataError) -> None:
        findings.append(error_finding(kind, pair.dataset.name, str(path), error, pair.key))

    for kind, paths in pair.files.items():
        for path in paths:
            of_file = facts[path]
            if of_file.error is not None:
                add_error("unreadable", path, of_file.error)
                continue
            try:
                problems = _check_label(pair, of_file) if kind == "label" else _check_image(kind, of_file, reader)
                for problem in problems:
                    add(*problem)
            except DataError as error:
                add_error(f"{kind.lower()}-unusable", path, error)
    infos = {kind: facts[path].info for kind, path in pair.paths.items() if facts[path].error is None}
    for first, second in combinations(infos, 2):
        if {first, second} == {"SAR", "label"} and "RGB" in infos:
            continue  # both are compared with RGB
        try:
            check_same_grid(infos[first], infos[second])
        except DataError as error:
            add_error("different-grid", infos[second].path, error)
    return findings


def _check_image(kind: str, facts: FileFacts, reader: PairReader) -> Iterator[tuple[str, Path, str, str]]:
    """Kind, file, message and advice of what is wrong with an image; raises what training would stop with."""
    path = facts.path
    image, valid = reader.read_rgb(path) if kind == "RGB" else reader.read_sar(path)
    pixels = image[valid]
    if facts.nan_share:
        yield "nan", path, f"{path} has NaN in {facts.nan_share:.1%} of its pixels", "check that these have no data"
    if valid.mean() < LITTLE_DATA:
        yield "little-data", path, f"{path} has data in {valid.mean():.1%} of its pixels", "leave the pair out"
    if (pixels == pixels[:1]).all():
        yield "blank", path, f"{path} shows the same value everywhere", "leave the pair out, or check how it was made"
    elif kind == "SAR" and reader.sar.unit.to_decibels is not None:
        clipped = np.mean((pixels <= 0) | (pixels >= 255))
        if clipped > MUCH_CLIPPED:
            message = f"{path} has {clipped:.0%} of its values at the ends of INPUT.SAR.RANGE or beyond"
            yield "sar-range", path, message, "check its unit and calibration"


def _check_label(pair: Pair, facts: FileFacts) -> Iterator[tuple[str, Path, str, str]]:
    path, dataset = facts.path, pair.dataset
    label = read_label(
        path,
        num_classes=len(dataset.classes),
        ignore_label=dataset.ignore_label,
        label_values=None if dataset.label_values is None else dict(dataset.label_values),
    )
    if facts.is_lossy:
        message = f"{path} is compressed as JPEG, which changes numbers, those of other classes among them"
        yield "label-jpeg", path, message, "write label maps as PNG or GeoTIFF, from the original"
    if np.dtype(facts.info.dtypes[0]).kind == "f":
        message = f"{path} holds {facts.info.dtypes[0]} numbers"
        yield "label-float", path, message, "write it as uint8, and check that nothing has interpolated between classes"
    if (label == dataset.ignore_label).all():
        yield "label-empty", path, f"{path} has no pixel of any class", "leave the pair out, or label it"
