"""Clouds drawn over a folder of clear RGB rasters, each with the mask of its clouds; parallel and resumable."""

import json
import os
import warnings
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import rasterio
from rasterio import DatasetReader
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning
from tqdm import tqdm

import mm_ovseg
from mm_ovseg.data.clouds import build_clouds
from mm_ovseg.data.input_files import raster_inputs
from mm_ovseg.data.preparation.dropped import BROKEN, Dropped, drop_broken
from mm_ovseg.data.preparation.journal import Journal
from mm_ovseg.data.preparation.pool import process_all
from mm_ovseg.data.preparation.tile import is_intact
from mm_ovseg.data.raster import check_rgb_arguments, decode_rgb, read_raster_info
from mm_ovseg.data.raster_file import color_bands, open_raster
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.files import check_outputs, complete_file, sha256
from mm_ovseg.randomness import derived_seed

__all__ = ["IMAGES", "MASKS", "CloudSettings", "CloudySummary", "add_clouds", "find_rasters", "seed_of"]

IMAGES, MASKS = "rgb_clouds", "cloud_masks"  # folders of the output
DRIVERS = {".tif": "GTiff", ".tiff": "GTiff", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
OPTIONS = {"GTiff": {"compress": "deflate", "predictor": 2, "BIGTIFF": "IF_SAFER"}, "PNG": {}, "JPEG": {"quality": 95}}
PREFIX = "clouds"
MANIFEST = f"manifest_{PREFIX}.json"
COLORS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
CLOUDY = 0.1  # opacity from which a pixel counts as covered


@dataclass(frozen=True)
class CloudSettings:
    """How clouds are drawn.

    Attributes:
        kind, cover: As in :func:`~mm_ovseg.data.clouds.build_clouds`.
        seed: Of all clouds, not negative; those of a file follow from it and from the file's name without suffix.
        rgb_bands, rgb_range: As ``bands`` and ``value_range`` of :func:`~mm_ovseg.data.raster.read_rgb`.
    """

    kind: str
    seed: int = 0
    cover: tuple[float, ...] = ()
    rgb_bands: tuple[int, ...] = ()
    rgb_range: tuple[float, ...] = ()

    def check(self) -> None:
        """Check them before any file is read.

        Raises:
            ConfigError: One is wrong, or the library that draws such clouds is not installed.
        """
        if self.seed < 0:
            raise ConfigError(f"The seed is {self.seed}; give 0 or a positive number.")
        build_clouds(self.kind, self.cover)
        check_rgb_arguments(self.rgb_bands, self.rgb_range)

    def record(self) -> dict:
        """The settings and the library's version: what decides over the result."""
        try:
            library = version("satellite-cloud-generator")
        except PackageNotFoundError:
            library = None
        return {**asdict(self), "satellite_cloud_generator": library}


@dataclass(frozen=True)
class CloudTask:
    """A raster to draw clouds over: its path, its path below the input folder, and where to write."""

    source: Path
    place: Path
    settings: CloudSettings
    output: Path


@dataclass
class CloudySummary:
    """What was made: an entry a file (of the manifest), what could not be read, and how many were there before."""

    files: list[dict]
    dropped: list[Dropped]
    done_before: int = 0


def find_rasters(folder: Path, output: Path) -> dict[str, Path]:
    """The rasters of a folder and of those in it, by their path below it without suffix.

    Raises:
        DataError: There is no such folder, there is no raster, two have one name, or the output lies in the folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give the folder that holds the clear images.")
    if output.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{output} lies in {folder}, whose images are read; choose another output folder.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if path.suffix.lower() not in DRIVERS or any(part.startswith(".") for part in place.parts):
            continue
        if (first := found.setdefault(place.with_suffix("").as_posix(), path)) is not path:
            raise DataError(f"{first} and {path} have one name, so their clouds would be the same; rename one of them.")
    if not found:
        raise DataError(f"{folder} holds no PNG, JPEG or GeoTIFF images; give the folder that holds the clear images.")
    return found


def add_clouds(
    folder: Path,
    output: Path,
    settings: CloudSettings,
    *,
    workers: int = 1,
    dry_run: bool = False,
) -> CloudySummary:
    """Draw clouds over all rasters of a folder, and write ``manifest_clouds.json``.

    Interrupted and called again, it goes on with the files that are not finished; finished ones are checked by their
    SHA-256. The result depends neither on ``workers`` nor on what other files there are.

    Args:
        folder: Holds the clear images; of folders in it the structure is kept.
        output: Folder to write ``rgb_clouds`` and ``cloud_masks`` into.
        settings: How.
        workers: Processes.
        dry_run: Read the files' headers and write nothing.

    Raises:
        ConfigError: A setting is wrong, or the library that draws such clouds is not installed.
        DataError: There are no images, or the output cannot be written, holds some of them, or was made otherwise.
    """
    settings.check()
    rasters = find_rasters(folder, output)
    folders = [output / name for name in (IMAGES, MASKS)]
    check_outputs({"output": [*folders, output / MANIFEST]}, raster_inputs({"one of the images": rasters.values()}))
    if dry_run:
        return _look(rasters)
    journal = Journal(output, PREFIX, foreign=(path for name in folders for path in name.rglob("*") if path.is_file()))
    journal.start(settings.record())
    for path in [path for name in folders for path in name.rglob(".*.tmp.*")]:  # what a killed run was writing
        path.unlink()
    tasks = {name: CloudTask(path, path.relative_to(folder), settings, output) for name, path in rasters.items()}
    summary = CloudySummary([], [])
    with closing(process_all(_process, tasks, journal, workers, title="adding clouds")) as results:
        for result, done_before in results:
            summary.files += result["pairs"]
            summary.done_before += done_before
            for entry in result["dropped"]:
                drop_broken(Dropped(**entry), summary.dropped, strict=False)
    _write_manifest(output, settings, summary)
    return summary


def _look(rasters: dict[str, Path]) -> CloudySummary:
    summary = CloudySummary([], [])
    for name, path in tqdm(rasters.items(), desc="reading headers", unit="file"):
        try:
            read_raster_info(path)
            summary.files.append({"name": name})
        except DataError as error:
            drop_broken(Dropped(name, BROKEN, str(error)), summary.dropped, strict=False)
    return summary


def _write_manifest(output: Path, settings: CloudSettings, summary: CloudySummary) -> None:
    manifest = {
        "mm_ovseg_version": mm_ovseg.__version__,
        "settings": settings.record(),
        "files": sorted(summary.files, key=lambda entry: entry["name"]),
        "dropped": [asdict(entry) for entry in sorted(summary.dropped, key=lambda entry: entry.name)],
    }
    with complete_file(output / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _process(task: CloudTask, previous: dict | None) -> tuple[dict, bool]:
    """A result for the journal, with one entry under ``pairs`` or ``dropped``, and whether it is an earlier one."""
    name = task.place.with_suffix("").as_posix()
    status = task.source.stat()
    result = {"name": name, "fingerprint": [status.st_size, status.st_mtime_ns], "pairs": [], "dropped": []}
    if previous is not None and previous["fingerprint"] == result["fingerprint"]:
        written = [entry[kind] for entry in previous["pairs"] for kind in ("image", "mask")]
        if all(is_intact(task.output, file) for file in written):
            return previous, True
    seed = seed_of(task.settings.seed, name)
    image_file = Path(IMAGES, task.place)
    mask_file = Path(MASKS, task.place).with_suffix(".tif" if _driver(task.place) == "GTiff" else ".png")
    try:
        with open_raster(task.source) as dataset:
            image, valid = decode_rgb(
                dataset, task.source, bands=task.settings.rgb_bands, value_range=task.settings.rgb_range
            )
            cloudy = build_clouds(task.settings.kind, task.settings.cover)(image, valid, seed)
            bands, meanings, nodata = _bands(dataset, task.settings, cloudy.image, valid)
    except DataError as error:
        result["dropped"] = [asdict(Dropped(name, BROKEN, str(error)))]
        return result, False
    with open_raster(task.source) as dataset:
        mask = np.rint(cloudy.opacity * 255).astype(np.uint8)[None]
        _write(task.output / mask_file, mask, [ColorInterp.gray], None, dataset)
        _write(task.output / image_file, bands, meanings, nodata, dataset, mask=_mask_to_write(dataset, valid))
    entry = {"name": name, "seed": seed, "source": {"file": task.place.as_posix(), "sha256": sha256(task.source)}}
    for kind, file in (("image", image_file), ("mask", mask_file)):
        entry[kind] = {"file": file.as_posix(), "sha256": sha256(task.output / file)}
    seen = cloudy.opacity[valid]
    entry["mean_opacity"] = round(float(seen.mean()), 4) if seen.size else 0.0
    entry["covered"] = round(float((seen >= CLOUDY).mean()), 4) if seen.size else 0.0
    result["pairs"].append(entry)
    return result, False


def seed_of(seed: int, name: str) -> int:
    """The seed of a file's clouds, from that of all and the file's path below the folder without suffix."""
    return derived_seed(seed, name)


def _driver(path: Path) -> str:
    return DRIVERS[path.suffix.lower()]


def _bands(
    dataset: DatasetReader, settings: CloudSettings, image: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, Sequence[ColorInterp], float | None]:
    """The bands to write, uint8 (bands, H, W), what they mean, and the value that stands for no data.

    An 8-bit file keeps its bands in their order, what it holds where it has no data, and its alpha; other files become
    red, green and blue, with alpha where they have pixels without data.
    """
    indexes = list(settings.rgb_bands) or color_bands(dataset)
    if settings.rgb_range or len(indexes) != 3 or set(dataset.dtypes) != {"uint8"}:
        bands, meanings = list(image.transpose(2, 0, 1)), list(COLORS)
        if not valid.all():
            bands.append(np.where(valid, np.uint8(255), np.uint8(0)))
            meanings.append(ColorInterp.alpha)
        return np.stack(bands), meanings, None
    bands = dataset.read()  # (bands, H, W)
    for channel, band in enumerate(indexes):
        bands[band - 1][valid] = image[..., channel][valid]
    if dataset.nodata is not None:
        # White cloud must not be read as no data where 255 stands for that.
        hidden = valid & (bands[[band - 1 for band in indexes]] == dataset.nodata).all(axis=0)
        bands[indexes[0] - 1][hidden] += np.uint8(1) if dataset.nodata == 0 else np.uint8(255)  # 255 takes one off
    return bands, dataset.colorinterp, dataset.nodata


def _mask_to_write(dataset: DatasetReader, valid: np.ndarray) -> np.ndarray | None:
    """``valid`` if the file has a mask beside its bands, which must be written anew."""
    flags = dataset.mask_flag_enums[0]
    own_mask = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
    return valid if own_mask and ColorInterp.alpha not in dataset.colorinterp else None


def _write(
    path: Path,
    bands: np.ndarray,
    meanings: Sequence[ColorInterp],
    nodata: float | None,
    source: DatasetReader,
    mask: np.ndarray | None = None,
) -> None:
    """Write uint8 (bands, H, W) where ``source`` lies on the ground."""
    count, height, width = bands.shape
    profile = {"driver": _driver(path), "dtype": "uint8", "count": count, "height": height, "width": width}
    profile |= {"nodata": nodata, **OPTIONS[profile["driver"]]}
    if source.crs is not None:
        profile["crs"] = source.crs
    if not source.transform.is_identity:
        profile["transform"] = source.transform
    if profile["driver"] == "GTiff":
        profile["photometric"] = "rgb" if tuple(meanings[:3]) == COLORS else "minisblack"
    with complete_file(path) as temporary:
        side_file = Path(f"{temporary}.aux.xml")  # where GDAL notes the georeference of PNG and JPEG
        try:
            with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(temporary, "w", **profile) as file:
                    if profile["driver"] == "GTiff":
                        file.colorinterp = meanings
                        file.update_tags(**source.tags())
                    file.write(bands)
                    if mask is not None:
                        file.write_mask(mask)
            if side_file.exists():
                os.replace(side_file, f"{path}.aux.xml")
        finally:
            with suppress(OSError):
                side_file.unlink()
