"""The sealed interpreter that inits are cloned from: one for each request, or one for them all.

A :class:`Spawner` is one request's. Cold, it is an interpreter of its own that boots while its
caller still plans, serves this request and is gone. Warm, a ``Nursery`` has booted one
beforehand, and the request is served by a clone of that, which is the caller's child as well and
runs the same code from the same point on. Mostly that clone is the container's init, in its new
namespaces already, while the caller still plans. Where init must enter others first the clone is
only a courier, which enters them and makes init by another clone.
"""

from __future__ import annotations

import marshal
import os

from libpycontainer import interpreter, reaping
from libpycontainer import syscalls as sys_
from libpycontainer.errors import ContainerError, InterpreterError, ProtocolError, StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from libpycontainer.nursery import Nursery
    from libpycontainer.plan import Plan

KILL = 9


def whose() -> tuple[object, ...]:
    """Whose an interpreter is: not a fork's, nor that of a program that has taken another user."""
    return os.getpid(), os.getresuid(), os.getresgid()


class Interpreter:
    """A sealed interpreter that was started with a line to us, and what it printed.

    Close it on every path: then it is dead and reaped.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.pid = 0
        self.child = sys_.Child()
        self.line: sys_.Fd | None = None
        self._errors = sys_.memfd("spawner-stderr")

    def start(self, entry: str, *more: sys_.Fd) -> None:
        """Execute it to run ``entry`` of init/main.py, with ``more`` as its descriptors 4, 5 ...

        Raises :class:`InterpreterError`.
        """
        self.execute(interpreter.command(self.path, entry), *more)

    def execute(self, command: list[str], *more: sys_.Fd) -> None:
        """:meth:`start` with the whole command given."""
        self.line, theirs = sys_.socketpair()
        null = sys_.Fd(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
        with theirs, null, interpreter.seal(self.path) as executable:
            fds = [null, null, self._errors, theirs, *more]
            try:
                self.pid = sys_.spawn(
                    command,
                    interpreter.environment(),
                    [fd.fileno() for fd in fds],
                    executable=executable.fileno(),
                    block_signals=True,
                    child=self.child,
                )
            except OSError as error:
                raise InterpreterError(
                    f"cannot start the interpreter {self.path}: {error.strerror}",
                    path=self.path,
                    errno=error.errno or 0,
                ) from None

    def diagnosis(self) -> str:
        """What the interpreter printed, if it got that far only: a missing library, say."""
        text = os.pread(self._errors.fileno(), 2000, 0).decode("utf-8", "replace").strip()
        return text.splitlines()[-1] if text else ""

    def reap(self) -> None:
        """Wait for its end."""
        if self.child.started:
            _reap(self.child.fileno())

    def close(self) -> None:
        if self.line is not None:
            self.line.close()
        if self.child.started:
            _kill(self.child.fileno())
            self.reap()
            self.child.close()
        self._errors.close()

    def forget(self) -> None:
        """Let go of what a fork has copied: the interpreter is another process's child."""
        if self.line is not None:
            self.line.close()
        self.child.close()
        self._errors.close()


