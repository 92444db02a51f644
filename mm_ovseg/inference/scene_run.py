"""A scene on its way through the model: reading, inference and writing overlap in time."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from tqdm import tqdm

from mm_ovseg.data.scene_source import SceneSource, SceneWindow
from mm_ovseg.errors import StoppedError
from mm_ovseg.inference.batches import BatchRunner
from mm_ovseg.inference.blending import RowBlender, Strip
from mm_ovseg.inference.map_writer import NODATA_CLASS
from mm_ovseg.inference.prefetch import prefetched
from mm_ovseg.inference.scene_area import SceneArea
from mm_ovseg.inference.scene_outputs import COVERAGE
from mm_ovseg.inference.scene_work import SceneWork
from mm_ovseg.inference.windows import first_window_over, window_starts

__all__ = ["SceneRun"]


class SceneRun:
    """Fills the rows of a scene's work.

    Args:
        model: takes a list of dicts with ``image``, ``sar_image`` (3, H, W) or None, ``image_valid``, ``sar_valid``
            (H, W), ``height`` and ``width``, and gives ``{"sem_seg": (T, height, width) scores in 0..1}`` for each.
        source: of the windows.
        area: the part to map; None for all.
        work: takes the rows; those that are done already are not made again.
        window: side of a window in pixels.
        overlap: of neighbouring windows in pixels.
        batch_size: windows at a time; fewer where memory does not hold them.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        source: SceneSource,
        area: SceneArea | None,
        work: SceneWork,
        window: int,
        overlap: int,
        batch_size: int,
    ) -> None:
        self._run_batch = BatchRunner(model)
        self._source, self._area, self._work = source, area, work
        self._window, self._overlap, self._batch_size = window, overlap, batch_size
        self._rows = window_starts(source.grid.height, window, overlap)
        self._columns = window_starts(source.grid.width, window, overlap)

    def segment(self, num_classes: int, show_progress: bool, should_stop: Callable[[], bool] | None = None) -> int:
        """Make the rows that are not done yet; returns the number of windows of the scene.

        Raises:
            ConfigError: memory does not hold one window.
            StoppedError: ``should_stop``, which is asked before each window, said so.
        """
        total = len(self._rows) * len(self._columns)
        height, done = self._source.grid.height, self._work.rows_done
        if done >= height:
            return total
        first = first_window_over(self._rows, self._window, done)
        blender = RowBlender(
            num_classes=num_classes,
            width=self._source.grid.width,
            window=self._window,
            overlap=self._overlap,
            start=self._rows[first],
        )
        coverage = np.full((self._window, self._source.grid.width), NODATA_CLASS, np.uint8)
        written: Future | None = None
        progress = tqdm(
            total=total,
            initial=first * len(self._columns),
            unit="window",
            disable=not show_progress,
            smoothing=0.05,
        )
        depth = 2 * self._batch_size + 2
        with (
            ThreadPoolExecutor(1, thread_name_prefix="write") as writer,
            prefetched(self._read(first), depth) as windows,
            progress,
        ):
            windows = windows if should_stop is None else _until(should_stop, windows)
            for row in range(first, len(self._rows)):
                self._blend_row(windows, blender, coverage, progress)
                end = self._rows[row + 1] if row + 1 < len(self._rows) else height
                count = end - self._rows[row]
                strip = blender.close(end)
                strip_coverage = coverage[:count].copy()
                coverage = np.concatenate([coverage[count:], np.full_like(coverage[:count], NODATA_CLASS)])
                if written is not None:
                    written.result()  # one strip at a time waits, so memory stays bounded
                if end > done:
                    written = writer.submit(self._write, strip, strip_coverage)
            if written is not None:
                written.result()
        return total

    def _read(self, first: int) -> Iterator[tuple[int, SceneWindow, np.ndarray | None]]:
        """Column, window and, where only an area is wanted, the pixels (H, W) in it: of every place, row by row."""
        size = self._window
        for row in self._rows[first:]:
            wanted = None if self._area is None else self._area.rows(row, size)
            for column in self._columns:
                inside = None if wanted is None else wanted[:, column : column + size]
                if inside is not None and not inside.any():
                    yield column, None, None
                else:
                    yield column, self._source.read(row, column, size, size), inside

    def _blend_row(self, windows: Iterator, blender: RowBlender, coverage: np.ndarray, progress: tqdm) -> None:
        """Take a row of windows through the model. Batches end with the row, so that resuming makes the same ones."""
        batch: list[tuple[int, SceneWindow]] = []
        for _ in self._columns:
            column, window, inside = next(windows)
            if window is None:
                progress.update()
                continue
            self._note_coverage(coverage, column, window, inside)
            if not window.image_valid.any():
                progress.update()
                continue
            batch.append((column, window))
            if len(batch) == self._batch_size:
                self._blend(blender, batch, progress)
                batch.clear()
        self._blend(blender, batch, progress)

    def _note_coverage(self, coverage: np.ndarray, column: int, window: SceneWindow, inside: np.ndarray | None) -> None:
        rows = coverage[:, column : column + self._window]
        code = np.where(window.sar_valid, COVERAGE["rgb_and_sar"], COVERAGE["rgb_only"])
        code = np.where(window.image_valid, code, COVERAGE["no_rgb"])[:, : rows.shape[1]]
        if inside is None:
            rows[:] = code
        else:
            np.copyto(rows, code.astype(np.uint8), where=inside)

    def _blend(self, blender: RowBlender, batch: Sequence[tuple[int, SceneWindow]], progress: tqdm) -> None:
        items = [
            {
                "image": _tensor(window.image),
                "image_valid": torch.from_numpy(np.ascontiguousarray(window.image_valid)),
                "sar_image": _tensor(window.sar_image) if window.sar_valid.any() else None,
                "sar_valid": torch.from_numpy(np.ascontiguousarray(window.sar_valid)),
                "height": self._window,
                "width": self._window,
            }
            for _, window in batch
        ]
        for (column, _), result in zip(batch, self._run_batch(items), strict=True):
            blender.add(column, result["sem_seg"].cpu())
            progress.update()

    def _write(self, strip: Strip, coverage: np.ndarray) -> None:
        """Turn blended scores into the rows of every layer."""
        confidence, class_map = (values.numpy() for values in strip.scores.max(dim=0))
        empty = (coverage == COVERAGE["no_rgb"]) | (coverage == NODATA_CLASS)
        rows = {"class": np.where(empty, NODATA_CLASS, class_map).astype(np.uint8)[None], "coverage": coverage[None]}
        if "confidence" in self._work.layers:
            rows["confidence"] = _percent(confidence, empty)[None]
        if "probabilities" in self._work.layers:
            rows["probabilities"] = _percent(strip.scores.numpy(), empty)
        self._work.append(rows)


def _until(should_stop: Callable[[], bool], windows: Iterator) -> Iterator:
    """The windows, as long as they are wanted."""
    for window in windows:
        if should_stop():
            raise StoppedError("The scene is not finished: it was no longer asked for.")
        yield window


def _percent(scores: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Scores 0..1 (..., H, W) as uint8 percent, 255 where the map is empty."""
    return np.where(empty, NODATA_CLASS, np.rint(100 * scores)).astype(np.uint8)


def _tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) -> float32 (3, H, W)."""
    return torch.from_numpy(image).permute(2, 0, 1).float()
