"""What happens to a container while it lives, for ``async for``."""

from __future__ import annotations

import asyncio
import time

from libpycontainer import events as events_
from libpycontainer.aio.threads import Threads


class Events:
    """What :meth:`aio.Container.events` returns: an asynchronous iterator, and a context manager.

    It ends when the container stops. It owns descriptors until :meth:`close`, the end of its
    block, or its exhaustion. For one task at a time.
    """

    def __init__(self, events: events_.Events, threads: Threads) -> None:
        self._events = events
        self._threads = threads

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> events_.Event:
        event = await self.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def get(self, timeout: float | None = None) -> events_.Event | None:
        """The next event; ``None`` when there are no more.

        ``timeout`` is in seconds; raises :class:`TimeoutError` when it is over without an event.
        Cancelled, it leaves the event to the next call.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            await self._wait(deadline)
            try:
                # In a thread, as what it takes may be a measurement.
                return await self._threads.do(self._events.get, 0, undo=self._put_back)
            except TimeoutError:
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"no event in {timeout:g} s") from None

    def _put_back(self, event: events_.Event | None) -> None:
        if event is not None:
            self._events.put_back(event)

    async def _wait(self, deadline: float | None) -> None:
        """Until there may be something, or it is time to look."""
        due = self._events.due()
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        times = [each for each in (due, left) if each is not None]
        if due == 0.0:
            return
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        number = self._events.fileno()
        loop.add_reader(number, _notice, ready)
        try:
            await asyncio.wait([ready], timeout=min(times) if times else None)
        finally:
            loop.remove_reader(number)

    def close(self) -> None:
        """Let go of what is watched. Events that were not taken yet are still to be had."""
        self._events.close()

    async def __aenter__(self) -> Events:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()


def _notice(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
