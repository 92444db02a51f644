"""Archives of scenes: each scene goes to a worker, and to another one if that dies, until all have a result."""

import csv
import logging
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

from mm_ovseg.data.manifest import SEPARATOR, SceneFiles, read_manifest
from mm_ovseg.errors import ConfigError, MMOVSegError
from mm_ovseg.files import check_outputs, complete_file
from mm_ovseg.inference.archive_pool import RayPool
from mm_ovseg.inference.archive_worker import Outcome
from mm_ovseg.inference.kept_features import check_features_folder
from mm_ovseg.inference.scene_files import scene_inputs, scene_outputs
from mm_ovseg.inference.scene_options import SceneOptions

__all__ = ["RESULTS", "SceneResult", "check_archive_outputs", "read_archive", "segment_archive", "write_results"]

logger = logging.getLogger(__name__)

RESULTS = "results.csv"  # in the folder of the maps
COMPANIONS = ("_coverage", "_confidence", "_probabilities", "_stac")  # suffixes of the files next to NAME.tif


@dataclass(frozen=True)
class SceneResult:
    """The result of a scene; the fields are the columns of the table.

    Attributes:
        name: name of the scene.
        rgb, sar: its files; several are separated by ``;``.
        status: skipped scenes were finished by an earlier run.
        attempts: number of workers that tried it; 0 if skipped.
        seconds: total time of all attempts.
        output: the map; empty if failed.
        sar_share: share of the mapped pixels with SAR data, 0..1; None if nothing was mapped.
        error: one sentence on the reason of a failure.
    """

    name: str
    rgb: str
    sar: str
    status: Literal["done", "skipped", "failed"]
    attempts: int
    seconds: float
    output: str
    sar_share: float | None
    error: str


def read_archive(path: str | os.PathLike) -> list[SceneFiles]:
    """Read the scenes of an archive from a manifest with ``rgb``, ``sar``, ``name``, ``aoi`` and ``clouds``.

    Raises:
        DataError: as in :func:`~mm_ovseg.data.manifest.read_manifest`.
    """
    return read_manifest(path, optional=("aoi", "clouds"), companions=COMPANIONS)


def check_archive_outputs(
    scenes: Sequence[SceneFiles],
    output_dir: Path,
    options: SceneOptions,
    *,
    polygons: bool = False,
    others: Mapping[str, Iterable[str | os.PathLike | None]] | None = None,
) -> None:
    """Check that no output of any scene, nor the table of results, would replace an input of any scene.

    Args:
        scenes, output_dir, options, polygons: as in :func:`segment_archive`.
        others: other inputs, as in :func:`mm_ovseg.files.check_outputs`.

    Raises:
        DataError: one would, or a folder for the features of a scene holds something else.
    """
    outputs = {"--output-dir": [output_dir / RESULTS], "--keep-features": []}
    inputs = dict(others or {})
    for work in _plan(scenes, output_dir, options, polygons):
        for option, paths in scene_outputs(work.output, work.options).items():
            outputs["--keep-features" if option == "--keep-features" else "--output-dir"] += paths
        for what, paths in scene_inputs(work.scene.rgb, work.scene.sar, work.options).items():
            inputs[f"{what} of the scene '{work.scene.name}'"] = paths
    check_outputs(outputs, inputs)
    for folder in outputs["--keep-features"]:
        if folder is not None:
            check_features_folder(folder)


def segment_archive(
    scenes: Sequence[SceneFiles],
    output_dir: Path,
    options: SceneOptions,
    pool: RayPool,
    *,
    polygons: bool = False,
    retries: int = 2,
) -> Iterator[SceneResult]:
    """Segment scenes into ``output_dir/NAME.tif`` and its accompanying files.

    A scene that fails because of its files or the settings does not stop the others. If a worker dies, or an unexpected
    error occurs, a new worker continues the scene where the last one stopped.

    Args:
        scenes: with distinct names.
        output_dir: created if missing.
        options: for every scene; a scene may override ``area`` and ``clouds``, which do not matter without RGB,
            ``vector`` is not used, and the features of each scene are kept in ``keep_features/NAME``. With ``resume``,
            scenes with finished maps are skipped.
        pool: a connected pool.
        polygons: also write ``NAME.gpkg``.
        retries: attempts after the first, for scenes and for starting workers.

    Yields:
        One result per scene, in order of completion.

    Raises:
        ConfigError: ``retries`` is negative, no worker can be started, or a cluster has lost all machines for workers.
        DataError: as in :func:`check_archive_outputs`.
        MMOVSegError: the model cannot be built, for instance because of its weights.
    """
    if retries < 0:
        raise ConfigError(f"The number of retries is {retries}; give 0 or more.")
    check_archive_outputs(scenes, output_dir, options, polygons=polygons)
    return _run(deque(_plan(scenes, output_dir, options, polygons)), pool, retries)


