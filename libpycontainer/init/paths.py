"""Every path inside the container is opened here, and nowhere else in init.

The root file system, and what is mounted into it, belongs to somebody who may change it under our
hands. So no path is ever looked up by the kernel's ordinary rules: openat2 with RESOLVE_IN_ROOT
takes the container's root for "/", for absolute symlinks and for "..", whatever is renamed
meanwhile (CVE-2021-30465), and what was opened is used by its descriptor alone.
"""

from __future__ import annotations

import os

from libpycontainer import syscalls as sys_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libpycontainer.init.context import Context

ENOENT, EACCES, EEXIST, ENOTDIR, ELOOP = 2, 13, 17, 20, 40
S_IFMT, S_IFDIR, S_IFREG = 0o170000, 0o040000, 0o100000
MAX_SYMLINKS = 40
KERNEL_TREES = ("/proc", "/sys")
PROC_ROOT_INODE = 1


def open_inside(
    context: Context, path: str, flags: int = os.O_PATH, *, resolve: int = 0, mode: int = 0
) -> sys_.Fd:
    """Open a path of the container. Magic links, as in /proc/PID/fd, are never followed."""
    wanted = sys_.RESOLVE_IN_ROOT | sys_.RESOLVE_NO_MAGICLINKS | resolve
    return sys_.openat2(context.root_fd(), path.lstrip("/") or ".", flags, wanted, mode)


