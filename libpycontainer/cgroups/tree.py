"""Directories of a hierarchy: made, listed and removed so that others may do the same meanwhile."""

from __future__ import annotations

import errno
import os
import time

from libpycontainer.cgroups.files import GONE, pairs, read_optional, read_raw, symbol
from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Marks what is ours, so that a group of the administrator's is never taken for it. A parent that
# was made on the way to a container's group may be removed by whichever container leaves it last;
# a group that a container (or a group of containers) has for itself may not, but its processes may
# be moved (dividing.py).
# Extended attributes of the user namespace work on cgroupfs since Linux 5.7.
_MARK = "user.libpycontainer"
_ON_THE_WAY, _OWN = b"", b"own"
LEAF = "@self"
"""Where a divided v2 group's own processes are (dividing.py): no container's id has an ``@``."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Another container's removal of the parent can hit between our two mkdirs, again and again.
_RACES = 100
# What it takes to divide a v2 group, where the kernel has no list of it (before 4.15).
_DELEGATED = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads"
_DELEGATE = "/sys/kernel/cgroup/delegate"
# rmdir of a group with processes, or with children, respectively.
_BUSY = (errno.EBUSY, errno.ENOTEMPTY)


def make(
    base: str,
    path: str,
    settle: Callable[[str, str], None] | None = None,
    *,
    made: list[str],
    found: Callable[[str], None] | None = None,
    own: bool = False,
) -> None:
    """Make ``path`` below the mountpoint ``base``; adds what was not there to ``made``.

    The caller discards that when anything fails, also this.

    ``settle(parent, child)`` is called for every level, made or found, ``found(directory)`` when
    the last one was there already, before anything is done to it. ``own`` marks that one as
    somebody's own, see :func:`is_own`.
    """
    names = path.strip("/").split("/")
    for _ in range(_RACES):
        try:
            _descend(base.rstrip("/"), names, made, settle, found, own)
        except (OSError, CgroupError) as error:
            if error.errno in GONE:
                continue
            if isinstance(error, CgroupError):
                raise
            raise _failure("make", error.filename or base + path, error.errno or 0) from error
        return
    raise CgroupError(
        f"cannot make {base}{path}: its parents keep being removed by somebody else",
        op="mkdir",
        path=base + path,
        errno=errno.ENOENT,
    )


def _descend(
    base: str,
    names: Sequence[str],
    made: list[str],
    settle: Callable[[str, str], None] | None,
    found: Callable[[str], None] | None,
    own: bool,
) -> None:
    *above, last = names
    parent = base
    for name in above:
        child = f"{parent}/{name}"
        if _mkdir(child, made):
            _mark(child, _ON_THE_WAY)
        if settle is not None:
            settle(parent, child)
        parent = child
    child = f"{parent}/{last}"
    if not _mkdir(child, made) and found is not None:
        found(child)
    if own:
        _mark(child, _OWN)
    if settle is not None:
        settle(parent, child)


def _mkdir(directory: str, made: list[str]) -> bool:
    """Make one directory and note it; false when it is there already."""
    # Noted first: an interrupt may hit right behind the call.
    made.append(directory)
    try:
        os.mkdir(directory, 0o755)
    except OSError as error:
        made.pop()
        if isinstance(error, FileExistsError):
            return False
        raise
    return True


def _mark(directory: str, what: bytes) -> None:
    try:
        os.setxattr(directory, _MARK, what)
    except OSError as error:
        if error.errno in GONE:
            raise


def is_own(directory: str) -> bool:
    """Whether a container, or a group of containers, has this group for itself."""
    try:
        return os.getxattr(directory, _MARK) == _OWN
    except OSError:
        return False


def give(directory: str, uid: int) -> None:
    """Let ``uid`` divide a v2 group among its own: the directory, and no file that sets a limit.

    Source: man 7 cgroups, "Cgroups v2 delegation".
    """
    names = (read_optional(_DELEGATE) or _DELEGATED).split()
    for path in (directory, *(f"{directory}/{name}" for name in names)):
        try:
            os.chown(path, uid, -1, follow_symlinks=False)
        except FileNotFoundError:
            # Some belong to a controller that this group does not have.
            if path == directory:
                raise _failure("give away", path, errno.ENOENT) from None
        except OSError as error:
            raise _failure("give away", path, error.errno or 0) from error


def discard(made: Sequence[str]) -> None:
    """Take back what :func:`make` made, deepest first, leaving what others use by now.

    Whoever is the last of them has :func:`remove_parents` for what was left to him.
    """
    for directory in reversed(made):
        try:
            os.rmdir(directory)
        except OSError as error:
            if error.errno not in (*_BUSY, *GONE):
                raise _failure("remove", directory, error.errno or 0) from error


def remove(directory: str, deadline: float) -> None:
    """Remove a group and its children; waits for dying processes until ``deadline``.

    The clock is ``time.monotonic()``. A group that is gone already is fine.
    """
    delay = 0.0002
    while True:
        try:
            os.rmdir(directory)
            return
        except OSError as error:
            if error.errno in GONE or not os.path.isdir(directory):
                return
            if error.errno not in _BUSY:
                raise _failure("remove", directory, error.errno or 0) from error
        if _remove_children(directory):
            continue
        if time.monotonic() > deadline:
            left = pids(directory, recursive=True)
            raise CgroupError(
                f"cannot remove {directory}: still in it: processes {left}",
                op="rmdir",
                path=directory,
                errno=errno.EBUSY,
            )
        # Not poll(2) on cgroup.events: the kernel holds its notices back for 10 ms.
        time.sleep(delay)
        delay = min(delay * 2, 0.02)


def remove_parents(base: str, path: str) -> None:
    """Remove the parents of a group that :func:`make` made, as long as they are empty."""
    path = os.path.dirname(path)
    while path.strip("/"):
        directory = base.rstrip("/") + path
        try:
            if os.getxattr(directory, _MARK) != _ON_THE_WAY:
                return
            os.rmdir(directory)
        except OSError as error:
            if error.errno not in GONE:
                return
        path = os.path.dirname(path)


def occupied(directory: str) -> bool:
    """Whether a v2 group, or any below it, has a process; not when it is gone."""
    return pairs(read_optional(directory + "/cgroup.events")).get("populated") == 1


def pids(directory: str, *, recursive: bool) -> list[int]:
    """The processes in a group, and in the groups below it; none when it is gone."""
    found: list[int] = []
    waiting = [directory]
    while waiting:
        current = waiting.pop()
        found += _procs(current)
        if recursive:
            waiting += [f"{current}/{name}" for name in _children(current)]
    return found


def _procs(directory: str) -> list[int]:
    try:
        text = read_raw(directory + "/cgroup.procs")
    except OSError as error:
        if error.errno in GONE:
            return []
        if error.errno != errno.EOPNOTSUPP:
            raise _failure("read", directory + "/cgroup.procs", error.errno or 0) from error
        # A threaded group tells its threads only.
        text = read_optional(directory + "/cgroup.threads") or ""
    return [int(line) for line in text.split()]


def _children(directory: str) -> list[str]:
    try:
        # cgroupfs counts subdirectories in the link count: most groups need no listing.
        if os.stat(directory).st_nlink <= 2:
            return []
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno in GONE:
            return []
        raise _failure("list", directory, error.errno or 0) from error


def _remove_children(directory: str) -> bool:
    """Remove the groups below, deepest first; whether any went away.

    Two descriptors and no paths: a container that may write to its cgroups can nest them deeper
    than PATH_MAX or the limit of open files allow to name.
    """
    removed = False
    try:
        here = os.open(directory, _DIRECTORY)
    except OSError:
        return False
    names: list[str] = []
    try:
        while True:
            child = _first_child(here)
            if child is None and not names:
                return removed
            below = os.open(child or "..", _DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
            if child is not None:
                names.append(child)
                continue
            os.rmdir(names.pop(), dir_fd=here)
            removed = True
    except OSError as error:
        if error.errno not in (*_BUSY, *GONE):
            raise _failure("remove a group below", directory, error.errno or 0) from error
        return removed
    finally:
        os.close(here)


def _first_child(directory: int) -> str | None:
    if os.stat(directory).st_nlink <= 2:
        return None
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                return entry.name
    return None


def _failure(verb: str, path: str, number: int) -> CgroupError:
    message = f"cannot {verb} {path}: {symbol(number)}"
    return CgroupError(message, op=verb.partition(" ")[0], path=path, errno=number)
