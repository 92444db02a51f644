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


LENGTH = len(FORM)


@pytest.mark.parametrize("others", [0, 1])
def test_no_file_is_read_without_room_for_it_and_those_on_their_way(others, tmp_path, monkeypatch):
    visitors, free = Visitors(tmp_path), MIN_FREE + 2 * (others + 1) * LENGTH
    arrived = asyncio.Event()

    def send(*, waits=False):
        """Send a form; whether its body was read is in ``read``."""

        async def receive():
            read.append(True)
            if waits:
                await arrived.wait()
            return {"type": "http.request", "body": FORM, "more_body": False}

        headers = {"content-type": "multipart/form-data; boundary=x", "content-length": str(LENGTH)}
        scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
        return store_upload(Request(scope, receive), visitors, "visitor", max_bytes=100)

    async def main():
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        waiting = [asyncio.ensure_future(send(waits=True)) for _ in range(others)]
        await asyncio.sleep(0)
        assert (await send()).name == "a.tif"
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free - 1))
        read.clear()
        with pytest.raises(HTTPException, match="disk is full") as refusal:
            await send()
        assert refusal.value.status_code == 507 and read == []
        arrived.set()
        await asyncio.gather(*waiting)
        assert visitors.reserved_bytes == 0

    read = []
    asyncio.run(main())
