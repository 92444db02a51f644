"""RTC products of OPERA, HyP3, Planetary Computer and NRB give the decibels of the ground, and hide what masks say."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rasterio import Affine

from mm_ovseg.errors import DataError
from mm_ovseg.products import Preparation, is_product, prepare_image
from mm_ovseg.raster import Grid, RasterSource, read_sar, write_geotiff
from tests.products.sar_products import (
    BURST,
    HYP3,
    LATTICE,
    ground,
    in_unit,
    write_hyp3,
    write_layer,
    write_nrb,
    write_opera,
    write_planetary_computer,
)

POWER = ground()
SHAPE = POWER["VV"].shape
PRODUCTS = {
    "opera": write_opera,
    "hyp3": write_hyp3,
    "hyp3 dB": lambda folder, power: write_hyp3(folder, power, name=HYP3.replace("gpuned", "gduned")),
    "hyp3 amplitude": lambda folder, power: write_hyp3(folder, power, name=HYP3.replace("gpuned", "sauned")),
    "planetary computer": write_planetary_computer,
    "nrb": write_nrb,
    "nrb dB": lambda folder, power: write_nrb(folder, power, letters="s-log"),
}


def prepare(folder, *names):
    return prepare_image(names, "sar", Preparation(folder=folder / "prepared"))


def decibels(prepared):
    """dB (H, W, bands) of the prepared raster as the model's 0..255 say, and where they are valid."""
    image, valid = read_sar(prepared.paths)
    count = len(prepared.about["bands"])
    return image[..., :count].astype(float) / 255 * 25 - 25, valid


def expected(power, *polarisations):
    return np.stack([10 * np.log10(power[name].astype(float)) for name in polarisations or power], axis=2)


def images(folder):
    return sorted(
        path for path in folder.rglob("*.tif*") if path.stem.upper().endswith(("VV", "VH", ".RTC", "LIN", "LOG"))
    )


@pytest.mark.parametrize("write", PRODUCTS.values(), ids=PRODUCTS)
def test_decibels_are_those_of_the_ground(tmp_path, write):
    folder = write(tmp_path / "given", POWER)
    prepared = prepare(tmp_path, folder)
    found, valid = decibels(prepared)
    assert valid.all() and np.abs(found - expected(POWER)).max() < 1e-4
    assert prepared.about["bands"] == ["VV", "VH"]
    with RasterSource(prepared.paths) as source:
        assert source.grid.transform == LATTICE and source.grid.crs.to_epsg() == 32633


@pytest.mark.parametrize("write", PRODUCTS.values(), ids=PRODUCTS)
def test_a_folder_its_files_in_any_order_and_relative_paths_give_one_image(tmp_path, write, monkeypatch):
    folder = write(tmp_path / "given", POWER)
    stack = prepare(tmp_path, folder).paths.read_bytes()
    files = images(folder)
    assert len(files) == 2
    assert prepare(tmp_path, *files[::-1]).paths.read_bytes() == stack
    assert prepare(tmp_path, folder, files[0]).paths.read_bytes() == stack
    monkeypatch.chdir(folder.parent)
    assert prepare(tmp_path, f"{folder.name}/").paths.read_bytes() == stack
    monkeypatch.chdir(folder)
    assert prepare(tmp_path, ".").paths.read_bytes() == stack


@pytest.mark.parametrize("write", PRODUCTS.values(), ids=PRODUCTS)
def test_one_polarisation_may_be_named(tmp_path, write):
    file = next(
        path for path in images(write(tmp_path / "given", POWER)) if "vh" in path.name.lower().split("rtc30")[-1]
    )
    found, _ = decibels(prepare(tmp_path, file))
    assert np.abs(found - expected(POWER, "VH")).max() < 1e-4


def test_the_report_says_what_a_product_is(tmp_path):
    about = prepare(tmp_path, write_hyp3(tmp_path, POWER)).about
    assert about == json.loads((tmp_path / "prepared" / "sar.json").read_text(encoding="utf-8"))
    assert about["ids"] == [HYP3] and about["acquired"] == ["2020-01-01T00:00:00+00:00"] and about["unit"] == "power"
    assert about["sensor"] == "Sentinel-1A SAR" and about["backscatter"] == "gamma0" and about["terrain_corrected"]
    sigma = prepare(tmp_path, write_nrb(tmp_path, POWER, letters="s-log")).about
    assert sigma["backscatter"] == "sigma0" and sigma["unit"] == "dB"
    assert sigma["acquired"] == ["2022-07-21T05:12:25+00:00"]
    stored = prepare(tmp_path, write_planetary_computer(tmp_path, POWER)).about
    assert stored["ids"][0].endswith("_rtc") and stored["acquired"] == ["2023-01-01T05:12:25+00:00"]


@pytest.mark.parametrize("static", [False, True])
def test_opera_masks_hide_layover_shadow_and_fill(tmp_path, static):
    mask = np.zeros(SHAPE, np.uint8)
    mask[3, 4:8] = 1, 2, 3, 255
    prepared = prepare(tmp_path, write_opera(tmp_path / "given", POWER, mask, static=static))
    found, valid = decibels(prepared)
    np.testing.assert_array_equal(valid, mask == 0)
    assert np.abs(found - expected(POWER))[valid].max() < 1e-4
    assert prepared.about["layover_and_shadow_hidden"] and not prepared.warnings


