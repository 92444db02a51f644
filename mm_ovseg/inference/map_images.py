"""The images that a map was made from: what is known of them, and when they were acquired."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mm_ovseg.errors import DataError
from mm_ovseg.plain_data import parse_json, read_text
from mm_ovseg.products.stac.stac_document import parse_time
from mm_ovseg.raster import open_raster
from mm_ovseg.raster.remote import is_address

__all__ = ["MapTimes", "acquisition_times", "date_concerns", "item_addresses", "map_images", "map_times"]

TIFF_TIME = "%Y:%m:%d %H:%M:%S"


@dataclass(frozen=True)
class MapTimes:
    """When the images of a map were acquired.

    Attributes:
        start, end: in UTC.
        about: where they are known from, as a sentence.
        certain: whether they are those of the acquisition.
    """

    start: datetime
    end: datetime
    about: str
    certain: bool


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
        found += map(parse_time, acquired if isinstance(acquired, list) else [])
    return sorted(time for time in found if time is not None)


def item_addresses(images: Mapping[str, Any] | None) -> list[str]:
    """The addresses of the STAC items that images were made from."""
    lists = [image.get("items") for image in (images or {}).values() if isinstance(image, dict)]
    items = [item for items in lists if isinstance(items, list) for item in items if isinstance(item, dict)]
    return list(dict.fromkeys(item["source"] for item in items if is_address(item.get("source"))))


def map_times(images: Iterable[Mapping[str, Any] | None], rasters: Iterable[Path]) -> MapTimes:
    """When the images of a map were acquired.

    That is what their products tell; or else the time in the tags of their files, which for TIFF may be that of
    processing; or else that of the call.

    Args:
        images: what is known of them, as from :func:`map_images`.
        rasters: their files.
    """
    if times := sorted(time for of_map in images for time in acquisition_times(of_map)):
        return MapTimes(times[0], times[-1], "The time is that of the acquisition.", certain=True)
    if times := sorted(time for path in rasters if (time := _tagged_time(path)) is not None):
        about = "The time is that in the tags of the images, which may be when they were processed."
        return MapTimes(times[0], times[-1], about, certain=False)
    now = datetime.now(timezone.utc).replace(microsecond=0)
    about = "The images do not tell when they were acquired, so the time is when the map was made."
    return MapTimes(now, now, about, certain=False)


def date_concerns(paths: Sequence[Path], images: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """A warning if the images of the first map are later than those of the second."""
    before, after = map(acquisition_times, images)
    if not before or not after or before[0] <= after[-1]:
        return []
    return [
        f"{paths[0]} is of {before[0]:%Y-%m-%d} and {paths[1]} of {after[-1]:%Y-%m-%d}, which is earlier; exchange "
        "--before and --after."
    ]


def _tagged_time(path: Path) -> datetime | None:
    try:
        with open_raster(path, any_format=True) as dataset:
            acquired = dataset.tags(ns="IMAGERY").get("ACQUISITIONDATETIME", "")
            written = dataset.tags().get("TIFFTAG_DATETIME", "")
    except DataError:
        return None
    if (time := parse_time(acquired)) is not None:
        return time
    try:
        return datetime.strptime(written.strip(), TIFF_TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        return parse_time(written)
