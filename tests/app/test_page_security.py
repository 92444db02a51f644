"""What strangers can do to the page over HTTP: nothing but what SECURITY.md says, line by line."""

import os
import re
import signal
import socket

import cv2
import numpy as np
import pytest

from mm_ovseg.app.visitors import NOT_FOUND
from tests.app.page_server import Visitor, run_page
from tests.conftest import ROOT
from tests.patience import PATIENCE

PROMISES = {}


def keeps(promise):
    """Mark a test that shows a promise of SECURITY.md to be kept."""

    def mark(test):
        PROMISES[promise] = test
        return test

    return mark


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("rio_tiler", reason="needs mm_ovseg[app]")
    with run_page(tmp_path_factory.mktemp("server"), "--allowed-host", "maps.example.org") as process:
        yield process


@pytest.fixture
def visitor(server):
    with Visitor(server.url) as client:
        yield client


@pytest.fixture
def large(tmp_path):
    """A small file of a scene of many windows."""
    path = tmp_path / "large.png"
    assert cv2.imwrite(str(path), np.full((2000, 2000, 3), 90, np.uint8))
    return path


def files_in(folder):
    return {path for path in folder.rglob("*") if not path.is_dir()}


def not_found(answer):
    assert (answer.status_code, answer.json()) == (404, {"message": NOT_FOUND})


@keeps("opens the files that the requesting visitor uploaded, and the scenes that it opens with, and nothing else: a request names them by ids that cannot be guessed, and no name from outside is part of a path;")  # fmt: skip  # noqa: E501
def test_own_uploads_and_the_opening_scene_become_maps(server, visitor, write_image, tmp_path):
    about = visitor.get("/api/page").json()
    assert about["opening"] == about["examples"][0]["id"] and about["opening_map"]["scene"] == about["opening"]
    file = visitor.upload(write_image("rgb.tif")).json()
    assert re.fullmatch(r"[\w-]{32}", file["id"]) and file["name"] == "rgb.tif"
    opened = files_in(server.folder)
    for scene in (visitor.scene(example=about["opening"]), visitor.scene(rgb=[file["id"]])):
        made = visitor.map(scene)
        assert visitor.get(f"/api/maps/{made['id']}/files/geotiff").content[:2] == b"II"
    before = files_in(server.folder)
    assert not [path for path in before - opened if "rgb.tif" in str(path) and path.parent.name != scene["id"]]
    os.mkfifo(tmp_path / "pipe.tif")
    for path in (
        write_image("secret.tif"), tmp_path / "pipe.tif", tmp_path / "none.tif", "/dev/zero", "/dev/stdin",
        "/etc/passwd", "/proc/self/environ", "", "x" * 10_000, "/etc/pass\0wd", "../../rgb.tif",
        f"{file['id']}/../{file['id']}", "http://127.0.0.1",
        *(path for path in before if file["id"] in str(path)),
    ):  # fmt: skip
        for body in ({"rgb": [str(path)]}, {"sar": [str(path)], "rgb": [file["id"]]}, {"example": str(path)}):
            not_found(visitor.post("/api/scenes", json=body))
    assert files_in(server.folder) == before


@keeps("keeps a visitor's uploads, scenes and maps from all other visitors, by a cookie that scripts cannot read; the encoders' features of the scenes that it opens with serve all;")  # fmt: skip  # noqa: E501
def test_visitors_do_not_reach_what_others_have(server, visitor, write_image):
    file = visitor.upload(write_image("own.tif")).json()["id"]
    scene = visitor.scene(rgb=[file])
    made = visitor.map(scene)
    with Visitor(server.url) as other:
        for route in (f"scenes/{scene['id']}", f"maps/{made['id']}/legend", f"maps/{made['id']}/files/geotiff"):
            not_found(other.get(f"/api/{route}"))
            assert visitor.get(f"/api/{route}").is_success
        not_found(other.post("/api/scenes", json={"rgb": [file]}))
        assert not other.map(other.scene(rgb=[other.upload(write_image("own.tif")).json()["id"]]))["asked_again"]
        other.cookies.clear()
        cookie = other.get("/").headers["set-cookie"]
        other.cookies.clear()
        for answer in (other.get("/api/page"), other.upload(write_image("own.tif"))):
            assert answer.status_code == 403 and "allow cookies" in answer.json()["message"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "set-cookie" not in visitor.get("/").headers
    assert not [path for path in files_in(server.folder) if visitor.cookies["mm_ovseg_visitor"] in str(path)]


@keeps(
    "fetches nothing: a URL is not a file, there are no proxy routes, and the browser is told to contact no other host;"
)
def test_nothing_is_fetched(server, visitor):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/rgb.tif"
        not_found(visitor.post("/api/scenes", json={"rgb": [address]}))
        assert visitor.get(f"/static/{address}").status_code == 404
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    for path in ("/", "/api/page", "/nothing"):
        policy = visitor.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy and "connect-src 'self';" in policy


HOSTS = ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "10.1.2.3", "[::2]", "localhost@evil.example"]


