"""Running the page's real command."""

import contextlib
import json
import os
import re
import subprocess

import httpx

from tests.conftest import CLI
from tests.patience import PATIENCE


@contextlib.contextmanager
def run_page(folder, *options):
    """The running command and, as ``url``, the page's address; its temporary files are in ``folder``."""
    process = subprocess.Popen(
        [*CLI, "app", "--port", "0", "--max-upload-megabytes", "1", *options],
        cwd=folder,  # not the checkout
        env={**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        process.folder = folder
        line = next((line for line in process.stdout if "The page is at" in line), "")
        process.url = re.search(r"http://localhost:\d+", line)[0]
        yield process
    finally:
        process.kill()
        process.wait()


class Visitor(httpx.Client):
    """A program that keeps its cookie."""

    def __init__(self, url, **options):
        super().__init__(base_url=url, timeout=PATIENCE, verify=False, **options)  # plain HTTP

    def __enter__(self):
        super().__enter__()
        self.get("/")
        return self

    def upload(self, path, **options):
        """The answer to an upload."""
        return self.post("/api/files", files={"file": (path.name, path.read_bytes())}, **options)

    def events(self, route, body):
        """The events of a stream, as they come."""
        with self.stream("POST", route, json=body) as answer:
            assert answer.status_code == 200, answer.read()
            for line in answer.iter_lines():
                yield json.loads(line)

    def scene(self, **body):
        """A scene."""
        return list(self.events("/api/scenes", body))[-1]["scene"]

    def map(self, scene, classes="water", **body):
        """A map of a scene."""
        return list(self.events(f"/api/scenes/{scene['id']}/maps", {"classes": classes, **body}))[-1]["map"]
