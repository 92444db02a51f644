"""projects/sentinel/evaluate.py on made tiles, with a model that is right where it has SAR."""

import json
import shutil

import numpy as np
import pytest
import rasterio

import evaluate
from mm_ovseg.errors import DataError
from mm_ovseg.raster import RasterSource, read_rgb, write_geotiff
from sentinel.scores import document, rules, tables, tiles
from sentinel.scores.measure import CONDITIONS, count_constant
from tests.conftest import ROOT
from tests.sentinel.terramind_tiles import SIDE, write_tile

CARD = ROOT / "docs" / "SENTINEL_MODEL.md"


class RightWithSAR:
    """In the place of ScenePredictor: from SAR, water where it is dark, or else trees; from RGB alone, buildings."""

    def __init__(self, cfg, classes):
        self.cfg = cfg

    def finished_report(self, *_):
        return None

    def segment(self, rgb, sar, output, *_):
        with RasterSource(rgb if sar is None else sar) as source:
            values = source.read([1])[0][..., 0]
            class_map = np.full(values.shape, 3, np.uint8) if sar is None else np.where(values < -1500, 0, 1)
            write_geotiff(output, class_map.astype(np.uint8)[None], source.grid)


@pytest.fixture
def realdata(tmp_path, monkeypatch):
    folder = tmp_path / "realdata"
    write_tile(folder / "terramind", "433D_629L_3_1", values=(1, 1, 2, 3), offset=1000)
    write_tile(folder / "terramind", "38D_378R_2_3", values=(4, 4, 1), as_reflectance=False, seed=1)
    monkeypatch.setattr(evaluate, "ScenePredictor", RightWithSAR)

    def pairs(_, work):
        folder = work.parent / "terramind"
        return {"a place": tuple(folder / kind / "433D_629L_3_1.tif" for kind in ("rgb", "sar"))}

    monkeypatch.setattr(evaluate, "write_pairs_to_look_at", pairs)
    return folder


def run(realdata, tmp_path, *words):
    card = tmp_path / "docs" / "card.md"
    if not card.exists():
        card.parent.mkdir()
        shutil.copy(CARD, card)
    weights = [tmp_path / f"seed_{seed}.safetensors" for seed in (1, 2)]
    for path in weights:
        path.write_bytes(path.name.encode())
    words = ["--realdata", realdata, "--output", card, "--images", card.parent / "images", *words]
    words += ["--work", tmp_path / "work", "--weights", *weights]
    evaluate.main([str(word) for word in ["--config-file", ROOT / "configs/quickstart/demo.yaml", *words]])
    return card


def rows_of(text, part):
    """The rows of the table of a part, by the text of their first cell."""
    _, _, part = text.partition(f"<!-- begin {part} -->")
    lines = [line for line in part.partition("<!-- end")[0].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}


def test_the_card_is_filled_from_files(realdata, tmp_path, cloud_generator):
    card = run(realdata, tmp_path)
    text = card.read_text(encoding="utf-8")
    rows = rows_of(text, "terramind")
    # 433D: 32 columns of water, 16 of trees, 16 ignored; 38D: 44 of crops, 20 of water.
    labelled, water, trees = 32 + 16 + 44 + 20, 52, 16
    right = 100 * (water + trees) / labelled
    both, alone = (rows[f"**the model: {inputs}, clouds**"] for inputs in ("RGB and SAR", "RGB alone"))
    assert both["pixels right"] == f"{right:.1f} ± 0.0" and both["water"] == "100.0 ± 0.0"
    assert both["trees"] == f"{100 * 16 / (16 + 44):.1f} ± 0.0" and both["crops"] == "0.0 ± 0.0"
    assert both["bare ground"] == "–" and alone["pixels right"] == "0.0 ± 0.0"
    assert rows["**the model: SAR alone**"]["pixels right"] == both["pixels right"]
    assert rows["“water” everywhere"]["pixels right"] == f"{100 * water / labelled:.1f}"
    assert rows["thresholds: SAR alone"]["water"] == "100.0"
    assert f"2 tiles; {100 * labelled / (2 * SIDE):.1f}% of their pixels have one of the classes" in text
    of_tile = rows_of(text, "terramind_tiles")["433D_629L_3_1, clouds"]
    assert (
        of_tile["pixels right"] == "100.0 ± 0.0"
        and of_tile["pixels right: the tile's best constant"] == f"{100 * 2 / 3:.1f}"
    )
    of_tile = rows_of(text, "terramind_tiles")["38D_378R_2_3, clear"]
    assert of_tile["pixels right: the tile's best constant"] == f"{100 * 44 / 64:.1f}"  # crops
    assert "best: terramind/433D_629L_3_1, 100.0%" in text and "worst: terramind/38D_378R_2_3" in text
    assert "images/sentinel_model_tiles.jpg" in text and (card.parent / "images/sentinel_model_tiles.jpg").is_file()
    assert (card.parent / "images/sentinel_model_by_eye.jpg").is_file()
    assert rows_of(text, "pairs") == {} and "Not measured." in text
    counts = json.loads((tmp_path / "work/counts.json").read_text())
    assert len(counts["terramind"]["model"]) == 2

    def outside(text):
        return document.MARKED.sub("", text)

    assert outside(text) == outside(CARD.read_text(encoding="utf-8"))
    run(realdata, tmp_path)
    assert card.read_text(encoding="utf-8") == text


