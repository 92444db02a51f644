"""The page's interface over HTTP: the application and its routes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from mm_ovseg.app.gate import UPLOAD_ROUTE, error_response
from mm_ovseg.app.map_maker import MapMaker, Question
from mm_ovseg.app.map_routes import map_routes
from mm_ovseg.app.messages import UNEXPECTED, page_message
from mm_ovseg.app.page_map import PageMap
from mm_ovseg.app.place import Window
from mm_ovseg.app.reading import SAR_UNITS, with_reading
from mm_ovseg.app.requests import BROKEN, address_of, read_corners, read_json, visitor_of
from mm_ovseg.app.runs import Event, EventStream, Run, Runs
from mm_ovseg.app.scenes import Scene, SceneFiles, make_scene
from mm_ovseg.app.uploads import store_upload
from mm_ovseg.app.visitors import UploadedFile, Visitors
from mm_ovseg.errors import MMOVSegError, StoppedError

__all__ = ["Page", "make_application"]

CLEANING_SECONDS = 60
MAX_FILES = 20  # of an image
MAX_NAME = 60  # characters, of a scene
MAX_CLASSES = 4000  # characters


@dataclass
class Page:
    """What the page serves, and the handlers of what changes it.

    Attributes:
        cfg: the config, with the default reading of files.
        maker: makes the maps.
        visitors: what visitors have.
        max_upload_bytes: size limit of a file.
        max_pixels: size limit of a scene.
        examples: scenes that all visitors may look at and map.
        opening_map: the map shown first, of the first example; None for none.
        opening: the scene shown first; None for none.
        runs: the queue.
    """

    cfg: CfgNode
    maker: MapMaker
    visitors: Visitors
    max_upload_bytes: int
    max_pixels: float
    examples: Sequence[Scene] = ()
    opening: Scene | None = None
    opening_map: PageMap | None = None
    runs: Runs = field(default_factory=Runs)

    async def describe(self, request: Request) -> Response:
        """GET /api/page."""
        visitor_of(request)
        examples = [
            {"id": scene.id, "title": scene.files.name, "attribution": scene.files.attribution}
            for scene in self.examples
        ]
        about = {
            "classes": ", ".join(self.maker.classes),
            "examples": examples,
            "max_upload_bytes": self.max_upload_bytes,
            "max_pixels": self.max_pixels,
            "sar_units": list(SAR_UNITS),
            "opening": None if self.opening is None else self.opening.id,
            "opening_map": None if self.opening_map is None else self.opening_map.describe(),
        }
        return JSONResponse(about)

    async def upload(self, request: Request) -> Response:
        """POST /api/files."""
        visitor = visitor_of(request)
        with self.visitors.present(visitor):
            file = await store_upload(request, self.visitors, visitor, max_bytes=self.max_upload_bytes)
        return JSONResponse({"id": file.id, "name": file.name, "bytes": file.path.stat().st_size})

    async def scene(self, request: Request) -> Response:
        """GET /api/scenes/ID."""
        scene = self.visitors.find(visitor_of(request), Scene, request.path_params["id"])
        return JSONResponse(scene.describe())

    async def make_scene(self, request: Request) -> Response:
        """POST /api/scenes."""
        visitor, asked = visitor_of(request), await read_json(request)
        if asked.get("example") is not None:
            example = self.visitors.find(visitor, Scene, asked["example"])
            if asked.get("reading") is None:
                return _at_once({"event": "scene", "scene": example.describe()})
            files = example.files
        else:
            files = self._files(visitor, asked)
        cfg = with_reading(self.cfg, asked.get("reading"))

        def work(run: Run) -> Event:
            scene = make_scene(
                files,
                cfg,
                self.visitors.new_folder(visitor),
                max_pixels=self.max_pixels,
                progress=run.progress,
                should_stop=run.should_stop,
            )
            self.visitors.keep(visitor, scene)
            return {"event": "scene", "scene": scene.describe()}

        return self._stream(request, visitor, work, files)

    async def make_map(self, request: Request) -> Response:
        """POST /api/scenes/ID/maps."""
        visitor, asked = visitor_of(request), await read_json(request)
        scene = self.visitors.find(visitor, Scene, request.path_params["id"])
        texts = [asked.get(key, default) for key, default in (("classes", ""), ("background", ""), ("sensors", "both"))]
        if not all(isinstance(text, str) and len(text) <= MAX_CLASSES for text in texts):
            raise HTTPException(400, f"The class names are longer than {MAX_CLASSES} characters; give fewer.")
        question = Question.typed(scene, *texts, _window(scene, asked))
        features = self._features(visitor, scene, question)

        def work(run: Run) -> Event:
            folder = self.visitors.new_folder(visitor)
            callbacks = {"progress": run.progress, "should_stop": run.should_stop}
            page_map = self.maker.make_map(scene, question, folder, features=features, **callbacks)
            described = page_map.describe()
            self.visitors.keep(visitor, page_map)
            return {"event": "map", "map": described}

        return self._stream(request, visitor, work, scene.files)

    async def make_polygons(self, request: Request) -> Response:
        """POST /api/maps/ID/polygons."""
        visitor = visitor_of(request)
        page_map = self.visitors.find(visitor, PageMap, request.path_params["id"])
        made: Event = {"event": "polygons"}
        if page_map.download("geopackage")[0].exists():
            return _at_once(made)

        def work(_: Run) -> Event:
            page_map.make_polygons()
            return made

        return self._stream(request, visitor, work, page_map.scene.files)

    def _features(self, visitor: str, scene: Scene, question: Question) -> Path:
        """The folder of the encoders' features: of a visitor's last question, and of all of a shared scene."""
        own = self.visitors.folder / visitor
        if question.window is not None:
            return own / "features_of_a_part"
        return (own if scene.folder.parent == own else scene.folder) / "features"

    def _files(self, visitor: str, asked: dict[str, Any]) -> SceneFiles:
        """The files that a request names.

        Raises:
            HTTPException: no file is named, or one belongs to another visitor.
        """
        found: dict[str, tuple[UploadedFile, ...]] = {}
        for kind in ("rgb", "sar"):
            names = asked.get(kind) or []
            if not isinstance(names, list) or len(names) > MAX_FILES:
                raise HTTPException(400, BROKEN)
            found[kind] = tuple(self.visitors.find(visitor, UploadedFile, name) for name in names)
        files = [*found["rgb"], *found["sar"]]
        if not files:
            raise HTTPException(400, "No image was chosen; choose an RGB image, a SAR image or both.")
        paths = {kind: tuple(file.path for file in some) or None for kind, some in found.items()}
        name = files[0].name.rsplit(".", 1)[0][:MAX_NAME]
        return SceneFiles(**paths, names={file.path: file.name for file in files}, name=name or "scene")

    def _stream(self, request: Request, visitor: str, work: Callable[[Run], Event], files: SceneFiles) -> Response:
        """Queue something, and stream its events."""

        def answered(run: Run) -> Event:
            try:
                return work(run)
            except StoppedError:
                raise
            except MMOVSegError as error:
                return {"event": "error", "message": page_message(error, files.names)}

        run = self.runs.add(address_of(request), answered)
        return EventStream(self.runs, run, self.visitors.present(visitor))


def make_application(page: Page) -> Starlette:
    """The application, without its gate."""
    static = StaticFiles(directory=str(package_files("mm_ovseg.app") / "static"), check_dir=False)

    async def index(request: Request) -> Response:
        return await static.get_response("index.html", request.scope)

    routes = [
        Route("/", index),
        Mount("/static", static),
        Route("/api/page", page.describe),
        Route(UPLOAD_ROUTE, page.upload, methods=["POST"]),
        Route("/api/scenes", page.make_scene, methods=["POST"]),
        Route("/api/scenes/{id}", page.scene),
        Route("/api/scenes/{id}/maps", page.make_map, methods=["POST"]),
        Route("/api/maps/{id}/polygons", page.make_polygons, methods=["POST"]),
        *map_routes(page.visitors),
    ]
    handlers = {HTTPException: _say, MMOVSegError: _say_reworded, Exception: _say_unexpected}
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lambda _: _cleaning(page))


@contextlib.asynccontextmanager
async def _cleaning(page: Page) -> AsyncIterator[None]:
    """Delete what is not used while the server runs, and stop the runs when it ends."""

    async def clean() -> None:
        while True:
            await asyncio.sleep(CLEANING_SECONDS)
            await run_in_threadpool(page.visitors.remove_idle)

    cleaner = asyncio.create_task(clean())
    try:
        yield
    finally:
        cleaner.cancel()
        page.runs.end()


def _at_once(event: Event) -> Response:
    """A stream of one event that needs no run."""
    return Response(json.dumps(event) + "\n", media_type=EventStream.media_type)


def _window(scene: Scene, asked: dict[str, Any]) -> Window | None:
    """The part of a scene that a request asks for; None for all of it.

    Raises:
        HTTPException: it is malformed, or outside of the scene.
    """
    area, pixels = (read_corners(asked.get(key)) for key in ("area", "pixels"))
    if area is None and pixels is None:
        return None
    if area is not None and not scene.place.is_on_map:
        raise HTTPException(400, BROKEN)
    window = scene.place.window_of_pixels(pixels) if area is None else scene.place.window_of_area(area)
    if window is None:
        raise HTTPException(400, "The rectangle is outside of the scene; draw another one.")
    return window


async def _say(_: Request, error: HTTPException) -> Response:
    return error_response(error.status_code, error.detail)


async def _say_reworded(_: Request, error: MMOVSegError) -> Response:
    return error_response(400, page_message(error))


async def _say_unexpected(*_: Any) -> Response:
    return error_response(500, UNEXPECTED)
