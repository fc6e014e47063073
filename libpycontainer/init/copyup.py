"""``tmpcopyup``: a tmpfs that starts with the content of the directory it covers."""

from __future__ import annotations

import os

from libpycontainer import syscalls as sys_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set

S_IFMT, S_IFDIR, S_IFREG, S_IFLNK = 0o170000, 0o040000, 0o100000, 0o120000
CHUNK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_up(point: int, mounted: int, given: Set[str]) -> None:
    """Copy what lies below the directory ``point`` into the detached mount ``mounted``.

    Owners, modes and modification times come along, those of the directory itself as far as no
    option of the mount (``given``) is about them: ``mode``, ``uid``, ``gid``. Every name is opened
    below its directory's descriptor and never followed: what somebody swaps for a symlink
    meanwhile is an error.
    """
    with (
        sys_.Fd(os.open(".", _DIRECTORY, dir_fd=point)) as source,
        sys_.Fd(os.open(".", _DIRECTORY, dir_fd=mounted)) as target,
    ):
        _copy_directory(source.fileno(), target.fileno())
        own = os.fstat(target.fileno())
        _copy_attributes(os.fstat(source.fileno()), target.fileno())
        _put_back(own, target.fileno(), given)


def _put_back(own: os.stat_result, fd: int, given: Set[str]) -> None:
    owner = own.st_uid if "uid" in given else -1
    group = own.st_gid if "gid" in given else -1
    os.fchown(fd, owner, group)
    if "mode" in given:
        os.fchmod(fd, own.st_mode & 0o7777)


def _copy_directory(source: int, target: int) -> None:
    for name in os.listdir(source):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        kind = status.st_mode & S_IFMT
        if kind == S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=target)
            with (
                sys_.Fd(os.open(name, _DIRECTORY, dir_fd=source)) as below,
                sys_.Fd(os.open(name, _DIRECTORY, dir_fd=target)) as copy,
            ):
                _copy_directory(below.fileno(), copy.fileno())
                _copy_attributes(status, copy.fileno())
        elif kind == S_IFREG:
            _copy_file(name, source, target, status)
        elif kind == S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)


def _copy_file(name: str, source: int, target: int, status: os.stat_result) -> None:
    reading = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    writing = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with (
        sys_.Fd(os.open(name, reading, dir_fd=source)) as original,
        sys_.Fd(os.open(name, writing, 0o600, dir_fd=target)) as copy,
    ):
        while os.sendfile(copy.fileno(), original.fileno(), None, CHUNK):
            pass
        _copy_attributes(status, copy.fileno())


def _copy_attributes(status: os.stat_result, fd: int) -> None:
    # The owner first: a change of it takes set-user-ID bits away.
    os.fchown(fd, status.st_uid, status.st_gid)
    os.fchmod(fd, status.st_mode & 0o7777)
    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
