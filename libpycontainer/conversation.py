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

END: Final = "\0"
"""Stands for the other end's closing of the line. No packet can say it: NULs divide its fields."""

CREATE: Final = ("started", "mounted", "ready")
"""The words of a create, in order: see :func:`creating`."""

EXEC: Final = ("started", "executing", END)
"""The words of an exec, at whose end execve has closed the line."""

START: Final = ("executing", END)
"""What ``start`` hears on start.sock."""


def creating(*, early: bool, stops: bool, start: bool) -> tuple[str, ...]:
    """The words of this create. To "mounted" and "ready" the answer is "continue".

    An init that was cloned ``early`` has been heard of already, one whose caller has nothing to do
    then does not stop when it has ``mounted``, and one that is to ``start`` becomes its program
    after "ready".
    """
    skipped = {"started"} if early else set()
    if not stops:
        skipped.add("mounted")
    order = tuple(word for word in CREATE if word not in skipped)
    return order + START if start else order


def with_listener(order: tuple[str, ...]) -> tuple[str, ...]:
    """The order of an execution whose filter has a listener, which is answered with "continue"."""
    assert order[-1] == END
    return (*order[:-1], "listener", END)


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

    def expect(
        self, word: str, packet: sys_.Packet | None = None
    ) -> tuple[list[str], list[sys_.Fd]]:
        """Wait for the next word; returns what came with it, whose descriptors the caller owns.

        ``packet`` receives it, for a caller who must be able to look even after an interruption.

        Raises :class:`StepError` (or a more specific one) that the other end reports, and
        :class:`ProtocolError` when it is gone or says something else.
        """
        assert word == self._order[self._position], (word, self._order)
        while True:
            fields, fds = self._next(packet)
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

    def _next(self, packet: sys_.Packet | None) -> tuple[list[str], list[sys_.Fd]]:
        try:
            data, fds = sys_.receive(self._socket.fileno(), packet=packet)
        except ConnectionResetError:
            data, fds = b"", []
        except OSError as error:
            raise ProtocolError(f"cannot hear the container's init: {error.strerror}") from None
        # Only an empty packet is end-of-file; one that begins with a NUL is no word at all.
        return os.fsdecode(data).split("\0") if data else [END], fds

    def _surprise(self, heard: str, word: str) -> ProtocolError:
        if heard == END:
            why = self._diagnosis()
            waiting = {
                "started": "before it was cloned",
                "mounted": "while it made its mounts",
                "listener": "before it had its seccomp filter",
            }
            when = waiting.get(word, "before it was ready")
            text = f"the container's init died {when}"
            return ProtocolError(f"{text}: {why}" if why else text, op="conversation")
        due = "its end" if word == END else repr(word)
        return ProtocolError(
            f"the container's init said {heard[:40]!r} where {due} was due",
            op="conversation",
        )

    def proceed(self) -> None:
        """Answer "continue"."""
        try:
            sys_.send(self._socket.fileno(), b"continue")
        except OSError:
            # It died meanwhile; the next word, end-of-file, will be met with the reason.
            pass


def number(text: str) -> int:
    """A number that the other end sent; 0 for anything else that it may have sent."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _reported(fields: list[str]) -> StepError | HookError:
    """The exception that a packet ``error step total op path errno message`` stands for."""
    _word, step, total, op, path, errno, message = (fields + [""] * 7)[:7]
    place = {
        "step": number(step),
        "total": number(total),
        "op": op,
        "path": path,
        "errno": number(errno),
    }
    if op.startswith("hook:"):
        _hook, kind, code = [*op.split(":"), "", ""][:3]
        returncode = -number(code[1:]) if code.startswith("-") else number(code) if code else None
        return HookError(message, hook=kind, path=path, returncode=returncode)
    if op in ("resolve", "execve"):
        return ExecutableError(message, **place)  # type: ignore[arg-type]
    text = f"step {place['step']}/{place['total']}: {message}" if place["step"] else message
    return StepError(text, **place)  # type: ignore[arg-type]
