"""What stands before the page: every request passes here, and what is not the page's own goes no further."""

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mm_ovseg.app.hosts import Hosts
from mm_ovseg.app.runs import Runs
from mm_ovseg.app.visitor_files import COOKIE, VisitorFiles, new_cookie, visitor_name
from mm_ovseg.errors import DataError, MMOVSegError

__all__ = ["Gate", "Refusal"]

# The browser is to ask no other host either, whatever the page holds. Gradio's page has scripts and styles in it.
CONTENT_SECURITY_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
POLICY = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
# What the page in the browser asks for. Gradio answers much else: proxies, recordings, deep links, runs of others.
READ_ROUTES = re.compile(
    r"/|/(assets|static|svelte)/.+|/(config|favicon\.ico|manifest\.json|robots\.txt|theme\.css)/?"
    r"|/gradio_api/(app_id|info|queue/data|startup-events|theme\.css|upload_progress|heartbeat/\w+|file=.+)/?",
    re.DOTALL,
)
FILE_ROUTE = "/gradio_api/file="
JOIN_ROUTE = "/gradio_api/queue/join"
STREAM_ROUTE = "/gradio_api/queue/data"
EVENT_ROUTES = re.compile(r"/gradio_api/(queue/join|run/\w+|cancel|reset)/?")
UPLOAD_ROUTE = "/gradio_api/upload"
MAX_EVENT_BYTES = 1_000_000  # of the values on the page
MAX_FORM_BYTES = 100_000  # of an upload besides its file
MAX_WAITING = 4  # events of one address


class Refusal(MMOVSegError):
    """A request that goes no further.

    Attributes:
        status: of the response.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def response(self) -> JSONResponse:
        """As Gradio's script expects it, which shows the message."""
        return JSONResponse({"detail": str(self), "error": str(self)}, self.status)


