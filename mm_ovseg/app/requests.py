"""Reading requests."""

import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

__all__ = ["BROKEN", "address_of", "read_corners", "read_json", "read_number", "visitor_of"]

NEEDS_COOKIE = "The page needs a cookie to know your files; allow cookies for this address, and load the page again."
BROKEN = "The request is not in the form that the page sends; load the page again."


def address_of(request: Request) -> str:
    """The address that a request comes from."""
    return request.client.host if request.client else ""


def visitor_of(request: Request) -> str:
    """The visitor's name.

    Raises:
        HTTPException: 403, the request has no cookie of the page.
    """
    if request.state.visitor is None:
        raise HTTPException(403, NEEDS_COOKIE)
    return request.state.visitor


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object in the body of a request.

    Raises:
        HTTPException: 400, it is missing.
    """
    try:
        content = await request.json()
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, BROKEN) from error
    if not isinstance(content, dict):
        raise HTTPException(400, BROKEN)
    return content


def read_corners(value: object) -> list[list[float]] | None:
    """Two corners [[a, b], [c, d]] of a rectangle; None for None.

    Raises:
        HTTPException: 400, it is something else.
    """
    if value is None:
        return None
    try:
        corners = [[float(number) for number in corner] for corner in value]
    except (TypeError, ValueError, OverflowError) as error:
        raise HTTPException(400, BROKEN) from error
    if [len(corner) for corner in corners] != [2, 2] or not all(math.isfinite(n) for corner in corners for n in corner):
        raise HTTPException(400, BROKEN)
    return corners


def read_number(request: Request, name: str, default: float | None = None) -> float:
    """A number in the query of a request.

    Raises:
        HTTPException: 400, it is missing or not finite.
    """
    try:
        number = float(request.query_params.get(name, "" if default is None else default))
    except ValueError as error:
        raise HTTPException(400, BROKEN) from error
    if not math.isfinite(number):
        raise HTTPException(400, BROKEN)
    return number
