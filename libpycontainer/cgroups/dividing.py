"""v2: letting the children of a group have controllers, and moving processes out of the way of it.

A group with processes in it cannot pass controllers on to its children, so that they need not
compete with it ("no internal processes"; only the hierarchy's root may). Where a limit needs it,
the processes of such a group are moved into a leaf below it: limits, measurements, the freezer and
the death of the group meet them there as before. Only those of the caller's own group, and of
groups that containers have for themselves, are ever moved.
Source: kernel admin-guide/cgroup-v2.rst, "Delegation", "No Internal Process Constraint", "Threads".
"""

from __future__ import annotations

import errno
import os

from libpycontainer.cgroups import files, freezer, members, tree
from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

LEAF = tree.LEAF

THREADED = frozenset(("cgroup", "cpu", "cpuset", "perf_event", "pids"))
"""The controllers that also work in a threaded subtree."""

# Each round moves all that it finds; those that fork faster are stopped for the time it takes.
_ROUNDS = 200
_ROUNDS_RUNNING = 20
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)


def enable(parent: str, wanted: Collection[str]) -> None:
    """Let the children of ``parent`` have every controller that it has itself.

    What is in ``wanted`` will be needed, so that processes are moved out of its way. What cannot
    be enabled is found out when a limit is set, see :func:`hindrance`.
    """
    missing = _not_passed_on(parent)
    if not missing:
        return
    number = _pass_on(parent, missing)
    if number == 0 or number in _NOT_OURS:
        return
    if number == errno.EBUSY:
        missing = [name for name in missing if name in wanted]
        if missing and _may_vacate(parent):
            _vacate(parent)
            return
        # Threaded controllers do work beside processes; nobody needs that who did not ask for it.
    for name in missing:
        _pass_on(parent, [name])


def enable_all(base: str, path: str, wanted: Collection[str]) -> None:
    """:func:`enable` for every group on the way from the mountpoint ``base`` to ``path``."""
    parent = base.rstrip("/")
    for name in path.strip("/").split("/"):
        enable(parent, wanted)
        parent += f"/{name}"


def hindrance(base: str, directory: str, controller: str) -> str:
    """Why ``directory`` does not have ``controller``, as the end of a sentence."""
    while directory != base and directory.startswith(base):
        directory = os.path.dirname(directory)
        if controller in _words(f"{directory}/cgroup.controllers"):
            why = f"{directory} does not pass it on"
            if tree.pids(directory, recursive=False):
                return f"{why}: there are processes in it, and it is no container's"
            return f"{why} (see cgroup.subtree_control there)"
    return "this host does not have it in the v2 hierarchy (see cgroup.controllers there)"


def entrance(directory: str, beside: int | None = None) -> str:
    """The group that a process enters to be in ``directory``: its leaf, where it has one.

    One that was divided from inside takes no processes; then it is where ``beside`` is.
    """
    leaf = f"{directory}/{LEAF}"
    if os.path.isdir(leaf):
        directory = leaf
    if beside is not None and _words(directory + "/cgroup.subtree_control"):
        from libpycontainer.cgroups import hierarchies

        return hierarchies.unified_path(beside) or directory
    return directory


def _words(path: str) -> list[str]:
    return (files.read_optional(path) or "").split()


def _not_passed_on(parent: str) -> list[str]:
    passed_on = files.read(parent + "/cgroup.subtree_control").split()
    return [
        name for name in files.read(parent + "/cgroup.controllers").split() if name not in passed_on
    ]


def _pass_on(parent: str, names: Collection[str]) -> int:
    """The errno of it, or 0."""
    words = " ".join(f"+{name}" for name in names)
    try:
        files.write(parent + "/cgroup.subtree_control", words)
    except CgroupError as error:
        if error.errno in files.GONE:
            raise
        return error.errno
    return 0


def _may_vacate(parent: str) -> bool:
    return tree.is_own(parent) or _is_callers(parent)


def _is_callers(directory: str) -> bool:
    """Whether the caller is in the group, or has been until it was divided."""
    own = _own()
    return own is not None and directory in (own, own.removesuffix("/" + LEAF))


def _own() -> str | None:
    from libpycontainer.cgroups import hierarchies

    path = hierarchies.unified_path(os.getpid())
    # The root of a cgroup namespace is "/" below its mountpoint.
    return path and path.rstrip("/")


def _vacate(parent: str) -> None:
    """Move every process of ``parent`` into its leaf, and pass on what it has.

    Processes may fork, and be added by others, at any time: it is done when the kernel says so.
    (That no process is listed any more is not asked for: a thread group whose first thread has
    ended stays listed where that was, and is in nobody's way there.)
    """
    leaf = _make_leaf(parent)
    stopped = False
    try:
        for attempt in range(_ROUNDS):
            _move(parent, leaf)
            number = _pass_on(parent, _not_passed_on(parent))
            if number == 0:
                return
            if number != errno.EBUSY:
                break
            if attempt == _ROUNDS_RUNNING and _may_stop(parent):
                freezer.freeze_v2(parent)
                stopped = True
    finally:
        if stopped:
            freezer.thaw_v2(parent)
    for name in _not_passed_on(parent):
        # One that the kernel refuses (cpu, beside realtime processes) does not keep others back.
        _pass_on(parent, [name])


def _may_stop(directory: str) -> bool:
    """Not with the caller in it, and not where somebody else did, and will let it go on."""
    own = _own()
    if own is None or own == directory or own.startswith(directory + "/"):
        return False
    return not freezer.frozen_v2(directory)


def _make_leaf(parent: str) -> str:
    leaf = f"{parent}/{LEAF}"
    try:
        os.mkdir(leaf, 0o755)
    except FileExistsError:
        return leaf
    except OSError as error:
        raise CgroupError(
            f"cannot make {leaf}: {files.symbol(error.errno or 0)}",
            op="mkdir",
            path=leaf,
            errno=error.errno or 0,
        ) from error
    owner = os.stat(parent).st_uid
    if owner != os.stat(leaf).st_uid:
        tree.give(leaf, owner)
    return leaf


def _move(source: str, target: str) -> None:
    for pid in tree.pids(source, recursive=False):
        # 0 stands for a process outside of the caller's pid namespace; written, it means the
        # caller itself.
        if pid == 0:
            continue
        try:
            members.add(target, pid)
        except CgroupError as error:
            if error.errno != errno.ESRCH:
                raise
