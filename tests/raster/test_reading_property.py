"""Whatever grid, order of pixels, mask or unit a file has: what is read lies where the ground is.

Files hold a smooth function of the place on the ground, so that what any grid should hold is known without the package.
"""

import functools
import itertools
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyproj import CRS as ProjCRS
from pyproj import Transformer
from rasterio import Affine
from rasterio.enums import ColorInterp

from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.raster import RGBReader, SARReader

WAVELENGTH = 24  # of the largest pixels
MARGIN = 2.0  # of these, on both sides of a mask's and a file's edge
MAX_SHIFT = 0.12  # of the smallest pixels
MAX_ERROR = 3.0  # of 0..255
LOW, HIGH = -25.0, 0.0  # dB
ORIENTATIONS = list(itertools.product((False, True), repeat=3))


@functools.cache
def way(source, target):
    systems = (ProjCRS.from_user_input(crs).to_2d() for crs in (source, target))
    return Transformer.from_crs(*systems, always_xy=True)


@functools.cache
def is_geographic(crs):
    return ProjCRS.from_user_input(crs).is_geographic


@dataclass(frozen=True)
class Site:
    """A place, the pixels of the coarsest file there, and which of them have data: those on one side of a line."""

    longitude: float
    latitude: float
    pixel: float  # metres
    coarser: float  # so many times larger pixels are read
    direction: float
    offset: float  # of pixels, of the line from the site

    def local(self, crs, x, y):
        """Metres east and north of the site."""
        return way(crs, f"+proj=aeqd +lon_0={self.longitude} +lat_0={self.latitude} +datum=WGS84").transform(x, y)

    def corner(self, crs, turn):
        x, y = way("OGC:CRS84", crs).transform(self.longitude, self.latitude)
        return (x + turn * (x < 0) if turn else x), y

    def ground(self, east, north):
        """Grey (..., 3), 0..255, at a place."""
        wave = 2 * math.pi / (WAVELENGTH * self.pixel * self.coarser)
        return np.stack(
            [
                120 + 40 * np.sin(wave * east + 1) + 40 * np.sin(wave * north),
                120 + 40 * np.sin(wave * (east + north) / math.sqrt(2)) + 40 * np.cos(wave * north + 2),
                120 + 50 * np.cos(wave * east) + 30 * np.sin(wave * (east - north) / math.sqrt(2) + 1),
            ],
            axis=-1,
        )  # fmt: skip

    def inside(self, east, north):
        """How many metres a place is within the part that has data."""
        return east * math.cos(self.direction) + north * math.sin(self.direction) + self.offset * self.pixel


