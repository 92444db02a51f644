"""The files of products: folders, or archives, of which the files that are needed are unpacked."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from mm_ovseg.data.tile.unpacking import Wanted, gather_files, list_archive
from mm_ovseg.errors import DataError

__all__ = ["is_named_as", "product_files"]

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")


def product_files(
    paths: Sequence[str | os.PathLike], wanted: Wanted, *, what: str, folder: Path
) -> list[tuple[Path, list[Path]]]:
    """The wanted files of products.

    Args:
        paths: For each product its folder, a file in that folder, or an archive (.zip, .tar, .tar.gz).
        wanted: Whether the file at a path, in the archive or the folder, is needed.
        what: What the wanted files are, such as "Sentinel-2 product", for messages.
        folder: Where archives are unpacked, each to a subfolder of its name; what is unpacked there is used again if
            the archive's size and time are the same.

    Returns:
        For each product, its folder, or that to which it was unpacked, and the wanted files in it at any depth, sorted.

    Raises:
        DataError: A product has no wanted file, or an archive cannot be unpacked; see
            :func:`mm_ovseg.data.tile.unpacking.unpack_archive`.
        ConfigError: Two archives have the same name.
    """
    sources = [path if path.is_dir() or _is_archive(path) else path.parent for path in map(Path, paths)]
    found, _ = gather_files(sources, wanted, what=what, work=folder, dry_run=False)
    places = [source if source.is_dir() else folder / source.name for source in sources]
    return [(place, [file for file in found if file.is_relative_to(place)]) for place in places]


def is_named_as(path: str | os.PathLike, product: re.Pattern, metadata: re.Pattern) -> bool:
    """Whether a path is a product, by the names of files alone; never raises.

    Args:
        path: The path.
        product: Matches the names of the products' folders and archives.
        metadata: Matches the name of the file that each product has: the path itself, in the folder, or anywhere in a
            zip.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return bool(product.fullmatch(path.name)) or any(metadata.fullmatch(file.name) for file in path.iterdir())
        if not path.is_file():
            return False
        if metadata.fullmatch(path.name) or (_is_archive(path) and product.fullmatch(path.name)):
            return True
        is_zip = path.suffix.lower() == ".zip"
        return is_zip and bool(list_archive(path, lambda member: bool(metadata.fullmatch(member.name))))
    except (OSError, ValueError, DataError):
        return False


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES)
