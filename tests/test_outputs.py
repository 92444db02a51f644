"""No command writes over what it reads: every command line as a user runs it, with an output that is an input."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

import train_net
from demo import demo
from laptop.drawn_world import write_synthetic_dataset
from mm_ovseg.data.input_files import raster_inputs
from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.data.tile.published_pairs import tile_pairs
from mm_ovseg.data.tile.settings import TileRun, TileSettings
from mm_ovseg.engine import load_config
from mm_ovseg.errors import DataError
from mm_ovseg.files import check_outputs, sha256
from mm_ovseg.inference.archive import read_archive, segment_archive
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor
from tests.conftest import ROOT, load_tool, run_cli, save_random_weights

CONFIG = ROOT / "configs" / "quickstart" / "mm_ovseg.yaml"
CLASSES = "water,road"
MODEL = ["--opts", "MODEL.DEVICE", "cpu"]
SCENE = ["--config-file", CONFIG, "--classes", CLASSES, "--quiet"]
VRT = """<VRTDataset rasterXSize="64" rasterYSize="64">{}</VRTDataset>"""
BAND = """<VRTRasterBand dataType="Byte" band="{0}"><SimpleSource>
<SourceFilename relativeToVRT="1">rgb.tif</SourceFilename><SourceBand>{0}</SourceBand></SimpleSource></VRTRasterBand>"""

FIELD = {"type": "Polygon", "coordinates": [[[9, 51], [10, 51], [10, 52], [9, 52], [9, 51]]]}
FEATURES = [{"type": "Feature", "properties": {"kind": "water"}, "geometry": FIELD}]
POLYGONS = json.dumps({"type": "FeatureCollection", "features": FEATURES})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A pair of 64 x 64 pixels as GeoTIFF and as PNG, and weights of a tiny model."""
    folder = tmp_path_factory.mktemp("files")
    write_synthetic_dataset(folder, num_train=0, num_val=1, size=64, file_format="tif")
    for kind in ("rgb", "sar", "labels"):
        source = folder / "val" / kind / "00000.tif"
        shutil.copy(source, folder / f"{kind}.tif")
        Image.open(source).save(folder / f"{kind}.png")
    shutil.rmtree(folder / "val")
    save_random_weights(CONFIG, folder / "model.pth")
    return folder


@pytest.fixture
def folder(files, tmp_path, monkeypatch, forget_datasets):
    """A copy of the files, where the command runs."""
    folder = tmp_path / "work"
    shutil.copytree(files, folder)
    monkeypatch.chdir(folder)
    return folder


def contents(folder):
    return {str(path): sha256(path) if path.is_file() else None for path in folder.rglob("*")}


