"""How the stored values of real catalogues' items become reflectance, and where they say that clouds are."""

import pytest

from mm_ovseg.errors import DataError
from mm_ovseg.products.stac.optical_items import FMASK_CLOUDS, optical_image
from mm_ovseg.products.stac.stac_document import item_of

COLORS = ("red", "green", "blue")
S2_KEYS = ("B04", "B03", "B02")
COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def item(assets, name="item", collection=None, **properties):
    content = {"type": "Feature", "id": name, "collection": collection, "properties": properties, "assets": assets}
    return item_of(content, "https://host/items/item.json")


def planetary_computer(**properties):
    """Sentinel-2 L2A: names its bands, but not their scale."""
    assets = {
        key: {
            "href": f"https://host/{key}.tif",
            "type": COG,
            "gsd": 10,
            "eo:bands": [{"name": key, "common_name": color}],
        }
        for key, color in zip(S2_KEYS, COLORS, strict=True)
    }
    assets["SCL"] = {"href": "https://host/SCL.tif", "type": COG, "gsd": 20}
    assets["visual"] = {
        "href": "https://host/TCI.tif",
        "type": COG,
        "eo:bands": [{"common_name": name} for name in COLORS],
    }
    return item(assets, "S2B_MSIL2A_20230610T100031_R122_T33UVP_20230610T140000", "sentinel-2-l2a", **properties)


def earth_search(offset, **properties):
    """Element84: its offset may be that of the original product, though it was applied."""
    raster = {"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": offset}
    assets = {}
    for color in COLORS:
        of_band = {"eo:bands": [{"name": color, "common_name": color}], "raster:bands": [raster], "gsd": 10}
        assets[f"{color}-jp2"] = {"href": f"s3://host/{color}.jp2", "type": "image/jp2", **of_band}
        assets[color] = {"href": f"https://host/{color}.tif", "type": COG, **of_band}
    assets["scl"] = {"href": "https://host/SCL.tif", "type": COG, "raster:bands": [{"nodata": 0}]}
    return item(assets, "S2B_33UVP_20230610_0_L2A", "sentinel-2-l2a", platform="sentinel-2b", **properties)


def copernicus(offset=-0.1):
    """CDSE, in STAC 1.1: each band at several sizes of pixels."""
    assets = {}
    for key, color in zip(S2_KEYS, COLORS, strict=True):
        for size in (60, 20, 10):
            band = {"name": key, "eo:common_name": color}
            fields = {"data_type": "uint16", "nodata": 0, "raster:scale": 1e-4, "raster:offset": offset, "gsd": size}
            href = f"s3://eodata/{key}_{size}m.jp2"
            assets[f"{key}_{size}m"] = {"href": href, "type": "image/jp2", "bands": [band], **fields}
    assets["SCL_60m"] = {"href": "s3://eodata/SCL_60m.jp2", "type": "image/jp2", "gsd": 60}
    assets["SCL_20m"] = {"href": "s3://eodata/SCL_20m.jp2", "type": "image/jp2", "gsd": 20}
    return item(assets, "S2B_MSIL2A_20240610T100031_N0510_R122_T33UVP_20240610T140000", "sentinel-2-l2a")


def landsat(**properties):
    assets = {color: {"href": f"https://host/{color}.TIF", "type": COG} for color in COLORS}
    assets["qa_pixel"] = {"href": "https://host/QA_PIXEL.TIF", "type": COG}
    return item(assets, "LC09_L2SP_190026_20230610_02_T1", "landsat-c2-l2", **properties)


