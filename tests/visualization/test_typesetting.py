import numpy as np
import pytest

from mm_ovseg.visualization.typesetting import break_text, shorten_text, text_width


def test_texts_are_broken_between_words_and_shortened_in_their_middle():
    width = text_width("flooded", 8) + 0.01
    assert break_text("flooded land", width, 8) == ["flooded", "land"]
    assert break_text("flooded land", 9, 8) == ["flooded land"]
    assert break_text("", 1, 8) == [""]
    short = shorten_text("agriculture", width, 8)
    assert short[0] == "a" and short[-1] == "e" and "…" in short and text_width(short, 8) <= width
    assert shorten_text("water", 9, 8) == "water"


def test_widths_are_inches_of_text_not_of_formulas():
    assert text_width("water", 16) == pytest.approx(2 * text_width("water", 8), rel=0.1)
    assert text_width("$_{water}$", 8) > text_width("water", 8)
    np.testing.assert_allclose(text_width("mmmm", 10), 4 * 0.974 * 10 / 72, rtol=0.1)  # an m of DejaVu Sans is 0.974 em
