"""What several test modules share: a tiny model and random pairs."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import uuid
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from hypothesis import settings
from rasterio.errors import NotGeoreferencedWarning

from mm_ovseg import add_mm_ovseg_config
from mm_ovseg.cli.main import main
from mm_ovseg.data.clouds import import_cloud_generator
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError
from mm_ovseg.inference.archive_pool import import_ray
from tests.patience import PATIENCE

# Timing belongs in benchmarks: on a busy machine any example may take a second.
settings.register_profile("mm_ovseg", deadline=None)
settings.load_profile("mm_ovseg")

ROOT = Path(__file__).resolve().parent.parent
RELEASED_SHAPES = ROOT / "tests" / "golden" / "released_shapes.json"  # variant -> name -> shape
# The test files that take more than ten seconds, about the slowest first.
SLOWEST = (
    "test_eight_processes.py",
    "test_interrupted_training.py",
    "test_train_net.py",
    "rehearsal/test_models.py",
    "engine/test_launch.py",
    "checkpoint/test_golden.py",
    "baselines/test_segearth_golden.py",
    "inference/test_scene_memory.py",
    "export/test_export.py",
    "inference/test_archive_pool.py",
    "datasets/test_prepare_spacenet6.py",
    "app/test_page_security.py",
    "app/test_browser.py",
    "app/test_queue.py",
    "modeling/test_plain_equivalence.py",
    "tools/test_benchmark.py",
    "inference/test_predictor.py",
    "test_your_own_data.py",
    "cli/test_wheel.py",
    "cli/test_scene.py",
    "cli/test_segment.py",
    "sentinel/test_shipped_pair.py",
    "sentinel/test_pretrain.py",
    "test_settings.py",
    "modeling/meta_arch/test_mm_ovseg.py",
    "modeling/meta_arch/test_cmu.py",
    "test_one_scene_many_files.py",
)
# Fails a test that warns. Not for what the garbage collector finds in the meantime, such as another test's open file.
no_warnings = pytest.mark.filterwarnings(
    "error", "default::ResourceWarning", "default::pytest.PytestUnraisableExceptionWarning"
)
CLI = [sys.executable, "-m", "mm_ovseg"]
DRIVERS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "GTiff", ".TIF": "GTiff"}


def load_tool(name, folder="tools"):
    """Import FOLDER/NAME.py: not the package ``tools`` of Detectron2, nor a file of this name in another folder."""
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_cli(command, *words):
    """Run ``mm-ovseg COMMAND WORDS`` in this process."""
    main([*command.split(), *map(str, words)])


def run_cli_process(command, *words, **options):
    """The same in a process of its own; ``options`` are of ``subprocess.run``, of which ``env`` adds variables."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    options = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": PATIENCE, **options}
    return subprocess.run([*CLI, *command.split(), *map(str, words)], env=environment, check=False, **options)


def save_random_weights(config, path, seed=0):
    """Write the random weights of a config's model."""
    torch.manual_seed(seed)
    torch.save({"model": build_model(load_config(config, ["MODEL.DEVICE", "cpu"])).state_dict()}, path)


