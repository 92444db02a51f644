"""Tiles show the right pixel at the right place."""

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from pyproj import Transformer
from rasterio.transform import from_origin

from mm_ovseg.app.tiles import draw_class_tile, draw_confidence_tile, draw_image_tile
from mm_ovseg.data.palette import NONE_COLOR
from mm_ovseg.errors import DataError
from mm_ovseg.raster import write_geotiff

BLOCK = 16  # pixels of one colour


def blocks(height, width):
    """An image (3, H, W) of blocks whose colour says which they are."""
    rows, columns = np.mgrid[:height, :width] // BLOCK
    return np.stack([20 + rows * 6, 20 + columns * 6, np.full_like(rows, 200)]).astype(np.uint8)


def decode(png):
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image.shape == (256, 256, 4)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)


def tile_at(zoom, latitude, longitude):
    """The tile and its pixel (x, y) at a place, by the formula of Web Mercator."""
    x = (longitude + 180) / 360 * 2**zoom
    y = (1 - math.asinh(math.tan(math.radians(latitude))) / math.pi) / 2 * 2**zoom
    return (zoom, int(x), int(y)), (int(x % 1 * 256), int(y % 1 * 256))


@pytest.fixture
def scene(open_scene, write_image):
    return open_scene(write_image("rgb.tif", image=blocks(96, 160)), write_image("sar.tif", image=blocks(96, 160)[:1]))


