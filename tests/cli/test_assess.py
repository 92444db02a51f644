"""`mm-ovseg sample` and `mm-ovseg assess` as a user runs them, on a drawn map whose errors are known."""

import json
import shutil

import geopandas
import numpy as np
import pytest
import shapely
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.raster import Grid, write_geotiff
from tests.conftest import run_cli

NAMES = {0: "water, river", 1: "Straße", 2: "forest", 254: "none"}
TAGS = {f"class_{value}": name for value, name in NAMES.items() if value != 254}
UTM = Grid(600, 700, CRS.from_epsg(32652), Affine(10, 0, 500_000, 0, -10, 4_000_000))
DEGREES = Grid(600, 700, CRS.from_epsg(4326), Affine(0.1, 0, 0, 0, -0.1, 70))  # pixels of the south are thrice as large


def draw_map(seed=0):
    """A class map in patches, (H, W), and the truth, which differs in one pixel of ten and more often in the south."""
    generator = np.random.default_rng(seed)
    patches = generator.choice([*NAMES, 255], (70, 60), p=[0.06, 0.14, 0.5, 0.2, 0.1])
    mapped = np.kron(patches, np.ones((10, 10), np.int64)).astype(np.uint8)
    wrong = generator.random(mapped.shape) < np.linspace(0, 0.3, len(mapped))[:, np.newaxis]
    return mapped, np.where(wrong, generator.choice([*NAMES], mapped.shape), mapped)


