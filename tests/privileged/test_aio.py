"""libpycontainer.aio: containers from an event loop, without a thread for any of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from libpycontainer import aio
from tests import ways
from tests.privileged.support import FOREVER, TIMEOUT, groups_left, sh

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

CROWD = 200


@pytest.fixture
def factory(state_root: str, workspace: Any) -> Iterator[aio.Factory]:
    """A factory on the test's own state root; ``aio.run``'s groups get a name of this run's."""
    warm = os.environ.get("LPC_TEST_WARM") == "1"
    parent = ways.cgroup(workspace.name)
    factory = aio.Factory(root=state_root, cgroup_parent=parent, warm=warm)
    yield factory
    factory.sync.close()


def create(factory: aio.Factory, bundle: Bundle, id: str = "one", **options: Any) -> Any:
    for name in ("stdin", "stdout", "stderr"):
        options.setdefault(name, lc.DEVNULL)
    return factory.create(id, bundle.config, bundle=bundle, **options)


def test_life_of_a_container(factory: aio.Factory, bundle: BundleMaker) -> None:
    async def use() -> None:
        one = bundle(sh("read line; exit 7"))
        async with create(factory, one, stdin=lc.PIPE) as container:
            assert (container.id, container.status) == ("one", "created")
            await container.start()
            assert container.status == "running"
            assert (await container.state())["status"] == "running"
            assert [container.process.returncode] == [None]
            container.process.stdin.write(b"\n")
            assert await container.wait() == 7
            assert await container.wait(timeout=0) == 7
            assert (container.process.returncode, container.status) == (7, "stopped")
            assert "one" in repr(container)
        assert await factory.list() == []
        assert groups_left(one.linux["cgroupsPath"]) == []

    asyncio.run(use())


def test_container_that_is_awaited_is_the_callers_to_delete(
    factory: aio.Factory, bundle: BundleMaker
) -> None:
    async def use() -> None:
        container = await create(factory, bundle(FOREVER))
        await container.start()
        with pytest.raises(lc.StatusError):
            await container.delete()
        # The refusal has not cost it its ending.
        await container.signal(signal.SIGKILL)
        assert await container.wait(TIMEOUT) == -signal.SIGKILL
        await container.delete()
        async with await create(factory, bundle(FOREVER)) as second:
            await second.start()
        assert await factory.list() == []

    asyncio.run(use())


def test_program_is_spoken_to_through_streams(factory: aio.Factory, bundle: BundleMaker) -> None:
    async def use() -> None:
        options: dict[str, Any] = {"stdin": lc.PIPE, "stdout": lc.PIPE, "stderr": lc.PIPE}
        one = bundle(sh("while read line; do echo got $line; done; echo over >&2"))
        async with create(factory, one, **options) as container:
            await container.start()
            process = container.process
            for word in (b"one", b"two"):
                process.stdin.write(word + b"\n")
                await process.stdin.drain()
                assert await process.stdout.readline() == b"got " + word + b"\n"
            process.stdin.close()
            await process.stdin.wait_closed()
            assert await process.stderr.read() == b"over\n"
            assert await process.wait() == 0

    asyncio.run(use())


def test_communicate_feeds_and_drains_at_once(factory: aio.Factory, bundle: BundleMaker) -> None:
    data = bytes(range(256)) * 16384

    async def use() -> None:
        options: dict[str, Any] = {"stdin": lc.PIPE, "stdout": lc.PIPE, "stderr": lc.PIPE}
        one = bundle(sh("tee /proc/self/fd/2"))
        async with create(factory, one, **options) as container:
            await container.start()
            assert await container.process.communicate(data, TIMEOUT) == (data, data)
            assert await container.process.communicate() == (data, data)
        # Nobody reads it, and nobody minds.
        async with create(factory, bundle(["true"]), stdin=lc.PIPE) as container:
            await container.start()
            assert await container.process.communicate(data, TIMEOUT) == (None, None)

    asyncio.run(use())


def test_communicate_that_was_given_up_goes_on_where_it_was(
    factory: aio.Factory, bundle: BundleMaker
) -> None:
    async def use() -> None:
        one = bundle(sh("echo early; read line; echo late; exit 3"))
        async with create(factory, one, stdin=lc.PIPE, stdout=lc.PIPE) as container:
            await container.start()
            process = container.process
            first = await process.stdout.readexactly(3)
            async with container.exec(
                lc.Process(sh("echo begun; sleep 0.4; echo done"), stdout=lc.PIPE)
            ) as other:
                with pytest.raises(lc.TimeoutExpired) as caught:
                    await other.communicate(timeout=0.1)
                assert (caught.value.timeout, caught.value.output) == (0.1, b"begun\n")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await other.communicate()
                assert (await other.communicate())[0] == b"begun\ndone\n"
            out, _ = await process.communicate(b"\n")
            assert (first + out, process.returncode) == (b"early\nlate\n", 3)

    asyncio.run(use())


