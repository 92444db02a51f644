"""Finding the RGB, SAR and label files in a folder: in separate folders, or together and distinguished by name."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from mm_ovseg.data.check.contents import FileContents, read_contents
from mm_ovseg.data.rgb_sar_dataset import is_raster_file, match_files
from mm_ovseg.errors import DataError

__all__ = ["KINDS", "FolderLayout", "find_layout"]

KINDS = ("RGB", "SAR", "label")
# Usual names of folders and files; the first is preferred if several match.
WORDS = {
    "RGB": ("rgb", "optical", "opt", "eo", "s2", "msi", "ms", "image", "images", "imgs", "img", "pre"),
    "SAR": ("sar", "radar", "s1", "gf3", "grd", "vv", "vh", "hh", "hv", "post"),
    "label": ("label", "labels", "mask", "masks", "gt", "annotation", "annotations", "lbl", "landcover", "lulc", "seg")
    + ("classes", "target", "targets", "truth", "msk", "worldcover"),
}
# Words too short to identify files, unless their folder has them too: as in DFC2020's and SEN12MS's labels.
FOLDER_WORDS = {"RGB": (), "SAR": (), "label": ("dfc", "lc")}
# Boundaries of words within letters: S2|Hand, Label|Hand, SAR|Intensity.
JOINT = r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"
SENTINEL = re.compile(r"sentinel[-_ ]?(?=[12](?![0-9]))", re.IGNORECASE)
LONG_WORD = 4  # minimum letters for a word to count within another one (D2masks6)
MAX_CANDIDATES = 8
MAX_DEPTH = 2
FILES_LOOKED_INTO = 3
MAX_CLASSES = 40  # a file with more values is not a label map, whatever its name


@dataclass(frozen=True)
class FolderLayout:
    """Patterns of a dataset, see :func:`mm_ovseg.data.register_rgb_sar_dataset`.

    Attributes:
        root: The folder.
        rgb, sar, labels: Folders in it, or patterns with one star; ``labels`` is None without labels.
        unused: Other folders and files.
    """

    root: Path
    rgb: str
    sar: str
    labels: str | None
    unused: tuple[str, ...] = ()


def find_layout(root: Path, *, rgb: str = "", sar: str = "", labels: str = "") -> FolderLayout:
    """Find the files of a dataset in a folder.

    Args:
        root: The folder.
        rgb, sar, labels: Folders or patterns, if known.

    Raises:
        DataError: The folder does not exist, or no RGB and SAR files share a name.
    """
    if not root.is_dir():
        raise DataError(f"The folder {root} does not exist; give the folder that contains RGB, SAR and any labels.")
    known = dict(zip(KINDS, (rgb, sar, labels), strict=True))
    for pattern in filter(None, known.values()):
        folder = (root / pattern).parent if "*" in pattern else root / pattern
        if not folder.is_dir():
            raise DataError(f"The folder {folder} does not exist; correct --rgb, --sar or --labels.")
    contents = _raster_files(root)
    candidates = _candidates_by_name(contents)
    candidates = {kind: [pattern] if pattern else candidates[kind] for kind, pattern in known.items()}
    found = _best(root, candidates)
    if found is None or (found[2] is None and not candidates["label"]):
        by_content = _candidates_by_content(root, contents, found)
        found = _best(root, {kind: candidates[kind] or by_content[kind] for kind in KINDS}) or found
    if found is None:
        seen = ", ".join(f"{folder or '.'}/ ({len(files)} images)" for folder, files in contents.items()) or "no image"
        raise DataError(
            f"{root} has no RGB and SAR files that share a name ({seen}); put them into folders named rgb, sar and "
            "labels, or locate them with --rgb, --sar and --labels."
        )
    return FolderLayout(root, *found, unused=_unused(root, contents, found))


def _raster_files(root: Path) -> dict[str, list[str]]:
    """The names of the images in a folder and its subfolders, by relative folder ("" for the folder itself)."""
    contents: dict[str, list[str]] = {}
    for folder in [root, *sorted(path for path in root.rglob("*") if path.is_dir())]:
        parts = folder.relative_to(root).parts
        if len(parts) > MAX_DEPTH or any(part.startswith(".") for part in parts):
            continue
        if files := sorted(path.name for path in folder.iterdir() if is_raster_file(path)):
            contents["/".join(parts)] = files
    return contents


def _candidates_by_name(contents: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Folders and patterns for each kind, most likely first."""
    ranked: dict[str, list[tuple[int, str]]] = {kind: [] for kind in KINDS}
    for (folder, files), kind in product(contents.items(), KINDS):
        rank = _rank_of_folder(folder, kind) if folder else None
        if rank is not None:
            ranked[kind].append((rank, folder))
        stems = [Path(file).stem for file in files]
        words = WORDS[kind] + tuple(word for word in FOLDER_WORDS[kind] if word in _words(folder))
        counts = Counter(pattern for stem in stems for pattern in _patterns(stem, words))
        if kind == "label" and rank is not None and (ending := _common_ending(stems)):
            counts[rank, f"*{ending}"] = len(stems)
        for (rank, pattern), _ in counts.most_common(MAX_CANDIDATES):
            ranked[kind].append((rank, f"{folder}/{pattern}".lstrip("/")))
    return {kind: [pattern for _, pattern in sorted(found)] for kind, found in ranked.items()}


