"""lc.Pool: an executor like the others, whose workers are containers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import libpycontainer as lc
from tests.privileged import callables
from tests.privileged.support import REPOSITORY, TIMEOUT, children


@pytest.fixture
def root(state_root: str) -> Iterator[lc.Factory]:
    """A factory whose containers are the test's own; none may be left."""
    factory = lc.Factory(state_root)
    yield factory
    assert factory.list() == []
    assert children() == set()


def test_it_is_an_executor(root: lc.Factory) -> None:
    with lc.Pool(2, factory=root) as pool:
        assert isinstance(pool, concurrent.futures.Executor)
        future = pool.submit(callables.add, 1, right=2)
        assert isinstance(future, concurrent.futures.Future)
        assert future.result(TIMEOUT) == 3
        assert list(pool.map(callables.add, range(20), range(20))) == list(range(0, 40, 2))
        done, left = concurrent.futures.wait([pool.submit(os.getpid) for _ in range(4)], TIMEOUT)
        assert not left
        assert {each.result() for each in done} == {1}
        assert len(root.list()) <= 2
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(os.getpid)


def test_an_event_loop_may_use_it(root: lc.Factory) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        with lc.Pool(2, factory=root) as pool:
            calls = [loop.run_in_executor(pool, callables.add, number) for number in range(4)]
            return list(await asyncio.gather(*calls))

    assert asyncio.run(main()) == [1, 2, 3, 4]


def test_workers_are_kept_and_apart(root: lc.Factory) -> None:
    with lc.Pool(1, factory=root) as pool:
        first = pool.submit(callables.identity).result(TIMEOUT)
        assert pool.submit(callables.identity).result(TIMEOUT) == first
        pool.submit(callables.leave_file).result(TIMEOUT)
        assert len(pool.submit(callables.leave_file).result(TIMEOUT)) == 2
    with lc.Pool(2, factory=root) as pool:
        list(pool.map(callables.sleep, [0.3, 0.3]))
        assert len(root.list()) == 2


def test_a_task_may_have_a_container_of_its_own(root: lc.Factory) -> None:
    with lc.Pool(2, factory=root, max_tasks_per_worker=1) as pool:
        found = [pool.submit(callables.leave_file) for _ in range(4)]
        assert [len(each.result(TIMEOUT)) for each in found] == [1, 1, 1, 1]
    with lc.Pool(1, factory=root, max_tasks_per_worker=2) as pool:
        seen = [len(pool.submit(callables.leave_file).result(TIMEOUT)) for _ in range(4)]
    assert seen == [1, 2, 1, 2]


def test_exceptions_are_the_futures(root: lc.Factory) -> None:
    with lc.Pool(1, factory=root) as pool:
        failed = pool.submit(callables.raise_value_error).exception(TIMEOUT)
        assert isinstance(failed, ValueError)
        assert isinstance(failed.__cause__, lc.RemoteTraceback)
        assert 'raise ValueError("two", 2)' in str(failed.__cause__)
        assert "calling/inside.py" not in str(failed.__cause__)
        told = pool.submit(callables.raise_own).exception(TIMEOUT)
        assert isinstance(told, lc.CallError)
        assert isinstance(pool.submit(callables.echo, object).exception(TIMEOUT), TypeError)
        unsent = pool.submit(callables.echo, threading.Lock()).exception(TIMEOUT)
        assert isinstance(unsent, lc.ArgumentError)
        with pytest.raises(ValueError, match="two"):
            list(pool.map(lambda_free_failure, [1]))
        assert pool.submit(callables.add, 1).result(TIMEOUT) == 2


def lambda_free_failure(_: int) -> None:
    callables.raise_value_error()


def test_a_worker_that_dies_fails_its_future_alone(root: lc.Factory) -> None:
    with lc.Pool(2, factory=root, memory="128M") as pool:
        futures = [
            pool.submit(function, argument)
            for _ in range(3)
            for function, argument in (
                (callables.exit_with, 7),
                (callables.add, 1),
                (callables.eat_memory, 1 << 29),
                (callables.kill_self, int(signal.SIGTERM)),
                (callables.add, 2),
            )
        ]
        results = [each.exception(TIMEOUT) or each.result() for each in futures]
    for dead, one, eaten, killed, two in zip(*[iter(results)] * 5, strict=True):
        assert (one, two) == (2, 3)
        assert isinstance(dead, lc.CallDiedError)
        assert dead.returncode == 7
        assert isinstance(eaten, lc.CallDiedError)
        assert eaten.out_of_memory
        assert isinstance(killed, lc.CallDiedError)
        assert killed.returncode == -signal.SIGSEGV


