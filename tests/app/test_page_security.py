"""What strangers can do to the page over HTTP: nothing but what SECURITY.md says, line by line."""

import os
import re
import signal
import socket
from pathlib import Path
from urllib.parse import quote

import pytest

from mm_ovseg.app.shipped_pairs import SCENE
from mm_ovseg.app.visitor_files import REFUSED_FILE
from tests.app.page_server import Visitor, file_value, run_page
from tests.conftest import ROOT
from tests.patience import PATIENCE

PROMISES = {}
RGB, SAR = SCENE / "rgb" / "00000.tif", SCENE / "sar" / "00000.tif"


def keeps(promise):
    """Mark a test that shows a promise of SECURITY.md to be kept."""

    def mark(test):
        PROMISES[promise] = test
        return test

    return mark


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with run_page(tmp_path_factory.mktemp("server"), "--allowed-host", "maps.example.org") as process:
        yield process


@pytest.fixture
def visitor(server):
    with Visitor(server.url) as client:
        yield client


def uploads(server):
    [folder] = server.folder.glob("mm_ovseg_app_*/uploads")
    return folder


def files_in(folder):
    return {path for path in folder.rglob("*") if not path.is_dir()}


def mapped(visitor):
    """The update of the button that gives the map, which the page shows when its event ends."""
    _, message, picture, _, _, _, download, _ = visitor.result()["output"]["data"]
    assert "ovseg-message" not in message and "ovseg-layer" in picture
    return download


def refused_in_the_same_words(response):
    assert response.status_code == 403 and response.json()["detail"] == REFUSED_FILE


@keeps("opens regular files in the folder of the requesting visitor, and the shipped pair, and nothing else;")
def test_own_uploads_and_the_shipped_pair_become_maps(server, visitor, write_image, tmp_path):
    for rgb, sar in ((visitor.upload(write_image("rgb.tif")), None), (RGB, file_value(SAR))):
        assert visitor.make(file_value(rgb), sar).is_success
        download = mapped(visitor)
        assert visitor.get(download["value"]["url"]).content[:2] == b"II"
        with Visitor(server.url) as other:
            refused_in_the_same_words(other.get(f"/gradio_api/file={download['value']['path']}"))
    # Nor does what lies in the checkout beside the pair count as shipped.
    refused_in_the_same_words(visitor.make(file_value(SCENE.parent / "train" / "rgb" / "00000.tif")))


def test_features_serve_the_next_names_of_the_same_visitor_alone(server, visitor, write_image):
    def features():
        return {path.stat().st_ino for path in uploads(server).rglob("*.safetensors")}

    def ask(client, *paths):
        before = features()
        assert client.make(*map(file_value, paths)).is_success
        mapped(client)
        return before, features()

    pair = [write_image("rgb.tif"), write_image("sar.tif", bands=1)]
    paths = [visitor.upload(path) for path in pair]
    before, first = ask(visitor, *paths)
    assert len(first) > len(before)
    assert ask(visitor, *paths) == (first, first)
    with Visitor(server.url) as other:
        _, more = ask(other, *(other.upload(path) for path in pair))
    assert len(more) > len(first)


def server_paths(server, tmp_path, write_image):
    """Paths of the server that are not the visitor's."""
    (tmp_path / "link.tif").symlink_to(write_image("secret.tif"))
    os.mkfifo(tmp_path / "pipe.tif")
    own = uploads(server)
    return [
        tmp_path / "secret.tif",
        tmp_path / "none.tif",
        tmp_path / "none" / "none.tif",
        tmp_path / "link.tif",
        tmp_path / "pipe.tif",
        tmp_path,
        own,
        own / "none.tif",
        own.parent / "maps",
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/environ",
        "/etc/passwd",
        "rgb.tif",
        "~/rgb.tif",
        "",
        "/etc/pass\0wd",
        "x" * 10_000,
        f"file://{RGB}",
        f"/vsizip/{tmp_path}/secret.tif",
        f"{RGB.parent}/../rgb/00000.tif",
    ]


