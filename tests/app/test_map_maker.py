"""Maps of scenes: with which images, of which part, and how fast the second question is answered."""

import numpy as np
import pytest
import rasterio

from mm_ovseg.app.map_maker import GENERIC_CLASSES, Question, known_classes, unseen_names
from mm_ovseg.app.messages import ADVICE
from mm_ovseg.errors import ConfigError, MMOVSegError, StoppedError, VocabularyError
from tests.app.conftest import ignore, never


@pytest.fixture
def ask(maker, tmp_path):
    """A function that maps a scene, as visitors ask for it."""
    count = iter(range(1000))

    def ask(scene, classes="water, city", background="", sensors="both", window=None, **callbacks):
        question = Question.typed(scene, classes, background, sensors, window)
        callbacks = {"progress": ignore, "should_stop": never, **callbacks}
        folder = tmp_path / f"map_{next(count)}"
        return maker.make_map(scene, question, folder, features=tmp_path / f"features_{scene.id}", **callbacks)

    return ask


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def test_a_pair_with_and_without_each_image(ask, open_scene, write_image):
    scene = open_scene(write_image("rgb.tif"), write_image("sar.tif", bands=1))
    told = []
    both = ask(scene, "city, farmland, meadow", progress=lambda *done: told.append(done))
    assert told[-1] == (told[-1][1], told[-1][1], "windows") and both.has_scores and both.sensors == "both"
    assert [entry["unseen"] for entry in both.classes] == [False, False, True]
    with rasterio.open(both.geotiff) as file:
        assert file.shape == (64, 96) and file.crs.to_epsg() == 32633 and file.tags(1)["class_2"] == "meadow"
    rgb, sar = (ask(scene, "city, farmland, meadow", sensors=kind) for kind in ("rgb", "sar"))
    maps = [read(one.geotiff) for one in (both, rgb, sar)]
    assert not np.array_equal(maps[0], maps[1]) and not np.array_equal(maps[1], maps[2])
    sentence = "100% of the map rests on SAR alone, for which this model was not trained; do not rely on it there."
    assert sar.warnings == [f"{sentence} {ADVICE}"] and both.warnings == rgb.warnings == []
    assert both.geotiff.is_file() and not both.asked_again and both.seconds > 0


def test_one_image_is_used_whatever_is_asked_for(ask, open_scene, write_image):
    scene = open_scene(None, write_image("sar.tif", bands=1))
    assert ask(scene).sensors == "sar"
    with pytest.raises(ConfigError, match="has no such image"):
        ask(scene, sensors="rgb")
    with pytest.raises(ConfigError, match="has no such image"):
        ask(scene, sensors="all")


def test_a_part_is_mapped_as_if_it_were_the_scene(ask, open_scene, write_image):
    rng = np.random.default_rng(1)
    rgb, sar = (rng.integers(1, 255, (bands, 200, 260), dtype=np.uint8) for bands in (3, 1))
    window = 30, 50, 90, 120
    part = np.s_[:, 30:120, 50:170]
    for suffix in (".tif", ".png"):
        whole = open_scene(write_image(f"rgb{suffix}", image=rgb), write_image(f"sar{suffix}", image=sar))
        cut = open_scene(write_image(f"cut{suffix}", image=rgb[part]), write_image(f"cut_sar{suffix}", image=sar[part]))
        of_part = ask(whole, window=window)
        assert of_part.window == window and of_part.describe().get("bounds" if suffix == ".tif" else "pixels")
        assert np.array_equal(read(of_part.geotiff), read(ask(cut).geotiff))
        with rasterio.open(of_part.geotiff) as file:
            assert file.shape == (90, 120)
            assert suffix == ".png" or tuple(file.bounds)[::3] == (500_500, 5_000_000 - 300)
        assert of_part.point(30, 50)["value"] == read(of_part.geotiff)[0, 0] and of_part.point(29, 50) is None
    assert of_part.describe()["pixels"] == [[50, 30], [170, 120]]


@pytest.fixture
def encoded(maker):
    """Images that CLIP has encoded."""
    seen = []
    hook = maker._predictor.model.clip.register_forward_hook(lambda *_: seen.append(1))
    yield seen
    hook.remove()


