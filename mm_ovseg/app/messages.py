"""Rewording errors and warnings, written for users of the command line, for visitors of the page."""

import re
from pathlib import Path

__all__ = ["page_message"]

# What only the operator of the page can act on: config keys, environment variables, options, commands.
SETTING = re.compile(r"\b(INPUT|MODEL|DATASETS|TEST)\.[A-Z]|\bMM_OVSEG_[A-Z]|(?<!\S)--[a-z]|\bmm-ovseg\b")
OTHER_WAY = ", or "
PART_OF_A_SENTENCE = re.compile(rf"(; |{OTHER_WAY}|\. )")
ADVICE = "Choose other files, or ask whoever runs this page."


def page_message(message: Exception | str, *paths: Path | None) -> str:
    """A message that visitors can act on: with their own file names, and without settings of the server.

    Args:
        message: an error or a warning.
        paths: files that it may mention.
    """
    text = str(message)
    names = {f"\0{number}\0": path for number, path in enumerate(paths) if path is not None}
    for mark, path in names.items():
        text = text.replace(str(path), mark)
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
    if advise:
        text = f"{kept.rstrip('.') or 'The page cannot use these files'}. {ADVICE}"
    for mark, path in names.items():
        text = text.replace(mark, path.name)
    return text