def open_if_there(context: Context, path: str) -> sys_.Fd | None:
    try:
        return open_inside(context, path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def split(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def make_directory(context: Context, path: str) -> sys_.Fd:
    """Open a directory of the container, made with its parents (mode 0755) where missing."""
    return open_if_there(context, path) or make_missing_directory(context, path)


def make_missing_directory(context: Context, path: str) -> sys_.Fd:
    """:func:`make_directory` for one that was looked for."""
    fd = _make_last(context, path)
    if fd is not None:
        return fd
    parts = _without_symlinks(context, path)
    for end in range(1, len(parts) + 1):
        _ensure_directory(context, parts[: end - 1], parts[end - 1])
    return open_inside(context, "/".join(parts), os.O_PATH | os.O_DIRECTORY)


def _make_last(context: Context, path: str) -> sys_.Fd | None:
    """The usual case, in three calls: only the last part is missing, and its parent is there."""
    parts = split(path)
    if not parts or parts[-1] == "..":
        return None
    parent = open_if_there(context, "/".join(parts[:-1]))
    if parent is None:
        return None
    with parent:
        try:
            os.mkdir(parts[-1], 0o755, dir_fd=parent.fileno())
        except OSError:
            # A symlink that leads nowhere, for one; or no directory to make anything in.
            return None
    return open_inside(context, path, os.O_PATH | os.O_DIRECTORY)


def _without_symlinks(context: Context, path: str) -> list[str]:
    """Where ``path`` leads, whether that exists or not: what ".." takes back is not made."""
    done: list[str] = []
    rest = split(path)
    links = 0
    while rest:
        name = rest.pop(0)
        if name == "..":
            del done[-1:]
            continue
        content = _link_content(context, done, name)
        if content is None:
            done.append(name)
            continue
        links += 1
        if links > MAX_SYMLINKS:
            raise OSError(ELOOP, os.strerror(ELOOP), path)
        if content.startswith("/"):
            done = []
        rest = split(content) + rest
    return done


def _link_content(context: Context, parents: list[str], name: str) -> str | None:
    """``None`` for what is no link, and for the links of a procfs: what those of /proc/PID/fd say
    are the host's paths, of descriptors of ours."""
    try:
        with open_inside(context, "/".join(parents)) as parent:
            if sys_.filesystem_type(parent.fileno()) == sys_.PROC_SUPER_MAGIC:
                return None
            return os.readlink(name, dir_fd=parent.fileno())
    except OSError:
        return None


def _ensure_directory(context: Context, parents: list[str], name: str) -> None:
    """Have ``parents/name``; what somebody puts there meanwhile, the next open decides on."""
    with open_inside(context, "/".join(parents), os.O_PATH | os.O_DIRECTORY) as parent:
        try:
            os.mkdir(name, 0o755, dir_fd=parent.fileno())
        except FileExistsError:
            pass


def parent_of(context: Context, path: str) -> tuple[sys_.Fd, str]:
    """The directory that is to hold the last part of ``path``, made where missing."""
    parts = split(path)
    if not parts or parts[-1] == "..":
        raise OSError(EEXIST, os.strerror(EEXIST), path)
    return make_directory(context, "/".join(parts[:-1])), parts[-1]


def make_file(context: Context, path: str) -> sys_.Fd:
    """Open a file of the container (O_PATH), made empty where missing, to be mounted over."""
    fd = open_if_there(context, path)
    if fd is not None:
        return fd
    # The mount point may be a dangling symlink, as /etc/resolv.conf often is: its target is made.
    parts = _without_symlinks(context, path)
    with make_directory(context, "/".join(parts[:-1])) as parent:
        flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_EXCL
        try:
            os.close(os.open(parts[-1], flags, 0o644, dir_fd=parent.fileno()))
        except FileExistsError:
            # Something that open_if_there could not reach, or somebody was faster.
            pass
    return open_inside(context, "/".join(parts))


def read_regular(context: Context, path: str, limit: int = 1 << 20) -> bytes | None:
    """A regular file's content, ``None`` for anything else: a FIFO would hang whoever opens it."""
    try:
        with open_inside(context, path) as found:
            if not _is_regular(found):
                return None
        file = open_inside(context, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    with file:
        return os.read(file.fileno(), limit) if _is_regular(file) else None


def _is_regular(fd: sys_.Fd) -> bool:
    """A file of the kernel's calls itself regular, too; reading /proc/kmsg would empty it."""
    if os.fstat(fd.fileno()).st_mode & S_IFMT != S_IFREG:
        return False
    return sys_.filesystem_type(fd.fileno()) not in (sys_.PROC_SUPER_MAGIC, sys_.SYSFS_MAGIC)


def is_directory(fd: sys_.Fd) -> bool:
    return os.fstat(fd.fileno()).st_mode & S_IFMT == S_IFDIR


def is_hosts_dev(directory: sys_.Fd) -> bool:
    """Is this the host's own /dev? For before the switch, while that is what "/dev" leads to.

    A root that holds it ("/" itself, a copy of it) and a configuration that mounts nothing over it
    would have every node and link that a container is given made, and adopted, on the host.
    """
    try:
        return os.path.samestat(os.fstat(directory.fileno()), os.stat("/dev"))
    except FileNotFoundError:
        return False


def executable_error(path: str) -> int:
    """Why ``path`` could not be executed, 0 if nothing speaks against it. For after the switch.

    It is looked up as execve will do it, below the root that the kernel holds this process to; what
    is there is looked at and never opened.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return ENOENT if error.errno in (ENOENT, ENOTDIR) else error.errno or ENOENT
    return 0 if mode & 0o111 and mode & S_IFMT != S_IFDIR else EACCES


# ---- the kernel's own file systems -------------------------------------------------------------


def remember_tree(context: Context, target: str, mounted: int) -> None:
    """Keep hold of what was just mounted on /proc or /sys, to seal it later.

    Somebody who shares the root file system may rename the directory below the mount, which goes
    along: what is masked by its path then would be a planted directory, and the real procfs would
    lie open beside it (CVE-2019-19921 in another guise).
    """
    place = "/" + "/".join(split(target))
    for known in KERNEL_TREES:
        covered = known in context.kernel_trees and known.startswith(place.rstrip("/") + "/")
        if known == place or covered:
            _forget_tree(context, known)
    if place in KERNEL_TREES:
        context.kernel_trees[place] = sys_.Fd(os.dup(mounted))


def _forget_tree(context: Context, place: str) -> None:
    held = context.kernel_trees.pop(place, None)
    if held is not None:
        held.close()


def forget_trees(context: Context) -> None:
    for place in list(context.kernel_trees):
        _forget_tree(context, place)


def open_to_seal(context: Context, path: str) -> list[sys_.Fd]:
    """What ``path`` stands for, to be masked or made read-only; nothing where nothing is there.

    Below /proc and /sys that is what was mounted there, and also what the path leads to, should
    that be something else by now.
    """
    parts = split(path)
    place = "/" + "".join(parts[:1])
    tree = context.kernel_trees.get(place)
    if tree is None or ".." in parts:
        found = open_if_there(context, path)
        return [] if found is None else [found]
    resolve = sys_.RESOLVE_IN_ROOT | sys_.RESOLVE_NO_MAGICLINKS
    opened: list[sys_.Fd] = []
    try:
        opened.append(sys_.openat2(tree.fileno(), "/".join(parts[1:]) or ".", os.O_PATH, resolve))
    except (FileNotFoundError, NotADirectoryError):
        pass
    if not _is_still_there(context, place, tree):
        found = open_if_there(context, path)
        if found is not None:
            opened.append(found)
    return opened


def _is_still_there(context: Context, place: str, tree: sys_.Fd) -> bool:
    found = open_if_there(context, place)
    if found is None:
        return False
    with found:
        return os.path.samestat(os.fstat(found.fileno()), os.fstat(tree.fileno()))


def is_procfs(proc: sys_.Fd) -> bool:
    """Is this the root of a real procfs? A directory of one that is bound there is not."""
    kind = sys_.filesystem_type(proc.fileno())
    return kind == sys_.PROC_SUPER_MAGIC and os.fstat(proc.fileno()).st_ino == PROC_ROOT_INODE


def is_kernel_tree(root: sys_.Fd, fstype: str) -> bool:
    """Is this a procfs, or a sysfs, as a whole?"""
    if fstype == "proc":
        return is_procfs(root)
    return sys_.filesystem_type(root.fileno()) == sys_.SYSFS_MAGIC


def host_procfs(context: Context) -> sys_.Fd:
    """The host's /proc, before the root is switched; it has to be one (CVE-2019-16884)."""
    return _checked_procfs(context, sys_.Fd(os.open("/proc", os.O_PATH | os.O_DIRECTORY)))


def container_procfs(context: Context) -> sys_.Fd:
    """The container's /proc, where no procfs of init's own can be made."""
    flags, resolve = os.O_PATH | os.O_DIRECTORY, sys_.RESOLVE_NO_SYMLINKS
    return _checked_procfs(context, open_inside(context, "/proc", flags, resolve=resolve))


def _checked_procfs(context: Context, proc: sys_.Fd) -> sys_.Fd:
    if not is_procfs(proc):
        proc.close()
        context.fail(f"{context.title}: /proc is not a procfs", path="/proc")
    return proc


def open_in_procfs(proc: sys_.Fd, path: str, flags: int, *, resolve: int = 0) -> sys_.Fd:
    """Open a file of a procfs: the kernel's, not what is mounted over it (CVE-2025-52881)."""
    return sys_.openat2(
        proc.fileno(), path, flags, sys_.RESOLVE_BENEATH | sys_.RESOLVE_NO_XDEV | resolve
    )


def own_descriptors(context: Context) -> sys_.Fd:
    """The directory /proc/self/fd, before the root is switched: by its names, what is open."""
    with host_procfs(context) as proc:
        return open_in_procfs(proc, "self/fd", os.O_PATH | os.O_DIRECTORY)
