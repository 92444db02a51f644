"""Writers of small products of Capella, ICEYE and Umbra, from known power, float (H, W); all give the image's path."""

import json
from pathlib import Path

import numpy as np
from rasterio import Affine

from tests.products.sar_products import write_layer

PLACE = Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)
CAPELLA = "CAPELLA_C02_SP_GEO_HH_20201209213329_20201209213332"
ICEYE = "ICEYE_X2_GRD_SM_36535_20200604T090731"
ICEYE_COG = "ICEYE_PZF5NU_20240802T061011Z_6171024_X24_SLF_GRD"
UMBRA = "2023-05-22-05-23-45_UMBRA-05"
CAPELLA_FACTOR = 2.5e-5  # digital number -> amplitude
ICEYE_FACTOR = 4e-10  # squared digital number -> power


def to_numbers(power: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The digital numbers, uint16, of amplitudes with a scale, and the power that they stand for."""
    numbers = np.clip(np.round(np.sqrt(power.astype(float)) / scale), 1, 65535).astype(np.uint16)
    return numbers, (numbers * scale) ** 2


def capella_metadata(radiometry: object = "sigma_nought", scale_factor: object = CAPELLA_FACTOR) -> dict:
    """The fields of Capella's extended metadata around those of the calibration."""
    image = {"data_type": "UInt16", "scale_factor": scale_factor, "radiometry": radiometry, "calibration": "full"}
    radar = {"transmit_polarization": "H", "receive_polarization": "H"}
    collect = {"mode": "spotlight", "platform": "capella-2", "radar": radar, "image": image}
    return {"product_version": "1.7", "product_type": "GEO", "collect": collect}


def write_capella(
    folder: Path,
    numbers: np.ndarray,
    *,
    metadata: object = None,
    name: str = CAPELLA,
    in_tag: bool = False,
    beside: str = "_extended.json",
) -> Path:
    """A GEO or GEC, whose metadata is in its description or beside it."""
    text = json.dumps(capella_metadata() if metadata is None else metadata)
    tags = {"TIFFTAG_IMAGEDESCRIPTION": text} if in_tag else None
    path = write_layer(folder / f"{name}.tif", numbers, PLACE, nodata=0, tags=tags)
    if not in_tag:
        (folder / f"{name}{beside}").write_text(text, encoding="utf-8")
    (folder / f"{name}_preview.tif").write_bytes(b"not read")
    return path


def write_iceye(
    folder: Path, numbers: np.ndarray, *, factor: object = ICEYE_FACTOR, form: str = ".xml", name: str = ICEYE
) -> Path:
    """A GRD on a grid, whose metadata is in a file of that suffix, or in "tags"."""
    tags = {"CALIBRATION_FACTOR": str(factor), "POLARIZATION": "VV"} if form == "tags" else None
    path = write_layer(folder / f"{name}.tif", numbers, PLACE, tags=tags)
    if form == ".xml":
        fields = f"<polarization>VV</polarization><calibration_factor>{factor}</calibration_factor>"
        path.with_suffix(form).write_text(f"<?xml version='1.0'?>\n<Grd_Metadata>{fields}</Grd_Metadata>", "utf-8")
    elif form == ".json":
        fields = {"sar:polarizations": ["VV"], "iceye:calibration_factor": factor}
        path.with_suffix(form).write_text(json.dumps({"type": "Feature", "properties": fields}), "utf-8")
    return path


def write_umbra(folder: Path, numbers: np.ndarray, *, polarisation: str | None = "HH", **options: object) -> Path:
    """A GEC, with metadata beside it unless the polarisation is None."""
    path = write_layer(folder / f"{UMBRA}_GEC.tif", numbers, PLACE, **options)
    if polarisation is not None:
        collect = {"id": "4b1d", "startAtUTC": "2023-05-22T05:23:45.1+00:00", "polarizations": [polarisation]}
        metadata = {"umbraSatelliteName": "UMBRA_05", "imagingMode": "SPOTLIGHT", "collects": [collect]}
        (folder / f"{UMBRA}_METADATA.json").write_text(json.dumps(metadata), "utf-8")
    return path
