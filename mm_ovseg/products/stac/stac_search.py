"""Finding the optical and the SAR items that show an area at a time, and keeping the choice."""

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import shapely
from rasterio import Affine

from mm_ovseg.errors import DataError
from mm_ovseg.files import complete_file
from mm_ovseg.products.product import Kind
from mm_ovseg.products.stac.date_range import DateRange, parse_dates
from mm_ovseg.products.stac.kept_product import area_identity, source_identity
from mm_ovseg.products.stac.stac_catalogue import Wanted, catalogue_items
from mm_ovseg.products.stac.stac_document import Item, item_of
from mm_ovseg.products.stac.stac_item import read_image
from mm_ovseg.raster import Grid
from mm_ovseg.raster.crs import LONGITUDE_LATITUDE
from mm_ovseg.raster.vector import read_polygons

__all__ = ["FoundItems", "find_items"]

EARTH = Grid(360_000, 180_000, LONGITUDE_LATITUDE, Affine(0.001, 0, -180, 0, -0.001, 90))
SENSORS: dict[Kind, str] = {"rgb": "optical", "sar": "SAR"}
COVER_STEPS = 20  # to which the covered share of an area is rounded, so that few clouds outweigh a narrow strip
MIN_COVERED = 0.99  # of an area, below which there is a warning
DAYS_AROUND = 30  # if the dates give no item, those within so many days of them are listed
NAMED = 5
TILE = ("grid:code", "s2:mgrs_tile")
NEWEST = ("s2:processing_baseline", "updated", "created")


@dataclass(frozen=True)
class FoundItems:
    """The items that were chosen.

    Attributes:
        rgb, sar: Paths or addresses of the items of one optical and one SAR acquisition, for
            :func:`~mm_ovseg.products.prepare_image`; empty if there is none.
        about: What was asked for, and what was chosen, ready for JSON.
        warnings: Sentences that the user must read.
    """

    rgb: tuple[str, ...]
    sar: tuple[str, ...]
    about: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    item: Item
    ground: shapely.Geometry


def find_items(
    sources: Sequence[str],
    *,
    area: Path | None,
    area_layer: str | None = None,
    dates: str | None = None,
    collections: Sequence[str] = (),
    folder: Path,
) -> FoundItems:
    """Find one optical and one SAR acquisition of an area.

    An acquisition is all items of one collection, platform, orbit and day (UTC). Of several, the optical one is chosen
    that covers most of the area, in steps of 5%, then the one with the least clouds, then the latest. The SAR one is
    that which covers most, then the nearest in time to the optical one (without it, the latest). Of a tile that was
    processed several times, the newest version counts.

    The choice is kept in ``folder / "search.json"``: the same search there gives the same items, without any request.

    Args:
        sources: Items, lists of items, static catalogues or collections, or APIs: paths or addresses.
        area, area_layer: Vector file and layer; None for no area, or if it has only one. APIs need it.
        dates: See :func:`~mm_ovseg.products.date_range.parse_dates`; None for any time. APIs need it.
        collections: Names of collections; empty for all.
        folder: Where the choice is kept.

    Raises:
        DataError: There is no such item (the message says what there is), or a document cannot be read.
        ConfigError: The dates are not understood, an API lacks what it needs, or a package is not installed.
    """
    wanted_dates = DateRange() if dates is None else parse_dates(dates)
    request = {"sources": [source_identity(os.fspath(source)) for source in sources], "dates": dates}
    request |= {"area": area_identity(area, area_layer), "collections": list(collections)}
    record = folder / "search.json"
    if (kept := _load(record, request)) is not None:
        return kept
    ground = None if area is None else _area(area, area_layer)
    wanted = Wanted(None if ground is None else ground.bounds, wanted_dates, tuple(collections))
    items, refused = _candidates(sources, wanted, ground)
    rgb = _choose(items["rgb"], ground, None)
    sar = _choose(items["sar"], ground, rgb[0].item.acquired if rgb else None)
    if not rgb and not sar:
        raise DataError(_nothing(sources, wanted, ground, refused))
    about = {"request": request, "rgb": _listed(rgb), "sar": _listed(sar)}
    warnings = _warnings({"rgb": rgb, "sar": sar}, ground, refused)
    found = FoundItems(_sources(rgb), _sources(sar), about, tuple(warnings))
    content = {"rgb": found.rgb, "sar": found.sar, "about": about, "warnings": found.warnings}
    with complete_file(record) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return found


