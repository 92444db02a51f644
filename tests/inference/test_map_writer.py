from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio import Affine

from mm_ovseg.data.palette import NONE_COLOR, class_legend
from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.inference import write_class_map_geotiff, write_class_map_png
from mm_ovseg.inference.map_writer import write_qgis_style
from mm_ovseg.raster import read_label
from tests.conftest import no_warnings

NAMES = ["city", "Wald, ö", "water"]
COLORS = [[200, 0, 0], [0, 120, 0], [0, 0, 255]]
STYLE_NAMES = ["city", 'a<b>&"c"', "Wald, ö 森", "it's"]
STYLE_COLORS = [[200, 0, 0], [0, 120, 9], (0, 0, 255), [255, 255, 255]]
STYLE = class_legend(STYLE_NAMES, STYLE_COLORS)
TRANSFORM = Affine(0.5, 0, 500000, 0, -0.5, 4000000)


@pytest.fixture
def class_map():
    class_map = np.random.default_rng(0).integers(0, 3, (301, 517))
    class_map[:20, :30] = 255
    return class_map


def write_geotiff(path, class_map, *, crs="EPSG:32652", transform=TRANSFORM, class_names=NAMES, colors=COLORS, **more):
    place = {"crs": crs, "transform": transform}
    write_class_map_geotiff(path, class_map, **place, class_names=class_names, colors=colors, **more)


def write_png(path, class_map):
    write_class_map_png(path, class_map, COLORS)


def test_png_holds_indices_and_their_colors(tmp_path, class_map):
    write_class_map_png(tmp_path / "map.png", class_map, COLORS)
    image = Image.open(tmp_path / "map.png")
    assert image.mode == "P"
    assert (np.array(image) == class_map).all()
    rgba = np.array(image.convert("RGBA"))
    for index, color in enumerate(COLORS):
        assert (rgba[class_map == index] == [*color, 255]).all()
    assert (rgba[class_map == 255, 3] == 0).all()


def test_geotiff_reads_back_with_everything_a_gis_needs(tmp_path, class_map):
    write_geotiff(tmp_path / "map.tif", class_map)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert (file.read(1) == class_map).all()
        assert file.dtypes == ("uint8",)
        assert file.crs.to_epsg() == 32652
        assert file.transform == TRANSFORM
        assert file.nodata == 255
        assert file.profile["tiled"]
        assert file.compression.name == "deflate"
        colormap = file.colormap(1)
        assert [colormap[index][:3] for index in range(3)] == [tuple(color) for color in COLORS]
        tags = file.tags(1)
        assert [tags[f"class_{index}"] for index in range(3)] == NAMES


@no_warnings
def test_geotiff_without_georeference(tmp_path, class_map):
    write_geotiff(tmp_path / "map.tif", class_map, crs=None, transform=None)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs is None
        assert (file.read(1) == class_map).all()


@pytest.mark.parametrize("write", [write_png, write_geotiff])
def test_a_written_map_can_be_read_as_label(tmp_path, class_map, write):
    write(tmp_path / "map", class_map)
    assert (read_label(tmp_path / "map", num_classes=3) == class_map).all()


@pytest.mark.parametrize("write", [write_png, write_geotiff])
def test_missing_folders_are_made_and_only_the_file_is_left(tmp_path, class_map, write):
    path = tmp_path / "new" / "folder" / "map"
    write(path, np.zeros((4, 4), np.uint8))
    write(path, class_map)
    with rasterio.open(path) as file:
        assert (file.read(1) == class_map).all()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("write", [write_png, write_geotiff])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0, 7], [1, 3]]), "holds 3, 7, but the 3 classes are 0 to 2"),
        (np.array([[0, -1]]), "holds -1"),
        (np.zeros((2, 2), np.float32), "float32"),
        (np.zeros((1, 2, 2), np.uint8), r"\(1, 2, 2\)"),
        (np.zeros((0, 2), np.uint8), r"\(0, 2\)"),
    ],
)
def test_a_map_without_classes_for_its_values_is_refused_and_the_old_file_stays(tmp_path, write, values, message):
    path = tmp_path / "map"
    path.write_text("old")
    with pytest.raises(DataError, match=message) as error:
        write(path, values)
    assert str(path) in str(error.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [write_png, write_geotiff])