def test_an_idle_worker_that_dies_is_replaced(root: lc.Factory) -> None:
    with lc.Pool(1, factory=root) as pool:
        assert pool.submit(callables.add, 1).result(TIMEOUT) == 2
        (container,) = root.list()
        container.signal(signal.SIGKILL)
        container.wait(TIMEOUT)
        assert pool.submit(callables.add, 2).result(TIMEOUT) == 3


def test_the_interpreter_that_workers_come_from_is_replaced(root: lc.Factory) -> None:
    with lc.Pool(1, factory=root, max_tasks_per_worker=1) as pool:
        assert pool.submit(callables.add, 1).result(TIMEOUT) == 2
        seed = pool._crew.seed.pid
        os.kill(seed, signal.SIGKILL)
        deadline = time.monotonic() + TIMEOUT
        while Path(f"/proc/{seed}/stat").read_text().split()[2] != "Z":
            assert time.monotonic() < deadline
        assert pool.submit(callables.add, 2).result(TIMEOUT) == 3
        assert pool._crew.seed.pid not in (0, seed)


def test_workers_do_not_all_draw_the_same_numbers(root: lc.Factory) -> None:
    with lc.Pool(2, factory=root, max_tasks_per_worker=1) as pool:
        drawn = [pool.submit(callables.draw) for _ in range(5)]
        assert len({each.result(TIMEOUT) for each in drawn}) == 5


def test_a_module_that_cannot_be_loaded_is_told_by_every_future(root: lc.Factory) -> None:
    with lc.Pool(2, factory=root, imports=["no_such_module"]) as pool:
        for future in [pool.submit(callables.add, 1) for _ in range(3)]:
            with pytest.raises(lc.CallError, match=r"cannot load.*no_such_module"):
                future.result(TIMEOUT)


