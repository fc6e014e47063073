"""Waiting for a container's process in the foreground: its signals, its terminals, its exit code.

Descriptors that are no terminal are the container's as they are. The caller's terminal never is:
a process that has it open could type into it (TIOCSTI) and read what is typed at its owner's next
prompt. So it is either the outer end of the container's own console, or of pipes.
"""

from __future__ import annotations

import os

from libpycontainer.cli.command import CommandError
from libpycontainer.cli.signals import SIGWINCH, SignalQueue
from libpycontainer.errors import ContainerError
from libpycontainer.tty import Channel, Pump, Relay, get_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

    from libpycontainer.cli.log import Log
    from libpycontainer.process import Process

_STREAMS = ("stdin", "stdout", "stderr")
_KILLED = 128


class Foreground:
    """The caller's side of one foreground process, for the length of a ``with`` block.

    Inside it signals are queued, so that none is lost while the process comes to be:
    :meth:`wait` passes them on. Raises :class:`CommandError` where a terminal is to be allocated
    and the caller has none.
    """

    def __init__(self, log: Log, *, terminal: bool) -> None:
        self._log = log
        self._terminal = terminal
        self._queue = SignalQueue()
        self._tty = -1
        self._opened = -1
        self._piped: list[int] = []

    def __enter__(self) -> Foreground:
        if self._terminal:
            self._tty = self._find_terminal()
        else:
            self._piped = [fd for fd in range(3) if os.isatty(fd)]
        self._queue.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.__exit__()
        if self._opened >= 0:
            os.close(self._opened)
            self._opened = -1

    def streams(self) -> dict[str, Any]:
        """The keyword arguments that give the process its standard streams, or its console."""
        if self._terminal:
            return {"console_size": get_size(self._tty)}
        from libpycontainer.streams import PIPE

        return {_STREAMS[fd]: PIPE for fd in self._piped}

    def wait(self, process: Process, start: Callable[[], None] | None = None) -> int:
        """Relay until ``process`` ends; its exit code, or 128 and the signal that killed it.

        ``start`` is called once the terminal is ready for what the process will do to it.
        """
        if self._terminal:
            assert process.console is not None
            with Relay(process.console, 0, 1, terminal_fd=self._tty) as relay:
                if start is not None:
                    start()
                forward = self._forwarder(process, relay.resize)
                relay.run(process.fileno(), self._queue.fileno(), forward)
        else:
            if start is not None:
                start()
            outputs, inputs = self._channels(process)
            Pump(
                outputs,
                inputs,
                stop_fd=process.fileno(),
                wakeup_fd=self._queue.fileno(),
                on_wakeup=self._forwarder(process, None),
            ).run()
        returncode = process.wait()
        return _KILLED - returncode if returncode < 0 else returncode

    def _find_terminal(self) -> int:
        """A standard stream that is a terminal, or the one that controls the session."""
        for fd in (2, 1, 0):
            if os.isatty(fd):
                return fd
        try:
            self._opened = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise CommandError(
                "cannot allocate tty for a caller that has none: open /dev/tty:"
                f" {os.strerror(error.errno or 0).lower()}"
            ) from None
        return self._opened

    def _channels(self, process: Process) -> tuple[list[Channel], list[Channel]]:
        """The pipes between the caller's terminal and the process: its outputs, its input."""
        outputs, inputs = [], []
        for fd in self._piped:
            pipe: IO[bytes] = getattr(process, _STREAMS[fd])

            def close(_: Channel, pipe: IO[bytes] = pipe) -> None:
                pipe.close()

            if fd == 0:
                inputs.append(Channel(fd, pipe.fileno(), on_end=close, broken_ends=True))
            else:
                outputs.append(Channel(pipe.fileno(), fd, on_end=close, broken_ends=True))
        return outputs, inputs

    def _forwarder(self, process: Process, resize: Callable[[], None] | None) -> Callable[[], None]:
        """What is to be done when signals came in."""

        def forward() -> None:
            for number in self._queue.take():
                if number == SIGWINCH:
                    if resize is not None:
                        resize()
                    continue
                try:
                    process.signal(number)
                except (OSError, ContainerError) as error:
                    self._log.debug(f"signal {number} was not passed on: {error}")

        return forward