def pytest_collection_modifyitems(items):
    """Begin with the slowest files, so that none of them is what one process does at the end, alone."""
    rank = {ROOT / "tests" / name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture
def forget_datasets():
    """A function that removes what has been registered since; called at the end of the test too."""
    before = set(DatasetCatalog)

    def forget():
        for name in set(DatasetCatalog) - before:
            DatasetCatalog.remove(name)
            MetadataCatalog.pop(name, None)

    yield forget
    forget()


@pytest.fixture(scope="session")
def ray():
    """The module, set up as the package sets it up; tests that ask for it are skipped where it is not installed."""
    # Not pytest's folder: the paths of Ray's sockets would be longer than a socket's may be.
    with tempfile.TemporaryDirectory(prefix="ray") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        # On a busy machine, workers of lower priority, Ray's default, would hardly start.
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_worker_register_timeout_seconds", str(PATIENCE))
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")
        # Ray would write one to the home folder; it reads it once a process.
        patch.setenv("RAY_AUTH_TOKEN", uuid.uuid4().hex)
        try:
            yield import_ray()
        except ConfigError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def cloud_generator():
    """The module satellite_cloud_generator; tests that ask for it are skipped where it is not installed."""
    try:
        return import_cloud_generator()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine for the folder "web", of which tries are repeated without pauses."""
    from tests.products.static_server import serve_without_pauses

    with serve_without_pauses(tmp_path / "web", monkeypatch) as server:
        yield server


@pytest.fixture
def write_raster():
    """A function ``(path, array (H, W) or (H, W, bands), colormap, colorinterp, mask, scales, offsets, **profile)``.

    It returns the path. ``mask``, bool (H, W), is written into the file.
    """

    def write(path, array, colormap=None, colorinterp=None, mask=None, scales=None, offsets=None, **profile):
        path.parent.mkdir(parents=True, exist_ok=True)
        bands = array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
        profile = {"driver": DRIVERS[path.suffix], "dtype": array.dtype, **profile}
        count, height, width = bands.shape
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with (
                rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
                rasterio.open(path, "w", width=width, height=height, count=count, **profile) as dataset,
            ):
                if colorinterp is not None:
                    dataset.colorinterp = colorinterp
                if scales is not None:
                    dataset.scales = scales
                if offsets is not None:
                    dataset.offsets = offsets
                dataset.write(bands)
                if mask is not None:
                    dataset.write_mask(mask)
                if colormap is not None:
                    dataset.write_colormap(1, colormap)
        return path

    return write


@pytest.fixture
def make_cfg():
    """A function ``(config="configs/quickstart/mm_ovseg.yaml", *overrides) -> cfg`` for a tiny model on the CPU."""

    def make(config="configs/quickstart/mm_ovseg.yaml", *overrides):
        cfg = get_cfg()
        add_mm_ovseg_config(cfg)
        cfg.merge_from_file(str(ROOT / config))
        cfg.merge_from_list(["MODEL.DEVICE", "cpu", "DATASETS.TRAIN", (), "DATASETS.TEST", (), *overrides])
        return cfg

    return make


@pytest.fixture
def make_model(make_cfg):
    """A function ``(*overrides) -> model`` for a tiny MMOVSeg with seeded random weights."""

    def make(*overrides, config="configs/quickstart/mm_ovseg.yaml"):
        torch.manual_seed(0)
        return build_model(make_cfg(config, *overrides))

    return make


@pytest.fixture
def released_state_dict():
    """A function ``variant -> state dict`` of a whole model with the released names and shapes.

    Every tensor is one zero, repeated, which takes no memory.
    """
    released = json.loads(RELEASED_SHAPES.read_text())

    def make(variant):
        return {name: torch.zeros(()).expand(shape) for name, shape in released[variant].items()}

    return make


@pytest.fixture
def released_catseg(released_state_dict, tmp_path):
    """The file of a CAT-Seg of zeros, as Detectron2's trainer left it."""
    path = tmp_path / "released.pth"
    torch.save({"model": released_state_dict("catseg"), "iteration": 79999}, path)
    return path


class AnnouncingLock:
    """A lock that tells when a second thread has met it, or has done what it was started for.

    Attributes:
        met: set when a thread other than the one that made the lock is about to wait for it, or has ended.
    """

    def __init__(self):
        self.met, self._lock, self._owner = threading.Event(), threading.RLock(), threading.get_ident()

    def __enter__(self):
        if threading.get_ident() != self._owner:
            self.met.set()
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()

    def announce_end(self, function, *args):
        """Call a function, in the second thread."""
        try:
            function(*args)
        finally:
            self.met.set()


def random_pair(height=48, width=64, seed=0, num_classes=None):
    """A batch item of noise, with labels where ``num_classes`` is given."""
    generator = torch.Generator().manual_seed(seed)
    pair = {
        "file_name": f"pair_{seed}.png",
        "image": torch.rand(3, height, width, generator=generator) * 255,
        "sar_image": torch.rand(3, height, width, generator=generator) * 255,
    }
    if num_classes is not None:
        pair["sem_seg"] = torch.randint(0, num_classes, (height, width), generator=generator)
    return pair
