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

ENOENT, EEXIST, ELOOP = 2, 17, 40
MAX_SYMLINKS = 40


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
    fd = open_if_there(context, path)
    if fd is not None:
        return fd
    parts = _without_symlinks(context, path)
    for end in range(1, len(parts) + 1):
        _ensure_directory(context, parts[: end - 1], parts[end - 1])
    return open_inside(context, "/".join(parts), os.O_PATH | os.O_DIRECTORY)


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
    try:
        with open_inside(context, "/".join(parents)) as parent:
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
    found = open_if_there(context, path)
    if found is None:
        return None
    with found:
        mode = os.fstat(found.fileno()).st_mode
        if mode & 0o170000 != 0o100000:
            return None
    try:
        file = open_inside(context, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    with file:
        if os.fstat(file.fileno()).st_mode & 0o170000 != 0o100000:
            return None
        return os.read(file.fileno(), limit)


def is_directory(fd: sys_.Fd) -> bool:
    return os.fstat(fd.fileno()).st_mode & 0o170000 == 0o040000
