import resource

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from mm_ovseg.errors import DataError
from mm_ovseg.inference import write_class_map_geotiff
from mm_ovseg.raster import cog
from mm_ovseg.raster.cog import write_cog
from tests.conftest import no_warnings

NAMES = ["city", "Wald, ö", 'a<b>&"c"']
COLORS = [[200, 0, 0], [0, 120, 0], [0, 0, 255]]
TRANSFORM = Affine(0.5, 0, 500000, 0, -0.5, 4000000)
ROTATED = Affine(0.5, 0.1, 500000, 0.2, -0.5, 4000000)
SHAPE = (1100, 1300)


def write_map(path, crs="EPSG:32652", transform=TRANSFORM):
    class_map = np.random.default_rng(0).integers(0, 3, SHAPE)
    class_map[:100, :300] = 255
    write_class_map_geotiff(path, class_map, crs=crs, transform=transform, class_names=NAMES, colors=COLORS)
    return path


def write_bands(path, bands, **profile):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(bands),
        height=bands.shape[1],
        width=bands.shape[2],
        dtype="uint8",
        crs="EPSG:32652",
        transform=TRANSFORM,
        **profile,
    ) as file:
        file.write(bands)
        for index in file.indexes:
            file.set_band_description(index, f"probability of {NAMES[index % 3]}")
            file.update_tags(index, number=index)
        file.update_tags(model="mm_ovseg")
    return path


def test_it_is_a_cloud_optimised_geotiff(tmp_path):
    write_cog(write_map(tmp_path / "map.tif"), tmp_path / "cog.tif", categorical=True)
    with rasterio.open(tmp_path / "cog.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.compression.name == "deflate"
        assert file.block_shapes == [(512, 512)]
        assert file.overviews(1) == [2, 4]


@pytest.mark.parametrize(
    ("crs", "transform"),
    [("EPSG:32652", TRANSFORM), ("EPSG:4326", Affine(1e-5, 0, 127, 0, -1e-5, 37)), ("EPSG:32652", ROTATED)],
    ids=["projected", "geographic", "rotated"],
)
def test_everything_of_a_class_map_survives(tmp_path, crs, transform):
    source, path = write_map(tmp_path / "map.tif", crs, transform), tmp_path / "new" / "cog.tif"
    write_cog(source, path, categorical=True)
    with rasterio.open(source) as expected, rasterio.open(path) as file:
        assert (file.read() == expected.read()).all()
        assert file.crs == expected.crs == rasterio.crs.CRS.from_string(crs)
        assert file.transform == transform
        assert file.nodata == 255
        assert file.colormap(1) == expected.colormap(1)
        assert file.tags(1) == {f"class_{index}": name for index, name in enumerate(NAMES)}
        assert file.descriptions == ("land cover class",)
    assert list(path.parent.iterdir()) == [path]


@no_warnings
def test_a_map_without_georeference(tmp_path):
    write_cog(write_map(tmp_path / "map.tif", None, None), tmp_path / "cog.tif", categorical=True)
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(tmp_path / "cog.tif") as file,
        rasterio.open(tmp_path / "map.tif") as expected,
    ):
        assert file.crs is None
        assert file.transform.is_identity
        assert (file.read() == expected.read()).all()
        assert file.tags(1) == expected.tags(1)


def test_many_bands_keep_their_descriptions_and_tags(tmp_path):
    bands = np.random.default_rng(0).integers(0, 256, (5, 600, 700), dtype=np.uint8)
    source = write_bands(tmp_path / "source.tif", bands)
    write_cog(source, tmp_path / "cog.tif", categorical=False)
    with rasterio.open(source) as expected, rasterio.open(tmp_path / "cog.tif") as file:
        assert (file.read() == bands).all()
        assert file.nodata is None
        assert file.descriptions == expected.descriptions
        assert [file.tags(index) for index in file.indexes] == [{"number": str(index)} for index in range(1, 6)]
        assert file.tags()["model"] == "mm_ovseg"


@pytest.mark.parametrize(("categorical", "expected"), [(True, {0, 200}), (False, {100})])
def test_overviews_of_classes_hold_classes_and_others_averages(tmp_path, categorical, expected):
    checkers = (np.indices((1, 1024, 1024)).sum(axis=0) % 2 * 200).astype(np.uint8)
    source = write_bands(tmp_path / "source.tif", checkers)
    with rasterio.open(source, "r+") as file:  # overviews of the source's own, which must not be taken over
        file.build_overviews([2], rasterio.enums.Resampling.mode)
        file.update_tags(note="x")
    write_cog(source, tmp_path / "cog.tif", categorical=categorical)
    with rasterio.open(tmp_path / "cog.tif", overview_level=0) as file:
        assert file.shape == (512, 512)
        assert set(np.unique(file.read())) <= expected


