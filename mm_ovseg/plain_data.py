"""Text files of users: UTF-8, and YAML or JSON with plain values only, without exponential aliases."""

import json
import os
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from mm_ovseg.errors import DataError, MMOVSegError, brief_reason

__all__ = ["parse_json", "parse_table", "parse_xml", "parse_yaml", "read_text", "xml_text"]

MAX_CHARACTERS = 10_000_000
MAX_XML_CHARACTERS = 2**26  # of a mosaic of many files, or the annotation of a long radar product
MAX_VALUES = 1_000_000  # with all aliases expanded
BOOL, INT, MERGE, TEXT = (f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "merge", "str"))
NULLS = ("", "~", "null", "Null", "NULL")
NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?")
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Loader(yaml.SafeLoader):
    """Reads Booleans and integers as in YAML 1.2, and refuses duplicate keys.

    In YAML 1.1, which PyYAML implements, ``no`` is false, ``010`` is 8 and ``12:30`` is 750.
    """

    yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag not in (BOOL, INT)]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._checked: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge the mappings that ``<<`` names; called first, while a node has only its own keys."""
        if id(node) not in self._checked:
            self._checked.add(id(node))
            written: dict[Hashable, str] = {}
            for key_node in (key_node for key_node, _ in node.value if key_node.tag != MERGE):
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, Hashable):
                    continue  # construct_mapping refuses it
                if key in written:
                    raise ValueError(f"its keys '{written[key]}' and '{key_node.value}' are the same")
                written[key] = key_node.value
        super().flatten_mapping(node)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A decimal number, even with leading zeros."""
        return int(node.value) if NUMBER.fullmatch(node.value) else super().construct_yaml_int(node)


_Loader.add_implicit_resolver(BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(INT, re.compile(r"[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_constructor(INT, _Loader.construct_yaml_int)


def read_text(path: str | os.PathLike, error: type[MMOVSegError] = DataError) -> str:
    r"""Read a text file in UTF-8, with or without the byte-order mark that Windows writes.

    Args:
        path: the file.
        error: class of the error to raise.

    Returns:
        The text without the mark, its lines separated by ``\n``.

    Raises:
        MMOVSegError: of class ``error``; the file cannot be read, or has another encoding.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as reason:  # ValueError: a path with a NUL
        raise error(f"{path} cannot be read ({getattr(reason, 'strerror', reason)}); check its name.") from reason
    try:
        if b"\0" in content:  # UTF-16, in which ASCII characters contain NUL, or no text at all
            raise ValueError("it contains NUL")
        text = content.decode("utf-8-sig")
    except ValueError as reason:
        raise error(f"{path} is not UTF-8; save it as UTF-8.") from reason
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_yaml(text: str) -> Any:
    """Read a YAML document of strings, numbers, lists and mappings.

    Booleans and integers are those of YAML 1.2: ``no`` is a string, and ``010`` is 10.

    Raises:
        ValueError: it is malformed, too large, nested too deeply, has duplicate keys, creates other objects, or grows
            without bounds by nested aliases; the message is one line.
    """
    _check_length(text)
    try:
        _count_values(yaml.compose(text, Loader=_Loader), {})
        return yaml.load(text, Loader=_Loader)
    except Exception as error:  # PyYAML can fail in any way on values with explicit tags
        raise ValueError(_reason(error)) from error


def parse_json(text: str) -> Any:
    """Read JSON.

    Raises:
        ValueError: it is malformed, too large, nested too deeply, or has duplicate keys; the message is one line.
    """
    _check_length(text)
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(_reason(error)) from error


def parse_xml(text: str) -> ElementTree.Element:
    """Read XML without a document type, and so without entities that could grow without bounds or name other files.

    Raises:
        ValueError: it is malformed, too large, or declares a document type; the message is one line.
    """
    if len(text) > MAX_XML_CHARACTERS:
        raise ValueError(f"it has more than {MAX_XML_CHARACTERS} characters")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("it declares a document type or entities, which are refused")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise ValueError(_reason(error)) from error


def xml_text(text: str) -> str:
    """The text with characters replaced that XML cannot hold."""
    return NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def parse_table(text: str) -> dict[str, str | None]:
    """Read 'key: text' lines, or a JSON object of strings, with all keys and values as written.

    YAML's quotes, comments and braces are supported, but ``yes``, ``010``, ``1.10`` and ``2020-01-01`` are strings like
    any other. ``null``, ``~`` or nothing means None, and as a key the empty string.

    Raises:
        ValueError: it is malformed, too large, has no entry, has duplicate keys, or has anything but a string (or null)
            as a value; the message is one line.
    """
    _check_length(text)
    content = None
    with suppress(ValueError, RecursionError):
        content = json.loads(
            text, object_pairs_hook=lambda pairs: _unique([(key.strip(), name) for key, name in pairs])
        )
    if not isinstance(content, dict) or not all(name is None or isinstance(name, str) for name in content.values()):
        try:
            content = _unique(_text_entries(text))
        except Exception as error:
            raise ValueError(_reason(error)) from error
    if not content:
        raise ValueError("it is empty")
    return content


def _text_entries(text: str) -> list[tuple[str, str | None]]:
    root = yaml.compose(text, Loader=yaml.BaseLoader)
    if not isinstance(root, yaml.MappingNode):
        raise ValueError("it has no 'key: text' lines")
    for part in (part for pair in root.value for part in pair):
        if not isinstance(part, yaml.ScalarNode) or part.tag != TEXT:
            raise ValueError(f"{' '.join(str(part.start_mark).split())}: a single text belongs there")
    entries = []
    for key_node, node in root.value:
        key, value = (None if part.style is None and part.value in NULLS else part.value for part in (key_node, node))
        if value is not None and node.style is None and NUMBER.fullmatch(value):
            raise ValueError(f"'{key}' stands for the number {value}; give a name, in quotes if it is one")
        entries.append(((key or "").strip(), value))
    return entries


def _unique(entries: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if repeated := [key for key, count in Counter(key for key, _ in entries).items() if count > 1]:
        raise ValueError(f"it has the key '{repeated[0]}' twice")
    return dict(entries)


def _check_length(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it has {len(text)} characters, more than {MAX_CHARACTERS}")


def _count_values(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Number of values in a node, with aliases expanded; ``known`` are the counts of earlier nodes by id."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MAX_VALUES  # the count of a node that contains itself
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_count_values(part, known) for part in parts)
    if known[id(node)] > MAX_VALUES:
        raise ValueError(f"its aliases stand for more than {MAX_VALUES} values")
    return known[id(node)]


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split()) if isinstance(error, ValueError | yaml.YAMLError) else brief_reason(error)
