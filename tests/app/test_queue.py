"""Waiting for the model, over HTTP: nobody fills the queue, and nobody waits for those who have left."""

import json
import signal

import cv2
import numpy as np
import pytest

from mm_ovseg.app.gate import MAX_WAITING
from tests.app.page_server import Visitor, file_value, run_page
from tests.patience import PATIENCE


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with run_page(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture
def large(tmp_path):
    """A small file of a scene of many windows."""
    path = tmp_path / "large.png"
    assert cv2.imwrite(str(path), np.full((6000, 6000, 3), 90, np.uint8))
    return path


def maps_in(server):
    return list(server.folder.rglob("large_map.tif*"))


def leave_when_it_runs(visitor):
    """Listen for a result until the model is at work on it, and go."""
    with visitor.stream("GET", "/gradio_api/queue/data", params={"session_hash": visitor.session}) as stream:
        for line in stream.iter_lines():
            if line and json.loads(line.removeprefix("data:"))["msg"] == "process_starts":
                return


def test_one_address_cannot_fill_the_queue_and_a_run_ends_with_its_visitor(server, large, write_image):
    with Visitor(server.url) as greedy, Visitor(server.url) as next_one:
        path, small = greedy.upload(large), next_one.upload(write_image("small.tif"))
        answers = [greedy.make(file_value(path)) for _ in range(MAX_WAITING + 3)]
        assert {answer.status_code for answer in answers} == {200, 429}
        assert MAX_WAITING <= sum(answer.is_success for answer in answers) <= MAX_WAITING + 1  # one is at work
        assert "wait until one is finished" in answers[-1].json()["detail"]
        assert next_one.make(file_value(small)).status_code == 429  # cookies cost nothing
        leave_when_it_runs(greedy)
        answer = next_one.make(file_value(small))
        while answer.status_code == 429:  # the server has not seen it yet
            answer = next_one.make(file_value(small))
        _, _, picture, *_ = next_one.result()["output"]["data"]
    assert "ovseg-layer" in picture
    assert not maps_in(server)


def test_the_queue_cannot_be_passed_by(server, write_image):
    with Visitor(server.url) as visitor:
        path = visitor.upload(write_image("rgb.tif"))
        body = visitor.event("ovseg-start", None, file_value(path), None, "water", "", "Classes", 60)
        for route in ("run/predict", "run/make"):
            assert visitor.post(f"/gradio_api/{route}", json=body).status_code == 404


def test_a_signal_ends_it_at_work(server, large):
    """The last of this module."""
    with Visitor(server.url) as visitor:
        assert visitor.make(file_value(visitor.upload(large))).is_success
        with visitor.stream("GET", "/gradio_api/queue/data", params={"session_hash": visitor.session}) as stream:
            next(line for line in stream.iter_lines() if "process_starts" in line)
            server.send_signal(signal.SIGTERM)
            assert server.wait(PATIENCE) == 0
    assert not list(server.folder.iterdir())
