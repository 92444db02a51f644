"""The page's HTML."""

import base64
import re

import cv2
import numpy as np

from mm_ovseg.app.drawing import (
    color_classes,
    color_confidence,
    draw_legend,
    draw_map,
    draw_message,
    draw_summary,
    draw_warnings,
    escape_text,
)


def decode(html, kind):
    """The picture of that kind in the HTML, as OpenCV reads it."""
    encoded = re.search(rf"data:image/{kind};base64,([\w+/=]+)", html)[1]
    return cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_UNCHANGED)


def entry(name, **changes):
    standard = {"value": 0, "color": [0, 105, 200], "unseen": False, "pixels": 5, "hectares": 1234.5, "share": 0.25}
    return {"name": name, "confidence": 0.5, **standard, **changes}


def test_the_layer_has_the_colours_of_the_classes():
    layer = color_classes(np.array([[0, 254], [255, 254]], np.uint8), {0: (255, 0, 0), 254: (1, 2, 3)})
    assert layer.tolist() == [[[255, 0, 0, 255], [1, 2, 3, 255]], [[0, 0, 0, 0], [1, 2, 3, 255]]]
    image = np.full((2, 2, 3), (200, 30, 10), np.uint8)
    html = draw_map(image, layer, opacity=0.6, description='a "map" <of> nothing')
    assert decode(html, "png")[0, 0].tolist() == [0, 0, 255, 255]  # blue, green, red, alpha
    assert np.abs(decode(html, "jpeg")[0, 0].astype(int) - (10, 30, 200)).max() < 12
    assert "opacity: 0.60" in html and 'alt="a &quot;map&quot; &lt;of&gt; nothing"' in html
    assert "ovseg-sharp" in html and "ovseg-sharp" not in draw_map(
        np.zeros((2, 513, 3), np.uint8), np.zeros((2, 513, 4), np.uint8), opacity=1, description=""
    )


def test_confidence_grows_brighter_and_no_data_is_clear():
    layer = color_confidence(np.array([[0, 50, 100, 255]], np.uint8))[0].astype(int)
    assert layer[0].sum() < layer[1].sum() < layer[2].sum() and layer[3].tolist() == [0, 0, 0, 0]


def test_the_legend_tells_area_share_and_confidence():
    legend = draw_legend([entry("water", unseen=True), entry("city", hectares=None, confidence=None, share=0)])
    assert "<u>water</u>" in legend and "<u>city</u>" not in legend and "never labelled" in legend
    assert "rgb(0, 105, 200)" in legend
    rows = re.findall(r"<tr>(<td>.*?)</tr>", legend)
    assert [re.findall(r"<td>([^<]*)</td>", row) for row in rows] == [["1,234.50", "25.0%", "50%"], ["–", "0.0%", "–"]]
    assert "Hectares" in legend and "100% confidence" not in legend


def test_the_legend_of_a_picture_without_a_place_has_no_hectares():
    legend = draw_legend([entry("city", hectares=None)], confidence_scale=True)
    assert "Hectares" not in legend and "never labelled" not in legend and "100% confidence" in legend


def test_the_legend_says_what_none_is():
    assert "none of the classes" not in draw_legend([entry("city")])
    legend = draw_legend([entry("city"), entry("none", value=254, share=0.5)])
    assert "none</td><td>1,234.50</td><td>50.0%</td>" in legend and "none of the classes" in legend


def test_what_visitors_type_is_text():
    name = "<img src=x onerror=alert(1)> ${alert(2)} {{value}} `"
    texts = draw_message(name), escape_text(name), draw_warnings([name]), draw_summary([entry(name)], [name])
    for html in (draw_legend([entry(name)]), *texts):
        assert "<img" not in html and "${" not in html and "{{" not in html and "`" not in html
        assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert draw_message("") == "" and draw_warnings([]) == ""


def test_what_is_read_aloud():
    summary = draw_summary([entry("water"), entry("city", share=0.75)], ["SAR is dark."])
    assert "The map is made: water 25%, city 75%. SAR is dark." in summary
    assert draw_warnings(["One.", "Two."]).count("<li>") == 2
