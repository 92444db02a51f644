"""A second question about a scene: the bytes of a run from nothing, without the encoders."""

import json
import logging
import os
import shutil
from dataclasses import replace

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from rasterio.transform import from_origin

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.inference import kept_features
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor

PLACE = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}
NAMES, OTHERS = ("water", "road", "city"), ("wood, trees", "lake")
WINDOW = {"window": 32, "overlap": 0.25}  # 2 x 4 windows
AREA = shapely.box(500_340, 4_999_600, 500_800, 4_999_900)  # in the second to fourth windows of both rows


@pytest.fixture
def predictor(make_cfg):
    torch.manual_seed(0)
    return ScenePredictor(make_cfg(), NAMES)


@pytest.fixture
def pair(tmp_path):
    """56 x 104 pixels; where only one image has data, and a window without any."""
    generator = np.random.default_rng(0)
    rgb = generator.integers(1, 255, (3, 56, 104), dtype=np.uint8)
    sar = generator.integers(1, 255, (1, 56, 104), dtype=np.uint8)
    rgb[:, 24:, 72:] = sar[:, 24:, 72:] = 0
    sar[:, :20, 40:] = 0
    rgb[:, 40:, :30] = 0
    for name, values in (("rgb", rgb), ("sar", sar)):
        profile = {"count": len(values), "height": 56, "width": 104, "dtype": "uint8", "nodata": 0, **PLACE}
        with rasterio.open(tmp_path / f"{name}.tif", "w", driver="GTiff", **profile) as file:
            file.write(values)
    return tmp_path / "rgb.tif", tmp_path / "sar.tif"


@pytest.fixture
def area(tmp_path):
    path = tmp_path / "area.gpkg"
    geopandas.GeoSeries([AREA], crs=PLACE["crs"]).to_file(path)
    return path


@pytest.fixture
def encoded(monkeypatch):
    """The number of images in each batch that the encoders of RGB and SAR have seen."""
    sizes = []

    def watch(predictor):
        for encoder in (predictor.model.clip, predictor.model.dino, predictor.model.dino_sar):
            encoder.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
        return sizes

    return watch


def ask(predictor, pair, output, names=NAMES, *, options, **vocabulary):
    """Make a map; returns its report and the bytes of its files."""
    predictor.set_vocabulary(names, **vocabulary)
    report = predictor.segment(*pair, output, replace(options, confidence=True, probabilities=True))
    endings = [".tif", ".qml", *(f"_{layer}.tif" for layer in ("coverage", "confidence", "probabilities"))]
    return report, {ending: output.with_name(output.stem + ending).read_bytes() for ending in endings}


def without_count(report):
    return json.dumps({name: value for name, value in report.items() if name != "windows_from_features"})


