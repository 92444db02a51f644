"""Writes small Sentinel-2 products with the folders, names, metadata and lossless images of the true ones."""

import shutil
from pathlib import Path

import numpy as np
import rasterio
from rasterio import Affine

QUANTIFICATION = 10000
TIME = "20220125T105229"


def write_sentinel2(
    folder,
    reflectance,
    *,
    level="2A",
    baseline="04.00",
    classes=None,
    offsets=None,
    tile="T32TQM",
    corner=(600_000, 5_100_000),
    epsg=32632,
    zipped=False,
):
    """Write a product.

    Args:
        folder: Where.
        reflectance: Red, green and blue, float (3, H, W) at 10 m; NaN for no data.
        level: "2A" or "1C".
        baseline: Processing baseline; from 04.00 on the numbers have an offset.
        classes: Scene classification of an L2A product, uint8 (H / 2, W / 2) at 20 m; None for vegetation (4).
        offsets: Of red, green and blue; None for those of the baseline.
        tile, corner, epsg: Where the product is; the corner is its west and north.
        zipped: Whether to write a zip in place of the folder.

    Returns:
        The .SAFE folder, or the zip.
    """
    name = f"S2A_MSIL{level}_{TIME}_N{baseline.replace('.', '')}_R051_{tile}_20220125T140000"
    has_offset = baseline >= "04.00"
    offsets = offsets or ((-1000,) * 3 if has_offset else (0,) * 3)
    safe = Path(folder) / f"{name}.SAFE"
    granule = f"GRANULE/L{level}_{tile}_A025529_20220125T105229"
    values = np.nan_to_num(np.rint(reflectance * QUANTIFICATION - np.reshape(offsets, (3, 1, 1))), nan=0)
    values = values.astype(np.uint16)
    images = {}
    for band, of_band in zip(("B04", "B03", "B02"), values, strict=True):
        if level == "1C":
            images[f"IMG_DATA/{tile}_{TIME}_{band}"] = of_band, 10
            images[f"QI_DATA/MSK_QUALIT_{band}"] = np.ones_like(of_band, np.uint8), 10
        else:
            images[f"IMG_DATA/R10m/{tile}_{TIME}_{band}_10m"] = of_band, 10
            images[f"IMG_DATA/R20m/{tile}_{TIME}_{band}_20m"] = of_band[::2, ::2], 20
    if level == "2A":
        classes = np.full(values[0, ::2, ::2].shape, 4, np.uint8) if classes is None else classes
        images[f"IMG_DATA/R20m/{tile}_{TIME}_SCL_20m"] = classes, 20
        images[f"IMG_DATA/R60m/{tile}_{TIME}_SCL_60m"] = classes[::3, ::3], 60
    for path, (pixels, side) in images.items():
        write_jp2(safe / granule / f"{path}.jp2", pixels, Affine(side, 0, corner[0], 0, -side, corner[1]), epsg)
    listed = [f"{granule}/{path}" for path in images if path.startswith("IMG_DATA")]
    metadata = METADATA.format(
        name=name,
        level=level,
        quantification=QUANTIFICATION_OF[level],
        baseline=baseline,
        images="\n".join(f"            <IMAGE_FILE>{path}</IMAGE_FILE>" for path in listed),
        offsets=_offsets(level, offsets) if has_offset else "",
    )
    (safe / f"MTD_MSIL{level}.xml").write_text(metadata, encoding="utf-8")
    if not zipped:
        return safe
    path = shutil.make_archive(str(safe).removesuffix(".SAFE"), "zip", folder, safe.name)
    shutil.rmtree(safe)
    return Path(path)


def write_jp2(path, pixels, transform, epsg):
    """Write a band, (H, W), without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "JP2OpenJPEG", "count": 1, "dtype": pixels.dtype.name, "QUALITY": "100", "REVERSIBLE": "YES"}
    size = {"height": pixels.shape[0], "width": pixels.shape[1]}
    with rasterio.open(path, "w", **profile, **size, crs=f"EPSG:{epsg}", transform=transform) as file:
        file.write(pixels, 1)


def _offsets(level, offsets):
    tag, around = ("RADIO_ADD_OFFSET", "Radiometric_Offset_List")
    if level == "2A":
        tag, around = ("BOA_ADD_OFFSET", "BOA_ADD_OFFSET_VALUES_LIST")
    of_band = dict.fromkeys(range(13), -500) | dict(zip((3, 2, 1), offsets, strict=True))
    lines = [f'        <{tag} band_id="{band}">{offset}</{tag}>' for band, offset in of_band.items()]
    return "\n".join([f"      <{around}>", *lines, f"      </{around}>"])


METADATA = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{level}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{level}.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>2022-01-25T10:52:29.024Z</PRODUCT_START_TIME>
      <PRODUCT_STOP_TIME>2022-01-25T10:52:29.024Z</PRODUCT_STOP_TIME>
      <PRODUCT_URI>{name}.SAFE</PRODUCT_URI>
      <PROCESSING_LEVEL>Level-{level}</PROCESSING_LEVEL>
      <PRODUCT_TYPE>S2MSI{level}</PRODUCT_TYPE>
      <PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
      <GENERATION_TIME>2022-01-25T14:00:00.000000Z</GENERATION_TIME>
      <Datatake datatakeIdentifier="GS2A_20220125T105229_025529_N{baseline}">
        <SPACECRAFT_NAME>Sentinel-2A</SPACECRAFT_NAME>
        <DATATAKE_SENSING_START>2022-01-25T10:52:29.024Z</DATATAKE_SENSING_START>
        <SENSING_ORBIT_NUMBER>51</SENSING_ORBIT_NUMBER>
      </Datatake>
      <Product_Organisation>
        <Granule_List>
          <Granule imageFormat="JPEG2000">
{images}
          </Granule>
        </Granule_List>
      </Product_Organisation>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX>
      </Special_Values>
{quantification}
{offsets}
    </Product_Image_Characteristics>
  </n1:General_Info>
  <n1:Quality_Indicators_Info>
    <Cloud_Coverage_Assessment>12.345</Cloud_Coverage_Assessment>
  </n1:Quality_Indicators_Info>
</n1:Level-{level}_User_Product>
"""
QUANTIFICATION_OF = {
    "1C": '      <QUANTIFICATION_VALUE unit="none">10000</QUANTIFICATION_VALUE>',
    "2A": """      <QUANTIFICATION_VALUES_LIST>
        <BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>
        <AOT_QUANTIFICATION_VALUE unit="none">1000.0</AOT_QUANTIFICATION_VALUE>
      </QUANTIFICATION_VALUES_LIST>""",
}
