"""What visitors have on the server, for how long, and that others do not."""

import pytest
from starlette.exceptions import HTTPException

from mm_ovseg.app import visitors as module
from mm_ovseg.app.visitors import KEPT_SECONDS, UploadedFile, Visitors, new_cookie, visitor_name


class Clock:
    """Time that passes on demand."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def visitors(tmp_path, clock):
    return Visitors(tmp_path, clock)


def keep(visitors, visitor):
    folder = visitors.new_folder(visitor)
    file = UploadedFile(folder.name, folder, "rgb.tif", folder / folder.name)
    file.path.write_bytes(b"II*")
    visitors.keep(visitor, file)
    return file


def test_only_its_visitor_finds_a_thing(visitors):
    file = keep(visitors, "a")
    assert visitors.find("a", UploadedFile, file.id) is file and len(file.id) == 32
    for visitor, kind, name in (("b", UploadedFile, file.id), ("a", Clock, file.id), ("a", UploadedFile, "x")):
        with pytest.raises(HTTPException) as refusal:
            visitors.find(visitor, kind, name)
        assert refusal.value.status_code == 404 and refusal.value.detail == module.NOT_FOUND
    for name in ([], {}, None, 3):
        with pytest.raises(HTTPException):
            visitors.find("a", UploadedFile, name)
    visitors.share(file)
    assert visitors.find("b", UploadedFile, file.id) is file


def test_an_hour_without_a_request_ends_everything(visitors, clock, tmp_path):
    file, other = keep(visitors, "a"), keep(visitors, "b")
    clock.now = KEPT_SECONDS
    visitors.find("b", UploadedFile, other.id)
    clock.now += 1
    visitors.remove_idle()
    assert not file.path.exists() and other.path.exists() and [path.name for path in tmp_path.iterdir()] == ["b"]
    with pytest.raises(HTTPException):
        visitors.find("a", UploadedFile, file.id)


def test_an_open_stream_keeps_everything(visitors, clock):
    file = keep(visitors, "a")
    with visitors.present("a"):
        clock.now += 2 * KEPT_SECONDS
        visitors.remove_idle()
        assert file.path.exists()
    visitors.remove_idle()
    assert file.path.exists()  # the end of the stream is a use
    clock.now += 2 * KEPT_SECONDS
    visitors.remove_idle()
    assert not file.path.exists()


def test_the_oldest_of_many_goes(visitors, monkeypatch):
    monkeypatch.setattr(module, "MAX_KEPT", 2)
    files = [keep(visitors, "a") for _ in range(3)]
    assert [file.path.exists() for file in files] == [False, True, True]


def test_cookies():
    cookie = new_cookie()
    assert visitor_name(cookie) == visitor_name(cookie) != visitor_name(new_cookie()) and cookie not in visitor_name(
        cookie
    )
    for other in (None, "", "../../etc", "x" * 42, "x" * 44, "é" * 43):
        assert visitor_name(other) is None
