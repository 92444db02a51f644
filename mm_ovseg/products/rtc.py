"""Sentinel-1 that others have calibrated and terrain-corrected (RTC): OPERA, ASF HyP3, Planetary Computer, and NRB.

The names of the files tell what is in them:

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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mm_ovseg.errors import DataError
from mm_ovseg.products.product import Kind, Preparation, Product
from mm_ovseg.products.sar_image import POLARISATIONS, check_one_pass, files_within, polarisation_band
from mm_ovseg.raster import StackMask, read_raster_info

__all__ = ["read", "recognises"]

POLARISATION = "(?P<layer>VV|VH|HH|HV)"
START = r"(?P<start>\d{8}T\d{6})"
SENSOR = "(?P<sensor>S1[A-D])"
UNITS = {"p": "power", "d": "dB", "a": "amplitude", "lin": "power", "log": "dB"}
BACKSCATTER = {"g": "gamma0", "s": "sigma0"}
DUAL = {"DV": ("VV", "VH"), "DH": ("HH", "HV")}
LAYOVER_OR_SHADOW = 2 | 4 | 8 | 16  # in HyP3's map


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The names that a producer gives its files.

    Attributes:
        producer: For messages and reports.
        name: Pattern of a file's name. Groups: product; layer (a polarisation, or the mask); and, where the name says
            so, burst, sensor, start, backscatter, unit, and polarisations.
        folder: Pattern of the name of a folder above, with the groups that files' names lack.
        nodata: Stored value that means no data, if a file declares none.
        mask: Suffix of layover and shadow masks; "" if they have none.
        valid: Values of the mask that mean neither.
        outside: Value of the mask where a product has no data; None if that is unknown, so that products whose masks
            may overlap are not joined.
    """

    producer: str
    name: re.Pattern
    folder: re.Pattern | None = None
    nodata: float
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
        nodata=float("nan"),
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
        nodata=0.0,
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
        nodata=-32768.0,
    ),
    Convention(
        producer="Sentinel-1 NRB",
        name=re.compile(
            rf"(?P<product>{SENSOR}-([ie]w|s[1-6])-nrb-{START}-\d+-[0-9a-f]+-\d\d[a-z]{{3}})-{POLARISATION}-"
            r"(?P<backscatter>[gs])-(?P<unit>lin|log)\.tiff?",
            re.IGNORECASE,
        ),
        nodata=float("nan"),
    ),
)