def put(name, path):
    """Give a file another place."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(name).rename(path)
    return path


def copy(name, *paths):
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, path)
    return paths[0]


def text(path, content):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)
    return path


def scene(*more, rgb=("rgb.tif",), sar="sar.tif", output="map.tif"):
    return [*SCENE, "--rgb", *rgb, "--sar", sar, "--output", output, *more, *MODEL]


def three_files():
    return copy("rgb.tif", "red.tif"), copy("rgb.tif", "green.tif"), copy("rgb.tif", "blue.tif")


def link(function, target, path):
    function(target, path)
    return path


def in_another_folder():
    os.mkdir("folder")
    return scene(output="folder/../rgb.tif")


def mosaic():
    text("rgb.vrt", VRT.format("".join(BAND.format(band) for band in (1, 2, 3))))
    return scene(rgb=["rgb.vrt"], output="rgb.tif")


def class_file(path):
    return text(path, json.dumps({"classes": ["water", "road"], "unseen": []}))


SCENES = {
    "map": (lambda: scene(output="rgb.tif"), "rgb.tif is the RGB image itself; choose another --output."),
    "map over SAR": (lambda: scene(output="sar.tif"), "sar.tif is the SAR image itself; choose another --output."),
    "spelling": (in_another_folder, "folder/../rgb.tif is the RGB image itself"),
    "absolute": (lambda: scene(output=os.path.abspath("rgb.tif")), "rgb.tif is the RGB image itself"),
    "symbolic link": (lambda: scene(output=link(os.symlink, "rgb.tif", "map.tif")), "map.tif is the RGB image itself"),
    "hard link": (lambda: scene(output=link(os.link, "rgb.tif", "map.tif")), "map.tif is the RGB image itself"),
    "input is a link": (
        lambda: scene(rgb=[link(os.symlink, "rgb.tif", "a.tif")], output="rgb.tif"),
        "rgb.tif is the RGB image itself",
    ),
    "one of three": (
        lambda: scene(rgb=three_files(), output="green.tif"),
        "green.tif is one of the RGB images itself; choose another --output.",
    ),
    "mosaic": (mosaic, "rgb.tif is part of the RGB image itself"),
    "coverage": (lambda: scene(sar=put("sar.tif", "map_coverage.tif")), "map_coverage.tif is the SAR image itself"),
    "confidence": (
        lambda: scene("--confidence", sar=put("sar.tif", "map_confidence.tif")),
        "map_confidence.tif is the SAR image itself",
    ),
    "probabilities": (
        lambda: scene("--probabilities", sar=put("sar.tif", "map_probabilities.tif")),
        "map_probabilities.tif is the SAR image itself",
    ),
    "report over the area": (
        lambda: scene("--aoi", text("map.json", "{}")),
        "map.json is the area of interest itself; choose another --output.",
    ),
    "report over the classes": (
        lambda: scene("--classes", class_file("map.json")),
        "map.json is the class file itself",
    ),
    "polygons over the area": (
        lambda: scene("--aoi", text("area.gpkg", "{}"), "--vector", "area.gpkg"),
        "area.gpkg is the area of interest itself; choose another --vector.",
    ),
    "polygons over a mask": (
        lambda: scene("--vector", text("rgb.tif.msk", "a mask")),
        "rgb.tif.msk must be a GeoPackage",
    ),
    "work": (
        lambda: scene(rgb=[put("rgb.tif", "map.tif.work/rgb.tif")]),
        "map.tif.work/rgb.tif, the RGB image, is in map.tif.work, which is written to; choose another --output.",
    ),
}


def archive(lines, *more, manifest="pairs.csv"):
    text(manifest, lines)
    return [*SCENE, "--manifest", manifest, "--output-dir", ".", *more, *MODEL]


def dataset_of_folder(*more):
    """Images that are called as the preview of the dataset."""
    for kind in ("rgb", "sar"):
        copy(f"{kind}.png", f"data/{kind}/x_preview.png", f"data/{kind}/b.png")
    return ["data", "--name", "x", "--output", "data/rgb", "--overwrite", *more]


def declared():
    for kind in ("rgb", "sar", "labels"):
        put(f"{kind}.png", f"data/{kind}/0.png")
    text(
        "data.yaml",
        f"datasets: {{outputs_test: {{root: {os.path.abspath('data')}, rgb: rgb, sar: sar, labels: labels, "
        "classes: [background, city, road, water, forest]}}",
    )
    return ["outputs_test", "--dataset-file", "data.yaml"]


def tiling(*more, rgb="rgb.tif", sar="sar.tif", labels="labels.tif"):
    return ["--rgb", rgb, "--sar", sar, "--labels", labels, "--output", "out", "--size", 32, *more]


def figure(output):
    text("pairs.csv", "rgb,sar,label\nrgb.png,sar.png,labels.png\n")
    return ["--pairs", "pairs.csv", "--classes", CLASSES, "--model", "ours", CONFIG, "--output", output, *MODEL]


def explanation(output):
    pair = ["--rgb", "rgb.png", "--sar", "sar.png"]
    return [
        "--config-file",
        CONFIG,
        *pair,
        "--classes",
        CLASSES,
        "--class",
        "road",
        "--output",
        "a.pdf",
        output,
        *MODEL,
    ]


def evaluation():
    counts = [[1, 0], [0, 1]]
    content = {"dataset": "d", "classes": ["a", "b"], "unseen_classes": [], "confusion_matrix": counts}
    return text("scores.svg", json.dumps(content))


def export():
    put("model.pth", "model.pt2")
    return ["--config-file", CONFIG, "--output", "model.pt2", *MODEL, "MODEL.WEIGHTS", "model.pt2"]


def pairs_in_one_folder():
    """A pair "a", whose map would be the RGB image of the pair "a_map"."""
    for kind in ("rgb", "sar"):
        copy(f"{kind}.png", f"data/{kind}/a.png", f"data/{kind}/a_map.png")
    words = ["--config-file", CONFIG, "--input", "data/rgb", "--sar", "data/sar", "--classes", CLASSES]
    return [*words, "--output", "data/rgb", *MODEL]


def own_config():
    return text("own.yaml", f"_BASE_: {CONFIG}\nOUTPUT_DIR: elsewhere\n")


COMMANDS = {
    "archive over another scene": (
        "archive",
        lambda: archive("rgb,sar,name\nrgb.tif,sar.tif,one\nred.tif,two.tif,rgb\n"),
        "rgb.tif is the RGB image of the scene 'one' itself; choose another --output-dir.",
    ),
    "archive over SAR": (
        "archive",
        lambda: archive(f"rgb,sar,name\nrgb.tif,{put('sar.tif', 'a_coverage.tif')},a\n"),
        "a_coverage.tif is the SAR image of the scene 'a' itself",
    ),
    "archive over an area": (
        "archive",
        lambda: archive(f"rgb,sar,name,aoi\nrgb.tif,,a,{text('a.gpkg', '{}')}\n", "--vector"),
        "a.gpkg is the area of interest of the scene 'a' itself",
    ),
    "archive over its list": (
        "archive",
        lambda: archive("rgb,sar,name\nrgb.tif,,a\n", manifest="results.csv"),
        "results.csv is the list of scenes itself",
    ),
    "clouds": (
        "dataset clouds",
        lambda: [Path(put("rgb.tif", "out/rgb_clouds/a.tif")).parent, "out", "--kind", "fractal"],
        "out/rgb_clouds/a.tif, one of the images, is in out/rgb_clouds, which is written to",
    ),
    "picture of clouds": (
        "dataset clouds",
        lambda: [Path(put("rgb.png", "images/a.png")).parent, link(os.link, "images/a.png", "kinds.png")],
        "kinds.png is one of the images itself",
    ),
    "new dataset": ("dataset new", dataset_of_folder, "x_preview.png is one of the images itself"),
    "new dataset over its model": (
        "dataset new",
        lambda: dataset_of_folder("--output", ".", "--model", put(own_config(), "x_config.yaml")),
        "x_config.yaml is the config itself",
    ),
    "tiles": (
        "dataset tile",
        lambda: tiling("--classes", CLASSES, sar=put("sar.tif", "out/train/sar/scene.tif")),
        "out/train/sar/scene.tif, one of the SAR images, is in out/train/sar, which is written to",
    ),
    "tiles over labels": (
        "dataset tile",
        lambda: tiling("--attribute", "kind", labels=text("out/classes.json", POLYGONS)),
        "out/classes.json is one of the label maps itself",
    ),
    "tiles over the label map": (
        "dataset tile",
        lambda: tiling("--label-map", text("out/classes.json", '{"1": "a"}')),
        "out/classes.json is the label map itself",
    ),
    "preview": (
        "dataset preview",
        lambda: [*declared(), "--output", "data/labels/0.png", "--opts", "MODEL.DEVICE", "cpu"],
        "data/labels/0.png is one of the label maps itself",
    ),
    "figure": ("figure", lambda: figure("sar.png"), "sar.png is one of the SAR images itself"),
    "explanation": ("explain", lambda: explanation("rgb.png"), "rgb.png is the RGB image itself"),
    "scores": (
        "scores",
        lambda: [evaluation(), "--output", "bars.png", "scores.svg"],
        "scores.svg is one of the evaluations itself",
    ),
    "scores twice": (
        "scores",
        lambda: [evaluation(), "--output", "a.png", "--confusion-matrix", os.path.abspath("a.png")],
        "a.png would be written for both --output and --confusion-matrix",
    ),
    "export": ("export", export, "model.pt2 is one of the weights files itself"),
    "conversion": (
        "convert",
        lambda: ["model.pth", "./model.pth"],
        "is the file to convert itself",
    ),
    "publication": (
        load_tool("publish_weights").main,
        lambda: ["model.pth", link(os.symlink, "model.pth", "small.pth")],
        "small.pth is the checkpoint itself",
    ),
    "benchmark": (
        load_tool("benchmark").main,
        lambda: ["--config-file", CONFIG, "--json", "model.pth", *MODEL, "MODEL.WEIGHTS", "model.pth"],
        "model.pth is one of the weights files itself",
    ),
    "efficiency": (
        "efficiency",
        lambda: ["--config-file", own_config(), "--device", "cpu", "--markdown", "own.yaml"],
        "own.yaml is the config itself",
    ),
    "demo": (demo.main, pairs_in_one_folder, "data/rgb/a_map.png is one of the RGB images itself"),
    "training": (
        train_net.main,
        lambda: (
            ["--config-file", own_config(), "OUTPUT_DIR", ".", "MODEL.DEVICE", "cpu"]
            + ["MODEL.DENSE_ENCODER_SAR.WEIGHTS", put("model.pth", "model_final.pth")]
        ),
        "model_final.pth is one of the weights files itself; choose another OUTPUT_DIR.",
    ),
}
ALL = {name: ("scene", *case) for name, case in SCENES.items()} | COMMANDS


@pytest.mark.parametrize("name", ALL)
def test_what_is_read_is_never_written_over(folder, capsys, name):
    command, prepare, message = ALL[name]
    arguments = [str(word) for word in prepare()]
    before = contents(folder)
    with pytest.raises(SystemExit) as stop:
        run_cli(command, *arguments) if isinstance(command, str) else command(arguments)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2 and message in error, error
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["a.tif.ovr", "a.tif.msk", "a.tif.aux.xml", "a.tfw"])
def test_files_beside_a_raster_belong_to_it(folder, name):
    put("rgb.png", "a.tif") if name == "a.tfw" else put("rgb.tif", "a.tif")
    if name in ("a.tif.ovr", "a.tif.msk"):
        copy("labels.tif", name)
    else:
        text(name, "1\n0\n0\n-1\n0\n0\n" if name == "a.tfw" else "<PAMDataset/>")
    with pytest.raises(DataError, match=rf"{name} is part of the RGB image itself; choose another --output\."):
        check_outputs({"--output": [name]}, raster_inputs({"the RGB image": ["a.tif"]}))


def test_library_calls_check_too(folder):
    predictor = ScenePredictor(load_config(CONFIG, ["MODEL.DEVICE", "cpu"]), ["water", "road"])
    text("pairs.csv", "rgb,sar,name\nrgb.tif,sar.tif,sar\n")
    pair = SceneFiles("a", (Path(put("labels.tif", "out/train/rgb/new_a.tif")),), (Path("sar.tif"),))
    before = contents(folder)
    with pytest.raises(DataError, match=r"rgb\.tif is the RGB image itself"):
        predictor.segment("rgb.tif", "sar.tif", "rgb.tif")
    with pytest.raises(DataError, match=r"sar\.tif is the SAR image of the scene 'sar' itself"):
        segment_archive(read_archive("pairs.csv"), folder, SceneOptions(), pool=None)
    with pytest.raises(DataError, match=r"new_a\.tif, one of the RGB images, is in .*, which is written to"):
        tile_pairs(
            TileRun(name="New", output=folder / "out", settings=TileSettings(), prefix="new_"),
            [pair],
            lambda *_: ["train"],
            split={},
        )
    assert contents(folder) == before


def test_a_map_of_an_earlier_run_is_replaced(folder):
    predictor = ScenePredictor(load_config(CONFIG, ["MODEL.DEVICE", "cpu"]), ["water", "road"])
    text("map.tif", "earlier")
    predictor.segment("rgb.tif", "sar.tif", "map.tif")
    assert Path("map.tif").stat().st_size > 1000 and not Path("map.tif.work").exists()


@pytest.mark.parametrize("words,output", [
    (["run/config.yaml"], "run"),
    (["own/other.yaml", "--base", "based/config.yaml"], "based"),
])  # fmt: skip
def test_a_config_in_its_own_output_folder_stays_as_it_is(folder, capsys, words, output):
    put(own_config(), f"{output}/config.yaml")
    text("own/other.yaml", "_BASE_: none.yaml\n")
    before = Path(output, "config.yaml").read_text()
    with pytest.raises(SystemExit):  # there is nothing to evaluate
        train_net.main(["--config-file", *words, "--eval-only", "OUTPUT_DIR", output, "MODEL.DEVICE", "cpu"])
    assert Path(output, "log.txt").is_file() and Path(output, "config.yaml").read_text() == before
