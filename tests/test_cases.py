"""Inputs that people have, given to the command lines as they would: the right answer, or one sentence."""

import json
import logging
import os

import numpy as np
import pytest
import rasterio
from detectron2.data import DatasetCatalog
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rasterio.shutil import copy
from rasterio.warp import transform as transform_points

from demo import demo
from mm_ovseg.data.synthetic import SYNTHETIC_CLASSES
from mm_ovseg.engine import load_config
from mm_ovseg.errors import DataError
from mm_ovseg.inference import Predictor
from mm_ovseg.raster import read_label
from tests.conftest import ROOT, load_tool

PAIR = ROOT / "demo" / "assets" / "pair" / "val"
CONFIG = ROOT / "configs" / "quickstart" / "demo.yaml"
SIZE = 64
NAMES = ",".join(SYNTHETIC_CLASSES)
UTM = CRS.from_epsg(32652)
PLACE = Affine(2, 0, 430_000, 0, -2, 3_900_000)
PIXEL = 4.0026 / 10_000  # hectares of a pixel of 2 m there


def crop(kind, row=0, column=0):
    with rasterio.open(PAIR / kind / "00000.tif") as file:
        return file.read(window=((row, row + SIZE), (column, column + SIZE)))


RGB, CLOUDED, SAR, LABELS = (crop(kind) for kind in ("rgb", "rgb_clouds", "sar", "labels"))
DECIBELS = (SAR / 255 * 25 - 25).astype(np.float32)
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE]


def write(
    path, bands, *, crs=UTM, transform=PLACE, mask=None, meanings=None, scales=None, gcps=None, rpcs=None, **more
):
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = bands[None] if bands.ndim == 2 else bands
    profile = {"driver": "GTiff", "dtype": bands.dtype, "photometric": "minisblack", "crs": crs, **more}
    size = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    if gcps is None and transform is not None:
        profile["transform"] = transform
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **size, **profile) as file:
        if meanings:
            file.colorinterp = meanings
        if scales:
            file.scales = scales
        if gcps:
            file.gcps = (gcps, crs)
        if rpcs:
            file.rpcs = rpcs
        file.write(bands)
        if mask is not None:
            file.write_mask(mask)
    return path


@pytest.fixture
def pair(tmp_path):
    return write(tmp_path / "rgb.tif", RGB), write(tmp_path / "sar.tif", SAR)


@pytest.fixture
def logged():
    """What mm_ovseg logs, whether or not a test before has set its logger up."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("mm_ovseg").addHandler(handler)
    yield messages
    logging.getLogger("mm_ovseg").removeHandler(handler)


@pytest.fixture
def segment(tmp_path, capsys):
    """A function ``(rgb, sar, *words, opts, code) -> (map, report)``, or where code is not 0 stderr's last line."""
    tool = load_tool("segment_scene")

    def run(rgb, sar=None, *more, opts=(), code=0):
        output = tmp_path / f"map_{len(list(tmp_path.iterdir()))}.tif"
        rgb = rgb if isinstance(rgb, list) else [rgb]
        words = ["--config-file", CONFIG, "--rgb", *rgb, *(("--sar", sar) if sar else ()), "--classes", NAMES]
        words += [
            "--output",
            output,
            "--quiet",
            *more,
            "--opts",
            "MODEL.DEVICE",
            "cpu",
            "MODEL.WEIGHTS",
            "quickstart://",
        ]
        words = [str(word) for word in (*words, *opts)]
        if code:
            with pytest.raises(SystemExit) as stop:
                tool.main(words)
            assert stop.value.code == code and not output.exists()
            return capsys.readouterr().err.strip().splitlines()[-1]
        tool.main(words)
        with rasterio.open(output) as file:
            return file.read(1), json.loads(output.with_suffix(".json").read_text())

    return run


