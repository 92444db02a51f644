"""Numbers and tables of the reports."""

from collections.abc import Sequence

import numpy as np
from tabulate import tabulate

__all__ = ["markdown", "spread"]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def markdown(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """A table whose first column is text."""
    alignment = ("left", *["right"] * (len(headers) - 1))
    return tabulate(rows, headers, tablefmt="github", colalign=alignment, disable_numparse=True)
