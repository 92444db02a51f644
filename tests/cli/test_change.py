"""`mm-ovseg change` as a user runs it, on drawn maps whose changes are known."""

import csv
import json
from xml.etree import ElementTree

import numpy as np
import pyogrio
import pytest
import rasterio
from rasterio import Affine
from rasterio.crs import CRS

from mm_ovseg.inference.areas import measure_values
from mm_ovseg.raster import Grid, write_geotiff
from tests.conftest import run_cli

NAMES = {0: "water, river", 1: "forest", 2: "city"}
COLORS = {0: (0, 0, 255), 1: (0, 120, 0), 2: (200, 0, 0), 254: (190, 190, 190)}
UTM = Grid(60, 700, CRS.from_epsg(32652), Affine(10, 0, 500_000, 0, -10, 4_000_000))
PIXEL = 0.01 / 0.9996**2  # hectares on the central meridian


def write_map(path, pixels, grid=UTM, names=NAMES, colors=COLORS, nodata=255, images=None):
    tags = {f"class_{value}": name for value, name in names.items()}
    write_geotiff(path, pixels[np.newaxis].astype(np.uint8), grid, nodata=nodata, band_tags=tags, colors=colors)
    if images is not None:
        path.with_suffix(".json").write_text(json.dumps({"map": path.name, "images": images}))
    return path


def draw(seed, values=(0, 1, 2, 254, 255), shape=UTM.shape):
    return np.random.default_rng(seed).choice(values, shape).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with before.tif and after.tif, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    write_map(tmp_path / "before.tif", draw(0))
    write_map(tmp_path / "after.tif", draw(1))
    return tmp_path


def change(*words, before="before.tif", after="after.tif", output="change.tif"):
    run_cli("change", "--before", before, "--after", after, "--output", output, *words)
    with open("change.json", encoding="utf-8") as file:
        return json.load(file)


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def fails(capsys, *words, **options):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        change(*words, **options)
    assert stopped.value.code == 2
    *_, message = capsys.readouterr().err.splitlines()
    assert message.startswith("error: ")
    return message


def test_every_pair_of_classes_is_counted_measured_and_drawn(folder, capsys):
    report = change()
    before, after, changes = draw(0), draw(1), read("change.tif")
    known = (before != 255) & (after != 255)
    names = {0: "water", 1: "forest", 2: "city", 254: "none"}
    assert (changes[~known] == 255).all() and (changes[known & (before == after)] == 0).all()
    assert report["matrix"]["classes"] == list(names.values()) and report["warnings"] == []
    by_pair = {(entry["from"], entry["to"]): entry for entry in report["changes"]}
    assert len(by_pair) == 12
    for row, old in enumerate(names):
        for column, new in enumerate(names):
            here = (before == old) & (after == new)
            assert report["matrix"]["pixels"][row][column] == here.sum()
            assert report["matrix"]["hectares"][row][column] == pytest.approx(here.sum() * PIXEL, rel=1e-3)
            if old != new:
                entry = by_pair.pop((names[old], names[new]))
                assert set(np.unique(changes[here])) == {entry["value"]} and entry["pixels"] == here.sum()
    assert [entry["value"] for entry in report["changes"]] == list(range(1, 13))
    assert [entry["pixels"] for entry in report["changes"]] == sorted(
        (entry["pixels"] for entry in report["changes"]), reverse=True
    )
    assert len({tuple(entry["color"]) for entry in report["changes"]}) == 12
    for entry, value in zip(report["classes"], names, strict=True):
        was, is_now = known & (before == value), known & (after == value)
        assert (entry["before"]["pixels"], entry["after"]["pixels"]) == (was.sum(), is_now.sum())
        assert entry["gain"]["pixels"] == (is_now & ~was).sum() and entry["loss"]["pixels"] == (was & ~is_now).sum()
        assert entry["net"]["hectares"] == pytest.approx((is_now.sum() - was.sum()) * PIXEL, abs=0.01)
    assert report["unknown"]["pixels"] == (~known).sum()
    assert report["unchanged"]["pixels"] == (known & (before == after)).sum()
    printed = capsys.readouterr().out
    assert "| forest " in printed and "(classes of water: water)" in printed
    assert "% of the known area is unchanged" in printed and "Wrote change.tif." in printed


