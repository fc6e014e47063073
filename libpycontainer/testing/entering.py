"""A child of the test process that enters fresh namespaces, and the one that it leaves behind.

    the test process
        the outer child        makes the namespaces; ends as what it waits for ends
            pid 1              with a pid namespace: reaps whatever is left to it
                the test

Everything here happens after fork in a process whose other threads are gone; whoever ends ends by
``os._exit``, so that nothing of the test process is run twice.
"""

from __future__ import annotations

import os

from libpycontainer import host, kernel, namespaces
from libpycontainer import syscalls as sys_
from libpycontainer.errors import ContainerError
from libpycontainer.plan import Namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from libpycontainer.testing.isolation import Wishes

PR_SET_PDEATHSIG = 1
KILL = 9
MS_REC = 1 << 14
QUIET = 2 | 4 | 8
"""MS_NOSUID, MS_NODEV and MS_NOEXEC."""
EVERY_ID = (1 << 32) - 1
NAMES = {
    kernel.CLONE_NEWNET: "network",
    kernel.CLONE_NEWNS: "mount",
    kernel.CLONE_NEWPID: "pid",
    kernel.CLONE_NEWIPC: "ipc",
    kernel.CLONE_NEWUTS: "uts",
    kernel.CLONE_NEWCGROUP: "cgroup",
}


class Obstacle(Exception):  # noqa: N818 - a reason, which a test is skipped with
    """What cannot be had here, and why."""


def fork() -> int:
    """``os.fork``, whose warning about threads is not meant for a child that needs none."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return os.fork()


def user_namespace() -> sys_.Fd:
    """One that the caller is root of. Root himself keeps every id, but not the rights over others.

    Raises :class:`Obstacle`.
    """
    if os.geteuid() == 0:
        maps = {"uid_map": f"0 0 {EVERY_ID}\n", "gid_map": f"0 0 {EVERY_ID}\n"}
    else:
        maps = {"uid_map": f"0 {os.geteuid()} 1\n", "gid_map": f"0 {os.getegid()} 1\n"}
    wanted = Namespace("user", "user", setgroups=os.geteuid() == 0, **maps)
    try:
        return namespaces.open_namespaces([wanted], host.facts())["user"]
    except (ContainerError, OSError) as error:
        raise Obstacle(f"cannot make a user namespace: {error}") from None


def enter(wishes: Wishes, user: sys_.Fd | None) -> None:
    """Leave the namespaces of the test process for those wished for. Raises :class:`Obstacle`."""
    if user is not None:
        _try("enter a user namespace", lambda: sys_.setns(user.fileno(), kernel.CLONE_NEWUSER))
    if wishes.flags:
        kinds = ", ".join(name for flag, name in NAMES.items() if wishes.flags & flag)
        _try(f"make namespaces ({kinds})", lambda: sys_.unshare(wishes.flags), root=True)
    if wishes.flags & kernel.CLONE_NEWNS:
        # What is mounted inside stays inside.
        private = MS_REC | kernel.MS_PRIVATE
        _try("make the mounts private", lambda: sys_.mount(None, "/", None, private))
    if wishes.flags & kernel.CLONE_NEWNET:
        _try("bring the loopback up", sys_.loopback_up)
    if wishes.hostname is not None:
        _try("set the host name", lambda: sys_.sethostname(wishes.hostname))


def mount_proc() -> None:
    """Show the processes of the own pid namespace. Raises :class:`Obstacle`."""
    _try("mount /proc", lambda: sys_.mount("proc", "/proc", "proc", QUIET))


def _try(what: str, act: Callable[[], object], *, root: bool = False) -> None:
    try:
        act()
    except OSError as error:
        hint = ""
        if root and error.errno in (1, 13):
            hint = " (needs root, or user=True where user namespaces are allowed)"
        raise Obstacle(f"cannot {what}: {error.strerror}{hint}") from None


def attempt(wishes: Wishes) -> str:
    """Enter such namespaces once, in a child that does nothing else: why it could not, or ""."""
    reader, writer = os.pipe()

    def tell(text: str) -> None:
        os.write(writer, text.encode("utf-8", "replace")[:4096])

    try:
        pid = start(wishes, lambda: None, tell)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            said = file.read().decode("utf-8", "replace")
    except Obstacle as error:
        os.close(reader)
        os.close(writer)
        return str(error)
    _, status = os.waitpid(pid, 0)
    if said or status == 0:
        return said
    return f"the child that was to enter the namespaces ended with {status:#x}"


def start(
    wishes: Wishes,
    act: Callable[[], None],
    refuse: Callable[[str], None],
    go: Mapping[str, int] | None = None,
) -> int:
    """Run ``act`` in a child inside the namespaces; returns the pid of the outer child.

    ``refuse`` is called in the child instead, with the reason. ``go`` may hold the two ends of a
    pipe: the child waits until ``"writer"`` is closed. Raises :class:`Obstacle`.
    """
    user = user_namespace() if wishes.user else None
    try:
        parent = os.getpid()
        pid = fork()
        if pid == 0:
            _outer(wishes, user, act, refuse, go, parent)
        return pid
    finally:
        if user is not None:
            user.close()


def _outer(
    wishes: Wishes,
    user: sys_.Fd | None,
    act: Callable[[], None],
    refuse: Callable[[str], None],
    go: Mapping[str, int] | None,
    parent: int,
) -> NoReturn:
    code = 1
    try:
        _die_with_parent(parent)
        if go is not None:
            os.close(go["writer"])
            os.read(go["reader"], 1)
        enter(wishes, user)
        # It was cleared together with the ids that changed.
        _die_with_parent(parent)
        if wishes.flags & kernel.CLONE_NEWPID:
            code = _with_own_pids(act, refuse)
        else:
            act()
            code = 0
    except Obstacle as error:
        refuse(str(error))
        code = 0
    finally:
        os._exit(code)


def _die_with_parent(parent: int) -> None:
    sys_.prctl(PR_SET_PDEATHSIG, KILL)
    if os.getppid() != parent:
        os._exit(1)


def _with_own_pids(act: Callable[[], None], refuse: Callable[[str], None]) -> int:
    """The next child is pid 1 of the new namespace: everything in it ends with it."""
    first = fork()
    if first:
        return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    code = 1
    try:
        sys_.prctl(PR_SET_PDEATHSIG, KILL)
        mount_proc()
        code = _as_first_process(act)
    except Obstacle as error:
        refuse(str(error))
        code = 0
    finally:
        os._exit(code)


def _as_first_process(act: Callable[[], None]) -> int:
    """Run ``act`` in a process that signals reach as usual, and reap for it."""
    worker = fork()
    if worker == 0:
        try:
            act()
        finally:
            os._exit(0)
    while True:
        pid, status = os.wait()
        if pid == worker:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
