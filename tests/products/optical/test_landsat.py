"""Small Landsat products give the right reflectance, and what is wrong with one is a sentence."""

import shutil

import numpy as np
import pytest
from rasterio import Affine

from mm_ovseg.errors import DataError
from mm_ovseg.products import is_product
from mm_ovseg.raster import RasterSource, read_rgb
from tests.products.landsat_product import CIRRUS, CLEAR, CLOUD, DILATED, SHADOW, write_landsat
from tests.products.prepared_optical import clouds, prepare, reflectance

SHAPE = (40, 50)
GROUND = np.random.default_rng(0).uniform(0.001, 0.5, (3, *SHAPE))
STEP = 2.75e-5  # of the stored values of level 2; those of level 1 are about as large


@pytest.mark.parametrize("level", ["L2SP", "L1TP"])
@pytest.mark.parametrize("sensor", ["LC08", "LT05"])
@pytest.mark.parametrize("form", ["xml", "json", "txt"])
def test_reflectance(tmp_path, level, sensor, form):
    prepared = prepare(tmp_path, write_landsat(tmp_path, GROUND, level=level, sensor=sensor, formats=(form,)))
    np.testing.assert_allclose(reflectance(prepared), GROUND, atol=STEP)
    image, valid = read_rgb(prepared.paths)
    assert valid.all() and np.abs(image - np.clip(GROUND.transpose(1, 2, 0) / 0.3 * 255, 0, 255)).max() <= 0.53
    with RasterSource(prepared.paths) as source:
        assert source.grid.transform == Affine(30, 0, 600_015, 0, -30, 5_100_015)
    assert not clouds(prepared).any() and not prepared.warnings
    about = prepared.about
    assert about["ids"] == [f"{sensor}_{level}_193028_20220125_20220204_02_T1"] and about["level"] == [level]
    assert about["sensor"] == {"LC08": "Landsat 8 OLI_TIRS", "LT05": "Landsat 5 TM"}[sensor]
    assert about["bands"] == {"LC08": ["B4", "B3", "B2"], "LT05": ["B3", "B2", "B1"]}[sensor]
    assert about["acquired"] == ["2022-01-25T10:05:11.342406+00:00"]
    assert about["path_row"] == ["193/028"] and about["cloud_cover_percent"] == [20.3]


def test_no_data_and_clouds(tmp_path):
    ground = GROUND.copy()
    ground[:, :8] = np.nan
    values = [1, CLEAR, CLOUD, SHADOW, CIRRUS, DILATED]
    quality = np.array(values, np.uint16)[np.indices(SHAPE).sum(axis=0) % len(values)]
    prepared = prepare(tmp_path, write_landsat(tmp_path, ground, quality=quality))
    image, valid = read_rgb(prepared.paths)
    assert not valid[:8].any() and valid[8:].all() and not image[:8].any()
    np.testing.assert_array_equal(clouds(prepared), (quality != 1) & (quality != CLEAR))


def test_what_names_a_product(tmp_path):
    folder = write_landsat(tmp_path, GROUND)
    lower = tmp_path / "lower"
    lower.mkdir()
    for file in folder.iterdir():
        shutil.copy(file, lower / file.name.lower())
    many = shutil.copytree(folder, tmp_path / "many")
    other = write_landsat(tmp_path / "other", GROUND / 2, row="029")
    shutil.copytree(other, many, dirs_exist_ok=True)
    of_first = [many / file.name for file in sorted(folder.glob("*_MTL.*"))]
    archives = [write_landsat(tmp_path / packed, GROUND, packed=packed) for packed in (".tar", ".zip")]
    renamed = shutil.copy(archives[1], tmp_path / "download.zip")
    names = [f"{folder}/", lower, lower / f"{folder.name.lower()}_mtl.txt", *of_first, *archives, renamed]
    for number, name in enumerate(names):
        assert is_product(name, "rgb") and not is_product(name, "sar"), name
        prepared = prepare(tmp_path, name, f"out{number}")
        np.testing.assert_allclose(reflectance(prepared), GROUND, atol=STEP)
        assert prepared.about["ids"] == [folder.name] and prepared.clouds is not None
    with pytest.raises(DataError, match="contains 2 Landsat scenes; give the metadata files"):
        prepare(tmp_path, many)
    for name in "AZ":
        shutil.copytree(write_landsat(tmp_path / name, GROUND / 2), folder / name)
    np.testing.assert_allclose(reflectance(prepare(tmp_path, folder)), GROUND, atol=STEP)
    assert not is_product(tmp_path, "rgb") and not is_product(next(folder.glob("*B4.TIF")), "rgb")


