"""A visitor of the page in this process."""

import json

from starlette.testclient import TestClient

from mm_ovseg.app.api import Page, make_application
from mm_ovseg.app.gate import Gate
from mm_ovseg.app.hosts import Hosts
from mm_ovseg.app.visitors import Visitors

MAX_UPLOAD_BYTES = 1_000_000


def make_page(cfg, maker, folder, **settings):
    """A page that keeps its files in a folder."""
    folder.mkdir()
    return Page(
        cfg, maker, Visitors(folder), **{"max_upload_bytes": MAX_UPLOAD_BYTES, "max_pixels": 100_000, **settings}
    )


class Browser(TestClient):
    """Keeps its cookie, and speaks the page's interface; of several, the first is entered, and the others beside it."""

    def __init__(self, page, beside=None):
        gate = Gate(make_application(page), hosts=Hosts("localhost"), max_upload_bytes=page.max_upload_bytes)
        super().__init__(gate, base_url="http://localhost", raise_server_exceptions=False)
        self.portal = None if beside is None else beside.portal  # one event loop
        self.get("/")

    def upload(self, path):
        """The id of an uploaded file."""
        answer = self.post("/api/files", files={"file": (path.name, path.read_bytes())})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def events(self, route, **body):
        """The events of a stream."""
        answer = self.post(route, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        return [json.loads(line) for line in answer.text.splitlines()]

    def scene(self, rgb=None, sar=None, **body):
        """A scene of uploaded files."""
        names = {"rgb": [] if rgb is None else [self.upload(rgb)], "sar": [] if sar is None else [self.upload(sar)]}
        return self.events("/api/scenes", **names, **body)[-1]["scene"]

    def map(self, scene, classes="water, city", **body):
        """A map of a scene."""
        return self.events(f"/api/scenes/{scene['id']}/maps", classes=classes, **body)[-1]["map"]
