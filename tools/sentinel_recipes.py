#!/usr/bin/env python
r"""Run the recipes of docs/SENTINEL.md on small made products, and draw their pictures.

python tools/sentinel_recipes.py --output output/recipes
python tools/sentinel_recipes.py --output output/recipes --pictures docs/images

The products have the structure, names and metadata of real ones; their ground is the drawn world of projects/laptop,
which the shipped model knows, so that the maps mean something.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rasterio import Affine
from rasterio.crs import CRS
from scipy.ndimage import distance_transform_edt

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "projects/laptop")]

from laptop.drawn_world import geography, land, sensors  # noqa: E402
from laptop.drawn_world.domain import get_domain  # noqa: E402
from mm_ovseg.cli.clean_exit import clean_exit  # noqa: E402
from mm_ovseg.data.fractal_clouds import draw_fractal_clouds, look_through_clouds  # noqa: E402
from mm_ovseg.inference.coverage import COVERAGE, COVERAGE_LEGEND  # noqa: E402
from mm_ovseg.raster import Grid, open_raster, read_rgb, read_sar, write_geotiff  # noqa: E402
from tests.products import sar_products, sentinel2_product, x_band_products  # noqa: E402

SEED, SIZE = 7, 320  # pixels
CORNER, EPSG = (600_000, 5_100_000), 32632
PLACE = Affine(10, 0, CORNER[0], 0, -10, CORNER[1])
CLASSES = "city, road, forest, water, farmland"
CONFIG = "configs/quickstart/demo.yaml"
FLOOD_REACH = 26  # canvas pixels
CLOUD = 0.35  # opacity from which the scene classification says so
SCL_CLEAR, SCL_CLOUD = 4, 9


def draw(*, flooded: bool, cloudy: bool) -> dict[str, np.ndarray]:
    """A scene: rgb and clear (H, W, 3), sar and label (H, W), uint8, and the opacity of clouds (H, W)."""
    look, canvas = get_domain("a"), geography.Canvas(SIZE)
    ground = land.draw_land(np.random.default_rng(SEED), canvas, look)
    if flooded:
        water = ground.label == geography.WATER
        rising = (distance_transform_edt(~water) < FLOOD_REACH) & (ground.height < 1) & ~water
        ground.label[rising] = geography.WATER
        ground.color[rising] = np.median(ground.color[water], axis=0)
        ground.backscatter[rising] = np.median(ground.backscatter[water])
    sun = sensors.draw_sun(np.random.default_rng(SEED + 1), look)
    clear = sensors.photograph(ground, sun, canvas, look)
    rng, opacity, image = np.random.default_rng(SEED + 2), np.zeros((SIZE, SIZE)), clear
    if cloudy:
        opacity, shadow, color = draw_fractal_clouds(rng, (SIZE, SIZE), sun.toward, thickness=0.97, cover=0.45)
        image = look_through_clouds(clear, opacity, shadow, color)
    sar = sensors.observe_sar(np.random.default_rng([SEED, int(flooded)]), ground, canvas, look, look.speckle_looks)
    return {
        "rgb": sensors.to_8bit(image * 255),
        "sar": sar,
        "label": sensors.reduce_label(ground.label, canvas),
        "opacity": opacity,
    }


def write_products(folder: Path) -> None:
    """The products of the recipes: june (clear), july (cloudy, flooded), and a submetre pair."""
    for name, scene in (("june", draw(flooded=False, cloudy=False)), ("july", draw(flooded=True, cloudy=True))):
        (folder / name).mkdir(parents=True)
        classes = np.where(scene["opacity"][::2, ::2] > CLOUD, SCL_CLOUD, SCL_CLEAR).astype(np.uint8)
        reflectance = scene["rgb"].transpose(2, 0, 1) / 255 * 0.3
        sentinel2_product.write_sentinel2(
            folder / name, reflectance, classes=classes, corner=CORNER, epsg=EPSG, zipped=name == "july"
        )
        power = (10 ** ((scene["sar"] / 255 * 25 - 25) / 10)).astype(np.float32)
        sar_products.write_hyp3(folder / name, {"VV": power, "VH": power}, place=PLACE, epsg=EPSG)
    ground = draw(flooded=False, cloudy=False)
    power = 10 ** ((ground["sar"] / 255 * 25 - 25) / 10)
    numbers, _ = x_band_products.to_numbers(power, x_band_products.CAPELLA_FACTOR)
    (folder / "submetre/capella").mkdir(parents=True)
    x_band_products.write_capella(folder / "submetre/capella", numbers)
    grid = Grid(SIZE, SIZE, CRS.from_epsg(32633), x_band_products.PLACE)
    write_geotiff(folder / "submetre" / "aerial.tif", ground["rgb"].transpose(2, 0, 1), grid)


SCENE = f'mm-ovseg scene --config-file {ROOT / CONFIG} --classes "{CLASSES}" --quiet'
COMMANDS = (
    f"{SCENE} --rgb june/S2A_*.SAFE --sar june/S1A_* --output june.tif",
    f"{SCENE} --rgb july/S2A_*.zip --sar july/S1A_* --output july.tif",
    "mm-ovseg change --before june.tif --after july.tif --output change.tif --vector change.gpkg",
    f"{SCENE} --rgb submetre/aerial.tif --sar submetre/capella --output submetre.tif",
)


def read_colored(path: Path) -> tuple[np.ndarray, dict[str, tuple[int, ...]]]:
    """A map (H, W, 3) in its own colours, and the names of its values with their colours."""
    with open_raster(path) as file:
        values, table, tags = file.read(1), file.colormap(1), file.tags(1)
    colors = np.full((256, 3), 255, np.uint8)
    for value, color in table.items():
        colors[value] = color[:3]
    found = {int(key.rpartition("_")[2]): name for key, name in tags.items() if key.startswith(("class_", "value_"))}
    shown = {value: COVERAGE_LEGEND[COVERAGE[name]].name if name in COVERAGE else name for value, name in found.items()}
    return colors[values], {name: tuple(colors[value]) for value, name in shown.items() if (values == value).any()}


def draw_row(path: Path, panels: dict[str, np.ndarray], legend: dict[str, tuple[int, ...]]) -> None:
    """A row of titled images (H, W, 3) above a legend."""
    figure = Figure(figsize=(2.6 * len(panels), 3.3), layout="constrained")
    for axes, (title, image) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        axes.imshow(image, interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    handles = [Patch(facecolor=np.divide(color, 255), edgecolor="0.5", label=name) for name, color in legend.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def draw_pictures(folder: Path, pictures: Path) -> None:
    """The three pictures of the page."""
    pictures.mkdir(parents=True, exist_ok=True)
    rgb = {name: read_rgb(folder / f"{name}_images/rgb.vrt")[0] for name in ("june", "july")}
    sar, _ = read_sar(folder / "july_images/sar.vrt")
    maps = {
        name: read_colored(folder / f"{name}.tif")
        for name in ("june", "july", "july_coverage", "change_flood", "submetre")
    }
    panels = {"Sentinel-2, June": rgb["june"], "Sentinel-2, July": rgb["july"], "map, June": maps["june"][0]}
    panels |= {"map, July": maps["july"][0], "flood": maps["change_flood"][0]}
    draw_row(pictures / "sentinel_flood.png", panels, {**maps["june"][1], **maps["july"][1], **maps["change_flood"][1]})
    panels = {"Sentinel-2": rgb["july"], "Sentinel-1": sar.astype(np.uint8), "map": maps["july"][0]}
    panels["what it rests on"] = maps["july_coverage"][0]
    draw_row(pictures / "sentinel_clouds.png", panels, {**maps["july"][1], **maps["july_coverage"][1]})
    aerial, _ = read_rgb(folder / "submetre/aerial.tif")
    radar, _ = read_sar(folder / "submetre_images/sar.vrt")
    panels = {"aerial image": aerial, "Capella, X band": radar.astype(np.uint8), "map": maps["submetre"][0]}
    draw_row(pictures / "sentinel_submetre.png", panels, maps["submetre"][1])


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Make the products, run the commands, draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="new folder for products and maps")
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="where the pictures go (default: FOLDER/pictures)"
    )
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True)
    write_products(args.output)
    program = shlex.quote(str(Path(sys.executable).with_name("mm-ovseg")))
    for command in COMMANDS:
        print(command, flush=True)
        subprocess.run(command.replace("mm-ovseg", program, 1), shell=True, cwd=args.output, check=True)
    draw_pictures(args.output, args.pictures or args.output / "pictures")


if __name__ == "__main__":
    main()
