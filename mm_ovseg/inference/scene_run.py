"""A scene on its way through the model: reading, inference and writing overlap in time."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from mm_ovseg.data.augmentation import PairSample
from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.errors import StoppedError
from mm_ovseg.inference.batches import BatchRunner, model_item
from mm_ovseg.inference.map_writer import NODATA_CLASS
from mm_ovseg.inference.prefetch import prefetched
from mm_ovseg.inference.scene_area import SceneArea
from mm_ovseg.inference.scene_files import COVERAGE
from mm_ovseg.inference.scene_work import SceneWork
from mm_ovseg.inference.windows import RowBlender, first_window_over, window_starts

__all__ = ["SceneRun"]


@dataclass(eq=False)
class SceneRun:
    """Fills the rows of a scene's work.

    Attributes:
        run_batch: the model; gives ``{"sem_seg": (T, height, width) scores in 0..1}`` for each item.
        num_classes: T.
        source: of the windows.
        area: the part to map; None for all.
        work: takes the rows; those that are done already are not made again.
        window: side of a window in pixels.
        overlap: of neighbouring windows in pixels.
        batch_size: windows at a time; fewer where memory does not hold them.
        show_progress: show a progress bar.
        should_stop: asked before each window whether to end the run.
    """

    run_batch: BatchRunner
    num_classes: int
    source: SceneSource
    area: SceneArea | None
    work: SceneWork
    window: int
    overlap: int
    batch_size: int
    show_progress: bool = False
    should_stop: Callable[[], bool] | None = None

    def __call__(self) -> int:
        """Make the rows that are not done yet; returns the number of windows of the scene.

        Raises:
            ConfigError: memory does not hold one window.
            StoppedError: ``should_stop`` said so.
        """
        height, width = self.source.grid.height, self.source.grid.width
        rows, columns = (window_starts(length, self.window, self.overlap) for length in (height, width))
        total, done = len(rows) * len(columns), self.work.rows_done
        if done >= height:
            return total
        first = first_window_over(rows, self.window, done)
        blender = RowBlender(
            num_classes=self.num_classes, width=width, window=self.window, overlap=self.overlap, start=rows[first]
        )
        coverage = np.full((self.window, width), NODATA_CLASS, np.uint8)
        written: Future | None = None
        with (
            ThreadPoolExecutor(1, thread_name_prefix="write") as writer,
            prefetched(self._read(rows[first:], columns), 2 * self.batch_size + 2) as windows,
            tqdm(
                total=total,
                initial=first * len(columns),
                unit="window",
                disable=not self.show_progress,
                smoothing=0.05,
            ) as progress,
        ):
            for row, end in zip(rows[first:], [*rows[first + 1 :], height], strict=True):
                self._blend_row(windows, columns, blender, coverage, progress)
                scores, strip_coverage = blender.close(end), coverage[: end - row].copy()
                coverage = np.concatenate([coverage[end - row :], np.full_like(strip_coverage, NODATA_CLASS)])
                if written is not None:
                    written.result()  # one strip at a time waits, so memory stays bounded
                if end > done:
                    written = writer.submit(self._write, scores, strip_coverage)
            if written is not None:
                written.result()
        return total

    def _read(
        self, rows: Sequence[int], columns: Sequence[int]
    ) -> Iterator[tuple[PairSample | None, np.ndarray | None]]:
        """The windows, row by row, each with the pixels (H, W) in the area, if any; None for a window outside of it."""
        size = self.window
        for row in rows:
            wanted = None if self.area is None else self.area.rows(row, size)
            for column in columns:
                inside = None if wanted is None else wanted[:, column : column + size]
                outside = inside is not None and not inside.any()
                yield None if outside else self.source.read(row, column, size, size), inside

    def _blend_row(
        self, windows: Iterator, columns: Sequence[int], blender: RowBlender, coverage: np.ndarray, progress: tqdm
    ) -> None:
        """Take a row of windows through the model. Batches end with the row, so that resuming makes the same ones."""
        batch: list[tuple[int, dict]] = []
        for column in columns:
            window, inside = next(windows)
            if self.should_stop is not None and self.should_stop():
                raise StoppedError("The scene is not finished: it was no longer asked for.")
            if window is not None:
                part = coverage[:, column : column + self.window]
                code = np.where(window.sar_valid, COVERAGE["rgb_and_sar"], COVERAGE["rgb_only"])
                code = np.where(window.image_valid, code, COVERAGE["no_rgb"])[:, : part.shape[1]]
                np.copyto(part, code.astype(np.uint8), where=True if inside is None else inside)
            if window is None or not window.image_valid.any():
                progress.update()
                continue
            item = model_item(window) | {"height": self.window, "width": self.window}
            batch.append((column, item if window.sar_valid.any() else item | {"sar_image": None}))
            if len(batch) == self.batch_size:
                self._blend(blender, batch, progress)
                batch.clear()
        self._blend(blender, batch, progress)

    def _blend(self, blender: RowBlender, batch: Sequence[tuple[int, dict]], progress: tqdm) -> None:
        results = self.run_batch([item for _, item in batch])
        for (column, _), result in zip(batch, results, strict=True):
            blender.add(column, result["sem_seg"].cpu())
            progress.update()

    def _write(self, scores: torch.Tensor, coverage: np.ndarray) -> None:
        """Turn blended scores (T, rows, W) into the rows of every layer."""
        confidence, class_map = (values.numpy() for values in scores.max(dim=0))
        empty = (coverage == COVERAGE["no_rgb"]) | (coverage == NODATA_CLASS)
        rows = {"class": np.where(empty, NODATA_CLASS, class_map).astype(np.uint8)[None], "coverage": coverage[None]}
        if "confidence" in self.work.layers:
            rows["confidence"] = _percent(confidence, empty)[None]
        if "probabilities" in self.work.layers:
            rows["probabilities"] = _percent(scores.numpy(), empty)
        self.work.append(rows)


def _percent(scores: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Scores 0..1 (..., H, W) as uint8 percent, 255 where the map is empty."""
    return np.where(empty, NODATA_CLASS, np.rint(100 * scores)).astype(np.uint8)
