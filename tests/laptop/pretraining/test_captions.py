import numpy as np
import pytest

from laptop.drawn_world import SYNTHETIC_CLASSES
from laptop.pretraining.captions import CLASS_SPELLINGS, write_caption


@pytest.mark.parametrize(
    "shares, expected",
    [
        ([0.0, 0.0, 0.0, 1.0, 0.0], ("water",)),
        ([0.3, 0.05, 0.0, 0.65, 0.0], ("water", "city")),
        ([0.2, 0.2, 0.2, 0.2, 0.2], SYNTHETIC_CLASSES),
    ],
)
def test_a_caption_names_what_is_there_largest_first(shares, expected):
    generator = np.random.default_rng(0)
    for _ in range(20):
        named, caption = write_caption(shares, SYNTHETIC_CLASSES, generator)
        assert named == expected
        places = [
            min(caption.index(word) for word in CLASS_SPELLINGS[name] if word in caption)  # fails if none is there
            for name in named
        ]
        assert places == sorted(places)
        absent = set(SYNTHETIC_CLASSES) - set(named)
        assert not any(word in caption.split() for name in absent for word in CLASS_SPELLINGS[name])


def test_the_largest_class_is_named_however_small_and_words_vary():
    generator = np.random.default_rng(0)
    shares = [0.07, 0.01, 0.0, 0.0, 0.0]
    captions = {write_caption(shares, SYNTHETIC_CLASSES, generator)[1] for _ in range(60)}
    assert any("town" in caption for caption in captions) and any("city" in caption for caption in captions)
    assert len(captions) > 8


def test_a_class_without_other_spellings_is_called_by_its_name():
    assert "glacier" in write_caption([1.0], ["glacier"], np.random.default_rng(0))[1]
