"""libpycontainer.aio: whatever is cancelled, wherever it is, has left nothing when it is over."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from libpycontainer import aio
from tests import ways
from tests.privileged.support import FOREVER, TIMEOUT, Gate, groups_left, hook, sh

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

MANY = 100
Way = Callable[["asyncio.Task[Any]", Any], None]
Life = Callable[[aio.Factory, "Bundle"], Coroutine[Any, Any, None]]


@pytest.fixture
def factory(state_root: str, workspace: Path) -> Iterator[aio.Factory]:
    warm = os.environ.get("LPC_TEST_WARM") == "1"
    parent = ways.cgroup(workspace.name)
    factory = aio.Factory(root=state_root, cgroup_parent=parent, warm=warm)
    yield factory
    factory.sync.close()


def create(factory: aio.Factory, bundle: Bundle, id: str = "one", **options: Any) -> Any:
    for name in ("stdin", "stdout", "stderr"):
        options.setdefault(name, lc.DEVNULL)
    return factory.create(id, bundle.config, bundle=bundle, **options)


def children() -> set[int]:
    """This program's children, zombies too; by their own account, as its threads come and go."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path("/proc", name, "stat").read_text(errors="replace")
        except OSError:
            continue
        if int(stat.rpartition(") ")[2].split()[1]) == os.getpid():
            found.add(int(name))
    return found


async def nothing_is_left(factory: aio.Factory, bundle: Bundle, before: set[int]) -> None:
    assert await factory.list() == []
    assert children() - before == set()
    assert groups_left(bundle.linux["cgroupsPath"]) == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


# ---- at every place where something is awaited ---------------------------------------------------


def at_once(task: asyncio.Task[Any], future: Any) -> None:
    """Cancelled as soon as it has begun to wait."""
    asyncio.get_running_loop().call_soon(task.cancel)


def in_the_middle(task: asyncio.Task[Any], future: Any) -> None:
    """Cancelled when a thread is likely to be in the middle of the call that is awaited."""
    asyncio.get_running_loop().call_later(0.004, task.cancel)


def too_late(task: asyncio.Task[Any], future: Any) -> None:
    """Cancelled when what it waits for has happened, but before it is told."""
    if future is None:
        task.cancel()
    else:
        future.add_done_callback(lambda _: task.cancel())


def twice(task: asyncio.Task[Any], future: Any) -> None:
    """Cancelled once more while it cleans up."""
    asyncio.get_running_loop().call_soon(task.cancel)
    asyncio.get_running_loop().call_later(0.003, task.cancel)


class Counted:
    """A coroutine whose task is cancelled when it awaits something for the ``at``-th time."""

    def __init__(self, inner: Coroutine[Any, Any, None], at: int, way: Way) -> None:
        self.inner = inner
        self.at = at
        self.way = way
        self.count = 0

    def begin(self) -> asyncio.Task[None]:
        async def outer() -> None:
            await self._drive()

        return asyncio.create_task(outer())

    @types.coroutine
    def _drive(self) -> Generator[Any, Any, None]:
        step: Callable[[], Any] = lambda: self.inner.send(None)  # noqa: E731
        while True:
            try:
                future = step()
            except StopIteration:
                return
            self.count += 1
            if self.count == self.at:
                task = asyncio.current_task()
                assert task is not None
                self.way(task, future)
            try:
                yield future
                step = lambda: self.inner.send(None)  # noqa: E731
            except BaseException as error:
                step = lambda error=error: self.inner.throw(error)  # type: ignore[misc] # noqa: E731


async def whole_life(factory: aio.Factory, bundle: Bundle) -> None:
    async with create(factory, bundle, stdin=lc.PIPE, stdout=lc.PIPE) as container:
        await container.start()
        process = container.process
        process.stdin.write(b"hello\n")
        await process.stdin.drain()
        assert await process.stdout.readline() == b"hello\n"
        async with container.exec(lc.Process(["cat"], stdin=lc.PIPE, stdout=lc.PIPE)) as cat:
            assert (await cat.communicate(b"x"))[0] == b"x"
        await container.pause()
        await container.resume()
        await container.stats()
        async with container.events(interval=0.01) as events:
            assert (await events.get()) is not None
        await container.signal(signal.SIGKILL)
        assert await container.wait() == -signal.SIGKILL


async def one_run(factory: aio.Factory, bundle: Bundle) -> None:
    config = {**bundle.config, "process": {**bundle.process, "args": ["echo", "x"]}}
    async with factory.run("one", config, bundle=bundle, stdout=lc.PIPE) as container:
        assert container.process is not None
        assert (await container.process.communicate())[0] == b"x\n"
    done = await aio.run(["cat"], input=b"x", capture_output=True, factory=factory)
    assert done.stdout == b"x"


@pytest.mark.parametrize("way", [at_once, in_the_middle, too_late, twice])
@pytest.mark.parametrize("life", [whole_life, one_run])
def test_wherever_it_is_cancelled(
    factory: aio.Factory, bundle: BundleMaker, life: Life, way: Way
) -> None:
    one = bundle(["cat"])

    async def count() -> int:
        counted = Counted(life(factory, one), 0, way)
        await counted.begin()
        return counted.count

    async def cancel(at: int) -> bool:
        before = children()
        task = Counted(life(factory, one), at, way).begin()
        await asyncio.wait([task])
        await nothing_is_left(factory, one, before)
        # It may come too late: then all was done.
        assert task.cancelled() or task.result() is None
        return task.cancelled()

    async def use() -> None:
        places = await count()
        assert places >= 6
        cancelled = [await cancel(at) for at in range(1, places + 1)]
        assert sum(cancelled) >= len(cancelled) / 4

    asyncio.run(use())


# ---- what a cancellation reaches -----------------------------------------------------------------


