"""Requests: only GET, to HTTP(S) only, limited in size, repeated where that can help, and errors as one sentence."""

import logging
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.raster import remote
from mm_ovseg.raster.remote import fetch_part, fetch_text, is_address, without_query, without_signature

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def file(server):
    """The address of a file of 10240 bytes, with a signature."""
    (server.folder / "a.tif").write_bytes(CONTENT)
    return f"{server.address}/a.tif?sig=s%2Fecret"


def test_parts_of_a_file(server, file):
    part = fetch_part(file, 1000, 1999)
    assert part.content == CONTENT[1000:2000] and part.size == len(CONTENT) and part.version
    assert fetch_part(file, 10_000, 20_000).content == CONTENT[10_000:]
    assert server.asked[0] == ("GET", "/a.tif?sig=s%2Fecret", "bytes=1000-1999")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_temporary_failures_are_tried_again(server, file, status, caplog):
    server.fails["/a.tif"] = [status] * 4
    with caplog.at_level(logging.WARNING):
        assert fetch_part(file, 0, 9).content == CONTENT[:10]
    assert len(server.asked) == 5 and f"the server answered {status}" in caplog.text and "ecret" not in caplog.text


def test_incomplete_answers_are_tried_again(server, file):
    server.truncates["/a.tif"] = 2
    assert fetch_part(file, 0, 9_999).content == CONTENT[:10_000]
    assert len(server.asked) == 3


def test_pauses_grow(server, file, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    slept = []
    monkeypatch.setattr(remote.time, "sleep", slept.append)
    server.fails["/a.tif"] = [-503]
    with pytest.raises(DataError):
        fetch_part(file, 0, 9)
    assert slept == sorted(slept) and slept[-1] > 10 * slept[0]


@pytest.mark.parametrize(
    ("status", "tries", "message"),
    [
        (-503, 5, r"a\.tif cannot be fetched \(the server answered 503, in 5 tries\); run the same command again"),
        (403, 1, r"is refused \(the server answered 403\).*newly signed: what has been fetched is kept"),
        (401, 1, "is refused"),
        (404, 1, r"does not exist \(the server answered 404\)"),
        (410, 1, "does not exist"),
        (416, 1, r"cannot be fetched \(the server answered 416\)"),
        (204, 1, r"cannot be fetched \(the server answered 204\)"),
    ],
)
def test_lasting_failures_are_one_sentence_without_the_signature(server, file, status, tries, message):
    server.fails["/a.tif"] = [status]
    with pytest.raises(DataError, match=message) as error:
        fetch_part(file, 0, 9)
    assert len(server.asked) == tries and "ecret" not in str(error.value)


def test_a_server_that_is_not_there(file, server, monkeypatch):
    with pytest.raises(DataError, match=r"127\.0\.0\.1:1/a\.tif cannot be fetched \(Connection refused, in 5 tries\)"):
        fetch_part("http://127.0.0.1:1/a.tif?sig=secret", 0, 9)


def test_a_server_without_parts(server, file):
    server.without_ranges = True
    with pytest.raises(DataError, match="only gives whole files"):
        fetch_part(file, 0, 9)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a.tif", "gopher://127.0.0.1/"])
def test_redirections_to_other_schemes_are_refused(server, file, target):
    server.redirects["/a.tif"] = target
    with pytest.raises(DataError, match="redirects to (file|ftp|gopher):, which is refused"):
        fetch_part(file, 0, 9)


def test_https_does_not_lead_to_http():
    for target, is_refused in (("http://host/a", True), ("https://other/a", False), ("/a", False)):
        with pytest.raises(DataError, match="redirects to http:") if is_refused else nullcontext():
            assert remote._redirected("the file", "https://host/b", target).endswith("/a")


def test_redirections_are_followed_within_limits(server, file):
    server.redirects["/b.tif"] = "/a.tif?sig=other"
    assert fetch_part(f"{server.address}/b.tif", 5, 9).content == CONTENT[5:10]
    assert server.asked[-1] == ("GET", "/a.tif?sig=other", "bytes=5-9")
    server.redirects["/a.tif"] = f"{server.address}/b.tif"
    with pytest.raises(DataError, match="redirects more than 5 times"):
        fetch_part(file, 0, 9)


def test_text_is_limited(server, monkeypatch):
    (server.folder / "item.json").write_text("{}" * 100, encoding="utf-8-sig")
    assert fetch_text(f"{server.address}/item.json") == "{}" * 100
    monkeypatch.setattr(remote, "MAX_CHARACTERS", 10)
    with pytest.raises(DataError, match="answers with more than 40 bytes"):
        fetch_text(f"{server.address}/item.json")
    (server.folder / "item.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(DataError, match="not text in UTF-8"):
        fetch_text(f"{server.address}/item.json")


@pytest.mark.parametrize("address", ["http://a b c:99999/", "http://" + "a" * 300 + ".com/"])
def test_what_is_no_address_is_one_sentence(server, address):
    with pytest.raises(DataError):
        fetch_text(address)


def test_addresses():
    assert is_address("https://host/a.json") and is_address("HTTP://host")
    assert not any(
        map(is_address, ["https:/host/a.json", "ftp://host/a", "a.json", "s3://b/k", "http:///x", "http://[::1"])
    )
    assert without_query("https://me:pass@host:8000/a%20b.tif?sig=1#x") == "https://host:8000/a%20b.tif"
    first = without_signature("https://host/a?name=b&X-Amz-Signature=1&se=2&sig=3")
    assert first == without_signature("https://host/a?name=b&X-Amz-Signature=4&se=5&sig=6") == "https://host/a?name=b"


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(ConfigError, match=r"pip install 'mm_ovseg\[stac\]'"):
        fetch_text("http://127.0.0.1/a.json")


def test_planetary_computers_files_are_signed_if_its_package_is_installed(server, file, monkeypatch):
    monkeypatch.setattr(remote, "SIGNED_HOST", "127.0.0.1")
    server.fails["/a.tif"] = [409]
    monkeypatch.setitem(sys.modules, "planetary_computer", None)
    with pytest.raises(DataError, match="pip install planetary-computer"):
        fetch_part(without_query(file), 0, 9)
    package = SimpleNamespace(sign_url=lambda address: f"{address}?sig=token")
    monkeypatch.setitem(sys.modules, "planetary_computer", package)
    fetch_part(without_query(file), 0, 9)
    fetch_part(file, 0, 9)
    assert [path for _, path, _ in server.asked] == ["/a.tif", "/a.tif?sig=token", "/a.tif?sig=s%2Fecret"]
