"""Text files that people write: UTF-8; and as YAML or JSON plain values only, none that grow beyond their text."""

import json
import os
from pathlib import Path
from typing import Any

import yaml

from mm_ovseg.errors import DataError, MMOVSegError, brief_reason

__all__ = ["parse_json", "parse_yaml", "read_text"]

MOST_CHARACTERS = 10_000_000
MOST_VALUES = 1_000_000  # with every alias written out


def read_text(path: str | os.PathLike, error: type[MMOVSegError] = DataError) -> str:
    r"""Read a text file in UTF-8, with or without the byte-order mark that Windows writes.

    Args:
        path: the file.
        error: what to raise.

    Returns:
        The text without the mark, its lines separated by ``\n``.

    Raises:
        MMOVSegError: as of ``error``; the file cannot be read, or is in another encoding.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as reason:  # ValueError: a path with a NUL
        raise error(f"{path} cannot be read ({getattr(reason, 'strerror', reason)}); check its name.") from reason
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise error(f"{path} is not UTF-8; save it as UTF-8.") from reason
    if "\0" in text:  # UTF-16, whose ASCII characters have a NUL each, or no text at all
        raise error(f"{path} is not UTF-8; save it as UTF-8.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_yaml(text: str) -> Any:
    """Read a YAML document of texts, numbers, lists and mappings.

    Raises:
        ValueError: it is malformed, too large, nested too deeply, makes other objects, or grows without bounds by
            aliases that hold aliases; the message is one line.
    """
    _check_length(text)
    try:
        _count_values(yaml.compose(text, Loader=yaml.SafeLoader), {})
        return yaml.safe_load(text)
    except Exception as error:  # what follows an explicit tag makes PyYAML fail in any way
        raise ValueError(_reason(error)) from error


def parse_json(text: str) -> Any:
    """Read JSON.

    Raises:
        ValueError: it is malformed, too large or nested too deeply; the message is one line.
    """
    _check_length(text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(_reason(error)) from error


def _check_length(text: str) -> None:
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"it has {len(text)} characters, more than {MOST_CHARACTERS}")


def _count_values(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Of a node, with what aliases stand for; nodes that were counted before are ``known`` by their ids."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MOST_VALUES  # what a node costs that holds itself
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_count_values(part, known) for part in parts)
    if known[id(node)] > MOST_VALUES:
        raise ValueError(f"its aliases stand for more than {MOST_VALUES} values")
    return known[id(node)]


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split()) if isinstance(error, ValueError | yaml.YAMLError) else brief_reason(error)