def write_map(path, pixels, grid=UTM, tags=TAGS, nodata=255):
    write_geotiff(path, pixels[np.newaxis], grid, nodata=nodata, band_tags=tags)
    return path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with map.tif, a labelled sample points.gpkg, and its points.json."""
    folder = tmp_path_factory.mktemp("drawn")
    write_map(folder / "map.tif", draw_map()[0])
    run_cli("sample", "--map", folder / "map.tif", "--n", 400, "--output", folder / "points.gpkg")
    label(folder / "points.gpkg")
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with map.tif, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    write_map(tmp_path / "map.tif", draw_map()[0])
    return tmp_path


@pytest.fixture
def labelled(folder, drawn):
    """The same, and points.gpkg with labels, and its points.json."""
    for name in ("points.gpkg", "points.json"):
        shutil.copy(drawn / name, name)
    return folder


def sample(*words, output="points.gpkg", n=400):
    run_cli("sample", "--map", "map.tif", "--n", n, "--output", output, *words)


def label(path="points.gpkg", output=None, truth=None, grid=UTM, names=NAMES, **changes):
    """Fill in what is true at each point, as an interpreter does, by the place alone."""
    truth = draw_map()[1] if truth is None else truth
    frame = geopandas.read_file(path)
    columns, rows = ~grid.transform @ (frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy())
    values = truth[np.floor(rows).astype(int), np.floor(columns).astype(int)]
    frame["reference_class"] = [names[value] for value in values.tolist()]
    for function in changes.values():
        frame = function(frame)
    frame.to_file(output or path)


def assess(*words, reference="points.gpkg", output="accuracy.json"):
    run_cli("assess", "--map", "map.tif", "--reference", reference, "--output", output, *words)
    with open(output, encoding="utf-8") as file:
        return json.load(file)


def fails(capsys, run, *arguments, **options):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        run(*arguments, **options)
    assert stopped.value.code == 2
    [message] = capsys.readouterr().err.splitlines()
    assert message.startswith("error: ")
    return message


def test_from_a_map_to_its_accuracy_and_back(folder, capsys):
    sample()
    printed = capsys.readouterr().out
    assert "| water, river |" in printed and "Wrote points.gpkg and points.json." in printed
    frame = geopandas.read_file("points.gpkg")
    assert list(frame.columns) == ["id", "reference_class", "x", "y", "geometry"]  # and nothing that tells the class
    assert frame["id"].tolist() == list(range(1, 401)) and frame["reference_class"].isna().all()
    assert frame.crs.to_epsg() == 32652 and (frame["x"] % 10 == 5).all()
    label()
    report = assess()
    printed = capsys.readouterr().out
    assert "Overall accuracy: 0." in printed and "| water, river |" in printed and "Wrote accuracy.json." in printed
    mapped, truth = draw_map()
    covered = mapped != 255
    assert [entry["name"] for entry in report["classes"]] == list(NAMES.values())
    matrix = np.array(report["error_matrix"]["points"])
    assert matrix.sum() == report["points"] == 400 and min(matrix.sum(axis=1)) >= 50
    # Pixels are counted one by one, and measured on the ellipsoid.
    for entry, value in zip(report["classes"], NAMES, strict=True):
        assert entry["mapped_pixels"] == (mapped == value).sum()
        assert entry["mapped_hectares"] == pytest.approx(0.01 * (mapped == value).sum(), rel=0.002)
        estimate = entry["area_hectares"]
        assert abs(estimate["value"] - 0.01 * (covered & (truth == value)).sum()) < 3.5 * estimate["standard_error"]
    low, high = report["overall_accuracy"]["interval_95"]
    assert low < (mapped == truth)[covered].mean() < high
    assert report["design"] == "points.json" and report["warnings"] == []


def relative_sizes():
    """The sizes of pixels of each row of the grid in degrees, on the ellipsoid, (700,)."""
    latitudes = np.radians(70 - 0.1 * (np.arange(700) + 0.5))
    return np.cos(latitudes) / (1 - 0.00669438 * np.sin(latitudes) ** 2) ** 2


def test_a_point_counts_by_the_size_of_its_pixel(folder):
    mapped, truth = draw_map()
    write_map(folder / "map.tif", mapped, DEGREES)
    sample()
    label(grid=DEGREES)
    report = assess()
    rows, columns = np.array(json.loads((folder / "points.json").read_text())["points"])[:, 1:3].T
    sizes, found = relative_sizes()[rows], mapped[rows, columns]
    areas = {value: ((mapped == value) * relative_sizes()[:, np.newaxis]).sum() for value in NAMES}
    weights = sum(areas[value] * (found == value) / sizes[found == value].sum() for value in NAMES) * sizes
    for entry, value in zip(report["classes"], NAMES, strict=True):
        share = weights[truth[rows, columns] == value].sum() / sum(areas.values())
        assert entry["area_share"]["value"] == pytest.approx(share, rel=1e-3)


@pytest.mark.parametrize("grid", [UTM, DEGREES], ids=["UTM", "degrees"])
def test_intervals_hold_the_true_areas_through_both_commands(folder, grid):
    mapped, truth = draw_map()
    write_map(folder / "map.tif", mapped, grid)
    heights = np.ones(700) if grid is UTM else relative_sizes()
    sizes = np.where(mapped == 255, 0, heights[:, np.newaxis])
    true_shares = [(sizes * (truth == value)).sum() / sizes.sum() for value in NAMES]
    right = (sizes * (truth == mapped)).sum() / sizes.sum()
    held, scores = [], []
    for seed in range(5):
        sample("--seed", seed, output=f"{seed}.gpkg", n=250)
        label(f"{seed}.gpkg", grid=grid)
        report = assess(reference=f"{seed}.gpkg")
        estimates = [entry["area_share"] for entry in report["classes"]] + [report["overall_accuracy"]]
        for estimate, true in zip(estimates, [*true_shares, right], strict=True):
            held.append(estimate["interval_95"][0] <= true <= estimate["interval_95"][1])
            scores.append((estimate["value"] - true) / estimate["standard_error"])
    assert np.mean(held) > 0.8 and abs(np.mean(scores)) < 0.7 and np.std(scores) < 1.5


def test_a_seed_gives_the_same_points(folder):
    for seed, name in ((0, "a"), (0, "b"), (1, "c")):
        sample("--seed", seed, output=f"{name}.gpkg")
    places = [geopandas.read_file(f"{name}.gpkg").geometry.to_wkt().tolist() for name in "abc"]
    assert places[0] == places[1] != places[2]


def test_a_sample_says_how_right_another_map_is(labelled):
    shutil.move("map.tif", "old.tif")
    mapped, truth = draw_map()
    perfect = np.where(mapped == 255, 255, truth).astype(np.uint8)
    write_map(labelled / "map.tif", perfect)
    report = assess("--strata", "old.tif")
    assert report["overall_accuracy"]["value"] == 1
    assert [entry["mapped_pixels"] for entry in report["classes"]] == [(perfect == value).sum() for value in NAMES]
    assert report["strata"][0]["pixels"] == (mapped == 0).sum()


def test_strata_of_a_raster_of_their_own(folder):
    strata = np.repeat(np.repeat([[7, 8, 9]], 700, axis=0), 200, axis=1).astype(np.uint8)
    write_map(folder / "districts.tif", strata, tags={}, nodata=None)
    sample("--strata", "districts.tif", "--min-per-stratum", 90, n=270)
    label()
    report = assess("--strata", "districts.tif")
    assert [(entry["name"], entry["points"]) for entry in report["strata"]] == [
        ("stratum 7", 90), ("stratum 8", 90), ("stratum 9", 90),
    ]  # fmt: skip
    mapped, truth = draw_map()
    covered = mapped != 255
    value, error = (report["overall_accuracy"][key] for key in ("value", "standard_error"))
    assert abs(value - (mapped == truth)[covered].mean()) < 3.5 * error


def test_points_from_elsewhere_in_another_system(labelled, capsys):
    label(output="plots.geojson", away=lambda frame: frame.to_crs(4326).rename(columns={"reference_class": "cover"}))
    report = assess("--field", "cover", reference="plots.geojson")
    label()
    own = assess()
    assert report["error_matrix"] == own["error_matrix"] and report["classes"] == own["classes"]
    assert "come without a design" in report["warnings"][0] and report["design"] is None
    assert fails(capsys, assess, reference="plots.geojson").startswith(
        "error: plots.geojson has no attribute 'reference_class'; its attributes are id, cover"
    )


def test_labels_are_names_synonyms_or_numbers(labelled):
    names = {0: " RIVER", 1: "Straße", 2: "Forest", 254: "None"}
    label(names=names)
    by_name = assess()
    label(names={value: value for value in NAMES}, output="numbers.gpkg")
    assert assess("--design", "points.json", reference="numbers.gpkg")["classes"] == by_name["classes"]


def test_a_map_from_elsewhere_gets_its_names_and_its_nodata_value(folder, capsys):
    pixels = np.where(draw_map()[0] == 255, 9, draw_map()[0] % 3).astype(np.uint8)
    write_map(folder / "map.tif", pixels, tags={}, nodata=9)
    assert "map.tif does not hold the names of its classes; give them with --classes" in fails(capsys, sample)
    sample("--classes", "water,road,forest")
    label(truth=pixels, names={0: "water", 1: "road", 2: "forest"})
    report = assess("--classes", "water,road,forest")
    assert report["overall_accuracy"]["value"] == 1 and len(report["classes"]) == 3
    assert report["warnings"] and "their standard error is 0" in report["warnings"][0]
    assert "holds the values 2, for which it has no class names" in fails(
        capsys, sample, "--classes", "water,road", output="b.gpkg"
    )


CASES = {
    "moved": (
        {"move": lambda frame: frame.set_geometry(frame.translate(30, 0).where(frame.index < 2, frame.geometry))},
        "points.gpkg has 2 points that were not drawn, the first of them is number 1",
    ),
    "dropped": (
        {"drop": lambda frame: frame[frame["id"] > 7]},
        "points.gpkg lacks 7 of the 400 points that were drawn (id 1, 2, 3, 4, 5, ...)",
    ),
    "twice": (
        {"repeat": lambda frame: frame.loc[[*frame.index, 0]]},
        "points.gpkg: the points 1 and 401 are in one pixel",
    ),
    "unlabelled": (
        {"clear": lambda frame: frame.assign(reference_class=frame["reference_class"].where(frame["id"] > 12, None))},
        "points.gpkg has 12 points of 400 without a 'reference_class'; label them, or leave them out with "
        "--skip-unlabelled",
    ),
    "unknown class": (
        {"name": lambda frame: frame.assign(reference_class="swamp")},
        "points.gpkg: point 1 has the class 'swamp'; the map's classes are 'water, river', 'Straße', 'forest', 'none'.",
    ),
    "lines": (
        {"lines": lambda frame: frame.set_geometry(frame.buffer(3).boundary)},
        "points.gpkg has features that are not a single point",
    ),
    "no system": (
        {"strip": lambda frame: frame.set_crs(None, allow_override=True)},
        "points.gpkg has no coordinate reference system",
    ),
}


@pytest.mark.filterwarnings("ignore:'crs' was not provided:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_points_that_are_not_the_sample_are_refused(labelled, capsys, name):
    changes, message = CASES[name]
    label(**changes)
    assert message in fails(capsys, assess)
    assert not (labelled / "accuracy.json").exists()


def test_unlabelled_points_may_be_left_out_if_the_others_are_still_a_sample(labelled, capsys):
    label(clear=lambda frame: frame.assign(reference_class=frame["reference_class"].where(frame["id"] > 30, None)))
    report = assess("--skip-unlabelled")
    assert (report["points"], report["unlabelled_points"]) == (370, 30) and "30 points" in report["warnings"][0]
    label(
        north=lambda frame: frame.assign(reference_class=frame["reference_class"].where(frame["y"] > 3_996_500, None))
    )
    assert "is not a random sample: of" in fails(capsys, assess, "--skip-unlabelled")


def test_a_sample_of_another_map(labelled, capsys):
    write_map(labelled / "map.tif", draw_map(seed=1)[0])
    message = fails(capsys, assess)
    assert "The strata of map.tif are not those that the sample was drawn from (map.tif, as it was then)" in message


def test_points_in_one_tile_are_refused(folder, capsys):
    mapped, truth = draw_map()
    rows, columns = np.indices((200, 200)).reshape(2, -1)[:, ::97] + 100
    rows, columns = (index[mapped[rows, columns] != 255] for index in (rows, columns))
    x, y = UTM.transform @ (columns + 0.5, rows + 0.5)
    labels = [NAMES[value] for value in truth[rows, columns].tolist()]
    frame = geopandas.GeoDataFrame({"reference_class": labels}, geometry=shapely.points(x, y), crs=32652)
    frame.to_file("tile.gpkg")
    message = fails(capsys, assess, reference="tile.gpkg")
    assert "tile.gpkg is not a random sample: of " in message and "draw one with mm-ovseg sample" in message


def test_points_where_the_model_was_trained_are_refused(labelled, capsys):
    """Its tiles are small and all over the map, so that its points are spread well."""
    mapped, truth = draw_map()
    trained = np.zeros(mapped.shape, bool)
    for number, (row, column) in enumerate(np.ndindex(10, 8)):
        row, column = 70 * row + 20, 75 * column + 30
        trained[row : row + 12, column : column + 12] = True
        tile = mapped[row : row + 12, column : column + 12]
        write_map(labelled / "train" / "labels" / f"{number}.tif", tile, UTM.window(row, column, 12, 12))
    report = assess("--training", "train")
    places = np.array(json.loads((labelled / "points.json").read_text())["points"])
    inside = report["points_in_training_area"]
    assert inside == trained[places[:, 1], places[:, 2]].sum() > 5
    assert f"{inside} points are in the training area" in report["warnings"][-1]
    places = np.flatnonzero(trained & (mapped != 255))
    rows, columns = np.divmod(np.random.default_rng(0).choice(places, 100, replace=False), 600)
    x, y = UTM.transform @ (columns + 0.5, rows + 0.5)
    labels = [NAMES[value] for value in truth[rows, columns].tolist()]
    geopandas.GeoDataFrame({"reference_class": labels}, geometry=shapely.points(x, y), crs=32652).to_file("train.gpkg")
    message = fails(capsys, assess, "--training", "train", reference="train.gpkg")
    assert "train.gpkg: 100 of 100 points are in the training area, where a random sample has about 3" in message
    assert assess(reference="train.gpkg")["overall_accuracy"]  # which nobody can tell without the training files


@pytest.mark.parametrize("words, message", [
    (["--n", 120], "--n is 120, but 50 points in each of 4 strata are 200"),
    (["--n", 500, "--min-per-stratum", 1], "--min-per-stratum needs 2 or more"),
    (["--n", 500, "--seed", -1], "--seed 0 or more"),
    (["--n", 500, "--map", "none.tif"], "none.tif does not exist"),
    (["--n", 500, "--map", "plain.tif"], "plain.tif is not georeferenced"),
    (["--n", 500, "--map", "floats.tif"], "floats.tif holds float32, but classes and strata are uint8"),
    (["--n", 500, "--strata", "small.tif"], "small.tif 100x100; they must have the same size"),
    (["--n", 500, "--strata", "holes.tif"], "holes.tif has no stratum for"),
    (["--n", 500, "--map", "empty.tif"], "empty.tif has no pixel with a class"),
    (["--n", 500, "--output", "a.shp"], "'a.shp' must be a GeoPackage"),
    (["--n", 500, "--output", "points.gpkg"], "points.gpkg exists, and may hold labels"),
    (["--n", 500, "--output", "lone.gpkg"], "lone.json exists, and may hold labels"),
])  # fmt: skip
def test_wrong_input_of_sample_is_one_sentence_and_nothing_written(folder, capsys, words, message):
    mapped = draw_map()[0]
    write_map(folder / "plain.tif", mapped, Grid(600, 700))
    write_map(folder / "floats.tif", mapped.astype(np.float32))
    write_map(folder / "small.tif", mapped[:100, :100], UTM.window(0, 0, 100, 100))
    write_map(folder / "holes.tif", np.where(mapped == 2, 255, mapped).astype(np.uint8))
    write_map(folder / "empty.tif", np.full_like(mapped, 255))
    for name in ("points.gpkg", "lone.json"):
        (folder / name).write_text("labels of weeks")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    arguments = ["sample", "--map", "map.tif", "--output", "new.gpkg", *words]
    assert message in fails(capsys, run_cli, *arguments)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("words, message", [
    (["--reference", "none.gpkg"], "none.gpkg does not exist"),
    (["--reference", "map.tif"], "map.tif cannot be read as a vector file"),
    (["--design", "report.json"], "report.json is not the design of a sample"),
    (["--design", "none.json"], "none.json cannot be read"),
    (["--training", "none"], "none does not exist"),
    (["--training", "plain.tif"], "plain.tif is not georeferenced, so its place in the map is unknown"),
    (["--training", "void"], "void holds no rasters"),
    (["--layer", "plots"], "points.gpkg has no layer 'plots'; its layers are points"),
    (["--output", "points.json"], "points.json is the design of the sample itself; choose another --output"),
    (["--output", "points.gpkg"], "points.gpkg is the file of points itself"),
    (["--output", "map.tif"], "map.tif is the map itself"),
    (["--map", "part.tif"], "of 400 points outside of part.tif"),
    (["--map", "holes.tif", "--strata", "map.tif"], "and as --map one with classes at the same pixels"),
])  # fmt: skip
def test_wrong_input_of_assess_is_one_sentence_and_nothing_written(labelled, capsys, words, message):
    mapped = draw_map()[0]
    (labelled / "void").mkdir()
    (labelled / "report.json").write_text('{"kind": "report"}')
    write_map(labelled / "plain.tif", mapped, Grid(600, 700))
    write_map(labelled / "part.tif", mapped[:300], UTM.window(0, 0, 300, 600))
    write_map(labelled / "holes.tif", np.where(mapped == 2, 255, mapped).astype(np.uint8))
    if "part.tif" in words:
        (labelled / "points.json").unlink()
    before = {path: path.read_bytes() for path in labelled.iterdir() if path.is_file()}
    arguments = ["assess", "--map", "map.tif", "--reference", "points.gpkg", "--output", "new.json", *words]
    assert message in fails(capsys, run_cli, *arguments)
    assert {path: path.read_bytes() for path in labelled.iterdir() if path.is_file()} == before
