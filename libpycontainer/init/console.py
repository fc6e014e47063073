"""The container's terminal: made from its own devpts, its master given to the caller."""

from __future__ import annotations

import os

from libpycontainer import syscalls as sys_
from libpycontainer.init import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libpycontainer.init.context import Context

PTMX = os.makedev(5, 2)


def console(context: Context, size: tuple[int, int] | None, mount: bool, uid: int) -> None:
    """Open a pseudo terminal, make it ours, show it as /dev/console, send its master away.

    The slave is asked of the master itself (TIOCGPTPEER) and never opened by its name, which the
    container could point elsewhere (CVE-2025-52565).
    """
    master = _open_master(context)
    with master:
        fd = master.fileno()
        sys_.ioctl_buffer(fd, sys_.TIOCSPTLCK, bytearray(4))
        number = bytearray(4)
        sys_.ioctl_buffer(fd, sys_.TIOCGPTN, number)
        if size is not None:
            rows, columns = size
            window = rows.to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4)
            sys_.ioctl_buffer(fd, sys_.TIOCSWINSZ, bytearray(window))
        slave = sys_.Fd(sys_.ioctl(fd, sys_.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
        os.fchown(slave.fileno(), uid, -1)
        if mount:
            _show_as_console(context, slave)
        name = f"/dev/pts/{int.from_bytes(number, 'little')}"
        with context.take("console") as socket:
            sys_.send(socket.fileno(), name.encode(), [fd])
    sys_.ioctl(slave.fileno(), sys_.TIOCSCTTY, 0)
    context.fds["terminal"] = slave


def _open_master(context: Context) -> sys_.Fd:
    resolve = sys_.RESOLVE_NO_SYMLINKS
    master = paths.open_inside(context, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY, resolve=resolve)
    kind = sys_.filesystem_type(master.fileno())
    if kind != sys_.DEVPTS_SUPER_MAGIC or os.fstat(master.fileno()).st_rdev != PTMX:
        context.fail(f"{context.title}: /dev/pts is not a devpts", path="/dev/pts/ptmx")
    return master


def _show_as_console(context: Context, slave: sys_.Fd) -> None:
    with (
        paths.make_file(context, "/dev/console") as point,
        sys_.clone_tree(slave.fileno(), "", recursive=False) as copy,
    ):
        sys_.attach_tree(copy.fileno(), point.fileno())
