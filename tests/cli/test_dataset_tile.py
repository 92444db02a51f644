"""`mm-ovseg dataset tile` as a user runs it. Every pixel of the scene tells its place, so tiles are checked exactly."""

import json
import os
import re

import numpy as np
import pytest
import rasterio
import yaml
from detectron2.data import DatasetCatalog
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import array_bounds, from_origin
from rasterio.warp import transform

from mm_ovseg.data import register_datasets_from_file
from mm_ovseg.data.tile.settings import cut_windows
from mm_ovseg.jobs import Journal
from mm_ovseg.raster import Grid
from tests.cli.labelled_scene import HEIGHT, PLACE, SIZE, UTM, WIDTH, polygon, run, tiles_of, write_geojson
from tests.raster.grids import shared_ground


def test_tiles_hold_the_scene_and_train_as_a_dataset(scene, tmp_path, capsys):
    output = tmp_path / "region"
    run(scene, output)
    tiles = tiles_of(output)
    # 6 rows of 8 whole tiles and one of 2 pixels, too narrow to keep.
    assert len(tiles) == 48 and {split for split, _, _ in tiles} == {"train", "val"}
    for (_, row, column), tile in tiles.items():
        rows, columns = np.mgrid[row : row + SIZE, column : column + SIZE]
        assert (tile["rgb"] == np.stack([rows + 1, columns + 1, np.full_like(rows, 7)])).all()
        assert (tile["labels"][0] == columns // 10 % 3).all()
        assert tile["sar"].shape == (1, SIZE, SIZE)
        assert np.abs(tile["sar"][0] - rows / HEIGHT * 20 / 25 * 255).max() <= 0.51
        assert tile["crs"] == UTM and tile["bounds"] == array_bounds(
            SIZE, SIZE, PLACE @ rasterio.Affine.translation(column, row)
        )
    out = capsys.readouterr().out
    assert "| skipped: too few pixels with RGB |        6 |" in out and "DATASETS.FILES" in out
    manifest = json.loads((output / "manifest.json").read_text())
    assert sum(map(sum, (manifest["pixels"][split].values() for split in ("train", "val")))) == 48 * SIZE**2

    assert register_datasets_from_file(output / "dataset.yaml") == ["region_train", "region_val"]
    declared = yaml.safe_load((output / "dataset.yaml").read_text())["defaults"]
    assert declared["classes"] == ["water", "forest", "city"] and declared["ground_sampling_distance"] == 10
    assert len(DatasetCatalog.get("region_train")) + len(DatasetCatalog.get("region_val")) == 48


@pytest.mark.parametrize("length,overlap,starts", [
    (32, 0, [0, 16]),
    (33, 0, [0, 16, 32]),
    (26, 6, [0, 10]),  # a third would lie in the second
    (27, 6, [0, 10, 20]),
    (5, 6, [0]),
])  # fmt: skip
def test_windows_cover_a_scene_and_no_more(length, overlap, starts):
    windows = cut_windows(3, length, SIZE, overlap)
    assert windows == [(0, start, 3, min(SIZE, length - start)) for start in starts]


@pytest.mark.parametrize("overlap", [0, 6])
def test_no_training_tile_touches_a_held_out_square(scene, tmp_path, overlap):
    output = tmp_path / "region"
    run(scene | {"--overlap": overlap, "--min-valid": 0.9}, output)
    tiles = tiles_of(output)
    places = {split: [(row, column) for other, row, column in tiles if other == split] for split in ("train", "val")}
    assert places["val"] and places["train"]
    for row, column in places["val"]:
        for other_row, other_column in places["train"]:
            assert abs(row - other_row) >= SIZE or abs(column - other_column) >= SIZE
    if not overlap:  # whole squares of 2 x 2 tiles lie together; the origin of the ground's squares is not the scene's
        assert any((row, column + SIZE) in places["val"] for row, column in places["val"])


def test_sar_on_another_grid_and_labels_of_another_resolution_land_on_the_grid_of_rgb(scene, write, tmp_path):
    coarse = from_origin(499_700, 5_000_300, 30, 30)
    rows = np.mgrid[: HEIGHT // 3 + 20, : WIDTH // 3 + 20][0]
    scene["--sar"] = write("coarse.tif", (-25 + (rows * 3 + 1 - 30) / HEIGHT * 20).astype(np.float32), transform=coarse)
    labels = (np.mgrid[: HEIGHT // 2, : WIDTH // 2][1] // 5 % 3).astype(np.int16)
    scene["--labels"] = write("half.tif", labels, transform=from_origin(500_000, 5_000_000, 20, 20))
    output = tmp_path / "region"
    run(scene, output)
    tiles = tiles_of(output)
    assert len(tiles) == 48
    for (_, row, column), tile in tiles.items():
        rows, columns = np.mgrid[row : row + SIZE, column : column + SIZE]
        assert (tile["labels"][0] == columns // 10 % 3).all()
        # Bilinear of a plane is the plane: to a grey value, where dB below the range do not cut it off.
        expected = (rows + 0.5 - 0.5) / HEIGHT * 20 / 25 * 255
        inside = rows > 4
        assert np.abs(tile["sar"][0].astype(float) - expected)[inside].max() < 1.6


def test_pixels_without_data_are_masked_ignored_and_tiles_of_them_dropped(scene, write, tmp_path, capsys):
    with rasterio.open(scene["--rgb"]) as file:
        rgb = file.read()
    rgb[:, :, :40] = 0
    scene["--rgb"] = write("holes.tif", rgb, nodata=0)
    labels = np.mgrid[:HEIGHT, :WIDTH][1] // 10 % 3
    labels[:, 64:] = 9
    scene["--labels"] = write("nine.tif", labels.astype(np.float32))
    run(scene, tmp_path / "region")
    tiles = tiles_of(tmp_path / "region")
    assert {column for _, _, column in tiles} == {32, 48}  # half of 32 to 48 has data; nothing past 64 is labelled
    assert all((tile["labels"][0, :, :8] == 255).all() for (_, _, column), tile in tiles.items() if column == 32)
    out = capsys.readouterr().out
    assert "too few pixels with RGB" in out and "too few pixels with a label" in out


@pytest.mark.parametrize("content, message", [
    ("0: water\n1: forest\n00: city\n", "has the value 0 twice"),
    ("0: water\nyes: forest\n", "has the value 'yes'; the values of a label raster are integers"),
    ("0: water\n1.5: forest\n", "has the value '1.5'"),
])  # fmt: skip
def test_a_table_of_a_raster_has_whole_numbers(scene, tmp_path, capsys, content, message):
    del scene["--classes"]
    meanings = tmp_path / "meanings.yaml"
    meanings.write_text(content)
    run(scene | {"--label-map": meanings}, tmp_path / "region", code=2)
    assert message in capsys.readouterr().err and not (tmp_path / "region").exists()
    meanings.write_text("00: water\n+1: forest\n2.0: city\n")
    run(scene | {"--label-map": meanings}, tmp_path / "region")
    for (_, row, column), tile in tiles_of(tmp_path / "region").items():
        assert (tile["labels"][0] == np.mgrid[row : row + SIZE, column : column + SIZE][1] // 10 % 3).all()


def test_values_without_meaning_are_counted(scene, tmp_path, capsys):
    del scene["--classes"]
    meanings = tmp_path / "meanings.json"
    meanings.write_text(json.dumps({"0": "water", "1": "forest"}))
    run(scene | {"--label-map": meanings}, tmp_path / "region")
    out = capsys.readouterr().out
    assert "belong to no class and are ignored: 2 (3840 pixels)" in out


def test_of_many_values_without_meaning_the_others_are_counted(scene, write, tmp_path, capsys):
    scene["--labels"] = write("many.tif", np.broadcast_to(np.arange(WIDTH, dtype=np.uint8), (HEIGHT, WIDTH)))
    run(scene, tmp_path / "region")
    assert re.search(r"\(96 pixels\), and 117 others \(11232 pixels\)\.$", capsys.readouterr().out, re.MULTILINE)


def test_jpeg_labels_are_said_and_polygons_without_attribute_stop_before_anything_is_written(scene, tmp_path, capsys):
    labels = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 3
    scene["--labels"] = tmp_path / "labels.jpg"
    Image.fromarray(labels).save(scene["--labels"])
    run(scene, tmp_path / "region")
    assert "labels.jpg is compressed as JPEG, which changes class numbers" in capsys.readouterr().out
    scene["--labels"] = write_geojson(tmp_path / "use.geojson", [(polygon(0, 0, 9, 9), "wood")])
    run(scene, tmp_path / "other", code=2)
    assert "Labels that are polygons need --attribute." in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_run_goes_on_and_workers_and_dry_runs_change_nothing(scene, tmp_path, capsys, monkeypatch):
    def content(folder):
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != "dataset.yaml"}

    run(scene, tmp_path / "dry" / "region", "--dry-run")
    assert not (tmp_path / "dry").exists() and "| train pairs" in capsys.readouterr().out
    run(scene, tmp_path / "one" / "region")
    run(scene | {"--workers": 2}, tmp_path / "two" / "region")
    assert content(tmp_path / "one") == content(tmp_path / "two")

    class KilledError(BaseException):
        """What no code catches."""

    append, left = Journal.append, [9]

    def killed(self, result):
        append(self, result)
        left[0] -= 1
        if left[0] == 0:
            raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Journal, "append", killed)
        run(scene, tmp_path / "killed" / "region")
    assert not (tmp_path / "killed" / "region" / "dataset.yaml").exists()
    capsys.readouterr()
    run(scene, tmp_path / "killed" / "region")
    assert "done before" in capsys.readouterr().out
    assert content(tmp_path / "killed") == content(tmp_path / "one")
    before = {path: os.stat(path).st_mtime_ns for path in (tmp_path / "one").rglob("*.tif")}
    run(scene, tmp_path / "one" / "region")
    assert before == {path: os.stat(path).st_mtime_ns for path in (tmp_path / "one").rglob("*.tif")}


def test_two_scenes_of_one_place_hold_out_the_same_ground(scene, write, tmp_path):
    """Training on another year of what is evaluated on would not be a test."""
    for name in ("spring", "autumn"):
        with rasterio.open(scene["--rgb"]) as file:
            write(f"{name}.tif", file.read())
    manifest = tmp_path / "scenes.csv"
    manifest.write_text("rgb,sar,labels\nspring.tif,sar.tif,labels.tif\nautumn.tif,sar.tif,labels.tif\n")
    options = {key: value for key, value in scene.items() if key not in ("--rgb", "--sar", "--labels")}
    run(options | {"--manifest": manifest}, tmp_path / "region")
    for split in ("train", "val"):
        names = {path.name for path in (tmp_path / "region" / split / "rgb").glob("*.tif")}
        spring = {name.removeprefix("spring") for name in names if name.startswith("spring")}
        assert spring and spring == {name.removeprefix("autumn") for name in names if name.startswith("autumn")}


@pytest.mark.parametrize("other", [
    "EPSG:32634",
    "EPSG:32633+5773",
    UTM.to_wkt().replace("WGS 84 / UTM zone 33N", "my own zone"),
])  # fmt: skip
def test_two_scenes_of_one_place_in_two_systems_share_no_ground_between_the_splits(scene, write, tmp_path, other):
    """Another year of what is evaluated on, in the next zone or in the same one under another name."""
    other = CRS.from_user_input(other)
    place = 740_000, 5_000_000
    (x,), (y,) = transform(UTM, other, *[[value] for value in place])
    for name, crs, corner in (("spring", UTM, place), ("autumn", other, (x + 7, y + 3))):
        for kind in ("rgb", "sar", "labels"):
            with rasterio.open(scene[f"--{kind}"]) as file:
                write(f"{name}_{kind}.tif", file.read(), crs=crs, transform=from_origin(*corner, 10, 10))
    manifest = tmp_path / "scenes.csv"
    rows = [f"{name}_rgb.tif,{name}_sar.tif,{name}_labels.tif" for name in ("spring", "autumn")]
    manifest.write_text("\n".join(["rgb,sar,labels", *rows]))
    options = {key: value for key, value in scene.items() if key not in ("--rgb", "--sar", "--labels")}
    run(options | {"--manifest": manifest, "--min-valid": 0.9}, tmp_path / "region")
    grids = {}
    for split in ("train", "val"):
        grids[split] = []
        for path in (tmp_path / "region" / split / "rgb").glob("*.tif"):
            with rasterio.open(path) as file:
                grids[split].append(Grid(file.width, file.height, file.crs, file.transform))
    assert grids["train"] and grids["val"] and shared_ground(grids["val"], grids["train"]) == set()
    report = json.loads((tmp_path / "region" / "manifest.json").read_text())
    assert report["counts"]["skipped"]["overlaps a held-out tile"] > 0
    assert report["split"] == {"square": 2, "val_fraction": 0.2, "seed": 0}


def test_a_scene_without_georeference(scene, write, tmp_path):
    for key in ("--rgb", "--sar", "--labels"):
        with rasterio.open(scene[key]) as file:
            scene[key] = write(f"plain_{scene[key].name}", file.read(), crs=None, transform=rasterio.Affine.identity())
    run(scene, tmp_path / "region")
    tiles = tiles_of(tmp_path / "region")
    assert len(tiles) == 48 and any(split == "val" for split, _, _ in tiles)
    declared = yaml.safe_load((tmp_path / "region" / "dataset.yaml").read_text())
    assert declared["defaults"]["ground_sampling_distance"] is None


@pytest.mark.parametrize("change,message", [
    ({"--classes": None}, "The meaning of the label values is unknown"),
    ({"--classes": "lava"}, ""),
    ({"--labels": None}, "Give --rgb, --sar and --labels"),
    ({"--labels": "nowhere.tif"}, "nowhere.tif"),
    ({"--sar": "rgb.tif", "--sar-bands": 7}, "INPUT.SAR.BANDS"),
    ({"--size": 0}, "--size is 0"),
    ({"--overlap": SIZE}, "--overlap is 16"),
    ({"--val-fraction": 1.5}, "--val-fraction is 1.5"),
    ({"--square": 0}, "--square is 0"),
    ({"--workers": 0}, "--workers is 0"),
    ({"--min-valid": 2}, "--min-valid is 2"),
    ({"--unseen": "lava"}, "lava"),
    ({"--background": "lava"}, "--background is 'lava'"),
    ({"--label-map": "nowhere.yaml"}, "nowhere.yaml cannot be read"),
    ({"--name": "../x"}, "does not begin with a letter"),
    ({"--min-labelled": 1, "--min-valid": 1, "--size": 500}, "none of"),
])  # fmt: skip
def test_what_is_wrong_is_one_sentence_and_leaves_nothing(scene, tmp_path, capsys, change, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {key: value for key, value in (scene | change).items() if value is not None}
    if change == {"--classes": "lava"}:  # raster values beyond the classes are counted, not fatal
        run(options, tmp_path / "region")
        assert "belong to no class" in capsys.readouterr().out
        return
    run(options, tmp_path / "region", code=2)
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
    assert not list((tmp_path / "region").rglob("*.tif"))
