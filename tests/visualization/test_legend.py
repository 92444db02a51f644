import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mm_ovseg.data.palette import LegendEntry
from mm_ovseg.visualization.legend import Legend

RED, BLUE = (255, 0, 0), (0, 0, 255)


def drawn(entries, width, font_size=8):
    """The figure of a legend: its texts, and the swatches beside them."""
    legend = Legend(entries, width, font_size)
    figure = Figure(figsize=(width, legend.height), dpi=200)
    legend.draw(figure, 0)
    FigureCanvasAgg(figure).draw()
    return figure


def test_every_class_has_its_swatch_at_its_left_inside_the_page():
    entries = [
        LegendEntry("city", RED, False, 0),
        LegendEntry("water", BLUE, True, 1),
        LegendEntry("ignored", None, False, 255),
    ]
    figure = drawn(entries, 3)
    swatches = figure.artists
    assert [text.get_text() for text in figure.texts] == ["city", "water", "ignored"]
    assert [to_rgb(swatch.get_facecolor()) for swatch in swatches] == [(1, 0, 0), (0, 0, 1), (1, 1, 1)]
    assert [bool(swatch.get_hatch()) for swatch in swatches] == [False, False, True]
    right = 0
    for swatch, text in zip(swatches, figure.texts, strict=True):
        box, name = swatch.get_window_extent(), text.get_window_extent()
        assert right < box.x0 < box.x1 < name.x0 < name.x1 <= figure.bbox.width
        assert 0 <= name.y0 < name.y1 <= figure.bbox.height
        right = name.x1
    assert [text.get_bbox_patch() is not None for text in figure.texts] == [False, True, False]  # the underline


def test_what_does_not_fit_a_line_goes_to_the_next_and_lines_are_centred():
    entries = [LegendEntry(f"class number {index}", RED, False, index) for index in range(5)]
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
    [text] = drawn([LegendEntry("a class of very many words" * 9, RED, False, 0)], 2).texts
    assert text.get_text().startswith("a class") and "…" in text.get_text()
    assert text.get_window_extent().x1 <= 400
