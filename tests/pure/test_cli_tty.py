"""The relay between a container's console and the caller's terminal, with real pseudo-terminals."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import termios
import threading
import tty as stdlib_tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libpycontainer.errors import ProtocolError
from libpycontainer.tty import (
    Channel,
    ConsoleSocket,
    Pump,
    Relay,
    get_size,
    recv_console,
    set_size,
)

PATIENCE = 10


class Terminal:
    """A pseudo-terminal of the test: both ends, closed in the end."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()

    def close_slave(self) -> None:
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1

    def close(self) -> None:
        self.close_slave()
        os.close(self.master)

    def modes(self) -> object:
        return termios.tcgetattr(self.slave)


@pytest.fixture
def outer() -> Iterator[Terminal]:
    """The caller's terminal: the test looks at it from the master's end."""
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def inner() -> Iterator[Terminal]:
    """The container's console."""
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue


def read_until(fd: int, wanted: bytes) -> bytes:
    """What comes from ``fd`` up to and with ``wanted``."""
    got = b""
    while wanted not in got:
        assert select.select([fd], [], [], PATIENCE)[0], f"only {got!r} came"
        got += os.read(fd, 65536)
    return got


@contextmanager
def relaying(relay: Relay, *, stop_fd: int = -1) -> Iterator[None]:
    """Have ``relay`` run beside the test, and see it end."""
    thread = threading.Thread(target=relay.run, args=(stop_fd,))
    thread.start()
    yield
    thread.join(PATIENCE)
    assert not thread.is_alive(), "the relay does not end"


def test_the_terminal_is_raw_inside_and_as_before_afterwards(
    outer: Terminal, inner: Terminal
) -> None:
    before = outer.modes()
    with Relay(inner.master, outer.slave, outer.slave):
        lflag = termios.tcgetattr(outer.slave)[3]
        assert isinstance(lflag, int)
        assert not lflag & (termios.ECHO | termios.ICANON | termios.ISIG)
    assert outer.modes() == before


def test_the_terminal_is_as_before_after_an_exception(outer: Terminal, inner: Terminal) -> None:
    before = outer.modes()
    with pytest.raises(KeyboardInterrupt), Relay(inner.master, outer.slave, outer.slave):
        raise KeyboardInterrupt
    assert outer.modes() == before


def test_what_is_no_master_is_refused_and_the_terminal_left_alone(
    outer: Terminal, pipe: tuple[int, int]
) -> None:
    before = outer.modes()
    with pytest.raises(OSError), Relay(pipe[0], outer.slave, outer.slave):  # noqa: PT011
        pass
    assert outer.modes() == before


def test_a_terminal_that_went_away_does_not_spoil_the_end(inner: Terminal) -> None:
    gone = Terminal()
    with Relay(inner.master, gone.slave, gone.slave) as relay:
        os.close(gone.master)
        relay.resize()
    gone.close_slave()


def test_both_directions_are_relayed_byte_by_byte(
    outer: Terminal, inner: Terminal, pipe: tuple[int, int]
) -> None:
    stop, stopper = pipe
    stdlib_tty.setraw(inner.slave)
    with Relay(inner.master, outer.slave, outer.slave) as relay, relaying(relay, stop_fd=stop):
        os.write(outer.master, b"\x03\x04\x1a\xff")
        assert read_until(inner.slave, b"\xff") == b"\x03\x04\x1a\xff"
        os.write(inner.slave, b"a\nb\r\n")
        assert read_until(outer.master, b"b\r\n") == b"a\nb\r\n"
        os.write(stopper, b"x")


def test_output_written_just_before_the_end_arrives(
    outer: Terminal, inner: Terminal, pipe: tuple[int, int]
) -> None:
    stop, stopper = pipe
    stdlib_tty.setraw(inner.slave)
    text = b"".join(b"%05d\n" % number for number in range(600))
    os.write(inner.slave, text)
    os.write(stopper, b"x")
    with Relay(inner.master, outer.slave, outer.slave) as relay:
        relay.run(stop)
    assert read_until(outer.master, b"00599\n") == text


def test_a_flood_after_the_end_does_not_keep_the_relay(pipe: tuple[int, int]) -> None:
    stop, stopper = pipe
    os.write(stopper, b"x")
    with open("/dev/zero", "rb") as source, open("/dev/null", "wb") as sink:
        Pump([Channel(source.fileno(), sink.fileno())], stop_fd=stop).run()


def test_the_relay_ends_with_the_last_user_of_the_console(outer: Terminal, inner: Terminal) -> None:
    with Relay(inner.master, outer.slave, outer.slave) as relay, relaying(relay):
        os.write(inner.slave, b"bye")
        inner.close_slave()
    assert read_until(outer.master, b"bye") == b"bye"


def test_a_console_may_be_closed_and_opened_again(
    outer: Terminal, inner: Terminal, pipe: tuple[int, int]
) -> None:
    stop, stopper = pipe
    name = os.ttyname(inner.slave)
    stdlib_tty.setraw(inner.slave)
    with Relay(inner.master, outer.slave, outer.slave) as relay, relaying(relay, stop_fd=stop):
        os.write(inner.slave, b"first")
        assert read_until(outer.master, b"first") == b"first"
        inner.close_slave()
        # What is typed now arrives only when the relay has also looked at the closed console.
        os.write(outer.master, b"typed")
        inner.slave = os.open(name, os.O_RDWR | os.O_NOCTTY)
        assert read_until(inner.slave, b"typed") == b"typed"
        os.write(inner.slave, b"second")
        assert read_until(outer.master, b"second") == b"second"
        os.write(stopper, b"x")