class Spawner:
    """What one request is sent to.

    :meth:`close` it on every path, from before :meth:`start`: an unused one sees end-of-file and
    leaves, one that hangs is killed, and so is an init whose pidfd nobody has closed.

    The conversation is not held on the line that it is started with, but on one that it makes
    itself: a copy of *our* other end could live on in a child that some thread of this program
    forks meanwhile, and then nobody's death would be heard.
    """

    def __init__(self, path: str, nursery: Nursery | None = None) -> None:
        self.path = path
        self.made_by = whose()
        self._nursery = nursery
        self._own = Interpreter(path) if nursery is None else None
        self._line: sys_.Fd | None = None
        self.clone: sys_.Fd | None = None
        """A pidfd of what was cloned when warm, from :meth:`request` on."""
        self.is_init = False
        """Whether what :meth:`start` has cloned is the container's init itself."""
        self.socket: sys_.Fd | None = None
        """The conversation's line, from :meth:`request` on."""

    @property
    def warm(self) -> bool:
        return self._nursery is not None

    def start(self) -> None:
        """Have it boot, or be cloned; once is enough. Raises :class:`InterpreterError`."""
        if self._own is not None:
            if not self._own.child.started:
                self._own.start("main")
        else:
            assert self._nursery is not None
            self._line = self._nursery.ask()

    def start_init(self, flags: int, cgroup: sys_.Fd | None) -> None:
        """In place of :meth:`start`, when warm: have init cloned at once, into the v2 ``cgroup``.

        Raises :class:`InterpreterError`; what the kernel says to the clone :meth:`request` raises.
        """
        assert self._nursery is not None
        self.is_init = True
        self._line = self._nursery.ask(flags, cgroup)

    def request(self, plan: Plan, fds: Mapping[str, sys_.Fd | int]) -> None:
        """Send the plan and its descriptors, which stay the caller's."""
        self.socket = self._greet()
        with sys_.sealed_memfd("plan", plan.serialise()) as memory:
            names = ["plan", *fds]
            numbers = [memory.fileno(), *(_number(fd) for fd in fds.values())]
            head = marshal.dumps(names, 2)
            try:
                for first in range(0, len(numbers), sys_.MAX_PACKET_FDS):
                    chunk = numbers[first : first + sys_.MAX_PACKET_FDS]
                    sys_.send(self.socket.fileno(), head if first == 0 else b"more", chunk)
            except (BrokenPipeError, ConnectionResetError):
                raise self._died() from None

    def _greet(self) -> sys_.Fd:
        """Wait until it has booted, or died; take the line that it made."""
        if self._own is None:
            return self._greet_clone()
        line = self._own.line
        assert line is not None
        ended = reaping.wait_any([line.fileno(), self._own.child.fileno()], None)
        if line.fileno() in ended:
            _hello, received = sys_.receive(line.fileno())
            if received:
                return received[0]
        raise self._died()

    def _greet_clone(self) -> sys_.Fd:
        """The clone says hello and who it is; so does the nursery, should the clone die first.

        Their packets come in any order.
        """
        assert self._line is not None
        while True:
            word, received = sys_.receive(self._line.fileno())
            if word == b"cloned" and received:
                self._know(received[0])
            elif word == b"hello" and len(received) == 2:
                self._know(received[1])
                return received[0]
            elif word.startswith(b"error\0"):
                raise self._refused(int(word.partition(b"\0")[2]))
            else:
                raise self._died()

    def _know(self, pidfd: sys_.Fd) -> None:
        if self.clone is None:
            self.clone = pidfd
        else:
            pidfd.close()

    def _refused(self, errno: int) -> ContainerError:
        reason = os.strerror(errno)
        if self.is_init:
            text = f"clone the container's init: {reason}"
            return StepError(text, op="clone3", errno=errno)
        text = f"the warm interpreter {self.path} cannot clone itself: {reason}"
        return ProtocolError(text, op="spawn")

    def diagnosis(self) -> str:
        """What the interpreter printed, if it got that far only: a missing library, say."""
        source = self._own or self._nursery
        assert source is not None
        return source.diagnosis()

    def _died(self) -> ProtocolError:
        said = self.diagnosis()
        detail = f": {said}" if said else ""
        return ProtocolError(
            f"the interpreter {self.path} died before it took the request{detail}", op="spawn"
        )

    def _find_unused(self) -> None:
        """It was asked for and never heard: learn who it is, so that it can be reaped."""
        try:
            self._greet_clone().close()
        except (ContainerError, OSError):
            # There is none, or it died, and then the nursery has said who it was.
            return

    def forget(self) -> None:
        """Let go of what a fork has copied: it is another process's to close."""
        if self._own is not None:
            self._own.forget()

    def close(self) -> None:
        if self._line is not None and self.clone is None:
            self._find_unused()
        for fd in (self.socket, self._line):
            if fd is not None:
                fd.close()
        if self._own is not None:
            self._own.close()
        clone, self.clone, self._line = self.clone, None, None
        if clone is not None and not clone.closed:
            with clone:
                _kill(clone.fileno())
                _reap(clone.fileno())


def _number(fd: sys_.Fd | int) -> int:
    return fd if isinstance(fd, int) else fd.fileno()


def _kill(pidfd: int) -> None:
    try:
        sys_.send_signal(pidfd, KILL)
    except (ProcessLookupError, PermissionError):
        # Gone; or this program took another user, and it ends by itself, as its line is closed.
        pass


def _reap(pidfd: int) -> None:
    try:
        reaping.reap(pidfd)
    except OSError:
        # Somebody's waitpid(-1) took it, and the kernel is too old to tell: it is gone.
        pass
