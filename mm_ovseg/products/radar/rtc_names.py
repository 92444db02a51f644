"""The names that producers of terrain-corrected Sentinel-1 (RTC) give to files, which say what is in them.

* OPERA RTC-S1: ``OPERA_L2_RTC-S1_T069-147170-IW1_20230101T..Z_20230102T..Z_S1A_30_v1.0_VV.tif``, gamma0 in power. The
  ``_mask.tif`` beside it, or the one of the static layers (RTC-S1-STATIC) of the same burst, is 0 for valid, 1 for
  shadow, 2 for layover, 3 for both, 255 for fill. Bursts of a pass and UTM zone share a lattice, and are joined.
* HyP3: ``S1A_IW_20200101T000000_DVP_RTC30_G_gpuned_ABCD_VV.tif``, where the letters of ``gpuned`` are g or s for gamma0
  or sigma0, p, d or a for power, dB or amplitude, u or w for unmasked or water masked, n or f for filtered or not, e or
  c for the entire area or a clip, d or m for dead reckoning or matching with the DEM. ``_ls_map.tif`` is a sum of 1
  (was tested), 2 and 4 (layover), 8 and 16 (shadow).
* Planetary Computer's sentinel-1-rtc: ``iw-vv.rtc.tiff``, gamma0 in power, in a folder with the name of the GRD.
* Normalised radar backscatter (NRB): ``s1a-iw-nrb-20220721t051225-044194-05465e-33tuf-vv-g-lin.tif``, where g or s is
  gamma0 or sigma0, and lin or log is power or dB. Its data mask is not read.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePath

__all__ = ["Convention", "RTCFile", "parse_name"]

POLARISATION = "(?P<layer>VV|VH|HH|HV)"
START = r"(?P<start>\d{8}T\d{6})"
SENSOR = "(?P<sensor>S1[A-D])"
UNITS = {"p": "power", "d": "dB", "a": "amplitude", "lin": "power", "log": "dB"}
BACKSCATTER = {"g": "gamma0", "s": "sigma0"}
LAYOVER_OR_SHADOW = 2 | 4 | 8 | 16  # in HyP3's map


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The names that a producer gives its files.

    Attributes:
        producer: For messages and reports.
        name: Pattern of a file's name. Groups: product; layer (a polarisation, or the mask); and, where the name says
            so, burst, sensor, start, backscatter, unit, and polarisations.
        folder: Pattern of the name of a folder above, with the groups that files' names lack.
        mask: Suffix of layover and shadow masks; "" if they have none.
        valid: Values of the mask that mean neither.
        outside: Value of the mask where a product has no data; None if that is unknown, so that products whose masks
            may overlap are not joined.
    """

    producer: str
    name: re.Pattern
    folder: re.Pattern | None = None
    mask: str = ""
    valid: frozenset[int] = frozenset()
    outside: int | None = None


CONVENTIONS = (
    Convention(
        producer="OPERA RTC-S1",
        name=re.compile(
            rf"(?P<product>OPERA_L2_RTC-S1(-STATIC)?_(?P<burst>T\d{{3}}-\d{{6}}-[IE]W\d)_({START}Z_\d{{8}}T\d{{6}}Z|\d{{8}})_"
            rf"{SENSOR}_\d+_v\d+(\.\d+)*)_(?P<layer>VV|VH|HH|HV|mask)\.tiff?",
            re.IGNORECASE,
        ),
        mask="MASK",
        valid=frozenset({0}),
        outside=255,
    ),
    Convention(
        producer="HyP3 RTC",
        name=re.compile(
            rf"(?P<product>{SENSOR}_[A-Z0-9]{{2}}_{START}_(?P<polarisations>[DS][VH])[PRO]_RTC\d+_[GS]_"
            r"(?P<backscatter>[gs])(?P<unit>[pda])[uw][nf][ec][dm]_[0-9A-F]{4})_(?P<layer>VV|VH|HH|HV|ls_map)\.tiff?",
            re.IGNORECASE,
        ),
        mask="LS_MAP",
        valid=frozenset(value for value in range(256) if not value & LAYOVER_OR_SHADOW),
    ),
    Convention(
        producer="Planetary Computer RTC",
        name=re.compile(rf"([IE]W|S[1-6])-{POLARISATION}\.rtc\.tiff?", re.IGNORECASE),
        folder=re.compile(
            rf"(?P<product>{SENSOR}_[A-Z0-9]{{2}}_GRD[A-Z]_1S(?P<polarisations>[DS][VH])_{START}_\d{{8}}T\d{{6}}_\w+)",
            re.IGNORECASE,
        ),
    ),
    Convention(
        producer="Sentinel-1 NRB",
        name=re.compile(
            rf"(?P<product>{SENSOR}-([ie]w|s[1-6])-nrb-{START}-\d+-[0-9a-f]+-\d\d[a-z]{{3}})-{POLARISATION}-"
            r"(?P<backscatter>[gs])-(?P<unit>lin|log)\.tiff?",
            re.IGNORECASE,
        ),
    ),
)


@dataclass(frozen=True)
class RTCFile:
    """A file with a known name.

    Attributes:
        path: The file.
        convention: Of its name.
        groups: What its name, or that of a folder above, says.
    """

    path: Path
    convention: Convention
    groups: Mapping[str, str]

    @property
    def product(self) -> str:
        """Its identifier."""
        return self.groups["product"]

    @property
    def layer(self) -> str:
        """A polarisation, or the mask, in upper case."""
        return self.groups["layer"].upper()

    @property
    def burst(self) -> str:
        """Such as "T069-147170-IW1", which begins with the track; "" for other products."""
        return self.groups.get("burst", "").upper()

    @property
    def values(self) -> tuple[str, str]:
        """(quantity, unit), such as ("gamma0", "power")."""
        letters = (self.groups.get("backscatter", "g").lower(), self.groups.get("unit", "p").lower())
        return BACKSCATTER[letters[0]], UNITS[letters[1]]

    @property
    def start(self) -> datetime | None:
        """Start of the acquisition; None if the name does not say it."""
        try:
            return datetime.strptime(self.groups.get("start", "").upper(), "%Y%m%dT%H%M%S").replace(tzinfo=timezone.utc)
        except ValueError:
            return None


def parse_name(path: PurePath) -> RTCFile | None:
    """The file of a product that a name tells of; None for other names."""
    for convention in CONVENTIONS:
        if match := convention.name.fullmatch(path.name):
            groups = {key: text for key, text in match.groupdict().items() if text is not None}
            if convention.folder is not None:
                above = Path(os.path.abspath(path)).parents
                matches = (convention.folder.fullmatch(folder.name) for folder in above[:3])
                of_folder = next((found.groupdict() for found in matches if found), {"product": above[0].name})
                groups = {**of_folder, **groups}
            return RTCFile(Path(path), convention, groups)
    return None
