"""Values of label rasters and of polygons' attributes, as text."""

import numpy as np

__all__ = ["value_text"]


def value_text(value: object) -> str:
    """A value as people write it: 3.0 is "3", and no value (None, NaN) is ""."""
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip()
