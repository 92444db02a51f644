"""Which class a pixel gets, or none of them."""

import pytest
import torch

from mm_ovseg.decision import NODATA_CLASS, NONE_CLASS, Calibration, Decision
from mm_ovseg.errors import ConfigError, VocabularyError


def test_plain_argmax_by_default():
    scores = torch.rand(5, 7, 9, generator=torch.Generator().manual_seed(0))
    decision = Decision(["a", "b", "c", "d", "e"])
    class_map, confidence = decision(scores)
    assert not decision.has_none and torch.equal(class_map.long(), scores.argmax(dim=0))
    assert torch.equal(confidence, scores.amax(dim=0))


def test_one_name_alone_is_there_or_not():
    decision = Decision(["water"])
    class_map, confidence = decision(torch.tensor([[[0.5, 0.49, 0.9, 0.9]]]), torch.tensor([[True, True, True, False]]))
    assert decision.has_none and class_map.tolist() == [[0, NONE_CLASS, 0, NODATA_CLASS]]
    assert confidence[0].tolist() == pytest.approx([0.5, 0.51, 0.9, 0])
    assert not Decision(["water"], min_score=0).has_none


def test_background_names_compete_and_give_none():
    decision = Decision(["water", "road"], background=["bare ground", "something else"])
    assert decision.names == ("water", "road", "bare ground", "something else")
    scores = torch.tensor([[0.5, 0.1, 0.3], [0.1, 0.2, 0.1], [0.5, 0.1, 0.1], [0.2, 0.1, 0.4]])[:, None]  # (4, 1, 3)
    class_map, confidence = decision(scores)
    assert class_map.tolist() == [[0, 1, NONE_CLASS]]
    assert confidence[0].tolist() == pytest.approx([0.5, 0.2, 0.7])


def test_minimums_by_class_and_the_calibrations():
    calibration = Calibration(scale=2.0, bias=1.0, min_score=0.6, min_scores={"water": 0.3})
    known = {"calibration": calibration, "seen": {"river": ["water"]}}
    assert Decision(["river", "road"], **known).min_scores == (0.3, 0.6)
    both = {"calibration": Calibration(min_scores={"water": 0.3, "road": 0.2}), "seen": {"both": ["water", "road"]}}
    assert Decision(["both"], **both).min_scores == (0.2,)
    assert Decision(["river", "road"], **known, min_score={"road": 0.2}).min_scores == (0.3, 0.2)
    assert Decision(["water", "road"], calibration=calibration, min_score=0.0).min_scores == (0.0, 0.0)
    scores = torch.tensor([0.0, 0.2, 0.5, 1.0])
    expected = torch.sigmoid(2 * torch.logit(scores[1:3]) + 1)
    probabilities = calibration(scores)
    assert torch.allclose(probabilities[1:3], expected) and probabilities.min() >= 0 and probabilities.max() <= 1


def test_classes_of_the_training_compete_with_one_name_or_with_a_calibration():
    training = {"seen": {"woods": ["forest"]}, "rivals": ["city", "farmland"]}
    assert Decision(["woods", "water"], **training).names == ("woods", "water")
    seen, unseen = Decision(["woods"], **training), Decision(["water"], seen={}, rivals=["forest", "city"])
    assert seen.names == ("woods", "city", "farmland") and seen.min_scores == (0.5,)
    assert unseen.names == ("water", "forest", "city") and unseen.min_scores == (0.0,)
    assert Decision(["woods"], background=[], **training).names == ("woods",)
    calibrated = Decision(["woods", "water"], calibration=Calibration(min_scores={"forest": 0.3}), **training)
    assert calibrated.names == ("woods", "water", "city", "farmland") and calibrated.min_scores == (0.3, 0.0)


def test_of_many_names_never_seen_each_must_win_by_a_margin():
    calibration = Calibration(margin=2.0)
    names = ["forest", *(f"word {index}" for index in range(20))]
    few, many = (Decision(names[:count], calibration=calibration, seen={"forest": ["forest"]}) for count in (6, 21))
    assert few.margin == 0 and many.margin == pytest.approx(2.0)
    scores = torch.full((21, 1, 2), 0.1)
    scores[0], scores[3] = 0.5, torch.sigmoid(torch.tensor([1.9, 2.1]))
    assert few(scores[:6])[0].tolist() == [[3, 3]]
    class_map, confidence = many(scores)
    assert class_map.tolist() == [[0, 3]]
    assert confidence[0].tolist() == pytest.approx([0.5, float(scores[3, 0, 1])])


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"classes": ["none", "water"], "min_score": 0.1}, VocabularyError, "none of the classes"),
    ({"classes": [str(index) for index in range(255)]}, VocabularyError, "at most 254"),
    ({"classes": ["water"], "background": ["Water"]}, VocabularyError, "more than once"),
    ({"classes": ["water"], "min_score": 1.5}, ConfigError, "from 0 to 1"),
    ({"classes": ["water"], "min_score": {"road": 0.5}}, ConfigError, "road"),
])  # fmt: skip
def test_wrong_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        Decision(**arguments)
