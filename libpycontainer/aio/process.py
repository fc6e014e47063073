"""A process in a container, with the streams and the manners of asyncio.subprocess."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from libpycontainer import process as process_
from libpycontainer.aio.ending import Ending
from libpycontainer.aio.threads import Threads
from libpycontainer.errors import TimeoutExpired

CHUNK = 65536
END_TIMEOUT = 10.0
"""How long a process may take to end after SIGKILL."""


class Process:
    """A running process: what :meth:`aio.Container.exec` returns and :attr:`aio.Container.process`.

    ``stdin`` is an :class:`asyncio.StreamWriter`, ``stdout`` and ``stderr`` are
    :class:`asyncio.StreamReader`, where they were asked for with ``PIPE``, and ``None`` otherwise.
    They belong to the loop that it was made in.

    As a context manager it ends the process: one that still runs at the end of the block, also of
    a block that was cancelled, is killed and reaped.
    """

    stdin: asyncio.StreamWriter | None
    stdout: asyncio.StreamReader | None
    stderr: asyncio.StreamReader | None

    def __init__(self, process: process_.Process, threads: Threads) -> None:
        self._process = process
        self._threads = threads
        self._reading: list[asyncio.BaseTransport] = []
        self._collected: dict[str, bytearray] = {}
        self._fed = False
        self.stdin = self.stdout = self.stderr = None
        self.ending = Ending(process)

    @classmethod
    async def adopt(cls, process: process_.Process, threads: Threads) -> Process:
        """The handle of a started process, whose pipes become the loop's.

        When this fails, or is cancelled, the pipes are closed and the process goes on.
        """
        adopted = cls(process, threads)
        try:
            await adopted._connect()
        except BaseException:
            adopted.let_go()
            raise
        adopted.ending.listen()
        return adopted

    async def _connect(self) -> None:
        for name in ("stdin", "stdout", "stderr"):
            file = getattr(self._process, name)
            if file is None:
                continue
            if name == "stdin":
                self.stdin = await _writer(file)
            else:
                reader, transport = await _reader(file)
                self._reading.append(transport)
                setattr(self, name, reader)
            # From here on it is the transport's to close.
            setattr(self._process, name, None)

    # ---- what it is ------------------------------------------------------------------------

    @property
    def args(self) -> list[str]:
        """The command, where it was started by ``exec``."""
        return self._process.args

    @property
    def pid(self) -> int:
        """The pid as the caller sees it."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; ``None`` until the loop has heard of the end."""
        return self._process.returncode

    @property
    def console(self) -> int | None:
        """The master of its terminal; it stays this object's."""
        return self._process.console

    @property
    def held(self) -> bool:
        """Is its handle open still?"""
        return self._process.held

    def __repr__(self) -> str:
        return f"<aio.Process {self.args!r} pid={self.pid} returncode={self.returncode}>"

    # ---- what is done to it ----------------------------------------------------------------

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; returns the exit code, negative for a signal.

        ``timeout`` is in seconds; :class:`TimeoutExpired` is raised when it is up. The process goes
        on then, as it does where the waiting is cancelled.
        """
        if self.returncode is None and not await self.ending.wait(timeout):
            raise self._expired(timeout)
        assert self.returncode is not None
        return self.returncode

    async def communicate(
        self, input: bytes | None = None, timeout: float | None = None
    ) -> tuple[bytes | None, bytes | None]:
        """Feed ``input``, collect the output until its end, and wait; as asyncio.subprocess does.

        Raises :class:`TimeoutExpired` after ``timeout`` seconds, with the output so far. The
        process goes on then, as it does where this is cancelled, and another call goes on with it
        and loses nothing.
        """
        self._feed(input)
        try:
            async with asyncio.timeout(timeout) as limit:
                out, err = await asyncio.gather(self._collect("stdout"), self._collect("stderr"))
                await self.wait()
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._expired(timeout) from None
        return out, err

    def _feed(self, input: bytes | None) -> None:
        """The loop writes it, as fast as it is read, and closes the pipe behind it."""
        if self.stdin is None or self._fed:
            return
        self._fed = True
        if input:
            self.stdin.write(input)
        self.stdin.close()

    async def _collect(self, name: str) -> bytes | None:
        reader: asyncio.StreamReader | None = getattr(self, name)
        if reader is None:
            return None
        buffer = self._collected.setdefault(name, bytearray())
        while data := await reader.read(CHUNK):
            buffer += data
        return bytes(buffer)

    def _expired(self, timeout: float | None) -> TimeoutExpired:
        def so_far(name: str) -> bytes | None:
            return bytes(self._collected[name]) if name in self._collected else None

        return TimeoutExpired(
            f"process {self.pid} is still running after {timeout} s",
            timeout=timeout or 0.0,
            output=so_far("stdout"),
            stderr=so_far("stderr"),
        )

    def signal(self, number: int) -> None:
        """Send a signal; raises :class:`ProcessLookupError` once the process is gone."""
        self._process.signal(number)

    send_signal = signal

    def terminate(self) -> None:
        """Send SIGTERM; raises :class:`ProcessLookupError` once the process is gone."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL; a process that is gone already is fine."""
        if self.held:
            self._process.kill()

    def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal a new size. Raises :class:`ContainerError` where it has none."""
        self._process.resize(rows, columns)

    # ---- the end of the handle -------------------------------------------------------------

    def close(self) -> None:
        """Let go of the pidfd, the pipes and the terminal. The process itself is left alone."""
        self.let_go()
        self._process.close()

    def let_go(self) -> None:
        """Close the pipes and hear no more of the end. For the library's own use."""
        self.ending.conclude()
        for transport in self._reading:
            transport.close()
        self._reading.clear()
        if self.stdin is not None:
            _abort(self.stdin.transport)

    async def __aenter__(self) -> Process:
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            if self.returncode is None and self.held:
                self.ending.pause()
                await self._threads.do(end, self._process, certain=True)
        finally:
            self.close()


def end(process: process_.Process) -> None:
    """Kill a process, reap it, and close its handle."""
    try:
        process.kill()
        process.wait(END_TIMEOUT)
    finally:
        process.close()


async def _reader(file: Any) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, file)
    return reader, transport


async def _writer(file: Any) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    # It gets nothing but word of the other end's closing.
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, file)
    return asyncio.StreamWriter(transport, protocol, reader, loop)


def _abort(transport: asyncio.WriteTransport) -> None:
    """Close it, and not wait for somebody to read the rest (asyncio's own fails when late)."""
    if not transport.is_closing() or transport.get_write_buffer_size():
        transport.abort()
