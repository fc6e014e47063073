"""Namespaces as descriptors, made or opened by the caller's side before init exists."""

from __future__ import annotations

import os

from libpycontainer import syscalls as sys_
from libpycontainer.errors import ContainerError, Problem, SpecError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from libpycontainer.host import Facts
    from libpycontainer.plan import Namespace, Tree

NS_GET_NSTYPE = 0xB703
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def open_namespaces(wanted: Sequence[Namespace], facts: Facts) -> dict[str, sys_.Fd]:
    """The descriptors that init will enter, by their names; the caller owns them.

    Raises :class:`SpecError` for a path that is not such a namespace, and
    :class:`ContainerError` where the kernel (or newuidmap) refuses.
    """
    fds: dict[str, sys_.Fd] = {}
    try:
        for namespace in wanted:
            if namespace.path:
                fds[namespace.fd] = _existing(namespace)
        fds.update(_new([namespace for namespace in wanted if not namespace.path], facts))
    except BaseException:
        for fd in fds.values():
            fd.close()
        raise
    return fds


def _existing(namespace: Namespace) -> sys_.Fd:
    from libpycontainer.plan.build import CLONE_FLAGS

    where = f"$.linux.namespaces[type={namespace.type}].path"
    try:
        fd = sys_.Fd(os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        problem = Problem(where, f"cannot open {namespace.path}: {error.strerror}")
        raise SpecError([problem]) from None
    try:
        kind = sys_.ioctl(fd.fileno(), NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != CLONE_FLAGS[namespace.type]:
        fd.close()
        raise SpecError([Problem(where, f"{namespace.path} is not a {namespace.type} namespace")])
    return fd


def _new(wanted: Sequence[Namespace], facts: Facts) -> dict[str, sys_.Fd]:
    """New user and time namespaces, made by one parked child: the clocks belong to the users."""
    if not wanted:
        return {}
    new = {namespace.type: namespace for namespace in wanted}
    parked = sys_.Parked()
    try:
        with parked:
            return _open_new(parked, new, facts)
    except BaseException:
        # Once more: a Ctrl-C may have come in the moment when it was to be closed.
        parked.close()
        raise


def _open_new(parked: sys_.Parked, new: dict[str, Namespace], facts: Facts) -> dict[str, sys_.Fd]:
    _park(parked, "user" in new, "time" in new)
    process = f"/proc/{parked.pid}"
    if "user" in new:
        _map_users(new["user"], parked.pid, facts)
    if "time" in new and new["time"].offsets:
        _write(f"{process}/timens_offsets", new["time"].offsets)
    fds: dict[str, sys_.Fd] = {}
    for type, namespace in new.items():
        name = "time_for_children" if type == "time" else type
        path = f"{process}/ns/{name}"
        fds[namespace.fd] = sys_.Fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    return fds


def _park(parked: sys_.Parked, user: bool, time: bool) -> None:
    try:
        parked.start(sys_.CLONE_NEWUSER if user else 0, sys_.CLONE_NEWTIME if time else 0)
    except OSError as error:
        hint = ""
        if error.errno in (1, 28):
            hint = " (are they switched off, or used up? see /proc/sys/user/max_user_namespaces)"
        what = "user" if user else "time"
        raise ContainerError(
            f"cannot make a {what} namespace: {error.strerror}{hint}",
            op="clone",
            errno=error.errno or 0,
        ) from None


def _map_users(namespace: Namespace, pid: int, facts: Facts) -> None:
    process = f"/proc/{pid}"
    if facts.privileged or _only_self(namespace, facts):
        if not namespace.setgroups:
            _write(f"{process}/setgroups", "deny")
        _write(f"{process}/gid_map", namespace.gid_map)
        _write(f"{process}/uid_map", namespace.uid_map)
    else:
        _map_with_helper("newgidmap", pid, namespace.gid_map)
        _map_with_helper("newuidmap", pid, namespace.uid_map)


def _only_self(namespace: Namespace, facts: Facts) -> bool:
    """Does it map the caller alone? The kernel lets everybody do that without a helper."""

    def single(text: str, own: int) -> bool:
        fields = text.split()
        return len(fields) == 3 and fields[1:] == [str(own), "1"]

    return single(namespace.uid_map, facts.euid) and single(namespace.gid_map, facts.egid)


def _write(path: str, text: str) -> None:
    """Write to a file of /proc, which has to be the kernel's (CVE-2019-16884 was a fake one)."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    with sys_.Fd(fd):
        if sys_.filesystem_type(fd) != sys_.PROC_SUPER_MAGIC:
            raise ContainerError(f"{path} is not in a procfs", op="write", path=path)
        try:
            os.write(fd, text.encode())
        except OSError as error:
            shown = "; ".join(text.splitlines())
            raise ContainerError(
                f"cannot write {shown!r} to {path}: {error.strerror}",
                op="write",
                path=path,
                errno=error.errno or 0,
            ) from None


def _map_with_helper(name: str, pid: int, mapping: str) -> None:
    """newuidmap and newgidmap hold the privilege to map what /etc/subuid grants the caller."""
    from libpycontainer import hooks

    path = _search(name)
    if path is None:
        raise UnsupportedError(
            f"mapping more than the own id needs the program {name} (package uidmap)", op=name
        )
    arguments = [path, str(pid), *mapping.split()]
    failure = hooks.execute(path, arguments, [], None, b"")
    if failure:
        shown = "; ".join(mapping.splitlines())
        raise ContainerError(f"{name} refused {shown!r}: {failure.reason}", op=name, path=path)


def _search(name: str) -> str | None:
    for directory in (os.environ.get("PATH") or _DEFAULT_PATH).split(":"):
        path = os.path.join(directory, name)
        if os.access(path, os.X_OK):
            return path
    return None


def open_trees(wanted: Sequence[Tree]) -> list[sys_.Fd]:
    """Detached copies of mounts, which the caller owns.

    They no longer share events with the host's mounts: what is mounted into them stays inside.
    """
    trees: list[sys_.Fd] = []
    try:
        for tree in wanted:
            try:
                fd = sys_.clone_tree(sys_.AT_FDCWD, tree.path, recursive=tree.recursive)
                trees.append(fd)
                sys_.mount_setattr(fd.fileno(), propagation=sys_.MS_SLAVE, recursive=tree.recursive)
                if tree.uid_map:
                    _map_ids(fd, tree)
            except OSError as error:
                what = "id-map" if tree.uid_map and trees[-1:] else "copy"
                raise ContainerError(
                    f"{tree.title}: cannot {what} the mounts at {tree.path}: {error.strerror}",
                    op="open_tree",
                    path=tree.path,
                    errno=error.errno or 0,
                ) from None
    except BaseException:
        for fd in trees:
            fd.close()
        raise
    return trees


def _map_ids(fd: sys_.Fd, tree: Tree) -> None:
    """Show the files' owners through the mappings of a user namespace that exists for this only."""
    with _user_namespace(tree.uid_map, tree.gid_map) as userns:
        sys_.mount_setattr(
            fd.fileno(),
            set=sys_.MOUNT_ATTR_IDMAP,
            userns=userns.fileno(),
            recursive=tree.map_recursive,
        )


def _user_namespace(uid_map: str, gid_map: str) -> sys_.Fd:
    parked = sys_.Parked()
    try:
        with parked:
            parked.start(sys_.CLONE_NEWUSER)
            process = f"/proc/{parked.pid}"
            _write(f"{process}/gid_map", gid_map)
            _write(f"{process}/uid_map", uid_map)
            return sys_.Fd(os.open(f"{process}/ns/user", os.O_RDONLY | os.O_CLOEXEC))
    except BaseException:
        # As above.
        parked.close()
        raise
