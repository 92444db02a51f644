"""Running the page's real command, and speaking to it as programs do."""

import contextlib
import functools
import importlib.util
import json
import os
import re
import subprocess

import httpx
import pytest

from tests.conftest import CLI
from tests.patience import PATIENCE


@contextlib.contextmanager
def run_page(folder, *options):
    """The running command and, as ``url``, the page's address; its temporary files lie in ``folder``."""
    if importlib.util.find_spec("gradio") is None:  # found, not imported, which takes seconds
        pytest.skip("needs mm_ovseg[app]")
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


@functools.cache
def page_config(url):
    """The parts of the page and its events."""
    return httpx.get(f"{url.rstrip(chr(47))}/config", timeout=PATIENCE).json()


class Visitor(httpx.Client):
    """A program that keeps its cookies and knows the page's events, by the elements that start them."""

    def __init__(self, url, **options):
        super().__init__(base_url=url, timeout=PATIENCE, verify=False, **options)  # plain HTTP
        self.session = os.urandom(8).hex()

    def __enter__(self):
        super().__enter__()
        self.get("/")
        return self

    def upload(self, path, **options):
        """The server's path of an uploaded file."""
        response = self.post("/gradio_api/upload", files={"files": (path.name, path.read_bytes())}, **options)
        return response.json()[0] if response.is_success else response

    def event(self, element, *data):
        """The body of an event whose trigger is the element with that id."""
        config = page_config(str(self.base_url))
        [number] = [part["id"] for part in config["components"] if part["props"].get("elem_id") == element]
        steps = config["dependencies"]
        # A chain begins with what needs no file; its ``then`` takes them.
        index = next(i for i, step in enumerate(steps) if step["targets"] and step["targets"][0][0] == number)
        while len(steps[index]["inputs"]) != len(data):
            index += 1
        return {"data": list(data), "fn_index": steps[index]["id"], "session_hash": self.session}

    def make(self, rgb, sar=None, classes="water, road"):
        """Ask for a map, by the values of the file inputs."""
        body = self.event("ovseg-start", None, rgb, sar, classes, "", "Classes", 60)
        return self.post("/gradio_api/queue/join", json=body)

    def result(self):
        """What the running events end with."""
        with self.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line else {}
                if message.get("msg") == "process_completed":
                    return message
        raise AssertionError("The event did not end.")


def file_value(path, **fields):
    """A file as the page's script writes it."""
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}, **fields}
