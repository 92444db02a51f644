"""The page's HTML, with embedded images. Everything that a visitor typed is escaped."""

import base64
import html
import mimetypes
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from matplotlib import colormaps

from mm_ovseg.decision import NONE_CLASS

__all__ = [
    "color_classes",
    "color_confidence",
    "draw_legend",
    "draw_map",
    "draw_message",
    "draw_summary",
    "draw_warnings",
    "escape_text",
]

CONFIDENCE_COLORS = colormaps["viridis"]  # readable for colour-blind people, and in greyscale
MAX_SHARP_SIDE = 512  # pixels; scenes up to this size are enlarged without smoothing


def escape_text(text: str) -> str:
    """Escape text for HTML, and the characters that Gradio's templates interpret."""
    return html.escape(text).translate({ord(letter): f"&#{ord(letter)};" for letter in "{}$`@"})


def color_classes(class_map: np.ndarray, colors: Mapping[int, Sequence[int]]) -> np.ndarray:
    """A class map (H, W) as RGBA uint8 (H, W, 4), with the color of each value; others (no data) are transparent."""
    table = np.zeros((256, 4), np.uint8)
    for value, color in colors.items():
        table[value] = (*color, 255)
    return table[class_map]


def color_confidence(confidence: np.ndarray) -> np.ndarray:
    """Percent (H, W), 255 for no data, as RGBA uint8 (H, W, 4); no data is transparent."""
    table = np.zeros((256, 4), np.uint8)
    table[:101] = CONFIDENCE_COLORS(np.linspace(0, 1, 101), bytes=True)
    return table[confidence]


def draw_map(image: np.ndarray, layer: np.ndarray, *, opacity: float, description: str) -> str:
    """An image under a layer whose opacity the browser changes.

    Args:
        image: RGB uint8 (H, W, 3).
        layer: RGBA uint8 (H, W, 4).
        opacity: initial opacity of the layer, 0..1.
        description: alternative text.
    """
    height, width = image.shape[:2]
    sharp = " ovseg-sharp" if max(height, width) <= MAX_SHARP_SIDE else ""
    return (
        f'<div class="ovseg-map{sharp}" style="aspect-ratio: {width} / {height}; --ovseg-shape: {width / height:.4f}">'
        f'<img src="{_data_uri(image, ".jpg")}" alt="">'
        f'<img class="ovseg-layer" src="{_data_uri(layer, ".png")}" style="opacity: {opacity:.2f}" '
        f'alt="{escape_text(description)}"></div>'
    )


def draw_legend(classes: Sequence[Mapping[str, Any]], *, confidence_scale: bool = False) -> str:
    """A table of the classes: colour, name (underlined if unseen), area, share, confidence.

    Args:
        classes: as in :class:`~mm_ovseg.app.map_maker.PageMap`.
        confidence_scale: also show a scale of the colours of :func:`color_confidence`.
    """
    georeferenced = any(entry["hectares"] is not None for entry in classes)
    header = ["Class", *(["Hectares"] if georeferenced else []), "Share", "Confidence"]
    rows = []
    for entry in classes:
        swatch = f'<span class="ovseg-swatch" style="background: rgb({", ".join(map(str, entry["color"]))})"></span>'
        name = escape_text(entry["name"])
        cells = [f"{swatch}<u>{name}</u>" if entry["unseen"] else f"{swatch}{name}"]
        if georeferenced:
            cells.append("–" if entry["hectares"] is None else f"{entry['hectares']:,.2f}")
        cells.append(f"{entry['share']:.1%}")
        cells.append("–" if entry["confidence"] is None else f"{entry['confidence']:.0%}")
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = "".join(f'<th scope="col">{title}</th>' for title in header)
    notes = ["Confidence: mean score of the class over its area."]
    if any(entry["value"] == NONE_CLASS for entry in classes):
        notes.append("None: none of the classes; its confidence is 100% minus the score of the best class.")
    if any(entry["unseen"] for entry in classes):
        notes.insert(0, "<u>Underlined</u>: never labelled in the model's training.")
    return (
        f"{_confidence_scale() if confidence_scale else ''}"
        f'<table class="ovseg-legend"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        f'<p class="ovseg-note">{" ".join(notes)}</p>'
    )


def draw_message(message: str) -> str:
    """An error message; "" for none."""
    return f'<p class="ovseg-message" role="alert">{escape_text(message)}</p>' if message else ""


def draw_warnings(warnings: Sequence[str]) -> str:
    """A list of warnings; "" for none."""
    sentences = "".join(f"<li>{escape_text(warning)}</li>" for warning in warnings)
    return f'<ul class="ovseg-warnings">{sentences}</ul>' if warnings else ""


def draw_summary(classes: Sequence[Mapping[str, Any]], warnings: Sequence[str]) -> str:
    """The announcement of a new map for screen readers; arguments as in the functions above."""
    shares = ", ".join(f"{entry['name']} {entry['share']:.0%}" for entry in classes)
    return f'<p class="ovseg-summary">{escape_text(" ".join([f"The map is made: {shares}.", *warnings]))}</p>'


def _confidence_scale() -> str:
    stops = ", ".join(
        "rgb({}, {}, {})".format(*map(int, CONFIDENCE_COLORS(place, bytes=True)[:3])) for place in np.linspace(0, 1, 9)
    )
    return (
        f'<div class="ovseg-scale"><span>0%</span><span style="background: linear-gradient(90deg, {stops})"></span>'
        "<span>100% confidence</span></div>"
    )


def _data_uri(image: np.ndarray, suffix: str) -> str:
    code = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    _, encoded = cv2.imencode(suffix, cv2.cvtColor(image, code))
    return f"data:{mimetypes.types_map[suffix]};base64,{base64.b64encode(encoded).decode()}"