@dataclass(frozen=True)
class Layer:
    """A file: its reference system (longitudes up to ``turn``), its pixels in parts of the site's, and its storage."""

    crs: str
    turn: float
    pixel: tuple[float, float]
    size: tuple[int, int]
    centre: tuple[float, float]  # of the site, in pixels from the middle
    rotation: float
    orientation: tuple[bool, bool, bool]
    mask: str
    unit: str = "8bit"

    def transform(self, site):
        x, y = site.corner(self.crs, self.turn)
        metres = [site.pixel * part for part in self.pixel]
        if is_geographic(self.crs):
            metres = [metres[0] / (111_320 * math.cos(math.radians(site.latitude))), metres[1] / 110_950]
        middle = (self.size[0] / 2 + self.centre[0], self.size[1] / 2 + self.centre[1])
        return (
            Affine.translation(x, y)
            @ Affine.rotation(self.rotation)
            @ Affine.scale(metres[0], -metres[1])
            @ Affine.translation(-middle[0], -middle[1])
        )

    def write(self, path, site):
        width, height = self.size
        transform = self.transform(site)
        columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        east, north = site.local(self.crs, *(transform @ (columns, rows)))
        values, valid = site.ground(east, north), site.inside(east, north) > 0
        if self.unit == "8bit":
            values = np.rint(values).astype(np.uint8)
        else:
            decibels = LOW + values / 255 * (HIGH - LOW)
            units = {"db": decibels, "power": 10 ** (decibels / 10), "amplitude": 10 ** (decibels / 20)}
            values = units[self.unit].astype(np.float32)
        nodata = None
        fill = 0 if self.unit == "8bit" else 77  # what must not be taken for data
        if self.mask == "nodata":
            nodata = fill = 0 if self.unit == "8bit" else -9999
        values[~valid] = fill
        transpose, flip_rows, flip_columns = self.orientation
        if flip_columns:
            values, valid = values[:, ::-1], valid[:, ::-1]
            transform = transform @ Affine(-1, 0, width, 0, 1, 0)
        if flip_rows:
            values, valid = values[::-1], valid[::-1]
            transform = transform @ Affine(1, 0, 0, 0, -1, height)
        if transpose:
            values, valid = values.swapaxes(0, 1), valid.T
            transform = transform @ Affine(0, 1, 0, 1, 0, 0)
        bands = [*np.moveaxis(values, 2, 0)]
        if self.mask == "alpha":
            bands.append((valid * 255).astype(values.dtype))
        profile = {"driver": "GTiff", "count": len(bands), "dtype": values.dtype.name, "nodata": nodata}
        profile |= {"height": values.shape[0], "width": values.shape[1], "crs": self.crs, "transform": transform}
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=self.mask == "internal"),
            rasterio.open(path, "w", photometric="minisblack", **profile) as file,
        ):
            if self.mask == "alpha":
                file.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * 2, ColorInterp.alpha]
            file.write(np.stack(bands))
            if self.mask in ("internal", "side"):
                file.write_mask(valid)
        assert (Path(f"{path}.msk").exists()) == (self.mask == "side")

    def depth(self, site, crs, x, y):
        """How many of the site's pixels places are within the file's extent."""
        x, y = way(crs, self.crs).transform(x, y)
        transform = self.transform(site)
        turn = 360 if is_geographic(self.crs) else 2 * math.pi * 6_378_137 if self.crs == "EPSG:3857" else math.inf
        if turn < math.inf:
            x = x - turn * np.round((x - site.corner(self.crs, self.turn)[0]) / turn)
        columns, rows = ~transform @ (x, y)
        width, height = self.size
        across = np.minimum(columns, width - columns) * self.pixel[0]
        return np.minimum(across, np.minimum(rows, height - rows) * self.pixel[1])


def site_and_layers(seed):
    """A site, the layers of RGB and SAR there, and where windows are cut; each choice is as likely as the next."""
    generator = np.random.default_rng(seed)

    def draw(options):
        return options[generator.integers(len(options))]

    if generator.random() < 0.3:  # around the poles
        latitude, longitude = draw([83.0, 89.999, -84.0]), draw([-179.99, 20.0, 135.0])
        systems = ["EPSG:3995", "EPSG:3413", "EPSG:32661"] if latitude > 0 else ["EPSG:3031", "EPSG:32761"]
        if latitude < 85:
            systems.append("EPSG:4326")
    else:
        latitude = draw([0.001, 35.2, -44.0, 65.0])
        longitude = draw([-179.9995, 179.9999, -0.0001, 128.9, -123.0])
        zone = int((longitude + 180) // 6) + 1
        hemisphere = 32600 if latitude > 0 else 32700
        systems = [f"EPSG:{hemisphere + zone}", f"EPSG:{hemisphere + zone}+5773", f"EPSG:{hemisphere + zone % 60 + 1}"]
        systems += ["EPSG:3857", "EPSG:4326", "EPSG:4326", "EPSG:4258"]
    site = Site(
        longitude=longitude,
        latitude=latitude,
        pixel=draw([0.5, 10.0, 300.0]),
        coarser=draw([1.0, 1.0, 2.5]),
        direction=generator.uniform(0, 2 * math.pi),
        offset=generator.uniform(-5, 10),
    )

    def layer(units=("8bit",), parts=(1.0,)):
        part, shape, crs = draw(parts), draw([1.0, 1.0, 0.5]), draw(systems)
        scale = 1 / math.cos(math.radians(site.latitude)) if crs == "EPSG:3857" else 1.0
        return Layer(
            crs=crs,
            turn=360.0 if is_geographic(crs) and generator.random() < 0.5 else 0.0,
            pixel=(part * scale, part * shape * scale),
            size=(round(generator.integers(36, 48) / part), round(generator.integers(36, 48) / part / shape)),
            centre=tuple(generator.uniform(-4, 4, 2)),
            rotation=0.0 if is_geographic(crs) else draw([0.0, 0.0, 11.0]),
            orientation=draw(ORIENTATIONS),
            mask=draw(("nodata", "alpha", "internal", "side")),
            unit=draw(units),
        )

    sar = layer(units=("8bit", "db", "power", "amplitude"), parts=(0.25, 0.4, 0.5, 0.8, 1.0))
    return site, layer(), sar, generator.integers(1, 10, 2)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], derandomize=True, phases=[Phase.generate])
