"""The flood map of two class maps: water after, not before, and not permanent."""

from collections.abc import Sequence

import numpy as np

from mm_ovseg.data.palette import LegendEntry
from mm_ovseg.data.value_mask import ValueMask
from mm_ovseg.decision import NODATA_CLASS
from mm_ovseg.errors import ConfigError
from mm_ovseg.inference.map_pair import MapPair, PairClass

__all__ = ["DRY", "PermanentWater", "flood_legend", "flood_states", "water_classes"]

# The names of classes that are water unless others are chosen: "water tower" is not.
WATER = {"water", "waters", "water body", "water bodies", "open water", "surface water"}
DRY, FLOODED, PERMANENT, RECEDED = range(4)


class PermanentWater(ValueMask):
    """A raster of permanent water, such as a layer of the Global Surface Water data; see its base for the arguments."""

    kind, whole, meaning, otherwise = "raster of permanent water", "map", "permanent water", "not permanent"
    option = "--permanent-values"


def flood_legend(*, with_permanent: bool) -> tuple[LegendEntry, ...]:
    """The values of a flood map; ``with_permanent`` says whether a raster told what permanent water is."""
    names = ("dry", "flooded", "water before and after", "receded")
    if with_permanent:
        names = ("dry", "flooded", "permanent water or water before and after", "receded")
    # As on the maps of emergency services; distinguishable for colour-blind readers.
    colors = ((235, 235, 235), (0, 190, 255), (0, 60, 136), (230, 159, 0))
    entries = enumerate(zip(names, colors, strict=True))
    return tuple(LegendEntry(name, color, False, value) for value, (name, color) in entries)


def flood_states(
    before: np.ndarray, after: np.ndarray, is_water: np.ndarray, permanent: np.ndarray | None
) -> np.ndarray:
    """The values of a flood map.

    Args:
        before, after: integers (H, W), indices of the classes of two maps, -1 for no data.
        is_water: bool (K,) of the classes.
        permanent: bool (H, W), where permanent water is, whatever the maps say; None if that is not known.

    Returns:
        uint8 (H, W), as in :func:`flood_legend`; 255 where one of the maps has no data.
    """
    wet_before, wet_after = is_water[before], is_water[after]
    states = np.where(wet_before, np.where(wet_after, PERMANENT, RECEDED), np.where(wet_after, FLOODED, DRY))
    if permanent is not None:
        states[permanent] = PERMANENT
    states[(before < 0) | (after < 0)] = NODATA_CLASS
    return states.astype(np.uint8)


def water_classes(pair: MapPair, chosen: Sequence[str], *, required: bool) -> tuple[np.ndarray | None, list[str]]:
    """Find the classes that are water.

    Args:
        pair: the maps.
        chosen: their names; empty for the classes with a synonym in :data:`WATER`.
        required: whether there must be some in both maps, even with none chosen.

    Returns:
        Bool (K,) of the classes, None if one of the maps has no class of water; and warnings, as sentences.

    Raises:
        ConfigError: a chosen name is not among the classes, or, if required, a map has no water.
    """
    if chosen:
        wanted = [" ".join(name.split()).casefold() for name in chosen]
        for name in wanted:
            if not any(_has_name(entry, name) for entry in pair.classes):
                known = ", ".join(entry.name for entry in pair.classes)
                raise ConfigError(f"--water names '{name}', but the classes of the maps are {known}; give one of them.")
        is_water = [any(_has_name(entry, name) for name in wanted) for entry in pair.classes]
    else:
        is_water = [any(_has_name(entry, name) for name in WATER) for entry in pair.classes]
    for path, has_it in ((pair.before, "in_before"), (pair.after, "in_after")):
        if not any(water and getattr(entry, has_it) for entry, water in zip(pair.classes, is_water, strict=True)):
            message = f"{path} has no class of water, so there is no flood map; if one of its classes is, name it with "
            if chosen or required:
                raise ConfigError(f"{message}--water.")
            return None, [f"{message}--water."]
    return np.array(is_water), []


def _has_name(entry: PairClass, name: str) -> bool:
    return name in entry.synonyms or name == entry.name.casefold()
