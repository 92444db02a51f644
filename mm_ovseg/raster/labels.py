"""Label maps: values in a file become class indices, on its own grid or on another."""

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from mm_ovseg.errors import DataError
from mm_ovseg.raster.image_reader import Window
from mm_ovseg.raster.placement import Placement
from mm_ovseg.raster.resampling import resample_labels
from mm_ovseg.raster.source import RasterSource

__all__ = ["LabelReader", "read_label"]

VALUES_SHOWN = 10


@dataclass(frozen=True)
class LabelReader:
    """Reads label maps with one band of integers; of a palette image, the palette indices count.

    Pixels without data (by a nodata value, a mask, alpha or NaN) are ignored, whatever their value.

    Attributes:
        index_of: Raw value -> class index or ``ignore_label``.
        ignore_label: Value for no class in the result.
        kind: What the file is, for messages.
    """

    index_of: Mapping[int, int]
    ignore_label: int = 255
    kind: str = "label map"

    @classmethod
    def of_classes(
        cls, num_classes: int, ignore_label: int = 255, label_values: Mapping[int, int] | None = None
    ) -> "LabelReader":
        """The reader for a dataset's files.

        Args:
            num_classes: Number of classes; indices are 0..num_classes - 1.
            ignore_label: Value for no class, in the file (unless ``label_values`` gives it another meaning) and in the
                result.
            label_values: Raw value -> class index or ``ignore_label``; None if the files hold class indices.
        """
        table = {value: value for value in range(num_classes)} if label_values is None else dict(label_values)
        table.setdefault(ignore_label, ignore_label)
        return cls(table, ignore_label)

    def read(self, source: RasterSource, window: Window | None = None) -> tuple[np.ndarray, Counter[int]]:
        """Read labels on the source's own grid.

        Args:
            source: The raster.
            window: (row, column, height, width); None for all of it.

        Returns:
            labels: uint8 (H, W): class indices and ``ignore_label``.
            unknown: Value -> number of pixels, for the values that belong to no class, which are ignored.

        Raises:
            DataError: The raster cannot be read, or is not a label map.
        """
        bands = source.data_bands()
        if len(bands) != 1 or np.dtype(source.bands[bands[0] - 1].dtype).kind not in "iuf":
            types = ", ".join(dict.fromkeys(band.dtype for band in source.bands))
            raise DataError(
                f"{source.name} has {len(source.bands)} bands of {types}; a {self.kind} has one, with a whole number "
                "per pixel: convert colours to class numbers."
            )
        values, known = source.read(bands, window)
        return self._look_up(values[..., 0], None if known is None else known[..., 0], source.name)

    def read_onto(self, source: RasterSource, placement: Placement, window: Window) -> tuple[np.ndarray, Counter[int]]:
        """Read a window of another grid: the nearest pixel, or the mode if its pixels are larger; see :meth:`read`.

        ``unknown`` counts pixels of the source.
        """
        if placement.is_identity:
            return self.read(source, window)
        unknown: Counter[int] = Counter()

        def read(*part: int) -> np.ndarray:
            labels, of_part = self.read(source, part)
            unknown.update(of_part)
            return labels

        return resample_labels(read, placement, *window, fill=self.ignore_label), unknown

    def check_known(self, unknown: Mapping[int, int], name: str | os.PathLike) -> None:
        """Check that every value is known.

        Raises:
            DataError: There are some; the message lists them with their pixel counts.
        """
        if not unknown:
            return
        shown = ", ".join(f"{value} ({count} pixels)" for value, count in sorted(unknown.items())[:VALUES_SHOWN])
        allowed = ", ".join(map(str, sorted(self.index_of)))
        raise DataError(
            f"{name} has the label value {shown}{', ...' if len(unknown) > VALUES_SHOWN else ''}, which belongs to no "
            f"class (allowed: {allowed}); correct the file, or map its values with label_values."
        )

    def _look_up(self, raw: np.ndarray, known: np.ndarray | None, name: str) -> tuple[np.ndarray, Counter[int]]:
        if raw.dtype.kind == "f":
            whole = np.isfinite(raw) & (raw == np.rint(raw))
            if not (whole if known is None else whole | ~known).all():
                raise DataError(f"{name} has values that are not whole numbers; a {self.kind} holds class numbers.")
            raw = np.where(whole, raw, 0)
        if raw.dtype == np.uint8:
            present, places = np.arange(256), raw
        else:
            present, places = np.unique(raw, return_inverse=True)
            places = places.reshape(raw.shape)
        present = [int(value) for value in present]
        counts = np.bincount((places if known is None else places[known]).ravel(), minlength=len(present)).tolist()
        labels = np.array([self.index_of.get(value, self.ignore_label) for value in present], np.uint8)[places]
        if known is not None:
            labels[~known] = self.ignore_label
        counted = zip(present, counts, strict=True)
        return labels, Counter({value: count for value, count in counted if count and value not in self.index_of})


def read_label(
    path: str | os.PathLike | RasterSource,
    *,
    num_classes: int,
    ignore_label: int = 255,
    label_values: Mapping[int, int] | None = None,
    like: RasterSource | None = None,
    any_format: bool = False,
) -> np.ndarray:
    """Read a label map.

    Args:
        path: The file, or an open source.
        num_classes, ignore_label, label_values: See :meth:`LabelReader.of_classes`.
        like: The image that the labels belong to, whose grid they must share; None to skip this check.
        any_format: See :func:`mm_ovseg.raster.opening.open_raster`.

    Returns:
        uint8 (H, W): class indices and ``ignore_label``.

    Raises:
        DataError: The file cannot be read, is not a label map, holds a value of no class, or is on another grid.
    """
    reader = LabelReader.of_classes(num_classes, ignore_label, label_values)
    is_open = isinstance(path, RasterSource)
    with nullcontext(path) if is_open else RasterSource(path, any_format=any_format) as source:
        if like is not None:
            like.align(source)
        labels, unknown = reader.read(source)
        reader.check_known(unknown, source.name)
    return labels
