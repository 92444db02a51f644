"""The files that segmenting a scene reads and writes."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mm_ovseg.data.input_files import raster_inputs
from mm_ovseg.data.palette import LegendEntry
from mm_ovseg.decision import NODATA_CLASS, NONE_CLASS
from mm_ovseg.errors import DataError, check_needed
from mm_ovseg.files import check_writable_folder, write_json
from mm_ovseg.inference.cloud_detection import DETECT
from mm_ovseg.inference.coverage import (
    COVERAGE,
    COVERAGE_LEGEND,
    class_coverage,
    coverage_concerns,
    coverage_report,
    measure_coverage,
)
from mm_ovseg.inference.deliverables import (
    DATA,
    GEOPACKAGE,
    JSON,
    LAYERS,
    METADATA,
    STAC,
    STYLE,
    TABLE,
    XML,
    deliver_item,
    deliver_table,
    deliverable_files,
)
from mm_ovseg.inference.map_item import MapAsset
from mm_ovseg.inference.map_layers import area_layer, footprint_layer
from mm_ovseg.inference.map_writer import class_band, write_qgis_style
from mm_ovseg.inference.polygons import polygon_layer
from mm_ovseg.inference.scene_options import NO_CLOUDS, SceneOptions
from mm_ovseg.inference.scene_work import SceneWork, work_folder
from mm_ovseg.raster import Grid, Paths, path_list, read_raster_info, write_geotiff
from mm_ovseg.raster.attribute_table import table_path
from mm_ovseg.raster.cog import write_cog
from mm_ovseg.raster.geopackage import write_geopackage
from mm_ovseg.raster.vector_drivers import check_name
from mm_ovseg.vocabulary import is_text

__all__ = [
    "check_scene_outputs",
    "describe_grid",
    "polygon_options",
    "scene_inputs",
    "scene_outputs",
    "sibling",
    "write_scene_outputs",
]

logger = logging.getLogger(__name__)


def sibling(output: Path, ending: str) -> Path:
    """A file next to the map, with the same stem and another ending."""
    return output.with_name(output.stem + ending)


def scene_outputs(output: Path, options: SceneOptions) -> dict[str, list[Path | None]]:
    """Option -> paths that it may write, for :func:`mm_ovseg.files.check_outputs`."""
    endings = ["_coverage.tif", "_coverage.qml", ".qml", ".json"]
    endings += ["_confidence.tif"] if options.confidence else []
    endings += ["_probabilities.tif"] if options.probabilities else []
    beside = [*(sibling(output, ending) for ending in endings), *deliverable_files(output, options.deliver)]
    return {
        "--output": [output, *beside, work_folder(output)],
        "--vector": [options.vector],
        "--keep-features": [options.keep_features],
    }


def scene_inputs(
    rgb: Paths | None, sar: Paths | None, options: SceneOptions
) -> dict[str, Iterable[str | os.PathLike | None]]:
    """Description -> input paths of a scene, for :func:`mm_ovseg.files.check_outputs`."""
    images = {}
    for kind, paths in (("RGB", path_list(rgb)), ("SAR", path_list(sar))):
        images[f"the {kind} image" if len(paths) < 2 else f"one of the {kind} images"] = paths
    images["the cloud mask"] = [None if options.clouds in (DETECT, NO_CLOUDS) else options.clouds]
    images["the elevation model"] = [options.dem]
    return {**raster_inputs(images), "the area of interest": [options.area]}


def polygon_options(options: SceneOptions) -> dict[str, float | None]:
    """The options that shape the polygons."""
    return {"min_area": options.min_area, "simplify": options.simplify}


def check_scene_outputs(output: Path, vector: Path | None) -> None:
    """Check that the files can be written, before any long computation.

    Raises:
        DataError: a file name has the wrong suffix or is not valid text, or a folder is not writable.
    """
    if output.suffix.lower() not in (".tif", ".tiff"):
        raise DataError(f"{output} must be a GeoTIFF; give a name that ends in .tif.")
    if vector is not None and vector.suffix.lower() != ".gpkg":
        raise DataError(f"{vector} must be a GeoPackage; give a name that ends in .gpkg.")
    for path in (output, vector):
        if path is not None:
            if not is_text(str(path)):
                raise DataError(f"The file name {str(path)!r} is not valid text; choose another.")
            check_writable_folder(path.parent)
    if vector is not None:
        check_name(vector)


def write_scene_outputs(
    output: Path,
    work: SceneWork,
    grid: Grid,
    report: Mapping[str, Any],
    options: SceneOptions,
    legend: Sequence[LegendEntry],
    *,
    rasters: Mapping[str, Sequence[str | os.PathLike]],
    trained_without_rgb: bool,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Write the map of a finished scene and its accompanying files, the JSON report last.

    Args:
        output, grid, options, legend: those of the map.
        work: all rows.
        report: the report so far.
        rasters: "rgb" and "sar" -> files that were read.
        trained_without_rgb: whether training showed the model SAR alone, too.
        should_stop: called before each layer; returns True to stop.

    Returns:
        The complete report.

    Raises:
        DataError: a file cannot be written.
        StoppedError: ``should_stop`` returned True.
    """
    names = [entry.name for entry in legend if entry.value != NONE_CLASS]
    contents = {
        "class": class_band(legend),
        "coverage": {
            "colors": {value: entry.color for value, entry in enumerate(COVERAGE_LEGEND)},
            "descriptions": ["what the map was made from"],
            "band_tags": {f"value_{value}": name for name, value in COVERAGE.items()},
        },
        "confidence": {"descriptions": ["confidence of the class or of none, percent"]},
        "probabilities": {"descriptions": [f"score of {name}, percent" for name in names]},
    }
    for layer, bands in work.layers.items():
        check_needed(should_stop)
        plain = work.folder / f"{layer}.tif"
        # Copied once more, so it needs no strong compression.
        style = {"bands": bands, "nodata": NODATA_CLASS, "level": 1, **contents[layer]}
        write_geotiff(plain, work.parts(layer), grid, **style)
        path = output if layer == "class" else sibling(output, f"_{layer}.tif")
        # At every zoom, the confidence is that of the pixels whose classes are shown.
        write_cog(plain, path, categorical=layer != "probabilities")
    write_qgis_style(output.with_suffix(".qml"), legend)
    write_qgis_style(sibling(output, "_coverage.qml"), COVERAGE_LEGEND)
    if options.vector is not None:
        shape = polygon_options(options)
        class_names = {entry.value: entry.name for entry in legend}
        vector = [polygon_layer(options.vector.stem, output, class_names, **shape)]
        if LAYERS in options.deliver:
            info = read_raster_info(output)
            vector.append(area_layer(info, options.area, options.area_layer))
            vector.append(footprint_layer(info, rasters, report["images"]))
        report = {**report, "polygons": write_geopackage(options.vector, vector)[0], "polygon_options": shape}
    measured = measure_coverage(output, sibling(output, "_coverage.tif"))
    coverage = coverage_report(measured)
    concerns = coverage_concerns(coverage, trained_without_rgb=trained_without_rgb)
    for concern in concerns:
        logger.warning(concern)
    report = {
        "map": output.name,
        "classes": [
            {
                "name": entry.name,
                **measured.of(entry.value),
                "value": entry.value,
                "color": list(entry.color),
                "unseen": entry.unseen,
                "coverage": class_coverage(measured, entry.value),
            }
            for entry in legend
        ],
        "coverage": coverage,
        "grid": describe_grid(grid),
        "deliver": sorted(options.deliver),
        **report,
        "warnings": [*report["warnings"], *concerns],
    }
    if TABLE in options.deliver:
        deliver_table(output, legend, measured)
    if STAC in options.deliver:
        assets = _assets(output, work.layers, options, legend)
        files = [Path(path) for paths in rasters.values() for path in paths]
        concerns = deliver_item(grid, assets, images=[report["images"]], rasters=files)
        for concern in concerns:
            logger.warning(concern)
        report["warnings"] += concerns
    write_json(sibling(output, ".json"), report)
    return report


