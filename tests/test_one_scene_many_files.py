"""One scene, written in the ways in which scenes are written, gives maps that agree."""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.shutil import copy

from laptop.drawn_world import SYNTHETIC_CLASSES
from mm_ovseg.engine import load_config
from mm_ovseg.inference import ScenePredictor
from tests.conftest import ROOT

PAIR = ROOT / "demo" / "assets" / "pair" / "val"
HEIGHT, WIDTH = 96, 128
LOW, HIGH = -25.0, 0.0  # dB
DECIBELS = ["INPUT.SAR.RANGE", [LOW, HIGH]]
COLORS = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]


def pixels(kind):
    with rasterio.open(PAIR / kind / "00000.tif") as file:
        return file.read(window=((0, HEIGHT), (0, WIDTH))), file.crs, file.transform


RGB, UTM, PLACE = pixels("rgb_clouds")  # clouded, so that SAR says much
SAR = pixels("sar")[0][0]
ZONE_53 = CRS.from_epsg(32653)
DEGREES = CRS.from_epsg(4326)
VALID = np.ones((HEIGHT, WIDTH), bool)
VALID[:40, :50] = VALID[70:, 90:] = False


def write(path, bands, crs=UTM, transform=PLACE, *, mask=None, internal=True, scales=None, meanings=None, **profile):
    bands = bands[None] if bands.ndim == 2 else bands
    profile = {"driver": "GTiff", "dtype": bands.dtype, "photometric": "minisblack", **profile}
    size = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal),
        rasterio.open(path, "w", crs=crs, transform=transform, **size, **profile) as file,
    ):
        if meanings:
            file.colorinterp = meanings
        if scales:
            file.scales, file.offsets = ([number] * len(bands) for number in scales)
        file.write(bands)
        if mask is not None:
            file.write_mask(mask)
    return path


def write_turned(path, bands, turns, **options):
    """The same pixels at the same places, stored in another order."""
    height, width = bands.shape[-2:]
    transform = PLACE
    for turn in turns:
        if turn == "south up":
            bands, transform = bands[..., ::-1, :], transform @ Affine(1, 0, 0, 0, -1, bands.shape[-2])
        elif turn == "mirrored":
            bands, transform = bands[..., ::-1], transform @ Affine(-1, 0, bands.shape[-1], 0, 1, 0)
        else:
            bands, transform = bands.swapaxes(-1, -2), transform @ Affine(0, 1, 0, 1, 0, 0)
    assert {height, width} == set(bands.shape[-2:])
    return write(path, bands, transform=transform, **options)


def sar_as(unit, factor=1):
    """SAR in a unit, with pixels smaller by a factor that hold the same power (or larger by 2, at 0.5)."""
    power = 10 ** ((SAR / 255 * (HIGH - LOW) + LOW) / 10)
    if factor < 1:
        power = power.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean(axis=(1, 3))
    else:
        power = np.kron(power, np.ones((factor, factor)))
    return {"power": power, "amplitude": np.sqrt(power), "db": 10 * np.log10(power)}[unit].astype(np.float32)


