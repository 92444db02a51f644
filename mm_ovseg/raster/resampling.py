"""Pixels of a raster on another grid: averages for images, the mode for labels, and validity with both.

A pixel is valid where valid pixels of the source give it a value; nothing else than these has a part in the value. What
a window holds does not depend on the window.
"""

from collections.abc import Callable

import numpy as np

from mm_ovseg.raster.placement import Placement

__all__ = ["resample_image", "resample_labels"]

# (row, column, height, width) within the source -> values (H, W, C) and valid, bool (H, W)
ReadImage = Callable[[int, int, int, int], tuple[np.ndarray, np.ndarray]]
ReadLabels = Callable[[int, int, int, int], np.ndarray]

PIXELS_AT_ONCE = 2**21
MIN_WEIGHT = 1e-3  # of valid pixels that make a pixel valid
HALF = 0.5  # share of the pixels that are averaged into one, which must be valid


def resample_image(
    read: ReadImage, placement: Placement, row: int, column: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read a window of the target grid: bilinear, and averages where its pixels are larger than those of the source.

    Args:
        read: Reads a window of the source, in a unit in which values may be averaged.
        placement: Of the target on the source.
        row, column, height, width: The window.

    Returns:
        values: float32 (height, width, C); 0 where not valid.
        valid: bool (height, width).
    """
    columns, rows = placement.coordinates(row, column, height, width)
    inside = placement.contains(columns, rows)
    step_x, step_y = placement.reduction
    if not inside.any():
        channels = read(0, 0, 1, 1)[0].shape[2]
        return np.zeros((height, width, channels), np.float32), np.zeros((height, width), bool)
    everywhere = bool(inside.all())
    x, y = (places.ravel() if everywhere else places[inside] for places in (columns, rows))
    x, y = x / step_x - 0.5, y / step_y - 0.5
    shape = (-(-placement.source.height // step_y), -(-placement.source.width // step_x))
    first_row, last_row = _span(y, shape[0])
    first_column, last_column = _span(x, shape[1])
    reduced, reduced_valid = _reduced(
        read, placement, first_row, first_column, last_row - first_row + 1, last_column - first_column + 1
    )
    sampled, sampled_valid = _bilinear(reduced, reduced_valid, x - first_column, y - first_row)
    if everywhere:
        return sampled.reshape(height, width, -1), sampled_valid.reshape(height, width)
    values = np.zeros((height, width, reduced.shape[2]), np.float32)
    valid = np.zeros((height, width), bool)
    values[inside], valid[inside] = sampled, sampled_valid
    return values, valid


def resample_labels(
    read: ReadLabels, placement: Placement, row: int, column: int, height: int, width: int, *, fill: int
) -> np.ndarray:
    """Read a window of the target grid: the nearest pixel, and the mode where pixels become larger.

    Args:
        read: Reads a window of the source, uint8 (H, W).
        placement: Of the target on the source.
        row, column, height, width: The window.
        fill: Value where the source does not reach. A value like others in the mode.

    Returns:
        uint8 (height, width).
    """
    parts_x, parts_y = placement.reduction
    if parts_x == parts_y == 1:
        return _nearest(read, placement, *placement.coordinates(row, column, height, width), fill)
    # So many points of each pixel vote.
    fine = placement.subpixels
    labels = np.full((height, width), fill, np.uint8)
    rows_at_once = max(1, PIXELS_AT_ONCE // (width * parts_x * parts_y))
    for start in range(0, height, rows_at_once):
        count = min(rows_at_once, height - start)
        places = fine.coordinates((row + start) * parts_y, column * parts_x, count * parts_y, width * parts_x)
        votes = _nearest(read, fine, *places, fill).reshape(count, parts_y, width, parts_x)
        labels[start : start + count] = _mode(votes.transpose(0, 2, 1, 3).reshape(count, width, -1))
    return labels


def _span(places: np.ndarray, length: int) -> tuple[int, int]:
    """First and last index of the pixels on both sides of places."""
    first = int(np.clip(np.floor(places.min()), 0, length - 1))
    return first, int(np.clip(np.floor(places.max()) + 1, first, length - 1))


def _reduced(
    read: ReadImage, placement: Placement, row: int, column: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Averages of blocks of source pixels, which are counted from the source's first pixel; read in strips."""
    step_x, step_y = placement.reduction
    source_height, source_width = placement.source.shape
    left, columns = column * step_x, min(width * step_x, source_width - column * step_x)
    if step_x == step_y == 1:
        values, valid = read(row, left, height, columns)
        return values.astype(np.float32, copy=False), valid
    strips = []
    rows_at_once = max(1, PIXELS_AT_ONCE // (columns * step_y))
    for start in range(0, height, rows_at_once):
        top = (row + start) * step_y
        count = min(rows_at_once, height - start)
        values, valid = read(top, left, min(count * step_y, source_height - top), columns)
        strips.append(_block_means(values, valid, step_x, step_y))
    return np.concatenate([values for values, _ in strips]), np.concatenate([valid for _, valid in strips])


def _block_means(values: np.ndarray, valid: np.ndarray, step_x: int, step_y: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of the valid pixels of blocks, those at the end cut off; valid where half of a block's pixels are."""
    tops, lefts = np.arange(0, values.shape[0], step_y), np.arange(0, values.shape[1], step_x)

    def block_sums(array: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.add.reduceat(array, tops, axis=0), lefts, axis=1)

    numbers = np.where(valid[..., np.newaxis], values, 0).astype(np.float64)
    counts = block_sums(valid.astype(np.float64))
    sizes = np.diff(np.append(tops, values.shape[0]))[:, np.newaxis] * np.diff(np.append(lefts, values.shape[1]))
    means = block_sums(numbers) / np.maximum(counts, 1)[..., np.newaxis]
    return means.astype(np.float32), counts >= HALF * sizes


def _bilinear(values: np.ndarray, valid: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (N, C) at places (N,) among pixels (H, W, C), of the valid ones of the four around each."""
    height, width, channels = values.shape
    # Validity is one more channel, what is not valid counts nothing, and a border stands for what is not there.
    weighed = np.zeros((height + 2, width + 2, channels + 1), np.float32)
    weighed[1:-1, 1:-1, :channels] = np.where(valid[..., np.newaxis], values, 0)
    weighed[1:-1, 1:-1, channels] = valid
    flat = weighed.reshape(-1, channels + 1)
    left, top = np.floor(x), np.floor(y)
    right_share, lower_share = (x - left).astype(np.float32), (y - top).astype(np.float32)
    first = (top.astype(np.intp) + 1) * (width + 2) + left.astype(np.intp) + 1
    total = np.zeros((len(x), channels + 1), np.float32)
    for step, weight in (
        (0, (1 - lower_share) * (1 - right_share)),
        (1, (1 - lower_share) * right_share),
        (width + 2, lower_share * (1 - right_share)),
        (width + 3, lower_share * right_share),
    ):
        total += flat.take(first + step, axis=0) * weight[:, np.newaxis]
    weights = total[:, channels]
    known = weights >= MIN_WEIGHT
    sampled = total[:, :channels] / np.where(known, weights, 1)[:, np.newaxis]
    return np.where(known[:, np.newaxis], sampled, 0), known


def _nearest(read: ReadLabels, placement: Placement, columns: np.ndarray, rows: np.ndarray, fill: int) -> np.ndarray:
    inside = placement.contains(columns, rows)
    labels = np.full(columns.shape, fill, np.uint8)
    if not inside.any():
        return labels
    height, width = placement.source.shape
    # The far edges belong to the last pixels.
    x = np.minimum(np.floor(columns[inside]).astype(np.intp), width - 1)
    y = np.minimum(np.floor(rows[inside]).astype(np.intp), height - 1)
    top, left = y.min(), x.min()
    window = read(int(top), int(left), int(y.max() - top) + 1, int(x.max() - left) + 1)
    labels[inside] = window[y - top, x - left]
    return labels


def _mode(votes: np.ndarray) -> np.ndarray:
    """The most frequent value of uint8 (H, W, N) along the last axis; of equals the smallest."""
    best = np.zeros(votes.shape[:2], np.uint8)
    most = np.zeros(votes.shape[:2], np.int64)
    for value in np.unique(votes):
        count = (votes == value).sum(axis=2)
        better = count > most
        best[better], most[better] = value, count[better]
    return best