class Gate:
    """An ASGI application around the page's.

    It lets requests pass that come to the page's own host, from its own origin, to one of its own routes, and that name
    no file but the visitor's own. ``request.state.visitor`` is then the visitor's name, None for one without a cookie.
    One address cannot fill the queue, and the run of a visitor who leaves is ended.

    Args:
        application: of the page.
        hosts: names of the page.
        files: of the visitors.
        runs: of the model.
        waiting: gives the number of events in the queue that came from an address.
        max_upload_bytes: of a file.
    """

    def __init__(
        self,
        application: ASGIApp,
        *,
        hosts: Hosts,
        files: VisitorFiles,
        runs: Runs,
        waiting: Callable[[str], int],
        max_upload_bytes: int,
    ) -> None:
        self._application, self._hosts, self._files = application, hosts, files
        self._runs, self._waiting, self._max_upload_bytes = runs, waiting, max_upload_bytes
        self._joining: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            send = _with_headers(send, POLICY)
            try:
                receive, send = await self._admit(scope, receive, send)
            except Refusal as refusal:
                await refusal.response()(scope, receive, send)
                return
            path = scope["path"].removesuffix("/")
            if path == JOIN_ROUTE:
                await self._join(scope, receive, send)
                return
            if path == STREAM_ROUTE:
                await self._listen(scope, receive, send)
                return
        await self._application(scope, receive, send)

    async def _join(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on an event to the queue, where its client has not too many in it."""
        client = scope["client"][0] if scope.get("client") else ""
        if self._waiting(client) + self._joining[client] >= MAX_WAITING:
            refusal = Refusal(429, f"{MAX_WAITING} maps that you asked for are waiting; wait until one is made.")
            await refusal.response()(scope, receive, send)
            return
        self._joining[client] += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._joining[client] -= 1
            if not self._joining[client]:
                del self._joining[client]

    async def _listen(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on the stream on which a session waits for results, and see whether its client closes it."""
        session = Request(scope).query_params.get("session_hash", "")
        finished = False

        async def send_and_note(message: Message) -> None:
            nonlocal finished
            finished = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        self._runs.listen(session)
        try:
            await self._application(scope, receive, send_and_note)
        finally:
            self._runs.leave(session, finished=finished)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """The request as the page gets it.

        Raises:
            Refusal: it goes no further.
        """
        request = Request(scope, receive)
        self._check_origin(request)
        path, method = scope["path"], scope["method"]
        reads = method in ("GET", "HEAD") and READ_ROUTES.fullmatch(path)
        is_event = method == "POST" and EVENT_ROUTES.fullmatch(path)
        is_upload = method == "POST" and path == UPLOAD_ROUTE
        # A deep link has Gradio open the files that it names.
        if not (reads or is_event or is_upload) or "deep_link" in request.query_params:
            raise Refusal(404, "There is no such page.")
        visitor = visitor_name(request.cookies.get(COOKIE))
        scope.setdefault("state", {})["visitor"] = visitor
        # Gradio would take its own address from it.
        scope["headers"] = [header for header in scope["headers"] if header[0] != b"x-gradio-server"]
        if path.startswith(FILE_ROUTE):
            self._check_file(path.removeprefix(FILE_ROUTE), visitor)
        if is_upload:
            _check_length(request, self._max_upload_bytes + MAX_FORM_BYTES)
        if is_event:
            _check_length(request, MAX_EVENT_BYTES)
            receive = _replay(await self._checked_body(request, visitor), receive)
        if path == "/" and visitor is None:
            cookie = f"{COOKIE}={new_cookie()}; Path=/; HttpOnly; SameSite=Strict"
            send = _with_headers(send, [(b"set-cookie", cookie.encode())])
        return receive, send

    def _check_origin(self, request: Request) -> None:
        """Let no other web site speak to the page, be it through a name that leads here."""
        hosts = request.headers.getlist("host")
        forwarded = [host.strip() for value in request.headers.getlist("x-forwarded-host") for host in value.split(",")]
        server = request.scope.get("server")
        connected = server[0] if server else None
        if len(hosts) != 1 or not all(self._hosts.knows(host, connected) for host in (*hosts, *forwarded)):
            raise Refusal(400, "The page has no such address; its server names others by --allowed-host.")
        origins = request.headers.getlist("origin")
        if not all(self._hosts.trusts(origin, [*hosts, *forwarded]) for origin in origins):
            raise Refusal(403, "Other web sites cannot use this page.")

    def _check_file(self, path: object, visitor: str | None) -> None:
        try:
            self._files.check(path, visitor)
        except DataError as error:
            raise Refusal(403, str(error)) from error

    async def _checked_body(self, request: Request, visitor: str | None) -> bytes:
        """The JSON of an event, written anew, so that Gradio reads what was checked."""
        try:
            return json.dumps(self._checked(json.loads(await request.body()), visitor)).encode()
        except (ValueError, RecursionError) as error:
            raise Refusal(400, "The request is not valid JSON.") from error

    def _checked(self, value: Any, visitor: str | None) -> Any:
        """A value from an event without the URLs in it, whose paths are the visitor's own."""
        if isinstance(value, list):
            return [self._checked(item, visitor) for item in value]
        if not isinstance(value, dict):
            return value
        if "path" in value:
            self._check_file(value["path"], visitor)
        return {key: self._checked(item, visitor) for key, item in value.items() if key != "url"}


def _check_length(request: Request, limit: int) -> None:
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise Refusal(411, "The request does not say how long it is.")
    if len(length) > len(str(limit)) or int(length) > limit:
        raise Refusal(413, f"The request exceeds the maximum of {limit / 1e6:g} MB.")


def _with_headers(send: Send, headers: list[tuple[bytes, bytes]]) -> Send:
    """Send responses with further headers."""

    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return send_more


def _replay(body: bytes, receive: Receive) -> Callable[[], Any]:
    """Receive a body that was read before."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