def test_run_that_was_cancelled_has_deleted_its_container(factory: aio.Factory) -> None:
    async def use() -> None:
        before = children()

        async def work() -> None:
            try:
                await aio.run(
                    sh("echo up; sleep 1000"), stdout=lc.PIPE, stderr=lc.PIPE, factory=factory
                )
            except asyncio.CancelledError:
                # In this very moment, without another turn of the loop.
                assert factory.sync.list() == []
                assert children() - before == set()
                raise

        task = asyncio.create_task(work())
        while not await factory.list():
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(use())


def test_time_that_is_up_cancels(factory: aio.Factory, bundle: BundleMaker) -> None:
    async def use() -> None:
        before = children()
        one = bundle(FOREVER)

        async def life() -> None:
            async with asyncio.timeout(0.3), create(factory, one) as container:
                await container.start()
                await container.wait()

        with pytest.raises(TimeoutError):
            await life()
        await nothing_is_left(factory, one, before)
        for after in (0.001, 0.01, 0.02, 0.03, 0.05):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(after):
                    await aio.run(["sleep", "1000"], factory=factory)
            await nothing_is_left(factory, one, before)

    asyncio.run(use())


def test_task_group_ends_the_others_when_one_fails(
    factory: aio.Factory, bundle: BundleMaker
) -> None:
    async def life(one: Bundle, number: int, up: asyncio.Barrier) -> None:
        async with create(factory, one, f"c{number}") as container:
            await container.start()
            await up.wait()
            if number == 3:
                raise ValueError("this one")
            await container.wait()

    async def use() -> None:
        before, bundles = children(), [bundle(FOREVER) for _ in range(10)]
        up = asyncio.Barrier(len(bundles))

        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as group:
                for number, one in enumerate(bundles):
                    group.create_task(life(one, number, up))

        with pytest.raises(ExceptionGroup) as caught:
            await all_of_them()
        assert [str(error) for error in caught.value.exceptions] == ["this one"]
        for one in bundles:
            await nothing_is_left(factory, one, before)

    asyncio.run(use())


def test_loop_that_ends_cancels_what_is_left(factory: aio.Factory, bundle: BundleMaker) -> None:
    # asyncio.run cancels every task, also what is in the middle of being made or cleaned up.
    before = children()
    tasks = []

    async def use() -> None:
        for number in range(20):
            work = aio.run(["sleep", "1000"], factory=factory)
            tasks.append(asyncio.create_task(work, name=str(number)))
        await asyncio.sleep(0.15)
        tasks[0].cancel()
        await asyncio.sleep(0.002)

    asyncio.run(use())
    assert all(task.cancelled() for task in tasks)
    assert factory.sync.list() == []
    assert children() - before == set()


def test_what_waits_for_its_turn_is_never_begun(factory: aio.Factory, bundle: BundleMaker) -> None:
    async def use() -> None:
        before, one = children(), bundle(FOREVER)
        with Gate(Path(one.path)) as gate:
            one.config["hooks"] = {"createRuntime": [hook(gate.script())]}
            limited = aio.Factory(root=factory.root, threads=1)
            first = asyncio.create_task(_made(create(limited, one)))
            await asyncio.to_thread(gate.reached)
            tasks = [
                asyncio.create_task(_made(create(limited, bundle(["true"]), f"c{number}")))
                for number in range(MANY)
            ]
            await asyncio.sleep(0)
            started = time.monotonic()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert time.monotonic() - started < 5
            assert [each.id for each in limited.sync.list()] == ["one"]
            first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await nothing_is_left(factory, one, before)

    asyncio.run(use())


async def _made(pending: Any) -> aio.Container:
    container: aio.Container = await pending
    return container


def test_start_that_is_cancelled_kills(factory: aio.Factory, bundle: BundleMaker) -> None:
    # The hook would never end: it waits inside for what nobody says.
    async def use() -> None:
        before, one = children(), bundle(FOREVER)
        script = "echo begun; exec sleep 1000"
        one.config["hooks"] = {"startContainer": [{"path": "/bin/sh", "args": sh(script)}]}
        async with create(factory, one) as container:
            starting = asyncio.create_task(container.start())
            while len(await container.processes()) < 2:
                await asyncio.sleep(0.005)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                async with asyncio.timeout(TIMEOUT):
                    await starting
            assert container.status == "stopped"
            assert await container.wait(TIMEOUT) == -signal.SIGKILL
        await nothing_is_left(factory, one, before)

    asyncio.run(use())


def test_end_of_a_block_frees_a_thread_that_its_container_holds(
    factory: aio.Factory, bundle: BundleMaker
) -> None:
    # The only thread there is starts a container whose hook waits for ever.
    async def use() -> None:
        before, one = children(), bundle(FOREVER)
        one.config["hooks"] = {
            "startContainer": [{"path": "/bin/sh", "args": sh("exec sleep 1000")}]
        }
        limited = aio.Factory(root=factory.root, threads=1)
        async with asyncio.timeout(TIMEOUT):
            async with create(limited, one) as container:
                starting = asyncio.create_task(container.start())
                while len(container.sync.processes()) < 2:
                    await asyncio.sleep(0.005)
            with pytest.raises(lc.ContainerError):
                await starting
        await nothing_is_left(factory, one, before)

    asyncio.run(use())


def test_delete_that_is_cancelled_is_done(factory: aio.Factory, bundle: BundleMaker) -> None:
    async def use() -> None:
        before, one = children(), bundle(FOREVER)
        container = await create(factory, one)
        await container.start()
        deleting = asyncio.create_task(container.delete(force=True))
        await asyncio.sleep(0)
        deleting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await deleting
        await nothing_is_left(factory, one, before)

    asyncio.run(use())
