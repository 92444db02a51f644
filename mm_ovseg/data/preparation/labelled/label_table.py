"""What the values or colours of published label maps stand for, as an explicit table."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mm_ovseg.data.builtin import CLASS_FILES
from mm_ovseg.data.preparation.labelled.layout import DatasetLayout
from mm_ovseg.data.raster_file import data_bands, open_raster, read_palette, read_valid
from mm_ovseg.data.raster_safety import check_whole_file
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.plain_data import parse_json, read_text

__all__ = ["IGNORED", "LabelTable", "UnknownLabelError", "find_label_table", "read_label_table", "released_label_table"]

IGNORED = 255  # in what a table reads: no class
_CODES_SHOWN = 10
_KEYS = ("source", "assumed", "values", "colors")


class UnknownLabelError(DataError):
    """A label map holds what the table does not have: a reason to stop, since no other tile is safe either."""


@dataclass(frozen=True)
class LabelTable:
    """The class of each value, or of each colour, of label maps.

    Attributes:
        name: What messages call it.
        source: A sentence on where it is known from.
        assumed: Whether nobody has checked it against the published label maps.
        is_colors: Whether label maps show classes by colours, instead of numbers in one band.
        codes: Number, or colour as 65536 red + 256 green + blue, -> class index or ``IGNORED``.
    """

    name: str
    source: str
    assumed: bool
    is_colors: bool
    codes: Mapping[int, int]

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """Read a label map.

        Args:
            path: A raster of one band of whole numbers (a palette counts by its indices), or, if the table is one of
                colours, of red, green and blue or with a palette.

        Returns:
            uint8 (H, W): class indices and ``IGNORED``. A pixel without data has the class of its value, if the table
            has that, and is ignored if not.

        Raises:
            UnknownLabelError: It has a value or colour that the table does not have, or is of the other form.
            DataError: It cannot be read.
        """
        with open_raster(path) as dataset:
            bands = data_bands(dataset)
            palette = read_palette(dataset, bands)
            has_colors = len(bands) == 3 or palette is not None
            if not (has_colors if self.is_colors else len(bands) == 1):
                form = "in colours (three bands, or a palette)" if self.is_colors else "as numbers (one band)"
                raise UnknownLabelError(
                    f"{path} has {dataset.count} band(s), but {self.name} is a table of labels {form}; give the table "
                    "that fits, with --label-table."
                )
            check_whole_file(dataset, path)
            raw = dataset.read(bands)  # (bands, H, W)
            valid = read_valid(dataset, bands, np.any)
        finite = np.isfinite(raw).all(axis=0)
        codes = np.where(finite, raw, 0).astype(np.int64)
        if (codes != raw)[:, finite].any():
            raise UnknownLabelError(f"{path} has label values that are no whole numbers; give label maps.")
        if self.is_colors and palette is not None:
            codes = palette[codes[0]].transpose(2, 0, 1).astype(np.int64)
        code_map = (codes[0] << 16) + (codes[1] << 8) + codes[2] if self.is_colors else codes[0]  # (H, W)
        return np.where(finite, self._look_up(path, code_map, valid & finite), IGNORED).astype(np.uint8)

    def _look_up(self, path: str | os.PathLike, code_map: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """The class index of every code, (H, W). Codes that only pixels without data have need not be known."""
        present, inverse = np.unique(code_map, return_inverse=True)
        unknown = [code for code in present.tolist() if code not in self.codes and valid[code_map == code].any()]
        if unknown:
            shown = ", ".join(map(self._describe, unknown[:_CODES_SHOWN]))
            known = ", ".join(map(self._describe, sorted(self.codes)))
            raise UnknownLabelError(
                f"{path} has the label {'colour' if self.is_colors else 'value'} {shown}"
                f"{', ...' if len(unknown) > _CODES_SHOWN else ''}, which {self.name} does not have (it has {known}); "
                "write a table that has all of them and give it with --label-table."
            )
        return np.array([self.codes.get(code, IGNORED) for code in present.tolist()])[inverse].reshape(code_map.shape)

    def _describe(self, code: int) -> str:
        return f"({code >> 16}, {code >> 8 & 255}, {code & 255})" if self.is_colors else str(code)


def released_label_table(layout: DatasetLayout, split: str) -> LabelTable:
    """The table of the masks of the processed release, which are those that the registered datasets read."""
    codes = {value: index for index, value in enumerate(layout.splits[split].mask_values)}
    return LabelTable(
        name=f"the order of the released {split} masks",
        source="The order of the processed release's masks, as mm_ovseg/data/builtin.py declares it.",
        assumed=False,
        is_colors=False,
        codes={**codes, layout.ignore_label: IGNORED},
    )


def find_label_table(name: str) -> Path:
    """The file of one of our tables, by name."""
    return CLASS_FILES / "published_labels" / f"{name}.json"


def read_label_table(path: str | os.PathLike, classes: Sequence[str]) -> LabelTable:
    """Read a JSON file such as ``{"source": "...", "assumed": false, "values": {"0": null, "1": "city", ...}}``.

    Args:
        path: The file. ``values`` or, instead, ``colors`` (``{"255,0,0": "city", ...}``) lead to the name of a class,
            or to null for pixels to be ignored.
        classes: Those that there are, in the order of their indices.

    Raises:
        ConfigError: The file cannot be read, has another form, names another class, or not all of them.
    """
    path = Path(path)
    try:
        content = parse_json(read_text(path, ConfigError))
    except ValueError as error:
        raise ConfigError(f"The label table {path} cannot be read as JSON ({error}); correct it.") from error
    kinds = [key for key in ("values", "colors") if isinstance(content, dict) and isinstance(content.get(key), dict)]
    if len(kinds) != 1 or set(content) - set(_KEYS):
        raise ConfigError(
            f"The label table {path} needs 'values' or 'colors', and may have 'source' and 'assumed'; "
            "datasets/README.md shows the form."
        )
    (kind,) = kinds
    codes: dict[int, int] = {}
    for key, name in content[kind].items():
        if name is not None and name not in classes:
            raise ConfigError(f"The label table {path} names '{name}'; the classes are {', '.join(classes)}.")
        codes[_parse(path, kind, key)] = IGNORED if name is None else classes.index(name)
    if missing := [name for index, name in enumerate(classes) if index not in codes.values()]:
        raise ConfigError(f"The label table {path} has no {kind} for {', '.join(missing)}; add them.")
    return LabelTable(
        name=str(path),
        source=str(content.get("source", "given by the user")),
        assumed=bool(content.get("assumed", False)),
        is_colors=kind == "colors",
        codes=codes,
    )


def _parse(path: Path, kind: str, key: str) -> int:
    if kind == "values" and re.fullmatch(r"-?\d+", key):
        return int(key)
    parts = re.findall(r"\d+", key)
    if kind == "colors" and re.fullmatch(r"\d+ *, *\d+ *, *\d+", key) and all(int(part) < 256 for part in parts):
        red, green, blue = map(int, parts)
        return (red << 16) + (green << 8) + blue
    form = "a whole number" if kind == "values" else "'red,green,blue', each 0..255"
    raise ConfigError(f"The label table {path} has the entry '{key}' in '{kind}'; write {form}.")