@keeps("answers only to its own names, those of `--host` and `--allowed-host`, so a web site that points its name at this machine reads nothing;")  # fmt: skip  # noqa: E501
def test_foreign_hosts_are_refused(server, visitor, write_image):
    port = server.url.rsplit(":", 1)[1]
    before = files_in(server.folder)
    image = write_image("rgb.tif")
    for host in (*HOSTS, *(f"{host}:{port}" for host in HOSTS), "localhost:port", "localhost:1/", "-"):
        headers = {"Host": host}
        for answer in (
            visitor.get("/api/page", headers=headers),
            visitor.upload(image, headers=headers),
            visitor.get("/api/page", headers={"X-Forwarded-Host": host}),
        ):
            assert answer.status_code == 400 and "opening" not in answer.text, host
    for host in ("LOCALHOST", f"127.0.0.1:{port}", f"[::1]:{port}", "maps.example.org", "MAPS.example.org:80"):
        assert "opening" in visitor.get("/api/page", headers={"Host": host}).text, host
    # A client need not send one at all.
    with socket.create_connection(("localhost", int(port))) as raw:
        raw.sendall(b"GET /api/page HTTP/1.0\r\n\r\n")
        assert raw.recv(100).split()[1] == b"400"
    assert files_in(server.folder) == before


@keeps("does nothing for other web sites: a request with a foreign `Origin` is refused before it is read, and no answer can be read by another site;")  # fmt: skip  # noqa: E501
def test_foreign_origins_are_refused(server, visitor, write_image):
    port = server.url.rsplit(":", 1)[1]
    image = write_image("rgb.tif")
    before = files_in(server.folder)
    origins = ["http://evil.example", "null", "", f"http://localhost:{int(port) - 1}", "http://127.0.0.1"]
    origins += [f"http://evil.example:{port}", f"ftp://localhost:{port}", f"http://localhost:{port}.evil.example"]
    for origin in origins:
        headers = {"Origin": origin}
        preflight = {**headers, "Access-Control-Request-Method": "POST"}
        for answer in (
            visitor.get("/api/page", headers=headers),
            visitor.upload(image, headers=headers),
            visitor.post("/api/scenes", headers=headers, json={}),
            visitor.options("/api/scenes", headers={**preflight, "Content-Length": "0"}),
        ):
            assert answer.status_code == 403, origin
            assert not [name for name in answer.headers if name.startswith("access-control-")], origin
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert files_in(server.folder) == before
    for origin in (server.url, "https://maps.example.org"):
        assert visitor.get("/api/page", headers={"Origin": origin}).is_success
        assert visitor.upload(image, headers={"Origin": origin}).is_success


@keeps("reads no request longer than the page needs, and keeps nothing of a refused upload;")
def test_long_and_broken_requests(server, visitor):
    before = files_in(server.folder)
    post = visitor.post
    assert post("/api/scenes", content=b" " * 100_001).status_code == 413
    assert post("/api/scenes", content=iter([b"{}"])).status_code == 411
    for body in (b"", b"{", b"\xff", b"[" * 90_000, b'{"a":' * 10_000):
        assert post("/api/scenes", content=body).status_code == 400
    for size in (1_000_001, 1_200_000):
        assert post("/api/files", files={"file": ("big.tif", bytes(size))}).status_code == 413
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert post("/api/files", content=b"--y\r\n", headers=kind).status_code == 400
    for path in ("/docs", "/openapi.json", "/static/../gate.py", "/static/%2e%2e/gate.py", "/api", "/api/files"):
        assert visitor.get(path).status_code in (404, 405), path
    assert files_in(server.folder) == before


@keeps("serves one run at a time: at most 20 wait, two of them from one address, and whoever closes a stream frees the queue at once;")  # fmt: skip  # noqa: E501
def test_a_run_ends_with_its_visitor(server, large, write_image):
    with Visitor(server.url) as greedy, Visitor(server.url) as next_one:
        scene = greedy.scene(rgb=[greedy.upload(large).json()["id"]])
        small = next_one.scene(rgb=[next_one.upload(write_image("small.tif")).json()["id"]])
        for event in greedy.events(f"/api/scenes/{scene['id']}/maps", {"classes": "water"}):
            if event["event"] == "progress":
                break
        assert event["done"] < event["total"]
        assert next_one.map(small)["scene"] == small["id"]


def test_each_promise_of_the_document_has_a_test():
    section = (ROOT / "SECURITY.md").read_text(encoding="utf-8").split("## The web page")[1].split("\n## ")[0]
    promises = [" ".join(promise.split()) for promise in re.findall(r"^\* (.*(?:\n  .*)*)", section, re.MULTILINE)]
    assert sorted(promises) == sorted(PROMISES)


@keeps("ends on a signal, whatever it was sent, and leaves no files behind.")
def test_a_signal_ends_it_at_work(server, large):
    """The last of this module."""
    with Visitor(server.url) as visitor:
        scene = visitor.scene(rgb=[visitor.upload(large).json()["id"]])
        for event in visitor.events(f"/api/scenes/{scene['id']}/maps", {"classes": "water"}):
            if event["event"] == "progress":
                server.send_signal(signal.SIGTERM)
                break
        assert server.wait(PATIENCE) == 0
    assert not list(server.folder.iterdir())
