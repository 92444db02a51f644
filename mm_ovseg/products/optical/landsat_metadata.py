"""The metadata of Landsat products of Collection 2: a file *_MTL in XML, JSON or text, with the same content."""

import re
from dataclasses import dataclass
from pathlib import Path

from mm_ovseg.errors import DataError
from mm_ovseg.plain_data import read_text
from mm_ovseg.products.metadata import read_json, read_xml, to_number

__all__ = ["LandsatMetadata", "read_landsat_metadata"]

ROOT = "LANDSAT_METADATA_FILE"
LINE = re.compile(r'\s*(\w+)\s*=\s*"?(.*?)"?\s*')
Groups = dict[str, dict[str, str]]


@dataclass(frozen=True)
class LandsatMetadata:
    """The values of a product.

    Attributes:
        path: The file.
        groups: Group, such as "IMAGE_ATTRIBUTES" -> key -> value.
    """

    path: Path
    groups: Groups

    def text(self, group: str, key: str, default: str | None = None) -> str:
        """A value.

        Raises:
            DataError: It is missing and has no default.
        """
        value = self.groups.get(group, {}).get(key, default)
        if value is None:
            raise DataError(f"{self.path} lacks {key} in {group}; download the product again.")
        return value

    def number(self, group: str, key: str) -> float:
        """A value that is a number.

        Raises:
            DataError: It is missing or not a finite number.
        """
        return to_number(self.text(group, key), key, self.path)


def read_landsat_metadata(path: Path) -> LandsatMetadata:
    """Read a file by its suffix: ``.xml``, ``.json`` or ``.txt``.

    Raises:
        DataError: It cannot be read, is malformed, or not of Collection 2.
    """
    groups = {".xml": _of_xml, ".json": _of_json}.get(path.suffix.lower(), _of_text)(path)
    metadata = LandsatMetadata(path, groups)
    if metadata.text("PRODUCT_CONTENTS", "COLLECTION_NUMBER", "unknown").lstrip("0") != "2":
        raise DataError(f"{path} is not the metadata of a Landsat product of Collection 2; download the scene as one.")
    return metadata


def _of_xml(path: Path) -> Groups:
    return {group.tag: {item.tag: (item.text or "").strip() for item in group} for group in read_xml(path)}


def _of_json(path: Path) -> Groups:
    content = read_json(path)
    root = content.get(ROOT) if isinstance(content, dict) else None
    groups = root if isinstance(root, dict) else {}
    return {
        name: {key: str(value).strip() for key, value in group.items()}
        for name, group in groups.items()
        if isinstance(group, dict)
    }


def _of_text(path: Path) -> Groups:
    groups: Groups = {}
    name = ROOT
    for line in read_text(path).split("\n"):
        match = LINE.fullmatch(line)
        if match is None:  # END, and what pads the file
            continue
        key, value = match.groups()
        if key == "GROUP":
            name = value
        elif key != "END_GROUP":
            groups.setdefault(name, {})[key] = value
    return groups
