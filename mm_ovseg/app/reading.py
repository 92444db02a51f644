"""How the files of a scene are read: their bands, units and ranges, as visitors see and change them."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from mm_ovseg.data.pair_reader import image_readers
from mm_ovseg.errors import ConfigError
from mm_ovseg.raster import ImageReader, RasterSource

__all__ = ["SAR_UNITS", "describe_reading", "with_reading"]

SAR_UNITS = {"8bit": "8bit", "dB": "db", "power": "power", "amplitude": "amplitude"}  # on the page -> in the config


def with_reading(cfg: CfgNode, reading: Mapping[str, Any] | None) -> CfgNode:
    """A config that reads files as a visitor says.

    Args:
        cfg: a config; it is not changed.
        reading: ``rgb_range``, [low, high]; ``sar_range``, one [low, high], or a list of one for each band;
            ``rgb_bands`` and ``sar_bands``, 1-based; ``sar_unit``, a key of :data:`SAR_UNITS`. None, also for the
            whole, means what the config says.

    Raises:
        ConfigError: a value has another form.
    """
    cfg = cfg.clone()
    cfg.defrost()
    reading = {} if reading is None else reading
    if not isinstance(reading, Mapping):
        raise ConfigError("The units and ranges are not in the form that the page sends.")
    for name, node, key in (("rgb", cfg.INPUT.RGB, "RGB"), ("sar", cfg.INPUT.SAR, "SAR")):
        if (bands := reading.get(f"{name}_bands")) is not None:
            if not isinstance(bands, list) or not all(type(band) is int for band in bands):
                raise ConfigError(f"The {key} bands are not whole numbers; give numbers such as 3, 2, 1.")
            node.BANDS = bands
        if (limits := reading.get(f"{name}_range")) is not None:
            of_bands = name == "sar" and isinstance(limits, list) and isinstance(next(iter(limits), None), list)
            if not all(map(_is_range, limits if of_bands else [limits])):
                raise ConfigError(f"The {key} range is not two numbers, the lower one first; correct it.")
            node.RANGE = limits
    if (unit := reading.get("sar_unit")) is not None:
        if not isinstance(unit, str) or unit not in SAR_UNITS:
            raise ConfigError(f"The SAR unit is unknown; choose one of {', '.join(SAR_UNITS)}.")
        cfg.INPUT.SAR.SCALE = SAR_UNITS[unit]
    cfg.freeze()
    return cfg


def describe_reading(cfg: CfgNode, rgb: Sequence[Path] | None, sar: Sequence[Path] | None) -> dict[str, Any]:
    """The reading with every value filled in, and what the files declare, as in the page's interface.

    Raises:
        DataError, ConfigError: a file cannot be read in this way.
    """
    rgb_reader, sar_reader = image_readers(cfg)
    found: dict[str, Any] = dict.fromkeys(
        ("rgb_range", "rgb_bands", "sar_unit", "sar_range", "sar_bands", "rgb_unit"), None
    )
    found |= {"sar_unit_declared": False, "rgb_bands_available": 0, "sar_bands_available": 0}
    if rgb is not None:
        with RasterSource(rgb) as source:
            reader, bands, declared = _suited(rgb_reader, source)
            found |= {"rgb_bands": bands, "rgb_bands_available": len(source.bands)}
            found["rgb_range"] = list(reader.value_range) or None
            found["rgb_unit"] = declared or ("values" if reader.value_range else "8bit")
    if sar is not None:
        with RasterSource(sar) as source:
            reader, bands, declared = _suited(sar_reader, source)
            found |= {"sar_bands": bands, "sar_bands_available": len(source.bands), "sar_unit_declared": bool(declared)}
            found["sar_unit"] = next(name for name, scale in SAR_UNITS.items() if scale == reader.scale)
            found["sar_range"] = None if reader.unit.to_decibels is None else np.asarray(reader.value_range).tolist()
    return found


def _suited(reader: ImageReader, source: RasterSource) -> tuple[ImageReader, list[int], str]:
    """The reader of a file, its bands, and the unit that the file declares."""
    bands = reader.choose(source)
    return reader.suited_to(source), bands, source.unit(bands)


def _is_range(value: object) -> bool:
    """Whether a value is [low, high]."""
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and value[0] < value[1]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
