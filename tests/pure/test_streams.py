"""Standard streams and extra descriptors: what init gets, what the caller keeps, what is closed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libpycontainer import syscalls as sys_
from libpycontainer.errors import ContainerError
from libpycontainer.streams import DEVNULL, PIPE, STDOUT, Streams

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


def number(fd: sys_.Fd | int) -> int:
    return fd if isinstance(fd, int) else fd.fileno()


def same(a: int, b: int) -> bool:
    return os.path.samestat(os.fstat(a), os.fstat(b))


def test_the_constants_are_subprocesss_own() -> None:
    wanted = (subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL)
    assert wanted == (PIPE, STDOUT, DEVNULL)


def test_nothing_said_means_the_callers_own_streams() -> None:
    streams = Streams()
    assert streams.fds == {"fd:0": 0, "fd:1": 1, "fd:2": 2}
    assert (streams.nfds, streams.ours) == (3, {})
    streams.close()
    for fd in range(3):
        os.fstat(fd)


def test_pipes_lead_from_one_side_to_the_other() -> None:
    streams = Streams(PIPE, PIPE, PIPE)
    os.write(streams.ours[0].fileno(), b"in")
    assert os.read(number(streams.fds["fd:0"]), 9) == b"in"
    for fd in (1, 2):
        os.write(number(streams.fds[f"fd:{fd}"]), b"out")
        assert os.read(streams.ours[fd].fileno(), 9) == b"out"
    streams.close()


def test_our_pipe_ends_are_at_their_end_once_theirs_are_closed() -> None:
    streams = Streams(DEVNULL, PIPE, PIPE)
    streams.close_theirs()
    assert os.read(streams.ours[1].fileno(), 9) == b""
    streams.close()
    streams.close()


def test_stderr_may_go_where_stdout_goes() -> None:
    streams = Streams(DEVNULL, PIPE, STDOUT)
    assert streams.fds["fd:2"] is streams.fds["fd:1"]
    assert list(streams.ours) == [1]
    streams.close()


@pytest.mark.parametrize("name", ["stdin", "stdout"])
def test_the_word_stdout_is_for_stderr_alone(name: str) -> None:
    streams: dict[str, Any] = {name: STDOUT}
    with pytest.raises((ContainerError, ValueError)):
        Streams(**streams).close()


@pytest.mark.parametrize("given", [-4, -100, 1 << 20])
def test_a_descriptor_that_is_not_open_is_refused(given: int) -> None:
    with pytest.raises((ContainerError, ValueError), match=str(given)):
        Streams(given, DEVNULL, DEVNULL).close()


def test_devnull_is_the_null_device() -> None:
    streams = Streams(DEVNULL, DEVNULL, DEVNULL)
    for fd in streams.fds.values():
        status = os.fstat(number(fd))
        assert (stat.S_ISCHR(status.st_mode), status.st_rdev) == (True, os.makedev(1, 3))
    streams.close()


def test_files_and_numbers_stay_the_callers(tmp_path: Path) -> None:
    with open(tmp_path / "a", "wb") as file:
        streams = Streams(DEVNULL, file, file.fileno())
        assert streams.fds["fd:1"] == streams.fds["fd:2"] == file.fileno()
        streams.close()
        file.write(b"still open")


def test_descriptors_are_passed_on_from_three_upwards(tmp_path: Path) -> None:
    with open(tmp_path / "a", "wb") as a, open(tmp_path / "b", "wb") as b:
        streams = Streams(pass_fds=[b.fileno(), a.fileno()])
        assert (streams.fds["fd:3"], streams.fds["fd:4"]) == (b.fileno(), a.fileno())
        assert streams.nfds == 5
        streams.close()


def test_a_descriptor_to_pass_on_that_is_not_open_is_refused_and_the_rest_closed() -> None:
    with pytest.raises(ContainerError, match="file descriptor 999999"):
        Streams(PIPE, PIPE, PIPE, pass_fds=[0, 999999])


PRESERVE = """
import os, sys
from libpycontainer.errors import ContainerError
from libpycontainer.streams import Streams
os.dup2(0, 3); os.dup2(1, 4)
streams = Streams(preserve_fds=2)
assert streams.fds["fd:3"] == 3 and streams.fds["fd:4"] == 4, streams.fds
os.close(4)
try:
    Streams(preserve_fds=2)
except ContainerError as error:
    print(error)
"""

CLOSED = """
import os
from libpycontainer.streams import Streams
os.close(0)
streams = Streams()
os.write(1, os.readlink(f"/proc/self/fd/{streams.fds['fd:0'].fileno()}").encode())
"""


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_preserved_descriptors_are_the_callers_own_numbers() -> None:
    assert "file descriptor 4" in python(PRESERVE)


def test_a_caller_without_a_stream_has_its_program_get_an_empty_one() -> None:
    assert python(CLOSED) == "/dev/null"


def test_a_terminal_takes_the_place_of_the_streams() -> None:
    streams = Streams(PIPE, PIPE, PIPE, terminal=True)
    assert set(streams.fds) == {"console"}
    assert streams.ours == {}
    with open("/dev/null", "rb") as null:
        sys_.send(number(streams.fds["console"]), b"/dev/pts/0", [null.fileno(), null.fileno()])
        with streams.receive_console() as master:
            assert same(master.fileno(), null.fileno())
    streams.close()


@pytest.mark.parametrize("said", [b"/dev/pts/0", None])
def test_an_init_that_sends_no_terminal_is_an_error(said: bytes | None) -> None:
    streams = Streams(terminal=True)
    if said is not None:
        sys_.send(number(streams.fds["console"]), said)
    streams.close_theirs()
    with pytest.raises(ContainerError, match="no terminal"):
        streams.receive_console()
    streams.close()


def test_a_console_socket_is_connected_to(tmp_path: Path) -> None:
    path = str(tmp_path / "console.sock")
    with sys_.listen(path, sys_.SOCK_STREAM) as listener:
        streams = Streams(terminal=True, console_socket=path)
        assert streams.console is None
        with sys_.accept(listener.fileno()) as engine, open("/dev/null", "rb") as null:
            sys_.send(number(streams.fds["console"]), b"/dev/pts/0", [null.fileno()])
            name, fds = sys_.receive(engine.fileno())
            assert (name, len(fds)) == (b"/dev/pts/0", 1)
            fds[0].close()
        streams.close()


@pytest.mark.parametrize("kind", ["missing", "file", "nobody listens"])
def test_a_console_socket_that_nobody_serves_is_refused_with_its_path(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "console.sock"
    if kind == "file":
        path.write_text("")
    elif kind == "nobody listens":
        sys_.listen(str(path), sys_.SOCK_STREAM).close()
    with pytest.raises(ContainerError) as caught:
        Streams(terminal=True, console_socket=str(path))
    assert (caught.value.path, caught.value.errno != 0) == (str(path), True)


def test_pipes_of_several_threads_do_not_meet() -> None:
    made: list[Streams] = []
    threads = [
        threading.Thread(target=lambda: made.append(Streams(PIPE, PIPE, PIPE))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [number(fd) for streams in made for fd in streams.fds.values()]
    numbers += [fd.fileno() for streams in made for fd in streams.ours.values()]
    assert len(numbers) == len(set(numbers)) == 48
    for streams in made:
        streams.close()
