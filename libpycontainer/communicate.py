"""Feeding and draining a process's pipes at once, so that neither side waits for the other."""

from __future__ import annotations

import os
import select
import time

from libpycontainer.errors import TimeoutExpired
from libpycontainer.reaping import MAX_POLL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from libpycontainer.process import Process

CHUNK = 65536


class Exchange:
    """The pipes of one process, moved until all are at their end."""

    def __init__(self, process: Process, input: bytes | None) -> None:
        self.process = process
        self.poll = select.poll()
        self.readers: dict[int, tuple[IO[bytes], bytearray]] = {}
        self.output: dict[str, bytearray] = {}
        for name in ("stdout", "stderr"):
            file = getattr(process, name)
            if file is not None and not file.closed:
                self.output[name] = bytearray()
                self.readers[file.fileno()] = (file, self.output[name])
                self.poll.register(file.fileno(), select.POLLIN)
        self.stdin = process.stdin
        self.left = memoryview(input or b"")
        if self.stdin is not None and not self.stdin.closed:
            self._flush()
            os.set_blocking(self.stdin.fileno(), False)
            if self.left:
                self.poll.register(self.stdin.fileno(), select.POLLOUT)
            else:
                self._close_stdin()

    @property
    def open(self) -> bool:
        return bool(self.readers) or self.stdin_open

    @property
    def stdin_open(self) -> bool:
        return self.stdin is not None and not self.stdin.closed

    def collected(self, name: str) -> bytes | None:
        """What came out of a pipe so far; ``None`` where there is none."""
        return bytes(self.output[name]) if name in self.output else None

    def finish(self, timeout: float | None) -> tuple[bytes | None, bytes | None]:
        """Go on until every pipe is at its end and the process has ended.

        Raises :class:`TimeoutExpired` with the output so far.
        """
        deadline = None if timeout is None else time.monotonic() + timeout

        def left() -> float | None:
            return None if deadline is None else max(0.0, deadline - time.monotonic())

        while self.open:
            if left() == 0.0:
                raise self._expired(timeout)
            self.step(left())
        try:
            self.process.wait(left())
        except TimeoutExpired:
            raise self._expired(timeout) from None
        return self.collected("stdout"), self.collected("stderr")

    def _expired(self, timeout: float | None) -> TimeoutExpired:
        return TimeoutExpired(
            f"process {self.process.pid} is still running after {timeout} s",
            timeout=timeout or 0.0,
            output=self.collected("stdout"),
            stderr=self.collected("stderr"),
        )

    def _flush(self) -> None:
        """What the caller has written himself comes before the input."""
        assert self.stdin is not None
        try:
            self.stdin.flush()
        except BrokenPipeError:
            self.left = memoryview(b"")

    def step(self, timeout: float | None) -> None:
        for fd, _event in self.poll.poll(
            None if timeout is None else min(timeout * 1000, MAX_POLL)
        ):
            if fd in self.readers:
                self._read(fd)
            elif self.stdin_open:
                self._write(fd)

    def _read(self, fd: int) -> None:
        file, buffer = self.readers[fd]
        data = os.read(fd, CHUNK)
        if data:
            buffer += data
            return
        self.poll.unregister(fd)
        del self.readers[fd]
        file.close()

    def _write(self, fd: int) -> None:
        try:
            self.left = self.left[os.write(fd, self.left[:CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            # It closed its input, or ended: as subprocess does, that is no error of ours.
            self.left = memoryview(b"")
        if not self.left:
            self.poll.unregister(fd)
            self._close_stdin()

    def _close_stdin(self) -> None:
        assert self.stdin is not None
        try:
            self.stdin.close()
        except BrokenPipeError:
            pass