def test_other_names_are_answered_without_the_encoders(ask, open_scene, write_image, encoded):
    scene = open_scene(write_image("rgb.tif"), write_image("sar.tif", bands=1))
    other = open_scene(write_image("rgb.tif"), write_image("sar.tif", bands=1))
    first = ask(scene)
    assert encoded and not first.asked_again
    expected = ask(other, "wood, lake", "grass")
    encoded.clear()
    second = ask(scene, "wood, lake", "grass")
    assert second.asked_again and not encoded
    for name in ("geotiff", "confidence"):
        assert getattr(second, name).read_bytes() == getattr(expected, name).read_bytes()
    for changed in ({"sensors": "rgb"}, {"window": (0, 0, 30, 40)}):
        encoded.clear()
        assert not ask(scene, **changed).asked_again and encoded
        encoded.clear()
        assert ask(scene, "lake", **changed).asked_again and not encoded


def test_features_that_do_not_fit_are_not_claimed(ask, open_scene, write_image, monkeypatch):
    monkeypatch.setattr("mm_ovseg.app.map_maker.MAX_FEATURES", 2e-3)
    scene = open_scene(write_image("rgb.tif", 150, 300))
    ask(scene)
    assert not ask(scene, "lake").asked_again


@pytest.mark.parametrize("last", [1, 3])
def test_a_run_ends_between_windows_when_nobody_wants_it(last, ask, open_scene, write_image, tmp_path):
    scene = open_scene(write_image("rgb.tif", 300, 300))
    answers = iter([False] * (last - 1) + [True])
    with pytest.raises(StoppedError):  # not StopIteration: it is not asked again
        ask(scene, should_stop=lambda: next(answers))
    assert not list(tmp_path.glob("map_*"))
    assert ask(scene).geotiff.is_file()


def test_a_run_ends_between_the_files_when_nobody_wants_it(ask, open_scene, write_image, tmp_path):
    with pytest.raises(StoppedError):
        ask(open_scene(write_image("rgb.tif")), should_stop=lambda: any(tmp_path.glob("map_*/map.tif")))
    assert not list(tmp_path.glob("map_*"))


def test_scores_of_large_maps_are_not_kept(ask, open_scene, write_image, monkeypatch):
    monkeypatch.setattr("mm_ovseg.app.map_maker.MAX_SCORES", 64 * 96 * 2)
    scene = open_scene(write_image("rgb.tif"))
    assert ask(scene).has_scores
    without = ask(scene, "water, city, road")
    point = without.point(0, 0)
    assert not without.has_scores and [score["name"] for score in point["scores"]] == [point["name"]]
    assert not list(without.folder.glob("*_probabilities.tif"))


def test_names_that_cannot_be_asked_for(ask, open_scene, write_image, tmp_path, monkeypatch):
    scene = open_scene(write_image("rgb.tif"))
    for classes, background, said in (
        ("  ", "", "empty"),
        ("water, Water", "", "more than once"),
        ("water", "rock, Water", "more than once: Water"),
        ("water,,city", "", "A class name"),
    ):
        with pytest.raises(VocabularyError, match=said):
            ask(scene, classes, background)
    assert not list(tmp_path.glob("map_*"))
    monkeypatch.chdir(tmp_path)  # a whole path may be longer than the text encoder reads
    (tmp_path / "secret.json").write_text('{"classes": ["secret"]}')
    assert ask(scene, "./secret.json").classes[0]["name"] == "./secret.json"


def test_each_scene_is_read_in_its_own_way(ask, open_scene, write_image, shipped_cfg):
    cfg = shipped_cfg.clone()
    cfg.defrost()
    cfg.INPUT.RGB.RANGE = [0, 1000]
    image = np.random.default_rng(0).integers(0, 1000, (3, 64, 96)).astype(np.uint16)
    deep, plain = open_scene(write_image("deep.tif", image=image), cfg=cfg), open_scene(write_image("rgb.tif"))
    assert ask(deep).geotiff.is_file() and ask(plain).geotiff.is_file()
    with pytest.raises(MMOVSegError, match="holds uint16 values"):
        open_scene(write_image("deep.tif", image=image))


def test_what_the_config_says_of_classes(make_cfg, shipped_cfg):
    assert known_classes(shipped_cfg) == (
        ("city", "road", "forest", "water", "farmland"),
        ("city", "forest", "farmland"),
    )
    assert known_classes(make_cfg()) == (GENERIC_CLASSES, None)
    assert unseen_names(("City", "town, city", "meadow"), ("city",)) == ("meadow",)
    assert unseen_names(("meadow",), None) == ()
