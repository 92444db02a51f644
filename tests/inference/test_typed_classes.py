"""Options of the decision, as typed on a command line."""

import pytest

from mm_ovseg.errors import ConfigError, VocabularyError
from mm_ovseg.inference.typed_classes import read_decision_options

CLASSES = ("water, river", "road", "a=b")


@pytest.mark.parametrize(("background", "min_score", "expected"), [
    (None, None, {"background": None, "min_score": None}),
    ("", None, {"background": (), "min_score": None}),
    ("bare ground, something else", "0.4", {"background": ("bare ground", "something else"), "min_score": 0.4}),
    ("bare ground, sand; else;", "Water=0.3; a=b = .2;", {
        "background": ("bare ground, sand", "else"), "min_score": {"water, river": 0.3, "a=b": 0.2}
    }),
    (None, "water,river=0", {"background": None, "min_score": {"water, river": 0.0}}),
])  # fmt: skip
def test_typed_options(background, min_score, expected):
    assert read_decision_options(CLASSES, background, min_score) == expected


@pytest.mark.parametrize(("background", "min_score", "error", "words"), [
    (None, "half", ConfigError, "--min-score is 'half'; give a number"),
    (None, "water=half", ConfigError, "--min-score is 'water=half'; give a number"),
    (None, "1.5", ConfigError, "1.5; give a number from 0 to 1"),
    (None, "nan", ConfigError, "nan; give a number from 0 to 1"),
    (None, "water=0.3, road=0.2", VocabularyError, "'water=0.3, road', but the classes are water, river; road; a=b"),
    (None, "forest=0.3", VocabularyError, "'forest', but the classes are"),
    (None, "water=0.3; water, river=0.2", VocabularyError, "'water, river' twice"),
    ("road", None, VocabularyError, "more than once: road"),
    (",", None, VocabularyError, "empty"),
])  # fmt: skip
def test_wrong_options_are_refused_in_a_sentence(background, min_score, error, words):
    with pytest.raises(error, match=words):
        read_decision_options(CLASSES, background, min_score)