@pytest.fixture
def run_demo(tmp_path):
    """A function ``(rgb, sar, *words) -> map`` by demo/demo.py."""

    def run(rgb, sar, *more, opts=()):
        output = tmp_path / f"demo_{len(list(tmp_path.iterdir()))}"
        words = ["--config-file", CONFIG, "--input", rgb, "--sar", sar, "--classes", NAMES, "--output", output, *more]
        words += ["--opts", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "quickstart://", *opts]
        try:
            demo.main([str(word) for word in words])
        finally:
            if demo.INPUT_NAME in DatasetCatalog:
                DatasetCatalog.remove(demo.INPUT_NAME)
        with rasterio.open(next(output.glob("*_map.tif"))) as file:
            return file.read(1)

    return run


def vrt(path, files, *, nodata=None, kinds=None, crs=UTM, transform=PLACE):
    """What gdalbuildvrt -separate writes."""
    bands = ""
    for number, file in enumerate(files):
        value = nodata[number] if nodata else None
        bands += f'<VRTRasterBand dataType="{kinds[number] if kinds else "Float32"}" band="{number + 1}">'
        bands += "" if value is None else f"<NoDataValue>{value}</NoDataValue>"
        bands += f'<ComplexSource><SourceFilename relativeToVRT="1">{file}</SourceFilename><SourceBand>1</SourceBand>'
        bands += ("" if value is None else f"<NODATA>{value}</NODATA>") + "</ComplexSource></VRTRasterBand>"
    path.write_text(
        f'<VRTDataset rasterXSize="{SIZE}" rasterYSize="{SIZE}"><SRS>{crs.to_wkt()}</SRS><GeoTransform>'
        f"{', '.join(map(str, transform.to_gdal()))}</GeoTransform>{bands}</VRTDataset>"
    )
    return path


def hectares(report):
    return sum(area["hectares"] for area in report["classes"])


def test_bands_with_nodata_values_of_their_own(segment, tmp_path):
    known = ROWS < 40
    files = []
    for band, (name, nodata) in enumerate((("B4", 65535), ("B3", 0), ("B2", 7))):
        values = np.where(known, RGB[band].astype(np.uint16) * 20 + 100, nodata)
        files.append(write(tmp_path / f"{name}.tif", values.astype(np.uint16), nodata=nodata))
    opts = ["INPUT.RGB.RANGE", "[100.0, 5200.0]"]
    class_map, report = segment(files, opts=opts)
    np.testing.assert_array_equal(class_map == 255, ~known)
    assert hectares(report) == pytest.approx(known.sum() * PIXEL, rel=1e-3)
    class_map, coarse = segment(files, None, "--gsd", 4.0, opts=opts)
    assert class_map.shape == (32, 32) and coarse["coverage"]["no_rgb"] == 12 * 32
    assert hectares(coarse) == pytest.approx(hectares(report), rel=1e-3)


@pytest.mark.parametrize("bands", ["", "[2]", "[2, 1]"])
def test_polarisations_with_nodata_values_of_their_own_resampled(segment, tmp_path, bands):
    known = COLUMNS >= 20
    shifted = PLACE @ Affine.translation(3.3, 2.3)
    write(tmp_path / "vv.tif", DECIBELS[0], nodata=-32768, transform=shifted)
    write(
        tmp_path / "vh.tif", np.where(known, DECIBELS[0] - 6, -9999).astype(np.float32), nodata=-9999, transform=shifted
    )
    sar = vrt(tmp_path / "sar.vrt", ["vv.tif", "vh.tif"], nodata=[-32768, -9999], transform=shifted)
    rgb = write(tmp_path / "rgb.tif", RGB)
    opts = ["INPUT.SAR.SCALE", "db", *(["INPUT.SAR.BANDS", bands] if bands else [])]
    _, report = segment(rgb, sar, opts=opts)
    # Centres from column 23.3 - 0.5, where the first valid pixel has a part, and from row 2.3 on, to the last ones.
    assert report["coverage"]["rgb_and_sar"] == (SIZE - 23) * (SIZE - 2)