def sar_across(zone):
    """SAR in dB on a grid along the axes of zone 53, a quarter of a pixel wide, each with what lies there.

    Args:
        zone: 53, or 52 for the same grid, turned, in the coordinates of the pair's own.
    """
    to_zone = Transformer.from_crs(UTM.to_wkt(), ZONE_53.to_wkt(), always_xy=True)
    x, y = to_zone.transform(*(PLACE @ (WIDTH / 2, HEIGHT / 2)))
    size, pixel = 4 * WIDTH + 60, 0.5
    transform = Affine(pixel, 0, x - size / 2 * pixel, 0, -pixel, y + size / 2 * pixel)
    columns, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    x, y = to_zone.transform(*(transform @ (columns, rows)), direction="INVERSE")
    columns, rows = (np.floor(axis).astype(int) for axis in ~PLACE @ (x, y))
    inside = (columns >= 0) & (columns < WIDTH) & (rows >= 0) & (rows < HEIGHT)
    values = sar_as("db")[np.where(inside, rows, 0), np.where(inside, columns, 0)]
    values = np.where(inside, values, -9999).astype(np.float32)
    if zone == 53:
        return {"bands": values, "crs": ZONE_53, "transform": transform, "nodata": -9999}
    # Over a few hundred metres straight to less than a millimetre.
    right, down, origin = (np.array([x[at], y[at]]) for at in ((0, -1), (-1, 0), (0, 0)))
    (a, d), (b, e) = (right - origin) / (size - 1), (down - origin) / (size - 1)
    transform = Affine(a, b, origin[0], d, e, origin[1]) @ Affine.translation(-0.5, -0.5)
    return {"bands": values, "transform": transform, "nodata": -9999}


def lonlat(turn):
    """A grid of degrees at the pair's place, whose pixels are as large; longitudes of the west as 180 to 360."""
    west = -123.0 + turn
    return Affine(2 / 88_000, 0, west, 0, -2 / 111_000, 37.0)


@dataclass
class Way:
    """How a scene is written.

    Attributes:
        rgb, sar: folder -> file or files.
        config: Of the command line.
        reference: What the map is compared with.
        same: Share of the pixels that must have the same class; 1.0 where only the container differs.
    """

    rgb: object = None
    sar: object = None
    config: list = field(default_factory=list)
    reference: str = "plain"
    same: float = 1.0


def three_files(folder):
    return [write(folder / f"{name}.tif", RGB[band]) for band, name in enumerate(("B04", "B03", "B02"))]


def stack(folder):
    """What gdalbuildvrt -separate writes."""
    names = [path.name for path in three_files(folder)]
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">{name}'
        f"</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for band, name in enumerate(names, start=1)
    )
    (folder / "stack.vrt").write_text(
        f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}"><SRS>{UTM.to_wkt()}</SRS><GeoTransform>'
        f"{', '.join(map(str, PLACE.to_gdal()))}</GeoTransform>{bands}</VRTDataset>"
    )
    return folder / "stack.vrt"


def envi(folder):
    copy(str(write(folder / "rgb.tif", RGB)), str(folder / "rgb.img"), driver="ENVI")
    return folder / "rgb.img"


def masked_rgb(kind):
    """RGB whose data are told in one of the ways, over numbers that are not colours."""
    fill = np.uint8(0 if kind == "nodata" else 99)
    bands = np.where(VALID, np.maximum(RGB, 1), fill)

    def make(folder):
        path = folder / "rgb.tif"
        if kind == "nodata":
            return write(path, bands, nodata=0)
        if kind == "alpha":
            alpha = np.where(VALID, np.uint8(255), np.uint8(0))
            return write(path, np.concatenate([bands, alpha[None]]), meanings=[*COLORS, ColorInterp.alpha])
        return write(path, bands, mask=VALID, internal=kind == "internal mask")

    return make


def masked_sar(kind):
    def make(folder):
        decibels = np.where(VALID, sar_as("db"), np.float32(-9999 if kind == "nodata" else 7))
        if kind == "nodata":
            return write(folder / "sar.tif", decibels, nodata=-9999)
        return write(folder / "sar.tif", decibels, mask=VALID, internal=kind == "internal mask")

    return make


def turned(*turns):
    return Way(
        rgb=lambda folder: write_turned(folder / "rgb.tif", RGB, turns),
        sar=lambda folder: write_turned(folder / "sar.tif", SAR, turns[:1]),
    )


def in_degrees(rgb_turn, sar_turn, **more):
    return Way(
        rgb=lambda folder: write(folder / "rgb.tif", RGB, DEGREES, lonlat(rgb_turn)),
        # SAR has pixels half as wide, so that it is resampled.
        sar=lambda folder: write(
            folder / "sar.tif", sar_as("db", 2), DEGREES, lonlat(sar_turn) @ Affine.scale(0.5)
        ),
        config=["INPUT.SAR.SCALE", "db", *DECIBELS],
        **more,
    )  # fmt: skip


