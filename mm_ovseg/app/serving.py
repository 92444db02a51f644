"""Serving the page: the port, the model, the files of its visitors."""

import socket
import tempfile
from contextlib import suppress
from pathlib import Path

from detectron2.config import CfgNode

from mm_ovseg.app.hosts import Hosts
from mm_ovseg.app.shipped_pairs import shipped_pairs
from mm_ovseg.errors import ConfigError

__all__ = ["open_port", "serve"]

MAX_PORT = 65535
SECONDS_TO_FINISH = 3  # for open requests when the server stops


def open_port(host: str, port: int) -> socket.socket:
    """A socket bound to a host and port, before the slow loading of a model.

    Raises:
        ConfigError: the address or port does not exist on this machine, or is in use.
    """
    if not 0 <= port <= MAX_PORT:
        raise ConfigError(f"--port is {port}; give a number from 1 to {MAX_PORT}, or 0 for any free port.")
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


def serve(
    cfg: CfgNode,
    hosts: Hosts,
    listener: socket.socket,
    *,
    shown_host: str,
    with_example: bool,
    max_upload_megabytes: float,
    max_megapixels: float,
) -> None:
    """Load the model and serve the page until Ctrl-C.

    Args:
        cfg: including the weights.
        hosts: names of the page.
        listener: from :func:`open_port`.
        shown_host: the host in the printed address.
        with_example: show the shipped pair and its map at first.
        max_upload_megabytes: maximum size of a file, in 1e6 bytes.
        max_megapixels: maximum size of a scene, in 1e6 pixels.
    """
    from mm_ovseg.app.server import make_application, prepare_environment

    with listener, tempfile.TemporaryDirectory(prefix="mm_ovseg_app_", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary).resolve()
        prepare_environment(folder / "uploads")
        import uvicorn

        from mm_ovseg.app.map_maker import MapMaker
        from mm_ovseg.app.page import build_page
        from mm_ovseg.app.runs import Runs
        from mm_ovseg.app.visitor_files import VisitorFiles

        for name in ("uploads", "maps"):
            (folder / name).mkdir()
        maker = MapMaker(cfg, folder / "maps", max_pixels=round(max_megapixels * 1e6))
        pairs = shipped_pairs(cfg)
        shared = [path for pair in pairs.values() for path in pair]
        opening = None
        if pairs and with_example:
            opening = maker.make_scene(*next(iter(pairs.values())), ", ".join(maker.classes))
            maker.make_map(opening, with_sar=False)
            shared += [path for made in opening.maps.values() for path in (made.geotiff, made.confidence_geotiff)]
        files = VisitorFiles(folder / "uploads", shared)
        runs = Runs()
        page = build_page(maker, files, runs, pairs, opening)
        application = make_application(
            page, hosts=hosts, files=files, runs=runs, max_upload_megabytes=max_upload_megabytes
        )
        listener.listen()  # before printing, so that early visitors are not refused
        host = f"[{shown_host}]" if ":" in shown_host else shown_host
        print(f"The page is at http://{host}:{listener.getsockname()[1]} until you press Ctrl-C.", flush=True)
        settings = uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=SECONDS_TO_FINISH)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run(sockets=[listener])
        runs.end()  # otherwise the process would wait for the model
