"""Where pixels lie, however files say it: the right map, or one sentence."""

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasterio.warp import transform as transform_points
from shapely.geometry import box

from laptop.drawn_world import SYNTHETIC_CLASSES
from mm_ovseg.engine import load_config
from mm_ovseg.errors import DataError
from mm_ovseg.inference import Predictor
from mm_ovseg.inference.scene_area import SceneArea
from mm_ovseg.raster import Grid, read_label
from tests.cases.rasters import CONFIG, LABELS, NAMES, PLACE, RGB, SAR, SIZE, UTM, hectares, write
from tests.conftest import run_cli


def test_labels_without_a_place_lie_as_the_image_that_they_were_drawn_on(tmp_path):
    """RGB stored from south to north, labels as a plain image of the same pixels."""
    south_up = PLACE @ Affine(1, 0, 0, 0, -1, SIZE)
    words = ["--rgb", write(tmp_path / "rgb.tif", RGB[:, ::-1], transform=south_up)]
    words += ["--sar", write(tmp_path / "sar.tif", SAR[:, ::-1], transform=south_up)]
    words += ["--labels", write(tmp_path / "labels.tif", LABELS[:, ::-1], crs=None, transform=None)]
    words += ["--size", SIZE, "--val-fraction", 0, "--classes", NAMES, "--output", tmp_path / "tiles"]
    run_cli("dataset tile", *words)
    for kind, expected in (("rgb", RGB), ("sar", None), ("labels", LABELS)):
        (path,) = (tmp_path / "tiles" / "train" / kind).glob("*.tif")
        with rasterio.open(path) as file:
            assert file.transform == PLACE
            if expected is not None:
                np.testing.assert_array_equal(file.read(), expected)


@pytest.mark.parametrize(
    "rgb_west, sar_west", [(179.999, -180.01), (-180.001, 179.99), (-75.0, 284.99), (284.999, -75.01)]
)
def test_longitudes_beyond_180_degrees(segment, tmp_path, rgb_west, sar_west):
    degrees = CRS.from_epsg(4326)
    zone = CRS.from_epsg(32701 if abs(rgb_west) > 179 else 32718)
    (x,), (y,) = transform_points(degrees, zone, [rgb_west], [-17.0])
    rgb = write(tmp_path / "rgb.tif", RGB, crs=zone, transform=Affine(10, 0, x, 0, -10, y))
    in_degrees = write(tmp_path / "d.tif", RGB, crs=degrees, transform=Affine(1e-4, 0, rgb_west, 0, -1e-4, -17.0))
    sar = write(
        tmp_path / "sar.tif", np.full((200, 200), 90, np.uint8), crs=degrees,
        transform=Affine(1.5e-4, 0, sar_west, 0, -1.5e-4, -16.99),
    )  # fmt: skip
    for image in (rgb, in_degrees):
        _, report = segment(image, sar)
        assert report["coverage"]["rgb_and_sar"]["pixels"] == SIZE**2 and report["covered_by_sar_file"] == 1


def control_points():
    """Of a chip that is mirrored from left to right."""
    return [
        GroundControlPoint(row=row, col=column, x=430_000 + 2 * (SIZE - column), y=3_900_000 - 2 * row)
        for row in (0, SIZE)
        for column in (0, SIZE)
    ]


def sensor_model():
    ones = [1.0] + [0.0] * 19
    return RPC(
        height_off=0, height_scale=1, lat_off=35.2, lat_scale=0.01, long_off=128.2, long_scale=0.01,
        line_off=32, line_scale=32, samp_off=32, samp_scale=32,
        line_num_coeff=[0.0, 0.0, -1.0] + [0.0] * 17, line_den_coeff=ones,
        samp_num_coeff=[0.0, 1.0] + [0.0] * 18, samp_den_coeff=ones,
    )  # fmt: skip


@pytest.mark.parametrize("by, words", [("gcps", "ground control points only"), ("rpcs", r"sensor model \(RPCs\) only")])
def test_images_that_only_control_points_or_a_sensor_model_place(segment, run_demo, tmp_path, pair, capsys, by, words):
    mirrored = SAR[..., ::-1]
    if by == "gcps":
        sar = write(tmp_path / "sar_gcp.tif", mirrored, gcps=control_points())
    else:
        sar = write(tmp_path / "sar_rpc.tif", mirrored, crs=None, transform=None, rpcs=sensor_model())
    assert f"{sar} is placed by a" in (message := segment(pair[0], sar, code=2)) or "by ground control" in message
    with pytest.raises(SystemExit):
        run_demo(pair[0], sar)
    assert "is placed by" in capsys.readouterr().err
    predictor = Predictor(load_config(CONFIG, ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]), SYNTHETIC_CLASSES)
    with pytest.raises(DataError, match=f"{sar} is placed by a? ?{words}; .*gdalwarp"):
        predictor(pair[0], sar)
    with pytest.raises(DataError, match=words):
        read_label(sar, num_classes=256)