def sar_way(unit, factor, **more):
    transform = PLACE @ Affine.scale(1 / factor)
    return Way(
        sar=lambda folder: write(folder / "sar.tif", sar_as(unit, factor), transform=transform),
        config=["INPUT.SAR.SCALE", unit, *DECIBELS],
        **more,
    )


def rgb_way(make, *config, **more):
    return Way(rgb=lambda folder: write(folder / "rgb.tif", **make), config=list(config), **more)


WAYS = {
    "plain": Way(),
    "uint16": rgb_way({"bands": RGB.astype(np.uint16) * 40}, "INPUT.RGB.RANGE", [0.0, 10200.0]),
    "uint16, scale and offset": rgb_way(
        {"bands": RGB.astype(np.uint16) * 32 + 1000, "scales": (1 / 32, -31.25)}, "INPUT.RGB.RANGE", [0.0, 255.0]
    ),
    "float": rgb_way({"bands": (RGB / 255).astype(np.float32)}, "INPUT.RGB.RANGE", [0.0, 1.0]),
    "int16 and a range that begins below 0": rgb_way(
        {"bands": RGB.astype(np.int16) * 4 - 500}, "INPUT.RGB.RANGE", [-500.0, 520.0]
    ),
    "blue, green, red": rgb_way({"bands": RGB[::-1], "meanings": COLORS[::-1]}),
    "blue, green, red, infrared": rgb_way(
        {"bands": np.concatenate([RGB[::-1], RGB[:1] // 3]), "photometric": "rgb"}, "INPUT.RGB.BANDS", [3, 2, 1],
    ),
    "infrared, red, green, blue, and a band called alpha that is asked for": rgb_way(
        {"bands": np.concatenate([RGB[:1] * 0, RGB])}, "INPUT.RGB.BANDS", [2, 3, 4]
    ),
    "three files": Way(rgb=three_files),
    "virtual raster": Way(rgb=stack),
    "ENVI": Way(rgb=envi),
    "tiles": rgb_way({"bands": RGB, "tiled": True, "blockxsize": 16, "blockysize": 32}),
    "strips of one row": rgb_way({"bands": RGB, "blockysize": 1, "compress": "lzw", "interleave": "pixel"}),
    "predictor and BigTIFF": rgb_way({"bands": RGB, "compress": "deflate", "predictor": 2, "BIGTIFF": "YES"}),
    "south up": turned("south up"),
    "mirrored": turned("mirrored"),
    "transposed": turned("transposed"),
    "all of these": turned("transposed", "south up", "mirrored"),
    "heights": rgb_way({"bands": RGB, "crs": CRS.from_user_input("EPSG:32652+5773")}),
    "degrees": in_degrees(0, 0, same=0.99),
    "RGB in 0..360": in_degrees(360, 0, reference="degrees"),
    "SAR in 0..360": in_degrees(0, 360, reference="degrees"),
    "both in 0..360": in_degrees(360, 360, reference="degrees"),
    "RGB masked by nodata": Way(rgb=masked_rgb("nodata"), same=0.65),
    "RGB masked by alpha": Way(rgb=masked_rgb("alpha"), reference="RGB masked by nodata"),
    "RGB masked within": Way(rgb=masked_rgb("internal mask"), reference="RGB masked by nodata"),
    "RGB masked beside": Way(rgb=masked_rgb(".msk"), reference="RGB masked by nodata"),
    "SAR masked by nodata": Way(
        sar=masked_sar("nodata"), config=["INPUT.SAR.SCALE", "db", *DECIBELS], same=0.7
    ),
    "SAR masked within": Way(
        sar=masked_sar("internal mask"),
        config=["INPUT.SAR.SCALE", "db", *DECIBELS],
        reference="SAR masked by nodata",
    ),
    "SAR masked beside": Way(
        sar=masked_sar(".msk"), config=["INPUT.SAR.SCALE", "db", *DECIBELS], reference="SAR masked by nodata"
    ),
    # Logarithms and back: not the same bits.
    **{f"SAR as {unit}": sar_way(unit, 1, same=0.999) for unit in ("power", "amplitude", "db")},
    **{
        f"SAR as {unit}, {factor} times finer": sar_way(unit, factor, same=0.99)
        for unit in ("power", "amplitude", "db")
        for factor in (2, 3)
    },
    "SAR as power, twice as coarse": sar_way("power", 0.5, same=0.92),
    "SAR as amplitude, twice as coarse": sar_way(
        "amplitude", 0.5, reference="SAR as power, twice as coarse", same=0.99
    ),
    "SAR as db, twice as coarse": sar_way("db", 0.5, reference="SAR as power, twice as coarse", same=0.99),
    # On a turned grid every pixel is between others, which blurs speckle; in another zone no more than in its own.
    "SAR on a turned grid": Way(
        sar=lambda folder: write(folder / "sar.tif", **sar_across(52)),
        config=["INPUT.SAR.SCALE", "db", *DECIBELS],
        same=0.97,
    ),
    "SAR in another zone": Way(
        sar=lambda folder: write(folder / "sar.tif", **sar_across(53)),
        config=["INPUT.SAR.SCALE", "db", *DECIBELS],
        reference="SAR on a turned grid",
        same=0.99,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def map_of(tmp_path_factory):
    """A function ``way -> (map, coverage, their transform)``; one model makes them all, each once."""
    cfg = load_config(ROOT / "configs/quickstart/demo.yaml", ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "quickstart://"])
    predictor = ScenePredictor(cfg, SYNTHETIC_CLASSES)

    @cache
    def make(name):
        folder, way = tmp_path_factory.mktemp("way"), WAYS[name]
        predictor.cfg = cfg.clone()
        predictor.cfg.defrost()
        predictor.cfg.merge_from_list(way.config)
        rgb = way.rgb(folder) if way.rgb else write(folder / "rgb.tif", RGB)
        sar = way.sar(folder) if way.sar else write(folder / "sar.tif", SAR)
        predictor.segment(rgb, sar, folder / "map.tif")
        with rasterio.open(folder / "map.tif") as file, rasterio.open(folder / "map_coverage.tif") as coverage:
            return file.read(1), coverage.read(1), file.transform

    return make


@pytest.mark.parametrize("name", WAYS)
def test_the_map_is_the_same_however_the_scene_is_written(map_of, name):
    way = WAYS[name]
    (class_map, coverage, transform), (expected, expected_coverage, place) = map_of(name), map_of(way.reference)
    assert class_map.shape == (HEIGHT, WIDTH)
    if way.same == 1:
        np.testing.assert_array_equal(class_map, expected)
        np.testing.assert_array_equal(coverage, expected_coverage)
    else:
        assert (class_map == expected).mean() >= way.same
    if "degrees" not in name and "360" not in name:  # whose maps are in other coordinates than their reference's
        shift = (~transform @ Affine(*place[:6]))[:6]
        assert shift == pytest.approx(Affine.identity()[:6], abs=1e-6)


def test_masks_are_where_they_were_written(map_of):
    class_map, coverage, _ = map_of("RGB masked by nodata")
    assert not (class_map == 255).any()
    np.testing.assert_array_equal(coverage, np.where(VALID, 2, 3))
    _, coverage, _ = map_of("SAR masked by nodata")
    np.testing.assert_array_equal(coverage == 1, ~VALID)
    np.testing.assert_array_equal(coverage == 2, VALID)


def test_the_map_is_of_the_ground(map_of):
    """So that maps do not agree in nonsense."""
    assert (map_of("plain")[0] == pixels("labels")[0][0]).mean() > 0.6
