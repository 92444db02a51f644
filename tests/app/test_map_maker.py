"""What the page computes: maps, areas and pictures of files that visitors choose, and sentences on what is wrong."""

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio

from mm_ovseg.app.map_maker import GENERIC_CLASSES, known_classes, unseen_names
from mm_ovseg.app.messages import ADVICE, page_message
from mm_ovseg.app.runs import Runs
from mm_ovseg.app.visitor_files import VisitorFiles
from mm_ovseg.errors import DataError, MMOVSegError, StoppedError, VocabularyError
from tests.patience import PATIENCE


def test_the_shipped_pair_with_and_without_sar(maker, cloudy_pair):
    scene = maker.make_scene(*cloudy_pair, "city, road, forest, water, farmland")
    assert set(scene.maps) == {True} and (scene.width, scene.height, scene.crs) == (192, 192, "EPSG:32652")
    assert scene.image.shape == scene.sar_image.shape == (192, 192, 3)
    with_sar = scene.maps[True]
    with rasterio.open(with_sar.geotiff) as file, rasterio.open(with_sar.confidence_geotiff) as confidence_file:
        class_map, confidence = file.read(1), confidence_file.read(1)
        assert file.crs.to_epsg() == 32652 and file.tags(1)["class_3"] == "water"
    assert np.array_equal(with_sar.class_map, class_map) and np.array_equal(with_sar.confidence, confidence)
    farmland = with_sar.classes[4]
    assert farmland["share"] == pytest.approx((class_map == 4).mean())
    assert farmland["hectares"] == pytest.approx((class_map == 4).sum() * 4 / 10_000, rel=0.005)  # pixels of 2 m
    assert farmland["confidence"] == pytest.approx(confidence[class_map == 4].mean() / 100)
    assert [entry["name"] for entry in with_sar.classes if entry["unseen"]] == ["road", "water"]
    assert with_sar.sar_share == 1

    alone = maker.make_map(scene, with_sar=False)
    assert alone is maker.make_map(scene, with_sar=False) and alone.sar_share == 0
    assert (alone.class_map != with_sar.class_map).mean() > 0.1
    assert alone.geotiff != with_sar.geotiff and alone.geotiff.is_file()
    scene.remove()
    assert not alone.geotiff.exists() and not scene.folder.exists()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_pictures_without_a_place_get_shares_only(suffix, maker, write_image):
    scene = maker.make_scene(write_image(f"rgb{suffix}"), write_image(f"sar{suffix}", bands=1), "lake; wood, trees")
    entries = scene.maps[True].classes
    assert [entry["name"] for entry in entries] == ["lake", "wood, trees"] and scene.crs is None
    assert [entry["hectares"] for entry in entries] == [None, None]
    assert sum(entry["share"] for entry in entries) == pytest.approx(1)
    assert scene.maps[True].geotiff.name == "rgb_map.tif"


def test_none_of_the_classes_has_an_area_a_share_and_a_confidence(maker, cloudy_pair):
    page_map = maker.make_scene(*cloudy_pair, "forest", typed_background="city, road; water; farmland").maps[True]
    forest, none = page_map.classes
    assert (forest["value"], none["value"], none["name"], none["unseen"]) == (0, 254, "none", False)
    assert 0 < none["share"] < 1 and forest["share"] + none["share"] == pytest.approx(1)
    assert none["hectares"] == pytest.approx((page_map.class_map == 254).sum() * 4 / 10_000, rel=0.005)
    assert none["confidence"] == pytest.approx(page_map.confidence[page_map.class_map == 254].mean() / 100)
    with rasterio.open(page_map.geotiff) as file:
        assert file.tags(1)["class_254"] == "none"


def test_one_name_alone_may_be_nowhere(maker, cloudy_pair):
    names = [entry["name"] for entry in maker.make_scene(*cloudy_pair, "forest").maps[True].classes]
    assert names == ["forest", "none"]


