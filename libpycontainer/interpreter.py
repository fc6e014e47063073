"""The interpreter that becomes a container's init: which one, and how it is protected.

A process inside the container can reach the file that init runs from through /proc/PID/exe, and
root there may be the host's root: without protection it could overwrite the host's Python
(CVE-2019-5736 did this to runc). So init never runs from the file itself.
"""

from __future__ import annotations

import os
import sys

from libpycontainer import syscalls as sys_
from libpycontainer.errors import InterpreterError

BOOT = "import sys;sys.path+={paths!r};from libpycontainer.{room} import {entry} as run;run()"


def find(given: str | None = None) -> str:
    """The path of a Python of this very version.

    In a virtual environment it is the one that the environment was made from. Raises
    :class:`InterpreterError` when the running program is not Python's (uwsgi, an embedded
    interpreter) and none is found where this Python was installed: pass one then.
    """
    if given is not None:
        path = os.path.abspath(given)
        if not os.access(path, os.X_OK) or os.path.isdir(path):
            raise InterpreterError(f"the interpreter {given} is not an executable file", path=path)
        return path
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = []
    for path in (getattr(sys, "_base_executable", ""), sys.executable):
        # A program that embeds Python calls itself sys.executable; it would not run our code.
        if path and os.path.basename(path).startswith("python"):
            candidates.append(path)
    candidates += [os.path.join(prefix, "bin", version) for prefix in (sys.base_prefix, "/usr")]
    for path in candidates:
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return os.path.realpath(path)
    raise InterpreterError(
        f"no Python interpreter found (looked at {', '.join(candidates)}): "
        "name one with Factory(interpreter=...)"
    )


def command(path: str, entry: str = "main") -> list[str]:
    """The arguments that turn an interpreter into a spawner; ``entry`` as in init/main.py.

    Isolated, without site: nothing of the user's environment, current directory or site-packages
    decides what it imports. Our own package and cffi's backend are looked up after the standard
    library, by the directories that this process imported them from.
    """
    return [path, "-I", "-S", "-X", "utf8", "-c", boot("init.main", entry)]


def boot(room: str, entry: str) -> str:
    """The code that runs ``entry`` of one of our modules."""
    import _cffi_backend

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    backend = os.path.dirname(os.path.abspath(_cffi_backend.__file__))
    paths = [package] if package == backend else [package, backend]
    return BOOT.format(paths=paths, room=room, entry=entry)


def environment() -> list[str]:
    """Only what the dynamic loader needs for a Python that is not where it was built for."""
    return [f"{name}={os.environ[name]}" for name in ("LD_LIBRARY_PATH",) if os.environ.get(name)]


def seal(path: str) -> sys_.Fd:
    """A descriptor of the interpreter that can be executed but never leads to a writable file.

    Whoever may mount gets a read-only copy of the mount, dissolved as soon as the descriptor is
    closed, which nobody can make writable again. Others get a sealed copy in memory, unless the
    file is not theirs to write anyway.
    """
    try:
        return _read_only_mount(path)
    except PermissionError:
        return _without_mounting(path)
    except OSError as error:
        raise _unusable(path, error) from None


def _without_mounting(path: str) -> sys_.Fd:
    try:
        status = os.stat(path)
        if status.st_uid != os.geteuid() and not os.access(path, os.W_OK):
            return sys_.Fd(os.open(path, os.O_PATH | os.O_CLOEXEC))
        return _sealed_copy(path)
    except OSError as error:
        raise _unusable(path, error) from None


def _unusable(path: str, error: OSError) -> InterpreterError:
    return InterpreterError(
        f"cannot use the interpreter {path}: {error.strerror}", path=path, errno=error.errno or 0
    )


def _read_only_mount(path: str) -> sys_.Fd:
    tree = sys_.clone_tree(sys_.AT_FDCWD, path, recursive=False)
    try:
        sys_.mount_setattr(tree.fileno(), set=sys_.MOUNT_ATTR_RDONLY)
    except BaseException:
        tree.close()
        raise
    return tree


def _sealed_copy(path: str) -> sys_.Fd:
    with open(path, "rb") as file:
        data = file.read()
    try:
        copy = sys_.memfd("libpycontainer-init", sys_.MFD_ALLOW_SEALING | sys_.MFD_EXEC)
    except OSError:
        # MFD_EXEC came with Linux 6.3; before it every memory file could be executed.
        copy = sys_.memfd("libpycontainer-init", sys_.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(copy.fileno(), view) :]
    sys_.seal(copy.fileno())
    return copy
