"""The agent's side of the hand-over, with a real socket: what it is sent, and who is no agent."""

from __future__ import annotations

import array
import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from libpycontainer import conversation, launch, waiting
from libpycontainer import syscalls as sys_
from libpycontainer.errors import ProtocolError, StepError
from libpycontainer.seccomp import agent

ME = waiting.Identity(os.getpid(), waiting.start_time(os.getpid()) or 0)
STATE = {"ociVersion": "1.2.0", "id": "one", "status": "creating", "pid": 7, "bundle": "/b"}


def listening(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    found = socket.socket(socket.AF_UNIX, kind)
    found.bind(str(path))
    if kind != socket.SOCK_DGRAM:
        found.listen(8)
    return found


def send(path: str, metadata: str | None = None) -> None:
    target = {"listenerPath": path}
    if metadata is not None:
        target["listenerMetadata"] = metadata
    with sys_.memfd("listener") as listener:
        os.write(listener.fileno(), b"it is me")
        agent.deliver(target, listener, STATE, 7)


def received(server: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The one message of one connection, until its end."""
    connection, _ = server.accept()
    with connection:
        data, ancillary, _, _ = connection.recvmsg(1 << 20, 4096)
        fds: array.array[int] = array.array("i")
        for _level, _type, payload in ancillary:
            fds.frombytes(payload)
        while more := connection.recv(1 << 20):
            data += more
    document: dict[str, Any] = json.loads(data)
    return document, list(fds)


@pytest.mark.parametrize("metadata", [None, "MKNOD=/dev/null"])
def test_the_agent_gets_one_process_state_with_the_descriptor(
    metadata: str | None, tmp_path: Path
) -> None:
    with listening(tmp_path / "agent") as server:
        send(str(tmp_path / "agent"), metadata)
        document, fds = received(server)
    expected: dict[str, Any] = {"ociVersion": "1.2.0", "fds": ["seccompFd"], "pid": 7}
    if metadata is not None:
        expected["metadata"] = metadata
    assert document == {**expected, "state": STATE}
    (fd,) = fds
    assert os.pread(fd, 100, 0) == b"it is me"
    os.close(fd)


def test_a_path_may_be_longer_than_a_sockets_address(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    here = os.open(deep, os.O_PATH)
    with sys_.Fd(here), listening(Path(f"/proc/self/fd/{here}/agent")) as server:
        agent.check({"listenerPath": str(deep / "agent")})
        send(str(deep / "agent"))
        _document, (fd,) = received(server)
        os.close(fd)


def test_the_check_is_not_noticed_by_the_agent(tmp_path: Path) -> None:
    with listening(tmp_path / "agent") as server:
        agent.check({"listenerPath": str(tmp_path / "agent")})
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.touch(), "refused"),
        (lambda path: listening(path).close(), "refused"),
        (lambda path: path.mkdir(), "refused"),
    ],
    ids=["nothing", "a file", "nobody any more", "a directory"],
)
def test_where_nobody_listens_is_no_agent(make: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "agent"
    make(path)
    words = rf"\$\.linux\.seccomp\.listenerPath: .*{path}.*{reason}"
    with pytest.raises(StepError, match=words):
        agent.check({"listenerPath": str(path)})
    with pytest.raises(StepError, match=words) as caught:
        send(str(path))
    assert (caught.value.op, caught.value.path) == ("seccomp", str(path))


def test_a_socket_of_another_type_is_no_agent(tmp_path: Path) -> None:
    packets = listening(tmp_path / "packets", socket.SOCK_SEQPACKET)
    with packets, pytest.raises(StepError, match="not a stream socket"):
        agent.check({"listenerPath": str(tmp_path / "packets")})
    with listening(tmp_path / "datagrams", socket.SOCK_DGRAM), pytest.raises(StepError):
        send(str(tmp_path / "datagrams"))


def test_an_agent_that_takes_no_connection_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "CONNECT_TIMEOUT", 0.02)
    path = str(tmp_path / "agent")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(path)
        server.listen(0)
        first.connect(path)
        with pytest.raises(StepError, match="takes no connection"):
            send(path)


def test_whoever_starts_the_container_finds_the_agent_of_its_creator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir("/tmp")
    section = {"listenerPath": "agent", "listenerMetadata": "x", "syscalls": []}
    assert agent.on_record(section) == {"listenerPath": "/tmp/agent", "listenerMetadata": "x"}
    assert agent.on_record({"listenerPath": "/agent"}) == {"listenerPath": "/agent"}


# ---- the caller's side of the conversation -----------------------------------------------------


class Scripted:
    """The other end of an execution's conversation."""

    def __init__(self) -> None:
        ours, self.theirs = sys_.socketpair()
        self.ours = ours
        order = conversation.with_listener(conversation.START)
        self.talk = conversation.Conversation(ours, order, log=lambda *_: None)

    def say(self, word: bytes, *fds: int) -> None:
        sys_.send(self.theirs.fileno(), word, fds)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def scripted() -> Any:
    made = Scripted()
    made.say(b"executing")
    made.talk.expect("executing")
    yield made
    made.close()


def test_init_goes_on_when_the_listener_is_delivered(scripted: Scripted) -> None:
    handed: list[tuple[str, int]] = []

    def hand_over(listener: sys_.Fd, pid: int) -> None:
        handed.append((os.readlink(f"/proc/self/fd/{listener.fileno()}"), pid))

    def init() -> None:
        with open("/dev/null", "rb") as null:
            scripted.say(b"listener", null.fileno())
        assert sys_.receive(scripted.theirs.fileno())[0] == b"continue"
        scripted.theirs.close()

    thread = threading.Thread(target=init)
    thread.start()
    launch.await_execution(scripted.talk, ME, hand_over)
    thread.join()
    assert handed == [("/dev/null", os.getpid())]


@pytest.mark.parametrize("count", [0, 2])
def test_a_listener_is_one_descriptor(count: int, scripted: Scripted) -> None:
    with open("/dev/null", "rb") as null:
        scripted.say(b"listener", *[null.fileno()] * count)
    with pytest.raises(ProtocolError, match="malformed"):
        launch.await_execution(scripted.talk, ME, lambda *_: None)


def test_init_may_not_leave_its_listener_out(scripted: Scripted) -> None:
    scripted.theirs.close()
    with pytest.raises(ProtocolError, match="died before it had its seccomp filter"):
        launch.await_execution(scripted.talk, ME, lambda *_: None)


def test_init_is_not_told_to_go_on_when_the_agent_has_nothing(scripted: Scripted) -> None:
    def fail(listener: sys_.Fd, pid: int) -> None:
        raise StepError("no agent")

    with open("/dev/null", "rb") as null:
        scripted.say(b"listener", null.fileno())
    with pytest.raises(StepError, match="no agent"):
        launch.await_execution(scripted.talk, ME, fail)
    scripted.ours.close()
    assert sys_.receive(scripted.theirs.fileno())[0] == b""


def test_an_end_without_an_execve_is_no_success() -> None:
    ours, theirs = sys_.socketpair()
    talk = conversation.Conversation(ours, conversation.START, log=lambda *_: None)
    child = os.fork()
    if child == 0:
        sys_.send(theirs.fileno(), b"executing")
        os._exit(0)
    theirs.close()
    started = waiting.start_time(child) or 0
    with ours:
        talk.expect("executing")
        with pytest.raises(StepError, match="was not executed"):
            launch.await_execution(talk, waiting.Identity(child, started), None)
        os.waitpid(child, 0)
