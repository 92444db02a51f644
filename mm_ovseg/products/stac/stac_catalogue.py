"""The items of static STAC catalogues, and of APIs through pystac-client, that may concern an area and time."""

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from mm_ovseg.errors import ConfigError, DataError, MMOVSegError, brief_reason
from mm_ovseg.plain_data import parse_json
from mm_ovseg.products.stac.date_range import DateRange
from mm_ovseg.products.stac.stac_document import parse_time, read_document, resolve
from mm_ovseg.raster.remote import fetch_text, is_address, without_query

__all__ = ["Wanted", "catalogue_items"]

MAX_DOCUMENTS = 5000  # of a static catalogue
MAX_ITEMS = 1000  # of an API's answer
PAGE = 100
Box = tuple[float, float, float, float]  # west, south, east, north in degrees


@dataclass(frozen=True)
class Wanted:
    """What is searched for.

    Attributes:
        box: Longitudes and latitudes; None for everywhere.
        dates: When.
        collections: Names of collections; empty for all.
    """

    box: Box | None
    dates: DateRange
    collections: tuple[str, ...] = ()


def catalogue_items(source: str, wanted: Wanted) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The items of an item, list of items, static catalogue or collection, or API, given by path or address.

    Static catalogues give all items of collections that may concern what is wanted; APIs are asked for it.

    Yields:
        Each item, and its path or address.

    Raises:
        DataError: A document cannot be read, is of another kind, or leads to too many.
        ConfigError: An API is searched without an area, or pystac-client is not installed.
    """
    waiting, seen = deque([source]), {source}
    while waiting:
        place = waiting.popleft()
        document = read_document(place)
        kind = document.get("type")
        if kind == "Feature":
            yield document, place
        elif kind == "FeatureCollection":
            yield from ((item, _own_address(item, place)) for item in _dicts(document.get("features")))
        elif kind not in ("Catalog", "Collection"):
            raise DataError(f"{_shown(place)} is not a STAC item, collection or catalogue; give one.")
        elif (search := _search_link(document, place)) is not None:
            name = document.get("id") if kind == "Collection" else None
            yield from _found_by_api(search, wanted, [name] if isinstance(name, str) else wanted.collections)
        elif kind == "Catalog" or _may_concern(document, wanted):
            for link in _links(document, "child", "item"):
                if (target := _target(place, link)) not in seen:
                    seen.add(target)
                    waiting.append(target)
            if len(seen) > MAX_DOCUMENTS:
                raise DataError(
                    f"{_shown(source)} leads to more than {MAX_DOCUMENTS} documents; give one of its collections."
                )


def _search_link(document: Mapping[str, Any], place: str) -> str | None:
    """The address at which the document's API is searched; None for static ones."""
    if (search := next(_links(document, "search"), None)) is not None:
        return resolve(place, search)
    if document.get("type") == "Collection" and next(_links(document, "items"), None) is not None:
        root = _target(place, next(_links(document, "root"), place))
        if root != place and (search := next(_links(read_document(root), "search"), None)) is not None:
            return resolve(root, search)
    return None


def _found_by_api(search: str, wanted: Wanted, collections: Sequence[str]) -> Iterator[tuple[Mapping[str, Any], str]]:
    if wanted.box is None or wanted.dates == DateRange():
        raise ConfigError(f"Searching {_shown(search)} needs an area and a date; give --aoi and --date.")
    try:
        from pystac_client import ItemSearch
    except ImportError as error:
        raise ConfigError(
            f"Searching a STAC API needs pystac-client ({error}); run: pip install 'mm_ovseg[stac]'."
        ) from error
    asked = {"bbox": wanted.box, "datetime": str(wanted.dates), "collections": list(collections) or None}
    count = 0
    try:
        # By GET, and so by a box: the outline of an area may be too long for an address.
        found = ItemSearch(search, method="GET", stac_io=_reader(), limit=PAGE, max_items=MAX_ITEMS + 1, **asked)
        for item in _dicts(list(found.items_as_dicts())):
            count += 1
            yield item, _own_address(item, search)
    except MMOVSegError:
        raise
    except Exception as error:  # pystac-client can fail in any way on what a server answers
        raise DataError(f"{_shown(search)} cannot be searched ({brief_reason(error)}); check the address.") from error
    if count > MAX_ITEMS:
        raise DataError(
            f"{_shown(search)} has more than {MAX_ITEMS} items there; name --collections, or give a shorter --date."
        )


def _reader() -> Any:
    """pystac-client's reader of an API, which here makes no requests of its own."""
    from pystac_client.stac_api_io import StacApiIO

    class Reader(StacApiIO):
        def request(self, href: str, method: str | None = None, headers: Any = None, parameters: Any = None) -> str:
            if (method or "GET").upper() != "GET":
                raise DataError(f"{_shown(href)} asks for {method}, which is refused; give another catalogue.")
            query = urlencode(parameters or {})
            return fetch_text(f"{href}{'&' if '?' in href else '?'}{query}" if query else href)

        def json_loads(self, txt: str, *_: Any, **__: Any) -> Any:
            return parse_json(txt)

    return Reader(max_retries=None)


def _may_concern(collection: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether the extent that a collection declares meets what is wanted; True if it declares none."""
    try:
        boxes, times = collection["extent"]["spatial"]["bbox"], collection["extent"]["temporal"]["interval"]
        box, (start, end) = [float(number) for number in boxes[0]], times[0]
        west, south, east, north = box if len(box) == 4 else (*box[:2], *box[3:5])
    except (KeyError, IndexError, TypeError, ValueError):
        return True
    start, end = parse_time(start), parse_time(end)
    dates = wanted.dates
    if (start and dates.end and start > dates.end) or (end and dates.start and end < dates.start):
        return False
    if wanted.box is None or west > east:  # across the antimeridian
        return True
    return west <= wanted.box[2] and east >= wanted.box[0] and south <= wanted.box[3] and north >= wanted.box[1]


def _own_address(item: Mapping[str, Any], place: str) -> str:
    """Where an item of a list is by itself.

    Raises:
        DataError: It does not tell.
    """
    own = next(_links(item, "self"), None)
    if own is None or not is_address(target := resolve(place, own)):
        raise DataError(f"{_shown(place)} lists the item {item.get('id')!r} without its address; give the item itself.")
    return target


def _target(place: str, link: str) -> str:
    """What a document links to.

    Raises:
        DataError: It is on the web, and the link is not.
    """
    target = resolve(place, link)
    if is_address(place) and not is_address(target):
        raise DataError(f"{_shown(place)} links to {link}, which is refused; give another catalogue.")
    return target


def _links(document: Mapping[str, Any], *kinds: str) -> Iterator[str]:
    for link in _dicts(document.get("links")):
        if link.get("rel") in kinds and isinstance(link.get("href"), str):
            yield link["href"]


def _dicts(values: Any) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _shown(place: str | os.PathLike) -> str:
    return without_query(place) if is_address(place) else os.fspath(place)
