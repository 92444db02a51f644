"""Checking datasets: all problems, found in one pass over the files."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations

import numpy as np

from mm_ovseg.data.check.contents import FileContents
from mm_ovseg.data.check.cross_checks import check_classes, check_images, check_places, check_sar_range, check_types
from mm_ovseg.data.check.findings import ERROR, Finding, worst_first
from mm_ovseg.data.check.pair_files import PairFiles, find_pairs, read_pairs
from mm_ovseg.data.pair_reader import PairReader
from mm_ovseg.data.rgb_sar_dataset import RGBSARDataset
from mm_ovseg.errors import DataError
from mm_ovseg.raster import ImageReader, RasterSource, SARReader, check_same_grid, read_label

__all__ = ["check_datasets"]

MIN_DATA = 0.5  # share of the pixels
MAX_CLIPPED = 0.5  # share of a file's SAR values

Problem = tuple[str, str, str]  # kind, message and advice of a finding


def check_datasets(
    datasets: Sequence[RGBSARDataset], reader: PairReader, *, workers: int | None = None
) -> list[Finding]:
    """Check datasets, each on its own and against the others.

    Files in a dataset's folders that no dataset lists (``pairs``) are checked, too, as part of the first one.

    Args:
        datasets: The datasets, which MetadataCatalog keeps as ``declaration``.
        reader: Reader of RGB and SAR with the settings of the config.
        workers: Number of reading threads; None for one per core.

    Returns:
        The findings, worst first.
    """
    pairs, findings = find_pairs(datasets)
    pairs = read_pairs(pairs, check=partial(_check_file, reader, findings), workers=workers)
    for pair in pairs:
        findings += _check_pair(pair)
    faulty = {finding.file for finding in findings}
    for dataset in datasets:
        of_dataset = [pair for pair in pairs if pair.dataset is dataset]
        # A different type is only worth reporting if nothing else is wrong with the file.
        types = check_types(of_dataset)
        findings += [finding for finding in types if finding.kind != "other-type" or finding.file not in faulty]
        findings += check_sar_range(dataset, of_dataset, reader.sar)
    findings += [*check_classes(datasets, pairs), *check_images(pairs), *check_places(pairs)]
    broken = {(finding.dataset, finding.pair) for finding in findings if finding.severity == ERROR}
    for pair in pairs:
        name = pair.dataset.name
        if not pair.is_used and (name, pair.key) not in broken:
            path = pair.single["RGB"].path
            message = f"{path} is in the folder of {name} but in no list of pairs"
            findings.append(pair.finding("left-out", path, message, "add its name to a list if it is meant to be used"))
    return worst_first(findings)


def _check_file(
    reader: PairReader, findings: list[Finding], pair: PairFiles, kind: str, source: RasterSource, file: FileContents
) -> None:
    """Add the problems of a file, read as in training, to the findings."""
    try:
        if kind == "label":
            problems = _check_label(pair.dataset, source, file)
        else:
            problems = _check_image(reader, reader.rgb if kind == "RGB" else reader.sar, source, file)
        for of_kind, message, advice in problems:
            findings.append(pair.finding(of_kind, file.path, f"{file.path} {message}", advice))
    except DataError as error:
        findings.append(pair.finding(f"{kind.lower()}-unusable", file.path, error))


def _check_image(
    pair_reader: PairReader, reader: ImageReader, source: RasterSource, file: FileContents
) -> Iterator[Problem]:
    may_be_empty = pair_reader.may_lack_sar and reader is pair_reader.sar
    image, valid = pair_reader.read_image(reader, source, may_be_empty=may_be_empty)
    if not valid.any():
        return
    pixels = image[valid]
    if file.nan_share:
        yield "nan", f"has NaN in {file.nan_share:.1%} of its pixels", "check that these pixels have no data"
    if valid.mean() < MIN_DATA:
        yield "little-data", f"has data in {valid.mean():.1%} of its pixels", "leave the pair out"
    if (pixels == pixels[:1]).all():
        yield "blank", "has the same value everywhere", "leave the pair out, or check how it was made"
    elif isinstance(reader, SARReader) and reader.unit.to_decibels is not None:
        clipped = np.mean((pixels <= 0) | (pixels >= 255))
        if clipped > MAX_CLIPPED:
            message = f"has {clipped:.0%} of its values at or beyond the ends of INPUT.SAR.RANGE"
            yield "sar-range", message, "check its unit and calibration"


def _check_label(dataset: RGBSARDataset, source: RasterSource, file: FileContents) -> Iterator[Problem]:
    label = read_label(
        source,
        num_classes=len(dataset.classes),
        ignore_label=dataset.ignore_label,
        label_values=None if dataset.label_values is None else dict(dataset.label_values),
    )
    if file.is_lossy:
        message = "is compressed as JPEG, which turns class numbers into those of other classes"
        yield "label-jpeg", message, "write label maps as PNG or GeoTIFF, from the original"
    if np.dtype(file.dtype).kind == "f":
        advice = "write it as uint8, and check that nothing has interpolated between classes"
        yield "label-float", f"holds {file.dtype} numbers", advice
    if (label == dataset.ignore_label).all():
        yield "label-empty", "has no pixel of any class", "leave the pair out, or label it"


def _check_pair(pair: PairFiles) -> Iterator[Finding]:
    """Find files that cannot be read or are on another grid."""
    for file in [file for files in pair.files.values() for file in files if file.error is not None]:
        yield pair.finding("unreadable", file.path, file.error)
    infos = {kind: file.info for kind, file in pair.single.items() if file.error is None}
    for first, second in combinations(infos, 2):
        if {first, second} == {"SAR", "label"} and "RGB" in infos:
            continue  # the others are compared with RGB
        try:
            check_same_grid(infos[first], infos[second])
        except DataError as error:
            yield pair.finding("different-grid", infos[second].path, error)
