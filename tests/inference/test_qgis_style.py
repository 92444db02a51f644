from xml.etree import ElementTree

import pytest

from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.inference.qgis_style import write_qgis_style

NAMES = ["city", 'a<b>&"c"', "Wald, ö 森", "it's"]
COLORS = [[200, 0, 0], [0, 120, 9], (0, 0, 255), [255, 255, 255]]


def read_entries(path):
    renderer = ElementTree.parse(path).find("./pipe/rasterrenderer")
    assert renderer.attrib["type"] == "paletted"
    assert renderer.attrib["band"] == "1"
    return [entry.attrib for entry in renderer.findall("./colorPalette/paletteEntry")]


def test_every_class_has_its_value_color_and_name_and_nothing_else_is_drawn(tmp_path):
    path = tmp_path / "new" / "map.qml"
    write_qgis_style(path, NAMES, COLORS)
    assert read_entries(path) == [
        {"value": str(index), "color": color, "label": name, "alpha": "255"}
        for index, (name, color) in enumerate(zip(NAMES, ["#c80000", "#007809", "#0000ff", "#ffffff"], strict=True))
    ]
    assert list(path.parent.iterdir()) == [path]


def test_the_root_is_what_qgis_looks_for(tmp_path):
    write_qgis_style(tmp_path / "map.qml", NAMES, COLORS)
    root = ElementTree.parse(tmp_path / "map.qml").getroot()
    assert root.tag == "qgis"
    assert root.attrib == {"version": "3.16.0", "styleCategories": "Symbology"}
    assert (tmp_path / "map.qml").read_bytes().startswith(b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>")


def test_255_classes(tmp_path):
    write_qgis_style(tmp_path / "map.qml", [f"class {i}" for i in range(255)], [[i, 0, 0] for i in range(255)])
    assert [entry["value"] for entry in read_entries(tmp_path / "map.qml")] == [str(i) for i in range(255)]


def test_characters_that_xml_forbids_are_replaced(tmp_path):
    write_qgis_style(tmp_path / "map.qml", ["a\x00b\x1b\udc80\uffff", "tab\tline\n"], COLORS[:2])
    assert [entry["label"] for entry in read_entries(tmp_path / "map.qml")] == [
        "a\ufffdb\ufffd\ufffd\ufffd",
        "tab\tline\n",
    ]


def test_wrong_vocabularies(tmp_path):
    with pytest.raises(VocabularyError, match="2 class names and 4 colours"):
        write_qgis_style(tmp_path / "map.qml", NAMES[:2], COLORS)
    for colors in ([[0, 0]], [[0, 0, 256]], [[0, -1, 0]], [[0, 0, 0]] * 256, []):
        with pytest.raises(VocabularyError):
            write_qgis_style(tmp_path / "map.qml", ["x"] * len(colors), colors)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_old_file(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(DataError, match="map.qml cannot be written"):
        write_qgis_style(tmp_path / "file" / "map.qml", NAMES, COLORS)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