@pytest.mark.parametrize(
    ("images", "batch_size", "dtype"),
    [
        ("pair", 1, "float32"),
        ("pair", 3, "float32"),
        ("pair", 1, "bfloat16"),
        ("pair", 3, "bfloat16"),
        ("RGB alone", 3, "float32"),
        ("SAR alone", 1, "float32"),
    ],
)
def test_other_names_get_the_bytes_of_a_run_from_nothing(make_cfg, pair, tmp_path, encoded, images, batch_size, dtype):
    torch.manual_seed(0)
    predictor = ScenePredictor(make_cfg("configs/quickstart/mm_ovseg.yaml", "MODEL.INFERENCE_DTYPE", dtype), NAMES)
    images = {"pair": pair, "RGB alone": (pair[0], None), "SAR alone": (None, pair[1])}[images]
    nothing = SceneOptions(**WINDOW, batch_size=batch_size)
    keeping = replace(nothing, keep_features=tmp_path / "features")
    output = tmp_path / "map.tif"
    expected = ask(predictor, images, output, options=nothing)
    first = ask(predictor, images, output, options=keeping)
    assert first[1] == expected[1] and without_count(first[0]) == without_count(expected[0])
    assert first[0]["windows_from_features"] == expected[0]["windows_from_features"] == 0
    others = {"names": OTHERS, "background": ["grass"], "min_score": 0.4}
    expected = ask(predictor, images, output, options=nothing, **others)
    sizes = encoded(predictor)
    report, files = ask(predictor, images, output, options=keeping, **others)
    assert sizes == [] and files == expected[1] and without_count(report) == without_count(expected[0])
    assert report["windows_from_features"] == 7  # one has no data
    assert len(list((tmp_path / "features").glob("*.safetensors"))) == {1: 8, 3: 4}[batch_size]


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("area_first", [True, False])
def test_an_area_before_or_after_the_whole_scene(predictor, pair, area, tmp_path, encoded, batch_size, area_first):
    nothing = SceneOptions(**WINDOW, batch_size=batch_size)
    output, areas = tmp_path / "map.tif", [area, None] if area_first else [None, area]
    expected = [ask(predictor, pair, output, options=replace(nothing, area=area)) for area in areas]
    sizes, found = encoded(predictor), []
    for number in (0, 1, 0, 1):
        sizes.clear()
        options = replace(nothing, area=areas[number], keep_features=tmp_path / "features")
        report, files = ask(predictor, pair, output, options=options)
        assert files == expected[number][1]
        found.append(report["windows_from_features"])
    # The area has 5 of 7 windows; in batches of 3 it shares only the last of a row with the whole scene.
    assert sizes == [] and found == [0, {1: 5, 3: 1}[batch_size], *((5, 7) if area_first else (7, 5))]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_stopped_run_leaves_features_for_its_continuation(predictor, pair, tmp_path, monkeypatch, batch_size):
    options = SceneOptions(**WINDOW, batch_size=batch_size)
    output = tmp_path / "map.tif"
    _, expected = ask(predictor, pair, output, options=options)
    options = replace(options, keep_features=tmp_path / "features")
    calls, encode = [], predictor.model.encode

    def interrupted(items):
        calls.append(len(items))
        if len(calls) == 6 // batch_size:
            raise KeyboardInterrupt
        return encode(items)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(predictor.model, "encode", interrupted)
        ask(predictor, pair, output, options=options)
    report, files = ask(predictor, pair, output, options=replace(options, resume=True))
    assert files == expected and report["windows_from_features"] == {1: 5, 3: 3}[batch_size]
    report, files = ask(predictor, pair, output, options=options)
    assert files == expected and report["windows_from_features"] == 7


def test_clouds_and_what_else_is_not_in_the_features(predictor, pair, tmp_path, encoded):
    clouds = tmp_path / "clouds.tif"
    with rasterio.open(pair[1]) as file, rasterio.open(clouds, "w", **{**file.profile, "nodata": None}) as mask:
        mask.write(np.tile(np.arange(104, dtype=np.uint8) % 2, (1, 56, 1)))
    nothing = SceneOptions(**WINDOW, clouds=clouds, vector=tmp_path / "map.gpkg", min_area=0.05)
    _, expected = ask(predictor, pair, tmp_path / "map.tif", options=nothing)
    polygons = geopandas.read_file(tmp_path / "map.gpkg")
    options = SceneOptions(**WINDOW, keep_features=tmp_path / "features")
    ask(predictor, pair, tmp_path / "map.tif", options=options)
    sizes = encoded(predictor)
    for _ in range(2):
        _, files = ask(
            predictor, pair, tmp_path / "map.tif", options=replace(nothing, keep_features=options.keep_features)
        )
        assert sizes == [] and files == expected
    assert polygons.equals(geopandas.read_file(tmp_path / "map.gpkg"))


def test_the_images_are_read_once_for_warnings_and_shift(predictor, pair, tmp_path, monkeypatch, caplog):
    options = SceneOptions(**WINDOW, keep_features=tmp_path / "features", correct_shift=True)
    monkeypatch.setattr("mm_ovseg.data.scene_source.SceneSource.concerns", lambda self: ["It is dark."])
    first, _ = ask(predictor, pair, tmp_path / "map.tif", options=options)

    def unwanted(*_):
        raise AssertionError("the images are read again")

    for name in ("read", "concerns"):
        monkeypatch.setattr(f"mm_ovseg.data.scene_source.SceneSource.{name}", unwanted)
    caplog.clear()
    second, _ = ask(predictor, pair, tmp_path / "map.tif", OTHERS, options=options)
    assert second["shift"] == first["shift"] and second["warnings"][0] == "It is dark." in caplog.messages
    assert second["windows_from_features"] == 7


def change_a_weight(predictor, pair, options):
    with torch.no_grad():
        predictor.model.dino_sar.encoder.pixel_mean.add_(1e-3)
    return options


def touch(predictor, pair, options):
    os.utime(pair[1], ns=(1, 1))
    return options


