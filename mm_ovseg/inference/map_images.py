"""The images that a map was made from, as the report next to it tells."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mm_ovseg.errors import DataError
from mm_ovseg.inference.map_pair import MapPair
from mm_ovseg.plain_data import parse_json, read_text

__all__ = ["acquisition_times", "date_concerns", "map_images"]


def map_images(path: Path) -> dict[str, Any] | None:
    """Kind, "rgb" or "sar" -> what the report next to a map says of its images; None if nothing is known."""
    try:
        report = parse_json(read_text(path.with_suffix(".json")))
    except (DataError, ValueError):
        return None
    if not isinstance(report, dict) or report.get("map") != path.name or not isinstance(report.get("images"), dict):
        return None
    return report["images"]


def acquisition_times(images: Mapping[str, Any] | None) -> list[datetime]:
    """The times at which images were acquired, ascending, in UTC; empty if none is known."""
    found = []
    for image in (images or {}).values():
        acquired = image.get("acquired") if isinstance(image, dict) else None
        for text in acquired if isinstance(acquired, list) else []:
            try:
                time = datetime.fromisoformat(text)
            except (TypeError, ValueError):
                continue
            found.append(time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC))
    return sorted(found)


def date_concerns(pair: MapPair, images: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """A warning if the images of the map before are later than those of the map after."""
    before, after = map(acquisition_times, images)
    if not before or not after or before[0] <= after[-1]:
        return []
    return [
        f"{pair.before} is of {before[0]:%Y-%m-%d} and {pair.after} of {after[-1]:%Y-%m-%d}, which is earlier; "
        "exchange --before and --after."
    ]
