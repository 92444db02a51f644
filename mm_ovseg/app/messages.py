"""Rewording errors and warnings, written for users of the command line, for visitors of the page."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from mm_ovseg.errors import VocabularyError

__all__ = ["UNEXPECTED", "page_message"]

logger = logging.getLogger(__name__)

UNEXPECTED = "An unexpected error occurred; try again, or ask whoever runs this page to check its log."
OWN_FILE = "The server could not use one of its own files; try again later, or ask whoever runs this page."
# What visitors can change themselves, by its name on the page.
ON_PAGE = {
    "INPUT.RGB.RANGE": "RGB range",
    "INPUT.RGB.BANDS": "list of RGB bands",
    "INPUT.SAR.SCALE": "SAR unit",
    "INPUT.SAR.RANGE": "SAR range",
    "INPUT.SAR.BANDS": "list of SAR bands",
}
# What only the operator of the page can act on: config keys, environment variables, options, commands.
SETTING = re.compile(r"\b(INPUT|MODEL|DATASETS|TEST)\.[A-Z]|\bMM_OVSEG_[A-Z]|(?<!\S)--[a-z]|\bmm-ovseg\b")
SERVER_PATH = re.compile(r"(?<![\w.)\]/])(/[^\s/]+){2,}")
OTHER_WAY = ", or "
PART_OF_A_SENTENCE = re.compile(rf"(; |{OTHER_WAY}|\. )")
ADVICE = "Choose other files, or ask whoever runs this page."


def page_message(message: Exception | str, names: Mapping[Path, str] | None = None) -> str:
    """A message that visitors can act on: with their own file names, without settings and paths of the server.

    Args:
        message: an error or a warning.
        names: files that it may mention -> what the visitor calls them.
    """
    text = str(message)
    marks = {f"\0{number}\0": name for number, name in enumerate((names or {}).values())}
    for mark, path in zip(marks, names or {}, strict=True):
        text = text.replace(str(path), mark).replace(path.name, mark)
    if SERVER_PATH.search(text) and not isinstance(message, VocabularyError):  # which quotes what was typed
        logger.error("Not told to the visitor: %s", message)
        return OWN_FILE
    for key, name in ON_PAGE.items():
        text = re.sub(rf"(^|\. ){re.escape(key)}\b", rf"\1The {name}", text)
        text = re.sub(rf"\b{re.escape(key)}\b", f"the {name}", text)
    first, *others = PART_OF_A_SENTENCE.split(text)
    kept, removed = ("", True) if SETTING.search(first) else (first, False)
    advise = removed
    for separator, part in zip(others[::2], others[1::2], strict=True):
        if SETTING.search(part):
            advise = removed = True
            continue
        # The part after ", or" is now the only advice.
        kept += ("; " if removed and separator == OTHER_WAY else separator) + part if kept else part
        removed = False
    text = f"{kept.rstrip('.') or 'The page cannot use these files'}. {ADVICE}" if advise else kept
    for mark, name in marks.items():
        text = text.replace(mark, name)
    return text
