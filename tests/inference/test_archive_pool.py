"""Real worker processes on a small Ray cluster, with a stub model."""

import ast
import builtins
import socket

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError
from mm_ovseg.inference.archive import segment_archive
from mm_ovseg.inference.archive_pool import RayPool
from mm_ovseg.inference.scene_options import SceneOptions
from tests.conftest import ROOT

IMPORTS = (ast.Import, ast.ImportFrom)


@pytest.fixture(scope="module")
def cluster(ray):
    ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture
def scene_files(tmp_path):
    values = np.random.default_rng(0).integers(1, 255, (3, 150, 60), dtype=np.uint8)
    profile = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5e6, 10, 10), "dtype": "uint8", "driver": "GTiff"}
    with rasterio.open(tmp_path / "rgb.tif", "w", width=60, height=150, count=3, **profile) as file:
        file.write(values)
    return (tmp_path / "rgb.tif",)


def make_factory(log, kill_after):
    """What builds a predictor that logs its windows, and the first of which is killed after some.

    All of it stands in here so that it travels to the worker by value.
    """
    cfg = load_config(ROOT / "projects/laptop/configs/mm_ovseg.yaml", ["MODEL.DEVICE", "cpu"])

    def make():
        import os
        import signal
        import threading

        import torch

        from mm_ovseg.inference import scene

        class StubPredictor:
            def __init__(self, cfg, class_names, *, any_format):
                self.class_names, self.lock = tuple(class_names), threading.RLock()

            def model(self, items):
                with open(log, "a+") as file:
                    file.seek(0)
                    lines = file.read().splitlines()
                    if len(lines) == kill_after:
                        file.write("killed\n")
                        file.flush()
                        os.kill(os.getpid(), signal.SIGKILL)
                    file.write("window\n")
                brightness = items[0]["image"][0] / 255
                return [{"sem_seg": torch.stack([1 - brightness, brightness])}]

        scene.Predictor = StubPredictor
        return scene.ScenePredictor(cfg, ["dark", "bright"])

    return make


def test_a_killed_worker_is_replaced_and_its_scene_gone_on_with(cluster, scene_files, tmp_path, capfd):
    scenes = [SceneFiles(name, scene_files) for name in ("killed", "whole")]
    options = SceneOptions(window=40, overlap=0.25)
    log = tmp_path / "log"
    with RayPool(make_factory(log, 6), num_workers=1) as pool:
        results = {result.name: result for result in segment_archive(scenes, tmp_path / "maps", options, pool)}
    assert [results[name].status for name in ("killed", "whole")] == ["done", "done"]
    assert [results[name].attempts for name in ("killed", "whole")] == [2, 1]
    first, second = log.read_text().split("killed\n")
    # A scene has 5 x 2 windows, and the second attempt made fewer.
    assert first.count("window") == 6 and 4 <= second.count("window") - 10 < 10
    for ending in (".tif", "_coverage.tif"):
        killed, whole = ((tmp_path / "maps" / f"{name}{ending}").read_bytes() for name in ("killed", "whole"))
        assert killed == whole
    assert not list((tmp_path / "maps").glob("*.work")) and not list((tmp_path / "maps").glob(".*"))
    assert cluster.is_initialized()  # it was not the pool's to end
    assert capfd.readouterr().out == ""  # none of Ray's pages on the death


class Unknown:
    """What a machine of the cluster lacks."""

    def __reduce__(self):
        return exec, ("import not_installed_here",)


def test_a_worker_that_lacks_a_package_names_it(cluster, scene_files, tmp_path):
    pool = RayPool(Unknown(), num_workers=1)
    with pool, pytest.raises(ConfigError, match="No worker can be started .*'not_installed_here'"):
        list(segment_archive([SceneFiles("a", scene_files)], tmp_path, SceneOptions(), pool, retries=0))


def test_what_a_pool_cannot_have_is_one_sentence(cluster):
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
