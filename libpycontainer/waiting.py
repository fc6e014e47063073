"""The end of a process, learnt through its pidfd, whoever's child it is."""

from __future__ import annotations

import os

from libpycontainer.descriptors import Fd
from libpycontainer.errors import ContainerError

ENODATA = 61
_EXIT_CODE_FIELD = 51
_START_TIME_FIELD = 21
_FLAGS_FIELD = 8
_PF_FORKNOEXEC = 0x40


class Identity:
    """A process by number and start time (clock ticks since boot): numbers are used again."""

    __slots__ = ("pid", "start_time")

    def __init__(self, pid: int, start_time: int) -> None:
        self.pid = pid
        self.start_time = start_time


def _stat_fields(pid: int) -> list[str] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command stands in parentheses and may hold anything, so count from the last of them.
    return ["", "", *text.rpartition(")")[2].split()]


def start_time(pid: int) -> int | None:
    """When a process was started (field 22 of man 5 proc_pid_stat), ``None`` when it is gone."""
    fields = _stat_fields(pid)
    return int(fields[_START_TIME_FIELD]) if fields else None


def pid_of(pidfd: Fd) -> int:
    """The number of a pidfd's process, in the caller's pid namespace; -1 when it is gone."""
    with open(f"/proc/self/fdinfo/{pidfd.fileno()}", "rb") as file:
        for line in file:
            if line.startswith(b"Pid:"):
                return int(line[4:])
    return -1


def has_executed(process: Identity) -> bool:
    """Has a process executed a program since it was cloned? Also told of one that has ended.

    By a flag of the kernel's (PF_FORKNOEXEC), the only witness where a filter kept the process from
    saying that its execve failed. True where nobody can tell any more: it is gone altogether.
    """
    fields = _stat_fields(process.pid)
    if fields is None or int(fields[_START_TIME_FIELD]) != process.start_time:
        return True
    return not int(fields[_FLAGS_FIELD]) & _PF_FORKNOEXEC


def is_alive(pid: int, started: int) -> bool:
    """Is the process of that number still the one that was started then, and not a zombie?"""
    fields = _stat_fields(pid)
    if fields is None or int(fields[_START_TIME_FIELD]) != started:
        return False
    return fields[2] not in ("Z", "X")


def pids_in_namespace_of(pid: int) -> list[int]:
    """Every process that the caller may look at and that shares that one's pid namespace."""

    def namespace(number: str | int) -> str:
        try:
            return os.readlink(f"/proc/{number}/ns/pid")
        except OSError:
            # It ended, or belongs to somebody else: not one of the container's.
            return ""

    wanted = namespace(pid)
    found = [name for name in os.listdir("/proc") if name.isdigit() and namespace(name) == wanted]
    return sorted(map(int, found)) if wanted else []


def open_pidfd(pid: int, started: int) -> Fd | None:
    """A pidfd of exactly that process, ``None`` when it is gone. A zombie still has one."""
    try:
        pidfd = Fd(os.pidfd_open(pid))
    except ProcessLookupError:
        return None
    # Checked after opening: from here on the number can no longer come to mean another process.
    if start_time(pid) != started:
        pidfd.close()
        return None
    return pidfd


def exit_code(pidfd: int, identity: Identity, timeout: float | None = None) -> int:
    """The exit code of an ended process, negative for a signal.

    ``timeout`` is as for :func:`reaping.reap`, and so is the :class:`TimeoutError`.

    Ours is reaped. Of somebody else's the kernel tells (6.15 or newer) once that one has reaped
    it; until then its zombie's stat does. Raises :class:`ContainerError` where it is lost.
    """
    try:
        return _own_or_foreign(pidfd, identity, timeout)
    except OSError as error:
        if error.errno != ENODATA:
            raise
        raise ContainerError(
            f"process {identity.pid} has ended, but somebody else reaped it first and this kernel "
            "(before 6.15) does not keep its exit status",
            op="wait",
            errno=ENODATA,
        ) from None


def _own_or_foreign(pidfd: int, identity: Identity, timeout: float | None) -> int:
    from libpycontainer import reaping

    try:
        return reaping.reap(pidfd, timeout)
    except ChildProcessError:
        # Somebody else's child, and not reaped yet.
        return _foreign_exit_code(pidfd, identity)


def _foreign_exit_code(pidfd: int, identity: Identity) -> int:
    fields = _stat_fields(identity.pid)
    if fields is not None and int(fields[_START_TIME_FIELD]) == identity.start_time:
        # Zero for whoever may not trace it: then only its reaping brings the truth out.
        return os.waitstatus_to_exitcode(int(fields[_EXIT_CODE_FIELD]))
    from libpycontainer.syscalls import exit_status

    status = exit_status(pidfd)
    if status is None:
        raise OSError(ENODATA, "the exit status is not known")
    return os.waitstatus_to_exitcode(status)