def change_the_config(predictor, pair, options):
    predictor.cfg.INPUT.SAR.RANGE = [-20.0, 0.0]
    return options


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (change_a_weight, "weights"),
        (touch, "sar"),
        (change_the_config, "config"),
        (lambda predictor, pair, options: replace(options, window=40, overlap=0.2), "window"),
        (lambda predictor, pair, options: replace(options, overlap=0.5), "overlap"),
        (lambda predictor, pair, options: replace(options, ground_sampling_distance=12), "ground sampling distance"),
        (lambda predictor, pair, options: replace(options, batch_size=2), "batch size"),
        (lambda predictor, pair, options: replace(options, correct_shift=True), "correction of the shift"),
    ],
)
def test_a_change_that_matters_replaces_the_features(predictor, pair, tmp_path, caplog, change, named):
    options = SceneOptions(**WINDOW, keep_features=tmp_path / "features")
    ask(predictor, pair, tmp_path / "map.tif", options=options)
    notes = tmp_path / "features" / "notes.txt"
    notes.write_text("mine")
    options = change(predictor, pair, options)
    with caplog.at_level(logging.INFO):
        report, files = ask(predictor, pair, tmp_path / "map.tif", options=options)
    assert f"features are replaced; changed: {named}." in caplog.text and report["windows_from_features"] == 0
    assert files == ask(predictor, pair, tmp_path / "map.tif", options=replace(options, keep_features=None))[1]
    assert notes.read_text() == "mine"


def test_a_source_of_a_mosaic_that_changes(predictor, pair, tmp_path):
    mosaic = tmp_path / "mosaic.vrt"
    mosaic.write_text(
        '<VRTDataset rasterXSize="104" rasterYSize="56"><SRS>EPSG:32633</SRS>'
        "<GeoTransform>500000,10,0,5000000,0,-10</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><NoDataValue>0</NoDataValue><SimpleSource>'
        '<SourceFilename relativeToVRT="1">sar.tif</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    options = SceneOptions(**WINDOW, keep_features=tmp_path / "features")
    for expected in (0, 7, 0):
        if not expected:
            os.utime(pair[1])
        report, _ = ask(predictor, (pair[0], mosaic), tmp_path / "map.tif", options=options)
        assert report["windows_from_features"] == expected


def test_random_weights_never_match_others(make_cfg, predictor, pair, tmp_path):
    options = SceneOptions(**WINDOW, keep_features=tmp_path / "features")
    ask(predictor, pair, tmp_path / "map.tif", options=options)
    torch.manual_seed(0)
    report, _ = ask(ScenePredictor(make_cfg(), NAMES), pair, tmp_path / "map.tif", options=options)
    assert report["windows_from_features"] == 7
    report, _ = ask(ScenePredictor(make_cfg(), NAMES), pair, tmp_path / "map.tif", options=options)
    assert report["windows_from_features"] == 0


def test_a_run_that_fails_early_costs_no_features(predictor, pair, tmp_path):
    options = SceneOptions(**WINDOW, keep_features=tmp_path / "features")
    ask(predictor, pair, tmp_path / "map.tif", options=options)
    wrong = replace(options, window=40, area=tmp_path / "none.geojson")
    with pytest.raises(DataError, match="none.geojson"):
        ask(predictor, pair, tmp_path / "map.tif", options=wrong)
    assert ask(predictor, pair, tmp_path / "map.tif", options=options)[0]["windows_from_features"] == 7


@pytest.mark.parametrize("damage", ["flipped", "another's"])
def test_a_damaged_file_is_made_again(predictor, pair, tmp_path, caplog, damage):
    options = SceneOptions(**WINDOW, keep_features=tmp_path / "features")
    _, expected = ask(predictor, pair, tmp_path / "map.tif", options=options)
    path = tmp_path / "features" / "0_24_1.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-5] ^= 1
        path.write_bytes(content)
    else:
        shutil.copy(path.with_name("0_48_1.safetensors"), path)
    report, files = ask(predictor, pair, tmp_path / "map.tif", options=options)
    assert files == expected and report["windows_from_features"] == 6
    assert ("0_24_1.safetensors is damaged" in caplog.text) is (damage != "another's")
    assert ask(predictor, pair, tmp_path / "map.tif", options=options)[0]["windows_from_features"] == 7


def test_a_limit(predictor, pair, tmp_path, caplog):
    folder = tmp_path / "features"
    options = SceneOptions(**WINDOW, keep_features=folder)
    _, expected = ask(predictor, pair, tmp_path / "map.tif", options=options)
    size = sum((folder / f"0_{column}_1.safetensors").stat().st_size for column in (0, 24))
    shutil.rmtree(folder)
    options = replace(options, max_features=1.01 * size / 1e9)
    _, files = ask(predictor, pair, tmp_path / "map.tif", options=options)
    assert files == expected and len(list(folder.glob("*.safetensors"))) == 2
    [message] = [record.message for record in caplog.records if "not kept" in record.message]
    assert message.startswith("The features of 6 of 8 windows (75%) are not kept: --max-features is ")
    report, files = ask(predictor, pair, tmp_path / "map.tif", OTHERS, options=options)
    assert report["windows_from_features"] == 2
    assert files == ask(predictor, pair, tmp_path / "map.tif", OTHERS, options=SceneOptions(**WINDOW))[1]
    kept = sorted(folder.iterdir())  # features of other windows than these, for which there is no room at all
    ask(predictor, pair, tmp_path / "map.tif", options=replace(options, overlap=0.5, max_features=1e-9))
    assert sorted(folder.iterdir()) == kept
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="--max-features"):
            ask(predictor, pair, tmp_path / "map.tif", options=replace(options, max_features=wrong))


