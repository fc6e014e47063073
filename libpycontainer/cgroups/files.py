"""Control files: one way to write them, one to read them, one sentence when that fails."""

from __future__ import annotations

import errno
import os

from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# A group that was removed meanwhile: gone before open(2), or between open(2) and read(2).
GONE = (errno.ENOENT, errno.ENODEV)


def symbol(number: int) -> str:
    """``EBUSY`` for 16."""
    return errno.errorcode.get(number, str(number))


def write(path: str, value: str, *, what: str = "", field: str = "") -> None:
    """Write ``value`` to the control file in one write(2), which is how the kernel parses it.

    ``what`` names the setting in the error ("memory limit"), ``field`` is its JSON path.
    """
    write_each(path, (value,), what=what, field=field)


def write_each(path: str, values: Sequence[str], *, what: str = "", field: str = "") -> None:
    """As :func:`write`, with one write(2) after the other for several values."""
    value = values[0]
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for value in values:
                os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        number = error.errno or 0
        where = f"{field}: " if field else ""
        subject = what or os.path.basename(path)
        raise CgroupError(
            f"{where}cannot set {subject} {value} in {path}: {symbol(number)}",
            op="write",
            path=path,
            errno=number,
        ) from error


def read(path: str) -> str:
    """The control file's text without the final newline; raises CgroupError."""
    try:
        return read_raw(path)
    except OSError as error:
        number = error.errno or 0
        raise CgroupError(
            f"cannot read {path}: {symbol(number)}", op="read", path=path, errno=number
        ) from error


def read_optional(path: str) -> str | None:
    """The control file's text, or ``None`` when this kernel or this group does not have it."""
    try:
        return read_raw(path)
    except OSError as error:
        if error.errno in GONE or error.errno == errno.EOPNOTSUPP:
            return None
        number = error.errno or 0
        raise CgroupError(
            f"cannot read {path}: {symbol(number)}", op="read", path=path, errno=number
        ) from error


def read_raw(path: str) -> str:
    """The control file's text without the final newline; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode().rstrip("\n")


def pairs(text: str | None) -> dict[str, int]:
    """``key value`` lines (cpu.stat, memory.stat, cgroup.events ...) as integers."""
    found = {}
    for line in (text or "").splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            found[key] = int(value)
    return found


def number(text: str | None) -> int | None:
    """One integer, or ``None`` for an absent file and for ``max``."""
    if text is None or text == "max" or not text.lstrip("-").isdigit():
        return None
    return int(text)
