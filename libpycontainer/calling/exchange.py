"""The caller's end of the line to a function in a container: its answer, its output, its end.

Whatever holds the other end may be hostile: it may say anything, say it slowly, never stop, keep
the line open in another process, or say nothing. So nothing is waited for but with the deadline,
no length is believed before the bytes are there, and no more than the limits is kept.
"""

from __future__ import annotations

import os
import select
import time

from libpycontainer.calling import answers, frames
from libpycontainer.calling.frames import HEADER
from libpycontainer.errors import CallDiedError, ResultError
from libpycontainer.reaping import MAX_POLL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from libpycontainer import syscalls as sys_
    from libpycontainer.process import Process

CHUNK = 1 << 16
LAST_WORDS = 1.0
"""How many seconds a process may live on that has closed the line: it is about to end."""


class Exchange:
    """One process that calls functions, by its line and its pipes; none of them is owned here."""

    def __init__(
        self,
        process: Process,
        line: sys_.Fd,
        *,
        name: str,
        max_result: int,
        max_output: int,
        trust: bool,
    ) -> None:
        self.process = process
        self.name = name
        self.line = line.fileno()
        self.max_result = max_result
        self.trust = trust
        self.heard = bytearray()
        self.room = max_output
        self.output: dict[str, bytearray] = {}
        self._readers: dict[int, bytearray] = {}
        self._poll = select.poll()
        os.set_blocking(self.line, False)
        for fd in (self.line, process.fileno()):
            self._poll.register(fd, select.POLLIN)
        for stream in ("stdout", "stderr"):
            file: IO[bytes] | None = getattr(process, stream)
            if file is not None:
                self.output[stream] = self._readers[file.fileno()] = bytearray()
                os.set_blocking(file.fileno(), False)
                self._poll.register(file.fileno(), select.POLLIN)

    def captured(self, stream: str) -> bytes | None:
        """What was written to a stream so far; ``None`` where nobody listens."""
        return bytes(self.output[stream]) if stream in self.output else None

    def send(self, kind: bytes, payload: bytes, deadline: float | None) -> None:
        """Send a frame. Raises ``TimeoutError``, and :class:`CallDiedError`."""
        left = memoryview(frames.head(kind, payload) + payload)
        self._poll.modify(self.line, select.POLLIN | select.POLLOUT)
        try:
            while left:
                try:
                    left = left[os.write(self.line, left[: 1 << 20]) :]
                except BlockingIOError:
                    self._wait(deadline)
                except OSError:
                    raise self._gone("before it took the call") from None
        finally:
            self._poll.modify(self.line, select.POLLIN)

    def answer(self, deadline: float | None) -> tuple[bytes, bytes]:
        """The next answer, its kind and its payload.

        Raises ``TimeoutError`` at the deadline, :class:`CallDiedError` when there will be none and
        :class:`ResultError` for what cannot be one.
        """
        while not self._complete():
            ready = self._wait(deadline)
            hears = self._listen()
            if self._complete():
                break
            if not hears:
                # Whoever has closed the line can answer no more.
                self._await_end(deadline)
            if not hears or self.process.fileno() in ready:
                raise self._gone("without an answer")
        return self._take()

    @property
    def silent(self) -> bool:
        """Has it said nothing that was not asked for?"""
        return self._listen() and not self.heard

    def drain(self) -> None:
        """Take what is left in the pipes, without waiting, as far as there is room for it."""
        for fd in list(self._readers):
            try:
                while self._read_output(fd):
                    pass
            except ResultError:
                return

    # ---- parts ---------------------------------------------------------------------------

    def _wait(self, deadline: float | None) -> set[int]:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        ready = self._poll.poll(None if left is None else min(left * 1000 + 1, MAX_POLL))
        for fd, _event in ready:
            if fd in self._readers:
                self._read_output(fd)
        return {fd for fd, _event in ready}

    def _read_output(self, fd: int) -> bool:
        """Take a portion of a stream; false when there is none at the moment."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._poll.unregister(fd)
            del self._readers[fd]
            return False
        self._readers[fd] += data[: self.room]
        if len(data) > self.room:
            self.room = 0
            raise ResultError(f"{self.name} has written more than is kept (see max_output)")
        self.room -= len(data)
        return True

    def _listen(self) -> bool:
        """Take what there is on the line, up to one frame; false when it is closed."""
        while not self._complete():
            try:
                data = os.read(self.line, CHUNK)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            self.heard += data
        return True

    def _complete(self) -> bool:
        """Is a whole answer there? Raises :class:`ResultError` for what will never be one."""
        if len(self.heard) < HEADER:
            return False
        kind, size = frames.parse(self.heard)
        allowed = answers.longest(kind, self.max_result, trust=self.trust)
        if not allowed:
            raise ResultError(f"the answer of {self.name} is no result: it begins with {kind!r}")
        if size > allowed:
            raise ResultError(
                f"the answer of {self.name} would take {size} bytes, of {allowed} that it may take "
                "(see max_result)"
            )
        return len(self.heard) >= HEADER + size

    def _take(self) -> tuple[bytes, bytes]:
        kind, size = frames.parse(self.heard)
        payload = bytes(self.heard[HEADER : HEADER + size])
        del self.heard[: HEADER + size]
        return kind, payload

    def _await_end(self, deadline: float | None) -> None:
        last = time.monotonic() + LAST_WORDS
        last = last if deadline is None else min(last, deadline)
        self._poll.unregister(self.line)
        try:
            while self.process.fileno() not in self._wait(last):
                pass
        except TimeoutError:
            # It lives on without a line: its end is the caller's to bring about.
            pass

    def _gone(self, when: str) -> CallDiedError:
        return CallDiedError(f"the process that was to call {self.name} ended {when}")
