"""Terminals: the relay between a container's console and the caller's, sizes, console sockets.

A console is a pseudo-terminal whose slave is the container's and whose master is a descriptor in
the caller's hands. Nothing here installs a signal handler or touches the process's state other
than the modes of the terminal that :class:`Relay` is given, which it puts back.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
import termios

from libpycontainer.errors import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import signal as _signal
    from collections.abc import Callable, Sequence
else:
    import _signal

# man 2 TIOCGPTPEER: opens the other end of a master, whatever mount namespace its name lies in.
_TIOCGPTPEER = 0x5441
# A pipe that polls as writable takes this much without blocking (man 7 pipe, PIPE_BUF).
_CHUNK = 4096
_BUFFERED = 1 << 16
# The most that a pipe or a terminal can hold unread (man 7 pipe, /proc/sys/fs/pipe-max-size).
_IN_FLIGHT = 1 << 20
_FD_BYTES = 4
_INPUT, _OUTPUT = select.POLLIN, select.POLLOUT
# Where tcgetattr keeps them in its list.
_LFLAG, _CC = 3, 6


def get_size(fd: int) -> tuple[int, int]:
    """The rows and columns of the terminal ``fd``. Raises :class:`OSError` when it is none."""
    size = os.get_terminal_size(fd)
    return size.lines, size.columns


def set_size(fd: int, rows: int, cols: int) -> None:
    """Give the terminal ``fd`` a size; its foreground processes get SIGWINCH when it changed."""
    termios.tcsetwinsize(fd, (rows, cols))


class Channel:
    """One direction of a relay: what is read from ``source`` is written to ``sink``.

    The descriptors stay the caller's. ``on_end`` is called once, when everything has arrived. A
    sink that fails is given up: what else comes from the source is read and dropped, or not even
    read where ``broken_ends``. ``taken`` counts the bytes read, ``tail`` is the last of them.
    """

    __slots__ = (
        "broken",
        "broken_ends",
        "buffer",
        "ended",
        "on_end",
        "sink",
        "source",
        "tail",
        "taken",
    )

    def __init__(
        self,
        source: int,
        sink: int,
        *,
        on_end: Callable[[Channel], None] | None = None,
        broken_ends: bool = False,
    ) -> None:
        self.source = source
        self.sink = sink
        self.buffer = bytearray()
        self.ended = False
        self.broken = False
        self.on_end = on_end
        self.broken_ends = broken_ends
        self.tail = b""
        self.taken = 0

    @property
    def finished(self) -> bool:
        """Has everything arrived that will?"""
        return self.ended and not self.buffer

    def wants(self) -> list[tuple[int, int]]:
        """What it waits for now, as descriptors and poll events."""
        interests = []
        if not self.ended and len(self.buffer) < _BUFFERED:
            interests.append((self.source, _INPUT))
        if self.buffer:
            interests.append((self.sink, _OUTPUT))
        return interests

    def pull(self) -> None:
        """Take what the source has. A terminal whose other end is gone says EIO for the end."""
        try:
            data = os.read(self.source, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.ended = True
            self._report_end()
            return
        self.taken += len(data)
        self.tail = data[-1:]
        if not self.broken:
            self.buffer += data

    def push(self) -> None:
        """Give the sink as much as it takes at once."""
        try:
            del self.buffer[: os.write(self.sink, self.buffer[:_CHUNK])]
        except BlockingIOError:
            return
        except OSError:
            self.broken = True
            self.buffer.clear()
            self.ended = self.ended or self.broken_ends
        self._report_end()

    def _report_end(self) -> None:
        if self.finished and self.on_end is not None:
            on_end, self.on_end = self.on_end, None
            on_end(self)


class Pump:
    """Runs channels until there is nothing more to come.

    With ``stop_fd`` (the pidfd of the process at the other end), that is when it turns readable
    and what was written until then has been passed on; without it, when every channel of
    ``outputs`` has ended. ``inputs`` are never waited for. ``on_wakeup`` is called whenever
    ``wakeup_fd`` is readable, and must make it unreadable.
    """

    def __init__(
        self,
        outputs: Sequence[Channel],
        inputs: Sequence[Channel] = (),
        *,
        stop_fd: int = -1,
        wakeup_fd: int = -1,
        on_wakeup: Callable[[], None] | None = None,
    ) -> None:
        self._outputs = outputs
        self._inputs = inputs
        self._stop_fd = stop_fd
        self._wakeup_fd = wakeup_fd
        self._on_wakeup = on_wakeup
        self._stopped = False

    def run(self) -> None:
        """Relay to the end. May be called once."""
        while not self._stopped and (self._stop_fd >= 0 or not self._all_finished()):
            self._turn(None)
        self._drain()

    def _drain(self) -> None:
        """Pass on what the outputs hold now: whoever else has their other end may write on."""
        last = [channel.taken + _IN_FLIGHT for channel in self._outputs]
        while not self._all_finished():
            pending = any(channel.buffer for channel in self._outputs)
            if not self._turn(None if pending else 0) and not pending:
                break
            if all(ch.taken >= most for ch, most in zip(self._outputs, last, strict=True)):
                break
        for channel in self._outputs:
            while channel.buffer:
                _poll({channel.sink: _OUTPUT}, None)
                channel.push()

    def _all_finished(self) -> bool:
        return all(channel.finished for channel in self._outputs)

    def _turn(self, timeout: int | None) -> bool:
        """Wait, then serve what is ready. Did any output move?"""
        channels = self._outputs if self._stopped else (*self._outputs, *self._inputs)
        ready = _poll(self._interests(channels), timeout)
        if self._stop_fd in ready:
            self._stopped = True
        if self._wakeup_fd in ready and self._on_wakeup is not None:
            self._on_wakeup()
        moved = False
        for channel in channels:
            if channel.buffer and ready.get(channel.sink, 0) & ~_INPUT:
                channel.push()
                moved = True
            if not channel.ended and ready.get(channel.source, 0) & ~_OUTPUT:
                channel.pull()
                moved = True
        return moved

    def _interests(self, channels: Sequence[Channel]) -> dict[int, int]:
        interests: dict[int, int] = {}
        for channel in channels:
            for fd, events in channel.wants():
                interests[fd] = interests.get(fd, 0) | events
        if not self._stopped:
            for fd in (self._stop_fd, self._wakeup_fd):
                if fd >= 0:
                    interests[fd] = _INPUT
        return interests


def _poll(interests: dict[int, int], timeout: int | None) -> dict[int, int]:
    """The descriptors that are ready, and for what: failures count as either direction."""
    poller = select.poll()
    for fd, events in interests.items():
        poller.register(fd, events)
    return dict(poller.poll(timeout))


class Relay:
    """The caller's terminal as the console of a container, for the length of a ``with`` block.

    Entering saves the modes of ``terminal_fd`` (the first of ``stdin_fd`` and ``stdout_fd`` that
    is a terminal, unless given), makes it raw and hands its size to the console; leaving puts the
    modes back, whatever happened. Then what is typed goes to the container byte by byte, and the
    line discipline inside (echo, Ctrl-C) is the one that counts. With no terminal at all it
    relays just the same.

    No descriptor changes hands; ``master_fd`` is made non-blocking. Raises :class:`OSError` when
    ``master_fd`` is not the master of a pseudo-terminal.
    """

    def __init__(
        self, master_fd: int, stdin_fd: int, stdout_fd: int, *, terminal_fd: int | None = None
    ) -> None:
        self._master_fd = master_fd
        self._stdin_fd = stdin_fd
        self._stdout_fd = stdout_fd
        if terminal_fd is None:
            terminal_fd = next((fd for fd in (stdin_fd, stdout_fd) if os.isatty(fd)), None)
        self._terminal_fd = terminal_fd
        self._saved: list[int | list[bytes | int]] | None = None
        self._peer_fd = -1

    def __enter__(self) -> Relay:
        os.set_blocking(self._master_fd, False)
        # While nobody has the slave open the master reads as at its end, and stays readable: an
        # init that closes its console and opens it again later (systemd does) would be cut off.
        flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
        self._peer_fd = fcntl.ioctl(self._master_fd, _TIOCGPTPEER, flags)
        try:
            if self._terminal_fd is not None:
                self.resize()
                self._saved = termios.tcgetattr(self._terminal_fd)
                termios.tcsetattr(self._terminal_fd, termios.TCSANOW, _raw(self._saved))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._release_peer()
        if self._saved is not None and self._terminal_fd is not None:
            saved, self._saved = self._saved, None
            _restore(self._terminal_fd, saved)

    def resize(self) -> None:
        """Give the console the size that the caller's terminal has now (after SIGWINCH)."""
        if self._terminal_fd is None:
            return
        try:
            set_size(self._master_fd, *get_size(self._terminal_fd))
        except (OSError, termios.error):
            # The terminal has been hung up: its last size is as good as any.
            return

    def run(
        self,
        stop_fd: int = -1,
        wakeup_fd: int = -1,
        on_wakeup: Callable[[], None] | None = None,
    ) -> None:
        """Relay both ways until the container is done, then pass on the rest of its output.

        ``stop_fd`` is a pidfd: its process's end is the end. Without it the relay ends when no
        process has the console open any more. ``on_wakeup`` is called when ``wakeup_fd`` is
        readable, and must make it unreadable.
        """
        if stop_fd < 0:
            self._release_peer()
        output = Channel(self._master_fd, self._stdout_fd)
        typed = Channel(self._stdin_fd, self._master_fd, on_end=self._end_input)
        pump = Pump([output], [typed], stop_fd=stop_fd, wakeup_fd=wakeup_fd, on_wakeup=on_wakeup)
        pump.run()

    def _end_input(self, typed: Channel) -> None:
        """Pass on the end of a redirected standard input, as the character that means it.

        Once more when the last line was not complete: then the first only completes the line.
        """
        modes = termios.tcgetattr(self._master_fd)
        lflag, characters = modes[_LFLAG], modes[_CC]
        assert isinstance(lflag, int)
        assert isinstance(characters, list)
        end = characters[termios.VEOF]
        if not lflag & termios.ICANON or not isinstance(end, bytes):
            return
        typed.buffer += end if typed.tail in (b"", b"\n") else end * 2

    def _release_peer(self) -> None:
        if self._peer_fd >= 0:
            os.close(self._peer_fd)
            self._peer_fd = -1


