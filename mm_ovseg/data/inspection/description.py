"""What was seen in a folder, in words and tables."""

from collections import Counter
from collections.abc import Callable, Sequence

from tabulate import tabulate

from mm_ovseg.data.declaration import match_files
from mm_ovseg.data.inspection.classes import ClassScheme
from mm_ovseg.data.inspection.draft import Draft
from mm_ovseg.data.inspection.facts import FileFacts
from mm_ovseg.data.inspection.numbering import IGNORED
from mm_ovseg.errors import DataError
from mm_ovseg.raster import read_raster_info

__all__ = ["describe_draft"]

MAX_NAMED = 3


def describe_draft(draft: Draft) -> str:
    """Files, settings, classes and split of a draft, several lines."""
    lines = [f"Seen in {draft.root}:"]
    rows = []
    for kind, pattern in draft.train.patterns.items():
        rows.append([kind, _place(draft, kind, pattern), *_describe_files(draft.files(kind))])
    lines.append(
        tabulate(rows, ["", "where", "files", "type", "pixels", "bands", "reference system"], tablefmt="github")
    )
    unused = [name for layout in draft.layouts for name in layout.unused]
    if unused:
        lines.append(f"Not used: {_first(unused)}.")
    lines += ["", *_describe_settings(draft)]
    if draft.scheme is None:
        lines += _describe_unusable_labels(draft)
        lines.append("No labels: the dataset serves stage 1, which needs none.")
    else:
        source = f"named by {draft.scheme.source}" if draft.scheme.source else "which the files do not name"
        lines += [f"Classes, {source}:", _describe_classes(draft.scheme), *_describe_masked(draft.files("label"))]
    train, val = draft.sizes
    lines += ["", f"Pairs to train on: {train}; held out: {val} ({draft.how_split})."]
    return "\n".join(lines)


def _place(draft: Draft, kind: str, pattern: str) -> str:
    return pattern if len(draft.layouts) == 1 else f"{'|'.join(layout.root.name for layout in draft.layouts)}/{pattern}"


def _describe_files(files: Sequence[FileFacts]) -> list[str]:
    """Number, type, size, bands and reference system; of several the most common, with the number of others."""
    readable = [entry for entry in files if entry.error is None]
    return [
        str(len(files)),
        _common(readable, lambda entry: " ".join(dict.fromkeys(entry.info.dtypes))),
        _common(readable, lambda entry: f"{entry.info.width} x {entry.info.height}"),
        _common(readable, lambda entry: str(len(entry.bands)) + (", palette" if entry.palette else "")),
        _common(readable, lambda entry: entry.info.crs.to_string() if entry.info.crs else "none"),
    ]


def _common(files: Sequence[FileFacts], trait: Callable[[FileFacts], str]) -> str:
    counts = Counter(map(trait, files)).most_common()
    if not counts:
        return "cannot be read"
    (most, _), *others = counts
    return most + (f" (+ {len(others)} other{'s' * (len(others) > 1)})" if others else "")


def _describe_settings(draft: Draft) -> list[str]:
    settings = [f"INPUT.RGB.{key} {value}" for key, value in draft.rgb_settings.items()]
    settings += [f"INPUT.SAR.{key} {value}" for key, value in draft.sar_settings.items()]
    metres = draft.train.ground_sampling_distance
    lines = [f"Read with {', '.join(settings)}." if settings else "RGB and SAR are 8-bit, and read as they are."]
    return lines + ([f"{metres:g} m a pixel."] if metres else [])


def _describe_unusable_labels(draft: Draft) -> list[str]:
    """Why the label files, if there are any, are left out."""
    pattern = draft.layouts[0].labels
    if pattern is None:
        return []
    first = next(path for paths in match_files(draft.layouts[0].root, pattern).values() for path in paths)
    try:
        info = read_raster_info(first)
        what = f"{first.name} has {info.count} band{'s' * (info.count > 1)} of {info.dtypes[0]}"
    except DataError as error:
        what = str(error).rstrip(".")
    return [
        f"The files at {pattern} hold no class numbers and are left out ({what}). A label map has one band with a "
        "whole number a pixel: convert colours to numbers."
    ]


def _describe_classes(scheme: ClassScheme) -> str:
    total = sum(scheme.pixels.values())
    rows = []
    for value in sorted({*scheme.index_of, *scheme.pixels}):
        index = scheme.index_of.get(value, IGNORED)
        name = scheme.names[index] if index != IGNORED else "(ignored)" if value in scheme.index_of else "(no class)"
        share = f"{100 * scheme.pixels[value] / total:.2f}"
        rows.append([value, name, "" if index == IGNORED else index, share, scheme.files[value]])
    headers = ["value", "class", "index", "% of pixels", "files"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _describe_masked(labels: Sequence[FileFacts]) -> list[str]:
    """The share of the label pixels that the files themselves take out."""
    counted = [entry for entry in labels if entry.values is not None]
    total = sum(entry.info.width * entry.info.height for entry in counted)
    masked = total - sum(sum(entry.values.values()) for entry in counted)
    return [f"Besides, {masked / total:.2%} of the pixels have no data by nodata or mask; they are ignored."] * (
        masked > 0
    )


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_NAMED]) + (f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else "")
