"""Real worker processes on a Ray cluster of one machine, sometimes of two, with a stub model."""

import ast
import builtins
import socket
import threading
import time

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError
from mm_ovseg.inference import archive_pool
from mm_ovseg.inference.archive import segment_archive
from mm_ovseg.inference.archive_pool import RayPool
from mm_ovseg.inference.scene_options import SceneOptions
from tests.conftest import ROOT
from tests.patience import PATIENCE
from tests.training_process import wait_until

IMPORTS = (ast.Import, ast.ImportFrom)
NODE = {"num_cpus": 1, "object_store_memory": archive_pool.OBJECT_STORE_BYTES}
OPTIONS = SceneOptions(window=40, overlap=0.25)  # 5 x 2 windows a scene


@pytest.fixture(scope="module")
def cluster(ray):
    """A cluster of one machine with one core; what Ray calls nodes are its processes on this machine."""
    from ray.cluster_utils import Cluster

    # A machine that does not answer is soon lost; one that is slow to answer is not.
    health = {"initial_delay_ms": 0, "period_ms": 250, "failure_threshold": 2, "timeout_ms": 1000 * PATIENCE}
    settings = {f"health_check_{name}": value for name, value in health.items()}
    cluster = Cluster()
    cluster.add_node(wait=False, **NODE, include_dashboard=False, _system_config=settings)
    cluster.wait_for_nodes(PATIENCE)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def second_machine(cluster):
    """A second machine, which has a GPU too."""
    node = cluster.add_node(wait=False, **NODE, num_gpus=1)
    cluster.wait_for_nodes(PATIENCE)
    yield node
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


@pytest.fixture(scope="module")
def connection(cluster, ray):
    """Ray, connected to the cluster by this process, not by a pool."""
    ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture
def scene_files(tmp_path):
    values = np.random.default_rng(0).integers(1, 255, (3, 150, 60), dtype=np.uint8)
    profile = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5e6, 10, 10), "dtype": "uint8", "driver": "GTiff"}
    with rasterio.open(tmp_path / "rgb.tif", "w", width=60, height=150, count=3, **profile) as file:
        file.write(values)
    return (tmp_path / "rgb.tif",)


def make_factory(log, kill_after=None, stuck_on=None):
    """What builds a predictor that logs its machine with every window.

    The first is killed after ``kill_after`` windows. On the machine ``stuck_on``, its second window never ends, and no
    window of another machine ends before that has begun.
    All of it stands in here so that it travels to the worker by value.
    """
    cfg = load_config(ROOT / "projects/laptop/configs/mm_ovseg.yaml", ["MODEL.DEVICE", "cpu"])

    def make():
        import os
        import signal
        import threading
        from pathlib import Path

        import ray
        import torch

        from mm_ovseg.decision import Decision
        from mm_ovseg.inference import scene

        machine = ray.get_runtime_context().get_node_id()

        class StubPredictor:
            def __init__(self, cfg, class_names, **options):
                self.decision, self.lock = Decision(class_names), threading.RLock()

            def model(self, items):
                with open(log, "a+") as file:
                    file.seek(0)
                    lines = file.read().splitlines()
                    if len(lines) == kill_after:
                        file.write("killed\n")
                        file.flush()
                        os.kill(os.getpid(), signal.SIGKILL)
                    file.write(f"{machine}\n")
                if machine == stuck_on and lines.count(machine) == 1:
                    threading.Event().wait()
                while stuck_on and machine != stuck_on and Path(log).read_text().count(stuck_on) < 2:
                    time.sleep(0.01)
                brightness = items[0]["image"][0] / 255
                return [{"sem_seg": torch.stack([1 - brightness, brightness])}]

            model.needs_sar = model.bounded_scores = True

        scene.Predictor = StubPredictor
        return scene.ScenePredictor(cfg, ["dark", "bright"])

    return make


def same_maps(folder, first, second):
    return all(
        (folder / f"{first}{ending}").read_bytes() == (folder / f"{second}{ending}").read_bytes()
        for ending in (".tif", "_coverage.tif")
    )