def test_masked_labels_are_ignored_in_every_tool(tmp_path, pair, capsys):
    known = COLUMNS < 50
    hidden = np.where(known, LABELS[0], 3).astype(np.uint8)
    alpha = np.where(known, np.uint8(255), np.uint8(0))
    files = {
        "mask": write(tmp_path / "mask.tif", hidden, mask=known),
        "alpha": write(
            tmp_path / "alpha.tif", np.stack([hidden, alpha]), meanings=[ColorInterp.gray, ColorInterp.alpha]
        ),
        "nodata": write(tmp_path / "nodata.tif", np.where(known, LABELS[0] + 1, 0).astype(np.uint8), nodata=0),
    }
    tile_scenes = load_tool("tile_scenes")
    for name, path in files.items():
        count = len(SYNTHETIC_CLASSES) + (name == "nodata")
        label = read_label(path, num_classes=count)
        np.testing.assert_array_equal(label == 255, ~known)
        words = ["--rgb", pair[0], "--sar", pair[1], "--labels", path, "--size", SIZE, "--val-fraction", 0]
        classes = NAMES if count == 5 else f"nothing,{NAMES}"
        tile_scenes.main([str(word) for word in (*words, "--classes", classes, "--output", tmp_path / name)])
        (tile,) = json.loads((tmp_path / name / "manifest.json").read_text())["pairs"]
        assert tile["ignored"] == (~known).sum() and sum(tile["pixels"]) == known.sum()
    capsys.readouterr()
    # A folder whose masked pixels hold 0, which is not a class.
    for index in range(4):
        cut = np.s_[..., index * 16 : index * 16 + 16]
        place = PLACE @ Affine.translation(index * 16, 0)
        inside = np.ones((SIZE, 16), bool)
        inside[:, :5] = False
        write(tmp_path / f"folder/rgb/{index}.tif", RGB[cut], transform=place)
        write(tmp_path / f"folder/sar/{index}.tif", SAR[cut], transform=place)
        labels = np.where(inside, LABELS[0][cut] + 1, 0).astype(np.uint8)
        write(tmp_path / f"folder/labels/{index}.tif", labels, transform=place, mask=inside)
    words = [tmp_path / "folder", "--output", tmp_path / "drafted", "--classes", NAMES]
    words += ["--label-values", "1: city, 2: road, 3: forest, 4: water, 5: farmland"]
    load_tool("new_dataset").main([str(word) for word in words])
    assert "which no class has" not in capsys.readouterr().out


def test_labels_without_a_place_lie_as_the_image_that_they_were_drawn_on(tmp_path):
    """RGB stored from south to north, labels as a plain image of the same pixels."""
    south_up = PLACE @ Affine(1, 0, 0, 0, -1, SIZE)
    words = ["--rgb", write(tmp_path / "rgb.tif", RGB[:, ::-1], transform=south_up)]
    words += ["--sar", write(tmp_path / "sar.tif", SAR[:, ::-1], transform=south_up)]
    words += ["--labels", write(tmp_path / "labels.tif", LABELS[:, ::-1], crs=None, transform=None)]
    words += ["--size", SIZE, "--val-fraction", 0, "--classes", NAMES, "--output", tmp_path / "tiles"]
    load_tool("tile_scenes").main([str(word) for word in words])
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
        assert report["coverage"]["rgb_and_sar"] == SIZE**2 and report["covered_by_sar_file"] == 1


def test_zeros_that_are_not_declared_to_be_no_data(segment, tmp_path, pair, logged):
    known = ROWS >= 16
    sar = write(tmp_path / "sar_db.tif", np.where(known, DECIBELS[0], 0).astype(np.float32))
    decibels = ["INPUT.SAR.SCALE", "db"]
    _, report = segment(pair[0], sar, opts=decibels)
    (warning,) = report["warnings"]
    assert f"25% of the SAR pixels of {sar} are exactly 0, and the file declares no nodata value" in warning
    assert "INPUT.SAR.NODATA 0" in warning
    assert report["warnings"][0] in logged
    _, report = segment(pair[0], sar, opts=[*decibels, "INPUT.SAR.NODATA", 0])
    assert report["coverage"]["rgb_and_sar"] == known.sum() and not report["warnings"]
    rgb = write(tmp_path / "rgb0.tif", np.where(known, np.maximum(RGB, 1), 0).astype(np.uint8))
    _, report = segment(rgb)
    assert "25% of the RGB pixels" in report["warnings"][0] and hectares(report) == pytest.approx(
        SIZE**2 * PIXEL, rel=1e-3
    )
    _, report = segment(rgb, opts=["INPUT.RGB.NODATA", 0])
    assert report["coverage"]["no_rgb"] == (~known).sum() and not report["warnings"]


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