def test_run_has_the_manners_of_lc_run(factory: aio.Factory) -> None:
    async def use() -> None:
        run = _runner(factory)
        done = await run(sh("echo out; echo err >&2; exit 3"), capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
        done = await run(["cat"], input="téxt", capture_output=True, text=True)
        assert done.stdout == "téxt"
        with pytest.raises(lc.CalledProcessError) as failed:
            await run(["false"], check=True)
        assert failed.value.returncode == 1
        with pytest.raises(lc.ExecutableError):
            await run(["no-such-program"])
        with pytest.raises(ValueError, match="capture_output"):
            await run(["true"], stdout=lc.PIPE, capture_output=True)
        with pytest.raises(TypeError, match="no_such_option"):
            await run(["true"], no_such_option=1)
        assert await factory.list() == []

    asyncio.run(use())


def _runner(factory: aio.Factory) -> Callable[..., Awaitable[lc.CompletedProcess]]:
    def run(args: list[str], **options: Any) -> Awaitable[lc.CompletedProcess]:
        return aio.run(args, factory=factory, **options)

    return run


def test_run_without_a_factory_has_one_for_all() -> None:
    async def use() -> None:
        before = threading.active_count()
        steady = Steady()
        runs = (aio.run(["echo", str(n)], capture_output=True, text=True) for n in range(24))
        done = await asyncio.gather(*runs)
        assert [each.stdout for each in done] == [f"{n}\n" for n in range(24)]
        assert steady.stop() <= before + 8

    asyncio.run(use())


def test_run_kills_at_the_timeout_and_keeps_the_output(factory: aio.Factory) -> None:
    async def use() -> None:
        with pytest.raises(lc.TimeoutExpired) as caught:
            await aio.run(
                sh("echo early; sleep 1000"),
                timeout=0.3,
                capture_output=True,
                text=True,
                factory=factory,
            )
        assert (caught.value.timeout, caught.value.output) == (0.3, "early\n")
        assert await factory.list() == []

    asyncio.run(use())


def test_wait_that_is_given_up_changes_nothing(factory: aio.Factory, bundle: BundleMaker) -> None:
    async def use() -> None:
        async with create(factory, bundle(FOREVER)) as container:
            await container.start()
            with pytest.raises(lc.TimeoutExpired):
                await container.wait(timeout=0.05)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await container.wait()
            waiters = [asyncio.create_task(container.wait()) for _ in range(5)]
            waiters[0].cancel()
            await asyncio.sleep(0)
            assert container.status == "running"
            container.process.terminate()
            await container.signal(signal.SIGKILL)
            assert await asyncio.gather(*waiters[1:]) == [-signal.SIGKILL] * 4

    asyncio.run(use())


def test_many_processes_in_one_container(factory: aio.Factory, bundle: BundleMaker) -> None:
    async def one(container: aio.Container, number: int) -> tuple[bytes | None, int | None]:
        process = lc.Process(sh(f"echo {number}; exit {number}"), stdout=lc.PIPE, stdin=lc.DEVNULL)
        async with container.exec(process) as running:
            out, _ = await running.communicate(timeout=TIMEOUT)
            return out, running.returncode

    async def use() -> None:
        async with create(factory, bundle(FOREVER)) as container:
            await container.start()
            found = await asyncio.gather(*(one(container, number) for number in range(40)))
            assert found == [(f"{number}\n".encode(), number) for number in range(40)]
            with pytest.raises(lc.ExecutableError):
                await container.exec(lc.Process(["no-such-program"]))

    asyncio.run(use())


def test_block_of_a_process_ends_it(factory: aio.Factory, bundle: BundleMaker) -> None:
    async def use() -> None:
        async with create(factory, bundle(FOREVER)) as container:
            await container.start()
            before = await container.processes()
            async with container.exec(lc.Process(FOREVER, stdin=lc.DEVNULL)) as process:
                assert len(await container.processes()) == len(before) + 1
                assert str(process.pid) in repr(process)
            assert process.returncode == -signal.SIGKILL
            assert await container.processes() == before

    asyncio.run(use())


def test_init_ends_also_beside_processes_that_nobody_holds(
    factory: aio.Factory, bundle: BundleMaker
) -> None:
    # An init is not gone before what exec has started was reaped, and that is this program's child.
    async def use() -> None:
        async with create(factory, bundle(FOREVER)) as container:
            await container.start()
            waiting = asyncio.create_task(container.wait())
            await asyncio.sleep(0)
            dropped = await container.exec(lc.Process(FOREVER, stdin=lc.DEVNULL))
            dropped.close()
            by_thread = await asyncio.to_thread(
                container.sync.exec, lc.Process(FOREVER, stdin=lc.DEVNULL)
            )
            by_thread.close()
            held = await container.exec(lc.Process(FOREVER, stdin=lc.DEVNULL))
            container.process.kill()
            async with asyncio.timeout(TIMEOUT):
                assert await waiting == -signal.SIGKILL
                assert await held.wait() == -signal.SIGKILL
            held.close()

    asyncio.run(use())


def test_verbs_that_change_and_look(factory: aio.Factory, bundle: BundleMaker) -> None:
    async def use() -> None:
        async with create(factory, bundle(FOREVER)) as container:
            await container.start()
            await container.pause()
            assert container.status == "paused"
            await container.resume()
            await container.update(pids=50)
            stats = await container.stats()
            assert stats.pids is not None
            assert stats.pids.limit == 50
            assert container.spec.linux is not None
            assert container.pid in await container.processes()
            assert container.process.pid == container.pid
            assert await container.children() == []
            assert await container.parent() is None
            assert (await factory.plan("x", bundle(["true"]).config)) is not None

    asyncio.run(use())


def test_container_of_somebody_else_is_waited_for(
    factory: aio.Factory, bundle: BundleMaker
) -> None:
    async def use() -> None:
        async with create(factory, bundle(sh("read line; exit 5")), stdin=lc.PIPE) as container:
            await container.start()
            other = await factory.load("one")
            assert [each.id for each in await factory.list()] == ["one"]
            waiting = asyncio.create_task(other.wait())
            await asyncio.sleep(0)
            container.process.stdin.write(b"\n")
            assert list(await asyncio.gather(waiting, container.wait())) == [5, 5]
            assert other.process is not None
            other.process.close()
        with pytest.raises(lc.NotFoundError):
            await factory.load("one")

    asyncio.run(use())


def test_group_is_entered_and_left(factory: aio.Factory, bundle: BundleMaker) -> None:
    async def use() -> None:
        place = bundle().linux["cgroupsPath"]
        async with factory.group("job", pids=100, cgroups_path=place) as job:
            config = bundle(FOREVER).config
            del config["linux"]["cgroupsPath"]
            quiet = dict.fromkeys(("stdin", "stdout", "stderr"), lc.DEVNULL)
            made = [factory.run(f"job/{n}", config, **quiet) for n in range(3)]
            inner = await asyncio.gather(*made)
            assert [each.id for each in await job.children()] == ["job/0", "job/1", "job/2"]
            parent = await inner[0].parent()
            assert parent is not None
            assert (job.is_group, parent.id) == (True, "job")
            with pytest.raises(lc.StatusError):
                await job.wait()
            await job.signal(signal.SIGKILL)
            assert [await each.wait() for each in inner] == [-signal.SIGKILL] * 3
        assert await factory.list() == []
        for each in inner:
            assert each.process is not None
            each.process.close()

    asyncio.run(use())


def test_events_come_as_they_happen(factory: aio.Factory, bundle: BundleMaker) -> None:
    async def use() -> None:
        async with create(factory, bundle(FOREVER)) as container:
            await container.start()
            async with container.events(interval=None) as silent:
                with pytest.raises(TimeoutError):
                    await silent.get(timeout=0.05)
                waiting = asyncio.create_task(silent.get())
                await asyncio.sleep(0.02)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                container.process.kill()
                assert await silent.get(TIMEOUT) is None

    asyncio.run(use())


def test_events_end_with_the_container(factory: aio.Factory, bundle: BundleMaker) -> None:
    async def use() -> None:
        async with create(factory, bundle(FOREVER)) as container:
            await container.start()
            seen = []
            async for event in container.events(interval=0.05):
                seen.append(event.type)
                if len(seen) == 3:
                    container.process.kill()
            assert seen[:3] == ["stats"] * 3
            with pytest.raises(lc.StatusError):
                container.events()

    asyncio.run(use())


@pytest.mark.privileged_caller("the memory controller may not be the user's")
def test_event_of_memory_that_ran_out(factory: aio.Factory, bundle: BundleMaker) -> None:
    eat = "sleep 0.3; x=$(head -c 64000000 /dev/zero | tr '\\0' x); true"

    def limited(config: dict[str, Any]) -> None:
        config["linux"]["resources"]["memory"] = {"limit": 16 << 20}

    async def use() -> list[str]:
        async with create(factory, bundle(sh(eat), edit=limited)) as container:
            await container.start()
            return [event.type async for event in container.events(interval=None)]

    assert "oom" in asyncio.run(use())


class Steady:
    """How many threads there were at most, looked at whenever the loop turns."""

    def __init__(self) -> None:
        self.most = 0
        self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            self.most = max(self.most, threading.active_count())
            await asyncio.sleep(0.005)

    def stop(self) -> int:
        self._task.cancel()
        return self.most


@pytest.mark.timeout(300)
def test_two_hundred_containers_from_one_loop(factory: aio.Factory, bundle: BundleMaker) -> None:
    one = bundle()
    place = one.linux.pop("cgroupsPath")

    async def life(number: int, all_up: asyncio.Barrier) -> tuple[bytes, bytes, int]:
        pipes = {"stdin": lc.PIPE, "stdout": lc.PIPE, "stderr": lc.DEVNULL}
        config = {**one.config, "process": {**one.process, "args": sh(script(number))}}
        async with factory.create(f"job/{number}", config, bundle=one, **pipes) as container:
            await container.start()
            process = container.process
            assert process is not None
            assert process.stdin is not None
            assert process.stdout is not None
            up = await process.stdout.readline()
            await all_up.wait()
            out, _ = await process.communicate(f"{number}\n".encode())
            assert out is not None
            return up, out, await container.wait()

    def script(number: int) -> str:
        return f"echo up; read line; echo $((line * 2)); exit {number % 100}"

    async def use() -> None:
        before = threading.active_count()
        steady = Steady()
        async with factory.group("job", cgroups_path=place) as job:
            all_up = asyncio.Barrier(CROWD + 1)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(life(n, all_up)) for n in range(CROWD)]
                await all_up.wait()
            assert await job.children() == []
        found = [task.result() for task in tasks]
        assert found == [(b"up\n", f"{n * 2}\n".encode(), n % 100) for n in range(CROWD)]
        assert steady.stop() <= before + factory._threads.limit <= before + 8
        assert asyncio.get_running_loop()._default_executor is None  # type: ignore[attr-defined]

    asyncio.run(use())


