"""Worker processes on a Ray cluster, on one or many machines."""

import logging
import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.errors import ConfigError, brief_reason
from mm_ovseg.inference.archive_worker import Outcome, SceneWorker
from mm_ovseg.inference.scene import ScenePredictor
from mm_ovseg.inference.scene_options import SceneOptions

__all__ = ["RayPool", "import_ray"]

# The object store only holds names of scenes; by default, it takes a third of the memory. Ray's minimum is 75 MiB.
OBJECT_STORE_BYTES = 100 << 20
CONNECT_SECONDS = 20
MISSING_SECONDS = 60  # for which a lost machine may be away


def import_ray() -> ModuleType:
    """Import Ray, an optional requirement, without its usage statistics.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Silences the reports on dead workers, which we replace. Ray reads this when it is imported.
    if not _debugging():
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"Archives need Ray ({error}); run: pip install 'mm_ovseg[ray]'.") from error
    return ray


class RayPool:
    """Numbered processes that segment scenes, with one model each; a context manager.

    If the calling process is already connected to Ray, that cluster is used and left running. Ray does not restart
    workers that die; :meth:`wait` reports them, so that attempts can be counted.

    Args:
        make_predictor: builds the model of a worker; picklable.
        num_workers: processes; None for one per GPU (or share of one) of the cluster, or else one per machine.
        address: that of a cluster, as in ``ray.init``; None starts one on this machine.
        gpus_per_worker: GPUs per worker; less than 1 shares a GPU; 0 for none.

    Attributes:
        size: number of workers to start, once connected.

    Raises:
        ConfigError: Ray is not installed, a number is out of range, or, on connecting, the cluster is missing or lacks
            the resources of a worker.
    """

    def __init__(
        self,
        make_predictor: Callable[[], ScenePredictor],
        *,
        num_workers: int | None = None,
        address: str | None = None,
        gpus_per_worker: float = 0,
    ) -> None:
        if num_workers is not None and num_workers < 1:
            raise ConfigError(f"The number of workers is {num_workers}; give 1 or more.")
        if gpus_per_worker < 0 or (gpus_per_worker > 1 and gpus_per_worker % 1):
            raise ConfigError(
                f"{gpus_per_worker} GPUs per worker are not possible; give a fraction below 1, or a whole number."
            )
        self._ray = import_ray()
        self._make_predictor, self._address, self._gpus = make_predictor, address, gpus_per_worker
        self.size = num_workers
        self._handles: dict[int, Any] = {}
        self._pending: dict[Any, int] = {}  # pending call -> worker
        self._started = 0

    def __enter__(self) -> "RayPool":
        self._owner = not self._ray.is_initialized()
        if self._owner:
            self._connect()
        nodes = self._machines()
        if not any(node.get("GPU", 0) >= self._gpus for node in nodes):
            self.__exit__()
            raise ConfigError(
                f"No machine of the Ray cluster has {self._gpus:g} GPUs free for a worker; "
                "lower --gpus-per-worker, or give MODEL.DEVICE cpu."
            )
        if self.size is None:
            gpus = sum(node.get("GPU", 0) for node in nodes)
            self.size = max(1, int(gpus / self._gpus)) if self._gpus else len(nodes)
        if self._address is None:  # all cores are ours, and need not be reserved
            self._threads, self._cpus = max(1, torch.get_num_threads() // self.size), 0
        else:
            cores = [int(node.get("CPU", 0)) for node in nodes]
            self._threads = self._cpus = max(1, min(sum(cores) // self.size, max(cores)))
        self._actor = self._ray.remote(SceneWorker).options(num_cpus=self._cpus, num_gpus=self._gpus)
        return self

    def __exit__(self, *error: object) -> None:
        for worker in list(self._handles):
            self.stop(worker)
        if self._owner:
            self._ray.shutdown()

    def start(self) -> int:
        """Start a worker that builds its model; :meth:`wait` reports when it is ready."""
        self._started += 1
        handle = self._actor.remote(self._make_predictor, self._threads, os.getcwd())
        self._handles[self._started] = handle
        self._pending[handle.build.remote()] = self._started
        return self._started

    def submit(self, worker: int, scene: SceneFiles, output: Path, options: SceneOptions) -> None:
        """Give an idle worker a scene; :meth:`wait` reports when it is done."""
        self._pending[self._handles[worker].segment.remote(scene, output, options)] = worker

    def wait(self) -> tuple[int, Outcome]:
        """Wait for the next worker that is done or dead.

        Raises:
            ConfigError: the cluster has lost all machines that could hold a worker.
        """
        # Ray itself would wait for ever: it reports the workers of a lost machine, but not those that wait for one.
        while not (ready := self._ray.wait(list(self._pending), num_returns=1, timeout=MISSING_SECONDS)[0]):
            if not any(n.get("CPU", 0) >= self._cpus and n.get("GPU", 0) >= self._gpus for n in self._machines()):
                raise ConfigError(
                    f"No machine of the Ray cluster is left that has {self._cpus} CPUs and {self._gpus:g} GPUs for a "
                    "worker; bring one back, and run again with --resume."
                )
        worker = self._pending.pop(ready[0])
        try:
            return worker, self._ray.get(ready[0])
        except self._ray.exceptions.RayError as error:
            return worker, Outcome("failed", error=_why_it_died(error), retry=True)

    def stop(self, worker: int) -> None:
        """Stop a worker, busy or not."""
        self._ray.kill(self._handles.pop(worker))

    def _machines(self) -> list[dict[str, float]]:
        """The resources of every machine of the cluster, those in use too."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _connect(self) -> None:
        if self._address is None:
            # Without "local", Ray would look for an existing cluster.
            chosen = {"address": "local", "num_cpus": 1, "include_dashboard": False}
            chosen["object_store_memory"] = OBJECT_STORE_BYTES
            failure, advice = "start on this machine", "its logs are in /tmp/ray/session_latest/logs"
        else:
            _check_answers(self._address)
            chosen = {"address": self._address}
            failure = f"be reached at '{self._address}'"
            advice = "see `ray status`; a cluster with a token needs the environment variable RAY_AUTH_MODE=token"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # anything important is raised
                self._ray.init(**chosen, logging_level=logging.ERROR, log_to_driver=_debugging())
        except Exception as error:  # of many types, such as ValueError and RuntimeError
            raise ConfigError(f"A Ray cluster cannot {failure} ({brief_reason(error)}); {advice}.") from error


def _check_answers(address: str) -> None:
    """Check that something listens at an address, for which Ray itself would wait a long time."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"No Ray cluster answers at '{address}' ({brief_reason(error)}); give host:port, ray://host:port or auto."
        ) from error


def _debugging() -> bool:
    return os.environ.get("MM_OVSEG_DEBUG") == "1"


def _why_it_died(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("creation task" in line for line in lines):  # an error in the worker, given in the last line
        return lines[-1]
    if any("node has died" in line for line in lines):
        return "its machine was lost"
    return "the worker process was killed, perhaps for lack of memory"
