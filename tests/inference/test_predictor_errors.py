"""What the Python interface says of pairs, images and configs that it cannot use."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from mm_ovseg.errors import ConfigError, DataError
from tests.inference.test_predictor import random_arrays


@pytest.fixture
def bad_pairs(tmp_path):
    rgb, sar = random_arrays(20, 30, 0)
    (tmp_path / "torn.png").write_bytes(b"torn")
    return {
        "sizes": (rgb, sar[:19]),
        "rgb type": (rgb.astype(np.float32), sar),
        "sar type": (rgb, sar.astype(np.float64)),
        "rgb bands": (rgb[..., :2], sar),
        "sar shape": (rgb, sar[None, None]),
        "missing": (tmp_path / "gone.tif", sar),
        "torn": (rgb, str(tmp_path / "torn.png")),
        "no array": ([[1, 2], [3, 4]], sar),
        "no pair": (rgb, sar, sar),
        "path": "rgb.tif",
    }


@pytest.mark.parametrize("kind,message", [
    ("sizes", "RGB is 30x20 pixels and SAR 30x19"),
    ("rgb type", r"The RGB array holds float32 values; set INPUT\.RGB\.RANGE"),
    ("sar type", r"The SAR array holds float64 values, not 8-bit ones; set INPUT\.SAR\.SCALE"),
    ("rgb bands", r"The RGB array has shape \(20, 30, 2\)"),
    ("sar shape", r"The SAR array has shape \(1, 1, 20, 30\)"),
    ("missing", r"\S*gone\.tif does not exist"),
    ("torn", r"\S*torn\.png cannot be read"),
    ("no array", "RGB is given as list"),
])  # fmt: skip
def test_bad_pairs_end_in_one_sentence_with_their_index(make_predictor, bad_pairs, kind, message):
    predictor, good = make_predictor(), random_arrays(16, 16, 0)
    with pytest.raises(DataError, match=f"^{message}"):
        predictor(*bad_pairs[kind])
    with pytest.raises(DataError, match=f"^{message}"):
        predictor.encode(*bad_pairs[kind])
    with pytest.raises(DataError, match=f"^Pair 2: {message}"):
        predictor.batch([good, good, bad_pairs[kind], good], batch_size=2)


def test_an_image_without_data_is_like_none(make_predictor, caplog):
    settings = ["INPUT.SAR.SCALE", "db", "INPUT.RGB.RANGE", [0.0, 255.0]]
    predictor, (rgb, _) = make_predictor(*settings), random_arrays(9, 9, 0)
    empty, decibels = np.full((9, 9, 3), np.nan), np.linspace(-20, 0, 81).reshape(9, 9)
    pairs = [(rgb, empty[..., 0]), (rgb, None), (empty, decibels), (None, decibels)]
    pairs += [(rgb, np.ma.masked_array(decibels, True))]
    rgb_alone, expected_rgb, sar_alone, expected_sar, masked = predictor.batch(pairs, with_scores=True)
    for prediction, expected in ((rgb_alone, expected_rgb), (sar_alone, expected_sar), (masked, expected_rgb)):
        np.testing.assert_allclose(prediction.scores, expected.scores, atol=1e-5)
        assert (prediction.class_map != 255).all()
    assert "The RGB array holds no data (every pixel is nodata); the map rests on the other image" in caplog.text
    for pair, kind in (((empty, empty[..., 0]), "SAR"), ((empty, None), "RGB"), ((None, empty[..., 0]), "SAR")):
        with pytest.raises(DataError, match=f"^Pair 1: The {kind} array holds no data"):
            predictor.batch([(rgb, decibels), pair])
    optical = make_predictor(*settings, "MODEL.DENSE_ENCODER_SAR.ENABLED", False)
    with pytest.raises(DataError, match="The RGB array holds no data"):
        optical(empty, decibels)


@pytest.mark.parametrize("kind", ["no pair", "path"])
def test_what_is_no_pair_is_said_before_the_work(make_predictor, bad_pairs, kind, monkeypatch):
    predictor = make_predictor()
    monkeypatch.setattr(predictor, "model", None)
    with pytest.raises(DataError, match=r"^Pair 1 is not \(rgb, sar\); give two"):
        predictor.batch([random_arrays(16, 16, 0), bad_pairs[kind]])


def test_nothing_to_do_is_said(make_predictor):
    predictor = make_predictor()
    with pytest.raises(DataError, match="no pairs to segment; give at least one"):
        predictor.batch([])
    for pairs in (None, 3):
        with pytest.raises(DataError, match=rf"^The pairs are given as {type(pairs).__name__}; give a list of"):
            predictor.batch(pairs)
    for batch_size in (0, -2, 1.5, 2.0, "4", None):
        with pytest.raises(ConfigError, match=rf"^The batch size is {batch_size}; give a positive whole number\.$"):
            predictor.batch([random_arrays(9, 9, 0)], batch_size=batch_size)
    assert len(predictor.batch([random_arrays(9, 9, 0)], batch_size=np.int64(2))) == 1


NO_IMAGES = [
    (torch.zeros(9, 9, 3, dtype=torch.uint8), "RGB is given as Tensor; give a path or a NumPy array"),
    (Image.new("RGB", (9, 9)), "RGB is given as Image; give a path or a NumPy array"),
    (b"rgb.tif", "RGB is given as bytes; give a path or a NumPy array"),
    ("", "'' does not exist; check the path"),
    (np.zeros((0, 9, 3), np.uint8), r"The RGB array has shape \(0, 9, 3\), so it has no pixels"),
    (np.zeros((9, 9), np.uint8), r"The RGB array has shape \(9, 9\); give \(height, width, 3\)"),
    (np.zeros((9, 9, 3), object), "The RGB array holds object values; give numbers"),
    (np.zeros((9, 9, 3), "U3"), "The RGB array holds <U3 values; give numbers"),
    (np.zeros((9, 9, 3), bool), "The RGB array holds bool values; give numbers"),
    (np.zeros((9, 9, 3), complex), "The RGB array holds complex128 values"),
    (np.broadcast_to(np.uint8(3), (4_000_000, 4_000_000, 3)), r"shape \(4000000, 4000000, 3\), which memory does not"),
]  # fmt: skip


def test_what_is_no_image_ends_in_one_sentence(make_predictor):
    predictor = make_predictor()
    for rgb, message in NO_IMAGES:
        with pytest.raises(DataError, match=message):
            predictor(rgb, None)


def test_damaged_pairs_are_left_out_where_the_config_says_so(make_predictor, bad_pairs, caplog):
    predictor, good = make_predictor("INPUT.SKIP_CORRUPT", True), random_arrays(16, 16, 0)
    with caplog.at_level("WARNING", logger="mm_ovseg"):
        predictions = predictor.batch([good, bad_pairs["torn"], good, bad_pairs["missing"]], batch_size=3)
        assert predictor(*bad_pairs["sizes"]) is None
        assert predictor.encode(*bad_pairs["sizes"]) is None and predictor.ask(None) is None
    assert [prediction is None for prediction in predictions] == [False, True, False, True]
    assert re.search(r"Skipping a pair \(INPUT\.SKIP_CORRUPT\): Pair 1: \S*torn\.png cannot be read", caplog.text)


def test_configs_that_map_nothing_are_refused(make_predictor):
    with pytest.raises(ConfigError, match="CrossModalUnification, which cannot segment"):
        make_predictor("MODEL.META_ARCHITECTURE", "CrossModalUnification")
    with pytest.raises(ConfigError, match=r"INPUT\.RELEASED_GEOMETRY is on"):
        make_predictor("INPUT.RELEASED_GEOMETRY", True)
    with pytest.raises(ConfigError, match=r"INPUT\.SAR\.BANDS"):
        make_predictor("INPUT.SAR.BANDS", [1, 2, 3, 4])


def test_a_mapper_of_ones_own_is_said_to_play_no_part(make_predictor, caplog):
    with caplog.at_level("WARNING", logger="mm_ovseg"):
        make_predictor("INPUT.DATASET_MAPPER_NAME", "mine")
    assert "INPUT.DATASET_MAPPER_NAME mine is not used here" in caplog.text