@keeps("gives the same answer to every other path, whether or not the file exists, without reading or copying it;")
def test_the_servers_files_are_refused_and_not_told_of(server, visitor, write_image, tmp_path):
    own = Path(visitor.upload(write_image("own.tif")))
    before = files_in(server.folder)
    paths = server_paths(server, tmp_path, write_image)
    paths += [f"{own.parent}/../{own.parent.name}/own.tif", f"{own}/", f"{own.parent}//own.tif", own.parent, own / "x"]
    for path in paths:
        for event in (visitor.make(file_value(path)), visitor.make(file_value(own), file_value(path))):
            refused_in_the_same_words(event)
        if "\0" not in str(path) and str(path):
            address = quote(str(path)).replace("..", "%2e%2e")  # which the client would resolve
            refused_in_the_same_words(visitor.get(f"/gradio_api/file={address}"))
    for path in ([str(RGB)], {"path": str(RGB)}, 1, None, True):
        refused_in_the_same_words(visitor.make({**file_value(own), "path": path}))
    # In any place of a request, and by the route that waits for no queue.
    body = visitor.event("ovseg-start", None, None, None, "water", "", "Classes", 60)
    for route in ("queue/join", "run/predict"):
        for changed in ({"event_data": [file_value("/etc/x")]}, {"data": [0, [[file_value("/dev/zero")]], 2]}):
            refused_in_the_same_words(visitor.post(f"/gradio_api/{route}", json={**body, **changed}))
    assert files_in(server.folder) == before


@keeps("is not held up by links, FIFOs, devices and folders, even among its own files;")
def test_what_is_no_regular_file_stops_nobody(server, visitor, write_image):
    own = Path(visitor.upload(write_image("own.tif")))
    names = {name: own.with_name(f"{name}.tif") for name in ("link", "pipe", "folder", "socket", "device")}
    names["link"].symlink_to(RGB)
    (own.parent / "linked").symlink_to(RGB.parent)
    os.mkfifo(names["pipe"])
    names["folder"].mkdir()
    names["device"].symlink_to("/dev/zero")
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as unix:
        os.chdir(own.parent)  # the names of sockets are short
        try:
            unix.bind("socket.tif")
        finally:
            os.chdir(here)
        for path in (*names.values(), own.parent / "linked" / "00000.tif"):
            refused_in_the_same_words(visitor.make(file_value(path)))
            refused_in_the_same_words(visitor.get(f"/gradio_api/file={path}"))
    assert visitor.make(file_value(own)).is_success
    mapped(visitor)


