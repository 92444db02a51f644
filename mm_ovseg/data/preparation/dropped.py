"""What gave no pair, and why: named when it happens, counted at the end."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from mm_ovseg.errors import DataError

__all__ = ["BROKEN", "Dropped", "count_reasons", "drop_broken", "nothing_left"]

BROKEN = "cannot be read"  # the reason to drop a tile that is tried again in the next run


@dataclass(frozen=True)
class Dropped:
    """A tile, or a window of one, that gives no pair.

    Attributes:
        name: Of the tile or window.
        reason: Why, in words that many may share, so that they can be counted.
        detail: What was wrong with this one; empty where the reason says it all.
    """

    name: str
    reason: str
    detail: str = ""


def drop_broken(entry: Dropped, dropped: list[Dropped], strict: bool) -> None:
    """Say on stderr what is wrong with a tile that cannot be read, and add it to those that were dropped.

    Raises:
        DataError: Instead, if strict.
    """
    if strict:
        raise DataError(entry.detail)
    tqdm.write(f"left out: {entry.detail}", file=sys.stderr)
    dropped.append(entry)


def count_reasons(dropped: Sequence[Dropped]) -> dict[str, int]:
    """Number of tiles and windows that were dropped, by reason."""
    return dict(sorted(Counter(entry.reason for entry in dropped).items()))


def nothing_left(title: str, tiles: int, dropped: Sequence[Dropped]) -> DataError:
    """The error to raise when all was dropped of the ``tiles`` that the published data with that title have."""
    counts = "; ".join(f"{reason}: {count}" for reason, count in count_reasons(dropped).items())
    first = next((f"; the first: {entry.detail}" for entry in dropped if entry.detail), "")
    return DataError(f"{title}: not one of {tiles} tiles gives a pair ({counts}){first}")
