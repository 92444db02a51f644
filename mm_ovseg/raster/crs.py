"""Coordinate reference systems: comparing them by what they mean, however they are written, and transforming."""

import functools
import logging
import math

import numpy as np
from pyproj import CRS as ProjCRS
from pyproj import Transformer
from pyproj.database import query_crs_info
from pyproj.enums import PJType
from pyproj.exceptions import CRSError, ProjError
from rasterio.crs import CRS
from rasterio.errors import CRSError as RasterioCRSError

from mm_ovseg.errors import DataError

__all__ = ["CoordinateTransform", "LONGITUDE_LATITUDE", "full_turn", "same_crs", "to_pyproj"]

logger = logging.getLogger(__name__)

# Points at which a map is probed for whether x depends on longitude alone.
PROBE_DEGREES, PROBE_LATITUDES = 20, (0.0, 40.0)
SAME_STEP = 1e-6  # relative

LONGITUDE_LATITUDE = CRS.from_user_input("OGC:CRS84")


@functools.lru_cache(maxsize=256)
def to_pyproj(crs: CRS) -> ProjCRS | None:
    """The same system in pyproj, without its vertical part; None if PROJ does not know it.

    A local (engineering) system with the name of a projected one, as some programs write, is taken for the latter.
    """
    try:
        system = ProjCRS.from_wkt(crs.to_wkt())
        while system.is_compound or system.is_bound:
            system = system.sub_crs_list[0] if system.is_compound else system.source_crs
        if system.is_engineering:
            return _by_name(system.name) or system
        return system.to_2d()
    except (CRSError, RasterioCRSError):
        return None


def same_crs(first: CRS | None, second: CRS | None) -> bool:
    """Whether two systems give a place the same coordinates, whatever their names and vertical parts."""
    if first is None or second is None or first == second:
        return first is second or first == second
    systems = to_pyproj(first), to_pyproj(second)
    return None not in systems and _same_system(*systems)


@functools.lru_cache(maxsize=256)
def _same_system(first: ProjCRS, second: ProjCRS) -> bool:
    return first.equals(second, ignore_axis_order=True)


@functools.lru_cache(maxsize=256)
def full_turn(crs: CRS | None) -> float | None:
    """The change of x once around the globe; None if x does not depend on longitude alone.

    That is 360 degrees in the unit of a geographic system, and the width of the world map in Mercator and the like.
    """
    system = None if crs is None else to_pyproj(crs)
    if system is None or not (system.is_geographic or system.is_projected):
        return None
    if system.is_geographic:
        return 2 * math.pi / system.axis_info[0].unit_conversion_factor
    try:
        to_map = Transformer.from_crs(system.geodetic_crs, system, always_xy=True)
    except ProjError:
        return None
    degree = math.radians(1) / system.geodetic_crs.axis_info[0].unit_conversion_factor
    west = np.arange(-180, 180, PROBE_DEGREES) * degree
    turned = [to_map.transform(west, np.full_like(west, latitude * degree))[0] for latitude in PROBE_LATITUDES]
    with np.errstate(invalid="ignore"):  # of points outside of the projection
        steps = np.diff(turned, append=np.asarray(turned)[:, :1], axis=1)
        step = float(np.median(steps))
    turn = step * len(west)
    if not step or not np.isfinite(steps).all():
        return None
    # The same everywhere, except for the step back over the antimeridian of the map.
    off = np.abs(steps - turn * np.round(steps / turn) - step)
    return abs(turn) if (off < SAME_STEP * abs(step)).all() else None


class CoordinateTransform:
    """A transformation of coordinates from one system to another; x is easting or longitude.

    Args:
        source, target: The systems; None on both sides for one unnamed plane.
        names: Names of the files in these systems, for messages.

    Attributes:
        is_identity: Whether the coordinates are the same in both systems.

    Raises:
        DataError: No transformation exists, for instance from a local system.
    """

    def __init__(
        self, source: CRS | None, target: CRS | None, names: tuple[str, str] = ("the source", "the target")
    ) -> None:
        self.is_identity = same_crs(source, target)
        if self.is_identity:
            return
        for crs, name, other in zip((source, target), names, names[::-1], strict=True):
            if crs is None:
                raise DataError(
                    f"{name} has no coordinate reference system, so it cannot be put on another grid; give it one "
                    "(gdal_edit -a_srs)."
                )
            system = to_pyproj(crs)
            if system is None or system.is_engineering:
                raise DataError(
                    f"The local coordinate system of {name} cannot be transformed to that of {other}; give {name} the "
                    "system that its coordinates are in (gdal_edit -a_srs EPSG:..., or ogr2ogr for a vector file)."
                )
        try:
            self._transformer = Transformer.from_crs(to_pyproj(source), to_pyproj(target), always_xy=True)
        except ProjError as error:
            raise DataError(
                f"The coordinate reference system of {names[0]} cannot be transformed to that of {names[1]}; "
                "check both (gdalinfo), and give the right one with gdal_edit -a_srs."
            ) from error

    def __call__(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Transform coordinates of any shape; infinite where a point cannot be represented in the target."""
        if self.is_identity:
            return x, y
        x, y = self._transformer.transform(x, y)
        return np.asarray(x), np.asarray(y)


def _by_name(name: str) -> ProjCRS | None:
    """The projected system of the EPSG dataset that a local system is named after ("RGF93 / Lambert-93")."""
    try:
        found = ProjCRS.from_user_input(name)
    except CRSError:
        found = _by_last_name(name)
    if found is None or not found.is_projected:
        return None
    logger.warning("The local coordinate system '%s' is taken for %s.", name, found.to_string())
    return found


def _by_last_name(name: str) -> ProjCRS | None:
    """The system whose name ends like this ("Lambert-93"); None if several do that are a metre or more apart."""
    ending = f"/ {name}".casefold()
    infos = query_crs_info(auth_name="EPSG", pj_types=PJType.PROJECTED_CRS)
    systems = [ProjCRS.from_epsg(int(info.code)) for info in infos if info.name.casefold().endswith(ending)]
    if not systems or systems[0].area_of_use is None:
        return None
    west, south, east, north = systems[0].area_of_use.bounds
    places = [
        Transformer.from_crs("OGC:CRS84", system, always_xy=True).transform((west + east) / 2, (south + north) / 2)
        for system in systems
    ]
    spread = np.ptp(places, axis=0).max()
    return systems[0] if spread < 1.0 else None  # metres; NaN and infinity are not less
