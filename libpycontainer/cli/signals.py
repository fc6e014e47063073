"""Names of signals, and the queue of those that came in to be passed on to a container.

The module ``signal`` costs a cold start as much as a third of a bare interpreter, for its enums;
the built-in module under it has the calls and the numbers.
"""

from __future__ import annotations

import os

from libpycontainer.cli.command import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from types import FrameType
else:
    import _signal

SIGTERM = int(_signal.SIGTERM)
SIGWINCH = int(_signal.SIGWINCH)

# Ours, not the container's: children, what Go's runtime sends itself and runc therefore drops, a
# closed pipe of ours, our own place in our terminal's session, and faults, whose handler would
# return to the faulting instruction for ever.
_KEPT = ("CHLD", "URG", "PIPE", "TTIN", "TTOU", "SEGV", "BUS", "FPE", "ILL", "KILL", "STOP")


def parse_signal(text: str) -> int:
    """The number of a signal given as a number, a name, or a name without its SIG.

    Raises :class:`CommandError`. A number is not checked: the kernel knows better.
    """
    if text.isascii() and text.lstrip("+-").isdigit():
        return int(text)
    base, plus, offset = text.upper().partition("+")
    name = base if base.startswith("SIG") else f"SIG{base}"
    number = getattr(_signal, name, None)
    if "_" in name or not isinstance(number, int) or (plus and not offset.isdigit()):
        raise CommandError(f'unknown signal "{text}"')
    return number + int(offset or 0)


def forwarded() -> list[int]:
    """The signals that a foreground process passes on to its container."""
    kept = {int(getattr(_signal, f"SIG{name}")) for name in _KEPT}
    return sorted(int(number) for number in _signal.valid_signals() if int(number) not in kept)


class SignalQueue:
    """Inside its block, signals are not obeyed but queued: ``fileno()`` turns readable.

    It must be entered in the main thread, which is the one that Python lets set handlers.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, object] = {}
        self._wakeup = -1
        self._read = self._write = -1

    def __enter__(self) -> SignalQueue:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # A full queue means that thousands of signals wait already: one more may be lost.
        self._wakeup = _signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in forwarded():
            self._handlers[number] = _signal.signal(number, _nothing)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            # None: it was set by something other than Python, and cannot be put back.
            if handler is not None:
                _signal.signal(number, handler)  # type: ignore[arg-type]
        _signal.set_wakeup_fd(self._wakeup)
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        return self._read

    def take(self) -> list[int]:
        """The numbers of the signals that came since the last call, in their order."""
        try:
            return list(os.read(self._read, 4096))
        except BlockingIOError:
            return []


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Handler of a queued signal: its number is already in the pipe."""
