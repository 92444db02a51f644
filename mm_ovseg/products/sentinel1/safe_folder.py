"""The files of a Sentinel-1 product (SAFE), and what its annotation says of the image."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from mm_ovseg.errors import DataError
from mm_ovseg.products.metadata import read_xml, to_time

__all__ = [
    "AGAIN",
    "MANIFEST",
    "Annotation",
    "Channel",
    "Safe",
    "Xml",
    "check_same_acquisition",
    "read_acquisition",
    "read_annotation",
    "read_safe",
]

MANIFEST = "manifest.safe"
ROLES = {
    "s1Level1ProductSchema": "annotation",
    "s1Level1CalibrationSchema": "calibration",
    "s1Level1NoiseSchema": "noise",
    "s1Level1MeasurementSchema": "measurement",
}
AGAIN = "download the product again"
NO_GRD = (
    "only ground range detected products (GRD) are read here; give the GRD of the same acquisition, or a "
    "terrain-corrected product (RTC)"
)
Acquisition = tuple[str, str, datetime]
SAME_START = 1.0  # seconds
MIN_CONTROL_POINTS = 4
MIN_STATES = 6  # of the satellite, for its orbit as a polynomial of the fifth degree
SPEED_OF_LIGHT = 299_792_458.0  # metres per second


@dataclass(frozen=True)
class Channel:
    """The files of one polarisation."""

    annotation: Path
    calibration: Path
    noise: Path
    measurement: Path


@dataclass(frozen=True)
class Safe:
    """A product's manifest.

    Attributes:
        folder: The product's folder.
        name: The folder's name, without ``.SAFE``.
        channels: Its polarisations.
        acquired: Start of the acquisition, in UTC.
        sensor: Such as "Sentinel-1A SAR".
        details: What else it says: mode, orbit, pass, processor.
    """

    folder: Path
    name: str
    channels: tuple[Channel, ...]
    acquired: datetime
    sensor: str
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Annotation:
    """What describes the image of one polarisation. Times are in seconds after its first line.

    Attributes:
        path: The file.
        polarisation: "VV", "VH", "HH" or "HV".
        acquisition: See :func:`read_acquisition`.
        size: Samples and lines.
        spacing: Metres between samples.
        line_interval: Seconds between lines.
        control_points: float64 (N, 4) of column, row, longitude and latitude; 0 is the centre of the first pixel.
        orbit: float64 (N, 4) of time and position x, y, z in the Earth-fixed frame, in metres.
        slant_ranges: Metres from the sensor to the nearest and the farthest of the control points.
        ground_range: float64 (N, 2 + C) of time, slant range of the origin, and the coefficients of the polynomial from
            slant range to ground range, which is the distance from the first sample.
    """

    path: Path
    polarisation: str
    acquisition: Acquisition
    size: tuple[int, int]
    spacing: float
    line_interval: float
    control_points: np.ndarray
    orbit: np.ndarray
    slant_ranges: tuple[float, float]
    ground_range: np.ndarray


class Xml:
    """An XML file, whose values are looked up whatever their namespace; what is missing or wrong is a DataError.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.root = path, read_xml(path)

    def damaged(self, reason: str) -> DataError:
        """The error for a file whose content is wrong."""
        return DataError(f"{self.path} cannot be read ({reason}); {AGAIN}.")

    def all(self, tag: str, within: Element | None = None) -> list[Element]:
        """All elements of a name, at any depth."""
        return list((self.root if within is None else within).iterfind(f".//{{*}}{tag}"))

    def text(self, tag: str, within: Element | None = None) -> str:
        """The text of the first element of a name."""
        found = (self.root if within is None else within).find(f".//{{*}}{tag}")
        if found is None or not (found.text or "").strip():
            raise self.damaged(f"it has no {tag}")
        return found.text.strip()

    def numbers(self, tag: str, within: Element | None = None) -> np.ndarray:
        """The finite numbers, float64 (N,), in the first element of a name."""
        return self._converted(tag, within, lambda text: np.array([float(part) for part in text.split()]))

    def number(self, tag: str, within: Element | None = None) -> float:
        """The number in the first element of a name."""
        return float(self._converted(tag, within, lambda text: np.array(float(text))))

    def count(self, tag: str) -> int:
        """The positive whole number in the first element of a name."""
        value = self.number(tag)
        if value < 1 or value != int(value):
            raise self.damaged(f"its {tag} is {value:g}")
        return int(value)

    def time(self, tag: str, within: Element | None = None) -> datetime:
        """The time, in UTC, in the first element of a name."""
        text = self.text(tag, within)
        if (time := to_time(text)) is None:
            raise self.damaged(f"its {tag} is '{text[:40]}'")
        return time

    def _converted(self, tag: str, within: Element | None, convert: Callable[[str], np.ndarray]) -> np.ndarray:
        text = self.text(tag, within)
        try:
            values = convert(text)
        except ValueError as error:
            raise self.damaged(f"its {tag} is '{text[:40]}'") from error
        if not np.isfinite(values).all():
            raise self.damaged(f"its {tag} is not finite")
        return values