@pytest.mark.parametrize("fault", ["full", "nearly full", "memory"])
def test_a_full_disk_stops_the_features_but_not_the_map(predictor, pair, tmp_path, monkeypatch, caplog, fault):
    _, expected = ask(predictor, pair, tmp_path / "map.tif", options=SceneOptions(**WINDOW))
    complete_file = kept_features.complete_file

    def full(path):
        if path.name.startswith("0_48"):
            raise DataError(f"{path} cannot be written (No space left on device)")
        return complete_file(path)

    def no_memory(batch, **_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    if fault == "full":
        monkeypatch.setattr(kept_features, "complete_file", full)
    elif fault == "memory":
        monkeypatch.setattr(kept_features, "serialise_batch", no_memory)
    else:
        monkeypatch.setattr(kept_features, "MIN_FREE", 2 * shutil.disk_usage(tmp_path).free)
    options = SceneOptions(**WINDOW, keep_features=tmp_path / "features")
    _, files = ask(predictor, pair, tmp_path / "map.tif", options=options)
    assert files == expected
    [message] = [record.message for record in caplog.records if "not kept" in record.message]
    assert ("6 of 8 windows (75%)" if fault == "full" else "8 of 8 windows (100%)") in message
    assert {"full": "No space left", "nearly full": "GB free", "memory": "allocate memory"}[fault] in message


def test_batches_that_memory_does_not_hold(predictor, pair, tmp_path, monkeypatch, encoded):
    encode = predictor.model.encode

    def limited(items):
        if len(items) > 1:
            raise MemoryError
        return encode(items)

    options = SceneOptions(**WINDOW, batch_size=3, keep_features=tmp_path / "features")
    with monkeypatch.context() as patch:
        patch.setattr(predictor.model, "encode", limited)
        _, expected = ask(predictor, pair, tmp_path / "map.tif", options=options)
    sizes = encoded(predictor)
    _, files = ask(predictor, pair, tmp_path / "map.tif", options=options)
    assert sizes == [] and files == expected
    answer, parts = predictor.model.answer, []
    monkeypatch.setattr(predictor.model, "answer", lambda items: parts.append(len(items)) or answer(items))
    ask(predictor, pair, tmp_path / "map.tif", options=options)
    assert parts == [1] * 7


def test_a_folder_of_something_else_is_refused_and_left(predictor, pair, tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / ".features.1.tmp.json").touch()  # left by a kill
    kept_features.check_features_folder(folder)
    monkeypatch.setattr(predictor.model, "encode", None)
    for name, content in (("photo.jpg", "x"), ("features.json", '{"type": "FeatureCollection"}')):
        (folder / name).write_text(content)
        with pytest.raises(DataError, match="mine holds other files than features"):
            ask(predictor, pair, tmp_path / "map.tif", options=SceneOptions(**WINDOW, keep_features=folder))
        assert (folder / name).read_text() == content
    for place, message in (
        (tmp_path, "the RGB image, is in"),
        (tmp_path / "map.tif", "both --output and --keep-features"),
        (pair[0], "choose another --keep-features"),
    ):
        with pytest.raises(DataError, match=message):
            ask(predictor, pair, tmp_path / "map.tif", options=SceneOptions(**WINDOW, keep_features=place))
    assert not (tmp_path / "map.tif").exists() and pair[0].is_file()