@given(seed=st.integers(0, 2**32 - 1))
def test_pixels_and_masks_lie_where_the_ground_is(seed):
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder), *site_and_layers(seed))


def check(folder, site, rgb, sar, cuts):
    rgb.write(folder / "rgb.tif", site)
    sar.write(folder / "sar.tif", site)
    # The largest pixels are those of the grid: by --gsd, if at all.
    distance = None if site.coarser == 1 else site.coarser * site.pixel
    with SceneSource(
        folder / "rgb.tif",
        folder / "sar.tif",
        rgb_reader=RGBReader(bands=(1, 2, 3)),
        sar_reader=SARReader(bands=(1, 2, 3), scale=sar.unit, value_range=(LOW, HIGH)),
        ground_sampling_distance=distance,
    ) as source:
        grid = source.grid
        whole = source.read(0, 0, *grid.shape)
        edges = [sorted({0, min(cut * 4, length), length}) for cut, length in zip(cuts, grid.shape, strict=True)]
        for top, bottom in itertools.pairwise(edges[0]):
            for left, right in itertools.pairwise(edges[1]):
                part = source.read(top, left, bottom - top, right - left)
                for name in ("image", "image_valid", "sar_image", "sar_valid"):
                    expected = getattr(whole, name)[top:bottom, left:right]
                    np.testing.assert_array_equal(getattr(part, name), expected, err_msg=name)
    assert grid.transform.a * grid.width > 0 > grid.transform.e * grid.height or rgb.rotation
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = grid.transform @ (columns, rows)
    east, north = site.local(rgb.crs, x, y)
    truth, inside = site.ground(east, north), site.inside(east, north) / (site.pixel * site.coarser)
    steps = [
        site.ground(*site.local(rgb.crs, *(grid.transform @ (columns + dx, rows + dy)))) - truth
        for dx, dy in ((0.5, 0), (0, 0.5))
    ]
    for name, image, valid, layer in (
        ("rgb", whole.image, whole.image_valid, rgb),
        ("sar", whole.sar_image, whole.sar_valid, sar),
    ):
        depth = layer.depth(site, rgb.crs, x, y) / site.coarser
        surely, never = (inside > MARGIN) & (depth > MARGIN), (inside < -MARGIN) | (depth < -MARGIN)
        assert valid[surely].all() and not valid[never].any(), name
        assert not image[~valid].any(), name
        if surely.sum() < 50:
            continue
        error = image[surely] - truth[surely]
        # The shift that explains the errors best, in half pixels of the grid.
        slopes = np.stack([step[surely].ravel() for step in steps], axis=1)
        shift, *_ = np.linalg.lstsq(slopes, error.ravel(), rcond=None)
        finest = min(1.0, *layer.pixel) / site.coarser
        assert np.abs(shift / 2).max() < MAX_SHIFT * max(finest, 0.5), (name, shift / 2)
        assert np.abs(error).max() < MAX_ERROR, name