def _load(record: Path, request: Mapping[str, Any]) -> FoundItems | None:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        if content["about"]["request"] != request:
            return None
        return FoundItems(*(tuple(content[kind]) for kind in SENSORS), content["about"], tuple(content["warnings"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _area(path: Path, layer: str | None) -> shapely.Geometry:
    """The area in longitude and latitude."""
    polygons = read_polygons(path, EARTH, layer=layer, layer_option="--aoi-layer").geometries
    if not len(polygons):
        raise DataError(f"The area in {path} has no polygons on the Earth; check its coordinates.")
    return shapely.union_all(polygons)


def _candidates(
    sources: Sequence[str], wanted: Wanted, ground: shapely.Geometry | None
) -> tuple[dict[Kind, list[_Candidate]], dict[Kind, list[str]]]:
    """The items of each kind that concern what is wanted; and why others of that kind cannot be mapped."""
    found: dict[Kind, list[_Candidate]] = {"rgb": [], "sar": []}
    refused: dict[Kind, list[str]] = {"rgb": [], "sar": []}
    seen = set()
    for source in sources:
        for document, place in catalogue_items(os.fspath(source), wanted):
            item = item_of(document, place)
            shape = _shape(item)
            if (
                (item.collection, item.id) in seen
                or not wanted.dates.holds(item.acquired)
                or (wanted.collections and item.collection not in wanted.collections)
                or (ground is not None and not shapely.intersects(shape, ground))
            ):
                continue
            seen.add((item.collection, item.id))
            reasons: dict[Kind, str] = {}
            for kind, of_kind in found.items():
                try:
                    read_image(item, kind)
                    of_kind.append(_Candidate(item, shape))
                except DataError as error:
                    reasons[kind] = str(error)
            if len(reasons) == len(found):
                own: Kind = "sar" if _is_sar(item) else "rgb"
                refused[own].append(reasons[own])
    return found, refused


def _shape(item: Item) -> shapely.Geometry:
    """The ground that an item shows, in longitude and latitude; empty if it does not tell."""
    if item.geometry is None:
        return shapely.Polygon()
    try:
        shape = shapely.geometry.shape(item.geometry)
        shape = shape if shape.is_valid else shapely.make_valid(shape)
    except Exception as error:  # shapely can fail in any way on damaged GeoJSON
        raise DataError(f"The item {item.id} has a damaged geometry; get it again.") from error
    return shapely.force_2d(shape)


def _choose(
    candidates: Sequence[_Candidate], ground: shapely.Geometry | None, near: datetime | None
) -> list[_Candidate]:
    """The items of the best acquisition, the one that covers most last, so that it counts where they overlap."""
    acquisitions = defaultdict(list)
    for candidate in candidates:
        item = candidate.item
        day = item.acquired.date() if item.acquired else None
        acquisitions[item.collection, item.text("platform"), item.text("sat:relative_orbit"), day].append(candidate)

    def order(members: list[_Candidate]) -> tuple:
        share = -round(_share(members, ground) * COVER_STEPS)
        clouds = sum(_clouds(member.item) for member in members) / len(members)
        start = min(_time(member.item) for member in members)
        age = -start.timestamp() if near is None else abs((start - near).total_seconds())
        return share, clouds, age, [member.item.id for member in members]

    best = min((_newest(members) for members in acquisitions.values()), key=order, default=[])
    return sorted(best, key=lambda member: (_share([member], ground), member.item.id))


def _newest(members: Sequence[_Candidate]) -> list[_Candidate]:
    """The newest version of each tile."""
    versions = sorted(members, key=lambda member: (*map(member.item.text, NEWEST), member.item.id))
    tiles = {}
    for member in versions:
        name = next((member.item.text(key) for key in TILE if member.item.text(key)), member.item.id)
        tiles[name] = member
    return sorted(tiles.values(), key=lambda member: member.item.id)


def _share(members: Sequence[_Candidate], ground: shapely.Geometry | None) -> float:
    """The share of the area that items cover together."""
    shapes = shapely.union_all([member.ground for member in members])
    return 1.0 if ground is None else shapes.intersection(ground).area / ground.area


def _clouds(item: Item) -> float:
    """Percent; 100 for an optical item that does not tell, and 0 for SAR."""
    value = item.properties.get("eo:cloud_cover")
    if isinstance(value, int | float):
        return float(value)
    return 0.0 if _is_sar(item) else 100.0


def _is_sar(item: Item) -> bool:
    return any(key.startswith("sar:") for key in item.properties)


def _time(item: Item) -> datetime:
    return item.acquired or datetime.min.replace(tzinfo=timezone.utc)


def _sources(members: Sequence[_Candidate]) -> tuple[str, ...]:
    return tuple(member.item.source for member in members)


def _listed(members: Sequence[_Candidate]) -> list[dict[str, Any]]:
    return [
        {
            "id": member.item.id,
            "collection": member.item.collection,
            "acquired": member.item.acquired and member.item.acquired.isoformat(),
            "cloud_cover": member.item.properties.get("eo:cloud_cover"),
            "source": member.item.source,
        }
        for member in members
    ]


def _warnings(
    chosen: Mapping[Kind, Sequence[_Candidate]],
    ground: shapely.Geometry | None,
    refused: Mapping[Kind, Sequence[str]],
) -> list[str]:
    warnings = []
    for (kind, members), (_, other) in zip(chosen.items(), reversed(SENSORS.items()), strict=True):
        if not members:
            reason = f" ({refused[kind][0].rstrip('.')})" if refused[kind] else ""
            warnings.append(
                f"No {SENSORS[kind]} item was found{reason}, so the map is made from the {other} image alone."
            )
        elif (share := _share(members, ground)) < MIN_COVERED:
            warnings.append(f"The {SENSORS[kind]} items cover only {share:.0%} of the area.")
    return warnings


def _nothing(
    sources: Sequence[str],
    wanted: Wanted,
    ground: shapely.Geometry | None,
    refused: Mapping[Kind, Sequence[str]],
) -> str:
    """The message if nothing was found: what there is instead."""
    if reasons := [*refused["rgb"], *refused["sar"]]:
        return f"None of the items found can be mapped: {reasons[0]}"
    if wanted.dates == DateRange():
        return "No optical or SAR item of the area was found; check the area, --collections and the catalogue."
    around = Wanted(wanted.box, wanted.dates.widened(DAYS_AROUND), wanted.collections)
    found, _ = _candidates(sources, around, ground)
    near = sorted((candidate.item for of_kind in found.values() for candidate in of_kind), key=_time)
    message = f"No optical or SAR item of the area was found for {wanted.dates}"
    if not near:
        return f"{message}, nor within {DAYS_AROUND} days; check the area, --date, --collections and the catalogue."
    listed = ", ".join(map(_described, near[:NAMED])) + (f" and {len(near) - NAMED} more" if near[NAMED:] else "")
    return f"{message}; within {DAYS_AROUND} days there are {listed}: give another --date."


def _described(item: Item) -> str:
    clouds = item.properties.get("eo:cloud_cover")
    cover = f", {clouds:.0f}% cloud" if isinstance(clouds, int | float) else ""
    return f"{_time(item):%Y-%m-%d} ({item.collection or item.id}{cover})"
