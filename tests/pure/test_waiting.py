"""The end of a process through its pidfd: ours, somebody else's, reaped or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from libpycontainer import reaping, waiting
from libpycontainer import syscalls as sys_
from libpycontainer.errors import ContainerError

HOLD = "import sys; sys.stdin.read(); "


@contextmanager
def child(code: str = "", *, argv: list[str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until its input ends, and is always reaped."""
    command = argv or [sys.executable, "-S", "-c", HOLD + (code or "pass")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.stdin = None


def started(pid: int) -> int:
    found = waiting.start_time(pid)
    assert found is not None
    return found


def pidfd_of(pid: int) -> sys_.Fd:
    found = waiting.open_pidfd(pid, started(pid))
    assert found is not None
    return found


def test_a_processs_start_time_never_changes_and_tells_two_apart() -> None:
    mine = started(os.getpid())
    assert mine == started(os.getpid())
    assert started(1) <= mine


def test_a_name_that_looks_like_fields_does_not_confuse(tmp_path: str) -> None:
    program = os.path.join(tmp_path, ") S 1 2 3 (")
    os.symlink("/bin/cat", program)
    with child(argv=[program]) as process, pidfd_of(process.pid):
        assert waiting.is_alive(process.pid, started(process.pid))
        assert started(process.pid) >= started(os.getpid())


def test_a_process_is_alive_until_it_ends_also_as_a_zombie() -> None:
    with child() as process, pidfd_of(process.pid) as pidfd:
        since = started(process.pid)
        assert waiting.is_alive(process.pid, since)
        assert not waiting.is_alive(process.pid, since + 1)
        end(process)
        assert reaping.wait_readable(pidfd.fileno(), 30)
        assert not waiting.is_alive(process.pid, since)
        # A zombie still has its number: the pidfd can be had.
        pidfd_of(process.pid).close()
        process.wait()
        assert waiting.start_time(process.pid) is None
        assert waiting.open_pidfd(process.pid, since) is None


def test_whether_a_program_was_executed_is_seen_until_the_process_is_reaped() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    forked = waiting.Identity(child, started(child))
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not waiting.has_executed(forked)
    # Another process that had this number: nobody can tell any more.
    assert waiting.has_executed(waiting.Identity(child, forked.start_time + 1))
    os.waitpid(child, 0)
    assert waiting.has_executed(forked)
    with subprocess.Popen(["true"]) as process:
        executed = waiting.Identity(process.pid, started(process.pid))
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert waiting.has_executed(executed)


def test_a_number_that_came_to_mean_another_process_gives_no_pidfd() -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert waiting.open_pidfd(os.getpid(), started(os.getpid()) + 1) is None
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_waiting_ends_when_the_time_is_up(timeout: float) -> None:
    with child() as process, pidfd_of(process.pid) as pidfd:
        before = time.monotonic()
        assert not reaping.wait_readable(pidfd.fileno(), timeout)
        assert time.monotonic() - before >= timeout


@pytest.mark.parametrize("timeout", [None, 30, 1e7, 1e12, float("inf")])
def test_waiting_ends_with_the_process_however_long_it_may_take(timeout: float | None) -> None:
    with child() as process, pidfd_of(process.pid) as pidfd:
        end(process)
        assert reaping.wait_readable(pidfd.fileno(), timeout)


def test_a_signal_handler_does_not_shorten_the_wait() -> None:
    hits: list[int] = []
    previous = signal.signal(signal.SIGALRM, lambda number, _frame: hits.append(number))
    try:
        with child() as process, pidfd_of(process.pid) as pidfd:
            signal.setitimer(signal.ITIMER_REAL, 0.005)
            before = time.monotonic()
            assert not reaping.wait_readable(pidfd.fileno(), 0.03)
            assert time.monotonic() - before >= 0.03
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert hits == [signal.SIGALRM]


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("pass", 0),
        ("sys.exit(7)", 7),
        ("sys.exit(255)", 255),
        ("import os; os.kill(os.getpid(), 15)", -15),
        ("import os; os.kill(os.getpid(), 9)", -9),
    ],
)
@pytest.mark.parametrize("whose", ["ours", "somebody else's"])
def test_an_exit_code_is_subprocesss(code: str, wanted: int, whose: str) -> None:
    with child(code) as process, pidfd_of(process.pid) as pidfd:
        identity = waiting.Identity(process.pid, started(process.pid))
        end(process)
        reaping.wait_readable(pidfd.fileno(), 30)
        assert waiting.exit_code(pidfd.fileno(), identity) == wanted
        process.wait()


@pytest.mark.parametrize("is_child", [True, False])
def test_an_exit_code_that_somebody_else_reaped_is_told_or_said_to_be_lost(is_child: bool) -> None:
    with child("sys.exit(7)") as process, pidfd_of(process.pid) as pidfd:
        identity = waiting.Identity(process.pid, started(process.pid))
        end(process)
        assert process.wait() == 7
        if sys_kernel() >= (6, 15):
            assert waiting.exit_code(pidfd.fileno(), identity) == 7
        else:
            with pytest.raises(ContainerError, match="reaped"):
                waiting.exit_code(pidfd.fileno(), identity)


def sys_kernel() -> tuple[int, ...]:
    return tuple(map(int, os.uname().release.split(".")[:2]))


def test_the_processes_of_a_pid_namespace_are_listed_in_order() -> None:
    with child() as process:
        found = waiting.pids_in_namespace_of(os.getpid())
        assert {os.getpid(), process.pid} <= set(found)
        assert found == sorted(found)
    assert waiting.pids_in_namespace_of(process.pid) == []
