"""The makers of X-band products: the names that they give to images, and how their metadata calibrates them.

These fields are relied on, in the tags of a file, in JSON in its tags, or in the metadata beside it:

* Capella GEO and GEC, ``CAPELLA_C02_SP_GEO_HH_20200101000000_20200101000010.tif``: ``collect.image.scale_factor``,
  where (factor * number)^2 is the power, and ``collect.image.radiometry``, such as "sigma_nought"; in
  TIFFTAG_IMAGEDESCRIPTION, ``..._extended.json`` or ``....json``.
* ICEYE GRD, ``ICEYE_X2_GRD_SM_36535_20200604T090731.tif``: ``calibration_factor``, where factor * number^2 is sigma0,
  and ``polarization``; in the tags, or the ``.xml`` or ``.json`` of that name.
* Umbra GEC, ``2023-01-01-12-00-00_UMBRA-04_GEC.tif``: ``polarizations``, in ``..._METADATA.json`` or
  ``....stac.v2.json``. Their amplitudes are not calibrated, unless a file's band declares its unit.
"""

import math
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePath
from typing import Any

from mm_ovseg.products.metadata import number_or_none

__all__ = ["MAKERS", "Calibration", "Maker", "XBandImage", "find_value", "parse_name"]

RADIOMETRY = {"sigma_nought": "sigma0", "beta_nought": "beta0", "gamma_nought": "gamma0"}


@dataclass(frozen=True)
class Calibration:
    """How an image's numbers become backscatter.

    Attributes:
        quantity: "sigma0", "beta0" or "gamma0"; "" if unknown.
        scale: Numbers -> amplitude; None if unknown.
    """

    quantity: str = ""
    scale: float | None = None


@dataclass(frozen=True, kw_only=True)
class Maker:
    """A maker of products.

    Attributes:
        name: For messages and reports.
        image: Pattern of the names of images. Groups: product, start, sensor, and, where names say so, type and
            polarisation.
        is_complex: Pattern of the names of products that are complex.
        metadata: Names of the metadata beside an image, with the product's name as ``{}``.
        start: Format of the start.
        calibrate: Metadata, the tags first -> calibration; raises ValueError with the field that is missing or wrong.
        polarisation: That of images that do not say it.
    """

    name: str
    image: re.Pattern
    is_complex: re.Pattern
    metadata: tuple[str, ...]
    start: str
    calibrate: Callable[[Sequence[Any]], Calibration]
    polarisation: str = ""


def _calibrate_capella(metadata: Sequence[Any]) -> Calibration:
    image = next(filter(None, (find_value(find_value(part, "collect"), "image") for part in metadata)), None)
    radiometry = str(find_value(image, "radiometry"))
    if radiometry not in RADIOMETRY:
        raise ValueError(f"a known collect.image.radiometry (it is {radiometry})")
    return Calibration(RADIOMETRY[radiometry], _factor(image, "scale_factor"))


def _calibrate_iceye(metadata: Sequence[Any]) -> Calibration:
    return Calibration("sigma0", math.sqrt(_factor(metadata, "calibration_factor")))


def _factor(metadata: Any, key: str) -> float:
    value = find_value(metadata, key)
    factor = number_or_none(str(value))
    if factor is None or factor <= 0:
        raise ValueError(f"{key} (it is {value})" if value is not None else key)
    return factor


MAKERS = (
    Maker(
        name="Capella",
        image=re.compile(
            r"(?P<product>CAPELLA_(?P<sensor>C\d+)_[A-Z0-9]+_(?P<type>GEO|GEC)_(?P<polarisation>HH|VV|HV|VH)_"
            r"(?P<start>\d{14})_\d{14})\.tiff?",
            re.IGNORECASE,
        ),
        is_complex=re.compile(r"CAPELLA_C\d+_[A-Z0-9]+_(SLC|SICD|CPHD)_\w+\.(tiff?|ntf|nitf|cphd)", re.IGNORECASE),
        metadata=("{}_extended.json", "{}.json"),
        start="%Y%m%d%H%M%S",
        calibrate=_calibrate_capella,
    ),
    Maker(
        name="ICEYE",
        image=re.compile(
            r"(?P<product>ICEYE(?=\w*_(?P<start>\d{8}T\d{6}))(?=\w*_(?P<sensor>X\d+)_)(_[A-Z0-9]+)*_GRD(_[A-Z0-9]+)*)"
            r"\.tiff?",
        ),
        is_complex=re.compile(r"ICEYE_\w*(SLC|CPX)(_\w+)?\.(tiff?|h5|ntf|nitf|cphd)"),
        metadata=("{}.xml", "{}.json"),
        start="%Y%m%dT%H%M%S",
        calibrate=_calibrate_iceye,
        polarisation="VV",  # of all their satellites
    ),
    Maker(
        name="Umbra",
        image=re.compile(
            r"(?P<product>(?P<start>\d{4}(-\d\d){5})_UMBRA-(?P<sensor>\d+))_(?P<type>GEC)\.tiff?", re.IGNORECASE
        ),
        is_complex=re.compile(r"\d{4}(-\d\d){5}_UMBRA-\d+_(SICD|CPHD)\w*\.(ntf|nitf|cphd)", re.IGNORECASE),
        metadata=("{}_METADATA.json", "{}.stac.v2.json"),
        start="%Y-%m-%d-%H-%M-%S",
        calibrate=lambda metadata: Calibration(),
    ),
)


@dataclass(frozen=True)
class XBandImage:
    """A file with the name of an image, or of a complex product.

    Attributes:
        path: The file.
        maker: Its maker.
        groups: What its name says; empty for a complex product.
    """

    path: Path
    maker: Maker
    groups: Mapping[str, str | None]

    @property
    def metadata(self) -> list[Path]:
        """Where its metadata may be."""
        return [self.path.parent / name.format(self.groups["product"]) for name in self.maker.metadata]

    @property
    def is_terrain_corrected(self) -> bool:
        """Whether its maker used a model of the terrain."""
        return (self.groups.get("type") or "").upper() == "GEO"

    @property
    def start(self) -> datetime | None:
        """Start of the acquisition; None if it is not a time."""
        try:
            return datetime.strptime(self.groups["start"], self.maker.start).replace(tzinfo=timezone.utc)
        except ValueError:
            return None


def parse_name(path: PurePath) -> XBandImage | None:
    """The image or complex product that a file's name tells of; None for other names."""
    for maker in MAKERS:
        if match := maker.image.fullmatch(path.name):
            return XBandImage(Path(path), maker, match.groupdict())
        if maker.is_complex.fullmatch(path.name):
            return XBandImage(Path(path), maker, {})
    return None


def find_value(content: Any, key: str) -> Any:
    """The value of a key, which may have a prefix ("iceye:"), nearest to the top; None if there is none."""
    parts = deque([content])
    while parts:
        part = parts.popleft()
        if isinstance(part, dict):
            for name, value in part.items():
                if name.rpartition(":")[2].lower() == key:
                    return value
            parts.extend(part.values())
        elif isinstance(part, list):
            parts.extend(part)
    return None
