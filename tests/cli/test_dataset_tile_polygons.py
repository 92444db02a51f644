"""`mm-ovseg dataset tile` with polygons for labels."""

import json

import numpy as np
import pytest
from rasterio.warp import transform_geom

from tests.cli.labelled_scene import HEIGHT, PLACE, SIZE, UTM, WIDTH, polygon, run, tiles_of, write_geojson


def test_polygons_by_their_attribute_the_smaller_above_the_larger(scene, tmp_path, capsys):
    del scene["--classes"]
    scene["--labels"] = write_geojson(tmp_path / "use.geojson", [
        (polygon(20, 20, 24, 30), "lake"),  # a pond, before the forest that holds it
        (polygon(0, 0, 64, 96), "wood"),
        (polygon(64, 0, 100, 96), "12"),
        (polygon(100, 0, 110, 96), "quarry"),
        (polygon(112, 0, 128, 96), "secret"),
    ])  # fmt: skip
    meanings = tmp_path / "meanings.yaml"
    meanings.write_text("lake: water\nwood: forest\n12: city\nsecret: null\n")
    output = tmp_path / "region"
    run(scene | {"--attribute": "use", "--label-map": meanings, "--unseen": "Water"}, output)
    out = capsys.readouterr().out
    assert "'quarry' (1)" in out and "ignored: quarry (960 pixels)" in out
    whole = np.full((HEIGHT, WIDTH), 255)
    whole[:, :64], whole[20:30, 20:24], whole[:, 64:100] = 1, 0, 2
    tiles = tiles_of(output)
    assert len(tiles) == 6 * 7  # the last column of tiles has no label
    for (_, row, column), tile in tiles.items():
        assert (tile["labels"][0] == whole[row : row + SIZE, column : column + SIZE]).all()
    classes = json.loads((output / "classes.json").read_text())
    assert classes == {"classes": ["water", "forest", "city"], "unseen": ["water"]}

    run(scene | {"--attribute": "use", "--label-map": meanings, "--background": "city"}, tmp_path / "filled")
    whole[whole == 255] = 2
    whole[:, 112:128] = 255  # polygons without label are not background
    whole[:, 100:110] = 255  # nor are those of unknown values
    for (_, row, column), tile in tiles_of(tmp_path / "filled").items():
        assert (tile["labels"][0] == whole[row : row + SIZE, column : column + SIZE]).all()


def test_values_without_meaning_count_where_nothing_else_is_labelled(scene, tmp_path, capsys):
    features = [(polygon(0, 0, 64, 96), "mine"), (polygon(64, 0, 128, 96), "city")]
    scene["--labels"] = write_geojson(tmp_path / "use.geojson", features)
    run(scene | {"--attribute": "use", "--background": "water"}, tmp_path / "region")
    assert "ignored: mine (6144 pixels)" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "region" / "manifest.json").read_text())
    assert manifest["unknown_values"] == {"mine": 64 * 96}
    assert sum(manifest["pixels"][split]["water"] for split in ("train", "val")) == 0


def test_geometries_that_are_no_polygons_are_counted_and_named(scene, tmp_path, capsys):
    del scene["--classes"]
    point = {"type": "Point", "coordinates": PLACE @ (3, 3)}
    nested = {"type": "GeometryCollection", "geometries": [polygon(64, 0, 130, 96), point]}
    features = [(polygon(0, 0, 64, 96), "wood"), (nested, "city"), (point, "tree"), (None, "wood")]
    scene["--labels"] = write_geojson(tmp_path / "use.geojson", features)
    for _ in range(2):  # the second time, from what the first has noted
        run(scene | {"--attribute": "use"}, tmp_path / "region")
        assert "labels of rgb are left out: 2 points, 1 without geometry" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "region" / "manifest.json").read_text())
    assert manifest["left_out_geometries"] == {"rgb": {"points": 2, "without geometry": 1}}
    assert manifest["legend"] == {"city": 0, "wood": 1} and manifest["unknown_values"] == {}


def test_polygons_in_another_reference_system_and_without_a_map(scene, tmp_path):
    del scene["--classes"]
    features = [(polygon(0, 0, 64, 96), "wood"), (polygon(64, 0, 128, 96), "Built-up")]
    turned = [(transform_geom(UTM, "OGC:CRS84", geometry), value) for geometry, value in features]
    scene["--labels"] = write_geojson(tmp_path / "use.geojson", turned, "urn:ogc:def:crs:OGC:1.3:CRS84")
    run(scene | {"--attribute": "use"}, tmp_path / "region")
    for (_, _, column), tile in tiles_of(tmp_path / "region").items():
        assert (tile["labels"] == (1 if column < 64 else 0)).mean() > 0.99  # "Built-up" comes first


def test_a_table_is_read_as_text(scene, tmp_path, capsys):
    del scene["--classes"]
    values = {
        "yes": "city",
        "no": "wood",
        "010": "water",
        "10": "wood",
        "1.10": "city",
        "1.1": "water",
        "2020-01-01": "wood",
    }
    scene["--labels"] = write_geojson(
        tmp_path / "use.geojson", [(polygon(16 * n, 0, 16 * n + 16, 96), value) for n, value in enumerate(values)]
    )
    meanings = tmp_path / "meanings.yaml"
    meanings.write_text("".join(f"{value}: {name}\n" for value, name in values.items()))
    run(scene | {"--attribute": "use", "--label-map": meanings, "--val-fraction": 0}, tmp_path / "region")
    pixels = json.loads((tmp_path / "region" / "manifest.json").read_text())["pixels"]["train"]
    assert pixels == {"city": 2 * 16 * 96, "wood": 3 * 16 * 96, "water": 2 * 16 * 96}


@pytest.mark.parametrize("features,attribute,message", [
    ([], "use", "has no attributes, so none is called 'use'"),
    ([(polygon(0, 0, 9, 9), "wood")], "kind", "has no attribute 'kind'; its attributes are use"),
    ([({"type": "Point", "coordinates": [500_000, 5_000_000]}, "wood")], "use", "has no polygons"),
    ([(polygon(0, 0, 9, 9), "quarry")], "use", "No polygon has a value"),
    ([(polygon(0, 0, 9, 9), ["wood"])], "use", "'use' holds"),
    ([(polygon(9000, 0, 9009, 9), "wood")], "use", "No polygon of the labels overlaps a scene"),
])  # fmt: skip
def test_vector_files_that_cannot_be_used(scene, tmp_path, capsys, features, attribute, message):
    scene["--labels"] = write_geojson(tmp_path / "use.geojson", features)
    run(scene | {"--attribute": attribute}, tmp_path / "region", code=2)
    err = capsys.readouterr().err
    assert message in err and "use.geojson" in err + "use.geojson" * ("No polygon" in message)
    assert "Traceback" not in err and not (tmp_path / "region").exists()
