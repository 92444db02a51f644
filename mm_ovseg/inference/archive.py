"""An archive of scenes: each is given to a worker, and to another where that one dies, until all are accounted for."""

import logging
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from mm_ovseg.data.manifest import SceneFiles, read_manifest
from mm_ovseg.errors import ConfigError, MMOVSegError
from mm_ovseg.files import check_outputs
from mm_ovseg.inference.archive_results import RESULTS, SceneResult, describe_files
from mm_ovseg.inference.archive_worker import Outcome
from mm_ovseg.inference.scene_files import scene_inputs, scene_outputs
from mm_ovseg.inference.scene_options import SceneOptions

__all__ = ["Pool", "check_archive_outputs", "read_archive", "segment_archive"]

logger = logging.getLogger(__name__)

COMPANIONS = ("_coverage", "_confidence", "_probabilities")  # endings of the files that stand beside NAME.tif


class Pool(Protocol):
    """Worker processes, known by number; :class:`~mm_ovseg.inference.archive_pool.RayPool` is one."""

    size: int

    def start(self) -> int:
        """Start a worker; :meth:`wait` tells when it is ready."""

    def submit(self, worker: int, scene: SceneFiles, output: Path, options: SceneOptions) -> None:
        """Give a ready worker a scene; :meth:`wait` tells how it fared."""

    def wait(self) -> tuple[int, Outcome]:
        """The next worker with something to tell."""

    def stop(self, worker: int) -> None:
        """End a worker."""


def read_archive(path: str | os.PathLike) -> list[SceneFiles]:
    """Read the scenes of an archive from a manifest with ``rgb``, ``sar`` (may be empty), ``name`` and ``aoi``.

    Raises:
        DataError: As of :func:`~mm_ovseg.data.manifest.read_manifest`.
    """
    return read_manifest(path, optional=("aoi",), companions=COMPANIONS)


def check_archive_outputs(
    scenes: Sequence[SceneFiles],
    output_dir: Path,
    options: SceneOptions,
    *,
    polygons: bool = False,
    others: Mapping[str, Iterable[str | os.PathLike | None]] | None = None,
) -> None:
    """Check that no file of any scene, nor the table of results, would replace what any scene is made from.

    Args:
        scenes, output_dir, options, polygons: as of :func:`segment_archive`.
        others: what else is read, as of :func:`mm_ovseg.files.check_outputs`.

    Raises:
        DataError: one would.
    """
    outputs = [output_dir / RESULTS]
    inputs = dict(others or {})
    for scene in scenes:
        chosen = _options_of(scene, output_dir, options, polygons)
        for paths in scene_outputs(_map_of(scene, output_dir), chosen).values():
            outputs += paths
        for what, paths in scene_inputs(scene.rgb, scene.sar, chosen).items():
            inputs[f"{what} of the scene '{scene.name}'"] = paths
    check_outputs({"--output-dir": outputs}, inputs)


def segment_archive(
    scenes: Sequence[SceneFiles],
    output_dir: Path,
    options: SceneOptions,
    pool: Pool,
    *,
    polygons: bool = False,
    retries: int = 2,
) -> Iterator[SceneResult]:
    """Segment scenes into ``output_dir/NAME.tif``, and what comes with a map.

    A scene that fails by its files or the settings has failed; the others go on. Where a worker dies, or something
    unforeseen happens, the scene is given to a new worker, which goes on where the last one was.

    Args:
        scenes: of different names.
        output_dir: made where it is missing.
        options: of every scene, but for ``area``, which a scene may have its own of, and ``vector``, which is not used.
            With ``resume``, scenes whose maps are finished are skipped.
        pool: connected.
        polygons: also write ``NAME.gpkg``.
        retries: attempts after the first; of workers to start, too.

    Yields:
        One result a scene, as they come.

    Raises:
        ConfigError: ``retries`` is negative, or no worker can be started.
        DataError: as of :func:`check_archive_outputs`.
        MMOVSegError: the model cannot be built, for instance because of its weights.
    """
    if retries < 0:
        raise ConfigError(f"The number of retries is {retries}; give 0 or more.")
    check_archive_outputs(scenes, output_dir, options, polygons=polygons)
    return _Run([_Work(scene) for scene in scenes], output_dir, options, pool, polygons, retries).results()


