"""The start of a launch that needs no container: a spawner, and the socket that init waits on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from libpycontainer import conversation, interpreter, launch, waiting
from libpycontainer import syscalls as sys_
from libpycontainer.errors import ContainerError, ExecutableError, ProtocolError, StepError
from libpycontainer.plan import Plan
from libpycontainer.spawner import Spawner

REPOSITORY = Path(__file__).parents[2]
ME = waiting.Identity(os.getpid(), waiting.start_time(os.getpid()) or 0)


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def ignore(level: str, message: str) -> None:
    pass


def answer(listener: sys_.Fd, *packets: bytes) -> threading.Thread:
    """An init that takes one connection, hears "start" and says ``packets``."""

    def serve() -> None:
        with sys_.accept(listener.fileno()) as connection:
            assert sys_.receive(connection.fileno())[0] == b"start"
            for packet in packets:
                sys_.send(connection.fileno(), packet)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_a_spawner_that_is_not_used_is_ended_and_reaped() -> None:
    before = Path("/proc/thread-self/children").read_text()
    spawner = Spawner(interpreter.find())
    spawner.start()
    assert Path("/proc/thread-self/children").read_text() != before
    spawner.close()
    spawner.close()
    assert Path("/proc/thread-self/children").read_text() == before


def test_a_program_that_is_no_interpreter_is_quoted() -> None:
    spawner = Spawner("/bin/false")
    spawner.start()
    with pytest.raises(ProtocolError, match="/bin/false died"):
        spawner.request(Plan(), {})
    spawner.close()


def test_a_request_may_name_more_descriptors_than_one_packet_holds() -> None:
    spawner = Spawner(interpreter.find())
    spawner.start()
    plan = Plan()
    # It is the first step that fails: until then the whole request has been read.
    from libpycontainer.plan import Step

    plan.enter.append(Step("no such step", "fail here"))
    with open("/dev/null", "rb") as null:
        spawner.request(plan, {f"x:{n}": null.fileno() for n in range(600)})
    assert spawner.socket is not None
    talk = conversation.Conversation(spawner.socket, ("started",), log=ignore)
    with pytest.raises(StepError, match="no such step"):
        talk.expect("started")
    spawner.close()


@pytest.mark.parametrize("count", [0, 2, 100])
def test_a_spawners_report_without_the_one_descriptor_fails_the_call(count: int) -> None:
    class Scripted:
        is_init = False

        def __init__(self) -> None:
            self.socket, self.peer = sys_.socketpair()

        def diagnosis(self) -> str:
            return ""

        def request(self, plan: object, fds: object) -> None:
            with open("/dev/null", "rb") as null:
                sys_.send(self.peer.fileno(), b"started", [null.fileno()] * count)

    spawner = Scripted()
    going = launch.Launch(spawner, ("started",), ignore)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="malformed"):
        going.clone(Plan(), {})
    assert (going.pid, going.pidfd) == (0, None)
    for fd in (spawner.socket, spawner.peer):
        fd.close()


def test_an_init_that_waits_is_started(tmp_path: Path, directory: int) -> None:
    with sys_.listen(str(tmp_path / "start.sock")) as listener:
        thread = answer(listener, b"executing")
        launch.start_waiting_init(directory, ignore, ME)
        thread.join()
    assert not thread.is_alive()


def test_a_failed_execve_is_what_start_raises(tmp_path: Path, directory: int) -> None:
    packet = b'error\x0055\x0055\0execve\0/x\x008\0exec: "x": exec format error'
    with sys_.listen(str(tmp_path / "start.sock")) as listener:
        thread = answer(listener, b"executing", packet)
        with pytest.raises(ExecutableError, match="exec format error") as caught:
            launch.start_waiting_init(directory, ignore, ME)
        thread.join()
    assert (caught.value.errno, caught.value.path) == (8, "/x")


def test_an_init_that_dies_on_the_way_is_an_error(tmp_path: Path, directory: int) -> None:
    with sys_.listen(str(tmp_path / "start.sock")) as listener:
        thread = answer(listener)
        with pytest.raises(ProtocolError, match="died"):
            launch.start_waiting_init(directory, ignore, ME)
        thread.join()


@pytest.mark.parametrize("left", [False, True], ids=["never listened", "listens no more"])
def test_an_init_that_does_not_wait_is_not_connected_to(
    left: bool, tmp_path: Path, directory: int
) -> None:
    if left:
        sys_.listen(str(tmp_path / "start.sock")).close()
    assert launch.connect_start_socket(directory) is None
    with pytest.raises(ContainerError, match="not waiting"):
        launch.start_waiting_init(directory, ignore, ME)


def test_a_state_root_with_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 200)
    deep.mkdir()
    fd = os.open(deep, os.O_PATH | os.O_DIRECTORY)
    with sys_.Fd(fd), sys_.listen(f"/proc/self/fd/{fd}/start.sock"):
        found = launch.connect_start_socket(fd)
        assert found is not None
        found.close()


PROBE = """
import os, sys
from libpycontainer import launch, syscalls as sys_
directory = os.open(sys.argv[1], os.O_PATH | os.O_DIRECTORY)
listener = sys_.listen(f"/proc/self/fd/{directory}/start.sock")
for _ in range(100):
    assert launch.is_waiting(directory)
"""


def test_looking_at_a_frozen_init_again_and_again_does_not_hang(tmp_path: Path) -> None:
    # A created container that is paused takes no connections, and its queue has an end.
    run(PROBE, str(tmp_path))


PARKED = """
from libpycontainer import syscalls as sys_
first, second, third = sys_.Parked(), sys_.Parked(), sys_.Parked()
for parked in (first, second, third):
    parked.start(0)
for parked in (first, third, second):
    parked.__exit__()
"""


def test_parked_children_end_in_any_order() -> None:
    # Two threads of a program may each have one at the same time.
    run(PARKED)


def run(code: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=5,
    )
    assert done.returncode == 0, done.stderr
