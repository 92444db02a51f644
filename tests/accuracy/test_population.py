import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.accuracy import sample, sample_map
from mm_ovseg.accuracy.population import Population, take_census
from mm_ovseg.accuracy.training_area import TrainingArea
from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.raster import Grid, write_geotiff

GRID = Grid(40, 530, CRS.from_epsg(32652), Affine(10, 0, 500_000, 0, -10, 4_000_000))
NAMES = {0: "water", 1: "road", 254: "none"}


def write(path, pixels, names=NAMES, grid=GRID, nodata=255):
    tags = {f"class_{value}": name for value, name in names.items()}
    write_geotiff(path, pixels[np.newaxis].astype(np.uint8), grid, nodata=nodata, band_tags=tags)
    return path


@pytest.fixture
def pixels():
    return np.random.default_rng(0).choice([0, 1, 254, 255], GRID.shape)


def test_classes_are_strata_and_have_the_names_that_the_map_holds(tmp_path, pixels):
    population = Population(write(tmp_path / "map.tif", pixels))
    census = take_census(population)
    assert (census.values.tolist(), census.names) == ([0, 1, 254], ["water", "road", "none"])
    assert census.pixels.tolist() == [(pixels == value).sum() for value in (0, 1, 254)]
    assert (census.blocks.sum(axis=1) == census.pixels).all()
    rows, columns = np.indices(GRID.shape)
    inside = (rows // 34 == 15) & (columns // 3 == 2)  # of 16 x 16 blocks, 34 rows and 3 columns each
    assert census.blocks[:, 15 * 16 + 2].tolist() == [(inside & (pixels == value)).sum() for value in (0, 1, 254)]


def test_pixels_are_found_in_whatever_strip_they_are(tmp_path, pixels):
    strata = np.where(pixels == 255, 0, np.arange(40) // 20 + 7)
    population = Population(write(tmp_path / "map.tif", pixels), write(tmp_path / "strata.tif", strata, {}, nodata=0))
    rows, columns = np.array([0, 529, 511, 512, 3]), np.array([39, 0, 5, 6, 20])
    classes, found = population.at(rows, columns)
    assert (classes == pixels[rows, columns]).all()
    assert (found == np.where(strata == 0, 255, strata)[rows, columns]).all()
    assert take_census(population).names == ["stratum 7", "stratum 8"]


def test_strata_of_another_class_map_have_its_names(tmp_path, pixels):
    other = write(tmp_path / "old.tif", pixels, {0: "lake", 1: "street"})
    census = take_census(Population(write(tmp_path / "map.tif", pixels), other))
    assert census.names == ["lake", "street", "none"]


def test_a_class_may_be_called_none(tmp_path, pixels):
    path = write(tmp_path / "map.tif", np.where(pixels == 254, 0, pixels), {0: "None", 1: "road"})
    assert Population(path).class_names == {0: "None", 1: "road"}


def test_names_that_are_no_names(tmp_path, pixels):
    with pytest.raises(VocabularyError, match=r"map.tif: Class names given more than once: Water"):
        Population(write(tmp_path / "map.tif", pixels, {0: "water", 1: "Water"}))
    with pytest.raises(DataError, match="map.tif holds the values 1, for which it has no class names"):
        take_census(Population(write(tmp_path / "map.tif", pixels, {0: "water"})))


def test_the_training_area_is_where_its_files_are_in_whatever_system(tmp_path, pixels):
    tile = GRID.window(100, 10, 60, 20)
    write(tmp_path / "train" / "a.tif", pixels[100:160, 10:30], grid=tile)
    write(tmp_path / "train" / "b" / "c.tif", pixels[500:, 30:], grid=GRID.window(500, 30, 30, 10))
    area = TrainingArea(GRID, [tmp_path / "train"])
    expected = np.zeros(GRID.shape, bool)
    expected[100:160, 10:30] = expected[500:, 30:] = True
    rows, columns = np.indices(GRID.shape)
    assert (area.contains(rows, columns) == expected).all()
    assert (np.concatenate([area.mask(0, 512, 40), area.mask(512, 18, 40)]) == expected).all()
    census = take_census(Population(write(tmp_path / "map.tif", pixels)), area)
    assert census.in_training.tolist() == [(expected & (pixels == value)).sum() for value in (0, 1, 254)]
    wide = Grid(60, 60, CRS.from_epsg(4326), Affine(0.001, 0, 128.98, 0, -0.001, 36.2))
    write(tmp_path / "wide.tif", np.zeros((60, 60)), grid=wide)
    assert TrainingArea(GRID, [tmp_path / "wide.tif"]).contains(rows, columns).any()


def test_a_sample_whose_points_cannot_be_written_leaves_nothing(tmp_path, pixels, monkeypatch):
    def fail(*arguments):
        raise DataError("The disk is full.")

    path = write(tmp_path / "map.tif", pixels)
    monkeypatch.setattr(sample, "write_points", fail)
    with pytest.raises(DataError, match="full"):
        sample_map(path, tmp_path / "points.gpkg", num_points=60, min_per_stratum=2)
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]
