"""Small Sentinel-2 products give the right reflectance, and what is wrong with one is a sentence."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from rasterio import Affine

from mm_ovseg.errors import DataError
from mm_ovseg.products import is_product
from mm_ovseg.raster import RasterSource, read_rgb
from tests.products.prepared_optical import clouds, prepare, reflectance
from tests.products.sentinel2_product import write_jp2, write_sentinel2

SIDE = 60
# Reflectance in steps of the stored values, brighter than 1 in places.
GROUND = np.random.default_rng(0).integers(1, 4000, (3, SIDE, SIDE)) / 1e4
GROUND[:, 50:55, 50:55] = 1.2


def edit(safe, *changes):
    """Replace text in the metadata of a product."""
    (path,) = safe.glob("MTD_*.xml")
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


@pytest.mark.parametrize("level", ["2A", "1C"])
@pytest.mark.parametrize("baseline", ["02.09", "04.00", "05.11"])
def test_baselines_of_one_ground_give_its_reflectance(tmp_path, level, baseline):
    prepared = prepare(tmp_path, write_sentinel2(tmp_path, GROUND, level=level, baseline=baseline))
    np.testing.assert_allclose(reflectance(prepared), GROUND, atol=1e-6)
    image, valid = read_rgb(prepared.paths)
    expected = np.clip(GROUND.transpose(1, 2, 0) / 0.3 * 255, 0, 255)
    assert valid.all() and np.abs(image - expected).max() <= 0.5001
    with RasterSource(prepared.paths) as source:
        assert source.grid.crs.to_epsg() == 32632 and source.grid.shape == (SIDE, SIDE)
        assert source.grid.transform == Affine(10, 0, 600_000, 0, -10, 5_100_000)
    assert not prepared.warnings and (prepared.clouds is None) == (level == "1C")


def test_what_the_report_says(tmp_path):
    about = prepare(tmp_path, write_sentinel2(tmp_path, GROUND)).about
    assert about == json.loads((tmp_path / "out" / "rgb.json").read_text())
    assert about == {
        "ids": ["S2A_MSIL2A_20220125T105229_N0400_R051_T32TQM_20220125T140000"],
        "sensor": "Sentinel-2A MSI",
        "acquired": ["2022-01-25T10:52:29.024000+00:00"],
        "bands": ["B04", "B03", "B02"],
        "unit": "reflectance",
        "level": ["L2A"],
        "processing_baseline": ["04.00"],
        "tiles": [["T32TQM"]],
        "relative_orbit": [51],
        "cloud_cover_percent": [12.345],
    }


def test_each_band_has_its_own_offset(tmp_path):
    safe = write_sentinel2(tmp_path, GROUND, offsets=(-1000, -900, -1100))
    np.testing.assert_allclose(reflectance(prepare(tmp_path, safe)), GROUND, atol=1e-6)


def test_no_data_and_saturation(tmp_path):
    ground = GROUND.copy()
    ground[:, :10] = np.nan
    ground[0, 20, 20] = 6.4535  # 65535, saturated: a measurement that is too bright
    classes = np.full((30, 30), 4, np.uint8)
    classes[20:, 20:] = 0
    prepared = prepare(tmp_path, write_sentinel2(tmp_path, ground, classes=classes))
    image, valid = read_rgb(prepared.paths)
    expected = np.ones((SIDE, SIDE), bool)
    expected[:10] = expected[40:, 40:] = False
    np.testing.assert_array_equal(valid, expected)
    assert image[20, 20, 0] == 255 and not image[~valid].any()


def test_the_scene_classification_says_where_clouds_are(tmp_path):
    classes = (np.arange(900, dtype=np.uint8) % 12).reshape(30, 30)
    prepared = prepare(tmp_path, write_sentinel2(tmp_path, GROUND, classes=classes))
    np.testing.assert_array_equal(clouds(prepared), np.isin(classes, [3, 8, 9, 10]).repeat(2, axis=0).repeat(2, axis=1))


def test_what_names_a_product(tmp_path, monkeypatch):
    safe = write_sentinel2(tmp_path, GROUND)
    bare = shutil.copytree(safe, tmp_path / "é\nté")
    lower = tmp_path / "lower" / safe.name.lower()
    for file in [file for file in safe.rglob("*") if file.is_file()]:
        copy = lower / file.relative_to(safe).as_posix().lower()
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    link = tmp_path / "link"
    link.symlink_to(safe)
    archive = write_sentinel2(tmp_path / "zip", GROUND, zipped=True)
    renamed = shutil.copy(archive, tmp_path / "download (1).zip")
    monkeypatch.chdir(tmp_path)
    names = [f"{safe}/", safe.name, safe / "MTD_MSIL2A.xml", bare, lower, link, archive, renamed]
    for number, name in enumerate(names):
        assert is_product(name, "rgb") and not is_product(name, "sar"), name
        prepared = prepare(tmp_path, name, f"out{number}")
        np.testing.assert_allclose(reflectance(prepared), GROUND, atol=1e-6)
        assert prepared.clouds is not None and prepared.about["ids"] == [safe.stem]


def test_a_zip_is_unpacked_once_and_only_what_is_needed(tmp_path):
    archive = write_sentinel2(tmp_path, GROUND, zipped=True)
    prepare(tmp_path, archive)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jp2")}
    assert sorted(path.name.split("_")[2] for path in files) == ["B02", "B03", "B04", "SCL"]
    prepare(tmp_path, archive)
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jp2")}
    archive.unlink()
    write_sentinel2(tmp_path, GROUND / 2, zipped=True)
    np.testing.assert_allclose(reflectance(prepare(tmp_path, archive)), GROUND / 2, atol=6e-5)


def test_tiles_side_by_side_are_one_image(tmp_path):
    """The second begins 40 columns to the east, and lacks data where the first has some."""
    ground = np.random.default_rng(1).integers(1, 3000, (3, SIDE, 100)) / 1e4
    second = ground[:, :, 40:].copy()
    second[:, :, :8] = np.nan
    classes, others = np.full((2, 30, 30), 4, np.uint8)
    classes[:, 20:24] = 8  # under which the second lacks data
    others[:, :4], others[:, 25:] = 0, 9
    products = [
        write_sentinel2(tmp_path, ground[:, :, :SIDE], classes=classes),
        write_sentinel2(tmp_path, second, tile="T32TRM", corner=(600_400, 5_100_000), baseline="05.09", classes=others),
    ]
    prepared = prepare(tmp_path, products)
    np.testing.assert_allclose(reflectance(prepared), ground, atol=1e-6)
    assert prepared.about["tiles"] == [["T32TQM"], ["T32TRM"]] and len(prepared.about["acquired"]) == 2
    cloudy = clouds(prepared)
    assert cloudy[:, 40:48].all() and cloudy[:, 90:].all() and cloudy.sum() == 18 * SIDE


def test_tiles_of_two_dates_are_joined_with_a_warning(tmp_path):
    first, later = (write_sentinel2(tmp_path / name, GROUND) for name in ("first", "later"))
    assert prepare(tmp_path, [first, later]).warnings == ()
    metadata = later / "MTD_MSIL2A.xml"
    metadata.write_text(metadata.read_text().replace("START_TIME>2022-01-25", "START_TIME>2022-02-04"))
    [warning] = prepare(tmp_path, [first, later]).warnings
    assert warning.endswith("are of 2022-01-25 to 2022-02-04; where they overlap, the last one counts.")


def test_older_names_with_several_tiles(tmp_path):
    """A product of before December 2016 holds several tiles, and has long names."""
    safe = write_sentinel2(tmp_path, GROUND, level="1C", baseline="02.04")
    old = "S2A_OPER_MSI_L1C_TL_SGS__20160614T155400_A005110_{}_N02.04"
    for tile, west in (("T32TQM", 600_000), ("T32TRM", 600_600)):
        for band, pixels in zip(("B04", "B03", "B02"), GROUND, strict=True):
            path = safe / "GRANULE" / old.format(tile) / "IMG_DATA" / f"{old.format(tile)[:-7]}_{band}.jp2"
            write_jp2(path, (pixels * 1e4).round().astype(np.uint16), Affine(10, 0, west, 0, -10, 5_100_000), 32632)
    shutil.rmtree(next(safe.glob("GRANULE/L1C*")))
    (safe / "MTD_MSIL1C.xml").rename(safe / "S2A_OPER_MTD_SAFL1C_PDMC_20160614T155400_R051_V20160614.xml")
    prepared = prepare(tmp_path, safe)
    np.testing.assert_allclose(reflectance(prepared), np.concatenate([GROUND, GROUND], axis=2), atol=1e-6)
    assert prepared.about["tiles"] == [["T32TQM", "T32TRM"]]


def test_metadata_of_early_surface_reflectance(tmp_path):
    safe = write_sentinel2(tmp_path, GROUND, baseline="02.06")
    edit(safe, ("<BOA_Q", "<L2A_BOA_Q"), ("</BOA_Q", "</L2A_BOA_Q"), ("PRODUCT_URI", "PRODUCT_URI_2A"))
    prepared = prepare(tmp_path, safe)
    np.testing.assert_allclose(reflectance(prepared), GROUND, atol=1e-6)
    assert prepared.about["ids"] == [safe.stem]


def test_without_a_scene_classification_a_warning_says_so(tmp_path):
    safe = write_sentinel2(tmp_path, GROUND)
    next(safe.rglob("*_SCL_20m.jp2")).unlink()
    prepared = prepare(tmp_path, safe)
    assert prepared.clouds is None and "lacks its scene classification" in prepared.warnings[0]
    np.testing.assert_allclose(reflectance(prepared), GROUND, atol=1e-6)


BOMB = '<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "&b;&b;">]><a>&c;</a>'


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("<BOA_ADD_OFFSET ", "<OTHER "), ("</BOA_ADD_OFFSET>", "</OTHER>")], "does not say the offset of B04"),
        ([('band_id="2"', 'band_id="14"')], "does not say the offset of B03"),
        ([(">-1000<", "><")], "lacks BOA_ADD_OFFSET"),
        ([(">-1000<", ">nan<")], "has BOA_ADD_OFFSET 'nan', which is not a number"),
        ([(">10000<", ">0<")], "has BOA_QUANTIFICATION_VALUE 0, which must be positive"),
        ([("BOA_QUANTIFICATION_VALUE", "OTHER")], "lacks BOA_QUANTIFICATION_VALUE"),
        ([("Level-2A_User_Product", "Level-0_User_Product")], "is not the metadata of a Sentinel-2 L1C or L2A product"),
        ([("</n1:General_Info>", "")], "cannot be read as XML .*mismatched tag"),
    ],
)
def test_metadata_that_does_not_say_enough_is_named(tmp_path, changes, message):
    safe = write_sentinel2(tmp_path, GROUND)
    edit(safe, *changes)
    with pytest.raises(DataError, match=f"MTD_MSIL2A.xml {message}") as error:
        prepare(tmp_path, safe)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [BOMB, "", "\0", "é".encode("latin-1")])
def test_damaged_metadata_is_named(tmp_path, content):
    safe = write_sentinel2(tmp_path, GROUND)
    path = safe / "MTD_MSIL2A.xml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=r"MTD_MSIL2A\.xml (cannot be read as XML|is not UTF-8)"):
        prepare(tmp_path, safe)


def test_an_unknown_baseline_is_not_taken_for_one_without_offset(tmp_path):
    for baseline in ("99.99", "", "4"):
        safe = write_sentinel2(tmp_path, GROUND, baseline="02.09")
        edit(safe, (">02.09<", f">{baseline}<"))
        with pytest.raises(DataError, match="does not say the offset of B04"):
            prepare(tmp_path, safe)


def remove(pattern):
    return lambda safe: next(safe.rglob(pattern)).unlink()


def add(pattern, name):
    return lambda safe: shutil.copy(file := next(safe.rglob(pattern)), file.with_name(name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("*_B03_10m.jp2"), r"has no image of B03 at 10 m in GRANULE/L2A_T32TQM_\w+/IMG_DATA"),
        (remove("MTD_*.xml"), r"contains no MTD_MSIL2A\.xml or MTD_MSIL1C\.xml"),
        (add("*_B03_10m.jp2", "other_B03_10m.jp2"), "are both B03 of one granule"),
        (add("MTD_*.xml", "MTD_MSIL1C.xml"), "contains 2 Sentinel-2 products"),
        (lambda safe: shutil.rmtree(safe / "GRANULE"), r"has no image of B04 at 10 m in GRANULE/\*"),
        (lambda safe: next(safe.rglob("*_B02_10m.jp2")).write_bytes(b"damaged"), r"_B02_10m\.jp2 cannot be read"),
    ],
)
def test_what_is_missing_is_named(tmp_path, change, message):
    safe = write_sentinel2(tmp_path, GROUND)
    change(safe)
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, safe)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsg": 32633}, "different reference systems"),
        ({"corner": (600_005, 5_100_000)}, "pixels of different sizes or places"),
        ({"level": "1C"}, "is L2A and .* is L1C; give products of one level"),
        (
            {"baseline": "02.09"},
            r"store reflectance differently \(B04 = 0.0001 x value - 0.1, but B04 = 0.0001 x value ",
        ),
    ],
)
def test_products_that_cannot_be_joined(tmp_path, options, message):
    first = write_sentinel2(tmp_path, GROUND)
    other = write_sentinel2(tmp_path / "other", GROUND, tile="T33TUG", **options)
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, [first, other])


def test_zips_that_cannot_be_used(tmp_path):
    archive = write_sentinel2(tmp_path, GROUND, zipped=True)
    other = write_sentinel2(tmp_path / "other", GROUND, tile="T32TRM")
    with zipfile.ZipFile(two := shutil.copy(archive, tmp_path / "two.zip"), "a") as file:
        for path in other.rglob("*.*"):
            file.write(path, path.relative_to(other.parent))
    with pytest.raises(DataError, match=r"two\.zip contains 2 Sentinel-2 products; give one"):
        prepare(tmp_path, two)
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(DataError, match="cannot be read .*download it again"):
        prepare(tmp_path, archive)
    assert not list(tmp_path.rglob("*.tmp*"))


def test_what_is_not_a_product(tmp_path):
    (tmp_path / "empty.zip").write_bytes(b"")
    write_sentinel2(tmp_path, GROUND, level="1C")
    image = next(tmp_path.rglob("*_B04.jp2"))
    names = [tmp_path, image, tmp_path / "empty.zip", "S2A_MSIL2A_gone.SAFE", "https://x.org/S2A_MSIL2A_a.SAFE", "a\0b"]
    for name in [*names, "x" * 5000, ""]:
        assert not is_product(name, "rgb")
        assert prepare(tmp_path, name).paths == name


def test_a_product_given_twice(tmp_path):
    product = write_sentinel2(tmp_path, np.full((3, 20, 20), 0.1))
    with pytest.raises(DataError, match="is given twice"):
        prepare(tmp_path, [product, f"{product}/"])
