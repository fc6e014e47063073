"""Steps that make the container's file tree: the root, mounts, devices, the switch, the sealing."""

from __future__ import annotations

import os

from libpycontainer import syscalls as sys_
from libpycontainer.init import copyup, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from libpycontainer.init.context import Context

EPERM, EEXIST, EXDEV, ENODEV, EINVAL, ELOOP = 1, 17, 18, 19, 22, 40
S_IFMT, S_IFCHR, S_IFBLK, S_IFIFO = 0o170000, 0o020000, 0o060000, 0o010000
NODE_TYPES = {"c": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}
NULL_DEVICE = os.makedev(1, 3)
OWNED = {"sysfs": "network namespace", "proc": "pid namespace"}
FSCONFIG_VALUE = 255
"""The longest value, in characters, that fsconfig takes."""

# ---- the root --------------------------------------------------------------------------------


def set_propagation(context: Context, flag: int, recursive: bool) -> None:
    """How "/", or every mount, shares events: at first with the host's, at last the container's."""
    sys_.mount(None, "/", None, flag | (sys_.MS_REC if recursive else 0))


def attach_root(
    context: Context, source: str, tree: str, isolate: bool, read_only_tree: bool
) -> None:
    """Make the root a mount of its own, at its own place so that hooks find it there."""
    target = source
    try:
        place = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        # In a user namespace the way there may be closed; the old root is always at hand, and
        # a look-up that starts there does not see what is mounted over it.
        target, place = "/", os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with sys_.Fd(place) as point:
        if isolate:
            # First of all: a copy of a shared mount would be shared as well, which pivot_root
            # refuses, and of an unbindable one none can be made.
            _isolate(target)
        if tree:
            root = context.take(tree)
        else:
            root = sys_.clone_tree(sys_.AT_FDCWD, source, recursive=True)
        if read_only_tree:
            sys_.mount_setattr(root.fileno(), set=sys_.MOUNT_ATTR_RDONLY, recursive=True)
        sys_.attach_tree(root.fileno(), point.fileno())
    context.root = root


def _isolate(path: str) -> None:
    """The mount that holds ``path`` becomes private: pivot_root refuses a shared parent."""
    while True:
        try:
            sys_.mount(None, path, None, sys_.MS_PRIVATE)
            return
        except OSError as error:
            if error.errno != EINVAL or path == "/":
                raise
        path = path.rpartition("/")[0] or "/"


def open_root(context: Context, source: str) -> None:
    """The root of a container that shares the host's mount namespace."""
    context.root = sys_.Fd(os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))


def use_root(context: Context) -> None:
    """The root of a container that is running: setns has put this process there."""
    context.root = sys_.Fd(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))


# ---- mounts ----------------------------------------------------------------------------------


def mount(
    context: Context,
    fstype: str,
    source: str,
    target: str,
    data: Sequence[tuple[str, str | None]],
    set: int,
    tree_set: int,
    tree_clear: int,
    propagation: Sequence[tuple[int, bool]],
    plain_target: bool,
    copy_up: bool,
) -> None:
    """Mount a new file system."""
    options = list(data)
    point = paths.open_if_there(context, target)
    if point is None:
        point = paths.make_missing_directory(context, target)
        # There is nothing to start with, not even a mode.
        copy_up = False
    elif fstype == "tmpfs" and not copy_up and not any(key == "mode" for key, _value in options):
        # An existing directory keeps its mode; a new one gets tmpfs's own, 1777.
        options.append(("mode", format(os.fstat(point.fileno()).st_mode & 0o7777, "o")))
    if plain_target:
        point.close()
        resolve = sys_.RESOLVE_NO_SYMLINKS
        point = paths.open_inside(context, target, os.O_PATH | os.O_DIRECTORY, resolve=resolve)
    if any(len(value or "") > FSCONFIG_VALUE for _key, value in options):
        _mount_by_one_string(context, fstype, source, point, options)
        with point, paths.open_inside(context, target) as mounted:
            sys_.mount_setattr(mounted.fileno(), set=set)
            sys_.mount_setattr(mounted.fileno(), set=tree_set, clear=tree_clear)
            _propagate(mounted, propagation)
            _note(context, target, mounted)
            return
    with point, _new_filesystem(context, fstype, source, options, set) as mounted:
        if copy_up:
            copyup.copy_up(point.fileno(), mounted.fileno(), {key for key, _value in options})
        _place(mounted, point, tree_set, tree_clear, propagation)
        _note(context, target, mounted)


