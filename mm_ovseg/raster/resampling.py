"""Pixels of a raster on another grid: averages for images, the mode for labels, and validity with both.

A pixel is valid where it overlaps a valid pixel of the source, and only valid pixels count towards its value. A pixel
does not depend on the window that it is read in.
"""

import math
from collections.abc import Callable

import numpy as np

from mm_ovseg.raster.placement import Placement

__all__ = ["nearest_pixels", "resample_image", "resample_labels"]

# (row, column, height, width) within the source -> values (H, W, C) and valid, bool (H, W)
ReadImage = Callable[[int, int, int, int], tuple[np.ndarray, np.ndarray]]
ReadLabels = Callable[[int, int, int, int], np.ndarray]

PIXELS_AT_ONCE = 2**21
MAX_SPREAD = 16  # source pixels read per target pixel; more means distant pixels, as on both sides of a global source
TAPS = 3  # smallest number of pixels per mean if the source's pixels are small; even smaller ones are averaged first
MIN_WEIGHT = 1e-3  # of valid pixels in a mean
BOXES_AT_ONCE = 2**13  # so that intermediate arrays stay in the processor's cache


def resample_image(
    read: ReadImage, placement: Placement, row: int, column: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read a window of the target grid: bilinear, or averages if its pixels are larger than those of the source.

    Args:
        read: Reads a window of the source, in a unit in which values can be averaged.
        placement: Placement of the target on the source.
        row, column, height, width: The window.

    Returns:
        values: float32 (height, width, C); 0 where not valid.
        valid: bool (height, width).
    """
    columns, rows = placement.coordinates(row, column, height, width)
    inside = placement.contains(columns, rows)
    if not inside.any():
        channels = read(0, 0, 1, 1)[0].shape[2]
        return np.zeros((height, width, channels), np.float32), np.zeros((height, width), bool)
    everywhere = bool(inside.all())
    x, y = (places.ravel() if everywhere else places[inside] for places in (columns, rows))
    step_x, step_y = (max(1, int(span / TAPS)) for span in placement.pixels)
    size_x, size_y = (max(1.0, span / step) for span, step in zip(placement.pixels, (step_x, step_y), strict=True))
    x, y = x / step_x, y / step_y
    shape = (-(-placement.source.height // step_y), -(-placement.source.width // step_x))
    first_row, last_row = _span(y, size_y, shape[0])
    first_column, last_column = _span(x, size_x, shape[1])
    if _is_scattered((last_row - first_row + 1) * (last_column - first_column + 1), columns.shape):
        halves = [resample_image(read, placement, *half) for half in _halves(row, column, height, width)]
        values, valid = (np.concatenate(parts, axis=int(height < width)) for parts in zip(*halves, strict=True))
        return values, valid
    part = (first_row, first_column, last_row - first_row + 1, last_column - first_column + 1)
    weighed = _weighed(read, placement, *part, step_x, step_y)
    if placement.is_separable:
        inside_columns, inside_rows = inside.any(axis=0), inside.any(axis=1)
        x, y = columns[0, inside_columns] / step_x, rows[inside_rows, 0] / step_y
        sampled, sampled_valid = _separable_means(weighed, x - first_column, y - first_row, size_x, size_y)
        inside = np.ix_(inside_rows, inside_columns)
    else:
        sampled, sampled_valid = _area_means(weighed, x - first_column, y - first_row, size_x, size_y)
    sampled = np.moveaxis(sampled, 0, -1)
    if everywhere:
        return sampled.reshape(height, width, -1), sampled_valid.reshape(height, width)
    values = np.zeros((height, width, sampled.shape[-1]), np.float32)
    valid = np.zeros((height, width), bool)
    values[inside], valid[inside] = sampled, sampled_valid
    return values, valid


def resample_labels(
    read: ReadLabels, placement: Placement, row: int, column: int, height: int, width: int, *, fill: int
) -> np.ndarray:
    """Read a window of the target grid: the nearest pixel, or the mode if its pixels are larger.

    Args:
        read: Reads a window of the source, uint8 (H, W).
        placement: Placement of the target on the source.
        row, column, height, width: The window.
        fill: Value outside of the source. The mode treats it like any other value.

    Returns:
        uint8 (height, width).
    """
    parts_x, parts_y = placement.reduction
    if parts_x == parts_y == 1:
        return nearest_pixels(read, placement, row, column, height, width, fill)
    # This number of points vote per pixel.
    fine = placement.subpixels
    labels = np.full((height, width), fill, np.uint8)
    rows_at_once = max(1, PIXELS_AT_ONCE // (width * parts_x * parts_y))
    for start in range(0, height, rows_at_once):
        count = min(rows_at_once, height - start)
        window = (row + start) * parts_y, column * parts_x, count * parts_y, width * parts_x
        votes = nearest_pixels(read, fine, *window, fill).reshape(count, parts_y, width, parts_x)
        labels[start : start + count] = _mode(votes.transpose(0, 2, 1, 3).reshape(count, width, -1))
    return labels


def _span(places: np.ndarray, size: float, length: int) -> tuple[int, int]:
    """First and last index of the pixels that intervals of a size around positions overlap."""
    first = int(np.clip(np.floor(places.min() - size / 2), 0, length - 1))
    return first, int(np.clip(np.floor(places.max() + size / 2), first, length - 1))


def _weighed(
    read: ReadImage, placement: Placement, row: int, column: int, height: int, width: int, step_x: int, step_y: int
) -> np.ndarray:
    """Means over blocks of source pixels, counted from the source's first pixel; read in strips.

    Returns:
        float32 (C + 1, height, width): the means of the blocks' values, invalid ones counting as 0; and, as the
        last channel, the share of each block that is valid.
    """
    source_height, source_width = placement.source.shape
    left, columns = column * step_x, min(width * step_x, source_width - column * step_x)
    strips = []
    rows_at_once = max(1, PIXELS_AT_ONCE // (columns * step_y))
    for start in range(0, height, rows_at_once):
        top = (row + start) * step_y
        count = min(rows_at_once, height - start)
        values, valid = read(top, left, min(count * step_y, source_height - top), columns)
        weighed = np.empty((values.shape[2] + 1, *valid.shape), np.float32)
        weighed[:-1], weighed[-1] = np.where(valid, np.moveaxis(values, 2, 0), 0), valid  # invalid values may be NaN
        strips.append(_block_means(weighed, step_x, step_y))
    return strips[0] if len(strips) == 1 else np.concatenate(strips, axis=1)


def _block_means(values: np.ndarray, step_x: int, step_y: int) -> np.ndarray:
    """Means of blocks of (C, H, W); the last ones may be smaller."""
    if step_x == step_y == 1:
        return values
    height, width = values.shape[1:]
    tops, lefts = np.arange(0, height, step_y), np.arange(0, width, step_x)
    sums = np.add.reduceat(np.add.reduceat(values.astype(np.float64), tops, axis=1), lefts, axis=2)
    sizes = np.diff(np.append(tops, height))[:, np.newaxis] * np.diff(np.append(lefts, width))
    return (sums / sizes).astype(np.float32)


def _area_means(
    weighed: np.ndarray, x: np.ndarray, y: np.ndarray, size_x: float, size_y: float
) -> tuple[np.ndarray, np.ndarray]:
    """Means over boxes around positions; boxes as large as a pixel give bilinear interpolation.

    Args:
        weighed: (C + 1, H, W), from :func:`_weighed`.
        x, y: (N,) centres of the boxes, in pixels.
        size_x, size_y: Sides of the boxes, in pixels, at least 1.

    Returns:
        float32 (C, N): the means of the valid pixels; and bool (N,): whether there are any.
    """
    channels, height, width = weighed.shape
    flat = weighed.reshape(channels, -1)
    total = np.zeros((channels, len(x)), np.float32)
    for start in range(0, len(x), BOXES_AT_ONCE):
        boxes = slice(start, start + BOXES_AT_ONCE)
        columns, shares_x = _overlaps(x[boxes], size_x, width)
        rows, shares_y = _overlaps(y[boxes], size_y, height)
        for row, share_y in zip(rows * width, shares_y, strict=True):
            for column, share_x in zip(columns, shares_x, strict=True):
                pixels, shares = row + column, share_x * share_y
                for channel, sums in zip(flat, total[:, boxes], strict=True):
                    sums += channel.take(pixels) * shares
    return _divided(total)


def _separable_means(
    weighed: np.ndarray, x: np.ndarray, y: np.ndarray, size_x: float, size_y: float
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`_area_means` on a lattice of columns x (W,) and rows y (H,): (C, H, W) and (H, W)."""
    channels, height, width = weighed.shape
    lines = np.zeros((channels, len(y), width), np.float32)
    for rows, shares in zip(*_overlaps(y, size_y, height), strict=True):
        for channel, sums in zip(weighed, lines, strict=True):
            sums += channel.take(rows, axis=0) * shares[:, np.newaxis]
    total = np.zeros((channels, len(y), len(x)), np.float32)
    for columns, shares in zip(*_overlaps(x, size_x, width), strict=True):
        for channel, sums in zip(lines, total, strict=True):
            sums += channel.take(columns, axis=1) * shares
    return _divided(total)


def _divided(total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means (C, ...) from sums whose last channel is the sum of weights, and where there are any."""
    weights = total[-1]
    known = weights >= MIN_WEIGHT
    return np.where(known, total[:-1] / np.where(known, weights, 1), 0), known


def _overlaps(places: np.ndarray, size: float, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels that intervals around positions (N,) overlap, and by how much: intp and float32, (taps, N)."""
    start, end = np.maximum(places - size / 2, 0), np.minimum(places + size / 2, length)
    pixels = np.floor(places - size / 2) + np.arange(math.ceil(size) + 1)[:, np.newaxis]
    shares = np.clip(np.minimum(pixels + 1, end) - np.maximum(pixels, start), 0, None)
    return np.clip(pixels, 0, length - 1).astype(np.intp), shares.astype(np.float32)


def nearest_pixels(
    read: ReadLabels,
    placement: Placement,
    row: int,
    column: int,
    height: int,
    width: int,
    fill: int,
    dtype: str = "uint8",
) -> np.ndarray:
    """Read the nearest pixels of a window of the target grid; see :func:`resample_labels`.

    Returns:
        (height, width) of the type ``dtype``.
    """
    columns, rows = placement.coordinates(row, column, height, width)
    inside = placement.contains(columns, rows)
    labels = np.full(columns.shape, fill, dtype)
    if not inside.any():
        return labels
    source_height, source_width = placement.source.shape
    # The right and bottom edges belong to the last pixels.
    x = np.minimum(np.floor(columns[inside]).astype(np.intp), source_width - 1)
    y = np.minimum(np.floor(rows[inside]).astype(np.intp), source_height - 1)
    top, left = int(y.min()), int(x.min())
    part = top, left, int(y.max()) - top + 1, int(x.max()) - left + 1
    if _is_scattered(part[2] * part[3], columns.shape):
        halves = [nearest_pixels(read, placement, *half, fill, dtype) for half in _halves(row, column, height, width)]
        return np.concatenate(halves, axis=int(height < width))
    labels[inside] = read(*part)[y - top, x - left]
    return labels


def _is_scattered(pixels: int, shape: tuple[int, int]) -> bool:
    """Whether a window's pixels are spread so far over the source that it is better read in halves."""
    return shape != (1, 1) and pixels > max(MAX_SPREAD * shape[0] * shape[1], PIXELS_AT_ONCE)


def _halves(row: int, column: int, height: int, width: int) -> list[tuple[int, int, int, int]]:
    if height < width:
        return [(row, column, height, width // 2), (row, column + width // 2, height, width - width // 2)]
    return [(row, column, height // 2, width), (row + height // 2, column, height - height // 2, width)]


def _mode(votes: np.ndarray) -> np.ndarray:
    """The most frequent value of uint8 (H, W, N) along the last axis; the smallest one of equals."""
    best = np.zeros(votes.shape[:2], np.uint8)
    most = np.zeros(votes.shape[:2], np.int64)
    for value in np.unique(votes):
        count = (votes == value).sum(axis=2)
        better = count > most
        best[better], most[better] = value, count[better]
    return best
