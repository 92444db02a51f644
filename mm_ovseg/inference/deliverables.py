"""What is delivered with a map on request: a STAC item, a raster attribute table, and layers of a GeoPackage."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mm_ovseg.choices import check_choice
from mm_ovseg.data.palette import LegendEntry
from mm_ovseg.errors import ConfigError
from mm_ovseg.inference.areas import MeasuredValues
from mm_ovseg.inference.map_images import item_addresses, map_times
from mm_ovseg.inference.map_item import MapAsset, import_pystac, write_stac_item
from mm_ovseg.inference.map_layers import AREA_LAYER, FOOTPRINT_LAYER
from mm_ovseg.raster import Grid
from mm_ovseg.raster.attribute_table import TableColumn, table_path, write_attribute_table

__all__ = [
    "DELIVERABLES",
    "LAYERS",
    "STAC",
    "TABLE",
    "check_deliverables",
    "deliverable_files",
    "deliver_item",
    "deliver_table",
]

STAC, TABLE, LAYERS = DELIVERABLES = ("stac", "table", "layers")
GEOPACKAGE, JSON, CSV, XML = "application/geopackage+sqlite3", "application/json", "text/csv", "application/xml"
DATA, METADATA, STYLE = ("data",), ("metadata",), ("style",)
NAMES_SHOWN = 10


def check_deliverables(deliver: Collection[str], vector: Path | None, known: Sequence[str] = DELIVERABLES) -> None:
    """Check what is asked for.

    Args:
        deliver: some of ``known``.
        vector: the GeoPackage of polygons, if they are written.
        known: what can be delivered.

    Raises:
        ConfigError: a word is unknown, layers are asked for without polygons, or a package is not installed.
    """
    for word in deliver:
        check_choice("--deliver", word, known)
    if LAYERS in deliver:
        if vector is None:
            raise ConfigError(f"--deliver {LAYERS} adds to the file of --vector; give that too, or leave it out.")
        if vector.stem in (AREA_LAYER, FOOTPRINT_LAYER):
            raise ConfigError(f"--deliver {LAYERS} writes a layer '{vector.stem}' itself; choose another --vector.")
    if STAC in deliver:
        import_pystac()


def deliverable_files(output: Path, deliver: Collection[str]) -> list[Path]:
    """The files that are written next to a map."""
    files = {STAC: _item_path(output), TABLE: table_path(output)}
    return [path for word, path in files.items() if word in deliver]


def deliver_table(raster: Path, legend: Sequence[LegendEntry], measured: MeasuredValues) -> None:
    """Write the raster attribute table of a class map.

    Args:
        raster: the map.
        legend: its classes.
        measured: its pixels and areas.

    Raises:
        DataError: the file cannot be written.
    """
    areas = [measured.of(entry.value) for entry in legend]
    columns = [
        TableColumn("Value", [entry.value for entry in legend], "value"),
        # Real, since GDAL's integers have 32 bits.
        TableColumn("Count", [float(area["pixels"]) for area in areas], "count"),
        TableColumn("Class", [entry.name for entry in legend], "name"),
        *(
            TableColumn(name.capitalize(), [entry.color[channel] for entry in legend], name)
            for channel, name in enumerate(("red", "green", "blue"))
        ),
        TableColumn("Alpha", [255] * len(legend), "alpha"),
    ]
    if all(area["hectares"] is not None for area in areas):
        columns.append(TableColumn("Hectares", [area["hectares"] for area in areas]))
    write_attribute_table(raster, columns)


def deliver_item(
    grid: Grid,
    assets: Mapping[str, MapAsset],
    *,
    images: Sequence[Mapping[str, Any] | None],
    rasters: Sequence[Path] = (),
    sources: Sequence[str] = (),
) -> list[str]:
    """Write the STAC item of a map, dated by its images.

    Args:
        grid: that of the map.
        assets: key -> file; "map" is the first.
        images: what is known of the images; the addresses of STAC items become links.
        rasters: their files.
        sources: further addresses or relative paths of what the map was made from.

    Returns:
        Warnings, as sentences.

    Raises:
        DataError: the file cannot be written.
    """
    item = _item_path(assets["map"].path)
    times = map_times(images, rasters)
    names = [entry.name for entry in assets["map"].legend]
    title = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
    links = [*(address for of_map in images for address in item_addresses(of_map)), *sources]
    write_stac_item(item, grid, assets, title=f"{assets['map'].title}: {title}", times=times, derived_from=links)
    return [] if times.certain else [f"{item.name}: {times.about}"]


def _item_path(output: Path) -> Path:
    return output.with_name(f"{output.stem}_stac.json")
