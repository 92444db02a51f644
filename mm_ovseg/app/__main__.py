r"""Open a web page on which a pair of images and typed class names become a map.

mm_ovseg-app                                    # the small model and the pair that come with the source
mm-ovseg app --port 8000
mm_ovseg-app --config-file configs/mm_ovseg_vitb16_384.yaml --weights model.pth --opts INPUT.SAR.SCALE db

The page is for this machine alone unless --host says otherwise: it has no password. Files that visitors choose, and the
maps of them, are removed after an hour, and when the server ends. Needs `pip install 'mm_ovseg[app]'`.
"""

import argparse
import importlib.util
import signal
import socket
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mm_ovseg.app.hosts import Hosts
from mm_ovseg.app.shipped import load_shipped_config, shipped_pairs
from mm_ovseg.command_line import clean_exit
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError

LARGEST_PORT = 65535
SECONDS_TO_FINISH = 3  # for requests that are open when the server ends


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", metavar="FILE", help="a config of configs/ (default: the small model's)")
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
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE ...")
    return parser.parse_args(arguments)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the page until Ctrl-C."""
    args = parse_arguments(arguments)
    for name, value in (("upload-megabytes", args.max_upload_megabytes), ("megapixels", args.max_megapixels)):
        if not 0 < value < float("inf"):
            raise ConfigError(f"--max-{name} is {value:g}; give a positive number.")
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("The page is made with Gradio, which is not installed; run: pip install 'mm_ovseg[app]'.")
    hosts = Hosts(args.host, args.allowed_host)
    listener = open_port(args.host, args.port)
    overrides = [*(["MODEL.WEIGHTS", args.weights] if args.weights else []), *args.opts]
    if args.config_file is None:
        cfg = load_shipped_config(overrides)
    else:
        cfg = load_config(args.config_file, overrides, needs_datasets=False)
    # As Ctrl-C does; by default the temporary folder would stay. Uvicorn raises the signal again when it has ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with listener, tempfile.TemporaryDirectory(prefix="mm_ovseg_app_", ignore_cleanup_errors=True) as folder:
        serve(args, cfg, hosts, listener, Path(folder).resolve())


def open_port(host: str, port: int) -> socket.socket:
    """A socket that listens there, before the long work of loading a model.

    Raises:
        ConfigError: there is no such address or port on this machine, or another program has it.
    """
    if not 0 <= port <= LARGEST_PORT:
        raise ConfigError(f"--port is {port}; give a number from 1 to {LARGEST_PORT}, or 0 for any that is free.")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ConfigError(
            f"The page cannot be served at {host}, port {port} ({error.strerror}); choose another --port or --host."
        ) from error
    return listener


def serve(args: argparse.Namespace, cfg, hosts: Hosts, listener: socket.socket, folder: Path) -> None:
    """Load the model and serve the page from a socket; files lie in ``folder``."""
    from mm_ovseg.app.server import make_application, prepare_environment

    prepare_environment(folder / "uploads")
    import uvicorn

    from mm_ovseg.app.map_maker import MapMaker
    from mm_ovseg.app.page import build_page
    from mm_ovseg.app.runs import Runs
    from mm_ovseg.app.visitor_files import VisitorFiles

    for name in ("uploads", "maps"):
        (folder / name).mkdir()
    maker = MapMaker(cfg, folder / "maps", max_pixels=round(args.max_megapixels * 1e6))
    pairs = shipped_pairs(cfg)
    shared = [path for pair in pairs.values() for path in pair]
    opening = None
    if pairs and args.config_file is None:
        opening = maker.make_scene(*next(iter(pairs.values())), ", ".join(maker.classes))
        maker.make_map(opening, with_sar=False)
        shared += [path for made in opening.maps.values() for path in (made.geotiff, made.confidence_geotiff)]
    files = VisitorFiles(folder / "uploads", shared)
    runs = Runs()
    application = make_application(
        build_page(maker, files, runs, pairs, opening),
        hosts=hosts,
        files=files,
        runs=runs,
        max_upload_megabytes=args.max_upload_megabytes,
    )
    shown_host = f"[{args.host}]" if ":" in args.host else args.host
    listener.listen()  # so that who reads the next line is not refused
    print(f"The page is at http://{shown_host}:{listener.getsockname()[1]} until you press Ctrl-C.", flush=True)
    settings = uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=SECONDS_TO_FINISH)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(settings).run(sockets=[listener])
    runs.end()  # else the process would wait for the model


if __name__ == "__main__":
    main()
