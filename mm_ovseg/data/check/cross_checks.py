"""Checks across the files of datasets: types, SAR range, classes, copies and shared ground."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from mm_ovseg.data.check.contents import FileContents
from mm_ovseg.data.check.findings import Finding
from mm_ovseg.data.check.input_settings import common_range, to_decibels
from mm_ovseg.data.check.label_meaning import PLACEHOLDER
from mm_ovseg.data.check.label_numbers import MIN_FILES_TO_COMPARE
from mm_ovseg.data.check.pair_files import PairFiles
from mm_ovseg.data.rgb_sar_dataset import RGBSARDataset
from mm_ovseg.raster import SARReader
from mm_ovseg.raster.footprint import footprints, overlap_shares, overlaps
from mm_ovseg.raster.units import decibel_ranges

__all__ = ["check_classes", "check_images", "check_places", "check_sar_range", "check_types"]

MAX_CLIPPED = 0.2  # share of the SAR values of a dataset
MIN_SHARE_SHOWN = 0.01  # of the area


def check_types(pairs: Sequence[PairFiles]) -> Iterator[Finding]:
    """Find files of a dataset whose type or palette differs from most files of their kind."""
    for kind in ("RGB", "SAR", "label"):
        files = [(pair, file) for pair in pairs for file in pair.readable(kind)]
        advice = "check that its values mean the same"
        yield from _odd_ones("other-type", files, lambda file: (file.dtype, len(file.bands)), _describe_type, advice)
        advice = "check its colours"
        if kind == "label":
            advice = "a palette file counts by its indices: check that these are the class numbers"
        yield from _odd_ones("palette", files, lambda file: file.palette, _describe_palette, advice)


def _odd_ones(
    kind: str,
    files: Sequence[tuple[PairFiles, FileContents]],
    trait: Callable[[FileContents], Hashable],
    describe: Callable[[FileContents], str],
    advice: str,
) -> Iterator[Finding]:
    common = Counter(trait(file) for _, file in files).most_common(1)
    example = next((file for _, file in files if trait(file) == common[0][0]), None)
    for pair, file in files:
        if trait(file) != trait(example):
            message = f"{file.path} {describe(file)}, while {example.path}, like most, {describe(example)}"
            yield pair.finding(kind, file.path, message, advice)


def _describe_type(file: FileContents) -> str:
    return f"has {len(file.bands)} band{'s' * (len(file.bands) > 1)} of {file.dtype}"


def _describe_palette(file: FileContents) -> str:
    if file.palette is None:
        return "has no palette"
    colors = ", ".join(f"{value}: {color}" for value, color in enumerate(file.palette[:3]))
    return f"has a palette ({colors}{', ...' if len(file.palette) > 3 else ''})"


def check_sar_range(dataset: RGBSARDataset, pairs: Sequence[PairFiles], reader: SARReader) -> Iterator[Finding]:
    """Check that INPUT.SAR.SCALE and INPUT.SAR.RANGE fit the SAR files of a dataset."""
    samples = []
    for file in [file for pair in pairs for file in pair.readable("SAR")]:
        numbers = [band.index for band in file.bands]
        if set(reader.bands) <= set(numbers):
            samples.append(file.sample[:, [numbers.index(band) for band in reader.bands or numbers[:3]]])
    samples = [sample for sample in samples if sample.shape[1] == samples[0].shape[1]]
    values = np.concatenate(samples) if samples else np.empty((0, 1))  # (N, bands)
    if reader.unit.to_decibels is None or not len(values):
        return
    place = str(dataset.folder / dataset.sar)
    if reader.scale == "db" and values.min() >= 0:
        message = f"the SAR values range from {values.min():g} to {values.max():g}, which is unlikely in dB"
        yield Finding("sar-range", dataset.name, place, message, "set INPUT.SAR.SCALE to power or amplitude")
    elif reader.scale != "db" and np.median(values) < 0:
        message = f"most SAR values are negative, which {reader.scale} never is"
        yield Finding("sar-range", dataset.name, place, message, "set INPUT.SAR.SCALE to db")
    else:
        ranges = decibel_ranges(reader.value_range, values.shape[1])
        decibels = [to_decibels(band, reader.scale) for band in values.T]
        outside = [(band < low) | (band > high) for band, (low, high) in zip(decibels, ranges, strict=True)]
        clipped = float(np.mean(np.concatenate(outside))) if sum(map(len, outside)) else 0.0
        if clipped > MAX_CLIPPED:
            shown = " and ".join(f"{low:g} to {high:g} dB" for low, high in np.unique(ranges, axis=0))
            message = f"{clipped:.0%} of the SAR values are outside INPUT.SAR.RANGE, {shown}"
            advice = f'set INPUT.SAR.RANGE to "{common_range(np.concatenate(decibels))}"'
            yield Finding("sar-range", dataset.name, place, message, advice)


def check_classes(datasets: Sequence[RGBSARDataset], pairs: Sequence[PairFiles]) -> Iterator[Finding]:
    """Find classes without a name, or in no label map of the datasets that share the classes."""
    vocabularies: dict[tuple[str, ...], list[RGBSARDataset]] = {}
    for dataset in datasets:
        vocabularies.setdefault(dataset.classes, []).append(dataset)
    for classes, members in vocabularies.items():
        labels = [(pair, file) for pair in pairs if pair.dataset in members for file in pair.readable("label")]
        files_with = _files_with([(pair, file) for pair, file in labels if pair.is_used])
        if not files_with:
            continue
        name, place = members[0].name, str(members[0].folder / members[0].labels)
        if absent := [entry for entry in classes if entry not in files_with]:
            names = ", ".join(sorted({dataset.name for dataset in members}))
            advice = "it can be neither learned nor measured: check the list of classes, or keep it as it is"
            if ignored := _ignored_shares(members, [file for _, file in labels]):
                shares = ", ".join(f"{value} ({share:.0%} of the pixels)" for value, share in ignored.items())
                advice = f"{shares} is ignored: if it is a class, map it with label_values"
            yield Finding("class-absent", name, place, f"no label map of {names} has {', '.join(absent)}", advice)
        if unnamed := [entry for entry in classes if PLACEHOLDER.fullmatch(entry)]:
            message = f"{', '.join(unnamed)} mean nothing to a model that is prompted with class names"
            yield Finding("class-unnamed", name, place, message, "give their real names in the class file")
        number = len(set().union(*files_with.values()))
        for entry in unnamed:
            if number >= MIN_FILES_TO_COMPARE and len(files_with.get(entry, ())) == 1:
                (path,) = files_with[entry]
                message = f"{path} is the only one of {number} label maps with {entry}"
                yield Finding("class-unnamed", name, str(path), message, "check whether that number is a mistake")


def _ignored_shares(datasets: Sequence[RGBSARDataset], labels: Sequence[FileContents]) -> dict[int, float]:
    """The values of label files that are ignored although no dataset declares them, with their share, 0..1."""
    pixels = sum((Counter(file.values) for file in labels), Counter())
    unnamed = {
        dataset.ignore_label for dataset in datasets if dataset.ignore_label not in dict(dataset.label_values or ())
    }
    return {value: pixels[value] / pixels.total() for value in sorted(unnamed) if pixels[value]}


def _files_with(labels: Sequence[tuple[PairFiles, FileContents]]) -> dict[str, set[Path]]:
    """Class -> label files that contain it."""
    found: dict[str, set[Path]] = {}
    for pair, file in labels:
        classes = pair.dataset.classes
        index_of = dict(pair.dataset.label_values or enumerate(range(len(classes))))
        for value in file.values or ():
            if (index := index_of.get(value, len(classes))) < len(classes):
                found.setdefault(classes[index], set()).add(file.path)
    return found


def check_images(pairs: Sequence[PairFiles]) -> Iterator[Finding]:
    """Find RGB or SAR images with the same pixels, in one dataset or in two. Label maps may well be equal."""
    for kind in ("RGB", "SAR"):
        first_with: dict[str, tuple[PairFiles, Path]] = {}
        files = [(pair, file) for pair in pairs for file in pair.readable(kind)]
        for pair, file in files:
            path, name = file.path, pair.dataset.name
            first, first_path = first_with.setdefault(file.digest, (pair, path))
            first_name = first.dataset.name
            if (name, pair.key) == (first_name, first.key):
                continue  # it is the first, or reported as a file that shares the first one's name
            if name == first_name or not (pair.is_used and first.is_used):
                message = f"{path} has the same pixels as {first_path}"
                yield pair.finding("duplicate-content", path, message, "keep one of them")
                continue
            message = f"{path} ({name}) has the same pixels as {first_path} ({first_name})"
            if path == first_path:
                message = f"{path} is in {first_name} and in {name}"
            yield pair.finding("shared-content", path, message, "keep it in only one of the two datasets")


def check_places(pairs: Sequence[PairFiles]) -> Iterator[Finding]:
    """Find pairs of two datasets that show the same ground, by their georeference."""
    located = [(pair, pair.single["RGB"]) for pair in pairs if pair.is_used and "RGB" in pair.single]
    places = footprints([None if file.info is None else file.info.grid for _, file in located])
    names = [pair.dataset.name for pair, _ in located]
    for datasets in combinations(dict.fromkeys(names), 2):
        first, second = ([index for index, name in enumerate(names) if name == wanted] for wanted in datasets)
        first_places, second_places = ([places[index] for index in indices] for indices in (first, second))
        found = overlaps(second_places, first_places)
        shares = overlap_shares(second_places, first_places, found)
        best = {}
        for row in np.lexsort([found[:, 1], shares, found[:, 0]]).tolist():
            best[second[found[row, 0]]] = first[found[row, 1]], shares[row]  # the last is the largest share
        for index, (other, share) in best.items():
            (pair, file), (_, other_file) = located[index], located[other]
            if file.digest == other_file.digest:
                continue  # reported as the same image
            amount = f"{share:.0%}" if share >= MIN_SHARE_SHOWN else f"less than {MIN_SHARE_SHOWN:.0%}"
            files = f"{file.path} ({datasets[1]}) and {other_file.path} ({datasets[0]})"
            message = f"{files} share {amount} of the smaller one's area"
            yield pair.finding("shared-place", file.path, message, "keep the place in only one of the two datasets")
