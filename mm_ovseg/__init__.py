"""mm_ovseg: open-vocabulary segmentation of optical and SAR image pairs, on Detectron2.

Importing the package imports nothing else, so that its command line responds at once. ``from mm_ovseg import
add_mm_ovseg_config`` (or ``data``, or ``modeling``) also registers the models, the dataset mappers and the built-in
datasets; so does importing :mod:`mm_ovseg.engine` or :mod:`mm_ovseg.inference`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["add_mm_ovseg_config", "data", "modeling"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    rooms = {room: importlib.import_module(f"{__name__}.{room}") for room in ("data", "modeling", "baselines")}
    return rooms.get(name) or importlib.import_module(f"{__name__}.config").add_mm_ovseg_config
