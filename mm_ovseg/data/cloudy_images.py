"""Drawing clouds over a folder of clear RGB rasters, with a mask for each; parallel and resumable."""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp
from tqdm import tqdm

import mm_ovseg
from mm_ovseg.data.clouds import CloudyImage, build_clouds
from mm_ovseg.data.input_files import raster_inputs
from mm_ovseg.data.rgb_sar_dataset import RASTER_SUFFIXES
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.files import check_outputs, complete_file, sha256
from mm_ovseg.jobs import Finished, Journal, file_states, run_jobs, skip_unreadable
from mm_ovseg.randomness import derived_seed
from mm_ovseg.raster import Grid, RasterSource, RGBReader, read_raster_info, write_geotiff
from mm_ovseg.raster.pictures import PICTURES, write_picture

__all__ = ["IMAGES", "MASKS", "CloudSettings", "add_clouds", "find_rasters"]

IMAGES, MASKS = "rgb_clouds", "cloud_masks"  # folders of the output
MANIFEST = "manifest_clouds.json"
COLORS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
COVERED_OPACITY = 0.1  # above which a pixel counts as covered


@dataclass(frozen=True)
class CloudSettings:
    """Settings for drawing clouds.

    Attributes:
        kind, cover: As in :func:`~mm_ovseg.data.clouds.build_clouds`.
        seed: Seed >= 0; the clouds of a file depend on it and on the file's name without suffix.
        rgb_bands, rgb_range: ``bands`` and ``value_range`` of :class:`~mm_ovseg.raster.RGBReader`.

    Raises:
        ConfigError: A setting is invalid, or the library that draws such clouds is not installed.
    """

    kind: str
    seed: int = 0
    cover: tuple[float, ...] = ()
    rgb_bands: tuple[int, ...] = ()
    rgb_range: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"The seed is {self.seed}; give 0 or a positive number.")
        build_clouds(self.kind, self.cover)
        self.reader()

    def reader(self) -> RGBReader:
        """The reader of the images."""
        return RGBReader(bands=self.rgb_bands, value_range=self.rgb_range)

    def record(self) -> dict:
        """The settings and the library's version, which together determine the result."""
        try:
            library = version("satellite-cloud-generator")
        except PackageNotFoundError:
            library = None
        return {**asdict(self), "satellite_cloud_generator": library}


