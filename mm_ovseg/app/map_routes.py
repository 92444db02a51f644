"""The routes that read scenes and maps: tiles, legends, points and downloads."""

import math

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from mm_ovseg.app.page_map import DOWNLOADS, PageMap, min_percent
from mm_ovseg.app.requests import BROKEN, read_number, visitor_of
from mm_ovseg.app.scenes import Scene
from mm_ovseg.app.tiles import draw_class_tile, draw_confidence_tile, draw_image_tile
from mm_ovseg.app.visitors import Visitors

__all__ = ["map_routes"]

UNCHANGING = {"cache-control": "private, max-age=3600, immutable"}  # what an id names never changes
NO_FILE = "The map has no such file."
MAP_LAYERS = {"classes": draw_class_tile, "confidence": draw_confidence_tile}


def map_routes(visitors: Visitors) -> list[Route]:
    """The routes; handlers that are not coroutines run in threads.

    Args:
        visitors: what visitors have.
    """

    def found_map(request: Request) -> PageMap:
        return visitors.find(visitor_of(request), PageMap, request.path_params["id"])

    def image_tile(request: Request) -> Response:
        scene = visitors.find(visitor_of(request), Scene, request.path_params["id"])
        if request.path_params["kind"] not in scene.images:
            raise HTTPException(404, "The scene has no such image.")
        return _tile(draw_image_tile(scene, request.path_params["kind"], _place(request)))

    def map_tile(request: Request) -> Response:
        if request.path_params["kind"] not in MAP_LAYERS:
            raise HTTPException(404, "The map has no such layer.")
        draw = MAP_LAYERS[request.path_params["kind"]]
        return _tile(draw(found_map(request), _place(request), _min_percent(request)))

    def legend(request: Request) -> Response:
        return JSONResponse({"classes": found_map(request).legend(_min_percent(request))})

    def point(request: Request) -> Response:
        page_map = found_map(request)
        place = page_map.scene.place
        if place.is_on_map:
            pixel = place.pixel_at(read_number(request, "lat"), read_number(request, "lng"))
        else:
            pixel = math.floor(read_number(request, "y")), math.floor(read_number(request, "x"))
        answer = None if pixel is None else page_map.point(*pixel, _min_percent(request))
        if answer is None:
            raise HTTPException(404, "There is no map here.")
        return JSONResponse(answer)

    def download(request: Request) -> Response:
        page_map, kind = found_map(request), request.path_params["kind"]
        if kind not in DOWNLOADS:
            raise HTTPException(404, NO_FILE)
        path, name = page_map.download(kind)
        if not path.exists():  # polygons that were not made yet
            raise HTTPException(404, NO_FILE)
        return FileResponse(path, filename=name, headers={"cache-control": "private, no-store"})

    return [
        Route("/api/scenes/{id}/tiles/{kind}/{z:int}/{x:int}/{y:int}.png", image_tile),
        Route("/api/maps/{id}/tiles/{kind}/{z:int}/{x:int}/{y:int}.png", map_tile),
        Route("/api/maps/{id}/legend", legend),
        Route("/api/maps/{id}/point", point),
        Route("/api/maps/{id}/files/{kind}", download),
    ]


def _place(request: Request) -> tuple[int, int, int]:
    """(zoom, x, y) of a tile."""
    return tuple(request.path_params[key] for key in ("z", "x", "y"))


def _min_percent(request: Request) -> int:
    score = read_number(request, "min_score", 0.0)
    if not 0 <= score <= 1:
        raise HTTPException(400, BROKEN)
    return min_percent(score)


def _tile(png: bytes) -> Response:
    return Response(png, media_type="image/png", headers=UNCHANGING)
