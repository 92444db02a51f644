"""Folders of RGB, SAR and labels as people have them: in order, and with every kind of mistake in one."""

import warnings

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

SIZE = 48
DRIVERS = {".png": "PNG", ".jpg": "JPEG", ".tif": "GTiff"}
ORIGIN = 500_000, 4_200_000


def save(path, bands, *, crs=None, transform=None, colormap=None):
    """Write (bands, H, W) or (H, W) numbers."""
    bands = bands if bands.ndim == 3 else bands[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        profile = {"driver": DRIVERS[path.suffix], "dtype": bands.dtype, "crs": crs, "transform": transform}
        with rasterio.open(path, "w", width=width, height=height, count=count, **profile) as dataset:
            dataset.write(bands)
            if colormap is not None:
                dataset.write_colormap(1, colormap)
    return path


def grid(number, *, shift=0.0):
    """The place of a pair: tiles of 10 m pixels in a row from west to east, with gaps."""
    return Affine(10, 0, ORIGIN[0] + number * SIZE * 20 + shift * 10, 0, -10, ORIGIN[1])


def images(number):
    """RGB, SAR in dB and label of a pair: three fields whose widths differ from pair to pair."""
    generator = np.random.default_rng(number)
    label = np.zeros((SIZE, SIZE), dtype=np.uint8)
    label[:, 10 + number :] = 1
    label[20 + number :] = 2
    colors = np.array([[40, 90, 60], [150, 140, 90], [20, 40, 120]])
    rgb = (colors[label] + generator.integers(-15, 15, (SIZE, SIZE, 3))).astype(np.uint8).transpose(2, 0, 1)
    sar = np.array([-12.0, -7.0, -20.0])[label] + generator.normal(0, 2, (2, SIZE, SIZE))
    return rgb, sar.astype(np.float32), label


def write_pair(root, key, number, *, place=None, **changed):
    """Write the three files of a pair as GeoTIFF; ``changed`` replaces arrays by kind, None leaves a file out."""
    arrays = dict(zip(("rgb", "sar", "labels"), images(number), strict=True)) | changed
    where = {"crs": "EPSG:32633", "transform": grid(number) if place is None else place}
    for kind, array in arrays.items():
        if array is not None:
            save(root / kind / f"{key}.tif", array, **where)


def write_clean_folder(root, count=6):
    for number in range(count):
        write_pair(root, f"good_{number}", number)
    return root


def write_broken_folder(root):
    """A clean folder, and in it a pair with each mistake.

    Returns:
        Mistake -> (file at fault, kind of the finding).
    """
    write_clean_folder(root, count=8)
    numbers = iter(range(8, 40))

    def pair(key, **changed):
        number = next(numbers)
        write_pair(root, key, number, **changed)
        return number

    rgb, sar, label = images(100)
    pair("missing_sar", sar=None)
    pair("extra_label", rgb=None, sar=None)
    number = pair("shifted")
    save(root / "sar" / "shifted.tif", images(number)[1], crs="EPSG:32633", transform=grid(number, shift=3))
    number = pair("other_crs")
    save(root / "sar" / "other_crs.tif", images(number)[1], crs="EPSG:32634", transform=grid(number))
    pair("float_label", labels=label.astype(np.float32))
    pair("half_label", labels=label + np.float32(0.5))
    pair("out_of_range", labels=label + np.uint8(40))
    pair("palette", labels=None)
    save(root / "labels" / "palette.png", label, colormap={value: (200, 30 * value, 9) for value in range(256)})
    pair("sixteen_bit", rgb=rgb.astype(np.uint16) * 40)
    pair("all_nan", sar=np.full_like(sar, np.nan))
    pair("some_nan", sar=np.where(np.arange(SIZE) < 9, np.nan, sar).astype(np.float32))
    pair("empty_file")
    (root / "rgb" / "empty_file.tif").write_bytes(b"")
    pair("truncated")
    content = (root / "sar" / "truncated.tif").read_bytes()
    (root / "sar" / "truncated.tif").write_bytes(content[: len(content) // 2])
    number = pair("twice")
    save(root / "rgb" / "twice.png", images(number)[0])
    return {
        "missing SAR": ("rgb/missing_sar.tif", "missing-partner"),
        "extra label": ("labels/extra_label.tif", "missing-partner"),
        "shifted grid": ("sar/shifted.tif", "different-grid"),
        "another CRS": ("sar/other_crs.tif", "different-grid"),
        "float label": ("labels/float_label.tif", "label-float"),
        "float label with fractions": ("labels/half_label.tif", "label-unusable"),
        "label out of range": ("labels/out_of_range.tif", "label-unusable"),
        "palette PNG": ("labels/palette.png", "palette"),
        "16-bit RGB": ("rgb/sixteen_bit.tif", "rgb-unusable"),
        "NaN SAR": ("sar/all_nan.tif", "sar-unusable"),
        "SAR with some NaN": ("sar/some_nan.tif", "nan"),
        "empty file": ("rgb/empty_file.tif", "unreadable"),
        "truncated TIFF": ("sar/truncated.tif", "unreadable"),
        "duplicate stems": ("rgb/twice.tif", "duplicate-name"),
    }


OEM_PALETTE = [(0, 0, 0), (128, 0, 0), (0, 255, 36), (148, 148, 148), (255, 255, 255), (34, 97, 38), (0, 69, 255)]
OEM_PALETTE += [(75, 181, 73), (222, 31, 6)]


def write_palette_folder(root, count=6):
    """PNG files without georeference in one folder, labels with OpenEarthMap's palette: as the figure's tiles."""
    for number in range(count):
        rgb, sar, label = images(number)
        name = f"{'france' if number < count // 2 else 'usa'}{number}.png"
        save(root / f"rgb_{name}", rgb)
        save(root / f"sar_{name}", np.clip(sar[0] * 8 + 200, 0, 255).astype(np.uint8))
        save(root / f"label_{name}", np.array([0, 4, 8], np.uint8)[label], colormap=dict(enumerate(OEM_PALETTE)))
    return root


def write_sentinel_folder(root, count=3):
    """GeoTIFF in one folder, each site in a zone of its own, SAR in dB, and multispectral files that are no RGB."""
    for number in range(count):
        rgb, sar, label = images(number)
        where = {"crs": f"EPSG:{32633 + number}", "transform": grid(0)}
        save(root / f"rgb_site{number}.tif", rgb, **where)
        save(root / f"sar_site{number}.tif", sar.astype(np.float64), **where)
        save(root / f"label_site{number}.tif", np.array([1, 2, 9], np.uint8)[label], **where)
        if number:
            save(root / f"s2l2a_site{number}.tif", np.repeat(rgb, 4, axis=0).astype(np.int16) * 20, **where)
    return root