@dataclass
class _Work:
    """A scene and what was spent on it."""

    scene: SceneFiles
    attempts: int = 0
    seconds: float = 0.0
    began: float = 0.0


class _Run:
    """Who does what, and what is left to do."""

    def __init__(
        self, works: list[_Work], output_dir: Path, options: SceneOptions, pool: Pool, polygons: bool, retries: int
    ) -> None:
        self._output_dir, self._options, self._pool = output_dir, options, pool
        self._polygons, self._retries = polygons, retries
        self._waiting = deque(works)
        self._busy: dict[int, _Work] = {}
        self._idle: list[int] = []
        self._starting: dict[int, int] = {}  # worker -> how many before it failed to start in its stead
        self._places = pool.size  # for workers

    def results(self) -> Iterator[SceneResult]:
        """See :func:`segment_archive`."""
        while self._waiting or self._busy:
            self._distribute()
            worker, outcome = self._pool.wait()
            if worker in self._starting:
                self._take_in(worker, outcome)
            elif (result := self._account(worker, outcome)) is not None:
                yield result

    def _distribute(self) -> None:
        """Give the ready workers work, and start others where work is left and there are places."""
        while self._waiting and self._idle:
            work, worker = self._waiting.popleft(), self._idle.pop()
            work.attempts += 1
            work.began = time.monotonic()
            self._busy[worker] = work
            options = _options_of(work.scene, self._output_dir, self._options, self._polygons)
            options = replace(options, resume=options.resume or work.attempts > 1)
            self._pool.submit(worker, work.scene, _map_of(work.scene, self._output_dir), options)
        while len(self._starting) < len(self._waiting) and len(self._starting) + len(self._busy) < self._places:
            self._starting[self._pool.start()] = 0

    def _take_in(self, worker: int, outcome: Outcome) -> None:
        """Note whether a worker could be started."""
        failures = self._starting.pop(worker)
        if outcome.status == "ready":
            self._idle.append(worker)
            return
        self._pool.stop(worker)
        if not outcome.retry:
            raise MMOVSegError(outcome.error)
        if failures < self._retries:
            self._starting[self._pool.start()] = failures + 1
            return
        self._places -= 1
        if self._places == 0:
            raise ConfigError(
                f"No worker can be started ({outcome.error}); try fewer --num-workers, or MM_OVSEG_DEBUG=1 to see more."
            )

    def _account(self, worker: int, outcome: Outcome) -> SceneResult | None:
        """The result of a scene, or None where it is tried again."""
        work = self._busy.pop(worker)
        work.seconds += time.monotonic() - work.began
        if not outcome.retry:
            self._idle.append(worker)
            return self._result(work, outcome)
        self._pool.stop(worker)  # even if it lives: what went wrong there may go wrong again
        if work.attempts <= self._retries:
            logger.info("%s is tried again (%s).", work.scene.name, outcome.error)
            self._waiting.append(work)
            return None
        error = f"Given up after {work.attempts} attempts ({outcome.error}); run again with --resume and fewer workers."
        return self._result(work, replace(outcome, error=error))

    def _result(self, work: _Work, outcome: Outcome) -> SceneResult:
        rgb, sar = describe_files(work.scene)
        return SceneResult(
            name=work.scene.name,
            rgb=rgb,
            sar=sar,
            status=outcome.status,
            attempts=0 if outcome.status == "skipped" else work.attempts,
            seconds=round(work.seconds, 1),
            output="" if outcome.status == "failed" else str(_map_of(work.scene, self._output_dir).absolute()),
            sar_share=None if outcome.sar_share is None else round(outcome.sar_share, 4),
            error=outcome.error,
        )


def _map_of(scene: SceneFiles, output_dir: Path) -> Path:
    return output_dir / f"{scene.name}.tif"


def _options_of(scene: SceneFiles, output_dir: Path, options: SceneOptions, polygons: bool) -> SceneOptions:
    """Those of the archive, with what is the scene's own."""
    vector = _map_of(scene, output_dir).with_suffix(".gpkg") if polygons else None
    return replace(options, area=scene.area or options.area, vector=vector)