def test_scenes_one_below_the_other_are_one_image(tmp_path):
    ground = np.random.default_rng(1).uniform(0.001, 0.3, (3, 70, 50))
    south = ground[:, 30:].copy()
    south[:, :5] = np.nan
    cloudy = np.full(SHAPE, CLOUD, np.uint16)
    cloudy[:20] = 1
    first = write_landsat(tmp_path, ground[:, :40])
    second = write_landsat(tmp_path, south, row="029", corner=(600_015, 5_100_015 - 900), quality=cloudy)
    prepared = prepare(tmp_path, [first, second])
    np.testing.assert_allclose(reflectance(prepared), ground, atol=STEP)
    found = clouds(prepared)
    assert found[50:].all() and not found[:50].any()


def test_without_pixel_quality_a_warning_says_so(tmp_path):
    folder = write_landsat(tmp_path, GROUND)
    next(folder.glob("*_QA_PIXEL.TIF")).unlink()
    prepared = prepare(tmp_path, folder)
    assert prepared.clouds is None and "lacks its pixel quality" in prepared.warnings[0]
    np.testing.assert_allclose(reflectance(prepared), GROUND, atol=STEP)


def edit(old, new):
    def change(folder):
        (path,) = folder.glob("*_MTL.*")
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def write(text):
    def change(folder):
        (path,) = folder.glob("*_MTL.*")
        path.write_text(text)

    return change


@pytest.mark.parametrize(
    ("form", "change", "message"),
    [
        ("txt", edit("REFLECTANCE_MULT_BAND_3", "OTHER"), "lacks REFLECTANCE_MULT_BAND_3 in LEVEL2_SURFACE_REFL"),
        ("txt", edit("= -0.200000", "= NULL"), "has REFLECTANCE_ADD_BAND_4 'NULL', which is not a number"),
        ("json", edit('"2.7500E-05"', "0"), "has REFLECTANCE_MULT_BAND_4 0, which must be positive"),
        ("xml", edit("<COLLECTION_NUMBER>02", "<COLLECTION_NUMBER>01"), "not the metadata of .* Collection 2"),
        ("txt", edit('"OLI_TIRS"', '"MSS"'), "is of the sensor MSS and level L2SP; give a product of level 1 or 2 of"),
        ("txt", edit('"OLI_TIRS"', '"TIRS"'), "is of the sensor TIRS"),
        ("txt", edit('"L2SP"', '"L3"'), "and level L3"),
        ("txt", edit("_SR_B3.TIF", "_SR_B9.TIF"), r"has no image LC08_\w+_SR_B9\.TIF; download the product again"),
        ("txt", lambda folder: next(folder.glob("*_SR_B3.TIF")).unlink(), r"has no image LC08_\w+_SR_B3\.TIF"),
        ("txt", lambda folder: next(folder.glob("*_SR_B2.TIF")).write_bytes(b"II*"), r"_SR_B2\.TIF cannot be read"),
        ("txt", write("GROUP = L1_METADATA_FILE\nEND\n"), "not the metadata of .* Collection 2"),
        ("json", write("[1]"), "not the metadata of .* Collection 2"),
        ("json", write('{"LANDSAT_METADATA_FILE": {"PRODUCT_CONTENTS": 1}}'), "not the metadata of .* Collection 2"),
        ("json", write('{"LANDSAT_METADATA_FILE": '), "cannot be read as JSON"),
        ("xml", write("<a>"), "cannot be read as XML"),
        ("xml", write('<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>'), "declares a document type or entities"),
        ("xml", lambda folder: next(folder.glob("*_MTL.xml")).unlink(), "contains no metadata file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, form, change, message):
    folder = write_landsat(tmp_path, GROUND, formats=(form,))
    change(folder)
    with pytest.raises(DataError, match=message) as error:
        prepare(tmp_path, folder)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_a_sun_below_the_horizon_is_refused(tmp_path):
    folder = write_landsat(tmp_path, GROUND, level="L1TP", formats=("txt",))
    edit("= 40.5", "= -3.2")(folder)
    with pytest.raises(DataError, match="sun below the horizon"):
        prepare(tmp_path, folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "L1TP", "sun_elevation": 41.0}, r"store reflectance differently \(B4 = 3.07"),
        ({"level": "L2SP"}, r"store reflectance differently"),
        ({"level": "L1TP", "sensor": "LT05"}, r"store reflectance differently \(B4 = .*, but B3 = "),
        ({"level": "L1TP", "epsg": 32633}, "different reference systems"),
    ],
)
def test_scenes_that_cannot_be_joined(tmp_path, options, message):
    first = write_landsat(tmp_path, GROUND, level="L1TP")
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, [first, write_landsat(tmp_path, GROUND, row="029", **options)])


def test_a_product_does_not_name_files_elsewhere(tmp_path):
    folder = write_landsat(tmp_path / "a", GROUND, formats=("txt",))
    shutil.move(image := next(folder.glob("*_SR_B3.TIF")), tmp_path / image.name)
    edit(image.name, f"../../{image.name}")(folder)
    with pytest.raises(DataError, match=r"has no image \.\./\.\./"):
        prepare(tmp_path, folder)
