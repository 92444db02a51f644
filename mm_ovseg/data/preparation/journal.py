"""What has been prepared so far, a line a tile, so that a killed run goes on where it was."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from mm_ovseg.data.split import SPLITS
from mm_ovseg.errors import DataError
from mm_ovseg.files import check_writable_folder, complete_file

__all__ = ["Journal"]


class Journal:
    """A file of JSON lines in the output folder: the settings, then the result of every finished tile.

    Attributes:
        settings: Those that everything in the folder was made with; None in a new journal.
        results: The latest result of each tile, by name.
        files: Every file that any result named, relative to the output folder.
    """

    def __init__(self, output: Path, prefix: str, foreign: Iterable[Path] | None = None) -> None:
        """Read the journal of an output folder, if there is one.

        Args:
            output: The folder that holds the splits.
            prefix: Of the journal's name.
            foreign: Files that must not be there unless a journal tells of them; None for those in the folders of the
                splits whose names start with the prefix.

        Raises:
            DataError: The folder cannot be written to, or has such files and no journal.
        """
        check_writable_folder(output)
        self.path = output / f".{prefix}_journal.jsonl"
        self.settings: dict | None = None
        self.results: dict[str, dict] = {}
        self.files: set[str] = set()
        if not self.path.exists():
            if foreign is None:
                foreign = (path for split in SPLITS for path in (output / split).glob(f"*/{prefix}_*"))
            if first := next(iter(foreign), None):
                raise DataError(
                    f"{output} has files such as {first} but not the journal of how they were made "
                    f"({self.path.name}); move them away, or choose another --output."
                )
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the last line of a killed run
            if "settings" in entry:
                self.settings = entry["settings"]
            else:
                self._take(entry)

    def start(self, settings: Mapping) -> None:
        """Begin to write, after the lines that were read; what a killed run has left half-written is removed.

        Raises:
            DataError: There are files, made with other settings.
        """
        settings = json.loads(json.dumps(settings))
        if self.settings != settings and not self.files:
            self.results.clear()  # nothing came of them
        elif self.settings != settings:
            names = sorted({*settings, *self.settings})
            differing = [
                f"{name} {self.settings.get(name)} instead of {settings.get(name)}"
                for name in names
                if self.settings.get(name) != settings.get(name)
            ]
            raise DataError(
                f"{self.path.parent} holds pairs made with other settings ({'; '.join(differing)}); choose another "
                f"--output, or remove those pairs together with {self.path.name}."
            )
        self.settings = settings
        with complete_file(self.path) as temporary:
            lines = [{"settings": settings}, *self.results.values()]
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def append(self, result: dict) -> None:
        """Note that a tile is finished.

        Raises:
            DataError: The disk takes no more.
        """
        self._take(result)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
        except OSError as error:
            raise DataError(f"{self.path} cannot be written ({error.strerror}); make room and run again.") from error

    def _take(self, result: dict) -> None:
        self.results[result["name"]] = result
        self.files |= {file["file"] for pair in result["pairs"] for file in _written_files(pair).values()}


def _written_files(pair: Mapping) -> dict[str, dict]:
    """The files of a pair in a result, by kind ("rgb", "sar", ...); without those of its source, and of a dry run."""
    return {kind: entry for kind, entry in pair.items() if isinstance(entry, dict) and "file" in entry}
