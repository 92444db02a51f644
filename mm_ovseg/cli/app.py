"""Serve a web page that is a map: look around in a pair of images, and type what to look for in it.

mm-ovseg app                                    # the small model and the pair shipped with the package
mm-ovseg app --port 8000
mm-ovseg app --rgb rgb.tif --sar vv.tif vh.tif  # opens with this scene, of any size; also products
mm-ovseg app --config-file configs/mm_ovseg_vitb16_384.yaml --weights model.pth --opts INPUT.SAR.SCALE db

The page has no password, so by default only this machine can open it (see --host). All visitors see the scene of --rgb
and --sar, whose rasters are read where they are; what must be computed from a product goes to a temporary folder.
Uploaded files and maps are deleted after an hour without a request of their visitor, and when the server stops. Needs
`pip install 'mm_ovseg[app]'`.
"""

import argparse
import importlib.util
import signal
from pathlib import Path

from mm_ovseg.cli.arguments import add_config_arguments, check_positive
from mm_ovseg.errors import ConfigError

REQUIRED = ("starlette", "uvicorn", "python_multipart", "rio_tiler")  # of the extra "app"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the address, and the limits on uploads."""
    add_config_arguments(parser, required=False, help="a config file (default: that of the shipped small model)")
    parser.add_argument("--weights", metavar="FILE", help="weights to load (default: MODEL.WEIGHTS of the config)")
    parser.add_argument(
        "--rgb", nargs="+", metavar="FILE", help="open with this RGB image: a raster, those of its bands, or a product"
    )
    parser.add_argument("--sar", nargs="+", metavar="FILE", help="and this SAR image, on any grid")
    parser.add_argument("--host", default="localhost", help="0.0.0.0 admits other machines (default: localhost)")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name or address of this page, such as that of a reverse proxy; may be repeated",
    )
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: 7860)")
    parser.add_argument(
        "--max-upload-megabytes", type=float, default=200, metavar="MB", help="of a file, in 1e6 bytes (default: 200)"
    )
    parser.add_argument(
        "--max-megapixels", type=float, default=150, metavar="N", help="of a scene, in 1e6 pixels (default: 150)"
    )


def run(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    check_positive(args, "max-upload-megabytes", "max-megapixels")
    if missing := [name for name in REQUIRED if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"The page needs {', '.join(missing)}, not installed; run: pip install 'mm_ovseg[app]'.")
    from mm_ovseg.app.hosts import Hosts
    from mm_ovseg.app.port import open_port
    from mm_ovseg.app.scenes import SceneFiles
    from mm_ovseg.app.shipped_pairs import CONFIG
    from mm_ovseg.engine import load_config

    hosts = Hosts(args.host, args.allowed_host)
    listener = open_port(args.host, args.port)
    overrides = [*(["MODEL.WEIGHTS", args.weights] if args.weights else []), *args.opts]
    cfg = load_config(args.config_file or CONFIG, overrides, needs_datasets=False)
    pair = None
    if args.rgb or args.sar:
        rgb, sar = (tuple(map(Path, paths)) if paths else None for paths in (args.rgb, args.sar))
        pair = SceneFiles(rgb, sar, name=(rgb or sar)[0].stem)
    from mm_ovseg.app.serving import serve  # needs the packages above

    # Like Ctrl-C; by default the temporary folder would remain. Uvicorn raises the signal again when it has stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    serve(
        cfg,
        hosts,
        listener,
        shown_host=args.host,
        pair=pair,
        with_example=args.config_file is None,
        max_upload_megabytes=args.max_upload_megabytes,
        max_megapixels=args.max_megapixels,
    )
