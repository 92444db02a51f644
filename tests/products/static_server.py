"""A web server on this machine that serves a folder, answers range requests, and fails on demand."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from mm_ovseg.raster import remote

__all__ = ["StaticServer", "serve", "serve_without_pauses"]


@dataclass
class StaticServer:
    """The server's address, what it was asked for, and how it should fail.

    Attributes:
        address: Such as "http://127.0.0.1:8000".
        folder: What it serves.
        asked: (method, path with query, Range header or "") of each request.
        sent: Bytes of content sent.
        fails: Path -> statuses of the next answers, one each; the last one stays if it is negative (-503).
        truncates: Path -> number of further answers that end early.
        redirects: Path -> Location.
        without_ranges: Whether Range headers are ignored.
        stops_after: Path -> number of answers after which it answers 503 for good.
    """

    address: str
    folder: Path
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    sent: int = 0
    fails: dict[str, list[int]] = field(default_factory=dict)
    truncates: Counter = field(default_factory=Counter)
    redirects: dict[str, str] = field(default_factory=dict)
    without_ranges: bool = False
    stops_after: dict[str, int] = field(default_factory=dict)

    def paths(self) -> list[str]:
        """The paths of all requests."""
        return [urlsplit(path).path for _, path, _ in self.asked]

    def status(self, path: str) -> int:
        """The status of the next answer."""
        if path in self.stops_after:
            self.stops_after[path] -= 1
            if self.stops_after[path] < 0:
                return 503
        if statuses := self.fails.get(path):
            return -statuses[0] if statuses[0] < 0 else statuses.pop(0)
        return 200 if (self.folder / path.lstrip("/")).is_file() else 404


@contextmanager
def serve_without_pauses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StaticServer]:
    """Serve a new folder within the block, in which failed tries are repeated at once."""
    monkeypatch.setattr(remote, "PAUSES", (0.0,) * len(remote.PAUSES))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder.mkdir()
    with serve(folder) as server:
        yield server


@contextmanager
def serve(folder: Path) -> Iterator[StaticServer]:
    """Serve a folder within the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 20  # one packet for headers and content, which TCP would delay otherwise

        def do_GET(self) -> None:
            path, asked = unquote(urlsplit(self.path).path), self.headers.get("Range", "")
            server.asked.append((self.command, self.path, asked))
            if path in server.redirects:
                return self.answer(302, {"Location": server.redirects[path]})
            if (status := server.status(path)) != 200:
                return self.answer(status, {})
            file = folder / path.lstrip("/")
            size = file.stat().st_size
            headers = {"ETag": f'"{file.stat().st_mtime_ns}"'}
            if not asked or server.without_ranges:
                return self.answer(200, headers, file.read_bytes(), path)
            first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
            if first >= size:
                return self.answer(416, {})
            last = min(last, size - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
            with open(file, "rb") as opened:
                opened.seek(first)
                self.answer(206, headers, opened.read(last - first + 1), path)

        do_HEAD = do_POST = do_GET

        def answer(self, status: int, headers: dict[str, str], content: bytes = b"", path: str = "") -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if server.truncates[path] > 0:
                server.truncates[path] -= 1
                content, self.close_connection = content[: len(content) // 2], True
            server.sent += len(content)
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    server = StaticServer(f"http://127.0.0.1:{listener.server_port}", folder)
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
