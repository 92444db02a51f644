"""The Python interface, with a small random model."""

import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from detectron2.modeling import build_model
from PIL import Image

from mm_ovseg.data.mappers import RGBSARPairMapper
from mm_ovseg.decision import NONE_CLASS
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError, DataError, VocabularyError
from mm_ovseg.inference import Prediction, Predictor
from tests.conftest import AnnouncingLock
from tests.inference.conftest import CLASSES

SIZES = ((48, 64), (33, 20), (64, 64), (1, 7), (48, 64))


def random_arrays(height, width, seed):
    generator = np.random.default_rng(seed)
    rgb = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return rgb, generator.integers(0, 256, (height, width), dtype=np.uint8)


def assert_equal(given, expected):
    """Compare two predictions: scores to float tolerance, maps wherever the best class wins by more than that."""
    np.testing.assert_allclose(given.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(given.confidence, expected.confidence, atol=1e-5)
    second, best = np.sort(expected.scores, axis=0)[-2:]
    clear = best - second > 2e-5
    assert clear.mean() > 0.9  # the weights are random, so some pixels are close
    np.testing.assert_array_equal(given.class_map[clear], expected.class_map[clear])
    np.testing.assert_array_equal(given.image, expected.image)
    assert (given.sar_image is None) == (expected.sar_image is None)
    assert given.classes == expected.classes


def test_a_pair_gives_a_map_names_and_confidence(make_predictor):
    rgb, sar = random_arrays(40, 60, 0)
    rgb = np.ma.masked_array(rgb, np.zeros_like(rgb, bool))
    rgb[:10] = np.ma.masked
    seen = np.ma.masked_array(sar, np.zeros_like(sar, bool))
    seen[:10] = np.ma.masked
    prediction = make_predictor()(rgb, seen, with_scores=True)
    assert prediction.classes == CLASSES
    assert prediction.class_map.shape == (40, 60) and prediction.class_map.dtype == np.uint8
    assert prediction.confidence.dtype == prediction.scores.dtype == np.float32
    assert prediction.scores.shape == (3, 40, 60)
    assert (prediction.class_map[:10] == 255).all() and (prediction.confidence[:10] == 0).all()
    np.testing.assert_array_equal(prediction.class_map[10:], prediction.scores[:, 10:].argmax(axis=0))
    np.testing.assert_array_equal(prediction.confidence, prediction.scores.max(axis=0))
    assert prediction.confidence[10:].min() > 0 and prediction.confidence.max() < 1
    np.testing.assert_array_equal(prediction.image[10:], rgb[10:])
    np.testing.assert_array_equal(prediction.sar_image[10:], np.repeat(sar[10:, :, None], 3, axis=2))


def test_sar_answers_alone_where_rgb_has_no_data(make_predictor):
    predictor, (rgb, sar) = make_predictor(), random_arrays(40, 60, 0)
    partial = np.ma.masked_array(rgb, np.zeros_like(rgb, bool))
    partial[:10] = np.ma.masked
    both, partly, alone, nothing = predictor.batch([(rgb, sar), (partial, sar), (None, sar), (partial, None)])
    for prediction in (both, partly, alone):
        assert (prediction.class_map < 3).all() and (prediction.confidence > 0).all()
    np.testing.assert_allclose(partly.confidence[:10], alone.confidence[:10], atol=1e-6)
    assert not np.allclose(both.confidence, alone.confidence, atol=1e-4)
    assert (nothing.class_map[:10] == 255).all() and (nothing.class_map[10:] < 3).all()
    assert alone.image.shape == (40, 60, 3) and not alone.image.any()
    with pytest.raises(DataError, match="neither RGB nor SAR"):
        predictor(None, None)


def test_a_model_of_rgb_alone_makes_no_map_of_sar_alone(make_predictor):
    rgb, sar = random_arrays(40, 60, 0)
    predictor = make_predictor("MODEL.DENSE_ENCODER_SAR.ENABLED", False)
    alone, both = predictor.batch([(None, sar), (rgb, sar)])
    assert (alone.class_map == 255).all() and (alone.confidence == 0).all() and (both.class_map < 3).all()


def test_scores_come_when_asked_for(make_predictor):
    predictor, pair = make_predictor(), random_arrays(20, 20, 0)
    assert predictor(*pair).scores is None
    assert predictor.batch([pair])[0].scores is None
    assert predictor.batch([pair], with_scores=True)[0].scores.shape == (3, 20, 20)


def test_the_scores_are_those_of_the_model(make_predictor):
    predictor, (rgb, sar) = make_predictor(), random_arrays(40, 60, 0)
    image, sar_image = (
        torch.from_numpy(array).float().permute(2, 0, 1) for array in (rgb, np.repeat(sar[..., None], 3, axis=2))
    )
    for given, seen in ((sar, sar_image), (None, None)):
        expected = predictor.model([{"image": image, "sar_image": seen}])[0]["sem_seg"].numpy()
        np.testing.assert_allclose(predictor(rgb, given, with_scores=True).scores, expected, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_a_batch_equals_single_calls(make_predictor, tmp_path, batch_size):
    predictor = make_predictor()
    pairs = [random_arrays(*size, seed) for seed, size in enumerate(SIZES)]
    pairs += [(rgb, None) for rgb, _ in pairs[:3]]
    for name, image in zip(("rgb", "sar"), pairs[0], strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    files = tmp_path / "rgb.png", str(tmp_path / "sar.png")
    pairs = [files, *(pairs[index] for index in np.random.default_rng(batch_size).permutation(len(pairs)))]
    singles = [predictor(*pair, with_scores=True) for pair in pairs]
    predictions = predictor.batch(iter(pairs), batch_size=batch_size, with_scores=True)
    assert len(predictions) == len(pairs) and all(isinstance(prediction, Prediction) for prediction in predictions)
    for given, expected in zip(predictions, singles, strict=True):
        assert_equal(given, expected)


def test_pixels_without_sar_get_the_answer_of_rgb_alone(make_predictor):
    predictor = make_predictor()
    (rgb, sar), other = random_arrays(40, 60, 0), random_arrays(40, 60, 1)
    lacking = np.zeros((40, 60), bool)
    lacking[5:30, 20:] = True
    rgb = np.ma.masked_array(rgb, np.zeros_like(rgb, bool))
    rgb[25:28] = np.ma.masked
    partial = (rgb, np.ma.masked_array(sar, lacking))
    black = (rgb, np.where(lacking, 0, sar).astype(np.uint8))
    alone, with_sar = (predictor(*pair, with_scores=True).scores for pair in ((rgb, None), black))
    expected = np.where(lacking, alone, with_sar)
    for prediction in (
        predictor(*partial, with_scores=True),
        predictor.batch([other, (rgb, None), partial, other], batch_size=3, with_scores=True)[2],
    ):
        np.testing.assert_allclose(prediction.scores, expected, atol=1e-5)
    assert np.abs(alone - with_sar)[:, lacking].max() > 1e-3


def test_evaluation_answers_as_a_predictor_does_where_sar_covers_a_part(make_predictor, make_cfg, tmp_path):
    predictor, (rgb, sar) = make_predictor(), random_arrays(40, 60, 0)
    files = {"file_name": str(tmp_path / "rgb.png"), "sar_file_name": str(tmp_path / "sar.tif")}
    Image.fromarray(rgb).save(files["file_name"])
    sar[:, 30:] = 0
    with rasterio.open(
        files["sar_file_name"], "w", driver="GTiff", dtype="uint8", width=60, height=40, count=1, nodata=0
    ) as file:
        file.write(sar, 1)
    item = RGBSARPairMapper(make_cfg(), is_train=False)(files)
    assert 0 < item["sar_valid"].float().mean() < 1
    expected = predictor(*files.values(), with_scores=True).scores
    np.testing.assert_allclose(predictor.model([item])[0]["sem_seg"], expected, atol=1e-6)
    alone = predictor(rgb, None, with_scores=True).scores
    np.testing.assert_allclose(expected[..., 30:], alone[..., 30:], atol=1e-6)


def test_an_optical_model_takes_pairs_with_and_without_sar(make_predictor):
    predictor = make_predictor("MODEL.DENSE_ENCODER_SAR.ENABLED", False)
    rgb, sar = random_arrays(30, 40, 0)
    both, alone = predictor.batch([(rgb, sar), (rgb, None)])
    np.testing.assert_array_equal(both.class_map, alone.class_map)


def test_the_vocabulary_can_change(make_predictor):
    predictor, pair = make_predictor(), random_arrays(30, 40, 0)
    first = predictor(*pair, with_scores=True)
    predictor.set_vocabulary(["  field ", "sea"])
    second = predictor(*pair, with_scores=True)
    assert predictor.class_names == second.classes == ("field", "sea") and second.scores.shape[0] == 2
    predictor.set_vocabulary(CLASSES)
    assert_equal(predictor(*pair, with_scores=True), first)
    assert first.classes == CLASSES
    for wrong, message in (
        ([], "empty"),
        ("water", "must be a list"),
        (["sea", "Sea"], "more than once"),
        ([f"class {index}" for index in range(256)], "256 class names; .* at most 254"),
    ):
        with pytest.raises(VocabularyError, match=message):
            predictor.set_vocabulary(wrong)
    assert predictor.class_names == CLASSES


def test_one_name_alone_competes_with_what_training_saw():
    predictor = Predictor(load_config("configs/quickstart/demo.yaml", needs_datasets=False), ["woods"])
    assert predictor.decision.names == ("woods", "city", "farmland") and predictor.decision.min_scores == (0.5,)
    folder = Path("demo/assets/pair/val")
    class_map = predictor(folder / "rgb" / "00000.tif", folder / "sar" / "00000.tif").class_map
    label = rasterio.open(folder / "labels" / "00000.tif").read(1)
    found, forest = class_map == 0, label == 2
    assert set(np.unique(class_map)) == {0, NONE_CLASS}
    assert (found & forest).sum() > 0.5 * (found | forest).sum()
    predictor.set_vocabulary(["forest, farmland"])  # one class of two that training saw: neither competes with it
    assert predictor.decision.names == ("forest, farmland", "city")
    predictor.set_vocabulary(["glacier"])
    assert predictor.decision.names == ("glacier", "city", "forest", "farmland")
    predictor.set_vocabulary(["glacier"], background=())
    assert predictor.decision.names == ("glacier",) and predictor.class_names == ("glacier",)


def test_arrays_stay_as_they_are(make_predictor):
    predictor = make_predictor("INPUT.SAR.SCALE", "power")
    rgb, sar = random_arrays(20, 20, 0)
    sar = sar.astype(np.float32)
    before = rgb.copy(), sar.copy()
    prediction = predictor(rgb, sar)
    prediction.image[:] = 0
    np.testing.assert_array_equal(rgb, before[0])
    np.testing.assert_array_equal(sar, before[1])


@pytest.mark.parametrize("call", [
    lambda predictor, pair: predictor(*pair, with_scores=True),
    lambda predictor, pair: predictor.batch([pair] * 3, batch_size=1, with_scores=True)[-1],
    lambda predictor, pair: predictor.ask(predictor.encode(*pair), with_scores=True),
])  # fmt: skip
def test_names_and_scores_are_of_one_vocabulary_whatever_other_threads_set(make_predictor, call):
    predictor, pair = make_predictor(), random_arrays(20, 20, 0)
    expected = predictor(*pair, with_scores=True)
    predictor.lock = AnnouncingLock()
    other = threading.Thread(target=predictor.lock.announce_end, args=(predictor.set_vocabulary, ["sea", "sky"]))

    def change_vocabulary(*_):
        if other.ident is None:
            other.start()
            predictor.lock.met.wait()

    predictor.model.sem_seg_head.register_forward_hook(change_vocabulary)
    assert_equal(call(predictor, pair), expected)
    other.join()
    assert call(predictor, pair).classes == predictor.class_names == ("sea", "sky")


def test_a_thread_that_holds_the_lock_keeps_its_vocabulary(make_predictor):
    predictor, pair = make_predictor(), random_arrays(20, 20, 0)
    predictor.lock = AnnouncingLock()
    other = threading.Thread(target=predictor.lock.announce_end, args=(predictor.set_vocabulary, ["sea", "sky"]))
    with predictor.lock:
        predictor.set_vocabulary(["field", "road", "city"])
        other.start()
        predictor.lock.met.wait()
        assert predictor(*pair).classes == ("field", "road", "city")
    other.join()
    assert predictor.class_names == ("sea", "sky")


def test_modes_of_the_caller_do_not_matter(make_predictor):
    pair = random_arrays(20, 20, 0)
    expected = make_predictor()(*pair, with_scores=True)
    for mode in (torch.inference_mode, torch.no_grad, torch.enable_grad):
        with mode():
            predictor = make_predictor()
            assert_equal(predictor(*pair, with_scores=True), expected)
        assert_equal(predictor(*pair, with_scores=True), expected)
        assert not any(parameter.is_inference() for parameter in predictor.model.parameters())
        assert predictor.model.text._cache  # the text is encoded once


def test_the_default_type_of_pytorch_does_not_matter_or_is_refused(make_predictor, make_cfg):
    predictor, pair = make_predictor(), random_arrays(20, 20, 0)
    expected = predictor(*pair, with_scores=True)
    try:
        for dtype in (torch.bfloat16, torch.float16, torch.float64):
            torch.set_default_dtype(dtype)
            assert_equal(predictor(*pair, with_scores=True), expected)
            for build in (make_predictor, lambda: build_model(make_cfg("configs/cmu_dino_vitb8.yaml"))):
                with pytest.raises(ConfigError, match=rf"default type is {dtype}, but models are built in float32"):
                    build()
    finally:
        torch.set_default_dtype(torch.float32)


def test_arrays_of_any_layout_and_real_type(make_predictor):
    predictor, pair = make_predictor(), random_arrays(20, 30, 0)
    expected = predictor(*pair, with_scores=True)
    for change in (
        np.asfortranarray,
        lambda array: array[::-1, ::-1].copy()[::-1, ::-1],  # negative strides
        lambda array: np.repeat(array, 2, axis=1)[:, ::2],
        lambda array: array.view(type("Subclass", (np.ndarray,), {})),
    ):
        changed = [change(array) for array in pair]
        for array in changed:
            array.setflags(write=False)
        assert_equal(predictor(*changed, with_scores=True), expected)

    predictor = make_predictor("INPUT.RGB.RANGE", [0.0, 200.0], "INPUT.SAR.SCALE", "power")
    expected = predictor(*(array.astype(np.float32) for array in pair), with_scores=True)
    for kind in ("float16", "float64", "longdouble", ">f4", "int16", "uint64"):
        assert_equal(predictor(*(array.astype(kind) for array in pair), with_scores=True), expected)


@pytest.mark.parametrize("with_sar", [True, False])
def test_a_pair_is_as_large_for_the_model_as_in_evaluation(make_predictor, make_cfg, tmp_path, with_sar):
    sizes = ["INPUT.MIN_SIZE_TEST", 30, "INPUT.MAX_SIZE_TEST", 40]
    predictor, (rgb, sar) = make_predictor(*sizes), random_arrays(48, 96, 0)
    files = {"file_name": str(tmp_path / "rgb.png"), "sar_file_name": str(tmp_path / "sar.png")}
    for array, path in zip((rgb, sar), files.values(), strict=True):
        Image.fromarray(array).save(path)
    item = RGBSARPairMapper(make_cfg("configs/quickstart/mm_ovseg.yaml", *sizes), False)(files)
    assert item["image"].shape == (3, 20, 40) and (item["height"], item["width"]) == (48, 96)
    if not with_sar:
        item["sar_image"] = item["sar_valid"] = None
    expected = predictor.model([item])[0]["sem_seg"].numpy()
    prediction = predictor(files["file_name"], files["sar_file_name"] if with_sar else None, with_scores=True)
    np.testing.assert_allclose(prediction.scores, expected, atol=1e-6)
    assert prediction.class_map.shape == (48, 96)
    np.testing.assert_array_equal(prediction.image, rgb)
