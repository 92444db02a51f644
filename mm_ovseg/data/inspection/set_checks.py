"""What is wrong with the files of a dataset taken together."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mm_ovseg.data.declaration import RGBSARDataset
from mm_ovseg.data.inspection.classes import PLACEHOLDER
from mm_ovseg.data.inspection.decibels import common_range, to_decibels
from mm_ovseg.data.inspection.facts import FileFacts
from mm_ovseg.data.inspection.findings import Finding
from mm_ovseg.data.inspection.numbering import FILES_TO_COMPARE
from mm_ovseg.data.inspection.sources import Pair
from mm_ovseg.raster import SARReader
from mm_ovseg.raster.units import decibel_ranges

__all__ = ["check_classes", "check_consistency", "check_sar_range"]

CLIPPED = 0.2  # share of the SAR values of a dataset


def check_consistency(pairs: Sequence[Pair], facts: Mapping[Path, FileFacts], kind: str) -> list[Finding]:
    """Files of one kind ("RGB", "SAR", "label") whose type or palette is not that of most of them."""
    readable = [(pair, facts[path]) for pair in pairs for path in pair.files.get(kind, ()) if facts[path].error is None]
    findings = _odd_ones(
        readable,
        lambda entry: (entry.info.dtypes[0], len(entry.bands)),
        "other-type",
        lambda entry: f"has {len(entry.bands)} band{'s' * (len(entry.bands) > 1)} of {entry.info.dtypes[0]}",
        "check that its numbers mean the same",
    )
    palette_advice = {
        "label": "a palette file counts by its indices: check that these are the class numbers",
    }.get(kind, "check its colours")
    return findings + _odd_ones(
        readable, lambda entry: entry.palette, "palette", lambda entry: _describe_palette(entry), palette_advice
    )


def _odd_ones(
    readable: Sequence[tuple[Pair, FileFacts]],
    trait: Callable[[FileFacts], Hashable],
    kind: str,
    describe: Callable[[FileFacts], str],
    advice: str,
) -> list[Finding]:
    counts = Counter(trait(entry) for _, entry in readable)
    if len(counts) < 2:
        return []
    (common, _), *_ = counts.most_common(1)
    example = next(entry for _, entry in readable if trait(entry) == common)
    return [
        Finding(
            kind,
            pair.dataset.name,
            str(entry.path),
            f"{entry.path} {describe(entry)}, while {example.path} {describe(example)}, as most do",
            advice,
            pair.key,
        )
        for pair, entry in readable
        if trait(entry) != common
    ]


def _describe_palette(entry: FileFacts) -> str:
    if entry.palette is None:
        return "has no palette"
    colors = ", ".join(f"{value}: {color}" for value, color in enumerate(entry.palette[:3]))
    return f"has a palette ({colors}{', ...' if len(entry.palette) > 3 else ''})"


def check_sar_range(dataset: RGBSARDataset, sar_facts: Sequence[FileFacts], reader: SARReader) -> list[Finding]:
    """Check that INPUT.SAR.SCALE and INPUT.SAR.RANGE fit what the SAR files of a dataset hold."""
    if reader.unit.to_decibels is None:
        return []
    samples = [
        entry.sample[:, [entry.bands.index(band) for band in reader.bands or entry.bands[:3]]]
        for entry in sar_facts
        if set(reader.bands) <= set(entry.bands)
    ]
    samples = [sample for sample in samples if sample.shape[1] == samples[0].shape[1]]
    values = np.concatenate(samples) if samples else np.empty((0, 1))  # (N, bands)
    if not len(values):
        return []
    message = advice = ""
    if reader.scale == "db" and values.min() >= 0:
        message = f"the SAR values are {values.min():g} to {values.max():g}, which are hardly dB"
        advice = "set INPUT.SAR.SCALE to power or amplitude"
    elif reader.scale != "db" and np.median(values) < 0:
        message = f"most SAR values are negative, which {reader.scale} never is"
        advice = "set INPUT.SAR.SCALE to db"
    else:
        ranges = decibel_ranges(reader.value_range, values.shape[1])
        decibels = [to_decibels(band, reader.scale) for band in values.T]
        outside = [(band < low) | (band > high) for band, (low, high) in zip(decibels, ranges, strict=True)]
        clipped = float(np.mean(np.concatenate(outside))) if sum(map(len, outside)) else 0.0
        if clipped > CLIPPED:
            shown = " and ".join(f"{low:g} to {high:g} dB" for low, high in np.unique(ranges, axis=0))
            message = f"{clipped:.0%} of the SAR values lie outside INPUT.SAR.RANGE, {shown}"
            advice = f'set INPUT.SAR.RANGE to "{common_range(np.concatenate(decibels))}"'
    if not message:
        return []
    return [Finding("sar-range", dataset.name, str(dataset.folder / dataset.sar), message, advice)]


def check_classes(
    datasets: Sequence[RGBSARDataset], pairs: Sequence[Pair], facts: Mapping[Path, FileFacts]
) -> list[Finding]:
    """Classes without a name, or that occur in no label map of all the datasets that have the same classes."""
    findings = []
    vocabularies: dict[tuple[str, ...], list[RGBSARDataset]] = {}
    for dataset in datasets:
        vocabularies.setdefault(dataset.classes, []).append(dataset)
    for classes, members in vocabularies.items():
        names = {dataset.name for dataset in members}
        files_with = _files_with([pair for pair in pairs if pair.is_used and pair.dataset.name in names], facts)
        if not files_with:
            continue
        first = members[0]
        place = str(first.folder / first.labels)
        if absent := [name for name in classes if name not in files_with]:
            message = f"no label map of {', '.join(sorted(names))} has {', '.join(absent)}"
            advice = "it can neither be learned nor measured: check the list of classes, or leave it so"
            if ignored := _ignored_shares(members, pairs, facts):
                shares = ", ".join(f"{value} ({share:.0%} of the pixels)" for value, share in ignored.items())
                advice = f"{shares} is ignored: if that is a class, say so with label_values"
            findings.append(Finding("class-absent", first.name, place, message, advice))
        unnamed = [name for name in classes if PLACEHOLDER.fullmatch(name)]
        if unnamed:
            message = f"{', '.join(unnamed)} say nothing to a model that goes by names"
            advice = "write what they are into the class file"
            findings.append(Finding("class-unnamed", first.name, place, message, advice))
        number = len(set().union(*files_with.values()))
        for name in unnamed:
            if number >= FILES_TO_COMPARE and len(files_with.get(name, ())) == 1:
                (path,) = files_with[name]
                message = f"{path} is the only one of {number} label maps with {name}"
                advice = "check whether that number is a mistake"
                findings.append(Finding("class-unnamed", first.name, str(path), message, advice))
    return findings


def _ignored_shares(
    datasets: Sequence[RGBSARDataset], pairs: Sequence[Pair], facts: Mapping[Path, FileFacts]
) -> dict[int, float]:
    """The values of the label files that are ignored though no declaration names them, with their share, 0..1."""
    pixels: Counter[int] = Counter()
    for pair in pairs:
        for path in pair.files.get("label", ()) if pair.dataset in datasets else ():
            pixels.update(facts[path].values or {})
    unnamed = {
        dataset.ignore_label for dataset in datasets if dataset.ignore_label not in dict(dataset.label_values or ())
    }
    return {value: pixels[value] / pixels.total() for value in sorted(unnamed) if pixels[value]}


def _files_with(pairs: Sequence[Pair], facts: Mapping[Path, FileFacts]) -> dict[str, set[Path]]:
    """The label files that have each class."""
    found: dict[str, set[Path]] = {}
    for pair in pairs:
        classes = pair.dataset.classes
        index_of = dict(pair.dataset.label_values or enumerate(range(len(classes))))
        for path in pair.files.get("label", ()):
            for value in facts[path].values or ():
                if (index := index_of.get(value)) is not None and index < len(classes):
                    found.setdefault(classes[index], set()).add(path)
    return found
