"""Feeding and draining a process: a real child on real pipes, but no container around it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from libpycontainer import reaping, waiting
from libpycontainer.errors import ContainerError, TimeoutExpired
from libpycontainer.process import Process
from libpycontainer.streams import PIPE, Streams
from libpycontainer.syscalls import Fd

CAT = "import sys, shutil; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"
BIG = bytes(range(256)) * 8192

Start = Callable[..., Process]


@pytest.fixture
def start() -> Iterator[Start]:
    """``start(code)``: a child that runs Python code, held as a container's process would be."""
    made: list[tuple[Process, subprocess.Popen[bytes]]] = []

    def start(code: str, **streams: int) -> Process:
        wanted = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE, **streams}
        process = Process([code], **wanted)  # type: ignore[arg-type]
        opened = process.open_streams()
        fds = [fd if isinstance(fd, int) else fd.fileno() for fd in _three(opened)]
        stdin, stdout, stderr = fds
        popen = subprocess.Popen(
            [sys.executable, "-c", code], stdin=stdin, stdout=stdout, stderr=stderr
        )
        opened.close_theirs()
        since = waiting.start_time(popen.pid)
        assert since is not None
        identity = waiting.Identity(popen.pid, since)
        process.attach(identity, Fd(os.pidfd_open(popen.pid)), opened)
        opened.close()
        made.append((process, popen))
        return process

    before = sorted(os.listdir("/proc/self/fd"))
    yield start
    for process, popen in made:
        process.close()
        popen.kill()
        popen.wait()
    assert sorted(os.listdir("/proc/self/fd")) == before


def _three(streams: Streams) -> list[Fd | int]:
    return [streams.fds[f"fd:{number}"] for number in range(3)]


def test_what_goes_in_comes_out(start: Start) -> None:
    process = start(CAT)
    assert process.communicate(b"hello", timeout=60) == (b"hello", b"")
    assert process.returncode == 0


def test_input_larger_than_any_pipe_goes_through(start: Start) -> None:
    process = start(CAT + "; sys.stderr.write('x' * 1_000_000)")
    out, err = process.communicate(BIG, timeout=60)
    assert (out == BIG, len(err or b""), process.returncode) == (True, 1_000_000, 0)


def test_without_input_the_process_reads_an_end(start: Start) -> None:
    assert start(CAT).communicate(timeout=60) == (b"", b"")


def test_a_process_that_does_not_read_its_input_is_no_error(start: Start) -> None:
    process = start("import os; os.close(0); print('done')")
    assert process.communicate(BIG, timeout=60)[0] == b"done\n"


def test_a_process_that_ends_without_reading_is_no_error(start: Start) -> None:
    process = start("raise SystemExit(3)")
    process.communicate(BIG, timeout=60)
    assert process.returncode == 3


def test_streams_that_are_no_pipes_give_none(start: Start) -> None:
    process = start("print('x')", stdin=0, stdout=2)
    assert process.communicate(timeout=60) == (None, b"")


def test_what_was_written_before_comes_first(start: Start) -> None:
    process = start(CAT)
    assert process.stdin is not None
    process.stdin.write(b"first ")
    assert process.communicate(b"second", timeout=60)[0] == b"first second"


@pytest.mark.parametrize("close", [False, True], ids=["output open", "output closed"])
def test_a_timeout_has_the_output_so_far_and_leaves_the_process_running(
    close: bool, start: Start
) -> None:
    code = "import os, time; os.write(2, b'err'); os.write(1, b'out')"
    code += "; os.close(1); os.close(2)" if close else ""
    process = start(code + "; time.sleep(60)")
    assert process.stdout is not None
    assert reaping.wait_readable(process.stdout.fileno(), 60)
    with pytest.raises(TimeoutExpired) as caught:
        process.communicate(timeout=0.1)
    assert (caught.value.output, caught.value.stderr) == (b"out", b"err")
    assert (caught.value.stdout, caught.value.timeout) == (b"out", 0.1)
    assert process.poll() is None
    process.kill()
    assert process.wait(60) == -9


WITH_A_GATE = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("a", flush=True)
signal.sigwait([signal.SIGUSR1])
print("b", flush=True)
"""


def test_communicating_again_after_a_timeout_loses_nothing(start: Start) -> None:
    process = start(WITH_A_GATE)
    assert process.stdout is not None
    assert reaping.wait_readable(process.stdout.fileno(), 60)
    with pytest.raises(TimeoutExpired):
        process.communicate(timeout=0.05)
    process.signal(signal.SIGUSR1)
    assert process.communicate(timeout=60) == (b"a\nb\n", b"")


def test_a_process_that_is_not_started_has_nothing_to_tell() -> None:
    process = Process(["true"])
    with pytest.raises(ContainerError, match="not been started"):
        _ = process.pid
    with pytest.raises(ContainerError, match="not been started"):
        process.wait()
    assert (process.returncode, process.console) == (None, None)


def test_polling_sees_the_end(start: Start) -> None:
    process = start("import sys; sys.stdin.read()")
    assert process.poll() is None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0
    assert process.poll() == process.returncode == 0
    process.kill()
    with pytest.raises(ProcessLookupError):
        process.signal(15)


def test_a_handle_can_be_selected_on_and_closed_twice(start: Start) -> None:
    process = start("pass")
    assert reaping.wait_readable(process.fileno(), 60)
    assert process.wait() == 0
    with process:
        pass
    process.close()
    with pytest.raises(ContainerError, match="closed"):
        process.fileno()
    assert process.wait() == 0
