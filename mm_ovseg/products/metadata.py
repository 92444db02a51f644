"""Values in the metadata of products."""

import math
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mm_ovseg.errors import DataError
from mm_ovseg.plain_data import parse_json, parse_xml, read_text

__all__ = ["find_text", "number_or_none", "read_json", "read_xml", "tag_name", "to_number", "to_time"]

TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.(\d+))?Z?")


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        DataError: It cannot be read, is malformed, or declares a document type or entities.
    """
    try:
        return parse_xml(read_text(path))
    except ValueError as error:
        raise DataError(f"{path} cannot be read as XML ({error}); download the product again.") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: It cannot be read, or is malformed.
    """
    try:
        return parse_json(read_text(path))
    except ValueError as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); download the product again.") from error


def tag_name(element: ElementTree.Element) -> str:
    """The name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def find_text(root: ElementTree.Element, *names: str) -> str:
    """The text of the first element with one of these names, in any namespace and at any depth; "" if there is none."""
    return next(((element.text or "").strip() for element in root.iter() if tag_name(element) in names), "")


def to_number(text: str, name: str, path: Path) -> float:
    """The number that a text is.

    Args:
        text: The text.
        name, path: What it is the value of and in which file, for the message.

    Raises:
        DataError: It is not a finite number.
    """
    number = number_or_none(text)
    if number is None:
        has = f"has {name} '{text}', which is not a number" if text else f"lacks {name}"
        raise DataError(f"{path} {has}; download the product again.")
    return number


def number_or_none(text: str) -> float | None:
    """The finite number that a text is; None if it is not one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def to_time(text: str) -> datetime | None:
    """The time, in UTC, that a text such as "2022-01-25T10:52:29.024Z" is; None if it is not one."""
    match = TIME.fullmatch(text.strip())
    if match is None:
        return None
    try:
        time = datetime.fromisoformat(match[1])  # before Python 3.11 it reads neither Z nor any number of digits
    except ValueError:
        return None
    return time.replace(microsecond=int((match[2] or "0")[:6].ljust(6, "0")), tzinfo=timezone.utc)