def read_safe(manifest: Path) -> Safe:
    """Read the manifest of a product, and check that its files are there.

    Raises:
        DataError: The product is not a GRD, or a file is missing or damaged.
    """
    xml = Xml(manifest)
    folder = manifest.parent
    kind = next((found.text for found in xml.all("productType")), None)
    if not (kind or "").strip().startswith("GRD"):
        raise DataError(f"{manifest} is of a product of type {(kind or 'none').strip()}, but {NO_GRD}.")
    files: dict[str, dict[str, Path]] = {}
    for data in xml.all("dataObject"):
        role = ROLES.get(data.get("repID", ""))
        if role is not None:
            path = _located(xml, folder, data)
            files.setdefault(re.sub(r"^(calibration|noise)-|-cog$", "", path.stem.lower()), {})[role] = path
    for stem, found in files.items():
        if missing := [role for role in ROLES.values() if role not in found]:
            raise xml.damaged(f"it names no {missing[0]} file of {stem}")
    if not files:
        raise xml.damaged("it names no image")
    software = next(iter(xml.all("software")), Element("none"))
    orbits = {name: next(iter(xml.all(name)), None) for name in ("orbitNumber", "relativeOrbitNumber", "pass")}
    texts = {name: None if found is None else (found.text or "").strip() for name, found in orbits.items()}
    return Safe(
        folder,
        re.sub(r"\.safe$", "", folder.name, flags=re.IGNORECASE),
        tuple(Channel(**found) for _, found in sorted(files.items())),
        xml.time("startTime"),
        f"Sentinel-1{xml.text('number', next(iter(xml.all('platform')), None))} SAR",
        {
            "mode": xml.text("mode"),
            "orbit": texts["orbitNumber"],
            "relative_orbit": texts["relativeOrbitNumber"],
            "pass": (texts["pass"] or "").lower() or None,
            "processor": f"{software.get('name', '')} {software.get('version', '')}".strip() or None,
        },
    )


def read_annotation(path: Path) -> Annotation:
    """Read the annotation of an image.

    Raises:
        DataError: It is damaged or incomplete.
    """
    xml = Xml(path)
    first, last = xml.time("productFirstLineUtcTime"), xml.time("productLastLineUtcTime")

    def seconds(tag: str, within: Element) -> float:
        return (xml.time(tag, within) - first).total_seconds()

    lines, spacing = xml.count("numberOfLines"), xml.number("rangePixelSpacing")
    if spacing <= 0 or last <= first or lines < 2:
        raise xml.damaged("its image has no extent")
    points = [
        [xml.number(tag, point) for tag in ("pixel", "line", "longitude", "latitude", "slantRangeTime")]
        for point in xml.all("geolocationGridPoint")
    ]
    if len(points) < MIN_CONTROL_POINTS:
        raise xml.damaged(f"it has {len(points)} control points")
    control_points, delays = np.split(np.array(points), [4], axis=1)
    if np.abs(control_points[:, 2]).max() > 360 or np.abs(control_points[:, 3]).max() > 90:
        raise xml.damaged("its control points are not on the Earth")
    orbit = [
        [seconds("time", vector), *(xml.number(axis, position) for axis in "xyz")]
        for vector in xml.all("orbit")
        for position in vector.iterfind("{*}position")
    ]
    conversions = [
        [seconds("azimuthTime", record), xml.number("sr0", record), *xml.numbers("srgrCoefficients", record)]
        for record in xml.all("coordinateConversionList/{*}coordinateConversion")
    ]
    if len(orbit) < MIN_STATES or len(conversions) < 2 or len(set(map(len, conversions))) > 1:
        raise xml.damaged("its orbit or its conversion to ground range is incomplete")
    if (np.diff([time for time, *_ in conversions]) <= 0).any():
        raise xml.damaged("its conversions to ground range are not in the order of time")
    return Annotation(
        path,
        xml.text("polarisation").upper(),
        read_acquisition(xml),
        (xml.count("numberOfSamples"), lines),
        spacing,
        (last - first).total_seconds() / (lines - 1),
        control_points,
        np.array(orbit),
        (delays.min() * SPEED_OF_LIGHT / 2, delays.max() * SPEED_OF_LIGHT / 2),
        np.array(conversions),
    )


def read_acquisition(xml: Xml) -> Acquisition:
    """What tells the products of a satellite apart: the satellite, the number of its data take, and the start."""
    return xml.text("missionId"), xml.text("missionDataTakeId"), xml.time("startTime")


def check_same_acquisition(path: Path, acquisition: Acquisition, annotation: Annotation) -> None:
    """Check that a file of an acquisition belongs to the same product as an annotation.

    Raises:
        DataError: It does not.
    """
    apart = abs((acquisition[2] - annotation.acquisition[2]).total_seconds())
    if acquisition[:2] != annotation.acquisition[:2] or apart > SAME_START:
        raise DataError(f"{path} and {annotation.path} are of different products; {AGAIN}.")


def _located(xml: Xml, folder: Path, data: Element) -> Path:
    """The file that an entry of the manifest names."""
    location = data.find(".//{*}fileLocation")
    name = PurePosixPath("" if location is None else location.get("href", ""))
    if name.is_absolute() or not name.parts or ".." in name.parts:
        raise xml.damaged(f"it names the file '{name}'")
    path = folder.joinpath(*name.parts)
    if not os.path.isfile(path):
        raise DataError(f"{path} is missing; {AGAIN}.")
    return path
