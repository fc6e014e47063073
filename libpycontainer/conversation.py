"""The caller's side of the talk with a spawner and its init.

What a child says is data: a packet may be cut, out of turn or made up (a process inside a
container that is joined could have got hold of the line), and must never do more than fail this
one call.
"""

from __future__ import annotations

import os

from libpycontainer import syscalls as sys_
from libpycontainer.errors import ExecutableError, HookError, ProtocolError, StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

CREATE: Final = ("started", "mounted", "ready")
"""The words of a create, in order; each but the last of them is answered with "continue"."""

EXEC: Final = ("started", "executing", "")
"""The words of an exec. The empty one is end-of-file: execve has closed the line."""

START: Final = ("executing", "")
"""What ``start`` hears on start.sock."""


class Conversation:
    """One line to the other end, and how far the talk has come in ``order``."""

    def __init__(
        self,
        socket: sys_.Fd,
        order: tuple[str, ...],
        *,
        log: Callable[[str, str], None],
        diagnosis: Callable[[], str] = lambda: "",
    ) -> None:
        self._socket = socket
        self._order = order
        self._position = 0
        self._log = log
        self._diagnosis = diagnosis

    def expect(self, word: str) -> tuple[list[str], list[sys_.Fd]]:
        """Wait for the next word; returns what came with it, whose descriptors the caller owns.

        Raises :class:`StepError` (or a more specific one) that the other end reports, and
        :class:`ProtocolError` when it is gone or says something else.
        """
        assert word == self._order[self._position], (word, self._order)
        while True:
            fields, fds = self._next()
            if fields[0] in ("log", "error") or fields[0] != word:
                for fd in fds:
                    fd.close()
            if fields[0] == "log" and len(fields) == 3:
                self._log(fields[1], fields[2])
            elif fields[0] == "error":
                raise _reported(fields)
            elif fields[0] != word:
                raise self._surprise(fields[0], word)
            else:
                self._position += 1
                return fields[1:], fds

    def _next(self) -> tuple[list[str], list[sys_.Fd]]:
        try:
            data, fds = sys_.receive(self._socket.fileno())
        except ConnectionResetError:
            return [""], []
        except OSError as error:
            raise ProtocolError(f"cannot hear the container's init: {error.strerror}") from None
        return os.fsdecode(data).split("\0"), fds

    def _surprise(self, heard: str, word: str) -> ProtocolError:
        if heard == "":
            why = self._diagnosis()
            waiting = {"started": "before it was cloned", "mounted": "while it made its mounts"}
            when = waiting.get(word, "before it was ready")
            text = f"the container's init died {when}"
            return ProtocolError(f"{text}: {why}" if why else text, op="conversation")
        return ProtocolError(
            f"the container's init said {heard[:40]!r} where {word or 'end-of-file'!r} was due",
            op="conversation",
        )

    def proceed(self) -> None:
        """Answer "continue"."""
        try:
            sys_.send(self._socket.fileno(), b"continue")
        except OSError:
            # It died meanwhile; the next word, end-of-file, will be met with the reason.
            pass


def _number(text: str) -> int:
    return int(text) if text.isdigit() and len(text) < 10 else 0


def _reported(fields: list[str]) -> StepError | HookError:
    """The exception that a packet ``error step total op path errno message`` stands for."""
    _word, step, total, op, path, errno, message = (fields + [""] * 7)[:7]
    number, count = _number(step), _number(total)
    if op.startswith("hook:"):
        return HookError(message, hook=op.partition(":")[2], path=path)
    place = {"step": number, "total": count, "op": op, "path": path, "errno": _number(errno)}
    if op in ("resolve", "execve"):
        return ExecutableError(message, **place)  # type: ignore[arg-type]
    text = f"step {number}/{count}: {message}" if number else message
    return StepError(text, **place)  # type: ignore[arg-type]
