"""A map of the page: its legend at any minimum score, what is known of each pixel, and its files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.windows import Window as PixelWindow

from mm_ovseg.app.place import Window
from mm_ovseg.app.scenes import Scene
from mm_ovseg.data.palette import NONE_COLOR, LegendEntry
from mm_ovseg.decision import NODATA_CLASS, NONE_CLASS, NONE_NAME
from mm_ovseg.inference.areas import MeasuredValues, measure_values
from mm_ovseg.inference.coverage import COVERAGE_LEGEND
from mm_ovseg.inference.polygons import polygon_layer
from mm_ovseg.inference.scene_files import sibling
from mm_ovseg.raster import open_raster
from mm_ovseg.raster.geopackage import write_geopackage

__all__ = ["DOWNLOADS", "PageMap", "min_percent"]

NONE = LegendEntry(NONE_NAME, NONE_COLOR, False, NONE_CLASS)
PERCENT = np.arange(101)
DOWNLOADS = {"geotiff": ".tif", "geopackage": ".gpkg", "report": ".json", "confidence": "_confidence.tif"}


def min_percent(min_score: float) -> int:
    """The lowest percent, 0..100, that reaches a minimum score, 0..1."""
    return math.ceil(round(100 * min_score, 6))


@dataclass(frozen=True, eq=False)
class PageMap:
    """A map of a scene or of a part of it.

    Attributes:
        id: names it in requests.
        folder: of its files.
        scene: the scene.
        window: the part, in pixels of the scene.
        sensors: "both", "rgb" or "sar".
        entries: its classes, and "none" if there may be such pixels.
        seconds: that its run took.
        asked_again: whether kept features answered, without the encoders.
        warnings: sentences for the visitor.
        has_scores: whether the scores of all classes were kept.
    """

    id: str
    folder: Path
    scene: Scene
    window: Window
    sensors: str
    entries: Sequence[LegendEntry]
    seconds: float
    asked_again: bool
    warnings: Sequence[str]
    has_scores: bool

    @property
    def geotiff(self) -> Path:
        """The classes."""
        return self.folder / "map.tif"

    @property
    def confidence(self) -> Path:
        """Percent of the class's score."""
        return sibling(self.geotiff, "_confidence.tif")

    @cached_property
    def classes(self) -> list[dict[str, Any]]:
        """The legend without a minimum score."""
        return self.legend(0)

    @cached_property
    def _measured(self) -> MeasuredValues:
        """Pixels and hectares by class and percent."""
        return measure_values(self.geotiff, self.confidence, len(PERCENT))

    def legend(self, percent: int) -> list[dict[str, Any]]:
        """The classes as in the page's interface; pixels below a minimum score, in percent, count as "none"."""
        entries = list(self.entries)
        if percent and all(entry.value != NONE_CLASS for entry in entries):
            entries.append(NONE)
        found = []
        for entry in entries:
            parts = [(entry.value, slice(percent, None), PERCENT[percent:])]
            if entry.value == NONE_CLASS:
                below = slice(0, percent)
                others = [other.value for other in entries if other.value != NONE_CLASS]
                parts = [(NONE_CLASS, slice(None), PERCENT)]
                parts += [(value, below, 100 - PERCENT[below]) for value in others]
            pixels = sum(int(self._measured.pixels[value, part].sum()) for value, part, _ in parts)
            area = sum(float(self._measured.areas[value, part].sum()) for value, part, _ in parts)
            score = sum(float(self._measured.pixels[value, part] @ percents) for value, part, percents in parts)
            found.append(
                {
                    "name": entry.name,
                    "value": entry.value,
                    "color": list(entry.color),
                    "unseen": entry.unseen,
                    "pixels": pixels,
                    "hectares": None if math.isnan(area) else area,
                    "confidence": score / pixels / 100 if pixels else None,
                }
            )
        mapped = max(1, sum(entry["pixels"] for entry in found))
        return [{**entry, "share": entry["pixels"] / mapped} for entry in found]

    def describe(self) -> dict[str, Any]:
        """The map in the page's interface."""
        row, column, height, width = self.window
        place = self.scene.place
        where = {"pixels": [[column, row], [column + width, row + height]]}
        if place.is_on_map:
            where = {"bounds": place.bounds_of(self.window)}
        return {
            "id": self.id,
            "scene": self.scene.id,
            "classes": self.classes,
            **where,
            "sensors": self.sensors,
            "seconds": self.seconds,
            "asked_again": self.asked_again,
            "warnings": self.warnings,
            "files": list(DOWNLOADS),
            "has_scores": self.has_scores,
        }

    def point(self, row: int, column: int, minimum: int = 0) -> dict[str, Any] | None:
        """What is known of a pixel of the scene, as in the page's interface; None outside the map.

        Below a minimum score, in percent, it is "none", and ``below_minimum`` names its class.
        """
        inside = row - self.window[0], column - self.window[1]
        if not (0 <= inside[0] < self.window[2] and 0 <= inside[1] < self.window[3]):
            return None
        [value] = _read_pixel(self.geotiff, inside)
        if value == NODATA_CLASS:
            return None
        entry = next(entry for entry in self.entries if entry.value == value)
        [percent] = _read_pixel(self.confidence, inside)
        if self.has_scores:
            names = [entry.name for entry in self.entries if entry.value != NONE_CLASS]
            percents = _read_pixel(sibling(self.geotiff, "_probabilities.tif"), inside)
        else:
            names, percents = [entry.name], [percent]
        scores = [{"name": name, "score": percent / 100} for name, percent in zip(names, percents, strict=True)]
        [coverage] = _read_pixel(sibling(self.geotiff, "_coverage.tif"), inside)
        below_minimum = None
        if percent < minimum and value != NONE_CLASS:
            entry, below_minimum = NONE, entry.name
        return {
            "name": entry.name,
            "color": list(entry.color),
            "value": entry.value,
            "below_minimum": below_minimum,
            "scores": sorted(scores, key=lambda score: -score["score"]),
            "coverage": next((known.name for known in COVERAGE_LEGEND if known.value == coverage), None),
            "coordinates": self.scene.place.coordinates(row, column),
        }

    def download(self, kind: str) -> tuple[Path, str]:
        """A file to download, of those in the page's interface, and its name; :meth:`make_polygons` writes polygons."""
        return sibling(self.geotiff, DOWNLOADS[kind]), f"{self.scene.files.name}_map{DOWNLOADS[kind]}"

    def make_polygons(self) -> None:
        """Write the polygons, if that has not been done.

        Raises:
            DataError: they cannot be written.
        """
        path, _ = self.download("geopackage")
        if not path.exists():
            names: Mapping[int, str] = {entry.value: entry.name for entry in self.entries}
            write_geopackage(path, [polygon_layer("map", self.geotiff, names)])


def _read_pixel(path: Path, pixel: tuple[int, int]) -> list[int]:
    """The values of all bands at a (row, column)."""
    with open_raster(path) as dataset:
        return dataset.read(window=PixelWindow(pixel[1], pixel[0], 1, 1))[:, 0, 0].tolist()