def find_rasters(folder: Path, output: Path) -> dict[str, Path]:
    """The rasters of a folder and its subfolders, by their path below it without suffix.

    Raises:
        DataError: The folder is missing or has no rasters, two have the same name, or the output is inside it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give the folder with the clear images.")
    if output.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{output} is inside {folder}, whose images are read; choose another output folder.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if path.suffix.lower() not in RASTER_SUFFIXES or any(part.startswith(".") for part in place.parts):
            continue
        if (first := found.setdefault(place.with_suffix("").as_posix(), path)) is not path:
            raise DataError(
                f"{first} and {path} have the same name, so their clouds would be the same; rename one of them."
            )
    if not found:
        raise DataError(f"{folder} has no PNG, JPEG or GeoTIFF images; give the folder with the clear images.")
    return found


def add_clouds(
    folder: Path, output: Path, settings: CloudSettings, *, workers: int = 1, dry_run: bool = False
) -> Finished:
    """Draw clouds over all rasters of a folder, and write ``manifest_clouds.json``.

    When called again after an interruption, it continues with the unfinished files; finished ones are checked by their
    SHA-256. The result does not depend on ``workers`` or on what other files there are.

    Args:
        folder: Folder of the clear images; its subfolders are kept.
        output: Folder to write ``rgb_clouds`` and ``cloud_masks`` into.
        settings: How to draw the clouds.
        workers: Number of processes.
        dry_run: Only read the files' headers; write nothing.

    Returns:
        The outcome: an entry of the manifest per file, and the files that cannot be read.

    Raises:
        DataError: No image is found, or the output folder cannot be written, contains some of the images, or was
            created with other settings.
    """
    rasters = find_rasters(folder, output)
    outputs = [output / name for name in (IMAGES, MASKS, MANIFEST)]
    check_outputs({"output": outputs}, raster_inputs({"one of the images": rasters.values()}))
    if dry_run:
        finished = Finished()
        for name, path in tqdm(rasters.items(), desc="reading headers", unit="file"):
            try:
                read_raster_info(path)
                finished.results.append({"made": [{"name": name}]})
            except DataError as error:
                skip_unreadable(name, str(error), finished.skipped)
        return finished
    journal = Journal(output, "clouds", [IMAGES, MASKS])
    journal.start(settings.record())
    jobs = [_CloudJob(name, path, path.relative_to(folder), settings, output) for name, path in rasters.items()]
    finished = run_jobs(jobs, output, journal, workers=workers, title="adding clouds")
    manifest = {
        "mm_ovseg_version": mm_ovseg.__version__,
        "settings": settings.record(),
        "files": sorted(finished.made, key=lambda entry: entry["name"]),
        "skipped": [asdict(entry) for entry in sorted(finished.skipped, key=lambda entry: entry.name)],
    }
    with complete_file(output / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return finished


@dataclass(frozen=True)
class _CloudJob:
    """A :class:`~mm_ovseg.jobs.Job`: a raster, its path within the input folder, and where to write."""

    name: str
    source: Path
    place: Path
    settings: CloudSettings
    output: Path

    def fingerprint(self) -> list:
        return file_states([self.source])

    def read(self) -> tuple[Grid, dict[str, Any], CloudyImage, np.ndarray]:
        """The grid, the image to write, the clouds, and where the image has data."""
        reader = self.settings.reader()
        with RasterSource(self.source, any_format=True) as source:
            image, valid = reader.read(source)
            clouds = build_clouds(self.settings.kind, self.settings.cover)
            cloudy = clouds(image, valid, derived_seed(self.settings.seed, self.name))
            changed = valid & (cloudy.image != image).any(axis=2)
            return source.grid, _stored(source, reader, cloudy.image, changed, valid), cloudy, valid

    def write(self, content: tuple[Grid, dict[str, Any], CloudyImage, np.ndarray]) -> dict:
        grid, stored, cloudy, valid = content
        image, mask = Path(IMAGES, self.place), Path(MASKS, self.place)
        mask = mask.with_suffix(".png" if mask.suffix.lower() in PICTURES else ".tif")
        files = {mask: _write(self.output / mask, grid, np.rint(cloudy.opacity * 255).astype(np.uint8)[None])}
        files[image] = _write(self.output / image, grid, **stored)
        opacity = cloudy.opacity[valid]
        entry = {
            "name": self.name,
            "seed": derived_seed(self.settings.seed, self.name),
            "source": {"file": self.place.as_posix(), "sha256": sha256(self.source)},
            "image": {"file": image.as_posix(), "sha256": files[image]},
            "mask": {"file": mask.as_posix(), "sha256": files[mask]},
            "mean_opacity": round(float(opacity.mean()), 4) if opacity.size else 0.0,
            "covered": round(float((opacity >= COVERED_OPACITY).mean()), 4) if opacity.size else 0.0,
        }
        return {"made": [entry], "files": {path.as_posix(): digest for path, digest in files.items()}}


def _stored(
    source: RasterSource, reader: RGBReader, image: np.ndarray, changed: np.ndarray, valid: np.ndarray
) -> dict[str, Any]:
    """Bands (n, H, W) of the file with a changed RGB image, and the arguments of :func:`_write` for them.

    Type, number and order of the bands are kept, and so is every value that no cloud has changed, including those of
    other bands and of pixels without data. A grey band becomes red, green and blue of its type; a palette, or a band
    whose 0 is white, becomes 8-bit red, green and blue.
    """
    reader, colors = reader.suited_to(source), reader.choose(source)
    if len(colors) == 1 and (source.color_table(colors[0]) is not None or source.white_value(colors[0]) is not None):
        alpha = [] if valid.all() else [np.where(valid, np.uint8(255), np.uint8(0))]
        meanings = (*COLORS, *([ColorInterp.alpha] if alpha else []))
        return {"bands": np.stack([*image.transpose(2, 0, 1), *alpha]), "meanings": meanings}
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
        # A cloud whose colour equals the nodata value must not be read as no data.
        hidden = changed & (values[places] == first.nodata).all(axis=0)
        step = reader.smallest_step(first)
        values[places[0]][hidden] = first.nodata + (-step if first.nodata > 0 else step)
    kept = [source.bands[number - 1] for number in numbers]
    return {
        "bands": values,
        "meanings": tuple(meanings),
        "descriptions": tuple(band.description for band in kept),
        "scales": tuple(band.scale for band in kept),
        "offsets": tuple(band.offset for band in kept),
        "units": tuple(band.unit for band in kept),
        "nodata": first.nodata,
        "valid": source.mask(),
    }


def _write(
    path: Path,
    grid: Grid,
    bands: np.ndarray,
    *,
    nodata: float | None = None,
    valid: np.ndarray | None = None,
    **of_bands: tuple,
) -> str:
    """Write an image with its georeference, in the format of its suffix.

    Returns:
        The SHA-256.
    """
    if path.suffix.lower() in PICTURES:
        write_picture(path, bands, grid, nodata=nodata, valid=valid)
    else:
        write_geotiff(path, bands, grid, nodata=nodata, valid=valid, **of_bands)
    return sha256(path)
