"""The end of a process, heard of by the loop through pidfds."""

from __future__ import annotations

import asyncio
import os

from libpycontainer import companions
from libpycontainer import syscalls as sys_
from libpycontainer.errors import ContainerError
from libpycontainer.process import Process

_STUCK_LOOK = 0.05


class Ending:
    """Reaps one process as soon as it has ended, and tells whoever waits for that.

    An init ends after the processes that ``exec`` started beside it were reaped, so while it is
    listened for they are, too.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._own = -1
        self._others: list[sys_.Fd] = []
        self._later: asyncio.TimerHandle | None = None
        self._error: Exception | None = None

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; false when the time (seconds) is up first.

        Raises what made the exit code unknown: :class:`ContainerError`.
        """
        if not self._over.done():
            await asyncio.wait([self._over], timeout=timeout)
        if self._error is not None:
            raise self._error
        return self._over.done()

    def listen(self) -> None:
        """Begin, or begin anew when there may be others beside it."""
        self.pause()
        if self._over.done() or not self._process.held:
            return
        self._own = self._process.fileno()
        self._loop.add_reader(self._own, self._look)
        for other in self._beside():
            # A loop has one reader for each number: this one must be nobody else's.
            copy = sys_.Fd(os.dup(other.fileno()))
            self._others.append(copy)
            self._loop.add_reader(copy.fileno(), self._look)

    def pause(self) -> None:
        """Leave the end to somebody else for a while: a thread that deletes the container."""
        if self._own >= 0:
            self._loop.remove_reader(self._own)
            self._own = -1
        for fd in self._others:
            self._loop.remove_reader(fd.fileno())
            fd.close()
        self._others = []
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def conclude(self) -> None:
        """The process is reaped, or its handle closed; whoever still waits is told."""
        self.pause()
        if self._over.done():
            return
        if self._process.returncode is None:
            self._error = ContainerError(
                "the exit code is not known: the process's handle was closed", op="wait"
            )
        self._over.set_result(None)

    def _beside(self) -> list[companions.Companion]:
        assert self._process._identity is not None
        return companions.remaining(self._process._identity)

    def _look(self) -> None:
        watched = len(self._others)
        self.pause()
        try:
            ended = self._process.poll() is not None
        except (ContainerError, OSError) as error:
            self._error = error
            ended = True
        if ended:
            self._over.set_result(None)
        elif len(self._beside()) < watched:
            self.listen()
        else:
            # Woken, and nobody could be reaped: somebody traces one of them. Asked again later.
            self._later = self._loop.call_later(_STUCK_LOOK, self.listen)
