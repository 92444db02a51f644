"""Running a scene through the model, with reading, inference and writing overlapped in time."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mm_ovseg.data.augmentation import PairSample
from mm_ovseg.data.cloud_mask import CloudMask
from mm_ovseg.data.mappers import model_item
from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.decision import NODATA_CLASS, Decision
from mm_ovseg.errors import check_needed
from mm_ovseg.inference.background import Background
from mm_ovseg.inference.batches import BatchRunner
from mm_ovseg.inference.coverage import COVERAGE, coverage_of
from mm_ovseg.inference.feature_files import EncodedBatch, EncodedWindow
from mm_ovseg.inference.kept_features import KeptFeatures
from mm_ovseg.inference.prefetch import prefetched
from mm_ovseg.inference.scene_area import SceneArea
from mm_ovseg.inference.scene_options import SceneOptions
from mm_ovseg.inference.scene_work import SceneWork
from mm_ovseg.inference.windows import RowBlender
from mm_ovseg.modeling.meta_arch.segmenter import EncodedItem, OpenVocabularySegmenter
from mm_ovseg.modeling.windows import window_starts

__all__ = ["SceneRun"]


@dataclass(eq=False)
class SceneRun:
    """Computes the rows of a scene.

    Attributes:
        model: gives scores (N, height, width) of each window.
        decision: from the scores of its N names to the map.
        clouds: where RGB is under cloud; None if that is not known.
        area: the part to map; None for the whole scene.
        work: receives the rows; finished rows are not computed again.
        features: keeps what the model encodes, or has it from another run; None to keep nothing.
        options: with the window size.
        should_stop: called before each batch of windows; returns True to stop.
        on_progress: called after each batch with the numbers of finished windows and of all.
    """

    model: OpenVocabularySegmenter
    decision: Decision
    source: SceneSource
    clouds: CloudMask | None
    area: SceneArea | None
    work: SceneWork
    features: KeptFeatures | None
    options: SceneOptions
    show_progress: bool = False
    should_stop: Callable[[], bool] | None = None
    on_progress: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        self._segment = BatchRunner(self._segment_items)
        self._answer = BatchRunner(lambda encoded: self.model.answer(encoded))

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
        finished = first * len(columns)
        ahead = 2 + 2 // self.options.batch_size  # two batches and two windows, which bounds memory
        bar = {"unit": "window", "disable": not self.show_progress, "smoothing": 0.05}
        with (
            Background("write", max_waiting=1) as write,  # one strip at a time waits, so memory stays bounded
            Background("blend", max_waiting=2) as blend,  # while the model has the next windows
            prefetched(self._read(rows[first:], columns), ahead) as batches,
            tqdm(total=total, initial=finished, **bar) as progress,
        ):

            def close(row: int, end: int) -> None:
                count = end - row
                scores, strip_coverage = blender.close(end), coverage[:count].copy()
                coverage[: size - count] = coverage[count:]
                coverage[size - count :] = NODATA_CLASS
                if end > done:
                    write(self._write, scores, strip_coverage)

            for row, end in zip(rows[first:], [*rows[first + 1 :], height], strict=True):
                for some in self._batches(columns):
                    batch = next(batches)
                    check_needed(self.should_stop)
                    blend(self._blend, batch, self._scores(batch), blender, coverage)
                    progress.update(len(some))
                    finished += len(some)  # which a disabled bar does not count
                    if self.on_progress is not None:
                        self.on_progress(finished, total)
                blend(close, row, end)
        return total

    def _batches(self, columns: Sequence[int]) -> Iterator[Sequence[int]]:
        """The windows of a row in batches, always the same: other neighbours could change the last bits of scores."""
        for first in range(0, len(columns), self.options.batch_size):
            yield columns[first : first + self.options.batch_size]

    def _read(self, rows: Sequence[int], columns: Sequence[int]) -> Iterator["_Batch"]:
        """The batches, row by row, of the windows that reach the area."""
        size = self.options.window
        everything = np.ones((size, self.source.grid.width), bool)
        for row in rows:
            wanted = everything if self.area is None else self.area.rows(row, size)
            for some in self._batches(columns):
                inside = {column: wanted[:, column : column + size] for column in some}
                yield self._read_batch(row, {column: pixels for column, pixels in inside.items() if pixels.any()})

    def _read_batch(self, row: int, inside: Mapping[int, np.ndarray]) -> "_Batch":
        size = self.options.window
        kept = self.features.load(row, list(inside)) if self.features is not None and inside else None
        windows: Sequence[PairSample | EncodedWindow]
        windows = [self.source.read(row, column, size, size) for column in inside] if kept is None else kept.windows
        coverages, items = [], []
        for column, window in zip(inside, windows, strict=True):
            cloudy = None if self.clouds is None else self.clouds.read(row, column, size, size)
            coverages.append(coverage_of(window.image_valid, window.sar_valid, cloudy))
            if kept is None:
                items.append(_item(window) if coverages[-1].any() else None)
        return _Batch(row, inside, coverages, windows, items, kept)

    def _scores(self, batch: "_Batch") -> list[torch.Tensor]:
        """Run a batch through the model: scores (N, H, W) of the windows with data."""
        if batch.kept is None:
            return self._encode(batch)
        return [scores.cpu() for part in batch.kept.parts() for scores in self._answer(part)]

    def _blend(
        self, batch: "_Batch", scores: Sequence[torch.Tensor], blender: RowBlender, coverage: np.ndarray
    ) -> None:
        for (column, inside), rests_on in zip(batch.inside.items(), batch.coverages, strict=True):
            coverage[:, column : column + len(rests_on)][inside] = rests_on[:, : inside.shape[1]][inside]
        columns = [column for column, rests_on in zip(batch.inside, batch.coverages, strict=True) if rests_on.any()]
        for column, window_scores in zip(columns, scores, strict=True):
            blender.add(column, window_scores)

    def _encode(self, batch: "_Batch") -> list[torch.Tensor]:
        """The scores of the windows with data from their images; keeps the features."""
        results = self._segment([item for item in batch.items if item is not None])
        if self.features is not None and batch.items:
            encoded = iter([result.encoded for result in results])
            windows = [
                EncodedWindow(window.image_valid, window.sar_valid, None if item is None else next(encoded))
                for window, item in zip(batch.windows, batch.items, strict=True)
            ]
            part_lengths: list[int] = []
            while sum(part_lengths) < len(results):
                part_lengths.append(results[sum(part_lengths)].together)
            self.features.save(batch.row, list(batch.inside), EncodedBatch(windows, part_lengths))
        return [result.scores.cpu() for result in results]

    def _segment_items(self, items: list[dict]) -> list["_Result"]:
        if self.features is None:
            return [_Result(result["sem_seg"]) for result in self.model(items)]
        encoded = self.model.encode(items)
        return [_Result(*pair, len(items)) for pair in zip(self.model.answer(encoded), encoded, strict=True)]

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


@dataclass(frozen=True, eq=False)
class _Batch:
    """Windows that go through the model together.

    Attributes:
        row: their first row.
        inside: their first columns -> their pixels in the area, bool (H, W), not beyond the scene.
        coverages: uint8 (H, W) of each.
        windows: their images, or only the valid masks if their features are kept.
        items: what the model takes of each, made while it has others; None for a window without data.
        kept: their features, if they are.
    """

    row: int
    inside: Mapping[int, np.ndarray]
    coverages: Sequence[np.ndarray]
    windows: Sequence[PairSample | EncodedWindow]
    items: Sequence[dict[str, Any] | None]
    kept: EncodedBatch | None


@dataclass(frozen=True, eq=False)
class _Result:
    """The scores (N, height, width) of a window; its features and with how many others they were made, to keep them."""

    scores: torch.Tensor
    encoded: EncodedItem | None = None
    together: int = 1


def _item(window: PairSample) -> dict[str, Any]:
    """What the model takes."""
    height, width = window.image_valid.shape
    item = model_item(window) | {"height": height, "width": width}
    return item if window.sar_valid.any() else item | {"sar_image": None}


def _percent(scores: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Scores (..., H, W), cut at 1, as uint8 percent, 255 where the map is empty."""
    return np.where(empty, NODATA_CLASS, np.rint(100 * np.minimum(scores, 1))).astype(np.uint8)