def test_held_out_pairs_are_those_of_a_dataset(realdata, tmp_path, datasets_root, cloud_generator):
    label = write_tile(tmp_path / "tiles", "a", values=(1, 2, 4))
    for kind, folder in (("rgb", "rgb"), ("sar", "sar"), ("label", "labels")):
        (datasets_root / "own" / folder).mkdir(parents=True)
        with rasterio.open(tmp_path / "tiles" / f"{kind}_a.tif") as file:
            pixels, profile = file.read(), file.profile
        if kind == "label":  # 0 woods, 1 water, 2 volcano, which nobody asks for
            pixels = np.select([label == 2, label == 1], [0, 1], 2).astype(np.uint8)[None]
        if kind == "sar":
            pixels = np.clip((pixels[:1] + 25) * 255 / 25, 0, 255).astype(np.uint8)
            profile |= {"dtype": "uint8", "count": 1}
        with rasterio.open(datasets_root / "own" / folder / "a.tif", "w", **profile) as file:
            file.write(pixels)
    declared = tmp_path / "own.yaml"
    declared.write_text(
        'datasets: {own: {root: own, rgb: rgb, sar: sar, labels: labels, classes: ["Forest, wood", water, volcano]}}'
    )
    words = ["--dataset-file", declared, "--pairs", "own", "--training-pairs", "own"]
    text = run(realdata, tmp_path, *words).read_text(encoding="utf-8")
    rows = rows_of(text, "pairs")
    assert "1 tiles; 68.8% of their pixels" in text  # 22 columns of water and 22 of trees of 64
    assert float(rows["nearest mean: RGB and SAR, clear"]["pixels right"]) > 95
    assert rows["nearest mean: RGB and SAR, clear"]["crops"] == "–"
    assert set(rows_of(text, "pairs_tiles")) == {"a, clear", "a, clouds"}


def test_the_tiles_say_their_units(realdata, tmp_path):
    found = tiles.terramind_tiles(realdata / "terramind", tmp_path / "work")
    by_name = {tile.name: tile for tile in found}
    image, _ = read_rgb(by_name["433D_629L_3_1"].rgb)  # without the offset
    assert np.abs(image[:, :30].mean(axis=(0, 1)) - np.array([0.02, 0.03, 0.06]) / 0.3 * 255).max() < 1
    with rasterio.open(by_name["433D_629L_3_1"].sar) as file:
        assert file.units == ("dB", "dB") and file.dtypes == ("int16",) * 2
    with rasterio.open(by_name["38D_378R_2_3"].rgb) as file:
        assert file.dtypes == ("uint8",) * 3 and file.units == (None,) * 3
    assert set(np.unique(by_name["433D_629L_3_1"].read_truth())) == {0, 1, 255}
    name, counts = count_constant(found)
    assert name == "water" and counts["38D_378R_2_3"][CONDITIONS[0]][2, 0] == 44 * SIDE


def test_the_spread_is_over_seeds():
    def counts(right):
        matrix = np.zeros((7, 7), np.int64)
        matrix[0, :2] = right, 100 - right
        return {"a": dict.fromkeys(CONDITIONS, matrix)}

    table = tables.class_table([counts(60), counts(80)], {"constant": counts(50)}, "water")
    assert "70.0 ± 14.1" in table and "| “water” everywhere" in table and "50.0 " in table


def test_the_rules_see_each_pixel_alone():
    water, trees, crops, buildings, bare = np.array(
        [(0.02, 0.03, 0.06), (0.02, 0.04, 0.02), (0.05, 0.09, 0.05), (0.16, 0.16, 0.15), (0.26, 0.22, 0.17)]
    )
    rgb = np.rint(np.stack([water, trees, crops, buildings, bare])[None] / 0.3 * 255).astype(np.uint8)
    assert rules.apply_thresholds(rgb, None).tolist() == [[0, 1, 2, 3, 4]]
    sar = np.float32([30, 100, 120, 140, 180, 230])[None, :, None].repeat(3, 2)
    assert rules.apply_thresholds(None, sar).tolist() == [[0, 4, 5, 2, 1, 3]]
    cloud, smooth = np.full((1, 1, 3), 255, np.uint8), np.full((1, 1, 3), 20, np.float32)
    assert rules.apply_thresholds(cloud, smooth).item() == 0  # SAR sees the water under it


def test_a_document_without_its_parts_is_refused_before_any_work(realdata, tmp_path):
    (tmp_path / "docs").mkdir()
    card = tmp_path / "docs" / "card.md"
    text = CARD.read_text(encoding="utf-8").replace("<!-- end pictures -->\n", "")
    card.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="needs pairs, pairs_tiles, pictures"):
        document.check_document(card, evaluate.PARTS)
    with pytest.raises(SystemExit):
        run(realdata, tmp_path)
    assert not (tmp_path / "work").exists() and card.read_text(encoding="utf-8") == text