def test_hyp3_masks_hide_layover_and_shadow(tmp_path):
    mask = np.ones(SHAPE, np.uint8)
    mask[3, 4:12] = 0, 3, 5, 7, 9, 17, 25, 31
    folder = write_hyp3(tmp_path / "given", POWER, mask)
    shown = mask <= 1
    for names in ([folder], images(folder)):
        np.testing.assert_array_equal(decibels(prepare(tmp_path, *names))[1], shown)


def test_a_missing_mask_is_told(tmp_path):
    prepared = prepare(tmp_path, write_hyp3(tmp_path, POWER))
    (warning,) = prepared.warnings
    assert "ls_map" in warning and not prepared.about["layover_and_shadow_hidden"]


@pytest.mark.parametrize("nodata", [np.nan, 0, -1])
def test_pixels_without_data_are_not_valid(tmp_path, nodata):
    power = {name: values.copy() for name, values in POWER.items()}
    power["VH"][5, 6] = nodata
    for write in (write_opera, write_planetary_computer):
        _, valid = decibels(prepare(tmp_path, write(tmp_path / write.__name__, power)))
        assert not valid[5, 6] and valid.sum() == valid.size - 1


def write_two_bursts(folder, power, mask, **second):
    """Bursts that share ten columns, in half of which the second has no data."""
    first = {name: values[:, :20].copy() for name, values in power.items()}
    other = {name: values[:, 10:].copy() for name, values in power.items()}
    masks = mask[:, :20].copy(), mask[:, 10:].copy()
    for values in other.values():
        values[:, :5] = np.nan
    masks[1][:, :5] = 255
    write_opera(folder, first, masks[0], nodata=second.get("nodata", np.nan))
    east = {"burst": "T069-147171-IW1", "start": "20230101T051228", "place": LATTICE @ Affine.translation(10, 0)}
    write_opera(folder, other, masks[1], **{**east, **second})


@pytest.mark.parametrize("nodata", [np.nan, None])
def test_bursts_are_joined(tmp_path, nodata):
    mask = np.zeros(SHAPE, np.uint8)
    mask[2, [3, 12, 17, 25]] = 2
    write_two_bursts(tmp_path / "given", POWER, mask, nodata=nodata)
    prepared = prepare(tmp_path, tmp_path / "given")
    found, valid = decibels(prepared)
    np.testing.assert_array_equal(valid, mask == 0)
    assert np.abs(found - expected(POWER))[valid].max() < 1e-4
    assert len(prepared.about["ids"]) == len(prepared.about["acquired"]) == 2


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"start": "20230113T051228"}, "acquired at different times"),
        ({"burst": "T010-147171-IW1"}, "different orbits"),
        ({"burst": BURST}, "the same burst, processed twice"),
        ({"epsg": 32634}, "different reference systems"),
        ({"place": LATTICE @ Affine.translation(10.5, 0)}, "different sizes or places"),
    ],
)
def test_bursts_that_cannot_be_joined_are_refused(tmp_path, second, message):
    write_two_bursts(tmp_path / "given", POWER, np.zeros(SHAPE, np.uint8), **second)
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, tmp_path / "given")
    assert not (tmp_path / "prepared").exists()


def test_a_burst_without_a_file_that_others_have_is_refused(tmp_path):
    write_two_bursts(tmp_path, POWER, np.zeros(SHAPE, np.uint8))
    (mask,) = tmp_path.glob("*147171*_mask.tif")
    mask.unlink()
    with pytest.raises(DataError, match="147171.* has no layover and shadow mask"):
        prepare(tmp_path, tmp_path)
    (image,) = tmp_path.glob("*147171*_VH.tif")
    image.unlink()
    with pytest.raises(DataError, match="147171.* lacks its VH file"):
        prepare(tmp_path, tmp_path)


@pytest.mark.parametrize("write", [write_hyp3, write_planetary_computer])
def test_a_folder_whose_name_promises_two_polarisations_must_have_both(tmp_path, write):
    folder = write(tmp_path, {"VV": POWER["VV"]})
    with pytest.raises(DataError, match="lacks its VH file"):
        prepare(tmp_path, folder)
    prepare(tmp_path, *images(folder))


def test_different_products_are_not_mixed(tmp_path):
    power = write_hyp3(tmp_path, POWER)
    amplitude = write_hyp3(tmp_path, POWER, name=HYP3.replace("gpuned", "gauned"))
    with pytest.raises(DataError, match=r"HyP3 RTC gamma0 (power|amplitude) and .* give products of one kind"):
        prepare(tmp_path, images(power)[0], images(amplitude)[1])
    with pytest.raises(DataError, match="not joined"):
        prepare(tmp_path, power, write_hyp3(tmp_path, POWER, name=HYP3.replace("0101T", "0113T")))
    with pytest.raises(DataError, match="give products of one kind"):
        prepare(tmp_path, power, write_opera(tmp_path / "opera", POWER))
    shutil.copytree(power, tmp_path / "copy" / power.name)
    with pytest.raises(DataError, match="are the same polarisation of one product"):
        prepare(tmp_path, power, tmp_path / "copy" / power.name)
    assert not (tmp_path / "prepared").exists()


