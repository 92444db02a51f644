"""Descriptions of a drafted dataset in text and tables."""

from collections import Counter
from collections.abc import Callable, Sequence

from tabulate import tabulate

from mm_ovseg.data.check.contents import FileContents
from mm_ovseg.data.check.draft import Draft
from mm_ovseg.data.check.label_meaning import ClassScheme
from mm_ovseg.data.check.label_numbers import IGNORED

__all__ = ["describe_draft"]

MAX_NAMED = 3


def describe_draft(draft: Draft) -> str:
    """A multi-line description of files, settings, classes and split of a draft."""
    folders = "|".join(layout.root.name for layout in draft.layouts)
    prefix = f"{folders}/" if len(draft.layouts) > 1 else ""
    rows = [
        [kind, f"{prefix}{pattern}", *_describe_files(draft.files[kind])]
        for kind, pattern in draft.train.patterns.items()
    ]
    headers = ["", "where", "files", "type", "pixels", "bands", "reference system"]
    lines = [f"Found in {draft.root}:", tabulate(rows, headers, tablefmt="github")]
    if unused := [name for layout in draft.layouts for name in layout.unused]:
        more = f" and {len(unused) - MAX_NAMED} more" if len(unused) > MAX_NAMED else ""
        lines.append(f"Not used: {', '.join(unused[:MAX_NAMED])}{more}.")
    settings = [
        f"INPUT.{kind}.{key} {value}" for kind, keys in draft.input_settings.items() for key, value in keys.items()
    ]
    lines += ["", f"Read with {', '.join(settings)}." if settings else "RGB and SAR are 8-bit, and read as they are."]
    if metres := draft.train.ground_sampling_distance:
        lines.append(f"{metres:g} m per pixel.")
    if draft.scheme is None:
        lines += _describe_unusable_labels(draft)
        lines.append("No labels: the dataset is for stage 1, which needs none.")
    else:
        source = f"named by {draft.scheme.source}" if draft.scheme.source else "which the files do not name"
        lines += [f"Classes, {source}:", _describe_classes(draft.scheme)]
        counted = [file for file in draft.files["label"] if file.values is not None]
        total = sum(file.info.grid.width * file.info.grid.height for file in counted)
        if masked := total - sum(sum(file.values.values()) for file in counted):
            lines.append(
                f"Another {masked / total:.2%} of the pixels have no data by nodata or mask; they are ignored."
            )
    train, val = draft.sizes
    return "\n".join([*lines, "", f"Pairs to train on: {train}; held out: {val} ({draft.how_split})."])


def _describe_files(files: Sequence[FileContents]) -> list[str]:
    readable = [file for file in files if file.error is None]
    return [
        str(len(files)),
        _most_common(readable, lambda file: " ".join(dict.fromkeys(file.info.dtypes))),
        _most_common(readable, lambda file: f"{file.info.grid.width} x {file.info.grid.height}"),
        _most_common(readable, lambda file: str(len(file.bands)) + (", palette" if file.palette else "")),
        _most_common(readable, lambda file: file.info.grid.crs.to_string() if file.info.grid.crs else "none"),
    ]


def _most_common(files: Sequence[FileContents], trait: Callable[[FileContents], str]) -> str:
    counts = Counter(map(trait, files)).most_common()
    if not counts:
        return "cannot be read"
    others = len(counts) - 1
    return counts[0][0] + (f" (+ {others} other{'s' * (others > 1)})" if others else "")


def _describe_unusable_labels(draft: Draft) -> list[str]:
    """Why the label files, if any, are ignored."""
    if not draft.files["label"]:
        return []
    first = draft.files["label"][0]
    what = str(first.error).rstrip(".")
    if first.error is None:
        count = first.info.count
        what = f"{first.path.name} has {count} band{'s' * (count > 1)} of {first.info.dtypes[0]}"
    return [
        f"The files at {draft.layouts[0].labels} hold no class numbers and are ignored ({what}). A label map has one "
        "band with an integer per pixel: convert colours to numbers."
    ]


def _describe_classes(scheme: ClassScheme) -> str:
    rows = []
    for value in sorted({*scheme.index_of, *scheme.pixels}):
        index = scheme.index_of.get(value, IGNORED)
        name = scheme.names[index] if index != IGNORED else "(ignored)" if value in scheme.index_of else "(no class)"
        share = f"{100 * scheme.pixels[value] / scheme.pixels.total():.2f}"
        rows.append([value, name, "" if index == IGNORED else index, share, scheme.files[value]])
    headers = ["value", "class", "index", "% of pixels", "files"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)
