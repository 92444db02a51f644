"""From the intermediate results of a pair to the figure that explains the prediction of classes."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path

import numpy as np

from mm_ovseg.errors import DataError
from mm_ovseg.inference.explanation import RGB_ONLY, SAR_ONLY, Explanation, first_component
from mm_ovseg.inference.typed_classes import Vocabulary
from mm_ovseg.visualization.explanation_sheet import ClassColumns, MapRow, draw_explanation_sheet

__all__ = ["draw_explanations"]


def draw_explanations(
    paths: Sequence[Path],
    explanations: Mapping[str, Explanation],
    vocabulary: Vocabulary,
    indices: Sequence[int],
    *,
    point: Sequence[float] | None,
    page_width: float,
    dpi: int,
) -> None:
    """Draw the same figure into one or more files.

    Args:
        paths: .png, .jpg, .pdf or .svg.
        explanations: from :func:`~mm_ovseg.inference.explanation.explain`.
        vocabulary: their vocabulary.
        indices: indices of the classes to draw.
        point: (x, y), the place whose attention is drawn, in pixels from the top left; None: for each class, the place
            with the highest probability.
        page_width: inches.
        dpi: pixels per inch.

    Raises:
        DataError: the point is outside the image, or a file cannot be written.
    """
    points = _choose_points(point, explanations, indices)
    prediction = list(explanations.values())[-1].prediction
    images = {RGB_ONLY: prediction.image, SAR_ONLY: prediction.sar_image}
    columns = [
        ClassColumns(
            name=vocabulary.classes[index],
            is_unseen=vocabulary.classes[index] in vocabulary.unseen,
            point=place,
            regions=[explanation.prediction.class_map == index for explanation in explanations.values()],
        )
        for index, place in zip(indices, points, strict=True)
    ]
    rows = _build_rows(explanations, indices, points)
    for path in paths:
        draw_explanation_sheet(
            path,
            columns=list(explanations),
            images=[images.get(title) for title in explanations],
            classes=columns,
            rows=rows,
            note="Ring: the place whose attention is drawn. White line: outline of the class in the map.",
            page_width=page_width,
            dpi=dpi,
        )


def _choose_points(
    point: Sequence[float] | None, explanations: Mapping[str, Explanation], indices: Sequence[int]
) -> list[tuple[float, float]]:
    """The place (x, y), in pixels, of the ring of each class.

    Raises:
        DataError: the chosen place is outside the image.
    """
    scores = list(explanations.values())[-1].prediction.scores
    height, width = scores.shape[1:]
    if point is None:
        places = [np.unravel_index(scores[index].argmax(), (height, width)) for index in indices]
        return [(column + 0.5, row + 0.5) for row, column in places]
    x, y = point
    if not (0 <= x < width and 0 <= y < height):
        raise DataError(f"--point {x:g} {y:g} is outside the image of {width}x{height} pixels.")
    return [(x, y)] * len(indices)


def _build_rows(
    explanations: Mapping[str, Explanation], indices: Sequence[int], points: Sequence[tuple[float, float]]
) -> list[MapRow]:
    """The rows of the figure, without those of missing encoders."""
    shown = [(index, explanation) for index in indices for explanation in explanations.values()]
    rows = []
    for encoder, cost in (("CLIP", attrgetter("clip_cost")), ("DINO", attrgetter("dino_cost"))):
        if any(cost(explanation) is not None for explanation in explanations.values()):
            maps = [None if cost(explanation) is None else cost(explanation)[index] for index, explanation in shown]
            rows.append(MapRow(f"{encoder} cost (cosine)", maps, missing=f"{encoder} sees no SAR"))
    components, share = first_component(explanations)
    maps = [component[index] for index in indices for component in components.values()]
    rows.append(MapRow(f"fused cost (first component, {share:.0%} of variance)", maps))
    height, width = next(iter(explanations.values())).prediction.class_map.shape
    attentions = [
        explanation.attention(x / width, y / height) for x, y in points for explanation in explanations.values()
    ]
    if any(attention is not None for attention in attentions):
        most = max(float(attention.max()) for attention in attentions if attention is not None)
        rows.append(MapRow("DINO attention", attentions, limits=(0.0, most), missing="DINO sees no SAR"))
    maps = [explanation.prediction.scores[index] for index, explanation in shown]
    rows.append(MapRow("probability", maps, limits=(0.0, 1.0)))
    return rows