def test_bands_of_different_types(segment, tmp_path, pair):
    plain, _ = segment(*pair)
    files = [
        write(tmp_path / "r.tif", RGB[0].astype(np.float64)),
        write(tmp_path / "g.tif", RGB[1].astype(np.int16)),
        write(tmp_path / "b.tif", RGB[2]),
    ]
    class_map, _ = segment(files, pair[1], opts=["INPUT.RGB.RANGE", "[0.0, 255.0]"])
    np.testing.assert_array_equal(class_map, plain)
    for name, band in zip("123", RGB, strict=True):
        write(tmp_path / f"{name}.tif", band)
    write(tmp_path / "db.tif", DECIBELS[0])
    kinds = ["Float32", "Byte", "Byte", "Byte", "UInt16"]
    stack = vrt(tmp_path / "stack.vrt", ["db.tif", "1.tif", "2.tif", "3.tif", "1.tif"], kinds=kinds)
    class_map, _ = segment(stack, pair[1], "--rgb-bands", 2, 3, 4)
    np.testing.assert_array_equal(class_map, plain)
    _, report = segment(pair[0], stack, opts=["INPUT.SAR.SCALE", "db", "INPUT.SAR.BANDS", "[1, 5]"])
    assert report["coverage"]["rgb_and_sar"] == SIZE**2
    message = segment(stack, pair[1], "--rgb-bands", 1, 2, 3, code=2)
    assert "holds float32 values; set INPUT.RGB.RANGE" in message


@pytest.mark.parametrize("numbers, scale, become, right", [
    (lambda: (DECIBELS * 10).round().astype(np.int16), "db", "become 0, the low end", (0.1, "[-25.0, 0.0]")),
    (lambda: (10 ** ((DECIBELS + 66) / 20)).round().astype(np.uint16), "amplitude", "become 255, the high end", None),
    (lambda: (DECIBELS + 66).astype(np.float32), "db", "become 255, the high end", (1, "[41.0, 66.0]")),
])  # fmt: skip
def test_sar_at_one_end_of_its_range_is_said(
    segment, run_demo, tmp_path, pair, logged, capsys, numbers, scale, become, right
):
    sar = write(tmp_path / "odd.tif", numbers())
    opts = ["INPUT.SAR.SCALE", scale]
    _, report = segment(pair[0], sar, opts=opts)
    (warning,) = report["warnings"]
    assert become in warning and f"of {sar}" in warning and "check INPUT.SAR.SCALE and INPUT.SAR.RANGE" in warning
    logged.clear()
    run_demo(pair[0], sar, opts=opts)
    assert any(become in message for message in logged)
    capsys.readouterr()
    words = ["--rgb", pair[0], "--sar", sar, "--labels", write(tmp_path / "labels.tif", LABELS), "--size", SIZE]
    words += ["--sar-scale", scale, "--classes", NAMES, "--val-fraction", 0, "--output", tmp_path / "tiles"]
    load_tool("tile_scenes").main([str(word) for word in words])
    assert become in capsys.readouterr().out
    if right is not None:
        sar = write(tmp_path / "right.tif", numbers(), scales=[right[0]])
        _, report = segment(pair[0], sar, opts=[*opts, "INPUT.SAR.RANGE", right[1]])
        assert not report["warnings"]