@keeps("fetches nothing: a URL is not a file, and there are no proxy routes;")
def test_addresses_are_not_fetched(server, visitor, write_image):
    own = visitor.upload(write_image("own.tif"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/rgb.tif"
        refused_in_the_same_words(visitor.make(file_value(address)))
        refused_in_the_same_words(visitor.get(f"/gradio_api/file={address}"))
        assert visitor.get(f"/gradio_api/proxy={address}").status_code == 404
        assert visitor.make(file_value(own, url=address)).is_success
        mapped(visitor)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


@keeps("keeps a visitor's uploads and maps, and the encoders' features of them, from all other visitors, by a cookie that scripts cannot read and folder names that cannot be guessed;")  # fmt: skip  # noqa: E501
def test_visitors_do_not_reach_the_files_of_others(server, visitor, write_image):
    image = write_image("own.tif")
    with Visitor(server.url) as other, Visitor(server.url) as without_cookie:
        path = Path(visitor.upload(image))
        assert re.fullmatch(r"[0-9a-f]{32}", path.parents[1].name)
        # The same file is another one, so nobody finds out who else has it.
        assert Path(other.upload(image)).parents[1] != path.parents[1]
        without_cookie.cookies.clear()
        without_cookie.upload(image)
        for stranger in (other, without_cookie):
            refused_in_the_same_words(stranger.make(file_value(path)))
            refused_in_the_same_words(stranger.get(f"/gradio_api/file={path}"))
        assert visitor.get(f"/gradio_api/file={path}").content == image.read_bytes()
        cookie = without_cookie.get("/").headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert visitor.cookies["mm_ovseg_visitor"] not in str(path)


HOSTS = ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "10.1.2.3", "[::2]", "localhost@evil.example"]


@keeps("answers only to its own names, those of `--host` and `--allowed-host`, so a web site that points its name at this machine reads nothing;")  # fmt: skip  # noqa: E501
def test_foreign_hosts_are_refused(server, visitor, write_image):
    port = server.url.rsplit(":", 1)[1]
    before = files_in(server.folder)
    image = write_image("rgb.tif")
    for host in (*HOSTS, *(f"{host}:{port}" for host in HOSTS), "localhost:port", "localhost:1/", "-"):
        headers = {"Host": host}
        for response in (
            visitor.get("/", headers=headers),
            visitor.upload(image, headers=headers),
            visitor.get("/", headers={"X-Forwarded-Host": host}),
        ):
            assert 400 <= response.status_code < 500 and "ovseg" not in response.text, host
    for host in ("LOCALHOST", f"127.0.0.1:{port}", f"[::1]:{port}", "maps.example.org", "MAPS.example.org:80"):
        assert "mm_ovseg" in visitor.get("/", headers={"Host": host}).text, host
    # A client need not send one at all.
    with socket.create_connection(("localhost", int(port))) as raw:
        raw.sendall(b"GET /config HTTP/1.0\r\n\r\n")
        assert raw.recv(100).split()[1] == b"400"
    assert files_in(server.folder) == before


@keeps("does nothing for other web sites: a request with a foreign `Origin` is refused before it is read, and no answer can be read by another site.")  # fmt: skip  # noqa: E501
def test_foreign_origins_are_refused(server, visitor, write_image):
    port = server.url.rsplit(":", 1)[1]
    image = write_image("rgb.tif")
    before = files_in(server.folder)
    origins = ["http://evil.example", "null", "", f"http://localhost:{int(port) - 1}", "http://127.0.0.1"]
    origins += [f"http://evil.example:{port}", f"ftp://localhost:{port}", f"http://localhost:{port}.evil.example"]
    for origin in origins:
        headers = {"Origin": origin}
        preflight = {**headers, "Access-Control-Request-Method": "POST"}
        for response in (
            visitor.get("/config", headers=headers),
            visitor.upload(image, headers=headers),
            visitor.post("/gradio_api/queue/join", headers=headers, json={}),
            visitor.options("/gradio_api/queue/join", headers=preflight),
        ):
            assert response.status_code == 403, origin
            assert not [name for name in response.headers if name.startswith("access-control-")], origin
    assert files_in(server.folder) == before
    for origin in (server.url, "https://maps.example.org"):
        assert visitor.get("/config", headers={"Origin": origin}).is_success
        assert isinstance(visitor.upload(image, headers={"Origin": origin}), str)


ROUTES = [
    "component_server", "process_recording", "stream/x", "stream/x/close", "stream/x/0/1/playlist.m3u8", "call/make",
    "call/make/x", "call/v2/make", "api/make", "vibe-edit", "vibe-code", "run-history/connect", "profiling/clear",
    "runs", "login", "token", "user", "dev/reload", "queue/status", "mcp/", "mcp/sse",
    "custom_component/x/client/component/style.css", "file/etc/passwd", "openapi.json", "deep_link",
    "proxy=https://x.hf.space/",
]  # fmt: skip


@keeps("serves only the routes that its own script needs, none of Gradio's others;")
def test_other_routes_are_closed(visitor):
    for route in ROUTES:
        for send in (visitor.get, visitor.post, visitor.head):
            assert send(f"/gradio_api/{route}").status_code == 404, route
    for path in ("/monitoring", "/login", "/logout", "/docs", "/gradio_api/deep_link", "/?deep_link=x", "/pwa_icon"):
        assert visitor.get(path).status_code == 404, path
    assert visitor.put("/gradio_api/upload").status_code == 404


@keeps("reads no request longer than the page needs, and keeps nothing of a refused upload;")
def test_long_and_broken_requests(server, visitor, write_image):
    before = files_in(server.folder)
    post = visitor.post
    assert post("/gradio_api/queue/join", content=b" " * 1_000_001).status_code == 413
    assert post("/gradio_api/queue/join", content=iter([b"{}"])).status_code == 411
    for body in (b"", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000):
        assert post("/gradio_api/queue/join", content=body).status_code == 400
    assert post("/gradio_api/upload", files={"files": ("big.tif", bytes(1_000_001))}).status_code == 413
    assert post("/gradio_api/upload", files={"files": ("big.tif", bytes(1_200_000))}).status_code == 413
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert post("/gradio_api/upload", content=b"--y\r\n", headers=kind).status_code == 400
    assert files_in(server.folder) == before


def test_each_promise_of_the_document_has_a_test():
    section = (ROOT / "SECURITY.md").read_text(encoding="utf-8").split("## The web page")[1].split("\n## ")[0]
    promises = [" ".join(promise.split()) for promise in re.findall(r"^\* (.*(?:\n  .*)*)", section, re.MULTILINE)]
    assert sorted(promises) == sorted(PROMISES)


@keeps("ends on a signal, whatever it was sent, and leaves no files behind;")
def test_a_signal_ends_it(server):
    """The last of this module."""
    for path in ("/dev/zero", "/dev/stdin"):
        with Visitor(server.url) as client:
            client.make(file_value(path))
    server.send_signal(signal.SIGTERM)
    assert server.wait(PATIENCE) == 0
    assert not list(server.folder.iterdir())