def _raw(modes: list[int | list[bytes | int]]) -> list[int | list[bytes | int]]:
    """``modes`` with no processing of input or output at all (man 3 cfmakeraw)."""
    t = termios
    iflag, oflag, cflag, lflag = (part for part in modes[:4] if isinstance(part, int))
    iflag &= ~(t.IGNBRK | t.BRKINT | t.PARMRK | t.ISTRIP | t.INLCR | t.IGNCR | t.ICRNL | t.IXON)
    oflag &= ~t.OPOST
    cflag = cflag & ~(t.CSIZE | t.PARENB) | t.CS8
    lflag &= ~(t.ECHO | t.ECHONL | t.ICANON | t.ISIG | t.IEXTEN)
    characters = modes[_CC]
    assert isinstance(characters, list)
    characters = characters.copy()
    characters[t.VMIN], characters[t.VTIME] = 1, 0
    return [iflag, oflag, cflag, lflag, modes[4], modes[5], characters]


def _restore(fd: int, modes: list[int | list[bytes | int]]) -> None:
    """Put ``modes`` back, from the background too, where SIGTTOU would stop the process."""
    blocked = _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGTTOU])
    try:
        termios.tcsetattr(fd, termios.TCSANOW, modes)
    except termios.error:
        # Hung up: there is no terminal left to be put right.
        return
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, blocked)


