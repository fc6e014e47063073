"""The same profile is compiled once: by this program, and by everybody who uses its state root.

Engines send the same profile with every container, and compiling it costs more than everything
else that is done for one. What was compiled lies in ``@seccomp`` under the state root, a name that
no container can have. Only a directory of the caller's own that nobody else may touch is used. Each
file holds the whole profile that it stands for, to be compared, and which libseccomp made it.
"""

from __future__ import annotations

import binascii
import marshal
import os

from libpycontainer import log
from libpycontainer.seccomp import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

DIRECTORY = "@seccomp"
FORMAT = 1
"""Counts up with every change of what is compiled from a profile, or of how it is kept."""
MAX_FILES = 64
MAX_IN_MEMORY = 16
MAX_SIZE = 1 << 20
S_IFMT, S_IFREG, OTHERS = 0o170000, 0o100000, 0o077
COMPILED_FROM = ("defaultAction", "defaultErrnoRet", "architectures", "syscalls")


class Program:
    """A filter for init to load: ``code``, the ``flags`` of seccomp(2), and what is doubtful."""

    __slots__ = ("code", "flags", "warnings")

    def __init__(self, code: bytes, flags: int, warnings: list[str]) -> None:
        self.code = code
        self.flags = flags
        self.warnings = warnings


_memory: dict[bytes, tuple[bytes, list[str]]] = {}


def program(section: Mapping[str, Any], root: str | None) -> Program:
    """The program of a profile (``linux.seccomp`` as JSON), from the cache under ``root`` if it is
    there. Without a root it is remembered by this process only.

    Raises :class:`SpecError` for what libseccomp refuses and :class:`UnsupportedError` where there
    is no libseccomp. That the cache cannot be used is no error.
    """
    key = _key(section)
    found = _memory.pop(key, None)
    if found is None and root is not None:
        found = _load(root, key)
    if found is None:
        found = _compile(section, key, root)
    # The last one used is the last one to go.
    _memory[key] = found
    while len(_memory) > MAX_IN_MEMORY:
        del _memory[next(iter(_memory))]
    code, unknown = found
    warnings = []
    if unknown and section["defaultAction"] in names.PERMISSIVE:
        # Where the default refuses, skipping a name errs on the safe side; here it does not.
        calls = ", ".join(unknown)
        warnings.append(f"$.linux.seccomp.syscalls: unknown here, so not filtered: {calls}")
    return Program(code, names.filter_flags(section), warnings)


def for_request(section: Mapping[str, Any], root: str | None) -> dict[str, Any]:
    """The program as a plan's request takes it; what is doubtful is logged. See :func:`program`."""
    found = program(section, root)
    for warning in found.warnings:
        log.warn(warning)
    return {"filter": found.code, "filter_flags": found.flags}


def _key(section: Mapping[str, Any]) -> bytes:
    """Everything that the program depends on but the library. The same section, the same bytes."""
    host = os.uname()
    wanted = [section.get(name) for name in COMPILED_FROM]
    # Version 2: later ones depend on which strings are one object.
    return marshal.dumps((FORMAT, host.machine, host.release, wanted), 2)


def _compile(section: Mapping[str, Any], key: bytes, root: str | None) -> tuple[bytes, list[str]]:
    from libpycontainer.seccomp import compiler, library

    compiled = compiler.compile(section)
    found = compiled.code, compiled.unknown
    identity = None if root is None else library.identity()
    if root is not None and identity is not None:
        _save(root, key, marshal.dumps((key, identity, *found), 2))
    return found


def _file_name(key: bytes) -> str:
    return f"{binascii.crc32(key):08x}"


def _load(root: str, key: bytes) -> tuple[bytes, list[str]] | None:
    try:
        directory = _open_directory(root)
    except OSError:
        return None
    try:
        data = _read(directory, _file_name(key))
        known, identity, code, unknown = marshal.loads(data)
        status = os.stat(identity[0])
    except (OSError, ValueError, EOFError, TypeError, LookupError):
        return None
    finally:
        os.close(directory)
    same = (status.st_size, status.st_mtime_ns, status.st_ino) == tuple(identity[1:])
    return (code, unknown) if same and known == key else None


def _open_directory(root: str) -> int:
    """The cache's directory; raises ``PermissionError`` for one that others could write to."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    directory = os.open(os.path.join(root, DIRECTORY), flags)
    status = os.fstat(directory)
    if status.st_uid != os.geteuid() or status.st_mode & OTHERS:
        os.close(directory)
        raise PermissionError(f"{root}/{DIRECTORY} is not this user's own")
    return directory


def _read(directory: int, name: str) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(name, flags, dir_fd=directory)
    try:
        status = os.fstat(file)
        if status.st_mode & S_IFMT != S_IFREG or status.st_uid != os.geteuid():
            raise PermissionError(f"{name} is not this user's own file")
        return os.read(file, MAX_SIZE)
    finally:
        os.close(file)


def _save(root: str, key: bytes, data: bytes) -> None:
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        try:
            os.mkdir(os.path.join(root, DIRECTORY), 0o700)
        except FileExistsError:
            pass
        directory = _open_directory(root)
    except OSError:
        return
    fresh = f"{os.getpid()}-{os.urandom(4).hex()}.new"
    try:
        _make_room(directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(fresh, flags, 0o600, dir_fd=directory)
        try:
            written = os.write(file, data)
        finally:
            os.close(file)
        if written == len(data) <= MAX_SIZE:
            os.rename(fresh, _file_name(key), src_dir_fd=directory, dst_dir_fd=directory)
        else:
            os.unlink(fresh, dir_fd=directory)
    except OSError:
        # No room, or somebody cleared it away: the next one compiles again.
        _unlink(fresh, directory)
    finally:
        os.close(directory)


def _make_room(directory: int) -> None:
    """Let the oldest files go, also those that a writer who was killed has left."""
    entries = os.listdir(directory)
    if len(entries) < MAX_FILES:
        return
    ages = []
    for name in entries:
        try:
            ages.append((os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime_ns, name))
        except FileNotFoundError:
            continue
    for _age, name in sorted(ages)[: len(ages) - MAX_FILES + 1]:
        _unlink(name, directory)


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        pass
