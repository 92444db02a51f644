"""An explanation holds what the model computes, and what it leaves out plays no part."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mm_ovseg.errors import ConfigError
from mm_ovseg.inference.explanation import BOTH, RGB_ONLY, SAR_ONLY, explain, first_component
from mm_ovseg.inference.predictor import Predictor
from tests.conftest import AnnouncingLock

CLASSES = ("city", "road", "water")


@pytest.fixture
def images():
    generator = np.random.default_rng(0)
    return tuple(generator.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(2))


@pytest.fixture
def make_predictor(make_cfg):
    """A function ``(*overrides) -> Predictor`` of a tiny model with seeded random weights."""

    def make(*overrides):
        torch.manual_seed(0)
        return Predictor(make_cfg("configs/quickstart/mm_ovseg.yaml", *overrides), CLASSES)

    return make


def encoded(projected, image):
    """The dense feature (1, C, h, w) of an image (H, W, 3)."""
    with torch.no_grad():
        return projected([torch.from_numpy(image).permute(2, 0, 1)]).dense


def cosine(dense, predictor):
    """Its similarity with each class, (T, h, w), place by place."""
    with torch.no_grad():
        text = predictor.model.text(CLASSES).mean(dim=0)  # (T, C), of one template
    maps = [F.cosine_similarity(dense, one[None, :, None, None].expand_as(dense), dim=1)[0] for one in text]
    return torch.stack(maps).numpy()


def test_the_answers_are_those_of_the_predictor(make_predictor, images):
    predictor = make_predictor()
    explanations = explain(predictor, *images)
    assert list(explanations) == [RGB_ONLY, SAR_ONLY, BOTH]
    for name, pair in ((RGB_ONLY, (images[0], None)), (SAR_ONLY, (None, images[1])), (BOTH, images)):
        expected = predictor(*pair, with_scores=True)
        np.testing.assert_array_equal(explanations[name].prediction.scores, expected.scores)
        np.testing.assert_array_equal(explanations[name].prediction.class_map, expected.class_map)
    assert not np.array_equal(explanations[SAR_ONLY].prediction.scores, explanations[BOTH].prediction.scores)


def test_the_costs_are_cosines_of_what_the_encoders_say(make_predictor, images):
    predictor = make_predictor()
    model, (rgb, sar) = predictor.model, images
    explanations = explain(predictor, rgb, sar)
    clip = cosine(encoded(model.clip, rgb), predictor)
    assert explanations[SAR_ONLY].clip_cost is None
    for name in (RGB_ONLY, BOTH):
        np.testing.assert_allclose(explanations[name].clip_cost, clip, atol=1e-5)
    optical, radar = encoded(model.dino, rgb), encoded(model.dino_sar, sar)
    for name, dense in ((RGB_ONLY, optical), (SAR_ONLY, radar), (BOTH, optical + radar)):
        np.testing.assert_allclose(explanations[name].dino_cost, cosine(dense, predictor), atol=1e-5)


def test_where_sar_covers_a_part_the_costs_are_those_with_sar(make_predictor, images):
    predictor, (rgb, sar) = make_predictor(), images
    lacking = np.zeros((48, 64), bool)
    lacking[:, 40:] = True
    explanations = explain(predictor, rgb, np.ma.masked_array(sar, np.repeat(lacking[..., None], 3, axis=2)))
    optical, radar = (
        encoded(predictor.model.dino, rgb),
        encoded(predictor.model.dino_sar, np.where(lacking[..., None], 0, sar)),
    )
    for name, dense in ((SAR_ONLY, radar), (BOTH, optical + radar)):
        np.testing.assert_allclose(explanations[name].dino_cost, cosine(dense, predictor), atol=1e-5)
    alone, both = (explanations[name].prediction.scores for name in (RGB_ONLY, BOTH))
    np.testing.assert_allclose(both[:, lacking], alone[:, lacking], atol=1e-6)


def test_the_fused_cost_is_what_the_aggregator_gets(make_predictor, images):
    predictor = make_predictor()
    received = []
    predictor.model.sem_seg_head.aggregator.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
    explanations = explain(predictor, *images)
    for explanation, tensor in zip(explanations.values(), received, strict=True):
        np.testing.assert_array_equal(explanation.fused_cost, tensor[0].numpy())


def test_sar_only_does_not_depend_on_rgb_and_rgb_only_not_on_sar(make_predictor, images):
    predictor = make_predictor()
    before = explain(predictor, *images)
    other = explain(predictor, images[0][::-1].copy(), images[1])
    np.testing.assert_array_equal(before[SAR_ONLY].prediction.scores, other[SAR_ONLY].prediction.scores)
    assert not np.array_equal(before[RGB_ONLY].prediction.scores, other[RGB_ONLY].prediction.scores)
    other = explain(predictor, images[0], images[1][::-1].copy())
    np.testing.assert_array_equal(before[RGB_ONLY].prediction.scores, other[RGB_ONLY].prediction.scores)
    assert not np.array_equal(before[SAR_ONLY].prediction.scores, other[SAR_ONLY].prediction.scores)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_is_the_softmax_of_the_last_block(make_predictor, images, dtype, monkeypatch):
    monkeypatch.setattr("mm_ovseg.modeling.cpu_kernels.HAS_AMX", False)
    monkeypatch.setattr("mm_ovseg.modeling.cpu_kernels.MIN_TOKENS", 1)  # bfloat16 goes another way
    predictor = make_predictor("MODEL.INFERENCE_DTYPE", dtype)
    weights = {}
    explanations = explain(predictor, *images)
    for name in ("dino", "dino_sar"):
        attention = getattr(predictor.model, name).encoder.model.blocks[-1].attn
        attention.fused_attn = False  # timm's own softmax, whose result goes through attn_drop
        attention.attn_drop.register_forward_hook(lambda _, inputs, __, name=name: weights.update({name: inputs[0]}))
    predictor(*images)
    grid = predictor.model.dino.encoder.grid_size
    x, y = 0.7, 0.3
    row, column = int(0.3 * grid), int(0.7 * grid)
    expected = [
        weights[name][0].float().mean(dim=0)[1 + row * grid + column, 1:].reshape(grid, grid).numpy()
        for name in ("dino", "dino_sar")
    ]
    tolerance = {"rtol": 1e-4} if dtype == "float32" else {"rtol": 0.05}
    np.testing.assert_allclose(explanations[RGB_ONLY].attention(x, y), expected[0], **tolerance)
    np.testing.assert_allclose(explanations[SAR_ONLY].attention(x, y), expected[1], **tolerance)
    np.testing.assert_allclose(explanations[BOTH].attention(x, y), np.mean(expected, axis=0), **tolerance)
    assert not np.allclose(explanations[RGB_ONLY].attention(0.1, 0.9), expected[0], rtol=0.05)


def test_nothing_is_left_in_the_model(make_predictor, images):
    predictor = make_predictor()
    before = predictor(*images, with_scores=True).scores
    explain(predictor, *images)
    np.testing.assert_array_equal(predictor(*images, with_scores=True).scores, before)
    modules = predictor.model.modules()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def test_a_sar_twin_of_clip_takes_its_place(make_predictor, images):
    predictor = make_predictor("MODEL.CLIP_SAR.ENABLED", True)
    explanations = explain(predictor, *images)
    twin = cosine(encoded(predictor.model.clip_sar, images[1]), predictor)
    np.testing.assert_allclose(explanations[SAR_ONLY].clip_cost, twin, atol=1e-5)


def test_models_with_fewer_encoders(make_predictor, images):
    optical = explain(make_predictor("MODEL.DENSE_ENCODER_SAR.ENABLED", False), *images)
    assert list(optical) == [RGB_ONLY] and len(optical[RGB_ONLY].attentions) == 1
    clip_alone = explain(
        make_predictor("MODEL.DENSE_ENCODER_SAR.ENABLED", False, "MODEL.DENSE_ENCODER.ENABLED", False), *images
    )
    assert clip_alone[RGB_ONLY].dino_cost is None and clip_alone[RGB_ONLY].attention(0, 0) is None
    assert list(explain(make_predictor(), images[0], None)) == [RGB_ONLY]
    with pytest.raises(ConfigError, match="maps RGB alone"):
        explain(make_predictor("MODEL.DENSE_ENCODER_SAR.ENABLED", False), None, images[1])


def test_sar_without_rgb(make_predictor, images):
    predictor = make_predictor()
    explanations = explain(predictor, None, images[1])
    assert list(explanations) == [SAR_ONLY]
    expected = explain(predictor, *images)[SAR_ONLY]
    np.testing.assert_array_equal(explanations[SAR_ONLY].prediction.scores, expected.prediction.scores)
    np.testing.assert_array_equal(explanations[SAR_ONLY].dino_cost, expected.dino_cost)
    assert explanations[SAR_ONLY].clip_cost is None
    components, _ = first_component(explanations)
    assert np.corrcoef(components[SAR_ONLY].ravel(), expected.dino_cost.ravel())[0, 1] > 0


def test_classes_that_the_model_does_not_look_at_are_refused(make_predictor, images):
    with pytest.raises(ConfigError, match="The model looks at only 2 of 3 classes"):
        explain(make_predictor("MODEL.AGGREGATOR.MAX_CLASSES", 2), *images)


def test_the_first_component_holds_most_of_the_variance_and_agrees_with_clip(make_predictor, images):
    explanations = explain(make_predictor(), *images)
    components, share = first_component(explanations)
    channels = np.stack([explanation.fused_cost for explanation in explanations.values()])  # (K, T, D, h, w)
    flat = np.moveaxis(channels, 2, -1).reshape(-1, channels.shape[2]).astype(np.float64)
    _, singular, directions = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    assert share == pytest.approx(singular[0] ** 2 / np.sum(singular**2), rel=1e-4)
    expected = (flat - flat.mean(axis=0)) @ directions[0]
    ours = np.stack(list(components.values()))
    assert ours.shape == (3, 3, *channels.shape[3:])
    np.testing.assert_allclose(abs(ours.ravel()), abs(expected), atol=1e-4 * abs(expected).max())
    for sign in (1, -1):  # of CLIP's costs
        signed = {
            name: replace(explanation, clip_cost=None if name == SAR_ONLY else sign * explanation.clip_cost)
            for name, explanation in explanations.items()
        }
        components, _ = first_component(signed)
        known = [np.ravel([values[name] for name in (RGB_ONLY, BOTH)]) for values in (components, costs_of(signed))]
        assert np.corrcoef(known)[0, 1] > 0


def costs_of(explanations):
    return {name: explanation.clip_cost for name, explanation in explanations.items()}


def test_an_explanation_has_one_vocabulary_and_its_own_results_whatever_other_threads_do(make_predictor, images):
    predictor = make_predictor()
    expected = explain(predictor, *images)
    predictor.lock = AnnouncingLock()

    def meddle():
        predictor.set_vocabulary(["sea", "sky"])
        predictor(images[1], images[0])

    other = threading.Thread(target=predictor.lock.announce_end, args=(meddle,))

    def start_other(*_):
        if other.ident is None:
            other.start()
            predictor.lock.met.wait()

    predictor.model.sem_seg_head.register_forward_hook(start_other)
    explanations = explain(predictor, *images)
    other.join()
    for name, explanation in explanations.items():
        assert explanation.prediction.classes == CLASSES
        np.testing.assert_array_equal(explanation.fused_cost, expected[name].fused_cost)
    assert predictor.class_names == ("sea", "sky")