def _new_filesystem(
    context: Context, fstype: str, source: str, data: list[tuple[str, str | None]], attributes: int
) -> sys_.Fd:
    try:
        filesystem = sys_.fsopen(fstype)
    except OSError as error:
        if error.errno == EPERM and fstype in OWNED:
            _explain_owner(context, fstype)
        if error.errno != ENODEV:
            raise
        message = f"{context.title}: this kernel knows no file system of that type"
        context.fail(message, op="mount", path=fstype, errno=ENODEV)
    with filesystem:
        fd = filesystem.fileno()
        try:
            _configure(fd, [("source", source), *data])
            sys_.fsconfig(fd, sys_.FSCONFIG_CMD_CREATE)
            return sys_.fsmount(fd, attributes)
        except OSError as error:
            if error.errno == EPERM and fstype in OWNED:
                _explain_owner(context, fstype)
            _explain(context, fd, error)


def _explain_owner(context: Context, fstype: str) -> NoReturn:
    reason = f"only the user namespace that owns the {OWNED[fstype]} may, and only where the "
    reason += f"caller's own {fstype} has nothing mounted over it"
    message = f"{context.title}: {os.strerror(EPERM)}: {reason}"
    context.fail(message, op="mount", path=fstype, errno=EPERM)


def _configure(filesystem: int, data: Sequence[tuple[str, str | None]]) -> None:
    for key, value in data:
        command = sys_.FSCONFIG_SET_FLAG if value is None else sys_.FSCONFIG_SET_STRING
        sys_.fsconfig(filesystem, command, key, value)


def _explain(context: Context, filesystem: int, error: OSError) -> NoReturn:
    explained = _kernel_explanation(filesystem)
    if not explained:
        raise error
    number = error.errno or 0
    reason = f"{os.strerror(number)}: {explained}"
    context.fail(f"{context.title}: {reason}", op="mount", errno=number)


def _mount_by_one_string(
    context: Context,
    fstype: str,
    source: str,
    point: sys_.Fd,
    options: list[tuple[str, str | None]],
) -> None:
    """The old way, for what fsconfig does not take: an overlay of many layers.

    The mount point is still the one behind the descriptor.
    """
    words = [key if value is None else f"{key}={escape(value)}" for key, value in options]
    with paths.own_descriptors(context) as descriptors:
        os.fchdir(descriptors.fileno())
        try:
            sys_.mount(source, str(point.fileno()), fstype, 0, ",".join(words))
        finally:
            os.chdir("/")


def escape(value: str) -> str:
    return value.replace(",", "\\,")


def _kernel_explanation(filesystem: int) -> str:
    """What the kernel wrote into the file system context's log: "tmpfs: Unknown parameter 'x'"."""
    lines = []
    try:
        while line := os.read(filesystem, 4096):
            lines.append(line.decode("utf-8", "replace").strip())
    except OSError:
        pass
    return "; ".join(line.partition(" ")[2] for line in lines)


def _place(
    mounted: sys_.Fd,
    point: sys_.Fd,
    tree_set: int,
    tree_clear: int,
    propagation: Sequence[tuple[int, bool]],
) -> None:
    if tree_set or tree_clear:
        sys_.mount_setattr(mounted.fileno(), set=tree_set, clear=tree_clear, recursive=True)
    sys_.attach_tree(mounted.fileno(), point.fileno())
    _propagate(mounted, propagation)


