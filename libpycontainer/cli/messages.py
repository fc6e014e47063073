"""The sentence for an exception: the library's own, but runc's where its clients look for it.

containerd's shim, docker and podman decide by the text whether a container was missing, a signal
came too late, or the command was not there (exit code 127) or not executable (126).
"""

from __future__ import annotations

import os

from libpycontainer import errors
from libpycontainer.cli.command import CommandError

# What a client looks for, where the error's own words need not have it.
_PHRASES: tuple[tuple[type[BaseException], str], ...] = (
    (errors.NotFoundError, "container does not exist"),
    (ProcessLookupError, "os: process already finished"),
    (KeyboardInterrupt, "interrupted"),
)


def sentence(error: BaseException) -> str:
    """What to tell the user, in one line."""
    text = " ".join(_words(error).splitlines())
    for kind, phrase in _PHRASES:
        if isinstance(error, kind) and phrase not in text:
            return f"{phrase}: {text}" if text else phrase
    return text


def _words(error: BaseException) -> str:
    if isinstance(error, errors.StepError):
        return f"unable to start container process: {error}"
    if isinstance(error, errors.ContainerError | CommandError | KeyboardInterrupt):
        return str(error)
    if isinstance(error, OSError):
        return _system_error(error)
    return f"internal error: {type(error).__name__}: {error}"


def remarks(error: BaseException) -> list[str]:
    """What else is to be said: failures to clean up after ``error``, each in one line.

    A hint is not: it is for programs that call the library.
    """
    hint = getattr(error, "hint", "")
    notes = [note for note in getattr(error, "__notes__", ()) if note != hint]
    return [line for note in notes for line in note.splitlines()]


def traceback_lines(error: BaseException) -> list[str]:
    """Where ``error`` came from, for the debug log."""
    import traceback

    text = "".join(traceback.format_exception(error))
    return text.splitlines()


def _system_error(error: OSError) -> str:
    """``/x: no such file or directory``: the system's words without their capital, as in Go."""
    text = error.strerror or str(error)
    if error.errno is not None and text == os.strerror(error.errno):
        text = text[:1].lower() + text[1:]
    return f"{os.fsdecode(error.filename)}: {text}" if error.filename else text
