import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mm_ovseg.data.palette import SERIES_COLORS
from mm_ovseg.errors import DataError
from mm_ovseg.evaluation.metrics import segmentation_metrics
from mm_ovseg.visualization import class_scores
from mm_ovseg.visualization.class_scores import draw_class_scores

CLASSES = ["city", "road", "forest"]
COUNTS = np.array([[90, 10, 0], [5, 20, 5], [5, 5, 10]])
SCORES = segmentation_metrics(COUNTS, CLASSES, ["road"])


@pytest.fixture
def draw(monkeypatch):
    """A function like :func:`draw_class_scores` without a path, which returns the drawn figure."""
    figures = []
    monkeypatch.setattr(class_scores, "write_figure", lambda path, figure: figures.append(figure))

    def draw_and_return(*arguments, **options):
        draw_class_scores("scores.png", *arguments, **options)
        FigureCanvasAgg(figures[-1]).draw()
        return figures[-1]

    return draw_and_return


def bars_of(figure):
    """Left edge -> (height, colour 0..255), from left to right."""
    bars = {bar.get_x(): bar for bar in figure.axes[0].patches if bar.get_x() + bar.get_width() < 50}
    colored = {
        x: (bar.get_height(), tuple(round(255 * part) for part in bar.get_facecolor()[:3])) for x, bar in bars.items()
    }
    return [colored[x] for x in sorted(colored) if colored[x][1] in SERIES_COLORS]


def test_seen_classes_stand_before_unseen_ones_before_the_means(draw):
    figure = draw({"ours": SCORES}, CLASSES, ["road"])
    keys = ["IoU-city", "IoU-forest", "IoU-road", "mIoU-seen", "mIoU-unseen", "mIoU"]
    assert [height for height, _ in bars_of(figure)] == pytest.approx([SCORES[key] for key in keys])
    labels = figure.axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["city", "forest", "road", "seen", "unseen", "all"]
    assert [label.get_bbox_patch() is not None for label in labels] == [False, False, True, False, False, False]
    numbers = {text.get_text() for text in figure.axes[0].texts}
    assert {f"{SCORES[key]:.1f}" for key in keys} | {"seen classes", "unseen classes", "mean IoU"} == numbers


def test_without_unseen_classes_there_is_one_mean(draw):
    labels = draw({"ours": segmentation_metrics(COUNTS, CLASSES, [])}, CLASSES).axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == [*CLASSES, "all"]


def test_models_stand_side_by_side_in_colors_of_their_own_beside_a_legend(draw):
    better = SCORES | {"IoU-city": 99.0}
    figure = draw({"theirs": SCORES, "ours": better}, CLASSES, ["road"])
    (first, first_color), (second, second_color) = bars_of(figure)[:2]
    assert (first, second) == pytest.approx((SCORES["IoU-city"], 99.0))
    assert (first_color, second_color) == SERIES_COLORS[:2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["theirs", "ours"]


@pytest.mark.parametrize("page_width", [3.4, 6.9])
def test_long_titles_stay_on_the_page_and_leave_the_bars_their_height(draw, page_width):
    titles = [f"output/experiment/seed_{index}/inference/ddhr_sk_val/$x_{{/evaluation.json" for index in range(5)]
    figure = draw(dict.fromkeys(titles, SCORES), CLASSES, page_width=page_width)
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
    short = draw(dict.fromkeys("abcde", SCORES), CLASSES, page_width=page_width)
    heights = [one.axes[0].get_window_extent().height for one in (figure, short)]
    assert heights[0] == pytest.approx(heights[1], rel=0.1)


def test_a_class_without_ground_truth_has_a_dash(draw):
    figure = draw({"ours": SCORES | {"IoU-forest": math.nan}}, CLASSES, ["road"])
    assert bars_of(figure)[1][0] == 0
    assert "–" in {text.get_text() for text in figure.axes[0].texts}


def test_at_most_as_many_models_as_colors():
    for count in (0, len(SERIES_COLORS) + 1):
        with pytest.raises(DataError, match=f"would show {count} models; choose 1 to 8"):
            draw_class_scores("scores.png", {str(index): SCORES for index in range(count)}, CLASSES)
