"""The gate in front of the page: refuses requests that do not come from the page itself, or are too long."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mm_ovseg.app.hosts import Hosts
from mm_ovseg.app.visitors import COOKIE, new_cookie, visitor_name

__all__ = ["UPLOAD_ROUTE", "Gate", "error_response"]

# The browser contacts no other host, whatever the page contains.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
POLICY = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
UPLOAD_ROUTE = "/api/files"
MAX_FORM_BYTES = 100_000  # of an upload, without its file
MAX_JSON_BYTES = 100_000
BODILESS = ("GET", "HEAD")


def error_response(status: int, message: str) -> JSONResponse:
    """The response to a request that cannot be answered, with a sentence for the visitor."""
    return JSONResponse({"message": message}, status)


class Gate:
    """ASGI middleware around the page.

    Sets ``request.state.visitor`` to the visitor's name, or None without a cookie, which ``/`` then gives.

    Args:
        application: that of the page.
        hosts: names of the page.
        max_upload_bytes: size limit of a file.
    """

    def __init__(self, application: ASGIApp, *, hosts: Hosts, max_upload_bytes: int) -> None:
        self._application, self._hosts, self._max_upload_bytes = application, hosts, max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            request = Request(scope)
            headers = [*POLICY]
            if not scope["path"].startswith("/api/"):
                headers.append((b"cache-control", b"no-cache"))  # after an update, the page's files belong together
            visitor = visitor_name(request.cookies.get(COOKIE))
            scope.setdefault("state", {})["visitor"] = visitor
            if scope["path"] == "/" and visitor is None:
                headers.append((b"set-cookie", f"{COOKIE}={new_cookie()}; Path=/; HttpOnly; SameSite=Strict".encode()))
            try:
                self._check_origin(request)
                self._check_length(request)
            except HTTPException as refusal:
                await error_response(refusal.status_code, refusal.detail)(scope, receive, _with_headers(send, POLICY))
                return
            send = _with_headers(send, headers)
        await self._application(scope, receive, send)

    def _check_origin(self, request: Request) -> None:
        """Refuse other web sites, even those whose names resolve to this machine."""
        hosts = request.headers.getlist("host")
        forwarded = [host.strip() for value in request.headers.getlist("x-forwarded-host") for host in value.split(",")]
        server = request.scope.get("server")
        connected = server[0] if server else None
        if len(hosts) != 1 or not all(self._hosts.knows(host, connected) for host in (*hosts, *forwarded)):
            raise HTTPException(400, "This is not an address of the page; ask whoever runs it to allow this one.")
        origins = request.headers.getlist("origin")
        if not all(self._hosts.trusts(origin, [*hosts, *forwarded]) for origin in origins):
            raise HTTPException(403, "Other web sites cannot use this page.")

    def _check_length(self, request: Request) -> None:
        if request.method in BODILESS:
            return
        is_upload = request.url.path == UPLOAD_ROUTE
        limit = self._max_upload_bytes + MAX_FORM_BYTES if is_upload else MAX_JSON_BYTES
        length = request.headers.get("content-length", "")
        # Chunks would win over the length.
        if "transfer-encoding" in request.headers or not (length.isascii() and length.isdigit()):
            raise HTTPException(411, "The request does not say how long it is.")
        if len(length) > len(str(limit)) or int(length) > limit:
            shown = self._max_upload_bytes if is_upload else limit
            raise HTTPException(413, f"The {'file' if is_upload else 'request'} exceeds {shown / 1e6:g} MB.")


def _with_headers(send: Send, headers: list[tuple[bytes, bytes]]) -> Send:
    """A ``send`` that adds headers to responses."""

    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return send_more
