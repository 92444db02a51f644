"""Names of what is not there, and names asked for alone."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mm_ovseg.decision import CALIBRATED_NAMES, Calibration, Decision
from mm_ovseg.errors import ConfigError
from mm_ovseg.evaluation.open_vocabulary import (
    ABSENT_NAMES,
    CALIBRATION_NAMES,
    AbsentNames,
    SingleNames,
    absent_names,
    choose_absent_names,
)
from mm_ovseg.plain_data import parse_json, read_text

SEEN = {"city": ["city"], "water": ["water"]}


def scores_of(class_map, count, score=0.9):
    """Scores (count, H, W) whose highest is that of a map."""
    return score * F.one_hot(torch.tensor(class_map), count).permute(2, 0, 1).float()


def test_absent_names_are_distinct_and_do_not_share_words_with_the_classes():
    related = parse_json(read_text(ABSENT_NAMES))
    assert len(related) == 32
    assert choose_absent_names(2, ["city", "water"]) == ("glacier", "lava field")
    many = choose_absent_names(25, ["city", "road", "forest", "water, river", "farmland"])
    assert len(set(many)) == 25 and many[:2] == ("glacier", "lava field")
    assert not {"waterfall", "coral reef", "kelp forest", "mangrove swamp"} & set(many)
    assert "glacier" not in choose_absent_names(20, ["water", "snow and ice"])
    fitted = absent_names(["city", "water"], CALIBRATION_NAMES)  # the test is of other names than those of calibrations
    assert len(fitted) >= CALIBRATED_NAMES and "oasis" not in fitted and not {*fitted} & {*related}
    for count in (-1, 33):
        with pytest.raises(ConfigError, match=f"TEST.ABSENT_NAMES is {count}; give 1 to"):
            choose_absent_names(count, ["city"])


def test_pixels_of_absent_names_by_argmax_and_by_the_decision():
    label = np.array([[0, 0, 1, 1, 255]])
    calibration = Calibration(min_score=0.5, min_scores={"city": 0.2, "water": 0.95})  # the plain argmax has no minimum
    test = AbsentNames(["city", "water", "road"], ["glacier"], partial(Decision, calibration=calibration, seen=SEEN))
    assert test.vocabularies == (("city", "water", "road", "glacier"),)
    test.add(label, label != 255, {"absent_names": scores_of([[0, 2, 3, 1, 3]], 4)})
    results = test.results(test.counts)
    argmax = {name.removeprefix("argmax-"): share for name, share in results.items() if name.startswith("argmax")}
    expected = {"right": 50, "wrong": 0, "absent-classes": 25, "distractors": 25, "none": 0, "absent": 50}
    assert argmax == expected
    assert results["decision-none"] == 25 and results["decision-right"] == 25  # water needs 0.95
    # In an image that has roads, a road is a wrong class, but not an absent one.
    label[0, 0] = 2
    test.counts[...] = 0
    test.add(label, label != 255, {"absent_names": scores_of([[0, 2, 0, 2, 3]], 4)})
    results = test.results(test.counts)
    assert (results["argmax-wrong"], results["argmax-absent-classes"]) == (100, 0)


def test_iou_of_names_asked_for_alone():
    label = np.array([[0, 0, 1, 1, 255]])
    scores = torch.tensor([[[0.9, 0.4, 0.6, 0.1, 1.0]], [[0.1, 0.1, 0.6, 0.3, 1.0]], [[0.9, 0.9, 0.9, 0.9, 0.9]]])
    arguments = (["city", "lake", "road"], ["city", "water", "road"], ["water"])
    test = SingleNames(*arguments, Decision)  # a score of 0.5 is needed
    assert test.vocabularies == (("city",), ("lake",), ("road",))
    test.add(label, label != 255, {"single_names": scores})
    results = test.results(test.counts)
    assert results["IoU-city"] == pytest.approx(100 / 3) and results["IoU-water"] == 50
    assert np.isnan(results["IoU-road"]) and results["mIoU-seen"] == results["IoU-city"]
    assert results["mIoU"] == pytest.approx((100 / 3 + 50) / 2)
    calibration = Calibration(min_score=0.5, min_scores={"city": 0.7, "lake": 0.2})
    # Minimums are of the names that the model is asked for.
    test = SingleNames(
        *arguments, partial(Decision, calibration=calibration, seen={"city": ["city"], "lake": ["lake"]})
    )
    test.add(label, label != 255, {"single_names": scores})
    assert test.results(test.counts)["IoU-city"] == 50 and test.results(test.counts)["IoU-water"] == 100


def test_names_that_compete_are_asked_for_too():
    label = np.array([[0, 1]])
    decide = partial(Decision, rivals=["field"])
    alone = SingleNames(["city", "water"], ["city", "water"], [], decide)
    assert alone.vocabularies == (("city", "field"), ("water", "field"))
    alone.add(label, label != 255, {"single_names": torch.cat([scores_of([[0, 0]], 2), scores_of([[1, 0]], 2)])})
    assert alone.results(alone.counts)["IoU-city"] == 50 and alone.results(alone.counts)["IoU-water"] == 100
    absent = AbsentNames(["city", "water"], ["glacier"], partial(decide, calibration=Calibration()))
    assert absent.vocabularies == (("city", "water", "glacier"), ("city", "water", "glacier", "field"))
    answers = torch.cat([scores_of([[0, 2]], 3), scores_of([[0, 3]], 4)])
    absent.add(label, label != 255, {"absent_names": answers})
    results = absent.results(absent.counts)
    assert (results["argmax-distractors"], results["decision-distractors"], results["decision-none"]) == (50, 0, 50)
