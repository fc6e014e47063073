"""The calls that wait for the kernel, made by a few threads, with a way back from each."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def default_limit() -> int:
    """Enough for the processors, which share the work, and some that only wait."""
    return min(8, len(os.sched_getaffinity(0)) + 2)


class Threads:
    """At most ``limit`` threads, for any number of loops; where there is no work there are none.

    What is asked for beyond that waits its turn, in order. A thread ends when nothing is left to
    do, so there is nothing to close.
    """

    def __init__(self, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"invalid number of threads {limit!r}: expected 1 or more")
        self.limit = limit or default_limit()
        self._lock = threading.Lock()
        self._jobs: deque[_Job] = deque()
        self._alive = 0

    async def do(
        self,
        action: Callable[..., T],
        *arguments: Any,
        undo: Callable[[T], object] | None = None,
        hurry: Callable[[], object] | None = None,
        certain: bool = False,
        **options: Any,
    ) -> T:
        """Call ``action`` in a thread; returns what it returns and raises what it raises.

        Whoever is cancelled meanwhile gets his :class:`asyncio.CancelledError` when all is over: a
        call that has not begun is withdrawn (not one that is ``certain``); one that has is awaited
        (``hurry`` is called to make it short), and what it returned is given to ``undo``, in
        a thread.
        """
        context = contextvars.copy_context()
        job = _Job(lambda: context.run(action, *arguments, **options))
        self._begin(job)
        try:
            await asyncio.wait([job.future])
        except asyncio.CancelledError as cancelled:
            if certain or not self._withdraw(job):
                if hurry is not None:
                    hurry()
                await settled(job.future)
                if problem := job.future.exception():
                    cancelled.add_note(f"meanwhile: {problem}")
                elif undo is not None:
                    await self.clean_up(cancelled, undo, job.future.result())
            raise
        result: T = job.future.result()
        return result

    async def clean_up(
        self, cause: BaseException, action: Callable[..., object], *arguments: Any
    ) -> None:
        """Call ``action`` in a thread because of an error, which is told of another one.

        However often this is cancelled, it is done first.
        """
        job = _Job(lambda: action(*arguments))
        self._begin(job)
        await settled(job.future)
        if problem := job.future.exception():
            cause.add_note(f"while cleaning up: {problem}")

    def _begin(self, job: _Job) -> None:
        with self._lock:
            self._jobs.append(job)
            enough = self._alive >= self.limit
            self._alive += not enough
        if enough:
            return
        try:
            threading.Thread(target=self._work, name="libpycontainer.aio").start()
        except BaseException:
            with self._lock:
                self._alive -= 1
                helped = self._alive > 0
            # Those that are there do it later, or have done it.
            if not helped and self._withdraw(job):
                raise

    def _withdraw(self, job: _Job) -> bool:
        """Has nobody begun it? Then nobody will."""
        with self._lock:
            try:
                self._jobs.remove(job)
            except ValueError:
                return False
        return True

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._alive -= 1
                    return
                job = self._jobs.popleft()
            job.run()


class _Job:
    def __init__(self, action: Callable[[], Any]) -> None:
        self._action = action
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()

    def run(self) -> None:
        try:
            result, error = self._action(), None
        except BaseException as problem:
            result, error = None, problem
        try:
            self._loop.call_soon_threadsafe(self._end, result, error)
        except RuntimeError:
            # The loop was closed without waiting for its tasks: nobody is there to be told.
            pass
        finally:
            # Or this frame and the error's traceback would keep each other.
            del result, error

    def _end(self, result: Any, error: BaseException | None) -> None:
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


async def settled(future: asyncio.Future[Any]) -> None:
    """Wait until it is done, however often the waiting is cancelled."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