def _note(context: Context, target: str, mounted: sys_.Fd) -> None:
    """A mount on "/" is the root, for the mounts after it and for the program."""
    paths.remember_tree(context, target, mounted.fileno())
    if context.root is not None and not paths.split(target):
        context.root.close()
        context.root = sys_.Fd(os.dup(mounted.fileno()))


def _propagate(mounted: sys_.Fd, propagation: Sequence[tuple[int, bool]]) -> None:
    for flag, recursive in propagation:
        sys_.mount_setattr(mounted.fileno(), propagation=flag, recursive=recursive)


def remount(
    context: Context,
    target: str,
    data: Sequence[tuple[str, str | None]],
    set: int,
    clear: int,
    propagation: Sequence[tuple[int, bool]],
) -> None:
    """Other options for what is mounted there, which must be a mount."""
    with paths.open_inside(context, target) as point:
        if data:
            with sys_.fspick(point.fileno()) as filesystem:
                try:
                    _configure(filesystem.fileno(), data)
                    sys_.fsconfig(filesystem.fileno(), sys_.FSCONFIG_CMD_RECONFIGURE)
                except OSError as error:
                    _explain(context, filesystem.fileno(), error)
        sys_.mount_setattr(point.fileno(), set=set, clear=clear)
        _propagate(point, propagation)


def bind(
    context: Context,
    source: str,
    tree: str,
    target: str,
    recursive: bool,
    set: int,
    clear: int,
    tree_set: int,
    tree_clear: int,
    propagation: Sequence[tuple[int, bool]],
) -> None:
    """Show a file or directory of the host inside the container."""
    if tree:
        copy = context.take(tree)
    else:
        copy = sys_.clone_tree(sys_.AT_FDCWD, source, recursive=recursive)
    with copy:
        if set or clear:
            sys_.mount_setattr(copy.fileno(), set=set, clear=clear)
        make = paths.make_directory if paths.is_directory(copy) else paths.make_file
        with make(context, target) as point:
            _place(copy, point, tree_set, tree_clear, propagation)
            _note(context, target, copy)


def bind_kernel_tree(
    context: Context,
    fstype: str,
    source: str,
    tree: str,
    target: str,
    set: int,
    propagation: Sequence[tuple[int, bool]],
) -> None:
    """Show the host's sysfs or procfs, with all that is mounted below it, at a plain directory."""
    copy = context.take(tree) if tree else sys_.clone_tree(sys_.AT_FDCWD, source, recursive=True)
    with copy:
        if not paths.is_kernel_tree(copy, fstype):
            context.fail(f"{context.title}: the host's {source} is no {fstype}", path=source)
        paths.make_directory(context, target).close()
        resolve = sys_.RESOLVE_NO_SYMLINKS
        flags = os.O_PATH | os.O_DIRECTORY
        with paths.open_inside(context, target, flags, resolve=resolve) as point:
            _place(copy, point, set, 0, propagation)
            _note(context, target, copy)


def remount_read_only(context: Context, target: str) -> None:
    with paths.open_inside(context, target) as point:
        sys_.mount_setattr(point.fileno(), set=sys_.MOUNT_ATTR_RDONLY)


# ---- /dev ------------------------------------------------------------------------------------


def make_device(
    context: Context, path: str, type: str, major: int, minor: int, mode: int, uid: int, gid: int
) -> None:
    """A device node with exactly this mode and owner; the same device may be there already.

    Anything else in its place is an error (config-linux.md#devices).
    """
    parent, name = paths.parent_of(context, path)
    number = os.makedev(major, minor)
    with parent:
        if paths.is_hosts_dev(parent):
            return
        try:
            os.mknod(name, NODE_TYPES[type] | mode, number, dir_fd=parent.fileno())
        except FileExistsError:
            _adopt_device(context, parent, path, NODE_TYPES[type], number, mode, uid, gid)
        else:
            if uid or gid:
                os.chown(name, uid, gid, dir_fd=parent.fileno(), follow_symlinks=False)


