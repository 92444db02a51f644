"""Serving the page: the port, the model, and the scenes that the page opens with."""

import math
import secrets
import socket
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import uvicorn
from detectron2.config import CfgNode

from mm_ovseg.app.api import Page, make_application
from mm_ovseg.app.gate import Gate
from mm_ovseg.app.hosts import Hosts
from mm_ovseg.app.map_maker import MapMaker, Question
from mm_ovseg.app.scenes import SceneFiles, make_scene
from mm_ovseg.app.shipped_pairs import shipped_pairs
from mm_ovseg.app.visitors import Visitors
from mm_ovseg.products import Preparation, prepare_image
from mm_ovseg.raster import path_list

__all__ = ["open_examples", "serve"]

KINDS = ("rgb", "sar")
SECONDS_TO_FINISH = 3  # for open requests when the server stops


def serve(
    cfg: CfgNode,
    hosts: Hosts,
    listener: socket.socket,
    *,
    shown_host: str,
    pair: SceneFiles | None,
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
        pair: rasters or products of this machine to show at first, of any size; None for none.
        with_example: without such files, show the first shipped pair and its map at first.
        max_upload_megabytes: maximum size of a file, in 1e6 bytes.
        max_megapixels: maximum size of a scene of a visitor, in 1e6 pixels.

    Raises:
        MMOVSegError: the model cannot be loaded, or the files cannot be used.
    """
    with listener, tempfile.TemporaryDirectory(prefix="mm_ovseg_app_", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary).resolve()
        visitors = Visitors(folder / "visitors")
        visitors.folder.mkdir()
        page = Page(
            cfg=cfg,
            maker=MapMaker(cfg),
            visitors=visitors,
            max_upload_bytes=round(max_upload_megabytes * 1e6),
            max_pixels=max_megapixels * 1e6,
        )
        open_examples(page, folder, pair, with_example)
        application = Gate(make_application(page), hosts=hosts, max_upload_bytes=page.max_upload_bytes)
        listener.listen()  # before printing, so that early visitors are not refused
        host = f"[{shown_host}]" if ":" in shown_host else shown_host
        print(f"The page is at http://{host}:{listener.getsockname()[1]} until you press Ctrl-C.", flush=True)
        settings = uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=SECONDS_TO_FINISH)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run(sockets=[listener])


def open_examples(page: Page, folder: Path, pair: SceneFiles | None, with_example: bool) -> None:
    """Prepare the scenes that all visitors share, and the map that the page opens with.

    Args:
        page: gets them.
        folder: for their files.
        pair, with_example: as for :func:`serve`.

    Raises:
        MMOVSegError: the files cannot be used.
    """

    def new_folder() -> Path:
        created = folder / "shared" / secrets.token_urlsafe(24)
        created.mkdir(parents=True)
        return created

    callbacks = {"progress": lambda *_: None, "should_stop": lambda: False}
    files = shipped_pairs(page.cfg)
    if pair is not None:
        print("Preparing the images to show.", flush=True)
        files = [_prepared(pair, folder / "images"), *files]
    page.examples = [make_scene(of, page.cfg, new_folder(), max_pixels=math.inf, **callbacks) for of in files]
    for scene in page.examples:
        page.visitors.share(scene)
    if page.examples and (pair is not None or with_example):
        page.opening = page.examples[0]
    if page.opening is not None and pair is None:
        question = Question.typed(page.opening, ", ".join(page.maker.classes), "", "both", None)
        features = page.opening.folder / "features"
        page.opening_map = page.maker.make_map(page.opening, question, new_folder(), features=features, **callbacks)
        page.visitors.share(page.opening_map)


def _prepared(pair: SceneFiles, folder: Path) -> SceneFiles:
    """A pair whose products, if it has any, are rasters in a folder; visitors still see the products' names."""
    preparation = Preparation(folder=folder)
    images = {kind: prepare_image(paths, kind, preparation) for kind in KINDS if (paths := getattr(pair, kind))}
    rasters = {kind: tuple(map(Path, path_list(image.paths))) for kind, image in images.items()}
    names = {path: getattr(pair, kind)[0].name for kind, paths in rasters.items() for path in paths}
    clouds = images["rgb"].clouds if "rgb" in images else None
    warnings = tuple(warning for image in images.values() for warning in image.warnings)
    return replace(pair, **rasters, names={**names, **pair.names}, clouds=clouds, warnings=warnings)
