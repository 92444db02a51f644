"""The gate in front of the page: checks every request, and refuses those that do not come from the page itself."""

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
from mm_ovseg.app.visitor_files import COOKIE, REFUSED_FILE, VisitorFiles, new_cookie, visitor_name
from mm_ovseg.errors import MMOVSegError

__all__ = ["Gate", "Refusal"]

# Keeps the browser from contacting other hosts, whatever the page contains. Gradio uses inline scripts and styles.
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
# The routes that the page uses. Gradio has many others: proxies, recordings, deep links, other visitors' runs.
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
MAX_EVENT_BYTES = 1_000_000  # for the values on the page
MAX_FORM_BYTES = 100_000  # of an upload, without its file
MAX_WAITING = 4  # queued events per address


class Refusal(MMOVSegError):
    """A refused request; ``status`` is the HTTP status of the response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def response(self) -> JSONResponse:
        """The response, in the form that Gradio's script displays."""
        return JSONResponse({"detail": str(self), "error": str(self)}, self.status)


class Gate:
    """ASGI middleware around the page.

    Admits requests with the page's own host, origin and routes that name only the visitor's own files, and sets
    ``request.state.visitor`` to the visitor's name, or None without a cookie. One address cannot fill the queue, and
    the run of a visitor who leaves is stopped.

    Args:
        application: that of the page.
        hosts: names of the page.
        files: the visitors' files.
        runs: the model's runs.
        waiting: returns the number of events in the queue from an address.
        max_upload_bytes: size limit of a file.
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
        """Answer a request, or pass it on."""
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
        """Pass an event on to the queue, unless its client has too many events there."""
        client = scope["client"][0] if scope.get("client") else ""
        if self._waiting(client) + self._joining[client] >= MAX_WAITING:
            refusal = Refusal(429, f"{MAX_WAITING} of your maps are already waiting; wait until one is finished.")
            await refusal.response()(scope, receive, send)
            return
        self._joining[client] += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._joining -= Counter([client])  # removes zero counts

    async def _listen(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the stream on which a session waits for results, and detect when the client closes it."""
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
        """The request as passed on to the page.

        Raises:
            Refusal: it does not come from the page itself.
        """
        request = Request(scope, receive)
        self._check_origin(request)
        path, method = scope["path"], scope["method"]
        reads = method in ("GET", "HEAD") and READ_ROUTES.fullmatch(path)
        is_event = method == "POST" and EVENT_ROUTES.fullmatch(path)
        is_upload = method == "POST" and path == UPLOAD_ROUTE
        # Gradio opens the files that a deep link names.
        if not (reads or is_event or is_upload) or "deep_link" in request.query_params:
            raise Refusal(404, "Page not found.")
        visitor = visitor_name(request.cookies.get(COOKIE))
        scope.setdefault("state", {})["visitor"] = visitor
        # Gradio trusts this header for its own address.
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
        """Refuse other web sites, even those whose names resolve to this machine."""
        hosts = request.headers.getlist("host")
        forwarded = [host.strip() for value in request.headers.getlist("x-forwarded-host") for host in value.split(",")]
        server = request.scope.get("server")
        connected = server[0] if server else None
        if len(hosts) != 1 or not all(self._hosts.knows(host, connected) for host in (*hosts, *forwarded)):
            raise Refusal(400, "This is not an address of the page; --allowed-host adds one.")
        origins = request.headers.getlist("origin")
        if not all(self._hosts.trusts(origin, [*hosts, *forwarded]) for origin in origins):
            raise Refusal(403, "Other web sites cannot use this page.")

    def _check_file(self, path: object, visitor: str | None) -> None:
        if not self._files.allows(path, visitor):
            raise Refusal(403, REFUSED_FILE)

    async def _checked_body(self, request: Request, visitor: str | None) -> bytes:
        """The JSON of an event, re-encoded so that Gradio reads exactly what was checked."""
        try:
            return json.dumps(self._checked(json.loads(await request.body()), visitor)).encode()
        except (ValueError, RecursionError) as error:
            raise Refusal(400, "The request is not valid JSON.") from error

    def _checked(self, value: Any, visitor: str | None) -> Any:
        """A value of an event without its URLs, after checking that all its paths belong to the visitor."""
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
        raise Refusal(411, "The request has no Content-Length.")
    if len(length) > len(str(limit)) or int(length) > limit:
        raise Refusal(413, f"The request exceeds the maximum of {limit / 1e6:g} MB.")


def _with_headers(send: Send, headers: list[tuple[bytes, bytes]]) -> Send:
    """A ``send`` that adds headers to responses."""

    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return send_more


def _replay(body: bytes, receive: Receive) -> Callable[[], Any]:
    """A ``receive`` that returns a body already read."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