def test_unwritable_places_are_data_errors_that_name_the_file(tmp_path, class_map, write):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.tif" / "inside").mkdir(parents=True)
    for path in (tmp_path / "file" / "map.tif", tmp_path / "folder.tif"):
        with pytest.raises(DataError, match=f"{path} cannot be written"):
            write(path, class_map)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.tif"}


def test_failure_half_way_leaves_the_old_file(tmp_path, class_map, monkeypatch):
    path = tmp_path / "map.tif"
    write_geotiff(path, np.zeros((4, 4), np.uint8))
    old = path.read_bytes()

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rasterio.io.DatasetWriter, "update_tags", fail)
    with pytest.raises(DataError, match="No space left on device"):
        write_geotiff(path, class_map)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_wrong_vocabularies(tmp_path, class_map):
    with pytest.raises(VocabularyError, match="3 colors for 2 classes"):
        write_geotiff(tmp_path / "map.tif", class_map, class_names=NAMES[:2])
    for colors in ([[0, 0]], [[0, 0, 256]], [[0, -1, 0]], [[0, 0, 0]] * 255, []):
        with pytest.raises(VocabularyError):
            write_class_map_png(tmp_path / "map.png", class_map, colors)
    assert not list(tmp_path.iterdir())


def read_entries(path):
    renderer = ElementTree.parse(path).find("./pipe/rasterrenderer")
    assert renderer.attrib["type"] == "paletted"
    assert renderer.attrib["band"] == "1"
    return [entry.attrib for entry in renderer.findall("./colorPalette/paletteEntry")]


def test_every_class_has_its_value_color_and_name_and_nothing_else_is_drawn(tmp_path):
    path = tmp_path / "new" / "map.qml"
    write_qgis_style(path, STYLE)
    hexadecimal = ["#c80000", "#007809", "#0000ff", "#ffffff"]
    assert read_entries(path) == [
        {"value": str(index), "color": color, "label": name, "alpha": "255"}
        for index, (name, color) in enumerate(zip(STYLE_NAMES, hexadecimal, strict=True))
    ]
    assert list(path.parent.iterdir()) == [path]


def test_the_root_is_what_qgis_looks_for(tmp_path):
    write_qgis_style(tmp_path / "map.qml", STYLE)
    root = ElementTree.parse(tmp_path / "map.qml").getroot()
    assert root.tag == "qgis"
    assert root.attrib == {"version": "3.16.0", "styleCategories": "Symbology"}
    assert (tmp_path / "map.qml").read_bytes().startswith(b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>")


def test_a_style_of_254_classes_and_none_of_them(tmp_path):
    write_qgis_style(tmp_path / "map.qml", class_legend([f"class {i}" for i in range(254)], has_none=True))
    entries = read_entries(tmp_path / "map.qml")
    assert [entry["value"] for entry in entries] == [str(i) for i in range(255)]
    assert entries[-1] == {"value": "254", "color": "#bebebe", "label": "none", "alpha": "255"}


def test_none_of_the_classes_has_its_value_name_and_color_in_every_file(tmp_path, class_map):
    write_geotiff(tmp_path / "plain.tif", class_map)
    write_geotiff(tmp_path / "possible.tif", class_map, has_none=True)
    class_map[50:90] = 254
    write_geotiff(tmp_path / "found.tif", class_map)
    for name, expected in (("plain", None), ("possible", "none"), ("found", "none")):
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            assert file.tags(1).get("class_254") == expected
            assert (file.colormap(1)[254][:3] == NONE_COLOR) == (expected is not None)
            assert file.colormap(1)[0][:3] == tuple(COLORS[0]) and file.nodata == 255
    write_png(tmp_path / "map.png", class_map)
    image = Image.open(tmp_path / "map.png")
    assert (np.array(image) == class_map).all()
    assert (np.array(image.convert("RGBA"))[50:90] == [*NONE_COLOR, 255]).all()


def test_characters_that_xml_forbids_are_replaced(tmp_path):
    write_qgis_style(tmp_path / "map.qml", class_legend(["a\x00b\x1b\udc80\uffff", "tab\tline\n"]))
    assert [entry["label"] for entry in read_entries(tmp_path / "map.qml")] == [
        "a\ufffdb\ufffd\ufffd\ufffd",
        "tab\tline\n",
    ]


def test_a_style_that_cannot_be_written_leaves_the_old_file(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(DataError, match="map.qml cannot be written"):
        write_qgis_style(tmp_path / "file" / "map.qml", STYLE)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