def write_results(path: Path, results: Iterable[SceneResult]) -> None:
    """Write results as a CSV file, atomically.

    Raises:
        DataError: it cannot be written.
    """
    with complete_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(SceneResult)])
        writer.writeheader()
        writer.writerows(map(asdict, results))


@dataclass
class _Work:
    """A scene, its output, and the effort spent on it."""

    scene: SceneFiles
    output: Path
    options: SceneOptions
    attempts: int = 0
    seconds: float = 0.0
    began: float = 0.0


def _plan(scenes: Sequence[SceneFiles], output_dir: Path, options: SceneOptions, polygons: bool) -> Iterator[_Work]:
    for scene in scenes:
        vector = output_dir / f"{scene.name}.gpkg" if polygons else None
        own = replace(options, vector=vector)
        if options.keep_features is not None:
            own = replace(own, keep_features=options.keep_features / scene.name)
        if scene.area is not None:  # --aoi-layer is a layer of --aoi
            own = replace(own, area=scene.area, area_layer=None)
        own = replace(own, clouds=(scene.clouds or own.clouds) if scene.rgb else None)
        yield _Work(scene, output_dir / f"{scene.name}.tif", own)


def _run(waiting: deque[_Work], pool: RayPool, retries: int) -> Iterator[SceneResult]:
    busy: dict[int, _Work] = {}  # by worker
    idle: list[int] = []
    starting: dict[int, int] = {}  # worker -> failed starts before it
    places = pool.size  # free places for workers
    while waiting or busy:
        while waiting and idle:
            work, worker = waiting.popleft(), idle.pop()
            work.attempts += 1
            work.began = time.monotonic()
            busy[worker] = work
            options = replace(work.options, resume=work.options.resume or work.attempts > 1)
            pool.submit(worker, work.scene, work.output, options)
        while len(starting) < len(waiting) and len(starting) + len(busy) < places:
            starting[pool.start()] = 0
        worker, outcome = pool.wait()
        if worker in busy:
            work = busy.pop(worker)
            work.seconds += time.monotonic() - work.began
            if not outcome.retry:
                idle.append(worker)
                yield _result(work, outcome)
                continue
            pool.stop(worker)  # even if alive: the same error might occur there again
            if work.attempts <= retries:
                logger.info("Retrying %s (%s).", work.scene.name, outcome.error)
                waiting.append(work)
                continue
            reason = f"Given up after {work.attempts} attempts ({outcome.error})"
            yield _result(work, replace(outcome, error=f"{reason}; run again with --resume and fewer workers."))
            continue
        failures = starting.pop(worker)
        if outcome.status == "ready":
            idle.append(worker)
            continue
        pool.stop(worker)
        if not outcome.retry:
            raise MMOVSegError(outcome.error)
        if failures < retries:
            starting[pool.start()] = failures + 1
            continue
        places -= 1
        if places == 0:
            raise ConfigError(
                f"No worker can be started ({outcome.error}); try fewer --num-workers, or MM_OVSEG_DEBUG=1 for details."
            )


def _result(work: _Work, outcome: Outcome) -> SceneResult:
    # Absolute, so that the table is valid in any folder.
    rgb, sar = (SEPARATOR.join(str(path.absolute()) for path in paths) for paths in (work.scene.rgb, work.scene.sar))
    return SceneResult(
        name=work.scene.name,
        rgb=rgb,
        sar=sar,
        status=outcome.status,
        attempts=0 if outcome.status == "skipped" else work.attempts,
        seconds=round(work.seconds, 1),
        output="" if outcome.status == "failed" else str(work.output.absolute()),
        sar_share=None if outcome.sar_share is None else round(outcome.sar_share, 4),
        error=outcome.error,
    )