@pytest.mark.parametrize("name, words", [
    ("S1A.SAFE", "is a folder; give the image in it, such as {folder}/S1A.SAFE/measurement/vv.tiff"),
    ("empty_folder", "is a folder; give the image in it."),
    ("https://example.com/sar.tif", "is an address; download the file first"),
    ("s3://bucket/sar.tif", "is an address; download the file first"),
    ("/vsizip/x.zip/sar.tif", "vsizip paths are not read; unpack"),
    ("NETCDF:x.nc:vv", "does not exist"),
    ("fifo", "is not a regular file"),
    ("/dev/zero", "is not a regular file"),
    ("empty.tif", "is an empty file (0 bytes)"),
    ("none.tif", "does not exist; check the path"),
    ("text.tif", "cannot be read as a PNG, JPEG, GeoTIFF or JPEG 2000 image"),
])  # fmt: skip
def test_what_is_not_an_image_file(segment, tmp_path, pair, name, words):
    (tmp_path / "empty_folder").mkdir()
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("no pixels")
    os.mkfifo(tmp_path / "fifo")
    write(tmp_path / "S1A.SAFE" / "measurement" / "vv.tiff", SAR)
    path = tmp_path / name if (tmp_path / name).exists() or name == "none.tif" else name
    message = segment(pair[0], path, code=2)
    assert str(path) in message and words.format(folder=tmp_path) in message
    assert words.format(folder=tmp_path) in segment(path, pair[1], code=2)


def test_single_look_complex_images(segment, tmp_path, pair):
    for dtype in ("complex64", "complex_int16"):
        slc = write(tmp_path / f"{dtype}.tif", (SAR[0] + 2j).astype(np.complex64), dtype=dtype)
        for opts in ((), ("INPUT.SAR.SCALE", "amplitude"), ("INPUT.SAR.SCALE", "power", "INPUT.SAR.BANDS", "[1]")):
            assert "holds complex values; write their amplitude" in segment(pair[0], slc, opts=opts, code=2)


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
    assert f"local coordinate system of {rgb} to that of {pair[1]}; give {rgb} the" in message and "{" not in message
    message = segment(pair[0], rgb, code=2)
    assert f"local coordinate system of {rgb} to that of {pair[0]}; give {rgb} the" in message
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
        assert (class_map == plain).mean() > 0.99 and report["coverage"]["rgb_and_sar"] == SIZE**2


def test_metres_of_pixels_that_are_degrees(segment, tmp_path):
    """At 62 degrees north a degree of longitude is half as long as one of latitude."""
    rgb = write(tmp_path / "rgb.tif", RGB, crs=CRS.from_epsg(4326), transform=Affine(1e-4, 0, 25, 0, -1e-4, 62))
    class_map, report = segment(rgb, None, "--gsd", 10.0)
    width, height = 64 * 5.24 / 10, 64 * 11.14 / 10
    assert class_map.shape == (round(height), round(width))
    assert hectares(report) == pytest.approx(64 * 5.24 * 64 * 11.14 / 10_000, rel=0.01)


def test_bands_that_are_asked_for_are_data_whatever_the_file_calls_them(segment, tmp_path, pair):
    """GDAL calls the fourth band of 8 bits alpha; in water near infrared is 0."""
    infrared = np.where(ROWS < 30, 0, 200).astype(np.uint8)[None]
    rgbn = write(tmp_path / "rgbn.tif", np.concatenate([RGB, infrared]), photometric="rgb", alpha="yes")
    with rasterio.open(rgbn) as file:
        assert file.colorinterp[3] == ColorInterp.alpha
    _, report = segment(rgbn, pair[1], "--rgb-bands", 4, 1, 2)
    assert report["coverage"]["rgb_and_sar"] == SIZE**2
    _, report = segment(rgbn, pair[1])  # one number where it is not 0: as alpha is
    assert report["coverage"]["no_rgb"] == 30 * SIZE
    infrared = np.where(ROWS < 30, 0, RGB[:1])  # many numbers, as alpha has not
    rgbn = write(tmp_path / "measured.tif", np.concatenate([RGB[::-1], infrared]), photometric="rgb", alpha="yes")
    for more in ((), ("--rgb-bands", 3, 2, 1)):
        _, report = segment(rgbn, pair[1], *more)
        assert report["coverage"]["rgb_and_sar"] == SIZE**2


