"""The threads that aio hands its calls to: how many, in which order, and the way back."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from typing import NoReturn

import pytest

from libpycontainer.aio.threads import Threads, default_limit, settled

TIMEOUT = 20


class Gate:
    """A call that lasts until it is let through."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        self.begun.set()
        assert self.go.wait(TIMEOUT)
        return "done"

    async def reached(self) -> None:
        await asyncio.to_thread(self.begun.wait, TIMEOUT)


def test_result_and_error_are_the_calls_own() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    def fail() -> NoReturn:
        raise KeyError("x")

    async def use() -> None:
        threads = Threads()
        variable.set("set")
        assert await threads.do(divmod, 7, 2) == (3, 1)
        assert await threads.do(sorted, [1, 2], reverse=True) == [2, 1]
        assert await threads.do(variable.get) == "set"
        with pytest.raises(KeyError):
            await threads.do(fail)

    asyncio.run(use())


def test_there_are_never_more_than_the_limit_and_none_without_work() -> None:
    async def use() -> None:
        threads, most, lock, at_once = Threads(3), 0, threading.Lock(), [0]
        idle = threading.active_count()

        def work() -> int:
            nonlocal most
            with lock:
                at_once[0] += 1
                most = max(most, at_once[0])
            threading.Event().wait(0.005)
            with lock:
                at_once[0] -= 1
            return threading.get_ident()

        who = await asyncio.gather(*(threads.do(work) for _ in range(30)))
        assert most == 3
        assert len(set(who)) >= 3
        async with asyncio.timeout(TIMEOUT):
            while threading.active_count() > idle:
                await asyncio.sleep(0.001)

    asyncio.run(use())


def test_limit_must_be_one_at_least() -> None:
    assert 3 <= default_limit() <= 8
    with pytest.raises(ValueError, match="threads"):
        Threads(0)


def test_call_that_has_not_begun_is_withdrawn_unless_it_is_certain() -> None:
    async def use() -> None:
        threads, gate, withdrawn, certain = Threads(1), Gate(), Gate(), Gate()
        certain.go.set()
        first = asyncio.create_task(threads.do(gate))
        await gate.reached()
        second = asyncio.create_task(threads.do(withdrawn))
        third = asyncio.create_task(threads.do(certain, certain=True))
        await asyncio.sleep(0)
        second.cancel()
        third.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert not third.done()
        gate.go.set()
        assert await first == "done"
        with pytest.raises(asyncio.CancelledError):
            await third
        assert (withdrawn.calls, certain.calls) == (0, 1)

    asyncio.run(use())


def test_call_that_has_begun_is_awaited_and_undone() -> None:
    async def use() -> None:
        threads, gate = Threads(), Gate()
        undone: list[str] = []
        hurried: list[bool] = []

        def hurry() -> None:
            hurried.append(gate.go.is_set())
            gate.go.set()

        task = asyncio.create_task(threads.do(gate, undo=undone.append, hurry=hurry))
        await gate.reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (undone, hurried) == (["done"], [False])

    asyncio.run(use())


def test_second_cancellation_does_not_cut_the_undoing_short() -> None:
    async def use() -> None:
        threads, gate, back = Threads(), Gate(), Gate()
        task = asyncio.create_task(threads.do(gate, undo=lambda _: back()))
        await gate.reached()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        gate.go.set()
        await back.reached()
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
        back.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(use())


def test_cancellation_at_the_moment_of_the_result_undoes_it() -> None:
    async def use() -> None:
        threads = Threads()
        undone: list[str] = []
        task = asyncio.create_task(threads.do(lambda: "result", undo=undone.append))
        await asyncio.sleep(0)
        await threads.do(int)
        # By now the result is there, and the task has not been told.
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            assert undone == ["result"]
        else:
            assert undone == []

    for _ in range(50):
        asyncio.run(use())


def test_undoing_that_fails_is_told_of() -> None:
    async def use() -> None:
        threads, gate = Threads(), Gate()

        def fail(_: str) -> NoReturn:
            raise OSError("no way back")

        task = asyncio.create_task(threads.do(gate, undo=fail))
        await gate.reached()
        task.cancel()
        gate.go.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.__notes__ == ["while cleaning up: no way back"]

    asyncio.run(use())


def test_call_that_fails_after_its_cancellation_is_told_of() -> None:
    complaints: list[object] = []

    async def use() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context)
        )
        threads, gate = Threads(), Gate()

        def fail() -> NoReturn:
            gate()
            raise OSError("no way on")

        task = asyncio.create_task(threads.do(fail))
        await gate.reached()
        task.cancel()
        gate.go.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.__notes__ == ["meanwhile: no way on"]

    asyncio.run(use())
    gc.collect()
    assert complaints == []


def test_where_no_thread_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    async def use() -> None:
        threads, gate = Threads(2), Gate()
        first = asyncio.create_task(threads.do(gate))
        await gate.reached()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            # The one that is there does it when it has the time.
            second = asyncio.create_task(threads.do(int))
            await asyncio.sleep(0)
            gate.go.set()
            assert list(await asyncio.gather(first, second)) == ["done", 0]
            alone = Threads()
            with pytest.raises(RuntimeError, match="start new thread"):
                await alone.do(int)
        assert await alone.do(int) == 0

    asyncio.run(use())


def test_loop_that_was_closed_meanwhile() -> None:
    threads, gate = Threads(), Gate()
    loop = asyncio.new_event_loop()
    task = loop.create_task(threads.do(gate))
    loop.run_until_complete(asyncio.sleep(0))
    assert gate.begun.wait(TIMEOUT)
    # As a program does that stops its loop in the middle: nobody is left to hear of it.
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    task.get_coro().close()
    loop.close()
    gate.go.set()

    async def use() -> int:
        return await threads.do(int)

    assert asyncio.run(use()) == 0


def test_settled_waits_however_often_it_is_cancelled() -> None:
    async def use() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(settled(future))
        for _ in range(3):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        future.set_result(None)
        await task

    asyncio.run(use())
