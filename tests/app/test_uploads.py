"""Uploads onto a disk that is nearly full."""

import asyncio
import shutil
from types import SimpleNamespace

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from mm_ovseg.app.uploads import MIN_FREE, store_upload
from mm_ovseg.app.visitors import Visitors

FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.tif"\r\n\r\nII*\r\n--x--\r\n'


@pytest.fixture
def send(tmp_path, monkeypatch):
    """A function ``(free bytes of the disk, one at each look) -> whether the body was read``."""

    def send(*free):
        frees, was_read = iter(free), []
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(frees)))

        async def receive():
            was_read.append(True)
            return {"type": "http.request", "body": FORM, "more_body": False}

        headers = {"content-type": "multipart/form-data; boundary=x", "content-length": str(len(FORM))}
        scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
        with pytest.raises(HTTPException, match="disk is full") as refusal:
            asyncio.run(store_upload(Request(scope, receive), Visitors(tmp_path), "visitor", max_bytes=100))
        assert refusal.value.status_code == 507 and not list(tmp_path.iterdir())
        return bool(was_read)

    return send


def test_a_file_without_room_is_not_read(send):
    assert not send(MIN_FREE + 2 * len(FORM) - 1)


def test_the_room_may_be_used_up_while_a_file_arrives(send):
    assert send(MIN_FREE + 2 * len(FORM), MIN_FREE + 2)
