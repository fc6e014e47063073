"""A group below a container's, for one more process that asks for it by its path.

Whoever may divide the container's groups has made it, most often the container itself. Nothing
above the container's own group can be named, however the path is spelled.
"""

from __future__ import annotations

import errno
import os

from libpycontainer.cgroups import dividing, files
from libpycontainer.cgroups.members import open_for_writing
from libpycontainer.errors import CgroupError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from libpycontainer.cgroups.protocol import Manager

    Below = str | Mapping[str, str]


def open_below(
    manager: Manager, below: Below, beside: int | None
) -> tuple[int | None, tuple[int, ...]]:
    """What :meth:`Manager.clone_fd` and :meth:`Manager.join_fds` return, for groups ``below``.

    ``below`` is one path for every hierarchy, or a path for each controller that is named: in the
    other hierarchies the process goes where others of the container go, which ``beside``, its
    init, shows. Raises :class:`CgroupError` for a path that leads out of the container's group,
    a group that is not there, one that takes no processes, and a controller that is not the
    container's.
    """
    if manager.record().get("systemd", {}).get("user"):
        raise UnsupportedError(
            "cannot choose a group below the container's: it belongs to the user's own systemd,"
            " which places the container's processes",
            op="join",
        )
    paths = manager.paths()
    chosen = groups_below(paths, below)
    unified = _unified(paths, chosen, beside)
    directories = {
        chosen.get(directory, directory) for name, directory in paths.items() if name != ""
    }
    # A v1 group is entered thread by thread, which is the cheap way for a process that has one.
    entrances = [f"{directory}/tasks" for directory in sorted(directories)]
    if unified is None:
        return None, open_for_writing(entrances)
    if os.stat(f"{unified}/cgroup.procs").st_uid != os.geteuid():
        return None, open_for_writing([*entrances, f"{unified}/cgroup.procs"])
    cloned = os.open(unified, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return cloned, open_for_writing(entrances)
    except BaseException:
        os.close(cloned)
        raise


def _unified(paths: Mapping[str, str], chosen: Mapping[str, str], beside: int | None) -> str | None:
    """The group of the unified hierarchy that is to be entered, if there is that hierarchy."""
    own = paths.get("")
    if own is None:
        return None
    if own not in chosen:
        return dividing.entrance(own, beside)
    directory = dividing.entrance(chosen[own])
    if files.read(f"{directory}/cgroup.subtree_control").strip():
        raise CgroupError(
            f"cannot join {directory}: it passes controllers on to groups below it, and so takes"
            " no processes itself: name one of those",
            op="join",
            path=directory,
            errno=errno.EBUSY,
        )
    return directory


def groups_below(paths: Mapping[str, str], below: Below) -> dict[str, str]:
    """The directory that stands for each of the container's own that ``below`` is about.

    ``paths`` are the container's, by controller. Several controllers may have one hierarchy, and
    so one directory: what is said of one of them is said of all.
    """
    if not paths:
        raise CgroupError(
            "cannot choose a group below the container's: it has no cgroup of its own",
            op="join",
            errno=errno.ENOENT,
        )
    if isinstance(below, str):
        below = dict.fromkeys(paths, below)
    found: dict[str, str] = {}
    for controller, path in below.items():
        if controller not in paths:
            known = ", ".join(sorted(name for name in paths if name))
            has = f"it is in those of {known}" if known else "its only hierarchy is the unified one"
            raise CgroupError(
                f"the container is in no hierarchy of the controller {controller!r}: {has}",
                op="join",
                path=path,
                errno=errno.ENOENT,
            )
        own = paths[controller]
        directory = _below(own, path)
        if found.setdefault(own, directory) != directory:
            raise CgroupError(
                f"the controller {controller!r} shares its hierarchy with another, for which"
                f" {found[own][len(own) :] or '/'} was chosen, not {path}",
                op="join",
                path=directory,
                errno=errno.EINVAL,
            )
    return found


def _below(own: str, path: str) -> str:
    directory = os.path.normpath(f"{own}/{path}")
    if directory != own and not directory.startswith(f"{own}/"):
        raise CgroupError(
            f"{path} is not a sub cgroup path: it leads out of the container's group {own}",
            op="join",
            path=path,
            errno=errno.EINVAL,
        )
    if not os.path.isdir(directory):
        raise CgroupError(
            f"cannot join {directory}: no such file or directory: a process can only be placed in"
            " a group that is there",
            op="join",
            path=directory,
            errno=errno.ENOENT,
        )
    return directory