def hls():
    assets = {key: {"href": f"https://host/HLS.{key}.tif", "type": COG} for key in (*S2_KEYS, "Fmask")}
    return item(assets, "HLS.L30.T33UVP.2023161T100000.v2.0", "HLSL30_2.0")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (planetary_computer(**{"s2:processing_baseline": "04.00"}), (1e-4, -0.1, 0)),
        (planetary_computer(**{"s2:processing_baseline": "05.11"}), (1e-4, -0.1, 0)),
        (planetary_computer(**{"s2:processing_baseline": "03.01"}), (1e-4, 0, 0)),
        (planetary_computer(**{"s2:product_uri": "S2B_MSIL2A_20200610T100031_N0214_R122_T33UVP.SAFE"}), (1e-4, 0, 0)),
        (
            earth_search(-0.1, **{"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "04.00"}),
            (1e-4, 0, 0),
        ),
        (earth_search(0, **{"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "05.09"}), (1e-4, 0, 0)),
        (earth_search(0, **{"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "02.09"}), (1e-4, 0, 0)),
        (earth_search(-0.1, **{"earthsearch:boa_offset_applied": False}), (1e-4, -0.1, 0)),
        (earth_search(-0.1, **{"s2:processing_baseline": "05.00"}), (1e-4, -0.1, 0)),
        (copernicus(), (1e-4, -0.1, 0)),
        (landsat(**{"landsat:correction": "L2SP", "landsat:collection_number": "02"}), (2.75e-5, -0.2, 0)),
        (hls(), (1e-4, 0, -9999)),
    ],
)
def test_reflectance(made, expected):
    image = optical_image(made)
    assert [(band.scale, band.offset, band.nodata) for band in image.bands] == [pytest.approx(expected, abs=0)] * 3
    assert {band.unit for band in image.bands} == {"reflectance"}


@pytest.mark.parametrize(
    "made",
    [
        planetary_computer(),
        planetary_computer(**{"s2:processing_baseline": "new"}),
        landsat(),
        landsat(**{"landsat:correction": "L1TP", "landsat:collection_number": "02"}),
        earth_search(None, **{"s2:processing_baseline": "05.00"}),
    ],
)
def test_a_scale_that_cannot_be_known_is_asked_for(made):
    with pytest.raises(
        DataError, match="does not tell how its values become reflectance; save the item, and add scale"
    ):
        optical_image(made)


def test_the_right_assets_are_chosen():
    assert [
        band.key for band in optical_image(planetary_computer(**{"s2:processing_baseline": "04.00"})).bands
    ] == list(S2_KEYS)
    assert [band.key for band in optical_image(earth_search(-0.1)).bands] == list(COLORS)
    assert [band.key for band in optical_image(copernicus()).bands] == [f"{key}_10m" for key in S2_KEYS]
    assert [band.key for band in optical_image(hls()).bands] == list(S2_KEYS)


def test_clouds():
    image = optical_image(copernicus())
    assert (image.clouds.key, image.cloudy, image.mask.key) == ("SCL_20m", "scl", "SCL_20m")
    assert image.valid == tuple(range(1, 12)) and image.outside == 0
    image = optical_image(landsat(**{"landsat:correction": "L2SP", "landsat:collection_number": "02"}))
    assert (image.clouds.key, image.cloudy, image.mask) == ("qa_pixel", "qa_pixel", None)
    image = optical_image(hls())
    assert image.clouds.key == "Fmask" and image.cloudy == FMASK_CLOUDS
    assert 0b10 in FMASK_CLOUDS and 0b1000 in FMASK_CLOUDS and not {0, 0b100, 0b100000, 255} & set(FMASK_CLOUDS)


def test_an_aerial_photograph_is_used_as_it_is():
    bands = [{"common_name": name} for name in ("nir", *COLORS)]
    raster = [{"data_type": "uint8"}] * 4
    image = optical_image(item({"image": {"href": "https://host/a.tif", "eo:bands": bands, "raster:bands": raster}}))
    assert [(band.index, band.unit, band.scale) for band in image.bands] == [
        (2, "", None),
        (3, "", None),
        (4, "", None),
    ]


def test_declared_scales_are_used():
    raster = [{"scale": 0.002, "offset": -0.05, "nodata": "nan", "data_type": "uint16"}]
    assets = {color: {"href": f"https://host/{color}.tif", "raster:bands": raster} for color in COLORS}
    bands = optical_image(item(assets)).bands
    assert {(band.scale, band.offset, band.unit) for band in bands} == {(0.002, -0.05, "reflectance")}


@pytest.mark.parametrize(
    "damage", ["x", None, 3, [], {}, [3], [[]], [{"scale": "x", "common_name": 3}], [{"scale": 0}]]
)
def test_damaged_fields_are_one_sentence(damage):
    for field in ("eo:bands", "raster:bands", "bands", "roles", "gsd", "type", "sar:polarizations"):
        assets = {color: {"href": f"https://host/{color}.tif", field: damage} for color in COLORS}
        with pytest.raises(DataError):
            optical_image(item(assets, platform=damage, instruments=damage))
