"""An interactive shell through a real pseudo-terminal, and consoles sent over a socket."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import socket
import subprocess
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

pytestmark = pytest.mark.conformance
PATIENCE = 20
# Spelled so that the echo of what was typed is not what is waited for.
READY = "echo rea''dy"


class Session:
    """A command in a pseudo-terminal of its own, as a terminal window would run it."""

    def __init__(self, argv: Sequence[str], *, rows: int = 24, columns: int = 80) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.modes = termios.tcgetattr(self.slave)
        self.output = b""
        self._process = subprocess.Popen(
            argv,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=self._take_terminal,
        )
        self.pid = self._process.pid

    def _take_terminal(self) -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self.master, (rows, columns))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, wanted: str) -> str:
        """Read until ``wanted`` has come; returns everything before it that was not yet read."""
        while wanted.encode() not in self.output:
            ready = select.select([self.master], [], [], PATIENCE)[0]
            assert ready, f"{wanted!r} did not come, but {self.output!r}"
            self.output += os.read(self.master, 65536)
        before, _, self.output = self.output.partition(wanted.encode())
        return before.decode(errors="replace")

    def wait(self) -> int:
        """The exit code; the terminal must be as it was before."""
        code = self._process.wait(PATIENCE)
        assert termios.tcgetattr(self.slave) == self.modes, "the terminal was not restored"
        return code

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(PATIENCE)
        if self.master >= 0:
            os.close(self.slave)
            os.close(self.master)
            self.slave = self.master = -1


class Terminals:
    """Makes sessions, and ends them with the test."""

    def __init__(self) -> None:
        self._sessions: list[Session] = []

    def __call__(self, argv: Sequence[str], **size: int) -> Session:
        session = Session(argv, **size)
        self._sessions.append(session)
        return session

    def close(self) -> None:
        for session in self._sessions:
            session.close()


@pytest.fixture
def terminals() -> Iterator[Terminals]:
    made = Terminals()
    yield made
    made.close()


def with_terminal(config: dict[str, Any]) -> None:
    config["process"]["terminal"] = True


@pytest.fixture
def shell(bundle: BundleMaker) -> Bundle:
    return bundle(["sh"], edit=with_terminal)


@pytest.fixture
def run_shell(shell: Bundle, pyrunc: Pyrunc, terminals: Terminals) -> Iterator[Session]:
    """A shell in a container, with its prompt on the screen."""
    session = terminals(pyrunc.argv("run", "--bundle", shell, "c"), rows=33, columns=99)
    session.expect("/ # ")
    yield session
    session.close()
    pyrunc("delete", "--force", "c")


def test_what_is_typed_is_run_and_its_code_comes_back(run_shell: Session, pyrunc: Pyrunc) -> None:
    run_shell.type("echo $((6*7))\n")
    run_shell.expect("42\r\n/ # ")
    run_shell.type("exit 7\n")

    assert run_shell.wait() == 7
    assert pyrunc("list", "-q").stdout == ""


def test_the_shell_has_a_terminal_of_its_own(run_shell: Session) -> None:
    run_shell.type("tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo y''es; stty size\n")

    assert "/dev/pts/0" in run_shell.expect("yes\r\n")
    run_shell.expect("33 99\r\n")


def test_control_c_ends_what_runs_inside_and_nothing_else(run_shell: Session) -> None:
    run_shell.type(f"{READY}; cat\n")
    run_shell.expect("ready\r\n")
    run_shell.type("hello\n")
    run_shell.expect("hello\r\nhello\r\n")
    run_shell.type("\x03")
    run_shell.expect("^C")
    run_shell.expect("/ # ")
    run_shell.type("echo code: $?\n")
    run_shell.expect("code: 130\r\n")
    run_shell.type("exit\n")
    assert run_shell.wait() == 0


def test_control_d_ends_the_shell(run_shell: Session) -> None:
    run_shell.type("\x04")

    assert run_shell.wait() == 0


def test_a_resize_reaches_the_inside(run_shell: Session) -> None:
    run_shell.resize(12, 34)
    size = ""
    # SIGWINCH is on its way for a while; every answer of the shell gives it another.
    for _ in range(200):
        run_shell.type("stty size\n")
        run_shell.expect("stty size\r\n")
        size = run_shell.expect("\r\n")
        run_shell.expect("/ # ")
        if size == "12 34":
            break
    assert size == "12 34"
    run_shell.type("exit\n")
    assert run_shell.wait() == 0


def test_the_terminal_is_restored_when_the_command_is_signalled(run_shell: Session) -> None:
    run_shell.type(f"trap 'exit 5' TERM; {READY}\n")
    run_shell.expect("ready\r\n/ # ")
    run_shell.signal(signal.SIGTERM)
    # An interactive shell looks at its traps when a line comes in.
    run_shell.type("\n")

    assert run_shell.wait() == 5


def test_all_output_arrives_before_the_end(
    bundle: BundleMaker, pyrunc: Pyrunc, terminals: Terminals
) -> None:
    made = bundle(["sh", "-c", "seq 1 5000; printf end"], edit=with_terminal)
    session = terminals(pyrunc.argv("run", "--bundle", made, "c"))
    lines = session.expect("end").split("\r\n")

    assert lines == [*(str(number) for number in range(1, 5001)), ""]
    assert session.wait() == 0


def test_a_missing_program_leaves_the_terminal_alone(
    bundle: BundleMaker, pyrunc: Pyrunc, terminals: Terminals
) -> None:
    made = bundle(["nothing"], edit=with_terminal)
    session = terminals(pyrunc.argv("run", "--bundle", made, "c"))
    session.expect("executable file not found in $PATH")

    assert session.wait() == 1


def test_a_shell_works_under_script(
    shell: Bundle, pyrunc: Pyrunc, terminals: Terminals, tmp_path: Path
) -> None:
    command = " ".join(pyrunc.argv("run", "--bundle", shell, "c"))
    typescript = tmp_path / "typescript"
    session = terminals(["script", "--quiet", "--return", "--command", command, str(typescript)])
    session.expect("/ # ")
    session.type("hostname; stty size\n")
    session.expect("24 80\r\n/ # ")
    session.type("exit 6\n")

    assert session.wait() == 6
    assert "24 80" in typescript.read_text(errors="replace")


def test_script_may_have_no_terminal_itself(shell: Bundle, pyrunc: Pyrunc) -> None:
    command = " ".join(pyrunc.argv("run", "--bundle", shell, "c"))
    done = subprocess.run(
        ["script", "--quiet", "--return", "--command", command, "/dev/null"],
        input="echo $((6*7))\nexit 4\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert done.returncode == 4
    assert "42" in done.stdout


def test_exec_has_a_terminal_too(bundle: BundleMaker, pyrunc: Pyrunc, terminals: Terminals) -> None:
    made = bundle(["sleep", "1000"])
    pyrunc("run", "--detach", "--bundle", made, "c", check=True)
    try:
        session = terminals(pyrunc.argv("exec", "--tty", "c", "sh"), rows=44, columns=66)
        session.expect("/ # ")
        session.type("stty size; exit 8\n")
        session.expect("44 66\r\n")
        assert session.wait() == 8
        session = terminals(pyrunc.argv("exec", "-t", "c", "sh", "-c", "kill -KILL $$"))
        assert session.wait() == 137
    finally:
        pyrunc("delete", "--force", "c", check=True)


def test_the_callers_terminal_is_not_given_away(
    bundle: BundleMaker, pyrunc: Pyrunc, terminals: Terminals
) -> None:
    script = "for fd in 0 1 2; do [ -t $fd ] && echo $fd is a terminal; done; read a; echo got $a"
    made = bundle(["sh", "-c", f"{script}; exit 3"])
    session = terminals(pyrunc.argv("run", "--bundle", made, "c"))
    session.type("x\n")

    assert "is a terminal" not in session.expect("got x\r\n")
    assert session.wait() == 3


def test_a_caller_without_a_terminal_is_told_so(shell: Bundle, pyrunc: Pyrunc) -> None:
    done = subprocess.run(
        ["setsid", "--wait", *pyrunc.argv("run", "--bundle", shell, "c")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert done.returncode == 1
    assert "/dev/tty" in done.stderr
    assert pyrunc("list", "-q").stdout == ""


@pytest.fixture
def console(tmp_path: Path) -> Iterator[socket.socket]:
    """A listener such as conmon's and containerd's shim's."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(PATIENCE)
        listener.bind(str(tmp_path / "console"))
        listener.listen(1)
        yield listener