def test_sar_alone(maker, write_image, tmp_path):
    page = pytest.importorskip("mm_ovseg.app.page", reason="needs mm_ovseg[app]")
    scene = maker.make_scene(None, write_image("sar.tif", bands=1), "water, city")
    assert scene.image is None and scene.sar_image.shape == (64, 96, 3) and list(scene.maps) == [True]
    assert scene.maps[True].sar_share == 1 and scene.maps[True].geotiff.name == "sar_map.tif"
    assert scene.maps[True].class_map.shape == (64, 96)
    sentence = "100% of the map rests on SAR alone, for which this model was not trained; do not rely on it there."
    assert scene.warnings == (f"{sentence} {ADVICE}",)
    # Whatever the last scene was shown as.
    assert page._uses_sar(scene, page.RGB_ALONE)
    _, picture, legend, sensors, beneath, *_ = page._shown(scene, True, page.CLASSES, page.RGB, 0.5)
    assert "<img" in picture and "made from SAR alone." in legend
    assert (sensors["choices"], sensors["value"], sensors["interactive"]) == (["SAR alone"], "SAR alone", False)
    assert (beneath["value"], beneath["interactive"]) == ("SAR", False)
    _, _, _, sensors, beneath, *_ = page._shown(
        maker.make_scene(write_image("rgb.tif"), write_image("sar.tif", bands=1), "water, city"),
        True, page.CLASSES, page.RGB, 0.5,
    )  # fmt: skip
    assert sensors["choices"] == ["RGB and SAR", "RGB alone"] and beneath["value"] == "RGB"


def test_another_vocabulary_does_not_linger(maker, write_image):
    rgb = write_image("rgb.tif")
    first = maker.make_scene(rgb, write_image("sar.tif", bands=1), "city, farmland")
    second = maker.make_scene(rgb, None, "meadow")
    assert second.sar is None and second.sar_image is None and list(second.maps) == [False]
    assert [entry["unseen"] for entry in second.maps[False].classes] == [True, False]
    alone = maker.make_map(first, with_sar=False)  # made after the other scene
    assert [entry["name"] for entry in alone.classes] == ["city", "farmland"]


@pytest.fixture
def encoded(maker):
    """Images that CLIP has encoded."""
    seen = []
    hook = maker._predictor.model.clip.register_forward_hook(lambda *_: seen.append(1))
    yield seen
    hook.remove()


@pytest.fixture
def ask(maker, tmp_path):
    """A function ``(scene, rgb, sar, names) -> scene`` that is what the button does."""
    page = pytest.importorskip("mm_ovseg.app.page", reason="needs mm_ovseg[app]")
    request = SimpleNamespace(session_hash="s", request=SimpleNamespace(state=SimpleNamespace(visitor="v")))
    scenes = page._Scenes(maker, VisitorFiles(tmp_path / "uploads"), Runs(), None)

    def ask(scene, rgb, sar, names, background=""):
        given = [None if path is None else str(path) for path in (rgb, sar)]
        return scenes.make(scene, *given, names, background, page.CLASSES, 60, request)[0]

    return ask


def test_other_names_for_the_same_pair_are_not_encoded_again(maker, write_image, ask, encoded):
    rgb, sar = write_image("rgb.tif"), write_image("sar.tif", bands=1)
    first = ask(None, rgb, sar, "water, city")
    assert encoded
    maker.make_map(first, with_sar=False)
    expected = maker.make_scene(rgb, sar, "wood, lake", typed_background="grass").maps[True]
    encoded.clear()
    second = ask(first, rgb, sar, "wood, lake", "grass")
    maker.make_map(second, with_sar=False)
    assert not encoded and not first.folder.exists()
    for name in ("geotiff", "confidence_geotiff"):
        assert getattr(second.maps[True], name).read_bytes() == getattr(expected, name).read_bytes()
    second.remove()
    assert not second.features.exists()


def test_a_mistyped_name_costs_no_features(maker, write_image, ask, encoded, tmp_path):
    first = ask(None, write_image("rgb.tif"), write_image("sar.tif", bands=1), "water, city")
    encoded.clear()
    kept = ask(first, first.rgb, first.sar, "water, ")
    assert kept is first and first.features.is_dir()
    kept = ask(kept, first.rgb, first.sar, "wood", "lake, ")
    second = ask(kept, first.rgb, first.sar, "wood, lake")
    assert second.class_names == ("wood", "lake") and not encoded
    assert list((tmp_path / "uploads").rglob("features")) == [second.features]


