"""Coordinate reference systems: compared on the ground, however they are written, and transformed."""

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

# Where a map is probed for whether x depends on longitude alone.
PROBE_DEGREES, PROBE_LATITUDES = 20, (0.0, 40.0)
SAME_STEP = 1e-6  # relative

LONGITUDE_LATITUDE = CRS.from_user_input("OGC:CRS84")


@functools.lru_cache(maxsize=256)
def to_pyproj(crs: CRS) -> ProjCRS | None:
    """The same system in pyproj, without its vertical part; None where PROJ does not know it.

    A local (engineering) system that bears the name of a projected one, as some programs write it, is that one.
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
    """Whether two systems give the same numbers for the same place, whatever their names and vertical parts."""
    if first is None or second is None or first == second:
        return first is second or first == second
    systems = to_pyproj(first), to_pyproj(second)
    return None not in systems and _same_system(*systems)


@functools.lru_cache(maxsize=256)
def _same_system(first: ProjCRS, second: ProjCRS) -> bool:
    return first.equals(second, ignore_axis_order=True)


@functools.lru_cache(maxsize=256)
def full_turn(crs: CRS | None) -> float | None:
    """By how much x grows once around the globe; None where it does not count longitudes.

    That is 360 degrees in the unit of a geographic system, and the circumference of the map in one such as Mercator's.
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
    with np.errstate(invalid="ignore"):  # where the map has no place for them
        steps = np.diff(turned, append=np.asarray(turned)[:, :1], axis=1)
        step = float(np.median(steps))
    turn = step * len(west)
    if not step or not np.isfinite(steps).all():
        return None
    # The same everywhere, but for the one that leads back over the antimeridian of the map.
    off = np.abs(steps - turn * np.round(steps / turn) - step)
    return abs(turn) if (off < SAME_STEP * abs(step)).all() else None


class CoordinateTransform:
    """A transformation of coordinates from one system to another; x is east or longitude.

    Args:
        source, target: The systems; None on both sides for one unnamed plane.
        names: What messages call the files that are in them.

    Attributes:
        is_identity: Whether both systems have the same numbers.

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
        """Transform coordinates of any shape; infinite where a point has no place in the target."""
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
    """The system whose name ends so ("Lambert-93"); None where there are several that lie a metre or more apart."""
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