def receive_master(listener: socket.socket) -> int:
    connection, _ = listener.accept()
    with connection:
        _, fds, _, _ = socket.recv_fds(connection, 4096, 4)
    (master,) = fds
    return master


def test_create_sends_the_console_to_its_socket(
    shell: Bundle, pyrunc: Pyrunc, console: socket.socket
) -> None:
    pyrunc("create", "--console-socket", console.getsockname(), "--bundle", shell, "c", check=True)
    master = receive_master(console)
    try:
        pyrunc("start", "c", check=True)
        _expect(master, b"/ # ")
        os.write(master, b"echo $((6*7)); exit\n")
        _expect(master, b"42\r\n")
    finally:
        pyrunc("delete", "--force", "c", check=True)
        os.close(master)


def test_exec_sends_the_console_to_its_socket(
    bundle: BundleMaker, pyrunc: Pyrunc, console: socket.socket
) -> None:
    pyrunc("run", "--detach", "--bundle", bundle(["sleep", "1000"]), "c", check=True)
    try:
        path = console.getsockname()
        pyrunc("exec", "-d", "-t", "--console-socket", path, "c", "sh", "-c", "tty", check=True)
        master = receive_master(console)
        _expect(master, b"/dev/pts/0\r\n")
        os.close(master)
    finally:
        pyrunc("delete", "--force", "c", check=True)


def test_a_console_socket_nobody_listens_on_is_named(shell: Bundle, pyrunc: Pyrunc) -> None:
    done = pyrunc("create", "--console-socket", "/nonexistent/socket", "--bundle", shell, "c")

    assert done.returncode == 1
    assert "/nonexistent/socket" in done.stderr
    assert json.loads(pyrunc("list", "--format", "json").stdout) is None


def _expect(master: int, wanted: bytes) -> None:
    got = b""
    while wanted not in got:
        assert select.select([master], [], [], PATIENCE)[0], f"only {got!r} came"
        got += os.read(master, 65536)