def test_threads_end_with_the_work(factory: aio.Factory, bundle: BundleMaker) -> None:
    async def use() -> None:
        before = threading.active_count()
        async with create(factory, bundle(FOREVER)) as container:
            await container.start()
            deadline = time.monotonic() + TIMEOUT
            while threading.active_count() > before:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)

    asyncio.run(use())


@pytest.mark.parametrize(
    "watcher", ["FastChildWatcher", "SafeChildWatcher", "PidfdChildWatcher", "ThreadedChildWatcher"]
)
def test_beside_a_watcher_of_children(
    factory: aio.Factory, bundle: BundleMaker, watcher: str
) -> None:
    if not hasattr(asyncio, watcher):
        pytest.skip("this Python has no such watcher")

    async def use() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            policy, watching = asyncio.get_event_loop_policy(), getattr(asyncio, watcher)()
            watching.attach_loop(asyncio.get_running_loop())
            policy.set_child_watcher(watching)
        try:
            for _ in range(3):
                async with create(factory, bundle(sh("exit 6"))) as container:
                    child = await asyncio.create_subprocess_exec("sh", "-c", "exit 8")
                    await container.start()
                    assert list(await asyncio.gather(container.wait(), child.wait())) == [6, 8]
        finally:
            watching.close()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                policy.set_child_watcher(None)  # type: ignore[arg-type]

    asyncio.run(use())


