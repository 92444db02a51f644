"""Which polarisations and unit real catalogues' SAR items have."""

import pytest

from mm_ovseg.errors import DataError
from mm_ovseg.products.stac.radar_items import sar_image
from mm_ovseg.products.stac.stac_document import item_of

COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def item(assets, name="item", collection=None, **properties):
    content = {"type": "Feature", "id": name, "collection": collection, "properties": properties, "assets": assets}
    return item_of(content, "https://host/items/item.json")


def assets(*keys, **fields):
    return {key: {"href": f"https://host/scene/{key}.tif", "type": COG, **fields} for key in keys}


def test_planetary_computers_rtc_is_power():
    found = sar_image(item(assets("vh", "vv", **{"raster:bands": [{"nodata": -32768}]}), "S1A_rtc", "sentinel-1-rtc"))
    assert [(band.name, band.key, band.unit, band.nodata) for band in found.bands] == [
        ("VV", "vv", "power", -32768),
        ("VH", "vh", "power", -32768),
    ]
    assert found.mask is None


def test_operas_mask_is_honoured():
    name = "OPERA_L2_RTC-S1_T124-264677-IW1_20230610T170000Z_20230611T000000Z_S1A_30_v1.0"
    content = assets(f"{name}_VH", f"{name}_VV", f"{name}_mask")
    found = sar_image(item(content, name, "OPERA_L2_RTC-S1_V1"))
    assert [(band.name, band.unit) for band in found.bands] == [("VV", "power"), ("VH", "power")]
    assert found.mask.key.endswith("_mask") and (found.valid, found.outside) == ((0,), 255)


@pytest.mark.parametrize(("unit", "expected"), [("dB", "db"), ("Amplitude", "amplitude"), ("power", "power")])
def test_declared_units_are_used(unit, expected):
    content = assets("hh", "hv", **{"raster:bands": [{"unit": unit}]})
    assert [(band.name, band.unit) for band in sar_image(item(content)).bands] == [("HH", expected), ("HV", expected)]


def test_one_band_of_one_polarisation():
    content = assets("GEC", roles=["data"], **{"raster:bands": [{"data_type": "uint8"}]})
    (band,) = sar_image(item(content, **{"sar:polarizations": ["VV"], "sar:product_type": "GEC"})).bands
    assert (band.name, band.unit) == ("VV", "")


def test_bands_of_one_file():
    bands = [{"name": "VH"}, {"name": "VV"}]
    found = sar_image(item(assets("data", **{"eo:bands": bands}), **{"sar:product_type": "RTC"})).bands
    assert [(band.name, band.index) for band in found] == [("VV", 2), ("VH", 1)]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (item(assets("red", "green")), r"has no SAR \(its assets: red, green\)"),
        (item({}), r"has no SAR \(its assets: none that are rasters\)"),
        (item(assets("vv"), collection="sentinel-1-grd"), "is sentinel-1-grd, which is not on a grid on the ground"),
        (item(assets("vv"), **{"sar:product_type": "GRD"}), "is GRD, which is not on a grid"),
        (item(assets("vv"), **{"sar:product_type": "SLC"}), "is SLC, which is not on a grid"),
        (item(assets("vv")), "does not tell what its values are.*'power', 'amplitude' or 'dB'"),
        (item(assets("GEC"), **{"sar:polarizations": ["VV", "VH"]}), "has no SAR"),
    ],
)
def test_others_are_one_sentence(made, message):
    with pytest.raises(DataError, match=message):
        sar_image(made)