def recv_console(sock: _socket.socket) -> int:
    """The master that a runtime sends over ``sock``; the caller owns and closes it.

    The message is runc's: one descriptor, with the name of the terminal as text
    (runc docs/terminals.md). Raises :class:`ProtocolError` when there is anything else.
    """
    import _socket

    room = _socket.CMSG_SPACE(4 * _FD_BYTES)
    _, ancillary, _, _ = sock.recvmsg(_CHUNK, room, _socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            for start in range(0, len(data) - _FD_BYTES + 1, _FD_BYTES):
                fds.append(int.from_bytes(data[start : start + _FD_BYTES], sys.byteorder))
    if len(fds) != 1:
        for fd in fds:
            os.close(fd)
        raise ProtocolError(f"the console socket brought {len(fds)} descriptors instead of one")
    return fds[0]


class ConsoleSocket:
    """A listening socket to name as ``console_socket``; :meth:`receive` then gives the master.

    Without ``path`` it lies in a fresh directory that only its owner may enter. Leaving the block
    removes what was made.
    """

    def __init__(self, path: str | None = None) -> None:
        import _socket

        self._directory = ""
        if path is None:
            parent = os.environ.get("TMPDIR") or "/tmp"
            self._directory = os.path.join(parent, f"lpc-console-{os.urandom(6).hex()}")
            os.mkdir(self._directory, 0o700)
            path = os.path.join(self._directory, "socket")
        self.path = path
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._bound = False

    def __enter__(self) -> ConsoleSocket:
        try:
            self._socket.bind(self.path)
            self._bound = True
            self._socket.listen(1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        if self._bound:
            os.unlink(self.path)
        if self._directory:
            os.rmdir(self._directory)

    def fileno(self) -> int:
        """Readable once a runtime has connected."""
        return self._socket.fileno()

    def receive(self) -> int:
        """Wait for a runtime to connect and send; the caller owns and closes what it sent."""
        import _socket

        fd, _ = self._socket._accept()  # type: ignore[attr-defined]
        connection = _socket.socket(fileno=fd)
        try:
            return recv_console(connection)
        finally:
            connection.close()
