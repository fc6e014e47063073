"""A process's standard streams and extra descriptors, as the caller asks for them."""

from __future__ import annotations

import os

from libpycontainer import syscalls as sys_
from libpycontainer.errors import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, Protocol

    class HasFileno(Protocol):
        def fileno(self) -> int: ...

    Stream = int | HasFileno | None

# subprocess's own numbers, so that either module's constants may be given.
PIPE: Final = -1
STDOUT: Final = -2
DEVNULL: Final = -3


class Streams:
    """The descriptors of one process: ``fds`` for init by name, ``ours`` the caller's pipe ends.

    :meth:`close_theirs` once init has them, :meth:`close` on failure.
    """

    def __init__(
        self,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        *,
        terminal: bool = False,
        console_socket: str | None = None,
        pass_fds: Sequence[int] = (),
        preserve_fds: int = 0,
    ) -> None:
        self.fds: dict[str, sys_.Fd | int] = {}
        self.ours: dict[int, sys_.Fd] = {}
        self.console: sys_.Fd | None = None
        """Where the terminal's master will arrive, when the caller keeps it himself."""
        self._made: list[sys_.Fd] = []
        extra = [*range(3, 3 + preserve_fds), *pass_fds]
        self.nfds = 3 + len(extra)
        # Everything that is the caller's is looked at before anything is opened here: a number that
        # he has closed is the next one to be taken, and must not be passed on as his.
        for index, fd in enumerate(extra, 3):
            _check_open(fd, f"was to be passed on as {index}")
            self.fds[f"fd:{index}"] = fd
        wanted = [] if terminal else _resolve((stdin, stdout, stderr))
        try:
            if terminal:
                self._terminal(console_socket)
            for number, stream in enumerate(wanted):
                self._open(number, stream)
        except BaseException:
            self.close()
            raise

    def _terminal(self, console_socket: str | None) -> None:
        if console_socket is None:
            self.console, theirs = sys_.socketpair(sys_.SOCK_STREAM)
        else:
            try:
                theirs = sys_.connect(console_socket, sys_.SOCK_STREAM)
            except OSError as error:
                raise ContainerError(
                    f"cannot connect to the console socket {console_socket}: {error.strerror}",
                    op="connect",
                    path=console_socket,
                    errno=error.errno or 0,
                ) from None
        self._made.append(theirs)
        self.fds["console"] = theirs

    def _open(self, number: int, wanted: int) -> None:
        if wanted == PIPE:
            reader, writer = (sys_.Fd(fd) for fd in os.pipe2(os.O_CLOEXEC))
            theirs, mine = (reader, writer) if number == 0 else (writer, reader)
            self._made.append(theirs)
            self.ours[number] = mine
            self.fds[f"fd:{number}"] = theirs
        elif wanted == DEVNULL:
            null = sys_.Fd(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
            self._made.append(null)
            self.fds[f"fd:{number}"] = null
        elif wanted == STDOUT:
            self.fds[f"fd:{number}"] = self.fds["fd:1"]
        else:
            self.fds[f"fd:{number}"] = wanted

    def give_to(self, uid: int, gid: int) -> None:
        """Make a user of the host the owner of the pipes made here.

        Init gives pipes to the program's user itself; in a user namespace it may not take them from
        an owner that is not mapped there.
        """
        for number in self.ours:
            fd = self.fds[f"fd:{number}"]
            os.fchown(fd if isinstance(fd, int) else fd.fileno(), uid, gid)

    def receive_console(self) -> sys_.Fd:
        """The terminal's master, sent by init before its first word."""
        assert self.console is not None
        _name, fds = sys_.receive(self.console.fileno())
        for fd in fds[1:]:
            fd.close()
        if not fds:
            raise ContainerError("the container's init sent no terminal", op="console")
        return fds[0]

    def close_theirs(self) -> None:
        for fd in self._made:
            fd.close()

    def close(self) -> None:
        self.close_theirs()
        for fd in self.ours.values():
            fd.close()
        if self.console is not None:
            self.console.close()


def _resolve(streams: Sequence[Stream]) -> list[int]:
    """PIPE, DEVNULL, STDOUT (for stderr), or the number of an open descriptor, of each of three."""
    resolved = []
    for number, wanted in enumerate(streams):
        if wanted is None:
            # The caller may run without this stream; its program gets one that leads nowhere.
            resolved.append(number if _is_open(number) else DEVNULL)
        elif wanted in (PIPE, DEVNULL) or (wanted == STDOUT and number == 2):
            resolved.append(wanted)
        else:
            fd = wanted if isinstance(wanted, int) else wanted.fileno()
            _check_open(fd, f"was given as {('stdin', 'stdout', 'stderr')[number]}")
            resolved.append(fd)
    return resolved


def all_open(standard: Sequence[Stream], extra: Sequence[int]) -> bool:
    """Is every descriptor open that is to be passed on, the caller's own standard streams too?

    Then none of their numbers can come to mean one that is opened here.
    """
    numbers = [*range(3), *extra]
    for stream in standard:
        if stream is not None and stream not in (PIPE, STDOUT, DEVNULL):
            numbers.append(stream if isinstance(stream, int) else stream.fileno())
    return all(map(_is_open, numbers))


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except (OSError, OverflowError):
        return False
    return True


def _check_open(fd: int, purpose: str) -> None:
    if not _is_open(fd):
        message = f"file descriptor {fd}, which {purpose}, is not open"
        raise ContainerError(message, op="streams")
