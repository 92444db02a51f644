"""A pair that is encoded once is asked for any names."""

import numpy as np
import pytest
import torch

from mm_ovseg.errors import ConfigError
from tests.inference.conftest import CLASSES
from tests.inference.test_predictor import random_arrays


def assert_same(given, expected):
    """Compare two predictions bit by bit."""
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(given, name), value, strict=True)


def masked(array, rows):
    """An array without data in some rows."""
    array = np.ma.masked_array(array, np.zeros_like(array, bool))
    array[rows] = np.ma.masked
    return array


ASKED = [
    (CLASSES, {}),
    (("burnt forest", "sea"), {}),
    (("sea",), {"background": ["city", "something else"], "min_score": 0.4}),
    (CLASSES, {"min_score": {"road": 0.9}}),
]


@pytest.mark.parametrize("kind", ["both", "RGB alone", "SAR alone", "parts"])
def test_an_encoded_pair_is_asked_for_any_names_as_the_images_are(make_predictor, kind):
    predictor, (rgb, sar) = make_predictor(), random_arrays(40, 60, 0)
    rgb, sar = {
        "both": (rgb, sar),
        "RGB alone": (rgb, None),
        "SAR alone": (None, sar),
        "parts": (masked(rgb, slice(10)), masked(sar, slice(20, 30))),
    }[kind]
    expected, encoders = [], (predictor.model.clip, predictor.model.dino, predictor.model.dino_sar)
    for names, options in ASKED:
        predictor.set_vocabulary(names, **options)
        expected.append(predictor(rgb, sar, with_scores=True))
    pair = predictor.encode(rgb, sar)
    for image in (rgb, sar):
        if image is not None:
            image[:] = 0  # the pair has its own

    def refuse(*_):
        raise AssertionError("an image is encoded again")

    handles = [encoder.register_forward_pre_hook(refuse) for encoder in encoders]
    for order in (range(len(ASKED)), (2, 0, 0, 3, 1)):
        for index in order:
            names, options = ASKED[index]
            predictor.set_vocabulary(names, **options)
            prediction = predictor.ask(pair, with_scores=True)
            assert_same(prediction, expected[index])
            prediction.image[:] = 7  # another answer has its own
    assert predictor.ask(pair).scores is None
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("modes", [(torch.inference_mode, torch.no_grad), (torch.enable_grad, torch.inference_mode)])
def test_a_pair_is_asked_in_any_mode(make_predictor, modes):
    predictor, (rgb, sar) = make_predictor(), random_arrays(40, 60, 0)
    images = masked(rgb, slice(10)), masked(sar, slice(20, 30))
    expected = predictor(*images, with_scores=True)
    with modes[0]():
        pair = predictor.encode(*images)
    with modes[1]():
        assert_same(predictor.ask(pair, with_scores=True), expected)
    assert not any(tensor.requires_grad for kind in pair.encoded.features.values() for tensor in kind.values())


def test_a_pair_of_another_model_or_of_other_weights_is_refused(make_predictor):
    predictor, other, images = make_predictor(), make_predictor(), random_arrays(20, 20, 0)
    pair, model = predictor.encode(*images), predictor.model
    with pytest.raises(ConfigError, match="encoded by another predictor; encode it again with this one"):
        other.ask(pair)

    def train_a_step():
        parameters = list(model.sem_seg_head.parameters())
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        torch.optim.SGD(parameters, lr=1e-3).step()
        model.zero_grad()

    def load():
        model.load_state_dict({name: value * 1.01 for name, value in model.state_dict().items()})

    for change in (train_a_step, load):
        before = predictor.ask(pair, with_scores=True).scores
        change()
        with pytest.raises(ConfigError, match="weights have changed since this pair was encoded; encode it again"):
            predictor.ask(pair)
        pair = predictor.encode(*images)
        assert_same(predictor.ask(pair, with_scores=True), predictor(*images, with_scores=True))
        assert not np.array_equal(predictor.ask(pair, with_scores=True).scores, before)

    with torch.inference_mode():
        other.model.double().float()
    assert other(*images).class_map.shape == (20, 20)
    with pytest.raises(ConfigError, match=r"changed under torch\.inference_mode\(\).*change them outside"):
        other.encode(*images)
