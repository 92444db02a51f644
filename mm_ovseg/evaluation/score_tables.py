"""Tables of what is tested besides the map, for the log."""

import math
from collections.abc import Mapping

from tabulate import tabulate

from mm_ovseg.evaluation.confidence import RELIABILITY_BINS
from mm_ovseg.evaluation.open_vocabulary import PARTS

__all__ = ["format_absent_names_table", "format_confidence_table"]

GROUPS = {"": "all", "-seen": "seen", "-unseen": "unseen"}  # suffix of a score: ground truth


def format_confidence_table(results: Mapping[str, float]) -> str:
    """The results of a :class:`~mm_ovseg.evaluation.confidence.ConfidenceTest` as a text table."""
    columns = [name for name in ("ECE", "ECE-raw", "AURC") if name in results]
    rows = [[group, *(_percent(results[name + suffix]) for name in columns)] for suffix, group in GROUPS.items()]
    title = f"Calibration error of the mapped class ({RELIABILITY_BINS} bins), area under risk and coverage:"
    return f"{title}\n{_table(rows, ['ground truth', *columns])}"


def format_absent_names_table(results: Mapping[str, float]) -> str:
    """The results of :class:`~mm_ovseg.evaluation.open_vocabulary.AbsentNames` as a text table."""
    parts = ("absent", *PARTS)
    rows = [[kind, *(_percent(results[f"{kind}-{part}"]) for part in parts)] for kind in ("argmax", "decision")]
    title = "Pixels by what they are mapped as, asked for names that are not there too (absent: both kinds):"
    return f"{title}\n{_table(rows, ['', *parts])}"


def _percent(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.2f}"


def _table(rows: list[list[str]], headers: list[str]) -> str:
    alignment = ("left", *("right" for _ in headers[1:]))
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True, colalign=alignment)
