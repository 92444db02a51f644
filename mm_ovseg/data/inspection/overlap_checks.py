"""Images that occur twice, and places that two datasets share."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from mm_ovseg.data.inspection.facts import FileFacts
from mm_ovseg.data.inspection.findings import Finding
from mm_ovseg.data.inspection.sources import Pair
from mm_ovseg.raster.footprint import Footprint, footprints, overlap_shares, overlaps

__all__ = ["check_contents", "check_places"]

Located = tuple[Pair, Path]
SMALLEST_SHARE_SHOWN = 0.01


def check_contents(pairs: Sequence[Pair], facts: Mapping[Path, FileFacts]) -> list[Finding]:
    """RGB or SAR images with the same pixels, in one dataset or in two. Label maps may well be alike."""
    findings = []
    for kind in ("RGB", "SAR"):
        by_digest: dict[str, list[Located]] = {}
        for pair in pairs:
            # A file in several datasets is reported once for each two of them.
            for path in pair.files.get(kind, ()):
                if facts[path].error is None:
                    by_digest.setdefault(facts[path].digest, []).append((pair, path))
        for (first, first_path), *others in by_digest.values():
            for pair, path in others:
                if (pair.dataset.name, pair.key) != (first.dataset.name, first.key):  # else told as one name twice
                    findings.append(_same_image(first, first_path, pair, path))
    return findings


def check_places(pairs: Sequence[Pair], facts: Mapping[Path, FileFacts]) -> list[Finding]:
    """Pairs of two datasets that show the same ground, by their georeference."""
    findings = []
    located = [(pair, pair.paths["RGB"]) for pair in pairs if pair.is_used and "RGB" in pair.paths]
    places = footprints([facts[path].info for _, path in located])
    by_dataset: dict[str, tuple[list[Located], list[Footprint | None]]] = {}
    for (pair, path), place in zip(located, places, strict=True):
        of_dataset, its_places = by_dataset.setdefault(pair.dataset.name, ([], []))
        of_dataset.append((pair, path))
        its_places.append(place)
    for (first, first_places), (second, second_places) in combinations(by_dataset.values(), 2):
        found = overlaps(second_places, first_places)
        shares = overlap_shares(second_places, first_places, found).tolist()
        best: dict[int, tuple[float, int]] = {}
        for (index, other), share in zip(found.tolist(), shares, strict=True):
            best[index] = max(best.get(index, (0.0, 0)), (share, other))
        for index, (share, other) in best.items():
            (pair, path), (other_pair, other_path) = second[index], first[other]
            if facts[path].digest == facts[other_path].digest:
                continue  # told already
            amount = f"{share:.0%}" if share >= SMALLEST_SHARE_SHOWN else f"less than {SMALLEST_SHARE_SHOWN:.0%}"
            findings.append(
                Finding(
                    "shared-place",
                    pair.dataset.name,
                    str(path),
                    f"{path} ({pair.dataset.name}) and {other_path} ({other_pair.dataset.name}) share {amount} of "
                    "the smaller one's ground",
                    "keep the place in one of the two datasets",
                    pair.key,
                )
            )
    return findings


def _same_image(first: Pair, first_path: Path, second: Pair, second_path: Path) -> Finding:
    shared = first.dataset.name != second.dataset.name and first.is_used and second.is_used
    if not shared:
        message = f"{second_path} has the same pixels as {first_path}"
        advice = "keep one of them"
    elif first_path == second_path:
        message = f"{first_path} is in {first.dataset.name} and in {second.dataset.name}"
        advice = "keep it in one of the two datasets"
    else:
        message = f"{second_path} ({second.dataset.name}) has the same pixels as {first_path} ({first.dataset.name})"
        advice = "keep it in one of the two datasets"
    kind_of_finding = "shared-content" if shared else "duplicate-content"
    return Finding(kind_of_finding, second.dataset.name, str(second_path), message, advice, second.key)