@pytest.fixture(scope="module")
def another_loop() -> Any:
    """A maker of uvloop's loops, whose library keeps a pipe of its own from the first one on."""
    uvloop = pytest.importorskip("uvloop")
    uvloop.new_event_loop().close()
    return uvloop.new_event_loop


def test_on_another_kind_of_loop(
    factory: aio.Factory, bundle: BundleMaker, another_loop: Any
) -> None:
    async def use() -> None:
        data = b"x" * 300_000
        done = await aio.run(["cat"], input=data, capture_output=True, factory=factory)
        assert done.stdout == data
        async with create(factory, bundle(FOREVER), stdout=lc.PIPE) as container:
            await container.start()
            async with container.exec(lc.Process(["cat"], stdin=lc.PIPE, stdout=lc.PIPE)) as cat:
                assert (await cat.communicate(data))[0] == data
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await container.wait()
            container.process.kill()
            assert await container.wait() == -signal.SIGKILL

    with asyncio.Runner(loop_factory=another_loop) as runner:
        runner.run(use())


def test_one_factory_serves_several_loops(factory: aio.Factory, bundle: BundleMaker) -> None:
    errors: list[BaseException] = []

    async def use(number: int) -> None:
        for turn in range(3):
            id = f"c{number}-{turn}"
            async with create(factory, bundle(sh(f"exit {number}")), id) as container:
                await container.start()
                assert await container.wait() == number

    def loop(number: int) -> None:
        try:
            asyncio.run(use(number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_it_is_loaded_when_it_is_first_named() -> None:
    code = (
        "import sys, libpycontainer as lc; assert 'asyncio' not in sys.modules; print(lc.aio.run)"
    )
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert "function run" in done.stdout, done.stderr
