"""Two class maps of one place at two dates: what changed into what, and where water came and went."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mm_ovseg
from mm_ovseg.data.input_files import raster_inputs
from mm_ovseg.errors import ConfigError
from mm_ovseg.files import check_outputs, write_json
from mm_ovseg.inference.areas import measure_values
from mm_ovseg.inference.change_files import (
    change_assets,
    change_outputs,
    flood_path,
    write_change_polygons,
    write_change_raster,
    write_change_table,
)
from mm_ovseg.inference.change_matrix import measure_changes
from mm_ovseg.inference.deliverables import STAC, TABLE, check_deliverables, deliver_item, deliver_table
from mm_ovseg.inference.flood import PermanentWater, flood_legend, flood_states, water_classes
from mm_ovseg.inference.map_images import date_concerns, map_images
from mm_ovseg.inference.map_item import check_on_earth
from mm_ovseg.inference.map_pair import MapPair
from mm_ovseg.inference.scene_files import check_scene_outputs, describe_grid, sibling

__all__ = ["CHANGE_DELIVERABLES", "ChangeOptions", "map_changes"]

logger = logging.getLogger(__name__)

CHANGE_DELIVERABLES = (STAC, TABLE)


@dataclass(frozen=True)
class ChangeOptions:
    """How changes are mapped and which files are written.

    Attributes:
        water: names of the classes that are water; empty for those that are called so.
        permanent: a raster of permanent water on any grid, or None.
        permanent_values: its values that mean permanent water; None for the only one besides 0.
        vector: a GeoPackage to write polygons to, or None.
        deliver: what else is written, some of :data:`CHANGE_DELIVERABLES`: "stac", a STAC item; "table", raster
            attribute tables.
    """

    water: Sequence[str] = ()
    permanent: str | os.PathLike | None = None
    permanent_values: Sequence[int] | None = None
    vector: Path | None = None
    deliver: Sequence[str] = ()


def map_changes(
    before: str | os.PathLike,
    after: str | os.PathLike,
    output: str | os.PathLike,
    options: ChangeOptions = ChangeOptions(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """Map what changed between two class maps into ``output`` and files next to it.

    ``output`` is a Cloud-Optimized GeoTIFF on the grid of the earlier map: 0 where the class is the same, 1 to 253 for
    each change from one class to another, the largest first, 255 where one of the maps has no data. With the same stem
    come ``.qml``, a style for QGIS that shows only the changes; ``.csv``, the areas of the changes; ``.json``, the
    report; and, if both maps have a class of water, ``_flood.tif`` and ``.qml``
    (:func:`~mm_ovseg.inference.flood.flood_legend`). Memory does not grow with the height of the maps.

    Args:
        before, after: see :class:`~mm_ovseg.inference.map_pair.MapPair`.
        output: the map of changes, ``.tif``.
        options: see :class:`ChangeOptions`.

    Returns:
        The report that the JSON file holds.

    Raises:
        ConfigError: ``water`` names no class of the maps, or permanent water is given but no map of floods is possible.
        DataError: a file cannot be read or written, an output would replace an input, or the maps cannot be compared.
        VocabularyError: the names of a map are not names.
    """
    output = Path(output)
    if options.permanent is None and options.permanent_values is not None:
        raise ConfigError("--permanent-values are those of --permanent; give that too, or leave them out.")
    check_deliverables(options.deliver, options.vector, CHANGE_DELIVERABLES)
    check_scene_outputs(output, options.vector)
    check_outputs(change_outputs(output, options.vector, options.deliver), _inputs(before, after, options))
    with ExitStack() as stack:
        pair = stack.enter_context(MapPair(before, after))
        if STAC in options.deliver:
            check_on_earth(pair.info.grid)
        is_water, concerns = water_classes(pair, options.water, required=options.permanent is not None)
        permanent = None
        if options.permanent is not None:
            values = options.permanent_values
            permanent = stack.enter_context(PermanentWater(options.permanent, pair.place, values, any_format=True))
            concerns += permanent.concerns()
        images = [map_images(path) for path in (pair.before, pair.after)]
        matrix = measure_changes(pair)
        report = matrix.report()
        warnings = [*pair.concerns(), *concerns, *date_concerns((pair.before, pair.after), images)]
        if not matrix.areas.pixels.sum():
            warnings.append("No pixel has data in both maps, so nothing is known of changes.")
        for warning in warnings:
            logger.warning(warning)
        grid, legend = pair.info.grid, matrix.legend()
        changes = (matrix.values(*classes) for _, *classes in pair.strips())
        write_change_raster(output, changes, grid, legend, what="change of class")
        flood, flood_report = (), None
        for path in (flood_path(output), flood_path(output).with_suffix(".qml")):
            path.unlink(missing_ok=True)  # an earlier run's; there may be none now
        if is_water is not None:
            flood, path = flood_legend(with_permanent=permanent is not None), flood_path(output)
            write_change_raster(path, _flood_strips(pair, is_water, permanent), grid, flood, what="flood")
            measured = measure_values(path)
            flood_report = {
                "map": path.name,
                "water": [entry.name for entry, water in zip(pair.classes, is_water, strict=True) if water],
                "permanent": None if permanent is None else permanent.name,
                "classes": [
                    {"name": entry.name, "value": entry.value, "color": list(entry.color), **measured.of(entry.value)}
                    for entry in flood
                ],
            }
    polygons = None
    if options.vector is not None:
        polygons = write_change_polygons(options.vector, output, matrix, flood)
    write_change_table(sibling(output, ".csv"), report)
    report = {
        "map": output.name,
        "before": {"map": str(before), "images": images[0]},
        "after": {"map": str(after), "images": images[1]},
        **report,
        "flood": flood_report,
        "polygons": polygons,
        "grid": describe_grid(grid),
        "warnings": warnings,
        "mm_ovseg_version": mm_ovseg.__version__,
    }
    if TABLE in options.deliver:
        deliver_table(output, legend, measure_values(output))
        if flood:
            deliver_table(flood_path(output), flood, measure_values(flood_path(output)))
    if STAC in options.deliver:
        assets = change_assets(output, legend, flood, options.vector)
        sources = [Path(os.path.relpath(path, output.parent)).as_posix() for path in (before, after)]
        concerns = deliver_item(grid, assets, images=images, sources=sources)
        for concern in concerns:
            logger.warning(concern)
        warnings += concerns
    write_json(sibling(output, ".json"), report)
    return report


def _inputs(
    before: str | os.PathLike, after: str | os.PathLike, options: ChangeOptions
) -> dict[str, Iterable[str | os.PathLike | None]]:
    """Description -> input paths, for :func:`mm_ovseg.files.check_outputs`."""
    maps = {"the map before": [before], "the map after": [after], "the raster of permanent water": [options.permanent]}
    reports = {
        f"the report of {what}": [sibling(Path(path), ".json")]
        for what, [path] in list(maps.items())[:2]
        if os.path.isfile(path)
    }
    return {**raster_inputs(maps), **reports}


def _flood_strips(pair: MapPair, is_water: np.ndarray, permanent: PermanentWater | None) -> Iterator[np.ndarray]:
    for row, before, after in pair.strips():
        known = None if permanent is None else permanent.read(row, 0, *before.shape)
        yield flood_states(before, after, is_water, known)
