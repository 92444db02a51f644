"""Clouds drawn over a folder of clear RGB rasters, each with the mask of its clouds; parallel and resumable."""

import json
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from rasterio.enums import ColorInterp
from tqdm import tqdm

import mm_ovseg
from mm_ovseg.data.clouds import build_clouds
from mm_ovseg.data.input_files import raster_inputs
from mm_ovseg.data.preparation.dropped import BROKEN, Dropped, drop_broken
from mm_ovseg.data.preparation.journal import Journal
from mm_ovseg.data.preparation.pool import process_all
from mm_ovseg.data.preparation.tile import is_intact
from mm_ovseg.data.rgb_sar_dataset import RASTER_SUFFIXES
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.files import check_outputs, complete_file, sha256
from mm_ovseg.randomness import derived_seed
from mm_ovseg.raster import Grid, RasterSource, RGBReader, read_raster_info, write_geotiff
from mm_ovseg.raster.pictures import PICTURES, write_picture

__all__ = ["IMAGES", "MASKS", "CloudSettings", "CloudySummary", "add_clouds", "find_rasters", "seed_of"]

IMAGES, MASKS = "rgb_clouds", "cloud_masks"  # folders of the output
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
        rgb_bands, rgb_range: As ``bands`` and ``value_range`` of :func:`~mm_ovseg.raster.RGBReader`.
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
        RGBReader(bands=self.rgb_bands, value_range=self.rgb_range)

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
        raise DataError(f"{folder} is not a folder; give the folder that holds the clear images.")
    if output.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{output} lies in {folder}, whose images are read; choose another output folder.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if path.suffix.lower() not in RASTER_SUFFIXES or any(part.startswith(".") for part in place.parts):
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
        DataError: There are no images, or the output folder cannot be written, contains some of the images, or was
            made with other settings.
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
    mask_file = Path(MASKS, task.place).with_suffix(".png" if task.place.suffix.lower() in PICTURES else ".tif")
    reader = RGBReader(bands=task.settings.rgb_bands, value_range=task.settings.rgb_range)
    try:
        with RasterSource(task.source, any_format=True) as source:
            image, valid = reader.read(source)
            cloudy = build_clouds(task.settings.kind, task.settings.cover)(image, valid, seed)
            changed = valid & (cloudy.image != image).any(axis=2)
            stored = _stored(source, reader, cloudy.image, changed, valid)
            grid = source.grid
    except DataError as error:
        result["dropped"] = [asdict(Dropped(name, BROKEN, str(error)))]
        return result, False
    _write(task.output / mask_file, StoredImage(np.rint(cloudy.opacity * 255).astype(np.uint8)[None]), grid)
    _write(task.output / image_file, stored, grid)
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


@dataclass(frozen=True)
class StoredImage:
    """What is written for an image: bands (n, H, W), their meanings, and the nodata value or mask that marks gaps."""

    bands: np.ndarray
    meanings: tuple[ColorInterp, ...] = ()
    descriptions: tuple[str, ...] = ()
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    nodata: float | None = None
    mask: np.ndarray | None = None


def _stored(
    source: RasterSource, reader: RGBReader, image: np.ndarray, changed: np.ndarray, valid: np.ndarray
) -> StoredImage:
    """The file with a changed RGB image.

    The type, the number and the order of its bands stay, and so does every number that no cloud has changed, those of
    other bands and of pixels without data among them. A grey band becomes red, green and blue of its type; a palette,
    or a band whose 0 is white, of 8 bits.
    """
    colors = reader.choose(source)
    if len(colors) == 1 and (source.color_table(colors[0]) is not None or source.white_value(colors[0]) is not None):
        alpha = [] if valid.all() else [np.where(valid, np.uint8(255), np.uint8(0))]
        meanings = (*COLORS, *([ColorInterp.alpha] if alpha else []))
        return StoredImage(np.stack([*image.transpose(2, 0, 1), *alpha]), meanings)
    numbers = list(range(1, len(source.bands) + 1))
    meanings = [band.meaning for band in source.bands]
    places = [number - 1 for number in colors]
    if len(colors) == 1:
        (grey,) = places
        numbers[grey : grey + 1], meanings[grey : grey + 1] = colors * 3, COLORS
        places = [grey, grey + 1, grey + 2]
    values = np.ascontiguousarray(source.read(numbers)[0].transpose(2, 0, 1))
    for place, stored in zip(places, reader.unread(image, source), strict=True):
        np.copyto(values[place], stored, where=changed)
    first = source.bands[colors[0] - 1]
    if first.nodata is not None:
        # A cloud must not be read as no data where its colour stands for that.
        hidden = changed & (values[places] == first.nodata).all(axis=0)
        step = reader.smallest_step(first)
        values[places[0]][hidden] = first.nodata + (-step if first.nodata > 0 else step)
    kept = [source.bands[number - 1] for number in numbers]
    return StoredImage(
        bands=values,
        meanings=tuple(meanings),
        descriptions=tuple(band.description for band in kept),
        scales=tuple(band.scale for band in kept),
        offsets=tuple(band.offset for band in kept),
        nodata=first.nodata,
        mask=source.mask(),
    )


def _write(path: Path, image: StoredImage, grid: Grid) -> None:
    """Write an image where it lies on the ground, in the format that its name says."""
    if path.suffix.lower() in PICTURES:
        write_picture(path, image.bands, grid, nodata=image.nodata, valid=image.mask)
        return
    write_geotiff(
        path,
        image.bands,
        grid,
        nodata=image.nodata,
        valid=image.mask,
        meanings=image.meanings,
        descriptions=image.descriptions,
        scales=image.scales,
        offsets=image.offsets,
    )
