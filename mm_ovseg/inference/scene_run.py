"""Running a scene through the model, with reading, inference and writing overlapped in time."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from mm_ovseg.data.augmentation import PairSample
from mm_ovseg.data.cloud_mask import CloudMask
from mm_ovseg.data.mappers import model_item
from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.decision import NODATA_CLASS, Decision
from mm_ovseg.errors import StoppedError
from mm_ovseg.inference.batches import BatchRunner
from mm_ovseg.inference.coverage import COVERAGE, coverage_of
from mm_ovseg.inference.prefetch import prefetched
from mm_ovseg.inference.scene_area import SceneArea
from mm_ovseg.inference.scene_options import SceneOptions
from mm_ovseg.inference.scene_work import SceneWork
from mm_ovseg.inference.windows import RowBlender
from mm_ovseg.modeling.windows import window_starts

__all__ = ["SceneRun"]


@dataclass(eq=False)
class SceneRun:
    """Computes the rows of a scene.

    Attributes:
        run_batch: the model; returns ``{"sem_seg": (N, height, width) scores}`` for each item.
        decision: from the scores of its N names to the map.
        clouds: where RGB is under cloud; None if that is not known.
        area: the part to map; None for the whole scene.
        work: receives the rows; finished rows are not computed again.
        options: with the window size.
        should_stop: called before each window; returns True to stop.
    """

    run_batch: BatchRunner
    decision: Decision
    source: SceneSource
    clouds: CloudMask | None
    area: SceneArea | None
    work: SceneWork
    options: SceneOptions
    show_progress: bool = False
    should_stop: Callable[[], bool] | None = None

    def __call__(self) -> int:
        """Compute the unfinished rows; returns the number of windows of the scene.

        Raises:
            ConfigError: memory does not hold one window.
            StoppedError: ``should_stop`` returned True.
        """
        height, width = self.source.grid.height, self.source.grid.width
        size, overlap = self.options.window, self.options.overlap_pixels
        rows, columns = (window_starts(length, size, overlap) for length in (height, width))
        total, done = len(rows) * len(columns), self.work.rows_done
        if done >= height:
            return total
        first = bisect_right(rows, done - size)  # the first that reaches an unfinished row
        blender = RowBlender(
            num_classes=len(self.decision.names), width=width, window=size, overlap=overlap, start=rows[first]
        )
        coverage = np.full((size, width), NODATA_CLASS, np.uint8)
        written: Future | None = None
        bar = {"unit": "window", "disable": not self.show_progress, "smoothing": 0.05}
        with (
            ThreadPoolExecutor(1, thread_name_prefix="write") as writer,
            prefetched(self._read(rows[first:], columns), 2 * self.options.batch_size + 2) as windows,
            tqdm(total=total, initial=first * len(columns), **bar) as progress,
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
    ) -> Iterator[tuple[PairSample | None, np.ndarray | None, np.ndarray]]:
        """The windows, row by row, each with its coverage and its pixels in the area, all (H, W).

        For a window outside the area, it and its coverage are None.
        """
        size = self.options.window
        everything = np.ones((size, self.source.grid.width), bool)
        for row in rows:
            wanted = everything if self.area is None else self.area.rows(row, size)
            for column in columns:
                inside = wanted[:, column : column + size]
                read = self._read_window(row, column) if inside.any() else (None, None)
                yield *read, inside

    def _read_window(self, row: int, column: int) -> tuple[PairSample, np.ndarray]:
        size = self.options.window
        window = self.source.read(row, column, size, size)
        cloudy = None if self.clouds is None else self.clouds.read(row, column, size, size)
        return window, coverage_of(window.image_valid, window.sar_valid, cloudy)

    def _blend_row(
        self, windows: Iterator, columns: Sequence[int], blender: RowBlender, coverage: np.ndarray, progress: tqdm
    ) -> None:
        """Run a row of windows through the model. Batches end with the row, so that a resumed run has the same."""
        size = self.options.window
        batch: list[tuple[int, dict]] = []
        for column in columns:
            window, rests_on, inside = next(windows)
            if self.should_stop is not None and self.should_stop():
                raise StoppedError("The scene is not finished: it is no longer needed.")
            if window is not None:
                coverage[:, column : column + size][inside] = rests_on[:, : inside.shape[1]][inside]
            if window is None or not rests_on.any():
                progress.update()
                continue
            item = model_item(window) | {"height": size, "width": size}
            batch.append((column, item if window.sar_valid.any() else item | {"sar_image": None}))
            if len(batch) == self.options.batch_size:
                self._blend(blender, batch, progress)
                batch.clear()
        self._blend(blender, batch, progress)

    def _blend(self, blender: RowBlender, batch: Sequence[tuple[int, dict]], progress: tqdm) -> None:
        results = self.run_batch([item for _, item in batch])
        for (column, _), result in zip(batch, results, strict=True):
            blender.add(column, result["sem_seg"].cpu())
            progress.update()

    def _write(self, scores: torch.Tensor, coverage: np.ndarray) -> None:
        """Turn blended scores (N, rows, W) into the rows of every layer."""
        empty = (coverage == COVERAGE["nothing"]) | (coverage == NODATA_CLASS)
        class_map, confidence = self.decision(scores, torch.from_numpy(~empty))
        rows = {"class": class_map.numpy()[None], "coverage": coverage[None]}
        if "confidence" in self.work.layers:
            rows["confidence"] = _percent(confidence.numpy(), empty)[None]
        if "probabilities" in self.work.layers:
            scores = self.decision.calibrated(scores[: len(self.decision.classes)])  # (T, rows, W)
            rows["probabilities"] = _percent(scores.numpy(), empty)
        self.work.append(rows)


def _percent(scores: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Scores (..., H, W), cut at 1, as uint8 percent, 255 where the map is empty."""
    return np.where(empty, NODATA_CLASS, np.rint(100 * np.minimum(scores, 1))).astype(np.uint8)