def _rank_of_folder(folder: str, kind: str) -> int | None:
    """The rank of the first word of a kind in a folder's name; None if it has none.

    A folder with exactly this name comes first, one that also has a word of another kind comes last.
    """
    name, own = folder.rsplit("/", 1)[-1].lower(), _words(folder)
    words = WORDS[kind] + FOLDER_WORDS[kind]
    for rank, word in enumerate(words):
        if name == word:
            return rank
        if word in own or (len(word) >= LONG_WORD and word in name):
            has_others = any(own & {*WORDS[other]} for other in KINDS if other != kind)
            return rank + len(words) * (2 if has_others else 1)
    return None


def _words(folder: str) -> set[str]:
    """The words in a folder's name: S1OtsuLabelHand has s1, otsu, label and hand."""
    name = SENTINEL.sub("S", folder.rsplit("/", 1)[-1])
    return {word.lower() for word in re.split(rf"[^A-Za-z0-9]+|{JOINT}", name) if word}


def _patterns(stem: str, words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The rank of a word in a file's name, and a pattern that splits the name at a separator before or after it."""
    if "*" in stem:
        return
    separators = [match.start() for match in re.finditer(r"[^A-Za-z0-9]", stem)]
    # Between two characters one of which is neither letter nor digit, or at a boundary of words within letters.
    borders = {match.start() for match in re.finditer(rf"^|$|(?<=[^A-Za-z0-9])|(?=[^A-Za-z0-9])|{JOINT}", stem)}
    for rank, word in enumerate(words):
        for match in re.finditer(word, stem.lower()):
            if not borders.issuperset(match.span()):
                continue
            for place in separators:
                if match.end() <= place < len(stem) - 1:
                    yield rank, f"{stem[: place + 1]}*"
                elif 0 < place < match.start():
                    yield rank, f"*{stem[place:]}"


def _common_ending(stems: Sequence[str]) -> str:
    """The common ending of several names, from a separator on; may be empty."""
    ending = os.path.commonprefix([stem[::-1] for stem in stems])[::-1] if len(stems) > 1 else ""
    separator = re.search(r"[^A-Za-z0-9]", ending)
    return ending[separator.start() :] if separator and "*" not in ending else ""


def _candidates_by_content(
    root: Path, contents: Mapping[str, Sequence[str]], found: tuple[str, str, str | None] | None
) -> dict[str, list[str]]:
    """Folders, or the files of one suffix in a folder, for each kind, by the contents of the first files."""
    candidates: dict[str, list[str]] = {kind: [] for kind in KINDS}
    taken = {pattern.split("*")[0].rstrip("/") for pattern in found or () if pattern}
    for folder, files in contents.items():
        if folder in taken:
            continue
        groups = {"": files}
        if len({Path(file).stem for file in files}) < len(files):  # two files with the same stem: by suffix
            suffixes = sorted({Path(file).suffix for file in files})
            groups = {f"*{suffix}": [file for file in files if file.endswith(suffix)] for suffix in suffixes}
        for pattern, members in groups.items():
            kinds = Counter(_kind_of(read_contents(root / folder / file)) for file in members[:FILES_LOOKED_INTO])
            if kind := kinds.most_common(1)[0][0]:
                candidates[kind].append("/".join(filter(None, (folder, pattern))) or "*")
    return candidates


def _kind_of(file: FileContents) -> str | None:
    """The kind that a file looks like; None if it cannot be read."""
    if file.error is not None:
        return None
    if file.values is not None and (file.palette is not None or len(file.values) <= MAX_CLASSES):
        return "label"
    is_sar = len(file.bands) <= 2 or file.is_gray or file.dtype.startswith(("float", "complex"))
    return "SAR" if is_sar else "RGB"


def _best(root: Path, candidates: Mapping[str, Sequence[str]]) -> tuple[str, str, str | None] | None:
    """The patterns with which most RGB and SAR files, then most labels, share a name; None if no files do."""
    keys = {pattern: set(match_files(root, pattern)) for pattern in set().union(*candidates.values())}
    best, best_score = None, (0, 0)
    for rgb, sar, label in product(candidates["RGB"], candidates["SAR"], [*candidates["label"], None]):
        if len({rgb, sar, label}) == 3:
            pairs = keys[rgb] & keys[sar]
            score = len(pairs), 0 if label is None else len(pairs & keys[label])
            if score > best_score:  # keep the first of equals, which is the most likely
                best, best_score = (rgb, sar, label if score[1] else None), score
    return best


def _unused(root: Path, contents: Mapping[str, Sequence[str]], found: Sequence[str | None]) -> tuple[str, ...]:
    """Folders without any used file, and other unused files."""
    matched = [paths for pattern in found if pattern for paths in match_files(root, pattern).values()]
    used = set().union(*matched)
    unused = []
    for folder, files in contents.items():
        others = [f"{folder}/{file}".lstrip("/") for file in files if root / folder / file not in used]
        unused += [f"{folder}/"] if folder and len(others) == len(files) else others
    return tuple(unused)
