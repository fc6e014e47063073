"""Functions that the tests have called in containers. Imported there, so it imports little."""

from __future__ import annotations

import io
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any


class OwnError(Exception):
    """An exception that is no builtin one."""


class Point:
    """A value that is no plain data."""

    def __init__(self, x: int) -> None:
        self.x = x


def add(left: Any, right: Any = 1) -> Any:
    return left + right


def echo(value: Any) -> Any:
    return value


def status() -> dict[str, str]:
    with open("/proc/self/status", encoding="ascii") as file:
        return dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)


def surroundings() -> dict[str, Any]:
    """Whatever the process has that could be the host's."""
    return {
        "pid": os.getpid(),
        "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "descriptors": descriptors(),
        "root": sorted(os.listdir("/")),
        "namespaces": {
            name: os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "pid", "net")
        },
        "umask": os.umask(0o77),
        "threads": len(os.listdir("/proc/self/task")),
        "signals": [signal.getsignal(number) is signal.SIG_DFL for number in (1, 15)],
        "argv": sys.argv,
    }


def descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            # The one that listed the directory.
            continue
    return found


def raise_value_error() -> None:
    raise ValueError("two", 2)


def raise_chain() -> None:
    try:
        raise KeyError("first")
    except KeyError as error:
        raise RuntimeError("second") from error


def raise_own() -> None:
    raise OwnError("mine \x1b[2J")


def raise_named(name: str, *args: Any) -> None:
    import builtins

    raise getattr(builtins, name)(*args)


def open_missing() -> None:
    with open("/no/such/file"):
        pass


def exit_with(code: int) -> None:
    os._exit(code)


def system_exit(code: int) -> None:
    sys.exit(code)


def kill_self(number: int) -> None:
    if os.getpid() == 1:
        # Whom no signal from inside ends.
        import ctypes

        ctypes.string_at(0)
    os.kill(os.getpid(), number)
    time.sleep(10)


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def speak_and_sleep(seconds: float) -> None:
    print("early", flush=True)
    time.sleep(seconds)


def speak(out: str, err: str = "") -> None:
    print(out, end="")
    print(err, end="", file=sys.stderr)


def read_input() -> str:
    return sys.stdin.read()


def eat_memory(size: int) -> int:
    return len(bytearray(os.urandom(1) * size))


def import_late(name: str) -> str:
    return str(__import__(name).__name__)


def run_threads(count: int) -> int:
    """Recursive locks, which know their holder by the thread's id, over many threads."""
    lock, total = threading.RLock(), [0]

    def work() -> None:
        for _ in range(200):
            with lock, lock:
                total[0] += 1

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return total[0]


def hold_threads(count: int) -> int:
    """Threads that are all there at a time."""
    go = threading.Event()
    threads = [threading.Thread(target=go.wait, daemon=True) for _ in range(count)]
    try:
        for thread in threads:
            thread.start()
    finally:
        go.set()
    return count


def multiply_matrices(size: int) -> float:
    import numpy  # type: ignore[import-not-found,unused-ignore]

    ones = numpy.ones((size, size))
    return float((ones @ ones)[0][0])


def native_id() -> tuple[int, int]:
    return threading.get_native_id(), os.getpid()


def start_program() -> str:
    return subprocess.run(["echo", "on"], capture_output=True, text=True, check=True).stdout


def fork_and_wait() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(5)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def write_broken_pipe() -> str:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        os.write(writer, b"x")
    except BrokenPipeError:
        return "told"
    return "written"


def leave_file() -> list[str]:
    with tempfile.NamedTemporaryFile(dir="/tmp", delete=False):
        return os.listdir("/tmp")


def connect(address: str, port: int) -> str:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError as error:
        return type(error).__name__
    return "connected"


def write_to(stream: io.StringIO) -> str:
    stream.write("x")
    return stream.getvalue()


def draw() -> float:
    return random.random()


MARK: list[Any] = []


def mark(value: Any) -> None:
    MARK.append(value)


def marks() -> list[Any]:
    return MARK


def fail_to_begin() -> None:
    raise OwnError("no worker")


def identity() -> str:
    """What no two containers have alike."""
    return os.readlink("/proc/self/ns/mnt")