def test_the_scene_of_a_lost_machine_is_gone_on_with_on_another(
    cluster, second_machine, ray, scene_files, tmp_path, caplog
):
    scenes, log = [SceneFiles(name, scene_files) for name in ("first", "second")], tmp_path / "log"
    first, second = (node.node_id for node in (cluster.head_node, second_machine))
    with RayPool(make_factory(log, stuck_on=second), address=cluster.address) as pool:
        assert pool.size == 2  # one for each machine
        results = segment_archive(scenes, tmp_path / "maps", OPTIONS, pool)
        found = [next(results)]
        cluster.remove_node(second_machine, allow_graceful=False)
        with caplog.at_level("INFO", logger="mm_ovseg"):
            found += results
    assert "(its machine was lost)" in caplog.text
    assert [(result.status, result.attempts) for result in found] == [("done", 1), ("done", 2)]
    assert [log.read_text().split().count(machine) for machine in (first, second)] == [20, 2]
    assert same_maps(tmp_path / "maps", "first", "second")
    assert not ray.is_initialized()


def test_where_no_machine_is_left_that_has_been_said(cluster, second_machine, scene_files, tmp_path, monkeypatch):
    monkeypatch.setattr(archive_pool, "MISSING_SECONDS", 0.5)
    log = tmp_path / "log"
    factory = make_factory(log, stuck_on=second_machine.node_id)
    with RayPool(factory, address=cluster.address, gpus_per_worker=1) as pool:
        results = segment_archive([SceneFiles("a", scene_files)], tmp_path / "maps", OPTIONS, pool)
        lost = threading.Thread(target=lambda: (wait_until(log.exists), cluster.remove_node(second_machine, False)))
        lost.start()
        with pytest.raises(ConfigError, match="No machine of the Ray cluster is left .* 1 GPUs.*--resume"):
            list(results)
        lost.join()


def test_a_killed_worker_is_replaced_and_its_scene_gone_on_with(connection, scene_files, tmp_path, capfd):
    scenes = [SceneFiles(name, scene_files) for name in ("killed", "whole")]
    log = tmp_path / "log"
    with RayPool(make_factory(log, kill_after=9), num_workers=1) as pool:  # rows are written a few windows later
        results = {result.name: result for result in segment_archive(scenes, tmp_path / "maps", OPTIONS, pool)}
    assert [results[name].status for name in ("killed", "whole")] == ["done", "done"]
    assert [results[name].attempts for name in ("killed", "whole")] == [2, 1]
    first, second = log.read_text().split("killed\n")
    # The second attempt made fewer.
    assert len(first.split()) == 9 and 4 <= len(second.split()) - 10 < 10
    assert same_maps(tmp_path / "maps", "killed", "whole")
    assert not list((tmp_path / "maps").glob("*.work")) and not list((tmp_path / "maps").glob(".*"))
    assert connection.is_initialized()  # it was not the pool's to end
    assert capfd.readouterr().out == ""  # none of Ray's pages on the death


class Unknown:
    """What a machine of the cluster lacks."""

    def __reduce__(self):
        return exec, ("import not_installed_here",)


def test_a_worker_that_lacks_a_package_names_it(connection, scene_files, tmp_path):
    pool = RayPool(Unknown(), num_workers=1)
    with pool, pytest.raises(ConfigError, match="No worker can be started .*'not_installed_here'"):
        list(segment_archive([SceneFiles("a", scene_files)], tmp_path, SceneOptions(), pool, retries=0))


def test_what_a_pool_cannot_have_is_one_sentence(connection):
    for arguments, message in (
        ({"num_workers": 0}, "number of workers is 0"),
        ({"gpus_per_worker": -1}, "-1 GPUs per worker"),
        ({"gpus_per_worker": 1.5}, "1.5 GPUs per worker"),
        ({"gpus_per_worker": 512}, "has 512 GPUs"),
    ):
        with pytest.raises(ConfigError, match=message), RayPool(print, **arguments):
            pass


def test_an_address_where_nothing_answers_is_said_at_once(ray, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "somewhere", "host:port"):
        with (
            pytest.raises(ConfigError, match=f"No Ray cluster answers at '{address}'"),
            RayPool(print, address=address),
        ):
            pass


def test_no_module_needs_ray_to_be_imported():
    for path in (ROOT / "mm_ovseg").rglob("*.py"):
        imports = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, IMPORTS)]
        assert not any("ray" in ast.unparse(node).replace(",", " ").split() for node in imports), path


def test_without_ray_one_sentence_says_how_to_get_it(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **keywords):
        if name == "ray":
            raise ImportError("No module named 'ray'")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'mm_ovseg\[ray\]'"):
        RayPool(print)
