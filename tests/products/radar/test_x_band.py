"""Images of Capella, ICEYE and Umbra are calibrated by their metadata; what it does not say is asked for."""

import json
import shutil

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from mm_ovseg.errors import DataError
from mm_ovseg.products import Preparation, is_product, prepare_image
from mm_ovseg.raster import RasterSource, read_sar
from tests.products.sar_products import ground, write_layer
from tests.products.x_band_products import (
    CAPELLA,
    CAPELLA_FACTOR,
    ICEYE,
    ICEYE_COG,
    ICEYE_FACTOR,
    PLACE,
    UMBRA,
    capella_metadata,
    to_numbers,
    write_capella,
    write_iceye,
    write_umbra,
)

POWER = ground()["VV"]
NUMBERS, CAPELLA_POWER = to_numbers(POWER, CAPELLA_FACTOR)
ICEYE_NUMBERS, ICEYE_POWER = to_numbers(POWER, ICEYE_FACTOR**0.5)
DEEP = '{"collect":' * 100_000
BOMB = '<!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><l>&b;</l>'


def prepare(folder, *names):
    return prepare_image(names, "sar", Preparation(folder=folder / "prepared"))


def check_decibels(prepared, power):
    image, valid = read_sar(prepared.paths)
    assert valid.all() and np.abs(image[..., 0] / 255 * 25 - 25 - 10 * np.log10(power)).max() < 1e-4
    with RasterSource(prepared.paths) as source:
        assert source.grid.transform == PLACE and source.grid.crs == CRS.from_epsg(32633)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beside": ".json"},
        {"in_tag": True},
        {"name": CAPELLA.replace("GEO", "GEC")},
        {"metadata": capella_metadata("beta_nought")},
    ],
)
def test_capella(tmp_path, options):
    path = write_capella(tmp_path / "given", NUMBERS, **options)
    prepared = prepare(tmp_path, path)
    check_decibels(prepared, CAPELLA_POWER)
    assert prepare(tmp_path, path.parent).paths.read_bytes() == prepared.paths.read_bytes()
    about = prepared.about
    assert about["ids"] == [path.stem] and about["acquired"] == ["2020-12-09T21:33:29+00:00"]
    assert about["bands"] == ["HH"] and about["unit"] == "amplitude" and about["sensor"] == "Capella-C02 SAR"
    assert about["backscatter"] == ("beta0" if "metadata" in options else "sigma0")
    is_projected_only = "GEC" in path.name
    assert about["terrain_corrected"] != is_projected_only and len(prepared.warnings) == is_projected_only


@pytest.mark.parametrize("form", [".xml", ".json", "tags"])
@pytest.mark.parametrize("name", [ICEYE, ICEYE_COG])
def test_iceye(tmp_path, form, name):
    path = write_iceye(tmp_path / "given", ICEYE_NUMBERS, form=form, name=name)
    prepared = prepare(tmp_path, path)
    check_decibels(prepared, ICEYE_POWER)
    assert prepare(tmp_path, path.parent).paths.read_bytes() == prepared.paths.read_bytes()
    assert prepared.about["bands"] == ["VV"] and prepared.about["backscatter"] == "sigma0"
    assert prepared.about["sensor"] == ("ICEYE-X2 SAR" if name == ICEYE else "ICEYE-X24 SAR")
    assert "not terrain-corrected by ICEYE" in prepared.warnings[0]


def test_umbra_of_8_bits_is_read_as_it_is(tmp_path):
    numbers = (NUMBERS >> 8).astype(np.uint8)
    prepared = prepare(tmp_path, write_umbra(tmp_path / "given", numbers))
    image, valid = read_sar(prepared.paths)
    assert valid.all() and (image[..., 0] == numbers).all()
    assert prepared.about["bands"] == ["HH"] and prepared.about["acquired"] == ["2023-05-22T05:23:45+00:00"]
    assert prepared.about["sensor"] == "Umbra-05 SAR" and len(prepared.warnings) == 1
    assert prepare(tmp_path, tmp_path / "given").paths.read_bytes() == prepared.paths.read_bytes()