def test_other_files_are_encoded_and_a_stranger_to_the_pair_too(write_image, ask, encoded):
    rgb, sar, other = write_image("rgb.tif"), write_image("sar.tif", bands=1), write_image("other.tif")
    first = ask(None, rgb, sar, "water, city")
    for scene, files in ((first, (other, sar)), (first, (rgb, None)), (None, (rgb, sar))):
        encoded.clear()
        assert ask(scene, *files, "water, city").maps and encoded
    written = write_image("rgb.tif", height=60)  # another file at the same place
    again = ask(ask(None, rgb, sar, "water, city"), written, sar, "water, city")
    assert again.height == 60


def test_without_links_a_pair_is_encoded_again(write_image, ask, encoded, monkeypatch):
    def refuse(*_):
        raise OSError("Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    first = ask(None, write_image("rgb.tif"), None, "water, city")
    encoded.clear()
    assert ask(first, first.rgb, None, "wood, lake").maps and encoded


def test_those_who_ask_at_once_get_one_map(maker, write_image, monkeypatch):
    scene = maker.make_scene(write_image("rgb.tif"), write_image("sar.tif", bands=1), "water")
    asked, runs, segment, lock = threading.Semaphore(0), [], maker._predictor.segment, maker._lock

    class NotedLock:
        def __enter__(self):
            asked.release()
            lock.acquire()

        def __exit__(self, *_):
            lock.release()

    def segment_last(*arguments, **options):
        runs.append(arguments)
        if len(runs) == 1:  # until all have seen that there is no map
            assert all(asked.acquire(timeout=PATIENCE) for _ in range(4))
        return segment(*arguments, **options)

    monkeypatch.setattr(maker, "_lock", NotedLock())
    monkeypatch.setattr(maker._predictor, "segment", segment_last)
    maps = []
    threads = [threading.Thread(target=lambda: maps.append(maker.make_map(scene, with_sar=False))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs) == 1 and len(maps) == 4 and len(set(map(id, maps))) == 1
    maker.make_map(scene, with_sar=False)
    assert not asked.acquire(blocking=False)  # what is made waits for no lock


@pytest.mark.parametrize("last", [1, 3])
def test_a_run_ends_between_windows_when_nobody_wants_it(last, maker, write_image, tmp_path):
    answers = iter([False] * (last - 1) + [True])
    folder = tmp_path / "maps"
    with pytest.raises(StoppedError):  # not StopIteration: it is not asked again
        maker.make_scene(write_image("rgb.tif", 300, 300), None, "water", folder, lambda: next(answers))
    assert not folder.exists()
    assert maker.make_scene(write_image("rgb.tif"), None, "water", folder, lambda: False).maps[False].geotiff.is_file()


def test_warnings_of_the_report_are_the_scenes(maker, write_image, monkeypatch):
    rgb, sar = write_image("rgb.tif"), write_image("sar.tif", bands=1)
    warnings, segment = (
        iter([[f"{sar} is dark; set INPUT.SAR.NODATA.", "Much is 0."], ["Much is 0.", "New."]]),
        maker._predictor.segment,
    )
    monkeypatch.setattr(maker._predictor, "segment", lambda *a, **k: {**segment(*a, **k), "warnings": next(warnings)})
    scene = maker.make_scene(rgb, sar, "water")
    assert scene.warnings == (f"sar.tif is dark. {ADVICE}", "Much is 0.")
    maker.make_map(scene, with_sar=False)
    assert scene.warnings == (f"sar.tif is dark. {ADVICE}", "Much is 0.", "New.")
    monkeypatch.undo()
    assert maker.make_scene(rgb, None, "water").warnings == ()


def test_large_scenes_are_shown_small(maker, write_image, monkeypatch):
    monkeypatch.setattr("mm_ovseg.app.map_maker.PREVIEW_SIDE", 48)
    monkeypatch.setattr("mm_ovseg.app.map_maker.ROWS_AT_ONCE", 7)
    rgb = write_image("rgb.tif", height=65, width=131)
    scene = maker.make_scene(rgb, write_image("sar.tif", height=65, width=131, bands=1), "water,road")
    assert scene.image.shape == scene.sar_image.shape == (22, 44, 3)
    page_map = scene.maps[True]
    assert page_map.class_map.shape == page_map.confidence.shape == (22, 44)
    with rasterio.open(rgb) as file:
        assert np.abs(scene.image[0, 0] - file.read()[:, :3, :3].mean(axis=(1, 2))).max() <= 1


def refused(maker, rgb, sar, classes="water", background=""):
    with pytest.raises(MMOVSegError) as raised:
        maker.make_scene(rgb, sar, classes, typed_background=background)
    return page_message(raised.value, rgb, sar)


def test_bad_input_is_told_in_a_sentence(maker, write_image, tmp_path):
    rgb = write_image("rgb.tif")
    (tmp_path / "text.png").write_text("no picture")
    folders = set(maker._folder.iterdir())
    assert refused(maker, None, None) == "No image was chosen; choose an RGB image, a SAR image or both."
    assert refused(maker, tmp_path / "text.png", None).startswith("text.png cannot be read as a PNG")
    assert "large.tif has 400x300 pixels" in refused(maker, write_image("large.tif", 300, 400), None)
    message = refused(maker, write_image("rgb.png"), write_image("sar.png", height=32, bands=1))
    assert "rgb.png is 96x64 pixels and sar.png 96x32" in message and str(tmp_path) not in message
    assert "empty" in refused(maker, rgb, None, "  ")
    assert "more than once" in refused(maker, rgb, None, "water, Water")
    assert "more than once: Water" in refused(maker, rgb, None, "water", "rock, Water")
    assert set(maker._folder.iterdir()) == folders


def test_a_name_that_looks_like_a_file_is_a_name(maker, write_image, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a whole path may be longer than the text encoder reads
    (tmp_path / "secret.json").write_text('{"classes": ["secret"]}')
    scene = maker.make_scene(write_image("rgb.tif"), None, "./secret.json")
    assert scene.class_names == ("./secret.json",)


def test_what_the_config_says_of_classes(make_cfg, shipped_cfg):
    assert known_classes(shipped_cfg) == (
        ("city", "road", "forest", "water", "farmland"),
        ("city", "forest", "farmland"),
    )
    assert known_classes(make_cfg()) == (GENERIC_CLASSES, None)
    assert unseen_names(("City", "town, city", "meadow"), ("city",)) == ("meadow",)
    assert unseen_names(("meadow",), None) == ()


def test_messages_name_files_as_visitors_do():
    path = Path("/tmp/server/abc/rgb.tif")
    assert page_message(DataError(f"{path} is bad."), path, None) == "rgb.tif is bad."
    assert page_message(VocabularyError("A name is empty.")) == "A name is empty."


@pytest.mark.parametrize("message,told", [
    ("{} holds uint16 values; set INPUT.RGB.RANGE to the [low, high] that become 0 and 255.",
     f"INPUT.SAR.tif holds uint16 values. {ADVICE}"),
    ("{} covers 3% of the scene; check that the files belong together, or lower --min-covered.",
     f"INPUT.SAR.tif covers 3% of the scene; check that the files belong together. {ADVICE}"),
    ("{} has 3e9 pixels. Set MM_OVSEG_MAX_PIXELS, or cut it.", f"INPUT.SAR.tif has 3e9 pixels; cut it. {ADVICE}"),
    ("INPUT.RGB.BANDS is [9], and {} has 3 bands.", f"The page cannot use these files. {ADVICE}"),
    ("{} is damaged; use mm-ovseg scene, or write it again. It ends early.",
     f"INPUT.SAR.tif is damaged; write it again. It ends early. {ADVICE}"),
    ("{} is -- you see -- empty; take one, or none.", "INPUT.SAR.tif is -- you see -- empty; take one, or none."),
])  # fmt: skip
def test_messages_name_no_settings_that_visitors_do_not_have(message, told):
    path = Path("/tmp/server/abc/INPUT.SAR.tif")
    assert page_message(DataError(message.format(path)), path) == told