@pytest.mark.parametrize("text", [b"", b"a line\n", b"no end of line"])
def test_the_end_of_a_redirected_input_is_the_end_inside(
    text: bytes, inner: Terminal, pipe: tuple[int, int]
) -> None:
    typed, typist = pipe
    output, output_end = os.pipe()
    with subprocess.Popen(["cat"], stdin=inner.slave, stdout=inner.slave) as process:
        inner.close_slave()
        pidfd = os.pidfd_open(process.pid)
        os.write(typist, text)
        os.close(typist)
        with Relay(inner.master, typed, output_end) as relay, relaying(relay, stop_fd=pidfd):
            assert process.wait(PATIENCE) == 0
        os.close(pidfd)
    os.close(output_end)
    shown = text.replace(b"\n", b"\r\n")
    with os.fdopen(output, "rb") as reader:
        assert reader.read() == shown + shown


def test_the_console_has_the_size_of_the_terminal(outer: Terminal, inner: Terminal) -> None:
    set_size(outer.slave, 33, 99)
    with Relay(inner.master, outer.slave, outer.slave) as relay:
        assert get_size(inner.slave) == (33, 99)
        set_size(outer.slave, 12, 34)
        relay.resize()
        assert get_size(inner.slave) == (12, 34)


def test_the_wakeup_is_called_while_relaying(
    outer: Terminal, inner: Terminal, pipe: tuple[int, int]
) -> None:
    wakeup, waker = pipe
    seen = []

    def woken() -> None:
        seen.append(os.read(wakeup, 1))
        inner.close_slave()

    os.write(waker, b"w")
    with Relay(inner.master, outer.slave, outer.slave) as relay:
        relay.run(wakeup_fd=wakeup, on_wakeup=woken)
    assert seen == [b"w"]


def test_a_slow_reader_gets_everything(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.set_blocking(write, False)
    text = os.urandom(1 << 20)
    got = bytearray()

    def reader() -> None:
        while data := os.read(read, 777):
            got.extend(data)

    source, source_end = os.pipe()

    def writer() -> None:
        with os.fdopen(source_end, "wb") as file:
            file.write(text)

    threads = [threading.Thread(target=reader), threading.Thread(target=writer)]
    for thread in threads:
        thread.start()
    Pump([Channel(source, write)]).run()
    os.close(write)
    for thread in threads:
        thread.join(PATIENCE)
    os.close(source)
    assert bytes(got) == text


def test_output_nobody_reads_is_dropped_and_the_process_lives_on(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.close(read)
    source, source_end = os.pipe()
    with os.fdopen(source_end, "wb") as file:
        file.write(b"x" * 10000)
    ended: list[Channel] = []
    Pump([Channel(source, write, on_end=ended.append)]).run()
    os.close(source)
    assert len(ended) == 1


def test_an_input_nobody_reads_is_no_longer_taken(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.close(read)
    source, source_end = os.pipe()
    os.write(source_end, b"first")
    channel = Channel(source, write, broken_ends=True)
    channel.pull()
    channel.push()
    assert channel.finished
    assert channel.wants() == []
    os.close(source)
    os.close(source_end)


def test_the_terminal_is_put_back_from_the_background() -> None:
    """A job in the background that changes its terminal is stopped by SIGTTOU, unless blocked."""
    shell, master = pty.fork()
    if shell == 0:
        _be_a_shell()
    try:
        assert read_until(master, b"!").strip() == b"restored!"
        assert os.waitpid(shell, 0)[1] == 0
    finally:
        os.close(master)


def _be_a_shell() -> None:
    """Run a job in the foreground, put it into the background, and see it end and restore."""
    verdict = b"failed!"
    try:
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        before = termios.tcgetattr(0)
        entered, enter = os.pipe()
        proceed, backgrounded = os.pipe()
        job = os.fork()
        if job == 0:
            os.setpgid(0, 0)
            os.tcsetpgrp(0, os.getpid())
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)
            with Relay(pty.openpty()[0], 0, 1):
                os.write(enter, b"x")
                os.read(proceed, 1)
            os._exit(0)
        os.read(entered, 1)
        raw = termios.tcgetattr(0)
        os.tcsetpgrp(0, os.getpid())
        os.write(backgrounded, b"x")
        _, status = os.waitpid(job, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            os.kill(job, signal.SIGKILL)
            verdict = b"stopped!"
        elif raw != before == termios.tcgetattr(0):
            verdict = b"restored!"
    finally:
        os.write(1, verdict)
        os._exit(0)


def test_a_console_comes_over_its_socket(inner: Terminal) -> None:
    with ConsoleSocket() as listener:
        assert os.stat(os.path.dirname(listener.path)).st_mode & 0o777 == 0o700
        with socket.socket(socket.AF_UNIX) as runtime:
            runtime.connect(listener.path)
            socket.send_fds(runtime, [b"/dev/pts/0"], [inner.master])
            assert select.select([listener], [], [], PATIENCE)[0]
            received = listener.receive()
        path = listener.path
    assert os.isatty(received)
    assert not os.get_inheritable(received)
    os.close(received)
    assert not os.path.exists(os.path.dirname(path))


def test_a_console_socket_may_have_a_name(tmp_path: Path) -> None:
    path = str(tmp_path / "console")
    with ConsoleSocket(path):
        assert os.path.exists(path)
    assert not os.path.exists(path)
    assert tmp_path.is_dir()


@pytest.mark.parametrize("count", [0, 2, 4])
def test_anything_but_one_console_is_refused_and_closed(count: int, pipe: tuple[int, int]) -> None:
    read, write = pipe
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(theirs, [b"x"], [write] * count)
        with pytest.raises(ProtocolError, match=f"brought {count} descriptors"):
            recv_console(ours)
    os.close(write)
    assert os.read(read, 1) == b""
