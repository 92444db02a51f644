"""Waiting for the model: nobody fills the queue, and nobody waits for those who have left."""

import asyncio
import contextlib
import json
import threading

import pytest
from starlette.exceptions import HTTPException

from mm_ovseg.app.messages import UNEXPECTED
from mm_ovseg.app.runs import MAX_WAITING, MAX_WAITING_PER_ADDRESS, EventStream, Runs
from mm_ovseg.errors import StoppedError
from tests.patience import PATIENCE

DONE = {"event": "map", "map": {}}


class Work:
    """Runs until it is let go, or its visitor has left."""

    def __init__(self):
        self.begun, self.let_go, self.stopped = threading.Event(), threading.Event(), False

    def __call__(self, run):
        self.begun.set()
        while not self.let_go.wait(0.01):
            if run.should_stop():
                self.stopped = True
                raise StoppedError("It is no longer needed.")
        run.progress(1, 2, "windows")
        return DONE


class Client:
    """Reads a stream, and closes it on demand."""

    def __init__(self, runs, run):
        self.events, self.gone, self.closed, self._news = [], asyncio.Event(), False, asyncio.Event()
        self.task = asyncio.ensure_future(
            EventStream(runs, run, contextlib.nullcontext())({}, self._receive, self._send)
        )

    async def _receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        if message["type"] == "http.response.start":
            assert dict(message["headers"])[b"content-type"] == b"application/x-ndjson"
        else:
            self.events += [json.loads(line) for line in message["body"].splitlines()]
            self.closed = not message["more_body"]
        self._news.set()

    async def leave(self):
        self.gone.set()
        await self.task

    async def until(self, condition):
        while not condition():
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), PATIENCE)


def in_loop(test):
    """Run a test with a queue in an event loop."""

    def run():
        async def main():
            runs = Runs()
            try:
                await test(runs)
            finally:
                runs.end()

        asyncio.run(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def begun(work):
    assert await asyncio.to_thread(work.begun.wait, PATIENCE)


@in_loop
async def test_one_run_at_a_time_and_places_in_the_queue(runs):
    works = [Work() for _ in range(3)]
    clients = [Client(runs, runs.add("a", work)) for work in works]
    await begun(works[0])
    await clients[2].until(lambda: clients[2].events)
    assert [client.events for client in clients[1:]] == [[{"event": "waiting", "place": n}] for n in (1, 2)]
    assert not works[1].begun.is_set()
    works[0].let_go.set()
    await clients[0].task
    assert clients[0].events == [{"event": "progress", "done": 1, "total": 2, "what": "windows"}, DONE]
    assert clients[0].closed
    await begun(works[1])
    await clients[2].until(lambda: len(clients[2].events) == 2)
    assert clients[2].events[1] == {"event": "waiting", "place": 1}
    for work, client in zip(works[1:], clients[1:], strict=True):
        work.let_go.set()
        await client.task
        assert client.events[-1] == DONE


@in_loop
async def test_who_leaves_frees_the_queue_at_once(runs):
    works = [Work() for _ in range(4)]
    clients = [Client(runs, runs.add(str(number), work)) for number, work in enumerate(works)]
    await begun(works[0])
    await clients[1].leave()  # it waits
    await clients[0].leave()  # it runs
    await begun(works[2])
    assert works[0].stopped and not works[1].begun.is_set() and not clients[0].events
    works[2].let_go.set()
    works[3].let_go.set()
    await clients[3].task
    assert clients[3].events[-1] == DONE and not works[1].begun.is_set()


@in_loop
async def test_nobody_fills_the_queue(runs):
    def add(address):
        work = Work()
        return Client(runs, runs.add(address, work)), work

    first, work = add("a")
    await begun(work)
    of_a = [add("a")[0] for _ in range(MAX_WAITING_PER_ADDRESS)]
    with pytest.raises(HTTPException, match="wait until one is finished") as refusal:
        add("a")
    assert refusal.value.status_code == 429
    clients = [add(f"b{number}")[0] for number in range(MAX_WAITING - MAX_WAITING_PER_ADDRESS)]
    with pytest.raises(HTTPException, match="try again") as refusal:
        add("c")
    assert refusal.value.status_code == 429
    await asyncio.sleep(0)
    await of_a[0].leave()
    clients.append(add("a")[0])  # its place is free
    with pytest.raises(HTTPException):
        add("c")
    for client in (*clients, of_a[1], first):
        await client.leave()
    last, work = add("c")
    work.let_go.set()
    await last.task
    assert last.events[-1] == DONE


@in_loop
async def test_an_error_of_ours_is_a_sentence_and_the_next_run_begins(runs):
    def fail(run):
        raise RuntimeError("/tmp/server: a bug")

    client, work = Client(runs, runs.add("a", fail)), Work()
    work.let_go.set()
    after = Client(runs, runs.add("a", work))
    await asyncio.gather(client.task, after.task)
    assert client.events == [{"event": "error", "message": UNEXPECTED}] and after.events[-1] == DONE


def test_the_end_of_the_server_stops_everything():
    works = [Work(), Work()]

    async def main():
        runs = Runs()
        clients = [Client(runs, runs.add("a", work)) for work in works]
        await begun(works[0])
        runs.end()
        for client in clients:
            await client.leave()

    asyncio.run(main())
    assert works[0].stopped and not works[1].begun.is_set()