def test_umbra_of_16_bits_asks_for_a_range_with_an_example(tmp_path):
    prepared = prepare(tmp_path, write_umbra(tmp_path / "given", NUMBERS, polarisation=None))
    low, high = json.loads(prepared.warnings[1].split('"')[1])
    decibels = 20 * np.log10(NUMBERS)
    assert "set INPUT.SAR.SCALE to amplitude and INPUT.SAR.RANGE" in prepared.warnings[1]
    assert np.abs(np.percentile(decibels, (2, 98)) - (low, high)).max() <= 1
    with pytest.raises(DataError, match="set INPUT.SAR.SCALE"):
        read_sar(prepared.paths)
    image, valid = read_sar(prepared.paths, scale="amplitude", value_range=(low, high))
    assert valid.all() and np.abs(image[..., 0] - np.clip((decibels - low) / (high - low) * 255, 0, 255)).max() < 1e-3


def test_umbra_that_declares_its_unit_is_calibrated(tmp_path):
    path = write_umbra(tmp_path / "given", NUMBERS, units=["amplitude"], scales=[CAPELLA_FACTOR], offsets=[0])
    prepared = prepare(tmp_path, path)
    check_decibels(prepared, CAPELLA_POWER)
    assert len(prepared.warnings) == 1


def test_pixels_without_data_are_not_valid(tmp_path):
    numbers = NUMBERS.copy()
    numbers[4, 5] = 0
    for path in (write_capella(tmp_path, numbers), write_iceye(tmp_path, numbers)):
        _, valid = read_sar(prepare(tmp_path, path).paths)
        assert not valid[4, 5] and valid.sum() == valid.size - 1


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "a known collect.image.radiometry"),
        ([1], "a known collect.image.radiometry"),
        (capella_metadata(radiometry=["sigma_nought"]), "a known collect.image.radiometry"),
        (capella_metadata(radiometry="sigma nought"), "a known collect.image.radiometry"),
        (capella_metadata(scale_factor=None), "give scale_factor;"),
        (capella_metadata(scale_factor=0), r"give scale_factor \(it is 0\)"),
        (capella_metadata(scale_factor=True), r"give scale_factor \(it is True\)"),
        (capella_metadata(scale_factor="wide"), r"give scale_factor \(it is wide\)"),
        (capella_metadata(scale_factor={"value": 1}), "give scale_factor"),
    ],
)
def test_capella_without_a_calibration_is_refused(tmp_path, metadata, message):
    path = write_capella(tmp_path, NUMBERS, metadata=metadata)
    with pytest.raises(DataError, match=rf"HH_.*{CAPELLA}_extended.json or {CAPELLA}.json .*{message}"):
        prepare(tmp_path, path)
    assert not (tmp_path / "prepared").exists()


def test_missing_metadata_is_named(tmp_path):
    path = write_iceye(tmp_path, NUMBERS)
    path.with_suffix(".xml").unlink()
    with pytest.raises(DataError, match=rf"{ICEYE}.xml or {ICEYE}.json beside it give calibration_factor"):
        prepare(tmp_path, path)


@pytest.mark.parametrize("factor", ["", "nan", "-1", "inf"])
def test_iceye_with_a_bad_factor_is_refused(tmp_path, factor):
    with pytest.raises(DataError, match="give calibration_factor"):
        prepare(tmp_path, write_iceye(tmp_path, NUMBERS, factor=factor))