def test_pairs_whose_places_differ_are_not_taken_as_aligned(run_demo, tmp_path, pair, capsys):
    """A world file without a reference system still says where pixels lie."""
    elsewhere = write(tmp_path / "elsewhere.tif", SAR, crs=None, transform=PLACE @ Affine.translation(0, 32))
    with pytest.raises(SystemExit):
        run_demo(pair[0], elsewhere)
    message = capsys.readouterr().err
    assert (
        "32.0 pixels apart" in message and f"{elsewhere} has coordinates but no coordinate reference system" in message
    )


def test_formats_of_ones_own_are_read_from_the_command_line(segment, tmp_path, pair):
    plain, _ = segment(*pair)
    for driver, suffix in (("ENVI", ".img"), ("VRT", ".vrt"), ("HFA", ".hfa")):
        path = tmp_path / f"other{suffix}"
        copy(str(pair[1]), str(path), driver=driver)
        np.testing.assert_array_equal(segment(pair[0], path)[0], plain)
    with pytest.raises(DataError, match="allow its format with MM_OVSEG_GDAL_DRIVERS"):
        read_label(tmp_path / "other.img", num_classes=256)


def test_rasters_within_a_file(segment, tmp_path, pair):
    with rasterio.Env() as environment:
        if "netCDF" not in environment.drivers():
            pytest.skip("this GDAL has no netCDF")
    plain, _ = segment(*pair)
    path = tmp_path / "one.nc"
    copy(str(pair[1]), str(path), driver="netCDF")
    for name in (path, f'NETCDF:"{path}":Band1', f"NETCDF:{path}:Band1"):
        np.testing.assert_array_equal(segment(pair[0], name)[0], plain)
    several = tmp_path / "several.nc"
    two = write(tmp_path / "two.tif", np.concatenate([SAR, SAR]))
    copy(str(two), str(several), driver="netCDF")
    message = segment(pair[0], several, code=2)
    assert f"{several} holds no raster of its own but 2 within it; give one of them, such as " in message
    assert segment(pair[0], message.split("such as ")[1].removesuffix("."))[0].shape == (SIZE, SIZE)
    np.testing.assert_array_equal(segment(pair[0], f'NETCDF:"{several}":Band2')[0], plain)
    with pytest.raises(DataError, match="is a raster within .*, which is not read here; write it to a GeoTIFF"):
        read_label(f'NETCDF:"{path}":Band1', num_classes=256)


def test_labels_of_larger_tiles_are_what_most_of_their_pixels_are(tmp_path, pair):
    """A path one pixel wide, on which the middle of every third pixel lies, is no class of the larger ones."""
    labels = np.where(COLUMNS % 3 == 1, 1, 2).astype(np.uint8)
    words = ["--rgb", pair[0], "--sar", pair[1], "--labels", write(tmp_path / "labels.tif", labels), "--gsd", 6]
    words += ["--size", 21, "--val-fraction", 0, "--classes", NAMES, "--output", tmp_path / "tiles"]
    load_tool("tile_scenes").main([str(word) for word in words])
    (tile,) = json.loads((tmp_path / "tiles" / "manifest.json").read_text())["pairs"]
    assert tile["pixels"] == [0, 0, 21 * 21, 0, 0]


def test_what_a_scene_lacks_is_said_and_not_what_pairs_lack(segment, tmp_path, pair):
    unplaced = write(tmp_path / "unplaced.tif", RGB, crs=None)
    coarse = write(tmp_path / "coarse.tif", SAR[:, ::2, ::2], transform=PLACE @ Affine.scale(2))
    error = segment(unplaced, coarse, code=2)
    assert "georeference" in error and "unplaced.tif (gdal_edit -a_srs" in error and "as a scene" not in error
    error = segment([write(tmp_path / "red.tif", RGB[0]), coarse, coarse], pair[1], code=2)
    assert "red.tif is 64x64 pixels" in error and "gdalwarp" in error and "as a scene" not in error
