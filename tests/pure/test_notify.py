"""The relay of readiness without a container: any process and any directory will do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from libpycontainer import ContainerError, notify
from libpycontainer.spec import light

PATIENCE = 20


class Child:
    """A process as the relay knows one: it ends when :meth:`end` is called."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=-1)
        self._pidfd = os.pidfd_open(self._popen.pid)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def fileno(self) -> int:
        return self._pidfd

    def end(self) -> None:
        self._popen.communicate(b"\n")

    def close(self) -> None:
        self.end()
        os.close(self._pidfd)


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    yield child
    if child._popen.returncode is None:
        child.close()
    else:
        os.close(child.fileno())


@pytest.fixture
def host(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
        host.bind(str(tmp_path / "host"))
        host.settimeout(PATIENCE)
        yield host


def report(directory: Path, *messages: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.connect(str(directory / "notify.sock"))
        for message in messages:
            client.send(message)


def answer(host: socket.socket) -> list[bytes]:
    """Take two messages, and end the barrier that comes with the second."""
    found = []
    for _ in range(2):
        data, fds, _, _ = socket.recv_fds(host, 4096, 4)
        found.append(data)
        for fd in fds:
            os.close(fd)
    return found


def made(tmp_path: Path) -> Path:
    directory = tmp_path / "notify"
    notify.make_directory(str(directory))
    return directory


def test_readiness_is_passed_on_with_the_pid_to_look_after(
    tmp_path: Path, host: socket.socket, child: Child
) -> None:
    directory = made(tmp_path)
    heard: list[bytes] = []
    answering = threading.Thread(target=lambda: heard.extend(answer(host)))
    with notify.Relay(str(tmp_path / "host")) as relay:
        assert relay.bind(str(directory))
        report(directory, b"STATUS=soon", b"STATUS=now\nREADY=1\n")
        answering.start()
        assert relay.serve(child, until_ready=True)  # type: ignore[arg-type]
        answering.join()
        assert relay.ready
    assert heard == [b"READY=1\nMAINPID=%d" % child.pid, b"BARRIER=1"]


def test_the_end_is_the_end_and_says_nothing(
    tmp_path: Path, host: socket.socket, child: Child
) -> None:
    directory = made(tmp_path)
    with notify.Relay(str(tmp_path / "host")) as relay:
        assert relay.bind(str(directory))
        report(directory, b"READY=0", b"READY=12")
        child.end()
        assert not relay.serve(child)  # type: ignore[arg-type]
    host.setblocking(False)
    with pytest.raises(BlockingIOError):
        host.recv(1)


def test_a_host_that_knows_no_barrier_is_not_waited_for_for_ever(
    tmp_path: Path, host: socket.socket, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "BARRIER_TIMEOUT", 0.01)
    directory = made(tmp_path)
    with notify.Relay(str(tmp_path / "host")) as relay:
        relay.bind(str(directory))
        report(directory, b"READY=1")
        # The barrier stays unread, and so open.
        assert relay.serve(child, main_pid=7, until_ready=True)  # type: ignore[arg-type]
    assert host.recv(100) == b"READY=1\nMAINPID=7"


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path, host: socket.socket) -> None:
    directory = made(tmp_path)
    for _ in range(2):
        with notify.Relay(str(tmp_path / "host")) as relay:
            assert relay.bind(str(directory))
    assert (directory / "notify.sock").stat().st_mode & 0o777 == 0o777


def test_without_a_directory_there_is_nothing_to_relay(
    tmp_path: Path, host: socket.socket, child: Child
) -> None:
    with notify.Relay(str(tmp_path / "host")) as relay:
        assert not relay.bind(str(tmp_path / "none"))
        assert not relay.serve(child)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["none", "x" * 200])
def test_a_host_that_cannot_be_reached_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match=name[:4]) as caught:
        notify.Relay(str(tmp_path / name))
    assert caught.value.op == "connect"


def test_the_directory_is_open_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert made(tmp_path).stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)


def test_the_mount_comes_last_and_the_configuration_stays_as_it_is() -> None:
    document = {"ociVersion": "1.0.2", "mounts": [{"destination": "/run", "type": "tmpfs"}]}
    changed = notify.with_mount(document, "/state/notify")

    assert [mount["destination"] for mount in changed["mounts"]] == ["/run", "/run/notify"]
    assert len(document["mounts"]) == 1
    assert len(notify.with_mount({"ociVersion": "1.0.2"}, "/x")["mounts"]) == 1


def test_it_takes_a_mount_namespace() -> None:
    def spec(*types: str) -> dict[str, object]:
        namespaces = [{"type": type} for type in types]
        return {"ociVersion": "1.0.2", "linux": {"namespaces": namespaces}}

    assert notify.possible(light.load(spec("pid", "mount")))
    assert not notify.possible(light.load(spec("pid")))
    assert not notify.possible(light.load({"ociVersion": "1.0.2"}))
