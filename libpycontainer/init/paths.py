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
    done: list[str] = []
    rest = split(path)
    links = 0
    while rest:
        name = rest.pop(0)
        if name == "..":
            del done[-1:]
            continue
        content = _ensure_directory(context, done, name)
        if content is None:
            done.append(name)
            continue
        # A symlink to what is not there yet: its target is what has to be made.
        links += 1
        if links > MAX_SYMLINKS:
            raise OSError(ELOOP, os.strerror(ELOOP), path)
        if content.startswith("/"):
            done = []
        rest = split(content) + rest
    return open_inside(context, "/".join(done), os.O_PATH | os.O_DIRECTORY)


def _ensure_directory(context: Context, parents: list[str], name: str) -> str | None:
    """Have ``parents/name``; returns the content of a dangling symlink that is in the way."""
    path = "/".join([*parents, name])
    if (found := open_if_there(context, path)) is not None:
        found.close()
        return None
    with open_inside(context, "/".join(parents), os.O_PATH | os.O_DIRECTORY) as parent:
        try:
            os.mkdir(name, 0o755, dir_fd=parent.fileno())
        except FileExistsError:
            try:
                return os.readlink(name, dir_fd=parent.fileno())
            except OSError:
                # Somebody made it between the two looks: the caller's next open decides.
                return None
    return None


def parent_of(context: Context, path: str) -> tuple[sys_.Fd, str]:
    """The directory that is to hold the last part of ``path``, made where missing."""
    parts = split(path)
    return make_directory(context, "/".join(parts[:-1])), parts[-1]


def make_file(context: Context, path: str) -> sys_.Fd:
    """Open a file of the container (O_PATH), made empty where missing, to be mounted over."""
    fd = open_if_there(context, path)
    if fd is not None:
        return fd
    parent, name = parent_of(context, path)
    with parent:
        flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_EXCL
        try:
            os.close(os.open(name, flags, 0o644, dir_fd=parent.fileno()))
        except FileExistsError:
            content = _link_content(name, parent)
            if content is not None:
                return _make_link_target(context, path, content)
    return open_inside(context, path)


def _link_content(name: str, parent: sys_.Fd) -> str | None:
    try:
        return os.readlink(name, dir_fd=parent.fileno())
    except OSError:
        return None


def _make_link_target(context: Context, path: str, content: str) -> sys_.Fd:
    """The mount point is a dangling symlink (as /etc/resolv.conf often is): make its target."""
    directory = "/".join(split(path)[:-1])
    target = content if content.startswith("/") else f"{directory}/{content}"
    if split(target) == split(path):
        raise OSError(ELOOP, os.strerror(ELOOP), path)
    with make_directory(context, "/".join(split(target)[:-1])) as parent:
        name = split(target)[-1]
        flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=parent.fileno()))
    return open_inside(context, path)


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