def test_nodata_is_left_out_of_averages(tmp_path):
    bands = np.full((1, 1024, 1024), 60, np.uint8)
    bands[:, ::2] = 255
    write_cog(write_bands(tmp_path / "source.tif", bands, nodata=255), tmp_path / "cog.tif", categorical=False)
    with rasterio.open(tmp_path / "cog.tif", overview_level=0) as file:
        assert (file.read() == 60).all()


def test_the_same_source_gives_the_same_bytes(tmp_path):
    source = write_map(tmp_path / "map.tif")
    write_cog(source, tmp_path / "first.tif", categorical=True)
    with rasterio.Env(GDAL_NUM_THREADS="4"):
        write_cog(source, tmp_path / "other" / "second name.tif", categorical=True)
    assert (tmp_path / "first.tif").read_bytes() == (tmp_path / "other" / "second name.tif").read_bytes()


def test_the_cache_is_bounded_only_meanwhile(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        rasterio.shutil, "copy", lambda *_, **__: seen.append(rasterio._env.get_gdal_config("GDAL_CACHEMAX"))
    )
    source = write_map(tmp_path / "map.tif")
    before = rasterio._env.get_gdal_config("GDAL_CACHEMAX")
    with pytest.raises(DataError):  # since nothing was written
        write_cog(source, tmp_path / "cog.tif", categorical=True)
    assert seen == [64 << 20]
    assert rasterio._env.get_gdal_config("GDAL_CACHEMAX") == before


def test_a_disk_that_is_full_from_the_start(tmp_path, monkeypatch):
    source, path = write_map(tmp_path / "map.tif"), tmp_path / "cog.tif"
    path.write_text("old")
    usage = cog.shutil._ntuple_diskusage(1 << 40, 1 << 40, 1 << 20)
    monkeypatch.setattr(cog.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match=rf"{path} cannot be written \(No space left on device: 1 of \d MiB\)"):
        write_cog(source, path, categorical=True)
    assert path.read_text() == "old"
    assert {file.name for file in tmp_path.iterdir()} == {"map.tif", "cog.tif"}


@pytest.mark.parametrize("part", [0.9, 0.999])
def test_a_disk_that_fills_up_while_writing(tmp_path, part):
    source, path = write_map(tmp_path / "map.tif"), tmp_path / "cog.tif"
    write_cog(source, path, categorical=True)
    old = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(part * len(old)), limits[1]))
    try:
        with pytest.raises(DataError, match=rf"{path} cannot be written \(.*is the disk full\?\)"):
            write_cog(source, path, categorical=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == old
    assert {file.name for file in tmp_path.iterdir()} == {"map.tif", "cog.tif"}


def test_sources_that_cannot_be_read(tmp_path):
    path = tmp_path / "cog.tif"
    with pytest.raises(DataError, match="map.tif does not exist"):
        write_cog(tmp_path / "map.tif", path, categorical=True)
    (tmp_path / "map.tif").write_text("no raster")
    with pytest.raises(DataError, match="map.tif cannot be read"):
        write_cog(tmp_path / "map.tif", path, categorical=True)
    content = write_map(tmp_path / "map.tif").read_bytes()
    (tmp_path / "map.tif").write_bytes(content[:100000] + bytes(1000) + content[101000:])
    with pytest.raises(DataError, match=r"cog.tif cannot be written \(.*map.tif"):
        write_cog(tmp_path / "map.tif", path, categorical=True)
    assert [file.name for file in tmp_path.iterdir()] == ["map.tif"]


def test_unwritable_places_are_data_errors_that_name_the_file(tmp_path):
    source = write_map(tmp_path / "map.tif")
    (tmp_path / "folder.tif" / "inside").mkdir(parents=True)
    for path in (source / "cog.tif", tmp_path / "folder.tif"):
        with pytest.raises(DataError, match=f"{path} cannot be written"):
            write_cog(source, path, categorical=True)
    assert {file.name for file in tmp_path.iterdir()} == {"map.tif", "folder.tif"}