@pytest.mark.parametrize("turn", ["south up", "mirrored", "both"])
def test_pairs_stored_in_another_order_give_the_same_map(run_demo, tmp_path, pair, turn):
    expected = run_demo(*pair)
    transform, turned = PLACE, [RGB, SAR, LABELS]
    if turn != "mirrored":
        transform, turned = transform @ Affine(1, 0, 0, 0, -1, SIZE), [bands[:, ::-1] for bands in turned]
    if turn != "south up":
        transform, turned = transform @ Affine(-1, 0, SIZE, 0, 1, 0), [bands[..., ::-1] for bands in turned]
    rgb, sar = (
        write(tmp_path / kind / "a.tif", bands, transform=transform)
        for kind, bands in zip(("r", "s"), turned, strict=False)
    )
    np.testing.assert_array_equal(run_demo(rgb, sar), expected)
    np.testing.assert_array_equal(run_demo(rgb, pair[1]), expected)
    np.testing.assert_array_equal(run_demo(pair[0], sar, "--label", write(tmp_path / "l.tif", LABELS)), expected)


def test_systems_of_their_own(segment, tmp_path, pair):
    local = CRS.from_wkt('LOCAL_CS["mine plan",UNIT["metre",1]]')
    rgb = write(tmp_path / "local.tif", RGB, crs=local)
    message = segment(rgb, pair[1], code=2)
    assert (
        f"local coordinate system of {rgb} cannot be transformed to that of {pair[1]}; give {rgb} the" in message
        and "{" not in message
    )
    message = segment(pair[0], rgb, code=2)
    assert f"local coordinate system of {rgb} cannot be transformed to that of {pair[0]}; give {rgb} the" in message
    plain, _ = segment(*pair)
    for name, crs in (
        ("heights", CRS.from_user_input("EPSG:32652+5773")),
        ("ellipsoid", CRS.from_wkt(UTM.to_wkt().replace("WGS 84 / UTM zone 52N", "plan of the survey"))),
        ("named", CRS.from_wkt('LOCAL_CS["WGS 84 / UTM zone 52N",UNIT["metre",1]]')),
    ):
        class_map, _ = segment(write(tmp_path / f"{name}.tif", RGB, crs=crs), pair[1])
        np.testing.assert_array_equal(class_map, plain, err_msg=name)
        # Where the other image has pixels of another size there must be a way between the systems.
        finer = np.kron(SAR[0], np.ones((2, 2), np.uint8))
        sar = write(tmp_path / f"{name}_sar.tif", finer, crs=crs, transform=PLACE @ Affine.scale(0.5))
        class_map, report = segment(pair[0], sar)
        assert (class_map == plain).mean() > 0.99 and report["coverage"]["rgb_and_sar"]["pixels"] == SIZE**2


def test_metres_of_pixels_that_are_degrees(segment, tmp_path):
    """At 62 degrees north a degree of longitude is half as long as one of latitude."""
    rgb = write(tmp_path / "rgb.tif", RGB, crs=CRS.from_epsg(4326), transform=Affine(1e-4, 0, 25, 0, -1e-4, 62))
    class_map, report = segment(rgb, None, "--gsd", 10.0)
    width, height = 64 * 5.24 / 10, 64 * 11.14 / 10
    assert class_map.shape == (round(height), round(width))
    assert hectares(report) == pytest.approx(64 * 5.24 * 64 * 11.14 / 10_000, rel=0.01)


def test_pairs_whose_places_differ_are_not_taken_as_aligned(run_demo, tmp_path, pair, capsys):
    """A world file without a reference system still says where pixels lie."""
    elsewhere = write(tmp_path / "elsewhere.tif", SAR, crs=None, transform=PLACE @ Affine.translation(0, 32))
    with pytest.raises(SystemExit):
        run_demo(pair[0], elsewhere)
    message = capsys.readouterr().err
    assert (
        "32.0 pixels apart" in message and f"{elsewhere} has coordinates but no coordinate reference system" in message
    )


def test_what_a_scene_lacks_is_said_and_not_what_pairs_lack(segment, tmp_path, pair):
    unplaced = write(tmp_path / "unplaced.tif", RGB, crs=None)
    coarse = write(tmp_path / "coarse.tif", SAR[:, ::2, ::2], transform=PLACE @ Affine.scale(2))
    error = segment(unplaced, coarse, code=2)
    assert "georeference" in error and "unplaced.tif (gdal_edit -a_srs" in error and "as a scene" not in error
    error = segment([write(tmp_path / "red.tif", RGB[0]), coarse, coarse], pair[1], code=2)
    assert "red.tif is 64x64 pixels" in error and "gdalwarp" in error and "as a scene" not in error


def test_an_area_across_the_antimeridian_of_mercators_map(tmp_path):
    edge = 20_037_508.342789
    grid = Grid(100, 80, CRS.from_epsg(3857), Affine(20, 0, edge - 1000, 0, -20, -1_803_000))
    for name, boxes in {"one": [(179.997, 180.003)], "two": [(179.997, 180), (-180, -179.997)]}.items():
        path = tmp_path / f"{name}.gpkg"
        geopandas.GeoDataFrame(geometry=[box(west, -17, east, -10) for west, east in boxes], crs=4326).to_file(path)
        marked = np.flatnonzero(SceneArea(path, grid).rows(0, 80).any(axis=0))
        np.testing.assert_array_equal(marked, np.arange(33, 67))  # 0.006 degrees are 33.4 pixels
