"""Which vector files may be opened, and by which of GDAL's drivers. SECURITY.md lists what is prevented."""

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

# Formats that contain their geometries themselves. The others access the network (WFS, OAPIF, EEDA, Carto, ...), read
# whatever a file names (OGR_VRT, GDALG) or run a program (GPSBabel, ADBC).
LOCAL_DRIVERS = {
    *("GPKG", "GeoJSON", "GeoJSONSeq", "ESRI Shapefile", "FlatGeobuf", "MapInfo File"),
    *("AIVector", "AVCBin", "AVCE00", "CSV", "DGN", "DWG", "DXF", "EDIGEO", "ESRIJSON", "GML", "GPX", "GTFS", "GeoRSS"),
    *("Idrisi", "JML", "JSONFG", "KML", "LIBKML", "LVBAG", "MBTiles", "MVT", "MapML", "MiraMonVector", "ODS"),
    *("OGR_GMT", "OGR_PDS", "OSM", "OpenFileGDB", "PCIDSK", "PDS4", "PMTiles", "Parquet", "S57", "SQLite", "SXF"),
    *("Selafin", "TopoJSON", "VDV", "VFK", "VICAR", "WAsP", "XLSX", "Arrow"),
}
FOLDER_FORMATS = (".gdb",)  # a folder that is one data set
# Otherwise GDAL would fetch the schema that a GML file names.
OPTIONS = {"GML_DOWNLOAD_SCHEMA": "NO", "GML_SKIP_RESOLVE_ELEMS": "ALL"}
DATABASE = re.compile(r"[A-Za-z][A-Za-z0-9]+:")  # at least two letters: C:\\ is a drive
_lock = threading.RLock()


def check_before_opening(path: str | os.PathLike) -> None:
    """Check that a path is a file of this machine.

    Raises:
        DataError: It is a connection string, pyogrio cannot open a file of this name, or
            :func:`~mm_ovseg.raster.trust.check_file` refuses it.
    """
    name = os.fspath(path)
    if DATABASE.match(name) and not ADDRESS.match(name) and not os.path.exists(name):
        # Not in full: it may hold a password.
        raise DataError(f"{name.partition(':')[0]}:... is a database or service, not a file; export a GeoPackage.")
    check_file(name, may_be_folder=Path(name).suffix.lower() in FOLDER_FORMATS)
    check_name(name)


def check_name(path: str | os.PathLike) -> None:
    """Check that pyogrio takes a path for a plain file.

    Raises:
        DataError: It would take it for a file inside an archive.
    """
    if "!" in os.path.abspath(path):
        raise DataError(f"{path} has '!' in its path, which pyogrio takes for an archive; rename the file or folder.")


def path_for_pyogrio(path: str | os.PathLike) -> str:
    """A path in a form that pyogrio cannot misread; it splits a plain path at ";"."""
    name = os.path.abspath(path)
    return name if os.name == "nt" else f"file://{name}"


@contextmanager
def gdal_options(options: Mapping[str, str]) -> Iterator[None]:
    """Set configuration options of GDAL's vector drivers within the block."""
    before = {name: pyogrio.get_gdal_config_option(name) for name in options}
    pyogrio.set_gdal_config_options(options)
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options(before)


@contextmanager
def local_drivers() -> Iterator[None]:
    """Limit GDAL's vector drivers to :data:`LOCAL_DRIVERS` within the block.

    pyogrio accepts no list of allowed drivers, so this applies to all threads of the process, which must not use
    pyogrio in other ways meanwhile.
    """
    with _lock:
        known = set(pyogrio.list_drivers())
        try:
            with gdal_options({**OPTIONS, "OGR_SKIP": ",".join(known - LOCAL_DRIVERS)}):
                try:
                    _register_drivers()
                    yield
                finally:
                    # First remove all, so that they return in GDAL's own order, in which they are tried.
                    pyogrio.set_gdal_config_options({"OGR_SKIP": ",".join(known)})
                    _register_drivers()
        finally:
            _register_drivers()