@pytest.mark.parametrize("crs, left, top, pixel", [
    ("EPSG:32633", 600_000, 5_000_000, 10), ("EPSG:3857", 1_700_000, 5_600_000, 10), ("EPSG:4326", 15, 45, 1e-4),
    ("EPSG:4326", 179.995, 45, 1e-4),
])  # fmt: skip
def test_a_tile_in_web_mercator_shows_the_pixel_of_its_place(crs, left, top, pixel, open_scene, write_image):
    placed = {"crs": crs, "transform": from_origin(left, top, pixel, pixel)}
    scene = open_scene(write_image("placed.tif", image=blocks(96, 160), **placed))
    to_degrees = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True).transform
    for zoom in (scene.place.native_zoom, scene.place.native_zoom - 1, scene.place.native_zoom + 1):
        for row, column in ((8, 8), (40, 72), (88, 152), (8, 152)):  # middles of blocks
            longitude, latitude = to_degrees(left + (column + 0.5) * pixel, top - (row + 0.5) * pixel)
            tile, (x, y) = tile_at(zoom, latitude, (longitude + 180) % 360 - 180)
            color = decode(draw_image_tile(scene, "rgb", tile))[y, x]
            assert np.abs(color.astype(int) - (20 + row // 16 * 6, 20 + column // 16 * 6, 200, 255)).max() <= 1
        outside = to_degrees(left - 3 * pixel, top - 3 * pixel)
        tile, (x, y) = tile_at(zoom, outside[1], (outside[0] + 180) % 360 - 180)
        assert decode(draw_image_tile(scene, "rgb", tile))[y, x, 3] == 0


def test_a_picture_without_a_place_has_tiles_of_its_pixels(open_scene, write_image):
    image = blocks(400, 600)
    scene = open_scene(write_image("rgb.png", image=image), max_pixels=math.inf)
    assert scene.place.native_zoom == 2
    expected = np.zeros((512, 768, 4), np.uint8)
    expected[:400, :600] = np.concatenate([image, np.full((1, 400, 600), 255, np.uint8)]).transpose(1, 2, 0)
    for x in range(3):
        for y in range(2):
            tile = expected[y * 256 : (y + 1) * 256, x * 256 : (x + 1) * 256]
            drawn = decode(draw_image_tile(scene, "rgb", (2, x, y)))
            assert np.array_equal(drawn[tile[..., 3] > 0], tile[tile[..., 3] > 0])
            assert np.array_equal(drawn[..., 3], tile[..., 3])
    whole = decode(draw_image_tile(scene, "rgb", (0, 0, 0)))
    assert np.abs(whole[50, 101].astype(int) - (20 + 200 // 16 * 6, 20 + 404 // 16 * 6, 200, 255)).max() <= 1
    assert not whole[101:, :, 3].any() and not whole[:, 151:, 3].any()
    larger = decode(draw_image_tile(scene, "rgb", (4, 0, 0)))
    assert np.array_equal(larger[::4, ::4], expected[:64, :64])


def test_outside_is_clear(scene, open_scene, write_image):
    picture = open_scene(write_image("rgb.png"))
    for one in (scene, picture):
        for tile in ((14, 9000, 0), (0, 1, 0), (3, 2**40, 0), (400, 0, 0)):
            assert not decode(draw_image_tile(one, "rgb", tile)).any()
    assert decode(draw_image_tile(picture, "rgb", (0, 0, 0))).any()


def make_map(scene, folder, window, classes, percent):
    """What is drawn of a map."""
    row, column, height, width = window
    grid = scene.place.grid.window(*window)
    for name, values in (("classes", classes), ("percent", percent)):
        write_geotiff(folder / f"{name}.tif", values[np.newaxis], grid, nodata=255)
    legend = [{"value": value, "color": (value, 10, 20)} for value in range(3)]
    return SimpleNamespace(
        scene=scene, window=window, geotiff=folder / "classes.tif", confidence=folder / "percent.tif", classes=legend
    )


@pytest.mark.parametrize("name", ["rgb.tif", "rgb.png"])
def test_a_map_of_a_part_is_drawn_there_in_its_colours(name, open_scene, write_image, tmp_path):
    scene = open_scene(write_image(name, image=blocks(96, 160)))
    classes = np.repeat(np.array([[0, 1], [2, 254]], np.uint8), 16, 0).repeat(16, 1)
    classes[:16, :8] = 255
    percent = np.where(classes == 255, 255, np.uint8(60)).astype(np.uint8)
    percent[16:, :16] = 39
    page_map = make_map(scene, tmp_path, (32, 64, 32, 32), classes, percent)
    if scene.place.is_on_map:
        to_degrees = Transformer.from_crs("EPSG:32633", "OGC:CRS84", always_xy=True).transform

        def color(draw, row, column, minimum=0):
            longitude, latitude = to_degrees(500_005 + 10 * column, 4_999_995 - 10 * row)
            tile, (x, y) = tile_at(scene.place.native_zoom + 1, latitude, longitude)
            return decode(draw(page_map, tile, minimum))[y, x].tolist()
    else:

        def color(draw, row, column, minimum=0):
            return decode(draw(page_map, (0, 0, 0), minimum))[row, column].tolist()

    none = [*NONE_COLOR, 255]
    assert (
        color(draw_class_tile, 40, 68)[3] == color(draw_class_tile, 40, 60)[3] == color(draw_class_tile, 70, 90)[3] == 0
    )
    assert color(draw_class_tile, 40, 76) == [0, 10, 20, 255] and color(draw_class_tile, 40, 88) == [1, 10, 20, 255]
    assert color(draw_class_tile, 56, 88) == none and color(draw_class_tile, 56, 72) == [2, 10, 20, 255]
    assert color(draw_class_tile, 56, 72, 39) == [2, 10, 20, 255] and color(draw_class_tile, 56, 72, 40) == none
    assert color(draw_class_tile, 40, 76, 40) == [0, 10, 20, 255]
    assert color(draw_confidence_tile, 40, 68)[3] == 0 and color(draw_confidence_tile, 56, 72, 40) == none
    bright, dark, of_none = (sum(color(draw_confidence_tile, *pixel)) for pixel in ((40, 76), (56, 72), (56, 88)))
    assert bright > dark and of_none == bright
    assert color(draw_confidence_tile, 56, 88, 90) == color(draw_confidence_tile, 56, 88)  # none stays what it is


@pytest.mark.parametrize("draw, other", [(draw_class_tile, "confidence"), (draw_confidence_tile, "geotiff")])
def test_without_a_minimum_one_raster_is_read(draw, other, open_scene, write_image, tmp_path):
    scene = open_scene(write_image("rgb.png"))
    classes, percent = np.ones((64, 96), np.uint8), np.full((64, 96), 60, np.uint8)
    page_map = make_map(scene, tmp_path, (0, 0, 64, 96), classes, percent)
    before = draw(page_map, (0, 0, 0))
    getattr(page_map, other).unlink()
    assert draw(page_map, (0, 0, 0)) == before
    with pytest.raises(DataError):
        draw(page_map, (0, 0, 0), 1)