def test_threads_share_a_pool(root: lc.Factory) -> None:
    """With functions of modules that come to be known one after the other."""
    import colorsys
    import statistics
    import string

    functions: list[tuple[Any, Any, Any]] = [
        (callables.add, (1,), 2),
        (colorsys.rgb_to_hsv, (0, 0, 0), (0.0, 0.0, 0)),
        (statistics.median, ([1, 2, 3],), 2),
        (string.capwords, ("a b",), "A B"),
    ]
    failed: list[object] = []

    def work(pool: lc.Pool, first: int) -> None:
        for turn in range(8):
            function, args, wanted = functions[(first + turn) % len(functions)]
            try:
                found = pool.submit(function, *args).result(TIMEOUT)
                if found != wanted:
                    failed.append(found)
            except BaseException as error:
                failed.append(error)

    with lc.Pool(3, factory=root) as pool:
        threads = [threading.Thread(target=work, args=(pool, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []


def test_time_is_counted_by_the_task(root: lc.Factory) -> None:
    with lc.Pool(1, factory=root, timeout=0.5) as pool:
        late = pool.submit(callables.sleep, 1000)
        fine = [pool.submit(callables.sleep, 0.2) for _ in range(4)]
        assert isinstance(late.exception(TIMEOUT), lc.TimeoutExpired)
        assert [each.result(TIMEOUT) for each in fine] == [0.2] * 4


def test_the_initializer_comes_first_in_each_worker(root: lc.Factory) -> None:
    with lc.Pool(
        2,
        factory=root,
        initializer=callables.mark,
        initargs=("begun",),
        max_tasks_per_worker=2,
    ) as pool:
        assert list(pool.map(returns_marks, range(6))) == [["begun"]] * 6
    with lc.Pool(1, factory=root, initializer=callables.fail_to_begin) as pool:
        for _ in range(2):
            failed = pool.submit(callables.add, 1).exception(TIMEOUT)
            assert isinstance(failed, lc.CallError)
            assert failed.words == "no worker"


def returns_marks(_: int) -> list[Any]:
    return callables.marks()


def test_a_function_of_another_module_gets_a_worker_that_knows_it(
    root: lc.Factory, tmp_path: Path
) -> None:
    (tmp_path / "root").mkdir()
    import colorsys

    with lc.Pool(1, factory=root, rootfs=tmp_path / "root") as pool:
        assert pool.submit(callables.add, 1).result(TIMEOUT) == 2
        assert pool.submit(colorsys.rgb_to_hsv, 0, 0, 0).result(TIMEOUT) == (0.0, 0.0, 0)
        first = pool.submit(callables.identity).result(TIMEOUT)
        pool.submit(colorsys.rgb_to_hls, 0, 0, 0).result(TIMEOUT)
        assert pool.submit(callables.identity).result(TIMEOUT) == first


def test_what_waits_can_be_cancelled(root: lc.Factory) -> None:
    pool = lc.Pool(1, factory=root)
    running = pool.submit(callables.sleep, 0.3)
    waiting = [pool.submit(callables.sleep, 1000) for _ in range(3)]
    assert waiting[0].cancel()
    pool.shutdown(cancel_futures=True)
    assert running.result(0) == 0.3
    assert all(each.cancelled() for each in waiting)


def test_shutdown_need_not_wait(root: lc.Factory) -> None:
    pool = lc.Pool(2, factory=root)
    futures = [pool.submit(callables.sleep, 0.2) for _ in range(5)]
    began = time.monotonic()
    pool.shutdown(wait=False)
    assert time.monotonic() - began < 0.2
    assert [each.result(TIMEOUT) for each in futures] == [0.2] * 5
    deadline = time.monotonic() + TIMEOUT
    while not is_gone(pool) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_gone(pool)
    # The thread that has ended it ends as well.
    pool.shutdown()


def is_gone(pool: lc.Pool) -> bool:
    """Looked at while one of the pool's threads may still be ending it."""
    return not pool._crew.factory.list() and pool._crew.seed.pid == 0


def test_a_pool_that_is_dropped_leaves_nothing(root: lc.Factory) -> None:
    pool = lc.Pool(1, factory=root)
    assert pool.submit(callables.add, 1).result(TIMEOUT) == 2
    assert len(root.list()) == 1
    del pool
    gc.collect()
    assert root.list() == []


def test_a_pool_that_is_not_used_makes_nothing(root: lc.Factory) -> None:
    with lc.Pool(8, factory=root):
        assert root.list() == []


PROGRAM = """
import sys
sys.path.insert(0, {repository!r})
import libpycontainer as lc
from tests.privileged import callables
if __name__ == "__main__":
    pool = lc.Pool(2, factory=lc.Factory({root!r}))
    print(list(pool.map(callables.add, range(4))), flush=True)
    {end}
"""


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(3)", "1 / 0", "sys.stdin.read()"])
def test_a_program_that_ends_takes_its_workers_with_it(tmp_path: Path, end: str) -> None:
    root = tmp_path / "state"
    source = PROGRAM.format(repository=str(REPOSITORY), root=str(root), end=end)
    (tmp_path / "program.py").write_text(source)
    with (
        subprocess.Popen(
            [sys.executable, tmp_path / "program.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as program,
        lc.Factory(root) as factory,
    ):
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == b"[1, 2, 3, 4]\n"
        if "stdin" in end:
            left = factory.list()
            assert left
            program.kill()
            program.wait()
            # Nobody can ask them any more, so they end; their names are anybody's to delete.
            for container in left:
                container.wait(TIMEOUT)
                container.delete()
        program.wait(TIMEOUT)
        assert factory.list() == []


def test_a_forked_child_leaves_the_workers_alone(root: lc.Factory) -> None:
    with lc.Pool(1, factory=root) as pool:
        first = pool.submit(callables.identity).result(TIMEOUT)
        pid = os.fork()
        if pid == 0:
            try:
                pool._crew.end()
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert pool.submit(callables.identity).result(TIMEOUT) == first


@pytest.mark.parametrize(
    "options",
    [
        {"max_workers": 0},
        {"max_tasks_per_worker": 0},
        {"stdout": lc.PIPE},
        {"stderr": io.BytesIO()},
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at least 1|streams"):
        lc.Pool(**options)
    for option in ("no_such_option", "capture_output", "text"):
        unknown: dict[str, Any] = {option: 1}
        with pytest.raises(TypeError, match=f"{option}.*: expected .*memory"):
            lc.Pool(1, **unknown)
