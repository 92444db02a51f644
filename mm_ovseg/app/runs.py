"""The queue of everything that takes long: one run at a time, whose events are streamed to its visitor."""

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mm_ovseg.app.messages import UNEXPECTED
from mm_ovseg.errors import StoppedError

__all__ = ["EventStream", "Run", "Runs"]

logger = logging.getLogger(__name__)

MAX_WAITING = 20
MAX_WAITING_PER_ADDRESS = 2
LAST_EVENTS = ("scene", "map", "polygons", "error")

Event = dict[str, Any]


class Run:
    """Something to do for a visitor, in a thread.

    Args:
        address: that of the visitor.
        work: does it, and returns the last event; it calls :meth:`progress`, and stops if :meth:`should_stop`.
    """

    def __init__(self, address: str, work: Callable[["Run"], Event]) -> None:
        self.address, self._work = address, work
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._stopped = threading.Event()
        self._place = 0

    async def next_event(self) -> Event:
        """The next event; :data:`LAST_EVENTS` are last."""
        return await self._events.get()

    def tell(self, event: Event) -> None:
        """Add an event; from any thread."""
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def progress(self, done: int, total: int, what: str) -> None:
        """Tell how much of the "windows", or of "reading", is done; from any thread."""
        self.tell({"event": "progress", "done": done, "total": total, "what": what})

    def wait_at(self, place: int) -> None:
        """Tell its place in the queue, from 1, if that is new."""
        if place != self._place:
            self.tell({"event": "waiting", "place": place})
        self._place = place

    def stop(self) -> None:
        """Ask it to stop."""
        self._stopped.set()

    def should_stop(self) -> bool:
        """Whether nobody waits for it any more; from any thread."""
        return self._stopped.is_set()

    def do(self) -> None:
        """Do it, in a thread."""
        try:
            event = self._work(self)
        except StoppedError:
            return
        except Exception:
            logger.exception("The page could not finish a run.")
            event = {"event": "error", "message": UNEXPECTED}
        self.tell(event)


class Runs:
    """The queue. All methods are for the event loop's thread."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, "model")
        self._running: Run | None = None
        self._waiting: list[Run] = []

    def add(self, address: str, work: Callable[[Run], Event]) -> Run:
        """Queue something; arguments as of :class:`Run`.

        Raises:
            HTTPException: 429, too many are waiting.
        """
        if self._running is not None:
            if len(self._waiting) >= MAX_WAITING:
                raise HTTPException(429, f"{MAX_WAITING} others are waiting; try again in a few minutes.")
            if sum(run.address == address for run in self._waiting) >= MAX_WAITING_PER_ADDRESS:
                raise HTTPException(429, "Two of your requests are waiting already; wait until one is finished.")
        run = Run(address, work)
        self._waiting.append(run)
        self._next()
        return run

    def leave(self, run: Run) -> None:
        """Drop a run whose visitor has left, or stop it; nothing if it is finished."""
        run.stop()
        if run in self._waiting:
            self._waiting.remove(run)
            self._tell_places()

    def end(self) -> None:
        """Stop everything when the server ends."""
        self._waiting.clear()
        if self._running is not None:
            self._running.stop()
        self._worker.shutdown(wait=True)

    def _next(self) -> None:
        if self._running is None and self._waiting:
            self._running = self._waiting.pop(0)
            future = asyncio.get_running_loop().run_in_executor(self._worker, self._running.do)
            future.add_done_callback(self._finish)
        self._tell_places()

    def _finish(self, future: asyncio.Future) -> None:
        self._running = None
        self._next()

    def _tell_places(self) -> None:
        for place, run in enumerate(self._waiting, start=1):
            run.wait_at(place)


class EventStream(Response):
    """Sends the events of a run, one JSON object a line, and leaves the queue when the visitor closes the stream.

    Args:
        runs: the queue.
        run: the run.
        present: entered as long as the stream is open.
    """

    media_type = "application/x-ndjson"

    def __init__(self, runs: Runs, run: Run, present: AbstractContextManager) -> None:
        super().__init__(headers={"cache-control": "no-store"})
        self._runs, self._run, self._present = runs, run, present
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        with self._present:
            tasks = [asyncio.create_task(task) for task in (self._send_events(send), _disconnected(receive))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._runs.leave(self._run)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_events(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        event: Event = {}
        while event.get("event") not in LAST_EVENTS:
            event = await self._run.next_event()
            line = json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n"
            await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