def _adopt_device(
    context: Context,
    parent: sys_.Fd,
    path: str,
    type: int,
    number: int,
    mode: int,
    uid: int,
    gid: int,
) -> None:
    """The root file system's own node gets this mode and owner; one that is mounted there, which
    is the host's, stays as it is."""
    name = paths.split(path)[-1]
    resolve = sys_.RESOLVE_BENEATH | sys_.RESOLVE_NO_SYMLINKS
    mounted = False
    try:
        node = sys_.openat2(parent.fileno(), name, os.O_PATH, resolve | sys_.RESOLVE_NO_XDEV)
    except OSError as error:
        if error.errno not in (EXDEV, ELOOP):
            raise
        mounted = True
        node = sys_.openat2(parent.fileno(), name, os.O_PATH | os.O_NOFOLLOW, 0)
    with node:
        found = os.fstat(node.fileno())
        if found.st_mode & S_IFMT != type or (type != S_IFIFO and found.st_rdev != number):
            message = f"{context.title}: something else is in its place"
            context.fail(message, op="make_device", path=path, errno=EEXIST)
        if not mounted:
            _own_node(context, node, found, mode, uid, gid)


def _own_node(
    context: Context, node: sys_.Fd, found: os.stat_result, mode: int, uid: int, gid: int
) -> None:
    if (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (uid, gid, mode):
        return
    with paths.own_descriptors(context) as descriptors:
        name, directory = str(node.fileno()), descriptors.fileno()
        # The owner first, as it takes bits of the mode away.
        if (found.st_uid, found.st_gid) != (uid, gid):
            os.chown(name, uid, gid, dir_fd=directory)
        os.chmod(name, mode, dir_fd=directory)


def bind_device(context: Context, path: str, type: str, major: int, minor: int) -> None:
    """Show the host's node of that name, which must be the device that is asked for."""
    with sys_.clone_tree(sys_.AT_FDCWD, path, recursive=False) as copy:
        found = os.fstat(copy.fileno())
        if found.st_mode & S_IFMT != NODE_TYPES["c" if type == "u" else type]:
            context.fail(f"{context.title}: the host's {path} is of another type", path=path)
        if type != "p" and found.st_rdev != os.makedev(major, minor):
            context.fail(f"{context.title}: the host's {path} is another device", path=path)
        with paths.make_file(context, path) as point:
            sys_.attach_tree(copy.fileno(), point.fileno())


def make_symlink(context: Context, content: str, path: str) -> None:
    """A symbolic link, unless something of that name is there already."""
    parent, name = paths.parent_of(context, path)
    with parent:
        if paths.is_hosts_dev(parent):
            return
        try:
            os.symlink(content, name, dir_fd=parent.fileno())
        except FileExistsError:
            _replace_ptmx(parent, name, content)


def _replace_ptmx(parent: sys_.Fd, name: str, content: str) -> None:
    """A root file system's own /dev/ptmx would be the host's terminals: ours takes its place."""
    if name == "ptmx":
        os.unlink(name, dir_fd=parent.fileno())
        os.symlink(content, name, dir_fd=parent.fileno())


def make_cwd(context: Context, path: str) -> None:
    """The working directory is made where it is missing, as runc does."""
    try:
        paths.make_directory(context, path).close()
    except OSError:
        # A read-only root, or a file in the way: entering it will say so, and where.
        pass


# ---- the switch ------------------------------------------------------------------------------


def pivot_root(context: Context) -> None:
    """The container's root becomes "/", and the host's is no longer mounted anywhere below it."""
    old = sys_.Fd(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    os.fchdir(context.root_fd())
    # Both names are the same directory: the old root comes to lie over the new one (man 2
    # pivot_root), so that no directory for it is needed, and is then taken off.
    sys_.pivot_root(".", ".")
    with old:
        os.fchdir(old.fileno())
        # Without this, taking it off would take the host's own mounts off as well.
        sys_.mount(None, ".", None, sys_.MS_SLAVE | sys_.MS_REC)
        sys_.umount(".", sys_.MNT_DETACH)
    os.chdir("/")


def move_root(context: Context) -> None:
    """For hosts on an initramfs, which pivot_root refuses: the root is moved over the old one."""
    for path in _host_views(context):
        # What stays mounted below is only hidden, and /proc and /sys are reachable otherwise.
        sys_.mount(None, path, None, sys_.MS_SLAVE | sys_.MS_REC)
        try:
            sys_.umount(path, sys_.MNT_DETACH)
        except OSError as error:
            if error.errno not in (EINVAL, EPERM):
                raise
            sys_.mount("tmpfs", path, "tmpfs", 0, "mode=0")
    os.fchdir(context.root_fd())
    sys_.mount(".", "/", None, sys_.MS_MOVE)
    os.chroot(".")
    os.chdir("/")


def _host_views(context: Context) -> list[str]:
    """Where procfs and sysfs are mounted outside the container's root, deepest first."""
    with paths.own_descriptors(context) as descriptors:
        root = os.readlink(str(context.root_fd()), dir_fd=descriptors.fileno())
    found = []
    with paths.host_procfs(context) as proc:
        mountinfo = paths.open_in_procfs(proc, "self/mountinfo", os.O_RDONLY)
    with open(mountinfo.detach(), "rb") as file:
        for line in file.read().decode("utf-8", "surrogateescape").splitlines():
            fields = line.split(" ")
            kind = fields[fields.index("-") + 1]
            point = _unescape(fields[4])
            inside = point == root or point.startswith(root.rstrip("/") + "/")
            if kind in ("proc", "sysfs") and not inside:
                found.append(point)
    return sorted(found, reverse=True)


def _unescape(text: str) -> str:
    head, *rest = text.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def change_root(context: Context) -> None:
    """A container in the host's mount namespace only changes its root directory."""
    os.fchdir(context.root_fd())
    os.chroot(".")
    os.chdir("/")


# ---- the sealing -----------------------------------------------------------------------------


def read_only_root(context: Context) -> None:
    sys_.mount_setattr(context.root_fd(), set=sys_.MOUNT_ATTR_RDONLY)


def read_only_path(context: Context, path: str) -> None:
    """A path that exists is mounted over itself, read-only; others need no protection."""
    for point in paths.open_to_seal(context, path):
        with point, sys_.clone_tree(point.fileno(), "", recursive=True) as copy:
            sys_.mount_setattr(copy.fileno(), set=sys_.MOUNT_ATTR_RDONLY)
            sys_.attach_tree(copy.fileno(), point.fileno())


def mask_path(context: Context, path: str) -> None:
    """A file is covered by /dev/null, a directory by an empty, read-only tmpfs."""
    for point in paths.open_to_seal(context, path):
        with point, _cover(context, point) as cover:
            sys_.attach_tree(cover.fileno(), point.fileno())


def _cover(context: Context, point: sys_.Fd) -> sys_.Fd:
    if paths.is_directory(point):
        attributes = sys_.MOUNT_ATTR_RDONLY
        return _new_filesystem(context, "tmpfs", "tmpfs", [("ro", None)], attributes)
    return sys_.clone_tree(_null_device(context), "", recursive=False)


def _null_device(context: Context) -> int:
    """The container's /dev/null, which must be one: a planted file would be shown instead of
    hiding (CVE-2025-31133). It is checked and used by the same descriptor."""
    if context.null is None:
        null = paths.open_inside(context, "/dev/null", resolve=sys_.RESOLVE_NO_SYMLINKS)
        status = os.fstat(null.fileno())
        if status.st_mode & S_IFMT != S_IFCHR or status.st_rdev != NULL_DEVICE:
            context.fail(f"{context.title}: /dev/null is not the null device", path="/dev/null")
        context.null = null
    return context.null.fileno()
