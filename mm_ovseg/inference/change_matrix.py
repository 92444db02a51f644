"""From which class to which class the pixels of two maps changed, and over which area."""

import colorsys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from mm_ovseg.data.palette import LegendEntry
from mm_ovseg.decision import NODATA_CLASS
from mm_ovseg.inference.areas import MeasuredValues, measure_strips
from mm_ovseg.inference.map_pair import MapPair, PairClass

__all__ = ["UNCHANGED", "Change", "ChangeMatrix", "measure_changes"]

UNCHANGED = 0
UNCHANGED_COLOR = (225, 225, 225)
# Of a map of changes; if there are more changes than values, the smallest ones share the last value.
MAX_VALUE = 253
OTHERS_NAME, OTHERS_COLOR = "other changes", (110, 110, 110)
LIGHTNESSES = (0.4, 0.85)


@dataclass(frozen=True)
class Change:
    """A change from one class to another that some pixels made.

    Attributes:
        before, after: indices of the classes.
        name: "forest → water".
        value: of its pixels in the map of changes, 1..253.
        color: that of the class after it; several such changes are darker or lighter.
    """

    before: int
    after: int
    name: str
    value: int
    color: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class ChangeMatrix:
    """Where the pixels of two maps went.

    Attributes:
        classes: K classes.
        areas: pixels and hectares (K, K) by class before and after.
        unknown: those of the pixels without data in one of the maps, (1, 1).
        changes: the changes that occur, the largest first.
    """

    classes: tuple[PairClass, ...]
    areas: MeasuredValues
    unknown: MeasuredValues
    changes: tuple[Change, ...]

    def legend(self) -> tuple[LegendEntry, ...]:
        """The values of the map of changes; the first one is "unchanged"."""
        entries = {UNCHANGED: LegendEntry("unchanged", UNCHANGED_COLOR, False, UNCHANGED)}
        shared = Counter(change.value for change in self.changes)
        for change in self.changes:
            alone = shared[change.value] == 1
            name, color = (change.name, change.color) if alone else (OTHERS_NAME, OTHERS_COLOR)
            entries[change.value] = LegendEntry(name, color, False, change.value)
        return tuple(entries.values())

    def values(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """The map of changes, uint8 (H, W), of classes before and after, int (H, W), -1 for no data."""
        table = np.full((len(self.classes) + 1,) * 2, NODATA_CLASS, np.uint8)  # the last ones are for no data
        np.fill_diagonal(table[:-1, :-1], UNCHANGED)
        for change in self.changes:
            table[change.before, change.after] = change.value
        return table[before, after]

    def report(self) -> dict[str, Any]:
        """What the JSON report says about changes; all areas are of pixels with data in both maps."""
        pixels = self.areas.pixels
        unchanged = MeasuredValues(pixels.diagonal()[:, np.newaxis], self.areas.areas.diagonal()[:, np.newaxis])
        return {
            "classes": [
                {
                    "name": entry.name,
                    "before": (before := self.areas.of(index)),
                    "after": (after := self.areas.of(slice(None), index)),
                    "unchanged": (same := unchanged.of(index)),
                    "gain": _difference(after, same),
                    "loss": _difference(before, same),
                    "net": _difference(after, before),
                }
                for index, entry in enumerate(self.classes)
            ],
            "changes": [
                {
                    "from": self.classes[change.before].name,
                    "to": self.classes[change.after].name,
                    "value": change.value,
                    "color": list(change.color),
                    **self.areas.of(change.before, change.after),
                }
                for change in self.changes
            ],
            "unchanged": {"value": UNCHANGED, **unchanged.of(slice(None))},
            "unknown": {"value": NODATA_CLASS, **self.unknown.of(0)},
            # Rows are classes before, columns classes after.
            "matrix": {
                "classes": [entry.name for entry in self.classes],
                "pixels": pixels.tolist(),
                "hectares": [
                    [self.areas.of(row, column)["hectares"] for column in range(len(pixels))]
                    for row in range(len(pixels))
                ],
            },
        }


def measure_changes(pair: MapPair) -> ChangeMatrix:
    """Read two maps once, and measure their changes on the ellipsoid.

    Raises:
        DataError: as in :meth:`~mm_ovseg.inference.map_pair.MapPair.strips`.
    """
    count = len(pair.classes)
    keys = (
        (row, np.where((before < 0) | (after < 0), count * count, before * count + after))
        for row, before, after in pair.strips()
    )
    pixels, hectares = measure_strips(pair.info, keys, count * count + 1)
    areas = MeasuredValues(pixels[:-1].reshape(count, count), hectares[:-1].reshape(count, count))
    unknown = MeasuredValues(pixels[-1:, np.newaxis], hectares[-1:, np.newaxis])
    return ChangeMatrix(pair.classes, areas, unknown, _changes(pair.classes, areas.pixels))


def _changes(classes: tuple[PairClass, ...], pixels: np.ndarray) -> tuple[Change, ...]:
    moved = pixels.copy()
    np.fill_diagonal(moved, 0)
    order = np.argsort(-moved, axis=None, kind="stable")[: np.count_nonzero(moved)]
    pairs = [tuple(map(int, divmod(index, len(classes)))) for index in order]
    totals, seen, found = Counter(after for _, after in pairs), Counter(), []
    for rank, (before, after) in enumerate(pairs, start=1):
        found.append(
            Change(
                before,
                after,
                f"{classes[before].name} → {classes[after].name}",
                min(rank, MAX_VALUE),
                _shade(classes[after].color, seen[after], totals[after]),
            )
        )
        seen[after] += 1
    return tuple(found)


def _shade(color: tuple[int, int, int], index: int, count: int) -> tuple[int, int, int]:
    """One of ``count`` shades of a colour, from dark to light; the colour itself if there is only one."""
    if count == 1:
        return color
    hue, _, saturation = colorsys.rgb_to_hls(*(part / 255 for part in color))
    lightness = LIGHTNESSES[0] + (LIGHTNESSES[1] - LIGHTNESSES[0]) * index / (count - 1)
    return tuple(round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, saturation))


def _difference(more: dict[str, Any], less: dict[str, Any]) -> dict[str, Any]:
    return {key: None if None in (more[key], less[key]) else more[key] - less[key] for key in more}
