#!/usr/bin/env python
"""Write the shipped Sentinel pair, demo/assets/sentinel, from one of TerraMind's tiles.

python projects/sentinel/write_shipped_pair.py --realdata ../shared/realdata

It is the same bytes each time: the clouds come from a fixed seed.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.data.cloudy_images import IMAGES, CloudSettings, add_clouds
from mm_ovseg.raster import RasterSource
from sentinel.terramind import write_reflectance, write_site

SITE = "433D_629L_3_1"  # near Temuco, Chile: a river, woods, fields and a village
CLOUDS = CloudSettings(kind="thick", seed=6, cover=(0.5, 0.5))
TAGS = {
    "TIFFTAG_COPYRIGHT": "Contains modified Copernicus Sentinel data 2020",
    "source": "TerraMind's examples (IBM, ESA Phi-lab), Apache-2.0, tile 433D_629L_3_1; see demo/assets/README.md",
}


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--realdata", type=Path, default=Path("../shared/realdata"), help="the folder with terramind/")
    parser.add_argument("--output", type=Path, default=Path("demo/assets/sentinel"), help="folder for the files")
    args = parser.parse_args(arguments)
    files = {kind: args.output / f"{kind}.tif" for kind in ("rgb", "sar", "label")}
    write_site(args.realdata / "terramind", SITE, files, TAGS)
    cloudy = args.output / "rgb_clouds.tif"
    with TemporaryDirectory() as folder:
        clear = Path(folder, "clear", "rgb.tif")
        clear.parent.mkdir()
        clear.symlink_to(files["rgb"].resolve())
        finished = add_clouds(clear.parent, Path(folder), CLOUDS)
        with RasterSource(Path(folder, IMAGES, "rgb.tif")) as source:
            write_reflectance(cloudy, source.read([1, 2, 3])[0].transpose(2, 0, 1), source, TAGS)
    covered = finished.made[0]["covered"]
    for path in (*files.values(), cloudy):
        print(f"{path}: {path.stat().st_size / 1000:.0f} KB")
    print(f"Clouds cover {100 * covered:.0f}% of {cloudy}.")


if __name__ == "__main__":
    main()