def test_what_a_file_declares_counts(tmp_path):
    """A file of OPERA that was written in hundredths of dB, and says so."""
    folder = write_opera(tmp_path / "given", POWER)
    for path in images(folder):
        stored = np.round(in_unit(POWER[path.stem[-2:]], "dB") * 100).astype(np.int16)
        write_layer(path, stored, units=["dB"], scales=[0.01], offsets=[0])
    prepared = prepare(tmp_path, folder)
    assert prepared.about["unit"] == "dB" and np.abs(decibels(prepared)[0] - expected(POWER)).max() < 0.0051


def test_bursts_in_different_units_are_refused(tmp_path):
    write_two_bursts(tmp_path, POWER, np.zeros(SHAPE, np.uint8))
    (second,) = tmp_path.glob("*147171*_VV.tif")
    write_layer(
        second, in_unit(POWER["VV"][:, 10:], "dB"), LATTICE @ Affine.translation(10, 0), nodata=np.nan, units=["dB"]
    )
    with pytest.raises(DataError, match="147170.* and .*147171.* differ in unit"):
        prepare(tmp_path, tmp_path)


def test_changed_files_are_refused(tmp_path):
    folder = write_hyp3(tmp_path, POWER, np.ones(SHAPE, np.uint8))
    mask = next(folder.glob("*_ls_map.tif"))
    write_layer(mask, np.ones(SHAPE, np.float32))
    with pytest.raises(DataError, match="_ls_map.tif is not an 8-bit mask"):
        prepare(tmp_path, folder)
    mask.unlink()
    write_layer(images(folder)[0], np.ones(SHAPE, np.uint8))
    with pytest.raises(DataError, match="holds uint8 values"):
        prepare(tmp_path, folder)
    write_geotiff(images(folder)[0], np.stack([POWER["VH"]] * 2), Grid(*SHAPE[::-1]))
    with pytest.raises(DataError, match="has 2 bands"):
        prepare(tmp_path, folder)
    images(folder)[0].write_bytes(b"II*\0damaged")
    with pytest.raises(DataError, match="cannot be read"):
        prepare(tmp_path, folder)
    with pytest.raises(DataError, match="does not exist"):
        prepare(tmp_path, tmp_path / "absent" / "iw-vv.rtc.tiff")
    with pytest.raises(DataError, match="is an address"):
        prepare(tmp_path, "https://127.0.0.1/measurement/iw-vv.rtc.tiff")


def test_a_mask_alone_is_no_image(tmp_path):
    folder = write_opera(tmp_path, {}, np.zeros(SHAPE, np.uint8))
    with pytest.raises(DataError, match="no backscatter"):
        prepare(tmp_path, folder)


def test_other_files_are_no_products(tmp_path):
    folder = write_hyp3(tmp_path / "é", POWER)
    file = images(folder)[0]
    assert is_product(folder, "sar") and is_product(file, "sar") and not is_product(folder, "rgb")
    others = [
        "sar_VV.tif",
        "S1A_VV.tif",
        f"{HYP3}.tif",
        f"my_{file.name}",
        f"{file.name}.aux.xml",
        "iw-vv.tiff",
        "a\0b",
    ]
    assert not any(is_product(name, "sar") for name in others)
    assert not is_product([file, "sar.tif"], "sar") and not is_product(tmp_path / "nothing", "sar")
    (tmp_path / "plain").mkdir()
    write_layer(tmp_path / "plain" / "sar.tif", POWER["VV"])
    assert not is_product(tmp_path / "plain", "sar")


@pytest.mark.parametrize("write", [write_hyp3, write_opera, write_planetary_computer])
def test_a_zip_is_its_folder(tmp_path, write):
    folder = write(tmp_path / "given" / "é", POWER)
    archive = shutil.make_archive(tmp_path / "packed" / folder.name, "zip", folder.parent, folder.name)
    assert is_product(archive, "sar") and not is_product(archive, "rgb")
    prepared, of_folder = (
        prepare(tmp_path, archive),
        prepare_image(folder, "sar", Preparation(folder=tmp_path / "other")),
    )
    assert prepared.about == of_folder.about
    np.testing.assert_array_equal(decibels(prepared)[0], decibels(of_folder)[0])
    unpacked = list((tmp_path / "prepared" / f"{folder.name}.zip").rglob("*"))
    assert not [path for path in unpacked if path.suffix in (".txt", ".xml") or path.stem.endswith("_dem")]


def test_damaged_zips_are_no_products_or_refused(tmp_path):
    folder = write_hyp3(tmp_path / "given", POWER)
    archive = Path(shutil.make_archive(tmp_path / folder.name, "zip", folder.parent, folder.name))
    content = bytearray(archive.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    archive.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read completely"):
        prepare(tmp_path, archive)
    archive.write_bytes(content[:1000])
    assert not is_product(archive, "sar")
