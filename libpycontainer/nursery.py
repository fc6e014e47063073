"""A warm interpreter, kept by a factory, that clones itself for every container it makes.

A clone costs a few hundred microseconds, an interpreter's start some ten milliseconds. Nothing that
a request does, breaks or is killed by reaches the interpreter that the next one's clone is made
from: it never reads a plan, enters no namespace, and holds no descriptor but its line to us.
"""

from __future__ import annotations

import os
import threading

from libpycontainer import reaping
from libpycontainer import syscalls as sys_
from libpycontainer.errors import ProtocolError
from libpycontainer.spawner import Interpreter, whose


class Nursery:
    """One warm interpreter, which clones itself for every request; made again when it died.

    It is as this program was when it booted: user, limits, scheduling, mount namespace. It ends
    when it is closed, and when this program does. May be used from several threads.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._interpreter: Interpreter | None = None
        self._made_by: tuple[object, ...] = ()

    def boot(self) -> None:
        """Start the interpreter now, so that the first request need not wait for it."""
        with self._lock:
            self._ready()

    def ask(self, flags: int = 0, cgroup: sys_.Fd | None = None) -> sys_.Fd:
        """Ask for a clone; returns the line on which it will say hello, the caller's to close.

        With ``flags`` it is an init: in the new namespaces that they name and in the v2 ``cgroup``.
        Raises :class:`InterpreterError`, and :class:`ProtocolError` when even a new interpreter
        dies at once.
        """
        ours, theirs = sys_.socketpair()
        fds = [theirs.fileno()] if cgroup is None else [theirs.fileno(), cgroup.fileno()]
        try:
            with theirs, self._lock:
                for attempt in range(2):
                    line = self._ready().line
                    assert line is not None
                    try:
                        sys_.send(line.fileno(), b"clone\0%d" % flags, fds)
                        break
                    except OSError:
                        said = self.diagnosis()
                        self._end()
                        if attempt:
                            text = f"the warm interpreter {self.path} died: {said}"
                            raise ProtocolError(text, op="spawn") from None
        except BaseException:
            ours.close()
            raise
        return ours

    def _ready(self) -> Interpreter:
        owner = whose()
        if self._interpreter is not None and (self._made_by != owner or self._has_died()):
            # A fork has copied it, or this program has become somebody else, for whom an
            # interpreter with the rights that it had must not do anything any more.
            self._end()
        if self._interpreter is None:
            fresh = Interpreter(self.path)
            try:
                with sys_.Fd(os.pidfd_open(os.getpid())) as parent:
                    self._start(fresh, parent)
            except BaseException:
                fresh.close()
                raise
            self._interpreter, self._made_by = fresh, owner
        return self._interpreter

    def _start(self, fresh: Interpreter, parent: sys_.Fd) -> None:
        fresh.start("serve_many", parent)

    def _has_died(self) -> bool:
        assert self._interpreter is not None
        return reaping.wait_readable(self._interpreter.child.fileno(), 0)

    def _end(self) -> None:
        interpreter, self._interpreter = self._interpreter, None
        if interpreter is None:
            return
        if self._made_by[0] == os.getpid():
            interpreter.close()
        else:
            interpreter.forget()

    def diagnosis(self) -> str:
        """What the interpreter printed, if anything."""
        return self._interpreter.diagnosis() if self._interpreter is not None else ""

    @property
    def pid(self) -> int:
        """The interpreter's pid, 0 when there is none at the moment."""
        return self._interpreter.pid if self._interpreter is not None else 0

    def close(self) -> None:
        """End the interpreter. Requests that have been taken go on; a later one boots another."""
        with self._lock:
            self._end()
