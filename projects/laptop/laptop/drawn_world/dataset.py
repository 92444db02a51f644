"""Writing and registering the synthetic dataset.

``{root}/{train,val}`` hold ``rgb`` (clear), ``rgb_clouds``, ``sar`` and ``labels`` (class indices; as PNG with a
palette); ``manifest.json`` holds the arguments of the drawing.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from tqdm import tqdm

from laptop.drawn_world.domain import get_domain
from laptop.drawn_world.generation import SyntheticScene, check_scene_arguments, generate_scene
from laptop.drawn_world.geography import GROUND_SAMPLING_DISTANCE, SYNTHETIC_CLASSES, SYNTHETIC_UNSEEN_CLASSES
from mm_ovseg.data.clouds import build_clouds
from mm_ovseg.data.palette import default_colors
from mm_ovseg.data.registration import register_rgb_sar_dataset
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import Grid, write_geotiff

__all__ = ["DEFAULT_FOLDER", "FILE_FORMATS", "OWN_CLOUDS", "register_synthetic_dataset", "write_synthetic_dataset"]

DEFAULT_FOLDER = "synthetic"  # in $DETECTRON2_DATASETS
SPLITS = ("train", "val")
FILE_FORMATS = ("png", "tif")
OWN_CLOUDS = "fractal"
MANIFEST = "manifest.json"
DRAWING_VERSION = 1  # incremented whenever the same arguments give different images
_UTM_ZONE_52_NORTH = CRS.from_epsg(32652)  # around Pohang, the location of DDHR-SK
_FIRST_CORNER = (430_000.0, 4_000_000.0)  # easting, northing in metres
_SCENES_PER_ROW = 100


def write_synthetic_dataset(
    root: str | os.PathLike,
    *,
    num_train: int = 60,
    num_val: int = 12,
    size: int = 192,
    seed: int = 0,
    cloud_thickness: tuple[float, float] = (0.75, 1.0),
    cloud_cover: tuple[float, float] = (0.3, 0.6),
    cloud_kind: str = OWN_CLOUDS,
    domain: str = "a",
    file_format: str = "png",
    show_progress: bool = False,
) -> bool:
    """Draw and write the dataset, unless it already exists with the same arguments.

    Scene i of a split depends only on seed, split and i, not on the number of scenes. All files appear at once when
    the last one is done; an interrupted call leaves nothing at ``root``.

    Args:
        root: Folder to write; it must be new or empty, or hold this dataset.
        num_train: Number of training scenes.
        num_val: Number of validation scenes.
        size: Side of a scene in pixels, at least 64.
        seed: Non-negative.
        cloud_thickness: (low, high), within 0..1, of the opacity of cloud cores, drawn for each scene; only for
            "fractal" clouds.
        cloud_cover: (low, high), within 0..1, of the share of the ground under clouds.
        cloud_kind: "fractal", the dataset's own, or another kind of :func:`~mm_ovseg.data.clouds.build_clouds`.
        domain: "a" or "b", see :func:`~laptop.drawn_world.generation.generate_scene`.
        file_format: "png", or "tif" for GeoTIFF in UTM zone 52N, with 2 m pixels and scenes side by side.
        show_progress: Show a progress bar on stderr.

    Returns:
        Whether anything was written.

    Raises:
        ConfigError: An argument is out of range, or the library for these clouds is not installed.
        DataError: ``root`` holds something else, or cannot be written.
    """
    manifest = {
        "drawing_version": DRAWING_VERSION,
        "num_train": num_train,
        "num_val": num_val,
        "size": size,
        "seed": seed,
        "cloud_thickness": list(cloud_thickness),
        "cloud_cover": list(cloud_cover),
        "cloud_kind": cloud_kind,
        "domain": domain,
        "file_format": file_format,
    }
    _check_arguments(manifest)
    root = Path(root).absolute()
    if _is_written(root, manifest):
        return False
    temporary = root.with_name(f".{root.name}.{os.getpid()}.tmp")
    scenes = [
        (split, index) for split, count in zip(SPLITS, (num_train, num_val), strict=True) for index in range(count)
    ]
    try:
        for split in SPLITS:
            for folder in ("rgb", "rgb_clouds", "sar", "labels"):
                (temporary / split / folder).mkdir(parents=True)
        for split, index in tqdm(scenes, desc="drawing scenes", unit="scene", disable=not show_progress):
            _write_scene(temporary / split, index, _draw_scene(split, index, manifest), manifest)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        # Replaces an empty folder, but no other.
        os.replace(temporary, root)
    except OSError as error:
        if _is_written(root, manifest):  # by another process, meanwhile
            return False
        reason = error.strerror or error
        raise DataError(
            f"The synthetic dataset cannot be written to {root} ({reason}); choose another folder."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _check_arguments(manifest: dict) -> None:
    if min(manifest["num_train"], manifest["num_val"]) < 0 or manifest["num_train"] + manifest["num_val"] == 0:
        raise ConfigError("num_train and num_val must not be negative, and one of them must be positive.")
    if manifest["seed"] < 0:
        raise ConfigError(f"The seed is {manifest['seed']}; give 0 or a positive number.")
    if manifest["file_format"] not in FILE_FORMATS:
        raise ConfigError(f"file_format is '{manifest['file_format']}'; choose one of {', '.join(FILE_FORMATS)}.")
    get_domain(manifest["domain"])
    build_clouds(manifest["cloud_kind"])
    for name in ("cloud_thickness", "cloud_cover"):
        low_high = manifest[name]
        if len(low_high) != 2 or not 0 <= low_high[0] <= low_high[1] <= 1:
            raise ConfigError(f"{name} is {tuple(low_high)}; give (low, high) with 0 <= low <= high <= 1.")
    check_scene_arguments(manifest["size"], manifest["cloud_thickness"][0], manifest["cloud_cover"][0], None)


def _is_written(root: Path, manifest: dict) -> bool:
    """Whether ``root`` holds this dataset; a DataError if it holds something else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"{root} holds something other than a synthetic dataset; choose another folder.") from None
    if isinstance(found, dict):
        found.setdefault("cloud_kind", OWN_CLOUDS)  # the only kind in older versions
    if found == manifest:
        return True
    differing = [key for key in manifest if not isinstance(found, dict) or found.get(key) != manifest[key]]
    raise DataError(
        f"{root} holds a synthetic dataset drawn with other arguments ({', '.join(differing)}); choose another folder, "
        "or remove it."
    )


