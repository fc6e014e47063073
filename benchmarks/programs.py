"""Starting other programs: the way that costs a Python program least, and with hidden cgroups."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from benchmarks.measuring import UnavailableError

CLONE_NEWNS = 0x00020000
CLONE_FS = 0x00000200
MS_REC_PRIVATE = 0x4000 | 0x40000
NOTHING = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]


class Start(Protocol):
    """Runs a program to its end; returns its milliseconds. Raises :class:`ProgramError`."""

    def __call__(self, argv: Sequence[str], env: dict[str, str] | None = None) -> float: ...


class ProgramError(Exception):
    """A program that is measured did not end with 0."""


def environment() -> dict[str, str]:
    """Little, but where programs and this package are found."""
    keep = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in keep if name in os.environ}


def run(argv: Sequence[str], env: dict[str, str] | None = None) -> float:
    """From before the start of a program to after its end."""
    environ = environment() if env is None else env
    started = time.perf_counter_ns()
    pid = os.posix_spawn(argv[0], list(argv), environ, file_actions=NOTHING)
    try:
        _, status = os.waitpid(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    taken = (time.perf_counter_ns() - started) / 1e6
    if status != 0:
        raise ProgramError(f"{describe(status)}: {' '.join(argv)}\n{complaint(argv, environ)}")
    return taken


def describe(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else f"killed by signal {-code}"


def complaint(argv: Sequence[str], env: dict[str, str]) -> str:
    """What the program says when it is run again: for a message, after it has failed."""
    try:
        done = subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip()


def probe(argv: Sequence[str], start: Start = run) -> None:
    """Run a peer once. Raises :class:`UnavailableError` with its own words."""
    try:
        start(argv)
    except ProgramError as failure:
        first, _, words = str(failure).partition("\n")
        said = words.splitlines()[-1] if words else ""
        raise UnavailableError(f"{said or 'says nothing'} ({first.partition(':')[0]})") from None
    except OSError as error:
        raise UnavailableError(f"{argv[0]}: {error.strerror}") from None


class HiddenUnified:
    """A thread with mounts of its own, in which the unified hierarchy of a hybrid host is hidden.

    crun refuses a host that has both. What is started here pays nothing for the hiding.
    """

    def __init__(self, mount_point: str) -> None:
        self._mount_point = mount_point.encode()
        self._tasks: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._tasks = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.do(self._hide)

    def do(self, action: Callable[[], Any]) -> Any:
        """Have the thread do something; returns what it returns."""
        future: Future[Any] = Future()
        self._tasks.put((future, action))
        return future.result()

    def start(self, argv: Sequence[str], env: dict[str, str] | None = None) -> float:
        taken: float = self.do(lambda: run(argv, env))
        return taken

    def close(self) -> None:
        self._tasks.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while task := self._tasks.get():
            future, action = task
            try:
                future.set_result(action())
            except BaseException as error:
                future.set_exception(error)

    def _hide(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        calls = (
            (libc.unshare, (CLONE_NEWNS | CLONE_FS,)),
            (libc.mount, (None, b"/", None, ctypes.c_ulong(MS_REC_PRIVATE), None)),
            (libc.mount, (b"none", self._mount_point, b"tmpfs", ctypes.c_ulong(0), None)),
        )
        for call, arguments in calls:
            if call(*arguments) != 0:
                number = ctypes.get_errno()
                raise UnavailableError(f"cannot hide {self._mount_point!r}: {os.strerror(number)}")


class Floor:
    """floor.c, compiled and waiting."""

    def __init__(self, program: Path, arguments: Sequence[str]) -> None:
        self._argv = [str(program), *arguments]
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen(self._argv, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)

    def __call__(self) -> float:
        """One container, in milliseconds by the program's own clock."""
        if self._process.poll() is not None:
            self._process = self._start()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"x")
        answer = self._process.stdout.readline()
        if not answer:
            _, said = self._process.communicate()
            raise ProgramError(said.decode(errors="replace").strip())
        return int(answer) / 1e6

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.communicate()


def compile_floor(source: Path, target: Path) -> Path:
    """Static, as its child is a copy of it: the less there is to copy, the lower the floor."""
    try:
        done = subprocess.run(
            ["gcc", "-O2", "-Wall", "-static", "-o", target, source], capture_output=True, text=True
        )
    except FileNotFoundError:
        raise UnavailableError("gcc is not installed") from None
    if done.returncode != 0:
        raise UnavailableError(f"gcc refuses floor.c: {done.stderr.strip().splitlines()[0]}")
    return target
