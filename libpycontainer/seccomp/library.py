"""libseccomp, opened at run time: it is only needed where a profile has to be compiled."""

from __future__ import annotations

import os

from libpycontainer.errors import UnsupportedError
from libpycontainer.seccomp._libseccomp import ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SONAME = "libseccomp.so.2"

_opened: list[Any] = []


def library() -> Any:
    """The library's calls. Raises :class:`UnsupportedError` where it is not installed."""
    if not _opened:
        try:
            _opened.append(ffi.dlopen(SONAME))
        except OSError as error:
            raise UnsupportedError(
                f"$.linux.seccomp: a profile is compiled by libseccomp, which cannot be used: "
                f"{error} (Debian and Ubuntu: install libseccomp2; Fedora and Alpine: libseccomp)",
                op="seccomp",
                path=SONAME,
                hint="Install libseccomp, or do without a system call filter: seccomp=None.",
            ) from None
    return _opened[0]


def installed() -> bool:
    """Is it there? What a profile needs that is not in the cache."""
    try:
        library()
    except UnsupportedError:
        return False
    return True


def version() -> str:
    """The library's version, as ``"2.5.4"``."""
    found = library().seccomp_version()
    return f"{found.major}.{found.minor}.{found.micro}"


def identity() -> tuple[str, int, int, int] | None:
    """The file that the library was loaded from, and what changes when it is replaced.

    ``None`` where that cannot be told.
    """
    library()
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            path = line.rstrip("\n").partition("/")[2]
            if path.rpartition("/")[2].startswith("libseccomp.so"):
                return file_identity("/" + path)
    return None


def file_identity(path: str) -> tuple[str, int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return path, status.st_size, status.st_mtime_ns, status.st_ino
