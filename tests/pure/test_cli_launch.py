"""What ``run``, ``create`` and ``exec`` make of their flags before anything is started."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from libpycontainer.cli import exec as exec_verb
from libpycontainer.cli import launch
from libpycontainer.cli.command import CommandError
from libpycontainer.cli.options import parse
from libpycontainer.spec import light

BASE: dict[str, Any] = {
    "terminal": True,
    "user": {"uid": 1, "gid": 2, "additionalGids": [3]},
    "args": ["sh"],
    "env": ["PATH=/bin"],
    "cwd": "/srv",
    "capabilities": {
        "bounding": ["CAP_KILL"],
        "effective": ["CAP_KILL"],
        "permitted": ["CAP_KILL"],
    },
    "noNewPrivileges": True,
}


def overridden(*flags: str, base: dict[str, Any] = BASE) -> dict[str, Any]:
    """The process of ``exec FLAGS id ls``."""
    words = [*flags, "id", "ls"]
    options, arguments = parse(exec_verb.COMMAND.flags, words, interspersed=False)
    document = exec_verb.overridden(base, options, list(arguments[1:]))
    light.record("Process", document)
    return document


def test_exec_runs_as_the_containers_own_process_does() -> None:
    assert overridden() == {**BASE, "args": ["ls"], "terminal": False}


def test_exec_flags_override_and_append() -> None:
    made = overridden(
        "-t", "--cwd", "/tmp", "-e", "A=1", "--env", "B=2", "-u", "5:6", "-g", "7", "-g=8"
    )

    assert made["terminal"] is True
    assert made["cwd"] == "/tmp"
    assert made["env"] == ["PATH=/bin", "A=1", "B=2"]
    assert made["user"] == {"uid": 5, "gid": 6, "additionalGids": [3, 7, 8]}
    assert BASE["env"] == ["PATH=/bin"]


def test_exec_keeps_the_group_when_only_the_user_is_given() -> None:
    assert overridden("--user", "5")["user"] == {"uid": 5, "gid": 2, "additionalGids": [3]}


def test_exec_takes_labels_and_privileges() -> None:
    made = overridden("--apparmor", "p", "--process-label", "l", "--no-new-privs=false")

    assert made["apparmorProfile"] == "p"
    assert made["selinuxLabel"] == "l"
    assert made["noNewPrivileges"] is False


def test_added_capabilities_are_not_inheritable() -> None:
    sets = overridden("-c", "CAP_SYS_ADMIN")["capabilities"]

    for name in ("bounding", "effective", "permitted"):
        assert sets[name] == ["CAP_KILL", "CAP_SYS_ADMIN"]
    assert "inheritable" not in sets
    assert "ambient" not in sets


def test_added_capabilities_are_ambient_where_some_are_inheritable() -> None:
    base = {**BASE, "capabilities": {"inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}}
    sets = overridden("--cap=CAP_CHOWN", base=base)["capabilities"]

    assert sets["inheritable"] == ["CAP_KILL"]
    assert sets["ambient"] == ["CAP_KILL", "CAP_CHOWN"]
    assert sets["bounding"] == ["CAP_CHOWN"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-u", "app"], "parsing app as int for uid failed: invalid syntax"),
        (["-u", "5:staff"], "parsing staff as int for gid failed: invalid syntax"),
        (["-u", ":5"], "parsing  as int for uid failed: invalid syntax"),
        (["-g", "-1"], "additional-gids must be a positive number -1"),
    ],
)
def test_exec_takes_numbers_for_users_and_groups(flags: list[str], message: str) -> None:
    with pytest.raises(CommandError) as caught:
        overridden(*flags)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("terminal", "console_socket", "detach", "message"),
    [
        (True, "", True, "without setting console socket"),
        (True, "/s", False, "cannot use console socket if pyrunc will not detach or allocate tty"),
        (False, "/s", True, "cannot use console socket if pyrunc will not detach or allocate tty"),
        (False, "/s", False, "cannot use console socket if pyrunc will not detach or allocate tty"),
    ],
)
def test_a_terminal_needs_exactly_one_holder(
    terminal: bool, console_socket: str, detach: bool, message: str
) -> None:
    process = light.record("Process", {**BASE, "terminal": terminal})

    with pytest.raises(CommandError, match=message):
        launch.check_terminal(process, console_socket, detach=detach)


@pytest.mark.parametrize(
    ("terminal", "console_socket", "detach"),
    [(True, "", False), (True, "/s", True), (False, "", False), (False, "", True)],
)
def test_other_combinations_are_fine(terminal: bool, console_socket: str, detach: bool) -> None:
    process = light.record("Process", {**BASE, "terminal": terminal})

    launch.check_terminal(process, console_socket, detach=detach)


def test_socket_activation_comes_before_the_preserved_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launch, "_is_open", lambda fd: True)
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))

    assert launch.inherited_fds(1) == (3, ("LISTEN_FDS=2", "LISTEN_PID=1"))


@pytest.mark.parametrize("pid", ["1", "", "x"])
def test_another_processs_activation_is_left_alone(
    pid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_is_open", lambda fd: True)
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_PID", pid)

    assert launch.inherited_fds(1) == (1, ())


def test_a_descriptor_to_preserve_must_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    monkeypatch.setattr(launch, "_is_open", lambda fd: fd < 5)
    with pytest.raises(CommandError, match="descriptor 5 is to be preserved"):
        launch.inherited_fds(3)
    with pytest.raises(CommandError, match="must not be negative"):
        launch.inherited_fds(-1)
    assert launch.inherited_fds(2) == (2, ())


def test_a_pidfd_goes_to_its_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    pidfd = os.pidfd_open(os.getpid())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        launch.send_pidfd(path, pidfd, "standard")
        connection, _ = listener.accept()
        with connection:
            text, fds, _, _ = socket.recv_fds(connection, 100, 2)
    os.close(pidfd)
    (received,) = fds
    assert text == b"standard"
    with open(f"/proc/self/fdinfo/{received}", encoding="ascii") as info:
        assert f"Pid:\t{os.getpid()}\n" in info.read()
    os.close(received)


def test_a_pidfd_socket_nobody_listens_on_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="dial unix"):
        launch.send_pidfd(str(tmp_path / "none"), 0, "standard")
