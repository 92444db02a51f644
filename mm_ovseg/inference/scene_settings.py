"""What a map, and what the features of a scene depend on: as JSON, to compare runs."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import rasterio
import torch
from detectron2.config import CfgNode
from torch import nn

import mm_ovseg
from mm_ovseg.engine.config_file import WEIGHTS_KEYS
from mm_ovseg.files import file_state, sha256
from mm_ovseg.inference.cloud_detection import DETECT
from mm_ovseg.inference.coregistration import ShiftEstimate
from mm_ovseg.inference.scene_options import SceneOptions
from mm_ovseg.modeling.meta_arch.segmenter import OpenVocabularySegmenter
from mm_ovseg.modeling.weight_versions import weight_versions
from mm_ovseg.raster import Paths, open_raster, path_list
from mm_ovseg.raster.virtual_raster import local_sources, raster_state

__all__ = ["WeightsHash", "features_key", "scene_settings"]

# The map does not depend on these options.
IRRELEVANT = (
    *("resume", "min_covered", "vector", "min_area", "simplify", "confidence", "probabilities"),
    *("keep_features", "max_features", "deliver"),
    "dem",  # what it gives is compared, as part of SAR
)
LIBRARIES = ("torch", "timm", "open_clip_torch", "numpy", "rasterio", "pyproj")
# Features do not depend on these keys of the config. The weights themselves are compared, not where they come from.
AFTER_ENCODING = ("MODEL.CALIBRATION", "MODEL.TEXT", "MODEL.DEVICE", *WEIGHTS_KEYS)
TRAINING = ("OUTPUT_DIR", "DATASETS", "DATALOADER", "SOLVER", "LOSS", "TEST", "VIS_PERIOD", "VISUALIZATION", "WANDB")


def scene_settings(
    cfg: CfgNode,
    rgb: Paths | None,
    sar: Paths | None,
    options: SceneOptions,
    *,
    shift: ShiftEstimate | None,
    weights: Mapping[str, str | None],
    decision: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that a map depends on.

    Args:
        cfg, rgb, sar, options: those of the scene.
        shift: the correction of SAR.
        weights: the hashes of the weights files.
        decision: :meth:`~mm_ovseg.decision.Decision.settings`.
    """
    return {
        **{name: value for name, value in asdict(options).items() if name not in IRRELEVANT},
        "area": None if options.area is None else _content(options.area),
        "clouds": options.clouds if options.clouds in (None, DETECT) else raster_state(Path(options.clouds)),
        "rgb": [raster_state(Path(path)) for path in path_list(rgb)],
        "sar": [raster_state(Path(path)) for path in path_list(sar)],
        **decision,
        "weights": weights,
        "config": hashlib.sha256(cfg.dump().encode()).hexdigest(),
        "shift": None if shift is None else [shift.rows, shift.columns],
    }


def features_key(
    cfg: CfgNode,
    rgb: Paths | None,
    sar: Paths | None,
    options: SceneOptions,
    *,
    model: OpenVocabularySegmenter,
    weights: str,
    any_format: bool,
) -> dict[str, Any]:
    """Everything that the last bit of the features of a scene depends on.

    Args:
        cfg, rgb, sar, options: those of the scene.
        model: what encodes.
        weights: its :class:`WeightsHash`.
        any_format: as in :class:`~mm_ovseg.inference.scene.ScenePredictor`.

    Raises:
        DataError: a file cannot be opened.
    """
    cfg = cfg.clone()
    cfg.defrost()
    for key in (*AFTER_ENCODING, *TRAINING):
        *parents, name = key.split(".")
        node = cfg
        for parent in parents:
            node = node[parent]
        node.pop(name, None)
    files = {"rgb": path_list(rgb), "sar": path_list(sar)}
    return {
        **{kind: [_with_parts(path, any_format) for path in paths] for kind, paths in files.items()},
        "window": options.window,
        "overlap": options.overlap_pixels,
        "part": options.part,
        "ground sampling distance": options.ground_sampling_distance,
        "batch size": options.batch_size,
        "correction of the shift": options.correct_shift,
        "weights": weights,
        # Not dump(), whose YAML takes longer than answering a question about a small scene.
        "config": hashlib.sha256(json.dumps(cfg, sort_keys=True).encode()).hexdigest(),
        "device": _device(model.device),
        "precision": str(model.inference_dtype),
        "libraries": {name: version(name) for name in LIBRARIES},
        "GDAL": rasterio.__gdal_version__,
        "OpenCV": cv2.__version__,
        "mm_ovseg": _sources_hash(),
    }


class WeightsHash:
    """SHA-256 of the parameters and buffers of a model's images; those of the text encoder are left out.

    It is computed again only if one may have changed, see :func:`~mm_ovseg.modeling.weight_versions.weight_versions`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._versions: tuple | None = None
        self._hash = ""

    def __call__(self) -> str:
        """The hash, in hexadecimal."""
        versions = weight_versions(self._model)
        if versions is None or versions != self._versions:
            digest = hashlib.sha256()
            for name, tensor in chain(self._model.named_parameters(), self._model.named_buffers()):
                if name.startswith("text."):
                    continue
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
            self._hash, self._versions = digest.hexdigest(), versions
        return self._hash


def _with_parts(path: str | os.PathLike, any_format: bool) -> list:
    """The states of a raster and of the files that belong to it, such as the sources of a mosaic."""
    with open_raster(path, any_format=any_format) as dataset:
        found = [file_state(Path(file)) for file in dataset.files]
    sources = local_sources(path) if Path(path).is_file() else []  # a mosaic lists its own alone, not theirs
    return [str(path), *found, *(_with_parts(source, any_format) for source in sources)]


@cache
def _sources_hash() -> str:
    """The hash of this package's code, which changes more often than its version."""
    digest = hashlib.sha256()
    root = Path(mm_ovseg.__file__).parent
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root)} {sha256(file)}\n".encode())
    return digest.hexdigest()


def _content(path: Path) -> str | list:
    """The hash of a vector file, or of the files of a folder (.gdb)."""
    if not path.is_dir():
        return sha256(path)
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in sorted(path.iterdir())]


def _device(device: torch.device) -> dict[str, Any]:
    """What computes; a CPU with other instructions, or with other numbers of threads, rounds differently."""
    if device.type == "cuda":
        return {"type": "cuda", "name": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return {
        "type": device.type,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        # Not in older releases of PyTorch.
        "processor": dict(getattr(torch.cpu, "get_capabilities", dict)()),
    }