@pytest.mark.parametrize("text", [DEEP, "{", '{"a": 1, "a": 2}', "\udcff", ""])
def test_damaged_json_is_refused(tmp_path, text):
    path = write_capella(tmp_path, NUMBERS)
    (tmp_path / f"{CAPELLA}_extended.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=rf"{CAPELLA}_extended.json (cannot be read|is not UTF-8)"):
        prepare(tmp_path, path)


@pytest.mark.parametrize("text", [BOMB, "<a>", "<a></b>", ""])
def test_damaged_xml_is_refused(tmp_path, text):
    path = write_iceye(tmp_path, NUMBERS)
    path.with_suffix(".xml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=rf"{ICEYE}.xml cannot be read"):
        prepare(tmp_path, path)


def test_a_description_that_is_not_metadata_does_no_harm(tmp_path):
    path = write_capella(tmp_path, NUMBERS)
    write_layer(path, NUMBERS, PLACE, tags={"TIFFTAG_IMAGEDESCRIPTION": "{my note"})
    check_decibels(prepare(tmp_path, path), CAPELLA_POWER)


def test_an_image_that_is_placed_by_control_points_is_refused(tmp_path):
    path = write_iceye(tmp_path, NUMBERS)
    points = [
        GroundControlPoint(row, column, 12.4 + column / 1e4, 42 - row / 1e4) for row in (0, 20) for column in (0, 20)
    ]
    with rasterio.open(path, "w", driver="GTiff", width=30, height=24, count=1, dtype="uint16") as file:
        file.gcps = points, CRS.from_epsg(4326)
    with pytest.raises(DataError, match=rf"orthorectify it \(gdalwarp -tps\) .* copy {ICEYE}.xml or {ICEYE}.json"):
        prepare(tmp_path, path)


@pytest.mark.parametrize(
    "name",
    [
        CAPELLA.replace("GEO", "SLC") + ".tif",
        CAPELLA.replace("GEO", "SICD") + ".ntf",
        "ICEYE_X2_SLC_SM_36535_20200604T090731.h5",
        f"{UMBRA}_SICD.nitf",
        f"{UMBRA}_CPHD.cphd",
    ],
)
def test_complex_products_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"NITF02.10")
    path = write_capella(tmp_path / "given", NUMBERS)
    for names in ([tmp_path / name], [tmp_path / name, path]):
        with pytest.raises(DataError, match="holds complex values; give the geocoded image"):
            prepare(tmp_path, *names)
    shutil.copy(tmp_path / name, path.parent)
    check_decibels(prepare(tmp_path, path.parent), CAPELLA_POWER)  # which has both


def test_complex_values_under_the_name_of_an_image_are_refused(tmp_path):
    path = write_capella(tmp_path, NUMBERS)
    write_layer(path, NUMBERS.astype(np.complex64), PLACE)
    with pytest.raises(DataError, match="holds complex values"):
        prepare(tmp_path, path)


def test_images_that_do_not_belong_together_are_refused(tmp_path):
    path = write_capella(tmp_path, NUMBERS)
    second = write_capella(tmp_path, NUMBERS, name=CAPELLA.replace("HH_20201209213329", "HH_20201209213330"))
    with pytest.raises(DataError, match="do not belong together"):
        prepare(tmp_path, path, second)
    with pytest.raises(DataError, match="acquired at different times"):
        prepare(
            tmp_path, path, write_capella(tmp_path, NUMBERS, name=CAPELLA.replace("20201209213329", "20201210213329"))
        )
    third = write_iceye(tmp_path, NUMBERS, name="ICEYE_X2_GRD_SM_36535_20201209T213329")
    with pytest.raises(DataError, match="do not belong together"):
        prepare(tmp_path, path, third)


def test_two_polarisations_keep_their_own_factors(tmp_path):
    cross = write_capella(
        tmp_path / "given", NUMBERS, name=CAPELLA.replace("HH", "HV"), metadata=capella_metadata(scale_factor=1e-5)
    )
    prepared = prepare(tmp_path, cross, write_capella(tmp_path / "given", NUMBERS))
    check_decibels(prepared, CAPELLA_POWER)
    assert prepared.about["bands"] == ["HH", "HV"]
    with RasterSource(prepared.paths) as source:
        assert [band.scale for band in source.bands] == [CAPELLA_FACTOR, 1e-5]


def test_other_files_are_no_products(tmp_path):
    others = [
        f"{CAPELLA}_preview.tif",
        f"{CAPELLA}_extended.json",
        "ICEYE.tif",
        "ICEYE_X2_GRD.tif",
        f"{ICEYE}_ortho.tif",
    ]
    others += [f"{UMBRA}_CSI.tif", "UMBRA-05_GEC.tif", "a\0b", f"my{CAPELLA}.tif"]
    assert not any(is_product(name, "sar") for name in others)
    assert is_product(f"{CAPELLA}.tif", "sar") and not is_product(f"{CAPELLA}.tif", "rgb")
    write_layer(tmp_path / "sar.tif", POWER)
    assert not is_product(tmp_path, "sar") and not is_product([f"{CAPELLA}.tif", tmp_path / "sar.tif"], "sar")


def test_a_zip_is_its_folder(tmp_path):
    path = write_capella(tmp_path / "given" / CAPELLA, NUMBERS)
    archive = shutil.make_archive(tmp_path / "packed", "zip", path.parent)
    check_decibels(prepare(tmp_path, archive), CAPELLA_POWER)