def _draw_scene(split: str, index: int, manifest: dict) -> SyntheticScene:
    scene_seed = np.random.SeedSequence(manifest["seed"], spawn_key=(SPLITS.index(split), index))
    weather = np.random.default_rng(scene_seed)
    kind = manifest["cloud_kind"]
    return generate_scene(
        scene_seed,
        manifest["size"],
        domain=manifest["domain"],
        cloud_thickness=weather.uniform(*manifest["cloud_thickness"]),
        cloud_cover=weather.uniform(*manifest["cloud_cover"]),
        clouds=None if kind == OWN_CLOUDS else build_clouds(kind, manifest["cloud_cover"]),
    )


def _write_scene(folder: Path, index: int, scene: SyntheticScene, manifest: dict) -> None:
    images = {"rgb": scene.clear_rgb, "rgb_clouds": scene.rgb, "sar": scene.sar, "labels": scene.label}
    write: Callable[..., None] = _write_png
    options = {}
    if manifest["file_format"] == "tif":
        side = manifest["size"] * GROUND_SAMPLING_DISTANCE
        row, column = divmod(index, _SCENES_PER_ROW)
        # The splits are 100 km apart, so that no two scenes of a dataset overlap.
        easting = _FIRST_CORNER[0] + column * side
        northing = _FIRST_CORNER[1] - row * side - SPLITS.index(folder.name) * 100_000
        write = _write_geotiff
        options["transform"] = from_origin(easting, northing, GROUND_SAMPLING_DISTANCE, GROUND_SAMPLING_DISTANCE)
    for name, image in images.items():
        path = folder / name / f"{index:05d}.{manifest['file_format']}"
        write(path, image, is_label=name == "labels", **options)


def _write_png(path: Path, image: np.ndarray, *, is_label: bool) -> None:
    picture = Image.fromarray(image)
    if is_label:
        picture = picture.convert("P")
        picture.putpalette([part for color in default_colors(SYNTHETIC_CLASSES) for part in color])
    picture.save(path)


def _write_geotiff(path: Path, image: np.ndarray, *, is_label: bool, transform: Affine) -> None:
    bands = np.atleast_3d(image).transpose(2, 0, 1)  # (H, W[, 3]) -> (1 or 3, H, W)
    grid = Grid(bands.shape[2], bands.shape[1], _UTM_ZONE_52_NORTH, transform)
    meanings = (ColorInterp.red, ColorInterp.green, ColorInterp.blue) if len(bands) == 3 else ()
    colors = dict(enumerate(default_colors(SYNTHETIC_CLASSES))) if is_label else None
    write_geotiff(path, bands, grid, meanings=meanings, colors=colors)


def register_synthetic_dataset(root: str | os.PathLike | None = None, *, name: str = "synthetic") -> list[str]:
    """Register what :func:`write_synthetic_dataset` has written, or will write.

    Args:
        root: The folder of the dataset; None for ``$DETECTRON2_DATASETS/synthetic``, looked up at first use.
        name: Prefix of the names, to register several datasets.

    Returns:
        ``[name]_train``, ``[name]_val`` (with clouds), ``[name]_clear_train`` and ``[name]_clear_val`` (without).

    Raises:
        DataError: A name belongs to a dataset elsewhere.
    """
    folder = Path(DEFAULT_FOLDER) if root is None else Path(root).absolute()
    names = []
    for sky, rgb in (("", "rgb_clouds"), ("clear_", "rgb")):
        for split in ("train", "val"):
            names.append(f"{name}_{sky}{split}")
            register_rgb_sar_dataset(
                names[-1],
                root=folder / split,
                rgb=rgb,
                sar="sar",
                labels="labels",
                classes=SYNTHETIC_CLASSES,
                unseen=SYNTHETIC_UNSEEN_CLASSES,
                ground_sampling_distance=GROUND_SAMPLING_DISTANCE,
            )
    return names
