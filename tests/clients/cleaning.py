"""Remove a directory in which containers have worked, and nothing that was mounted in it.

A client's directory holds bind mounts: of an interpreter, of a user's files, of another container's
root. Removing "everything below" would go through them, also where the device number is the same
on both sides. So nothing is removed before the kernel's own list of mounts has nothing below the
directory any more, and no directory is entered through a mount point.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from libpycontainer import syscalls

MNT_DETACH = 2
RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV = 0x08, 0x04, 0x01
STAYS_HERE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
"""A bind mount of the same file system counts as a mount point too (man 2 openat2)."""


class StillMountedError(Exception):
    """Something is mounted below a directory that should be removed."""

    def __init__(self, directory: Path, left: list[Path]) -> None:
        self.left = left
        listing = ", ".join(map(str, left))
        super().__init__(f"{directory} is not removed: still mounted below it: {listing}")


def mounts_below(directory: Path) -> list[Path]:
    """What this process sees mounted on the directory and below it, the deepest first.

    A place on which several things are mounted is there as often. A link that stands in the
    directory's place is not followed: there is nothing below it.
    """
    top = directory.parent.resolve() / directory.name
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    points = [Path(_unescaped(line.split(" ")[4])) for line in lines]
    # Of two at one place the later lies on top.
    found = [point for point in reversed(points) if point.is_relative_to(top)]
    return sorted(found, key=lambda point: len(point.parts), reverse=True)


def unmount_below(directory: Path) -> None:
    """Unmount all of it; :exc:`StillMountedError` when something does not go."""
    for point in mounts_below(directory):
        for flags in (0, MNT_DETACH):
            try:
                syscalls.umount(str(point), flags)
                break
            except OSError:
                # Busy; or it went with one that lay above. The look below tells.
                continue
    if left := mounts_below(directory):
        raise StillMountedError(directory, left)


def remove(directory: Path) -> None:
    """Unmount what is below the directory, then remove it with its content.

    A symbolic link is removed, never followed. :exc:`StillMountedError` before anything is removed
    when a mount does not go; :exc:`OSError` (EXDEV, EBUSY) when one comes in the meantime.
    """
    unmount_below(directory)
    parent = os.open(directory.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _remove(directory.name, parent, os.lstat(directory).st_dev)
    finally:
        os.close(parent)


def _remove(name: str, parent: int, device: int) -> None:
    with syscalls.openat2(parent, name, os.O_RDONLY | os.O_DIRECTORY, STAYS_HERE) as inside:
        if os.fstat(inside.fileno()).st_dev != device:
            raise OSError(errno.EXDEV, "of another file system", name)
        for entry in os.listdir(inside.fileno()):
            if stat.S_ISDIR(os.lstat(entry, dir_fd=inside.fileno()).st_mode):
                _remove(entry, inside.fileno(), device)
            else:
                os.unlink(entry, dir_fd=inside.fileno())
    os.rmdir(name, dir_fd=parent)


def _unescaped(field: str) -> str:
    """A field of mountinfo, in which blanks and backslashes are octal (man 5 proc)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
