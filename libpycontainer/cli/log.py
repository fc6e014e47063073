"""runc's log: one line an entry, text or JSON, on standard error or in the file of ``--log``.

Clients read the file, and show its last error to their users (conmon, containerd's shim): each
line must be whole, so it is written by one call.
"""

from __future__ import annotations

import os
import time

from libpycontainer.cli.command import CommandError
from libpycontainer.cli.output import quote

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/@^+")
_COLOURS = {"debug": "37", "info": "36", "warning": "33", "error": "31"}
_STDERR = 2


class Log:
    """Where messages go. ``debugging`` tells whether those of level debug do.

    The form is chosen before the file is opened, as runc does: a log file that cannot be opened
    is then reported in the form that was asked for.
    """

    def __init__(self) -> None:
        self._fd = _STDERR
        self._json = False
        self.debugging = False
        self._born = time.monotonic()

    def configure(self, *, path: str, form: str, debug: bool) -> None:
        """Take the global options. Raises :class:`CommandError` for an unknown form, OSError."""
        self.debugging = debug
        if form not in ("", "text", "json"):
            raise CommandError(f"invalid log-format: {form}")
        self._json = form == "json"
        self.close()
        if path:
            flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_SYNC | os.O_CLOEXEC
            self._fd = os.open(path, flags, 0o644)

    def close(self) -> None:
        """Close the log file; what is logged afterwards goes to standard error."""
        if self._fd != _STDERR:
            os.close(self._fd)
            self._fd = _STDERR

    def report(self, level: str, message: str) -> None:
        """Take a message of the library's: what it says is not this call's failure."""
        if level != "debug" or self.debugging:
            self._write(level if level in _COLOURS else "warning", message)

    def debug(self, message: str) -> None:
        self.report("debug", message)

    def warning(self, message: str) -> None:
        self._write("warning", message)

    def error(self, message: str) -> None:
        """Report ``message``; on standard error too when the log is a file."""
        self._write("error", message)
        if self._fd != _STDERR:
            _put(_STDERR, f"{message}\n")

    def _write(self, level: str, message: str) -> None:
        if self._json:
            text = f'{{"level":"{level}","msg":{quote(message)},"time":"{_now()}"}}\n'
        elif os.isatty(self._fd):
            seconds = int(time.monotonic() - self._born)
            label = f"\x1b[{_COLOURS[level]}m{level.upper()[:4]}\x1b[0m"
            text = f"{label}[{seconds:04d}] {message:<44} \n"
        else:
            text = f'time="{_now()}" level={level} msg={_word(message)}\n'
        _put(self._fd, text)


def _now() -> str:
    """The time as RFC 3339 has it, to the second, in the host's time zone."""
    now = time.localtime()
    offset = now.tm_gmtoff // 60
    zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    date = f"{now.tm_year:04d}-{now.tm_mon:02d}-{now.tm_mday:02d}"
    return f"{date}T{now.tm_hour:02d}:{now.tm_min:02d}:{now.tm_sec:02d}{zone if offset else 'Z'}"


def _word(message: str) -> str:
    """``message`` as one word of a text line: bare where nothing in it could be misread."""
    if message and _PLAIN.issuperset(message):
        return message
    return quote(message, html=False)


def _put(fd: int, text: str) -> None:
    """Write, or do without: a full disk or a closed stream must not hide the exit code."""
    try:
        os.write(fd, text.encode("utf-8", "replace"))
    except OSError:
        return
