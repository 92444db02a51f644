"""A whole scene: what the pipeline around the model costs beside the model."""

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import array_bounds, from_origin
from rasterio.warp import transform_bounds

from laptop.drawn_world import generate_scene
from mm_ovseg.benchmarking.machine import synchronize
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor
from mm_ovseg.raster import Grid, write_geotiff

__all__ = ["build_scene_predictor", "time_scenes", "write_scene_pair"]

TILE = 256  # pixels a side of what is drawn; the scene repeats it
RGB_METRES = 2.0  # a pixel, as the scenes are drawn
SAR_DEGREES = 4.5e-5  # a pixel, 5 m of a meridian
RGB_CRS, CORNER = CRS.from_epsg(32652), (430_000.0, 4_000_000.0)
SAR_CRS = CRS.from_epsg(4326)
BRIGHTEST = 5.0  # dB, of an amplitude of 255
ROWS_AT_ONCE = 256
RUNS_ALONE = 3  # of the model without the pipeline, before the scenes and after them


def build_scene_predictor(cfg: CfgNode, names: Sequence[str]) -> ScenePredictor:
    """A predictor with seeded random weights that reads the files of :func:`write_scene_pair`.

    Raises:
        ConfigError, VocabularyError: as of :class:`~mm_ovseg.inference.scene.ScenePredictor`.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = ""
    cfg.INPUT.RGB.BANDS, cfg.INPUT.RGB.RANGE = [], []
    cfg.INPUT.SAR.BANDS, cfg.INPUT.SAR.SCALE = [], "db"
    torch.manual_seed(0)
    return ScenePredictor(cfg, names)


class _ModelClock:
    """Notes when a model is entered and left, by hooks; the device has done its work then."""

    def __init__(self, model: torch.nn.Module, device: torch.device) -> None:
        self._device = device
        self._times: list[float] = []
        self._hooks = (model.register_forward_pre_hook(self._note), model.register_forward_hook(self._note))

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def measure(self, run: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
        """Run once; returns what it returned, and seconds by name."""
        self._times.clear()
        start = time.perf_counter()
        result = run()
        total = time.perf_counter() - start
        entered, left = self._times[::2], self._times[1::2]
        model = sum(left) - sum(entered)
        return result, {
            "scene_seconds": total,
            "model_seconds": model,
            "overhead_percent": 100 * (total - model) / model,
            "before_windows_seconds": entered[0] - start,
            "between_windows_seconds": left[-1] - entered[0] - model,
            "after_windows_seconds": start + total - left[-1],
        }

    def _note(self, *_: object) -> None:
        synchronize(self._device)
        self._times.append(time.perf_counter())


def time_scenes(
    predictor: ScenePredictor, *, size: int, batch: Sequence[Mapping[str, Any]], runs: int, warmup: int
) -> dict[str, Any]:
    """Segment a scene from files to files, in a temporary folder that is removed after.

    Building the model and the text embeddings, once a vocabulary, are not counted.

    Args:
        predictor: of :func:`build_scene_predictor`.
        size: of the scene, pixels a side of RGB.
        batch: pairs as the model takes them, as many as go through it at a time.
        runs: scenes that count.
        warmup: batches before them.

    Returns:
        Numbers by name. ``seconds_per_pair`` is the scene's time over its windows; where the time goes is told of the
        scene of median time. The model shares the processor with the reading and the writing, so its time within the
        scene hides a part of theirs: "alone" names the model's time without them, before and after.
    """
    model, device = predictor.model, torch.device(predictor.cfg.MODEL.DEVICE)
    options = SceneOptions(batch_size=len(batch))
    with torch.no_grad():
        for _ in range(warmup):
            model(batch)
    clock = _ModelClock(model, device)
    try:
        with torch.no_grad():
            alone = [clock.measure(lambda: model(batch))[1]["model_seconds"] for _ in range(RUNS_ALONE)]
        with TemporaryDirectory(prefix="mm_ovseg_benchmark_") as folder:
            pair = write_scene_pair(Path(folder), size, size)
            scenes = [
                clock.measure(
                    lambda: predictor.segment(
                        *pair, Path(folder) / "map.tif", options, show_progress=sys.stderr.isatty()
                    )
                )
                for _ in range(runs)
            ]
        with torch.no_grad():
            alone += [clock.measure(lambda: model(batch))[1]["model_seconds"] for _ in range(RUNS_ALONE)]
    finally:
        clock.close()
    totals = [seconds["scene_seconds"] for _, seconds in scenes]
    report, seconds = scenes[totals.index(statistics.median_low(totals))]
    windows, alone_per_window = report["windows"], statistics.median(alone) / len(batch)
    return {
        "seconds_per_pair": statistics.median(totals) / windows,
        "seconds_per_pair_all": [total / windows for total in totals],
        "scene_size": size,
        "window": report["settings"]["window"],
        "overlap": report["settings"]["overlap"],
        "windows": windows,
        **seconds,
        "model_alone_seconds_per_window": alone_per_window,
        "overhead_over_alone_percent": 100 * (seconds["scene_seconds"] / (windows * alone_per_window) - 1),
    }


def write_scene_pair(folder: Path, height: int, width: int) -> tuple[Path, Path]:
    """Write a scene as two files that are far from each other, as archives hold them.

    RGB is uint8 in UTM, 2 m a pixel; SAR is float32 in dB, in degrees of longitude and latitude, about 5 m a pixel,
    and covers all of RGB. Both are tiled and deflated. Memory does not depend on the size.

    Args:
        folder: to write to; it exists.
        height, width: of RGB in pixels.

    Returns:
        The files of RGB and of SAR.

    Raises:
        DataError: they cannot be written.
    """
    scene = generate_scene(0, TILE, cloud_cover=0.2)
    decibels = 20 * np.log10(np.maximum(scene.sar, 1) / np.float32(255)) + np.float32(BRIGHTEST)
    rgb_place = from_origin(*CORNER, RGB_METRES, RGB_METRES)
    rgb, sar = folder / "rgb.tif", folder / "sar.tif"

    def rgb_rows() -> Iterator[np.ndarray]:
        columns = np.arange(width) % TILE
        for row in range(0, height, ROWS_AT_ONCE):
            rows = np.arange(row, min(row + ROWS_AT_ONCE, height)) % TILE
            yield scene.rgb[np.ix_(rows, columns)].transpose(2, 0, 1)

    write_geotiff(rgb, rgb_rows(), Grid(width, height, RGB_CRS, rgb_place), bands=3)
    bounds = array_bounds(height, width, rgb_place)
    west, south, east, north = transform_bounds(RGB_CRS, SAR_CRS, *bounds)
    sar_height, sar_width = (math.ceil(side / SAR_DEGREES) + 1 for side in (north - south, east - west))
    sar_place = from_origin(west, north, SAR_DEGREES, SAR_DEGREES)
    to_rgb = Transformer.from_crs(SAR_CRS.to_epsg(), RGB_CRS.to_epsg(), always_xy=True)

    def sar_rows() -> Iterator[np.ndarray]:
        for row in range(0, sar_height, ROWS_AT_ONCE):
            count = min(ROWS_AT_ONCE, sar_height - row)
            middles = np.meshgrid(np.arange(sar_width) + 0.5, np.arange(row, row + count) + 0.5)
            places = ~rgb_place @ to_rgb.transform(*(sar_place @ middles))
            columns, rows = (np.floor(place).astype(int) % TILE for place in places)
            yield decibels[rows, columns][np.newaxis]

    grid = Grid(sar_width, sar_height, SAR_CRS, sar_place)
    write_geotiff(sar, sar_rows(), grid, dtype="float32", nodata=math.nan)
    return rgb, sar
