"""A document of hand-written text with generated parts, which can be generated again and again.

A part lies between the lines ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from mm_ovseg.errors import DataError
from mm_ovseg.files import complete_file
from mm_ovseg.plain_data import read_text

__all__ = ["check_document", "fill_document"]

MARKED = re.compile(r"<!-- begin (\w+) -->\n(.*?)<!-- end \1 -->\n", re.DOTALL)


def check_document(path: Path, parts: set[str]) -> str:
    """Check that a document has exactly these generated parts, each once.

    Returns:
        Its text.

    Raises:
        DataError: It cannot be read, or has other parts.
    """
    text = read_text(path, DataError)
    found = [match[1] for match in MARKED.finditer(text)]
    if len(found) != len(set(found)) or set(found) != parts or text.count("<!-- begin ") != len(found):
        raise DataError(
            f"{path} has the generated parts {', '.join(found) or 'none'}, but needs {', '.join(sorted(parts))}, each "
            "once; put '<!-- begin NAME -->' and '<!-- end NAME -->' on lines of their own."
        )
    return text


def fill_document(path: Path, parts: Mapping[str, str]) -> None:
    """Replace the generated parts of a document; the rest of its text stays.

    Args:
        path: The document.
        parts: Name -> Markdown.

    Raises:
        DataError: As :func:`check_document`, or the file cannot be written.
    """
    text = check_document(path, set(parts))

    def replace(match: re.Match) -> str:
        name = match[1]
        return f"<!-- begin {name} -->\n{parts[name].strip()}\n<!-- end {name} -->\n"

    with complete_file(path) as temporary:
        temporary.write_text(MARKED.sub(replace, text), encoding="utf-8")
