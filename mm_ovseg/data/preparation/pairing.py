"""The RGB and the SAR file of a tile, found by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mm_ovseg.data.preparation.dropped import Dropped
from mm_ovseg.errors import DataError

__all__ = ["TilePair", "pair_tiles"]


@dataclass(frozen=True)
class TilePair:
    """A tile as published: two files that show the same ground.

    Attributes:
        name: What the files' names share, which no other tile has.
        rgb, sar: The files.
        scene: City or acquisition, where the split goes by it.
    """

    name: str
    rgb: Path
    sar: Path
    scene: str = ""


def pair_tiles(
    rgb: Sequence[Path],
    sar: Sequence[Path],
    *,
    name_of: Callable[[Path], str],
    scene_of: Callable[[str], str] = lambda name: "",
) -> tuple[list[TilePair], list[Dropped]]:
    """Pair files by name.

    Args:
        rgb, sar: The files of each kind, in any order.
        name_of: The part of a file's name that its partner shares.
        scene_of: The scene of such a name.

    Returns:
        The pairs, sorted by name, and the files that are none: without partner, or with the name of another file of
        their kind, of which the first by path is taken.

    Raises:
        DataError: There is no pair at all.
    """
    found: dict[str, dict[str, Path]] = {"RGB": {}, "SAR": {}}
    dropped = []
    for kind, paths in (("RGB", rgb), ("SAR", sar)):
        for path in sorted(paths):
            if (first := found[kind].setdefault(name_of(path), path)) is not path:
                dropped.append(Dropped(name_of(path), "the name of another tile", f"{path} besides {first}"))
    names = found["RGB"].keys() & found["SAR"].keys()
    if not names:
        raise DataError(
            f"There is no pair among {len(rgb)} RGB and {len(sar)} SAR files; are both parts of the archive there, and "
            "unpacked to the end?"
        )
    for kind, other in (("RGB", "SAR"), ("SAR", "RGB")):
        for name in found[kind].keys() - names:
            dropped.append(Dropped(name, f"no {other} file", str(found[kind][name])))
    pairs = [TilePair(name, found["RGB"][name], found["SAR"][name], scene_of(name)) for name in sorted(names)]
    return pairs, sorted(dropped, key=lambda entry: (entry.name, entry.reason, entry.detail))
