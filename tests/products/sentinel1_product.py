"""Writes small Sentinel-1 GRD products with the files and elements of true ones."""

import math
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from tests.products.sentinel1_geometry import SPEED_OF_LIGHT, Geometry

FIRST_LINE = datetime(2022, 1, 25, 5, 26, 57, 123456)
NAME = "S1A_IW_GRDH_1SDV_20220125T052657_20220125T052722_041611_04F33E_93A5"
GAMMA_LINES, GAMMA_STEP = 7, 40  # vectors in the tables, and pixels between their values
GRID = (10, 21)  # control points along lines and pixels
NAMESPACES = (
    'xmlns:xfdu="urn:ccsds:schema:xfdu:1" xmlns:safe="http://www.esa.int/safe/sentinel-1.0" '
    'xmlns:s1="http://www.esa.int/safe/sentinel-1.0/sentinel-1" '
    'xmlns:s1sarl1="http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar/level-1"'
)
ROLES = {"annotation": "Product", "calibration": "Calibration", "noise": "Noise", "measurement": "Measurement"}


def stamp(seconds: float) -> str:
    """A time after the first line, as the product writes it."""
    return (FIRST_LINE + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def gamma_table(polarisation: str, line: float, pixel: np.ndarray) -> np.ndarray:
    """The gamma calibration vector at a line, which bends along the range and drifts along the azimuth."""
    base = 600 if polarisation[0] == polarisation[1] else 450
    return base + 90 * np.sin(pixel / 311) + 0.02 * line


def noise_table(line: float, pixel: np.ndarray) -> np.ndarray:
    """The noise along the range at a line, in squared digital numbers."""
    return 4000 + 900 * np.cos(pixel / 173) + 0.5 * line


def noise_factor(line: np.ndarray) -> np.ndarray:
    """How the noise varies along the azimuth in the left half of the image; it is 1 in the right half."""
    return 1 + 0.2 * np.sin(line / 97)


def write_grd(
    parent: Path, numbers: dict[str, np.ndarray], geometry: Geometry, *, name: str = NAME, height: float = 0.0
) -> Path:
    """Write a product.

    Args:
        parent: Folder in which its folder is made.
        numbers: Digital numbers, uint16 (lines, samples), by polarisation, such as "VV".
        geometry: Where their pixels are.
        name: Name of its folder, without ``.SAFE``.
        height: Height of the control points, in metres above the ellipsoid.

    Returns:
        The folder.
    """
    folder = parent / f"{name}.SAFE"
    for part in ("annotation/calibration", "measurement", "preview", "support"):
        (folder / part).mkdir(parents=True)
    entries = []
    for index, (polarisation, image) in enumerate(numbers.items(), start=1):
        stem = f"s1a-iw-grd-{polarisation.lower()}-20220125t052657-20220125t052722-041611-04f33e-{index:03}"
        header = (
            "<adsHeader><missionId>S1A</missionId><productType>GRD</productType>"
            f"<polarisation>{polarisation}</polarisation><mode>IW</mode><swath>IW</swath>"
            f"<startTime>{stamp(0)}</startTime><stopTime>{stamp(geometry.lines * geometry.interval)}</stopTime>"
            f"<absoluteOrbitNumber>41611</absoluteOrbitNumber><missionDataTakeId>4F33E</missionDataTakeId>"
            f"<imageNumber>{index:03}</imageNumber></adsHeader>"
        )
        files = {
            "annotation": (f"annotation/{stem}.xml", _annotation(header, geometry, height)),
            "calibration": (
                f"annotation/calibration/calibration-{stem}.xml",
                _calibration(header, polarisation, geometry),
            ),
            "noise": (f"annotation/calibration/noise-{stem}.xml", _noise(header, geometry)),
        }
        for role, (path, text) in files.items():
            (folder / path).write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n', encoding="utf-8")
            entries.append((role, path))
        _write_image(folder / f"measurement/{stem}.tiff", image, geometry, height)
        entries.append(("measurement", f"measurement/{stem}.tiff"))
    (folder / "manifest.safe").write_text(_manifest(entries, list(numbers)), encoding="utf-8")
    return folder


def zipped(folder: Path, path: Path) -> Path:
    """Write a product's folder to a zip, as it is downloaded."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder.parent))
    return path


def _write_image(path: Path, image: np.ndarray, geometry: Geometry, height: float) -> None:
    lines, pixels, longitudes, latitudes = _grid(geometry, height)
    points = [
        GroundControlPoint(row=line, col=pixel, x=longitude, y=latitude, z=height)
        for line, pixel, longitude, latitude in zip(lines, pixels, longitudes, latitudes, strict=True)
    ]
    height, width = image.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": image.dtype}
    with rasterio.open(path, "w", gcps=points, crs=CRS.from_epsg(4326), blockysize=1, **profile) as file:
        file.write(image, 1)


def _grid(geometry: Geometry, height: float) -> tuple[np.ndarray, ...]:
    """Lines, pixels, longitudes and latitudes (N,) of the control points."""
    lines, pixels = (
        np.round(np.linspace(0, length - 1, count))
        for count, length in zip(GRID, (geometry.lines, geometry.samples), strict=True)
    )
    lines, pixels = (axis.ravel() for axis in np.meshgrid(lines, pixels, indexing="ij"))
    return lines, pixels, *geometry.ground(lines, pixels, height)


def _annotation(header: str, geometry: Geometry, height: float) -> str:
    duration = (geometry.lines - 1) * geometry.interval
    vectors = []
    for time in np.arange(-60, 71, 10) + math.floor(duration / 20) * 10.0:
        position, velocity = geometry.satellite(np.array(time))
        parts = [
            f"<{name}>{''.join(f'<{axis}>{vector[k]:.9e}</{axis}>' for k, axis in enumerate('xyz'))}</{name}>"
            for name, vector in (("position", position), ("velocity", velocity))
        ]
        vectors.append(f"<orbit><time>{stamp(time)}</time><frame>Earth Fixed</frame>{''.join(parts)}</orbit>")
    coefficients = " ".join(f"{value:.12e}" for value in geometry.coefficients)
    conversions = [
        f"<coordinateConversion><azimuthTime>{stamp(time)}</azimuthTime>"
        f"<slantRangeTime>{2 * geometry.origin(time) / SPEED_OF_LIGHT:.15e}</slantRangeTime>"
        f'<sr0>{geometry.origin(time):.9e}</sr0><srgrCoefficients count="6">{coefficients}</srgrCoefficients>'
        '<gr0>0.0</gr0><grsrCoefficients count="1">0.0</grsrCoefficients></coordinateConversion>'
        for time in np.arange(-1, duration + 2)
    ]
    points = [
        f"<geolocationGridPoint><azimuthTime>{stamp(line * geometry.interval)}</azimuthTime>"
        f"<slantRangeTime>{2 * geometry.slant_range(line, pixel) / SPEED_OF_LIGHT:.15e}</slantRangeTime>"
        f"<line>{line:.0f}</line><pixel>{pixel:.0f}</pixel><latitude>{latitude:.15e}</latitude>"
        f"<longitude>{longitude:.15e}</longitude><height>{height}</height><incidenceAngle>3.5e+01</incidenceAngle>"
        "<elevationAngle>3.1e+01</elevationAngle></geolocationGridPoint>"
        for line, pixel, longitude, latitude in zip(*_grid(geometry, height), strict=True)
    ]
    return (
        f"<product>{header}<generalAnnotation><productInformation><pass>Ascending</pass>"
        f"<projection>Ground Range</projection></productInformation>{_list('orbit', vectors)}</generalAnnotation>"
        f"<imageAnnotation><imageInformation><productFirstLineUtcTime>{stamp(0)}</productFirstLineUtcTime>"
        f"<productLastLineUtcTime>{stamp(duration)}</productLastLineUtcTime>"
        f"<slantRangeTime>{2 * geometry.origin(0) / SPEED_OF_LIGHT:.15e}</slantRangeTime>"
        f"<rangePixelSpacing>{geometry.spacing:.6e}</rangePixelSpacing>"
        f"<azimuthPixelSpacing>{geometry.spacing:.6e}</azimuthPixelSpacing>"
        f"<azimuthTimeInterval>{geometry.interval:.15e}</azimuthTimeInterval>"
        f"<numberOfSamples>{geometry.samples}</numberOfSamples><numberOfLines>{geometry.lines}</numberOfLines>"
        f"</imageInformation></imageAnnotation><coordinateConversion>"
        f"{_list('coordinateConversion', conversions)}</coordinateConversion>"
        f"<geolocationGrid>{_list('geolocationGridPoint', points)}</geolocationGrid></product>"
    )


def _calibration(header: str, polarisation: str, geometry: Geometry) -> str:
    pixels = _ends(geometry.samples, GAMMA_STEP)
    vectors = []
    # As in true products, the first and the last are outside of the image.
    for line in np.round(np.linspace(-50, geometry.lines + 40, GAMMA_LINES)):
        gamma = gamma_table(polarisation, line, pixels)
        tables = {"sigmaNought": gamma * 0.9, "betaNought": np.full(len(pixels), 237.0), "gamma": gamma, "dn": gamma}
        vectors.append(
            f"<calibrationVector><azimuthTime>{stamp(line * geometry.interval)}</azimuthTime><line>{line:.0f}</line>"
            f"{_array('pixel', pixels)}{''.join(_array(name, table) for name, table in tables.items())}"
            "</calibrationVector>"
        )
    return (
        f"<calibration>{header}<calibrationInformation><absoluteCalibrationConstant>1.0</absoluteCalibrationConstant>"
        f"</calibrationInformation>{_list('calibrationVector', vectors)}</calibration>"
    )


def _noise(header: str, geometry: Geometry) -> str:
    pixels = _ends(geometry.samples, GAMMA_STEP)
    vectors = [
        f"<noiseRangeVector><azimuthTime>{stamp(line * geometry.interval)}</azimuthTime><line>{line:.0f}</line>"
        f"{_array('pixel', pixels)}{_array('noiseRangeLut', noise_table(line, pixels))}</noiseRangeVector>"
        for line in np.round(np.linspace(-10, geometry.lines + 10, 5))
    ]
    lines = _ends(geometry.lines, 20)
    half = geometry.samples // 2
    blocks = [
        f"<noiseAzimuthVector><swath>{swath}</swath><firstAzimuthLine>0</firstAzimuthLine>"
        f"<firstRangeSample>{first}</firstRangeSample><lastAzimuthLine>{geometry.lines - 1}</lastAzimuthLine>"
        f"<lastRangeSample>{last}</lastRangeSample>{_array('line', lines)}{_array('noiseAzimuthLut', factors)}"
        "</noiseAzimuthVector>"
        for swath, first, last, factors in (
            ("IW1", 0, half - 1, noise_factor(lines)),
            ("IW2", half, geometry.samples - 1, np.ones(len(lines))),
        )
    ]
    return f"<noise>{header}{_list('noiseRangeVector', vectors)}{_list('noiseAzimuthVector', blocks)}</noise>"


def _manifest(entries: list[tuple[str, str]], polarisations: list[str]) -> str:
    objects = "".join(
        f'<dataObject ID="{Path(path).stem.replace("-", "")}" repID="s1Level1{ROLES[role]}Schema">'
        f'<byteStream mimeType="text/xml" size="1"><fileLocation locatorType="URL" href="./{path}"/>'
        "</byteStream></dataObject>"
        for role, path in entries
    )
    channels = "".join(
        f"<s1sarl1:transmitterReceiverPolarisation>{name}</s1sarl1:transmitterReceiverPolarisation>"
        for name in polarisations
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<xfdu:XFDU {NAMESPACES} version="esa/safe/sentinel-1.0/sentinel-1/'
        'sar/level-1/standard/standard"><metadataSection><metadataObject ID="processing"><safe:processing '
        'name="GRD Post Processing"><safe:facility name="Copernicus"><safe:software name="Sentinel-1 IPF" '
        'version="003.40"/></safe:facility></safe:processing></metadataObject><metadataObject ID="platform">'
        "<safe:platform><safe:nssdcIdentifier>2014-016A</safe:nssdcIdentifier>"
        "<safe:familyName>SENTINEL-1</safe:familyName><safe:number>A</safe:number><safe:instrument>"
        "<s1sarl1:instrumentMode><s1sarl1:mode>IW</s1sarl1:mode><s1sarl1:swath>IW</s1sarl1:swath>"
        "</s1sarl1:instrumentMode></safe:instrument></safe:platform></metadataObject>"
        '<metadataObject ID="measurementOrbitReference"><safe:orbitReference><safe:orbitNumber type="start">41611'
        '</safe:orbitNumber><safe:relativeOrbitNumber type="start">139</safe:relativeOrbitNumber><s1:pass>ASCENDING'
        '</s1:pass></safe:orbitReference></metadataObject><metadataObject ID="generalProductInformation">'
        f"<s1sarl1:productType>GRD</s1sarl1:productType>{channels}</metadataObject>"
        f'<metadataObject ID="acquisitionPeriod"><safe:startTime>{stamp(0)}</safe:startTime></metadataObject>'
        f"</metadataSection><dataObjectSection>{objects}</dataObjectSection></xfdu:XFDU>\n"
    )


def _ends(length: int, step: int) -> np.ndarray:
    """Every ``step``-th place, and the last."""
    return np.unique(np.r_[np.arange(0, length, step), length - 1])


def _array(name: str, values: np.ndarray) -> str:
    text = " ".join(f"{value:.0f}" if name in ("pixel", "line") else f"{value:.9e}" for value in values)
    return f'<{name} count="{len(values)}">{text}</{name}>'


def _list(name: str, elements: list[str]) -> str:
    return f'<{name}List count="{len(elements)}">{"".join(elements)}</{name}List>'