@dataclass(frozen=True)
class _File:
    """A file with a known name.

    Attributes:
        path: The file.
        convention: Of its name.
        groups: What its name says; "" for what it does not.
    """

    path: Path
    convention: Convention
    groups: Mapping[str, str]

    @property
    def product(self) -> str:
        return self.groups.get("product", "")

    @property
    def layer(self) -> str:
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
        try:
            return datetime.strptime(self.groups.get("start", "").upper(), "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            return None


def recognises(files: Sequence[str | os.PathLike], kind: Kind) -> bool:
    """Whether all names are those of RTC files, or of folders that contain some."""
    return kind == "sar" and all(_known(files_within([name])) for name in files)


def read(files: Sequence[str | os.PathLike], kind: Kind, preparation: Preparation) -> Product:
    """Read products of one producer and pass.

    Raises:
        DataError: They are of several producers, passes or units, one is there twice, or lacks a file; or a file cannot
            be read, or joined with the others.
    """
    known = _known(files_within(files))
    images = [file for file in known if file.layer in POLARISATIONS]
    if not images:
        raise DataError(f"{files[0]} has no backscatter, only a mask; add the file of VV or HH.")
    products = _by_product(images)
    polarisations = next(iter(products.values()))
    firsts = [next(iter(layers.values())) for layers in products.values()]
    convention = firsts[0].convention
    _check_alike(firsts)
    _check_complete(products, expect_all=any(map(os.path.isdir, files)))
    quantity, unit = firsts[0].values
    mask = _mask(firsts, known)
    warnings = []
    if convention.mask and mask is None:
        warnings.append(
            f"{firsts[0].path} has no mask (..._{convention.mask.lower()}.tif) beside it, so layover and shadow count "
            "as data."
        )
    return Product(
        kind=kind,
        ids=tuple(products),
        bands=tuple(
            polarisation_band([layers[name].path for layers in products.values()], name, unit, nodata=convention.nodata)
            for name in POLARISATIONS
            if name in polarisations
        ),
        mask=mask,
        acquired=tuple(file.start for file in firsts),
        sensor=f"Sentinel-{sensor[1:].upper()} SAR" if (sensor := firsts[0].groups.get("sensor")) else "Sentinel-1 SAR",
        details={
            "producer": convention.producer,
            "backscatter": quantity,
            "terrain_corrected": True,
            "layover_and_shadow_hidden": mask is not None,
        },
        warnings=tuple(warnings),
    )


def _known(paths: Iterable[Path]) -> list[_File]:
    return [file for path in paths if (file := _file(path)) is not None]


def _file(path: Path) -> _File | None:
    for convention in CONVENTIONS:
        if match := convention.name.fullmatch(path.name):
            groups = {key: text for key, text in match.groupdict().items() if text is not None}
            if convention.folder is not None:
                above = Path(os.path.abspath(path)).parents
                matches = (convention.folder.fullmatch(folder.name) for folder in above[:3])
                of_folder = next((found.groupdict() for found in matches if found), {"product": above[0].name})
                groups = {**of_folder, **groups}
            return _File(path, convention, groups)
    return None


def _by_product(images: Iterable[_File]) -> dict[str, dict[str, _File]]:
    """Product -> polarisation -> file, in the order of acquisition.

    Raises:
        DataError: An image is there twice.
    """
    products: dict[str, dict[str, _File]] = {}
    for file in sorted(images, key=lambda file: (file.groups.get("start", ""), file.product)):
        layers = products.setdefault(file.product, {})
        if file.layer in layers:
            raise DataError(
                f"{layers[file.layer].path} and {file.path} are the same polarisation of one product; give one of them."
            )
        layers[file.layer] = file
    return products


def _check_alike(products: Sequence[_File]) -> None:
    """Check that products, each given by one of its files, can be parts of one image.

    Raises:
        DataError: They cannot.
    """
    first = products[0]
    for file in products[1:]:
        if (file.convention.producer, file.values) != (first.convention.producer, first.values):
            kinds = [" ".join((of_file.convention.producer, *of_file.values)) for of_file in (first, file)]
            raise DataError(f"{first.path} is {kinds[0]} and {file.path} is {kinds[1]}; give products of one kind.")
        if first.convention.mask and first.convention.outside is None:
            raise DataError(
                f"{first.path} and {file.path} are different {first.convention.producer} products, which are not "
                "joined; map them one by one."
            )
    check_one_pass({file.product: file.start for file in products})
    bursts: dict[str, _File] = {}
    for file in products:
        if file.burst[:4] != first.burst[:4]:
            raise DataError(
                f"{first.path} and {file.path} are of different orbits; give the files of one pass, and map the others "
                "on their own."
            )
        if file.burst and (other := bursts.setdefault(file.burst, file)) is not file:
            raise DataError(f"{other.path} and {file.path} are the same burst, processed twice; give one of them.")


def _check_complete(products: Mapping[str, Mapping[str, _File]], expect_all: bool) -> None:
    """Check that products have the same polarisations; with ``expect_all``, also those that their names promise.

    Raises:
        DataError: One is missing.
    """
    expected = dict.fromkeys(layer for layers in products.values() for layer in layers)
    for product, layers in products.items():
        promised = next(iter(layers.values())).groups.get("polarisations", "").upper() if expect_all else ""
        missing = [layer for layer in (*expected, *DUAL.get(promised, ())) if layer not in layers]
        if missing:
            raise DataError(
                f"{product} lacks its {missing[0]} file; add it, or name only the files of the polarisations to read."
            )


def _mask(products: Sequence[_File], known: Iterable[_File]) -> StackMask | None:
    """The layover and shadow masks of products, each given by one of its files; None if they have none.

    Args:
        products: One file of each.
        known: Files that were named, which may contain masks; others are looked for beside the products' files.

    Raises:
        DataError: Some products have one and others not, or one is not a mask.
    """
    convention = products[0].convention
    folders = dict.fromkeys(file.path.parent for file in products)
    beside = _known(path for folder in folders for path in sorted(folder.glob("*")))
    masks: dict[str, Path] = {}
    for file in (*beside, *known):
        if file.layer == convention.mask:
            masks[file.burst if "-STATIC_" in file.product.upper() else file.product] = file.path
    found = [masks.get(file.product, masks.get(file.burst)) for file in products]
    if not any(found):
        return None
    for file, mask in zip(products, found, strict=True):
        if mask is None:
            raise DataError(f"{file.product} has no layover and shadow mask, but other products have; add its mask.")
        if read_raster_info(mask).dtypes != ("uint8",):
            raise DataError(f"{mask} is not an 8-bit mask of layover and shadow; replace it.")
    return StackMask(files=tuple(found), valid=convention.valid, outside=convention.outside)
