"""Open a web page on which a pair of images and typed class names become a map.

mm-ovseg app                                    # with the small model and the pair that come with the package
mm-ovseg app --port 8000
mm-ovseg app --config-file configs/mm_ovseg_vitb16_384.yaml --weights model.pth --opts INPUT.SAR.SCALE db

The page is for this machine alone unless --host says otherwise: it has no password. Files that visitors choose, and the
maps of them, are removed after an hour, and when the server ends. Needs `pip install 'mm_ovseg[app]'`.
"""

import argparse
import importlib.util
import signal

from mm_ovseg.cli.arguments import add_config_arguments, check_positive
from mm_ovseg.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the address, and what is taken from visitors."""
    add_config_arguments(parser, required=False, help="a config of configs/ (default: the small model's)")
    parser.add_argument("--weights", metavar="FILE", help="MODEL.WEIGHTS (default: the config's)")
    parser.add_argument("--host", default="localhost", help="0.0.0.0 lets other machines in (default: localhost)")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name or address that visitors use for this page, as of a server before it; may be repeated",
    )
    parser.add_argument("--port", type=int, default=7860, help="(default: 7860)")
    parser.add_argument(
        "--max-upload-megabytes", type=float, default=200, metavar="MB", help="of each file (default: 200)"
    )
    parser.add_argument(
        "--max-megapixels", type=float, default=50, metavar="N", help="of a scene, 1e6 pixels (default: 50)"
    )


def run(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    check_positive(args, "max-upload-megabytes", "max-megapixels")
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("The page is made with Gradio, which is not installed; run: pip install 'mm_ovseg[app]'.")
    from mm_ovseg.app.hosts import Hosts
    from mm_ovseg.app.serving import open_port, serve
    from mm_ovseg.app.shipped_pairs import CONFIG
    from mm_ovseg.engine import load_config

    hosts = Hosts(args.host, args.allowed_host)
    listener = open_port(args.host, args.port)
    overrides = [*(["MODEL.WEIGHTS", args.weights] if args.weights else []), *args.opts]
    cfg = load_config(args.config_file or CONFIG, overrides, needs_datasets=False)
    # As Ctrl-C does; by default the temporary folder would stay. Uvicorn raises the signal again when it has ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    serve(
        cfg,
        hosts,
        listener,
        shown_host=args.host,
        with_example=args.config_file is None,
        max_upload_megabytes=args.max_upload_megabytes,
        max_megapixels=args.max_megapixels,
    )
