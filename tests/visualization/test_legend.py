import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mm_ovseg.visualization.legend import Legend, LegendEntry, break_text, shorten_text, text_width

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def drawn(entries, width, font_size=8):
    """The figure of a legend: its texts, and the swatches beside them."""
    legend = Legend(entries, width, font_size)
    figure = Figure(figsize=(width, legend.height), dpi=200)
    legend.draw(figure, 0)
    FigureCanvasAgg(figure).draw()
    return figure


def test_every_class_has_its_swatch_at_its_left_inside_the_page():
    entries = [LegendEntry("city", RED, False), LegendEntry("water", BLUE, True), LegendEntry("ignored", None, False)]
    figure = drawn(entries, 3)
    swatches = figure.artists
    assert [text.get_text() for text in figure.texts] == ["city", "water", "ignored"]
    assert [to_rgb(swatch.get_facecolor()) for swatch in swatches] == [RED, BLUE, (1, 1, 1)]
    assert [bool(swatch.get_hatch()) for swatch in swatches] == [False, False, True]
    right = 0
    for swatch, text in zip(swatches, figure.texts, strict=True):
        box, name = swatch.get_window_extent(), text.get_window_extent()
        assert right < box.x0 < box.x1 < name.x0 < name.x1 <= figure.bbox.width
        assert 0 <= name.y0 < name.y1 <= figure.bbox.height
        right = name.x1
    assert [text.get_bbox_patch() is not None for text in figure.texts] == [False, True, False]  # the underline


def test_what_does_not_fit_a_line_goes_to_the_next_and_lines_are_centred():
    entries = [LegendEntry(f"class number {index}", RED, False) for index in range(5)]
    figure = drawn(entries, 3)
    lines = {}
    for swatch, text in zip(figure.artists, figure.texts, strict=True):
        lines.setdefault(round(swatch.get_window_extent().y0), []).append((swatch, text))
    assert [len(line) for line in lines.values()] == [2, 2, 1]
    for line in lines.values():
        left, right = line[0][0].get_window_extent().x0, line[-1][1].get_window_extent().x1
        assert left + right == pytest.approx(figure.bbox.width, abs=6)
    assert list(lines) == sorted(lines, reverse=True)


def test_a_name_that_is_longer_than_the_page_is_shortened():
    [text] = drawn([LegendEntry("a class of very many words" * 9, RED, False)], 2).texts
    assert text.get_text().startswith("a class") and "…" in text.get_text()
    assert text.get_window_extent().x1 <= 400


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
