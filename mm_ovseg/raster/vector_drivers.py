"""Which vector files are opened at all, and by which of GDAL's drivers. SECURITY.md says from what they are kept."""

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyogrio
from pyogrio.core import _register_drivers

from mm_ovseg.errors import DataError
from mm_ovseg.raster.trust import ADDRESS, check_file

__all__ = ["LOCAL_DRIVERS", "check_before_opening", "check_name", "gdal_options", "local_drivers", "path_for_pyogrio"]

# Formats that hold their shapes themselves. What is missing reaches the network (WFS, OAPIF, EEDA, Carto, ...), reads
# whatever a file names (OGR_VRT, GDALG) or runs a program (GPSBabel, ADBC).
LOCAL_DRIVERS = {
    *("GPKG", "GeoJSON", "GeoJSONSeq", "ESRI Shapefile", "FlatGeobuf", "MapInfo File"),
    *("AIVector", "AVCBin", "AVCE00", "CSV", "DGN", "DWG", "DXF", "EDIGEO", "ESRIJSON", "GML", "GPX", "GTFS", "GeoRSS"),
    *("Idrisi", "JML", "JSONFG", "KML", "LIBKML", "LVBAG", "MBTiles", "MVT", "MapML", "MiraMonVector", "ODS"),
    *("OGR_GMT", "OGR_PDS", "OSM", "OpenFileGDB", "PCIDSK", "PDS4", "PMTiles", "Parquet", "S57", "SQLite", "SXF"),
    *("Selafin", "TopoJSON", "VDV", "VFK", "VICAR", "WAsP", "XLSX", "Arrow"),
}
FOLDER_FORMATS = (".gdb",)  # a folder that is one data set
# What GDAL would otherwise do beside reading: fetch the schema that a GML file names.
OPTIONS = {"GML_DOWNLOAD_SCHEMA": "NO", "GML_SKIP_RESOLVE_ELEMS": "ALL"}
DATABASE = re.compile(r"[A-Za-z][A-Za-z0-9]+:")  # two letters at least: C:\\ is a disk
_lock = threading.RLock()


def check_before_opening(path: str | os.PathLike) -> None:
    """Check that a path is a file of this machine.

    Raises:
        DataError: It is a connection string, pyogrio cannot open its name, or
            :func:`~mm_ovseg.raster.trust.check_file` refuses it.
    """
    name = os.fspath(path)
    if DATABASE.match(name) and not ADDRESS.match(name) and not os.path.exists(name):
        # Not in full: it may hold a password.
        raise DataError(f"{name.partition(':')[0]}:... is a database or service, not a file; export a GeoPackage.")
    check_file(name, may_be_folder=Path(name).suffix.lower() in FOLDER_FORMATS)
    check_name(name)


def check_name(path: str | os.PathLike) -> None:
    """Check that pyogrio takes a path for that of a file.

    Raises:
        DataError: It would take it for a file inside of an archive.
    """
    if "!" in os.path.abspath(path):
        raise DataError(f"{path} has '!' in its path, which pyogrio takes for an archive; rename the file or folder.")


def path_for_pyogrio(path: str | os.PathLike) -> str:
    """A path in the form that pyogrio cannot mistake for anything else; it splits a plain path at ";"."""
    name = os.path.abspath(path)
    return name if os.name == "nt" else f"file://{name}"


@contextmanager
def gdal_options(options: Mapping[str, str]) -> Iterator[None]:
    """Within the block, GDAL's vector drivers have these configuration options."""
    before = {name: pyogrio.get_gdal_config_option(name) for name in options}
    pyogrio.set_gdal_config_options(options)
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options(before)


@contextmanager
def local_drivers() -> Iterator[None]:
    """Within the block, GDAL knows no drivers of vector files but :data:`LOCAL_DRIVERS`.

    pyogrio takes no list of drivers that may open a file, so this holds for all threads of the process, which must not
    use pyogrio in other ways meanwhile.
    """
    with _lock:
        known = set(pyogrio.list_drivers())
        try:
            with gdal_options({**OPTIONS, "OGR_SKIP": ",".join(known - LOCAL_DRIVERS)}):
                try:
                    _register_drivers()
                    yield
                finally:
                    # First none at all, so that they come back in GDAL's own order, in which they are tried.
                    pyogrio.set_gdal_config_options({"OGR_SKIP": ",".join(known)})
                    _register_drivers()
        finally:
            _register_drivers()
