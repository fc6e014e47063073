"""The processes of a group: how they get in, and how all of them are killed."""

from __future__ import annotations

import errno
import os
import time

from libpycontainer.cgroups import files, tree
from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from libpycontainer.cgroups.protocol import Manager

_KILL_ROUNDS = 20
_AT_ONCE = 100
# Not from the signal module, which imports enum: a cold command line pays for that.
_SIGKILL = 9


def add(directory: str, pid: int) -> None:
    """Move a process into a group; a task so new that the kernel refuses it is tried again."""
    for attempt in range(5):
        try:
            files.write(f"{directory}/cgroup.procs", str(pid), what="process")
        except CgroupError as error:
            if error.errno != errno.EINVAL or attempt == 4:
                raise
            time.sleep(0.01)
        else:
            return


def open_for_writing(paths: Sequence[str]) -> tuple[int, ...]:
    """The files' descriptors, all of them or none."""
    fds: list[int] = []
    try:
        for path in paths:
            fds.append(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
    except OSError as error:
        for fd in fds:
            os.close(fd)
        number = error.errno or 0
        raise CgroupError(
            f"cannot open {path}: {files.symbol(number)}", op="open", path=path, errno=number
        ) from error
    return tuple(fds)


def kill_v2(directory: str) -> bool:
    """Kill a whole v2 subtree at once; false where the kernel cannot (before 5.14; threaded)."""
    try:
        files.write(f"{directory}/cgroup.kill", "1")
    except CgroupError as error:
        if error.errno == errno.EOPNOTSUPP:
            return False
        if error.errno not in files.GONE:
            raise
        return not os.path.isdir(directory)
    _kill_headless(directory)
    return True


def _kill_headless(directory: str) -> None:
    """Kill those whose first thread has ended: cgroup.kill signals only that one (Linux 6.18).

    What dies already is none the worse for a second signal. A number that came to mean a process
    of somebody else's is not in the group any more, after a descriptor of it was opened.
    """
    # One that moves meanwhile is listed twice.
    found = list(dict.fromkeys(pid for pid in tree.pids(directory, recursive=True) if pid))
    for first in range(0, len(found), _AT_ONCE):
        fds = _pidfds(found[first : first + _AT_ONCE])
        try:
            still = tree.pids(directory, recursive=True)
            for pid, fd in fds.items():
                if pid in still:
                    _kill(fd)
        finally:
            for fd in fds.values():
                os.close(fd)


def _pidfds(pids: Sequence[int]) -> dict[int, int]:
    fds = {}
    for pid in pids:
        try:
            fds[pid] = os.pidfd_open(pid)
        except OSError:
            # It is gone, or there are too few descriptors: then cgroup.kill has to do.
            continue
    return fds


def _kill(pidfd: int) -> None:
    import _signal  # type: ignore[import-not-found]

    try:
        _signal.pidfd_send_signal(pidfd, _SIGKILL)
    except ProcessLookupError:
        return


def kill_each(manager: Manager) -> None:
    """Kill process by process, stopped meanwhile so that none forks away and no pid is reused."""
    try:
        manager.freeze()
    except CgroupError:
        # No freezer, or one that got stuck: outrun the forks instead.
        for _ in range(_KILL_ROUNDS):
            if not _signal(manager.pids()):
                return
        return
    try:
        _signal(manager.pids())
    finally:
        manager.thaw()


def _signal(found: Sequence[int]) -> bool:
    for pid in found:
        try:
            os.kill(pid, _SIGKILL)
        except ProcessLookupError:
            continue
    return bool(found)