def _assets(
    output: Path, layers: Mapping[str, int], options: SceneOptions, legend: Sequence[LegendEntry]
) -> dict[str, MapAsset]:
    """The files of a map, as a STAC item lists them."""
    assets = {
        "map": MapAsset(output, "Land cover", DATA, legend=legend),
        "coverage": MapAsset(sibling(output, "_coverage.tif"), "Images used", METADATA, legend=COVERAGE_LEGEND),
        "confidence": MapAsset(sibling(output, "_confidence.tif"), "Confidence", METADATA, unit="%"),
        "probabilities": MapAsset(sibling(output, "_probabilities.tif"), "Scores of all classes", METADATA, unit="%"),
    }
    written = {"map", *layers}
    assets = {key: replace(asset, bands=layers.get(key, 1)) for key, asset in assets.items() if key in written}
    if options.vector is not None:
        assets["polygons"] = MapAsset(options.vector, "Polygons", DATA, GEOPACKAGE)
    if TABLE in options.deliver:
        assets["table"] = MapAsset(table_path(output), "Raster attribute table", METADATA, XML)
    assets["style"] = MapAsset(output.with_suffix(".qml"), "Style for QGIS", STYLE, XML)
    assets["report"] = MapAsset(sibling(output, ".json"), "Report", METADATA, JSON)
    return assets


def describe_grid(grid: Grid) -> dict[str, Any]:
    """What a report says of the grid of a map."""
    return {
        "width": grid.width,
        "height": grid.height,
        "crs": None if grid.crs is None else grid.crs.to_string(),
        "transform": None if grid.transform is None else list(grid.transform)[:6],
        "pixel_size_metres": grid.pixel_size_metres,
    }