def test_the_map_is_a_class_map_with_names_colours_and_a_style(folder, capsys):
    report = change("--quiet", "--deliver", "table")
    assert capsys.readouterr().out == ""
    with rasterio.open("change.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG" and file.nodata == 255
        assert (file.crs, file.transform) == (UTM.crs, UTM.transform)
        tags, colors = file.tags(1), file.colormap(1)
    assert tags["class_0"] == "unchanged"
    with open("change.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for entry, row in zip(report["changes"], rows[:12], strict=True):
        assert tags[f"class_{entry['value']}"] == f"{entry['from']} → {entry['to']}"
        assert colors[entry["value"]] == (*entry["color"], 255)
        assert (row["from"], row["to"], int(row["pixels"])) == (entry["from"], entry["to"], entry["pixels"])
    assert {row["from"] for row in rows[12:]} == {row["to"] for row in rows[12:]} == {"water", "forest", "city", "none"}
    assert (folder / "change.tif.aux.xml").is_file() and (folder / "change_flood.tif.aux.xml").is_file()
    shown = ElementTree.parse("change.qml").findall(".//paletteEntry")
    assert [int(entry.get("value")) for entry in shown] == list(range(1, 13))  # what is unchanged is transparent
    # It can be assessed like any map.
    run_cli("sample", "--map", "change.tif", "--n", 200, "--min-per-stratum", 10, "--output", "points.gpkg")


def test_one_change_into_a_class_has_the_colour_of_the_class(folder):
    write_map(folder / "before.tif", draw(0, (1, 2)))
    write_map(folder / "after.tif", draw(1, (2, 1)))
    colors = {entry["to"]: entry["color"] for entry in change()["changes"]}
    assert colors == {"forest": list(COLORS[1]), "city": list(COLORS[2])}


def test_a_flood_is_water_after_not_before_and_not_permanent(folder):
    before, after = draw(0), draw(1)
    wet_before, wet_after, known = before == 0, after == 0, (before != 255) & (after != 255)
    expected = np.select([~known, wet_before & wet_after, wet_after, wet_before], [255, 2, 1, 3], default=0)
    report = change()
    np.testing.assert_array_equal(read("change_flood.tif"), expected)
    assert report["flood"]["water"] == ["water"] and report["flood"]["permanent"] is None
    for entry in report["flood"]["classes"]:
        assert entry["pixels"] == (expected == entry["value"]).sum()
        assert entry["hectares"] == pytest.approx(entry["pixels"] * PIXEL, rel=1e-3)
    with rasterio.open("change_flood.tif") as file:
        tags = file.tags(1)
    assert [tags[f"class_{value}"] for value in range(4)] == ["dry", "flooded", "water before and after", "receded"]
    # With a raster of pixels four times as large, of which 50 to 100 percent mean permanent water.
    coarse = Grid(15, 175, UTM.crs, UTM.transform @ Affine.scale(4))
    occurrence = draw(2, (0, 20, 50, 80, 100), coarse.shape)
    write_geotiff(folder / "occurrence.tif", occurrence[np.newaxis], coarse, nodata=255)
    report = change("--permanent", "occurrence.tif", "--permanent-values", "50-100")
    permanent = np.kron(occurrence >= 50, np.ones((4, 4), bool))
    np.testing.assert_array_equal(read("change_flood.tif"), np.where(permanent & known, 2, expected))
    assert report["flood"]["permanent"] == "occurrence.tif" and report["warnings"] == []


def test_permanent_water_of_zeros_and_ones_that_covers_a_part(folder):
    half = Grid(30, 700, UTM.crs, UTM.transform)
    write_geotiff(folder / "water.tif", np.ones((1, *half.shape), np.uint8), half)
    report = change("--permanent", "water.tif")
    known = (draw(0) != 255) & (draw(1) != 255)
    flood = read("change_flood.tif")
    assert (flood[:, :30][known[:, :30]] == 2).all() and set(np.unique(flood[:, 30:])) == {0, 1, 2, 3, 255}
    [warning] = report["warnings"]
    assert "water.tif covers 51% of the map; the rest counts as not permanent." in warning


def test_polygons_of_changes_and_of_the_flood(folder):
    report = change("--vector", "flood.gpkg")
    assert sorted(pyogrio.list_layers("flood.gpkg")[:, 0]) == ["change", "flood"]
    frame = pyogrio.read_dataframe("flood.gpkg", layer="change")
    areas = frame.groupby(["from_class", "to_class"])["area_ha"].sum()
    for entry in report["changes"]:
        assert areas[entry["from"], entry["to"]] == pytest.approx(entry["hectares"], rel=1e-3)
    assert len(areas) == len(report["changes"]) and report["polygons"]["change"] == len(frame)
    frame = pyogrio.read_dataframe("flood.gpkg", layer="flood")
    assert sorted(frame["class_name"].unique()) == ["flooded", "receded", "water before and after"]
    assert set(frame.columns) == {"class_index", "class_name", "area_ha", "geometry"}


def test_classes_are_compared_by_name(folder):
    after = draw(1)
    moved = {0: 7, 1: 0, 2: 3, 254: 254, 255: 0}
    values = np.vectorize(moved.get)(after)
    values[after == 255] = 99
    names = {7: "WATER", 0: " Forest, trees", 3: "City"}
    write_map(folder / "after.tif", values, names=names, colors=None, nodata=99)
    report = change()
    assert report["matrix"]["classes"] == ["water", "forest", "city", "none"] and report["warnings"] == []
    write_map(folder / "after.tif", after)
    other = change()
    assert report["matrix"] == other["matrix"] and report["flood"] == other["flood"]


def test_a_class_of_one_map_only_is_its_own_and_said(folder):
    write_map(folder / "after.tif", draw(1), names={0: "river", 1: "forest", 2: "burnt forest"})
    report = change()
    assert report["matrix"]["classes"] == ["water", "forest", "city", "river", "burnt forest", "none"]
    first, second, third = report["warnings"]
    assert first.startswith("Only before.tif has the classes water, city, so changes")
    assert second.startswith("Only after.tif has the classes river, burnt forest, so changes")
    assert "after.tif has no class of water" in third and "--water" in third
    assert report["flood"] is None and not (folder / "change_flood.tif").exists()
    report = change("--water", "River", "Water")
    assert report["flood"]["water"] == ["water", "river"] and (folder / "change_flood.tif").exists()


def test_classes_with_one_first_synonym_stay_apart(folder):
    names = {0: "water, river", 1: "water, lake", 2: "city"}
    for name in ("before.tif", "after.tif"):
        write_map(folder / name, draw(int(name == "after.tif")), names=names)
    report = change()
    assert report["matrix"]["classes"] == ["water / river", "water / lake", "city", "none"]
    assert report["flood"]["water"] == ["water / river", "water / lake"]


def test_a_later_map_on_another_grid_is_put_on_that_of_the_earlier(folder):
    rows, columns = np.indices(UTM.shape)
    blocks = (rows // 100 + columns // 20) % 3
    write_map(folder / "before.tif", blocks)
    # Four pixels for one, in another zone, and without the lower half.
    place = Affine(5, 0, 500_000, 0, -5, 4_000_000)
    fine = np.kron(blocks[:350], np.ones((2, 2), int))
    write_map(folder / "after.tif", fine, Grid(120, 700, UTM.crs, place))
    report = change()
    changes = read("change.tif")
    assert changes.shape == UTM.shape and (changes[:350] == 0).all() and (changes[350:] == 255).all()
    on_another, covers = report["warnings"]
    assert "after.tif is on another grid than before.tif" in on_another and "covers 51% of before.tif" in covers
    # In longitude and latitude.
    degrees = Grid(800, 900, CRS.from_epsg(4326), Affine(1e-4, 0, 128.99, 0, -1e-4, 36.16))
    write_map(folder / "after.tif", np.zeros(degrees.shape), degrees)
    change()
    known = read("change.tif") != 255
    assert known.any() and (read("change.tif")[known & (blocks == 0)] == 0).all()


def test_maps_without_a_place_on_the_ground_are_compared_pixel_by_pixel(folder, capsys):
    nowhere = Grid(60, 700)
    write_map(folder / "before.tif", draw(0), nowhere)
    report = change("--vector", "change.gpkg")
    assert report["unchanged"]["hectares"] is None and "in pixels" in capsys.readouterr().out
    np.testing.assert_array_equal(read("change.tif") == 0, (draw(0) == draw(1)) & (draw(0) != 255))
    write_map(folder / "after.tif", draw(1)[:300], Grid(60, 300, UTM.crs, UTM.transform))
    assert "georeference before.tif" in fails(capsys)


def test_more_changes_than_values_share_the_last(folder):
    names = {value: f"class {value}" for value in range(20)}
    values = np.random.default_rng(0).integers(0, 20, (2, *UTM.shape))
    for path, pixels in zip(("before.tif", "after.tif"), values, strict=True):
        write_map(folder / path, pixels, names=names, colors=None)
    report = change("--vector", "change.gpkg")
    assert len(report["changes"]) == 380 and report["changes"][-1]["value"] == 253
    shared = [entry for entry in report["changes"] if entry["value"] == 253]
    with rasterio.open("change.tif") as file:
        assert file.tags(1)["class_253"] == "other changes" and "→" in file.tags(1)["class_252"]
        assert (file.read(1) == 253).sum() == sum(entry["pixels"] for entry in shared)
    frame = pyogrio.read_dataframe("change.gpkg", layer="change")
    assert frame["from_class"].isna().sum() == (frame["class_name"] == "other changes").sum() > 0


def test_dates_come_from_the_reports_of_the_maps(folder):
    images = [
        {"sar": {"ids": ["S1"], "acquired": [day]}} for day in ("2023-07-01T10:00:00+00:00", "2023-06-01T10:00:00")
    ]
    for name, of_map in zip(("before.tif", "after.tif"), images, strict=True):
        write_map(folder / name, draw(0), images=of_map)
    report = change()
    assert report["before"] == {"map": "before.tif", "images": images[0]} and report["after"]["images"] == images[1]
    [warning] = report["warnings"]
    assert "before.tif is of 2023-07-01 and after.tif of 2023-06-01, which is earlier" in warning
    for text in ("{", "[]", '{"map": "after.tif", "images": 3}', '{"map": "other.tif", "images": {"sar": {}}}'):
        (folder / "after.json").write_text(text)
        assert change()["after"]["images"] is None
    (folder / "after.json").write_text(
        '{"map": "after.tif", "images": {"sar": {"acquired": [null, 3, "soon"]}, "rgb": 2}}'
    )
    assert change()["warnings"] == []


def test_maps_without_a_common_pixel_are_said_to_be(folder):
    write_map(folder / "before.tif", np.full(UTM.shape, 255))
    report = change("--vector", "change.gpkg")
    assert report["changes"] == [] and (read("change.tif") == 255).all()
    assert "No pixel has data in both maps" in report["warnings"][-1]


def test_what_cannot_be_compared_is_one_sentence_and_leaves_nothing(folder, capsys):
    elsewhere = Grid(60, 700, UTM.crs, Affine(10, 0, 800_000, 0, -10, 4_000_000))
    write_map(folder / "elsewhere.tif", draw(0), elsewhere)
    write_map(folder / "unnamed.tif", draw(0), names={})
    write_map(folder / "twice.tif", draw(0), names={0: "water", 1: "Water"})
    write_map(folder / "strange.tif", draw(0), names={0: "water", 1: "forest"})
    write_map(folder / "dry.tif", draw(0), names={0: "lake", 1: "forest", 2: "city"})
    write_geotiff(folder / "float.tif", np.ones((1, *UTM.shape), np.float32), UTM, band_tags={"class_0": "water"})
    write_geotiff(folder / "values.tif", draw(0)[np.newaxis], UTM)
    (folder / "damaged.tif").write_bytes((folder / "before.tif").read_bytes()[:3000])
    existing = {path.name for path in folder.iterdir()}
    for words, options, message in (
        ((), {"after": "gone.tif"}, "gone.tif does not exist"),
        ((), {"after": "."}, ". is a folder"),
        ((), {"after": "before.tif"}, "is the map before itself; give two maps"),
        ((), {"after": "unnamed.tif"}, "unnamed.tif does not hold the names of its classes"),
        ((), {"after": "twice.tif"}, "twice.tif: Class names given more than once: Water"),
        ((), {"after": "strange.tif"}, "strange.tif holds the values 2, for which it has no class names"),
        ((), {"before": "strange.tif"}, "strange.tif holds the values 2, for which it has no class names"),
        ((), {"after": "float.tif"}, "float.tif holds float32, but a class map holds uint8"),
        ((), {"after": "elsewhere.tif"}, "share no ground"),
        ((), {"after": "damaged.tif"}, "damaged.tif cannot be read"),
        ((), {"output": "after.tif"}, "after.tif is the map after itself; choose another --output"),
        ((), {"output": "change.png"}, "change.png must be a GeoTIFF"),
        (("--vector", "change.shp"), {}, "change.shp must be a GeoPackage"),
        (("--water", "lake"), {}, "--water names 'lake', but the classes of the maps are water, forest, city, none"),
        (("--water", "water"), {"after": "dry.tif"}, "dry.tif has no class of water"),
        (("--permanent", "values.tif"), {"after": "dry.tif"}, "dry.tif has no class of water"),
        (("--permanent", "values.tif"), {}, "has the values 1, 2, 254, 255 besides 0"),
        (("--permanent", "elsewhere.tif"), {}, "raster of permanent water elsewhere.tif is outside the map"),
        (("--permanent", "float.tif", "--permanent-values", "x"), {}, "--permanent-values has 'x'"),
        (("--permanent", "float.tif", "--permanent-values", "9-5"), {}, "--permanent-values has '9-5'"),
        (("--permanent-values", "1"), {}, "--permanent-values are those of --permanent"),
    ):  # fmt: skip
        assert message in fails(capsys, *words, **options)
        assert {path.name for path in folder.iterdir()} == existing, message
    write_map(folder / "after.tif", draw(1), images={})
    before = (folder / "after.json").read_bytes()
    assert "the report of the map after" in fails(capsys, output="after.tiff")
    assert (folder / "after.json").read_bytes() == before


def test_areas_of_large_pixels_are_measured_one_by_one(folder):
    degrees = Grid(60, 700, CRS.from_epsg(4326), Affine(0.1, 0, 0, 0, -0.1, 70))
    for seed, name in enumerate(("before.tif", "after.tif")):
        write_map(folder / name, draw(seed), degrees)
    report = change()
    measured = measure_values("change.tif")
    for entry in report["changes"]:
        assert measured.of(entry["value"]) == {
            "pixels": entry["pixels"], "hectares": pytest.approx(entry["hectares"], rel=1e-6),
        }  # fmt: skip


def test_a_tower_is_not_water_and_an_earlier_flood_map_goes(folder):
    names = {0: "water", 1: "forest", 2: "city", 254: "none"}
    write_map(folder / "a.tif", draw(0), names=names)
    write_map(folder / "b.tif", draw(1), names=names)
    words = ("--before", folder / "a.tif", "--after", folder / "b.tif", "--output", folder / "change.tif")
    run_cli("change", *words)
    assert (folder / "change_flood.tif").exists() and (folder / "change_flood.qml").exists()
    for name in "ab":
        write_map(folder / f"{name}.tif", draw(0), names={**names, 0: "water tower"})
    run_cli("change", *words)
    assert not (folder / "change_flood.tif").exists() and not (folder / "change_flood.qml").exists()
    assert json.loads((folder / "change.json").read_text())["flood"] is None
