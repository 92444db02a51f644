"""What is fuzzed: functions ``(bytes, folder)`` that end in a result or in an MMOVSegError."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas
import safetensors.torch
import shapely
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from rasterio.crs import CRS
from rasterio.transform import from_origin

from mm_ovseg.checkpoint.encoder_weights import read_encoder_file
from mm_ovseg.checkpoint.official import convert_official_state_dict
from mm_ovseg.checkpoint.weights_file import load_weights_file
from mm_ovseg.data import register_datasets_from_file
from mm_ovseg.data.pair_reader import PairReader
from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.data.tile.label_values import parse_legend, read_legend
from mm_ovseg.engine import load_config
from mm_ovseg.errors import MMOVSegError
from mm_ovseg.inference.archive import read_archive
from mm_ovseg.inference.scene_area import SceneArea
from mm_ovseg.inference.typed_classes import read_vocabulary
from mm_ovseg.raster import Grid, RGBReader, SARReader, read_label, read_rgb, read_sar
from mm_ovseg.raster.points import read_points
from mm_ovseg.raster.vector import read_polygons
from mm_ovseg.vocabulary import parse_class_names

GRID = Grid(24, 20, CRS.from_epsg(32652), from_origin(500000, 4000000, 10, 10))
SUFFIXES = (".tif", ".png", ".jpg")
VECTOR_SUFFIXES = (".geojson", ".gpkg", ".fgb", ".shp", ".gml")


def raster(content: bytes, folder: Path) -> None:
    """An image, its kind by its first byte, in every way in which images are read."""
    path = _write(folder, f"image{SUFFIXES[content[0] % 3]}", content[1:])
    reader = PairReader(RGBReader(value_range=(0, 3000)), SARReader(scale="power"))
    _each(
        lambda: read_rgb(path),
        lambda: read_sar(path, scale="db", value_range=(-30, 5)),
        lambda: reader.read(path, path),
    )


def label(content: bytes, folder: Path) -> None:
    """A label map, with and without a table of values."""
    path = _write(folder, f"label{SUFFIXES[content[0] % 3]}", content[1:])
    _each(
        lambda: read_label(path, num_classes=5),
        lambda: read_label(path, num_classes=2, label_values={0: 0, 7: 1, 300: 255, -1: 255}),
    )


def scene(content: bytes, folder: Path) -> None:
    """The SAR of a scene by windows, on the grid of another raster and on its own."""
    path = _write(folder, f"scene{SUFFIXES[content[0] % 3]}", content[1:])

    def read(rgb: Path, sar: Path | None, distance: float | None) -> None:
        readers = {"rgb_reader": RGBReader(value_range=(0, 3000)), "sar_reader": SARReader(scale="power")}
        with SceneSource(rgb, sar, ground_sampling_distance=distance, **readers) as source:
            source.read(0, 0, 32, 32)
            source.read(source.grid.height // 2, source.grid.width // 2, 16, 16)

    _each(lambda: read(folder / "good.tif", path, None), lambda: read(path, None, 20.0))


def mosaic(content: bytes, folder: Path) -> None:
    """A VRT file, which names others."""
    path = _write(folder, "mosaic.vrt", content)

    def read() -> None:
        with SceneSource(path, None) as source:
            source.read(source.grid.height // 2, 0, 16, 16)

    _each(lambda: read_rgb(path), read)


def dataset_file(content: bytes, folder: Path) -> None:
    """A dataset declaration, and the listing of what it declares."""
    before = set(DatasetCatalog)
    try:
        names = register_datasets_from_file(_write(folder, "dataset.yaml", content))
        _each(*(partial(DatasetCatalog.get, name) for name in names))
    finally:
        for name in set(DatasetCatalog) - before:
            DatasetCatalog.remove(name)
            MetadataCatalog.pop(name, None)


def config_file(content: bytes, folder: Path) -> None:
    """A config."""
    load_config(_write(folder, "config.yaml", content), ["MODEL.DEVICE", "cpu"])


def class_names(content: bytes, folder: Path) -> None:
    """A list of classes as typed, and one of unseen ones."""
    typed, _, unseen = content.decode("utf-8", "surrogateescape").partition("|")
    _each(
        lambda: parse_class_names(typed),
        lambda: None if typed.endswith(".json") else read_vocabulary(typed, unseen or None),
    )


def class_file(content: bytes, folder: Path) -> None:
    """A class file."""
    read_vocabulary(str(_write(folder, "classes.json", content)), None)


def legend(content: bytes, folder: Path) -> None:
    """What the values of labels mean."""
    typed = content.decode("utf-8", "surrogateescape")
    _each(
        lambda: read_legend(_write(folder, "legend.yaml", content)).raster_table,
        lambda: parse_legend(typed, source="--label-values").raster_table,
    )


def manifest(content: bytes, folder: Path) -> None:
    """A list of scenes."""
    read_archive(_write(folder, "scenes.csv", content))


def area(content: bytes, folder: Path) -> None:
    """The part of a scene to map."""
    SceneArea(_write(folder, "area.geojson", content), GRID).rows(0, GRID.height)


def polygons(content: bytes, folder: Path) -> None:
    """A vector file of unknown origin, its kind by its first byte."""
    path = _write(folder, f"polygons{VECTOR_SUFFIXES[content[0] % len(VECTOR_SUFFIXES)]}", content[1:])
    _each(
        lambda: read_polygons(path, GRID),
        lambda: read_polygons(path, GRID, attribute="use"),
        lambda: read_points(path, GRID, attribute="use"),
    )


def weights(content: bytes, folder: Path) -> None:
    """A weights file, its kind by its first byte: read, and taken for an encoder."""
    path = _write(folder, ("weights.pth", "weights.safetensors")[content[0] % 2], content[1:])
    _each(
        lambda: load_weights_file(path),
        lambda: read_encoder_file(path),
        lambda: convert_official_state_dict(load_weights_file(path)),
    )


def converter(content: bytes, folder: Path) -> None:
    """A file whose lines ``name shape dtype`` are the tensors of a checkpoint, in one of the wrappings that occur."""
    wrapping, *lines = content.decode("utf-8", "replace").splitlines() or [""]
    state_dict = {}
    for line in lines:
        name, _, form = line.partition(" ")
        sizes = [int(size) % 5 for size in form.split() if size.isdecimal()][:5]
        state_dict[name] = torch.zeros(sizes, dtype=(torch.float32, torch.float16, torch.int64)[len(form) % 3])
    state_dict = {wrapping: state_dict} if wrapping else state_dict
    path = folder / "converter.pth"
    torch.save(state_dict, path)
    _each(
        lambda: read_encoder_file(path),
        *(partial(convert_official_state_dict, state_dict, variant) for variant in (None, "dino", "clip", "vitb16")),
    )


TARGETS = {
    target.__name__: target
    for target in (
        *(raster, label, scene, mosaic, dataset_file, config_file, class_names, class_file, legend, manifest, area),
        *(polygons, weights, converter),
    )
}


def seed_weights() -> list[bytes]:
    """A checkpoint of torch, and one of safetensors, as :func:`weights` takes them."""
    tensors = {
        "cls_token": torch.ones(1, 1, 4),
        "blocks.0.attn.qkv.weight": torch.ones(3, 2),
        "pos_embed": torch.ones(2),
    }
    file = io.BytesIO()
    torch.save({"model": tensors, "iteration": 7}, file)
    return [b"\0" + file.getvalue(), b"\1" + safetensors.torch.save(tensors, {"format": "pt"})]


def seed_vector_files() -> list[bytes]:
    """Small vector files, each after the byte that tells its suffix, as :func:`polygons` takes them."""
    shapes = [shapely.box(129.0, 36.14, 129.01, 36.15), shapely.Point(129.0, 36.143).buffer(0.01)]
    frame = geopandas.GeoDataFrame({"use": ["wood", None]}, geometry=shapes, crs=4326)
    files = []
    with TemporaryDirectory() as folder:
        for number, suffix in enumerate(VECTOR_SUFFIXES):
            path = Path(folder, f"polygons{suffix}")
            frame.to_file(path)
            files.append(bytes([number]) + path.read_bytes())
    return files


def _write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def _each(*reads: Callable[[], object]) -> None:
    """All of them, whatever becomes of the others; refused where all refuse."""
    refusals = []
    for read in reads:
        try:
            read()
        except MMOVSegError as error:
            refusals.append(error)
    if reads and len(refusals) == len(reads):
        raise refusals[0]
