"""A pseudo terminal: resize, Ctrl-C, its owner, and both ways to its master."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from libpycontainer import tty
from tests.privileged.support import FOREVER, TIMEOUT, add_user_namespace, create, exec_inside, sh

if TYPE_CHECKING:
    from tests.conftest import BundleMaker


class Screen:
    """What comes out of a terminal's master, up to what is waited for."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.text = ""

    def until(self, word: str) -> str:
        while word not in self.text:
            ready, _, _ = select.select([self.master], [], [], TIMEOUT)
            assert ready, f"no {word!r} in {self.text!r}"
            try:
                data = os.read(self.master, 4096)
            except OSError:
                # EIO: no process has the terminal open any more.
                data = b""
            assert data, f"no {word!r} in {self.text!r} at its end"
            self.text += data.decode()
        head, _, self.text = self.text.partition(word)
        return head

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())


def terminal(config: dict[str, Any]) -> None:
    config["process"]["terminal"] = True


def screen_of(process: lc.Process | None) -> Screen:
    assert process is not None
    assert process.console is not None
    return Screen(process.console)


def test_program_has_a_controlling_terminal(factory: lc.Factory, bundle: BundleMaker) -> None:
    script = "tty; for fd in 0 1 2; do test -t $fd && echo t$fd; done; echo x >/dev/tty; exit 3"
    with create(factory, bundle(sh(script), edit=terminal)) as container:
        container.start()
        screen = screen_of(container.process)
        assert screen.until("t2").split() == ["/dev/pts/0", "t0", "t1"]
        screen.until("x")
        assert container.wait(TIMEOUT) == 3


def test_console_is_the_same_terminal(factory: lc.Factory, bundle: BundleMaker) -> None:
    script = "echo seen >/dev/console; stat -c %F /dev/console; exit"
    with create(factory, bundle(sh(script), edit=terminal)) as container:
        container.start()
        assert screen_of(container.process).until("file").split() == [
            "seen",
            "character",
            "special",
        ]


def test_size_is_set_before_the_program_starts(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(sh("stty size; echo end"), edit=terminal)
    one.process["consoleSize"] = {"height": 11, "width": 22}
    with create(factory, one) as container:
        container.start()
        assert screen_of(container.process).until("end").split() == ["11", "22"]
    with create(factory, one, console_size=(33, 44)) as container:
        container.start()
        assert screen_of(container.process).until("end").split() == ["33", "44"]


def test_resize_is_seen_inside(factory: lc.Factory, bundle: BundleMaker) -> None:
    script = "trap 'stty size; echo resized' WINCH; echo ready; while :; do read line; done"
    with create(factory, bundle(sh(script), edit=terminal)) as container:
        container.start()
        process = container.process
        assert process is not None
        screen = screen_of(process)
        screen.until("ready")
        process.resize(50, 120)
        assert screen.until("resized").split() == ["50", "120"]


def test_ctrl_c_interrupts(factory: lc.Factory, bundle: BundleMaker) -> None:
    script = "trap 'echo caught; exit 42' INT; echo ready; while :; do read line; done"
    with create(factory, bundle(sh(script), edit=terminal)) as container:
        container.start()
        screen = screen_of(container.process)
        screen.until("ready")
        screen.type("\x03")
        screen.until("caught")
        assert container.wait(TIMEOUT) == 42


def test_shell_is_interactive(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["sh", "-i"], edit=terminal)
    one.process["env"] += ["PS1=prompt> "]
    with create(factory, one) as container:
        container.start()
        screen = screen_of(container.process)
        screen.until("prompt> ")
        screen.type("echo $((6 * 7))\n")
        screen.until("42\r\n")
        screen.until("prompt> ")
        # Not before the program has the terminal: for the shell itself Ctrl-C is a character.
        screen.type("sh -c 'echo begin; exec sleep 1000'\n")
        screen.until("begin\r\n")
        screen.type("\x03")
        screen.until("prompt> ")
        screen.type("exit 9\n")
        assert container.wait(TIMEOUT) == 9


def test_end_of_the_program_is_the_end_of_the_terminal(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    with create(factory, bundle(["echo", "last"], edit=terminal)) as container:
        container.start()
        container.wait(TIMEOUT)
        screen = screen_of(container.process)
        screen.until("last\r\n")
        with pytest.raises(OSError, match="Input/output"):
            os.read(screen.master, 10)


def test_terminal_belongs_to_the_containers_user(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(sh("stat -c %u:%g $(tty); echo reopened >$(tty)"), edit=terminal)
    one.process["user"] = {"uid": 1000, "gid": 1000}
    with create(factory, one) as container:
        container.start()
        screen = screen_of(container.process)
        # Group 5 is tty, by the mount option of devpts.
        assert screen.until("reopened").split() == ["1000:5"]


def test_terminal_in_a_user_namespace(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(sh("stat -c %u $(tty); echo end"), edit=terminal)
    add_user_namespace(one.config)
    with create(factory, one) as container:
        container.start()
        assert screen_of(container.process).until("end").split() == ["0"]


@pytest.fixture
def console_socket(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    path = str(tmp_path / "console.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(TIMEOUT)
        yield path, listener


def test_console_socket_gets_the_master(
    factory: lc.Factory, bundle: BundleMaker, console_socket: tuple[str, socket.socket]
) -> None:
    path, listener = console_socket
    one = bundle(sh("echo hello; exit 5"), edit=terminal)
    with create(factory, one, console_socket=path) as container:
        connection, _ = listener.accept()
        with connection:
            master = tty.recv_console(connection)
        try:
            assert container.process is not None
            assert container.process.console is None
            container.start()
            Screen(master).until("hello")
            assert container.wait(TIMEOUT) == 5
        finally:
            os.close(master)


@pytest.mark.parametrize("kind", ["missing", "file", "nobody listens"])
def test_useless_console_socket_is_refused(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "console.sock"
    if kind == "file":
        path.write_text("")
    elif kind == "nobody listens":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    with pytest.raises(lc.ContainerError, match="console"):
        create(factory, bundle(FOREVER, edit=terminal), console_socket=str(path))
    assert factory.list() == []


def test_exec_has_a_terminal_of_its_own(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER, edit=terminal)) as container:
        container.start()
        process = lc.Process(
            sh("tty; stty size; trap 'exit 8' INT; echo ready; while :; do read line; done"),
            terminal=True,
            console_size=(20, 30),
        )
        with container.exec(process):
            screen = screen_of(process)
            assert screen.until("ready").split() == ["/dev/pts/1", "20", "30"]
            screen.type("\x03")
            assert process.wait(TIMEOUT) == 8


def test_hang_up_ends_the_shell(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        process = container.exec(lc.Process(["cat"], terminal=True))
        assert process.console is not None
        pid = os.pidfd_open(process.pid)
        try:
            process.close()
            assert select.select([pid], [], [], TIMEOUT)[0]
            os.waitid(os.P_PIDFD, pid, os.WEXITED)
        finally:
            os.close(pid)


def test_program_without_a_terminal_cannot_be_resized(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        assert container.process is not None
        with pytest.raises(lc.ContainerError, match="no terminal"):
            container.process.resize(1, 1)
        assert exec_inside(container, ["tty"]).code == 1


def test_created_container_can_be_resized(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(sh("stty size; echo end"), edit=terminal)) as container:
        assert container.process is not None
        container.process.resize(7, 8)
        container.start()
        assert screen_of(container.process).until("end").split() == ["7", "8"]
        assert container.wait(TIMEOUT) in (0, -signal.SIGHUP)
