"""The kernel as Python calls it: typed wrappers over the shim.

Both the caller's side and the sealed init import this module, so it may import nothing but
built-in modules and the shim. A failing call raises :class:`OSError` with the kernel's number,
a text that names the call, and the path where there is one.
"""

from __future__ import annotations

import os

from libpycontainer._shim import ffi, lib
from libpycontainer.descriptors import Fd as Fd
from libpycontainer.kernel import *  # noqa: F403 - init says sys_.CLONE_NEWPID
from libpycontainer.kernel import (
    AT_EMPTY_PATH,
    AT_RECURSIVE,
    FSPICK_EMPTY_PATH,
    KEYCTL_DESCRIBE,
    KEYCTL_SETPERM,
    MFD_ALLOW_SEALING,
    MFD_CLOEXEC,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
    SECCOMP_SET_MODE_FILTER,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

EINTR, EFAULT, ENOTDIR, EINVAL = 4, 14, 20, 22
MAX_PACKET = 65536
MAX_PACKET_FDS = 253
_S_IFMT, _S_IFDIR = 0o170000, 0o040000


def _check(result: int, op: str, path: str | bytes | None = None) -> int:
    if result >= 0:
        return result
    text = f"{op}: {os.strerror(-result)}"
    if path is None or path == "" or path == b"":
        raise OSError(-result, text)
    raise OSError(-result, text, os.fsdecode(path))


def _text(value: str | bytes) -> bytes:
    return os.fsencode(value)


def _optional(value: str | bytes | None) -> Any:
    return ffi.NULL if value is None else _text(value)


def _string_array(values: Iterable[str | bytes]) -> tuple[Any, list[Any]]:
    """A NULL-terminated ``char *[]``, and what must stay alive as long as it is used."""
    kept = [ffi.new("char[]", _text(value)) for value in values]
    return ffi.new("char *[]", [*kept, ffi.NULL]), kept


# ---- processes ------------------------------------------------------------------------------


class Child:
    """A child in the making: filled by the kernel's side of :func:`spawn`, and so complete even
    where an exception (a Ctrl-C) hits the caller right behind it."""

    __slots__ = ("_request",)

    def __init__(self) -> None:
        self._request = ffi.new("struct lpc_spawn *")
        self._request.pidfd = -1

    @property
    def started(self) -> bool:
        """Is there a child, and its pidfd open?"""
        return bool(self._request.pidfd >= 0)

    def fileno(self) -> int:
        """The pidfd, which stays this object's."""
        number = int(self._request.pidfd)
        if number < 0:
            raise ValueError("there is no child, or its descriptor is closed")
        return number

    def close(self) -> None:
        """Close the pidfd; the child itself is left alone."""
        number, self._request.pidfd = self._request.pidfd, -1
        if number >= 0:
            os.close(number)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def spawn(
    argv: Sequence[str],
    env: Sequence[str],
    fds: Sequence[int],
    *,
    executable: int | None = None,
    path: str = "",
    block_signals: bool = False,
    child: Child | None = None,
) -> int:
    """Start the program behind ``executable`` or at ``path`` with ``fds`` as its 0, 1, 2 ...

    It gets no other descriptors. Its signals are all blocked, or else all unblocked and at their
    defaults. Returns the pid; the pidfd is in ``child``. The child is the caller's to wait for.
    """
    request = (child or Child())._request
    argv_array, _argv = _string_array(argv)
    env_array, _env = _string_array(env)
    path_array = ffi.new("char[]", _text(path))
    fds_array = ffi.new("int[]", list(fds))
    request.exe_fd = -1 if executable is None else executable
    request.path, request.argv, request.envp = path_array, argv_array, env_array
    request.fds, request.nfds = fds_array, len(fds)
    request.block_signals = int(block_signals)
    return _check(lib.lpc_spawn(request), "execve", path)


def clone(flags: int, cgroup: int = -1) -> tuple[int, Fd | None]:
    """clone3: ``(0, None)`` in the child, ``(pid, pidfd)`` in the caller.

    Only for a process with a single thread: the child goes on in this very interpreter.
    """
    pidfd = ffi.new("int *", -1)
    pid = _check(lib.lpc_clone(flags, cgroup, pidfd), "clone3")
    return pid, Fd(pidfd[0]) if pid else None


class Parked:
    """A child that sits in fresh namespaces so that they can be opened by path and kept by fd.

    It is noted by the kernel's side, as with :class:`Child`, so that a Ctrl-C right behind
    :meth:`start` finds what is to be closed.
    """

    __slots__ = ("_keeper", "_pidfd", "_stack", "pid")

    STACK_SIZE = 32 * 1024

    def __init__(self) -> None:
        self._stack = ffi.new("char[]", self.STACK_SIZE + 16)
        self._pidfd, self._keeper = ffi.new("int *", -1), ffi.new("int *", -1)
        self.pid = 0

    def start(self, clone_flags: int, unshare_flags: int = 0) -> None:
        """Make the child, and with it the namespaces; once for each object."""
        # clone wants the stack's top aligned to 16 bytes.
        base = self._stack + (-int(ffi.cast("uintptr_t", self._stack)) % 16)
        size, pidfd, keeper = self.STACK_SIZE, self._pidfd, self._keeper
        self.pid = _check(
            lib.lpc_park(clone_flags, unshare_flags, base, size, pidfd, keeper), "clone"
        )

    def close(self) -> None:
        """End the child and wait until it is gone; closing it once more does nothing."""
        lib.lpc_unpark(self._pidfd, self._keeper)

    def __enter__(self) -> Parked:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Finish:
    """What :func:`finish` needs; see ``struct lpc_finish`` in csrc/shim.h."""

    __slots__ = (
        "ambient",
        "argv",
        "bounding",
        "channel",
        "cwd",
        "effective",
        "env",
        "fds",
        "filter",
        "filter_flags",
        "gid",
        "groups",
        "inheritable",
        "last_cap",
        "no_new_privileges",
        "path",
        "permitted",
        "rlimits",
        "uid",
        "umask",
    )

    path: str | None
    argv: Sequence[str]
    env: Sequence[str]
    cwd: str
    uid: int
    gid: int
    groups: Sequence[int] | None
    umask: int
    bounding: int
    permitted: int
    effective: int
    inheritable: int
    ambient: int
    last_cap: int
    no_new_privileges: bool
    filter: bytes
    filter_flags: int
    channel: int
    fds: Sequence[int]
    rlimits: Sequence[tuple[int, int, int]]


STAGES = (
    "",
    "place the file descriptors",
    "set the resource limits",
    "drop the bounding set",
    "enter the working directory",
    "set the groups",
    "set the user and group ids",
    "set the capabilities",
    "raise the ambient capabilities",
    "set no_new_privs",
    "load the seccomp filter",
    "execve",
)


def finish(request: Finish) -> tuple[int, str]:
    """Become the container's program. Returns only on failure: ``(errno, what failed)``.

    Without a ``path`` there is no program: it returns ``(0, "")``, in a process that is all that
    the program would have been, but for what execve does.
    """
    argv, _argv = _string_array(request.argv)
    env, _env = _string_array(request.env)
    path = ffi.NULL if request.path is None else ffi.new("char[]", _text(request.path))
    cwd = ffi.new("char[]", _text(request.cwd))
    groups = ffi.new("uint32_t[]", list(request.groups or ()))
    fds = ffi.new("int[]", list(request.fds))
    program = ffi.new("char[]", request.filter) if request.filter else ffi.NULL
    self = ffi.new("struct lpc_finish *")
    self.path, self.argv, self.envp, self.cwd = path, argv, env, cwd
    self.uid, self.gid, self.umask = request.uid, request.gid, request.umask
    self.groups = groups
    self.ngroups = -1 if request.groups is None else len(request.groups)
    self.bounding, self.permitted = request.bounding, request.permitted
    self.effective, self.inheritable = request.effective, request.inheritable
    self.ambient, self.last_cap = request.ambient, request.last_cap
    self.no_new_privileges = int(request.no_new_privileges)
    self.filter, self.filter_length = program, len(request.filter) // 8
    self.filter_flags, self.channel = request.filter_flags, request.channel
    self.fds, self.nfds = fds, len(request.fds)
    rlimits = ffi.new("uint64_t[]", [number for limit in request.rlimits for number in limit])
    self.rlimits, self.nrlimits = rlimits, len(request.rlimits)
    failed: int = lib.lpc_finish(self)
    return -failed, STAGES[self.stage] if failed else ""


def send_signal(pidfd: int, number: int) -> None:
    _check(lib.lpc_pidfd_send_signal(pidfd, number), "pidfd_send_signal")


def exit_status(pidfd: int) -> int | None:
    """The status of an exited process, also after somebody else reaped it (kernel 6.15 or newer).

    In wait(2)'s coding; ``None`` while it runs. Raises ``OSError(ENODATA)`` where it is lost.
    """
    status = ffi.new("int *")
    return status[0] if _check(lib.lpc_pidfd_exit_status(pidfd, status), "PIDFD_GET_INFO") else None


# ---- packets that carry descriptors ---------------------------------------------------------


def send(sock: int, data: bytes, fds: Sequence[int] = (), flags: int = 0) -> int:
    """Send one packet; the descriptors stay the caller's. Returns its length: a stream may cut."""
    return _check(lib.lpc_send(sock, data, len(data), fds, len(fds), flags), "sendmsg")


class Packet:
    """Where a packet is received, for those who must know what came even when interrupted."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = ffi.new("char[]", MAX_PACKET)

    def beginning(self) -> bytes:
        """Its first bytes; none before something came."""
        return bytes(ffi.buffer(self._data, 64)).rstrip(b"\0")


def receive(sock: int, flags: int = 0, packet: Packet | None = None) -> tuple[bytes, list[Fd]]:
    """Receive one packet and own its descriptors. An empty one is the other end's end-of-file."""
    data = (packet or Packet())._data
    numbers = ffi.new("int[]", MAX_PACKET_FDS)
    count = ffi.new("int *")
    size = -EINTR
    while size == -EINTR:
        size = lib.lpc_recv(sock, data, MAX_PACKET, numbers, MAX_PACKET_FDS, count, flags)
    fds = [Fd(numbers[i]) for i in range(count[0])]
    _check(size, "recvmsg")
    return bytes(ffi.buffer(data, size)), fds


SOCK_STREAM = 1
SOCK_SEQPACKET = 5


def socketpair(type: int = SOCK_SEQPACKET) -> tuple[Fd, Fd]:
    ends = ffi.new("int[2]")
    _check(lib.lpc_socketpair(type, ends), "socketpair")
    return Fd(ends[0]), Fd(ends[1])


def listen(path: str, type: int = SOCK_SEQPACKET) -> Fd:
    """A listening unix socket bound at ``path`` (at most 107 bytes)."""
    return Fd(_check(lib.lpc_listen(_text(path), type, 16), "bind", path))


def connect(path: str, type: int = SOCK_SEQPACKET, *, nonblocking: bool = False) -> Fd:
    """Connect to a unix socket. ``nonblocking`` raises BlockingIOError when its queue is full."""
    return Fd(_check(lib.lpc_connect(_text(path), type, int(nonblocking)), "connect", path))


def shutdown_writing(sock: int) -> None:
    """The other end reads end-of-file from now on."""
    _check(lib.lpc_shutdown_writing(sock), "shutdown")


def accept(sock: int) -> Fd:
    fd = -EINTR
    while fd == -EINTR:
        fd = lib.lpc_accept(sock)
    return Fd(_check(fd, "accept"))


# ---- namespaces -----------------------------------------------------------------------------


def setns(fd: int, flags: int) -> None:
    _check(lib.lpc_setns(fd, flags), "setns")


def unshare(flags: int) -> None:
    _check(lib.lpc_unshare(flags), "unshare")


def loopback_up() -> None:
    """Bring ``lo`` of the own network namespace up."""
    _check(lib.lpc_loopback_up(), "SIOCSIFFLAGS", "lo")


def sethostname(name: str) -> None:
    data = _text(name)
    _check(lib.lpc_sethostname(data, len(data)), "sethostname", name)


def setdomainname(name: str) -> None:
    data = _text(name)
    _check(lib.lpc_setdomainname(data, len(data)), "setdomainname", name)


# ---- mounts and paths -----------------------------------------------------------------------


def openat2(directory: int, path: str | bytes, flags: int, resolve: int, mode: int = 0) -> Fd:
    """openat2(2), close-on-exec; ``resolve`` is a set of RESOLVE_ flags."""
    fd = lib.lpc_openat2(directory, _text(path), flags | os.O_CLOEXEC, mode, resolve)
    return Fd(_check(fd, "openat2", path))


def open_tree(directory: int, path: str, flags: int) -> Fd:
    fd = lib.lpc_open_tree(directory, _text(path), flags | OPEN_TREE_CLOEXEC)
    return Fd(_check(fd, "open_tree", path))


def clone_tree(directory: int, path: str, *, recursive: bool) -> Fd:
    """A detached copy of the mounts at ``path`` (of ``directory`` itself where it is empty)."""
    flags = OPEN_TREE_CLONE | (AT_RECURSIVE if recursive else 0)
    return open_tree(directory, path, flags | (AT_EMPTY_PATH if path == "" else 0))


def attach_tree(tree: int, target: int) -> None:
    """Attach a detached mount to the place behind ``target`` (an O_PATH descriptor).

    A file on a directory, or the reverse, is ENOTDIR, as for mount(2); the kernel says EINVAL.
    """
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    result = lib.lpc_move_mount(tree, b"", target, b"", flags)
    if result == -EINVAL and _is_directory(tree) != _is_directory(target):
        result = -ENOTDIR
    _check(result, "move_mount")


def _is_directory(fd: int) -> bool:
    return os.fstat(fd).st_mode & _S_IFMT == _S_IFDIR


def fsopen(name: str) -> Fd:
    return Fd(_check(lib.lpc_fsopen(_text(name), 1), "fsopen", name))


def fspick(directory: int) -> Fd:
    return Fd(_check(lib.lpc_fspick(directory, b"", FSPICK_EMPTY_PATH | 1), "fspick"))


def fsconfig(fd: int, command: int, key: str | None = None, value: str | None = None) -> None:
    _check(lib.lpc_fsconfig(fd, command, _optional(key), _optional(value), 0), "fsconfig", key)


def fsmount(fd: int, attributes: int) -> Fd:
    return Fd(_check(lib.lpc_fsmount(fd, 1, attributes), "fsmount"))


def mount_setattr(
    mount: int,
    *,
    set: int = 0,
    clear: int = 0,
    propagation: int = 0,
    recursive: bool = False,
    userns: int = -1,
) -> None:
    """Change a mount's attributes, MOUNT_ATTR_ and MS_ propagation flags, by its descriptor."""
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    result = lib.lpc_mount_setattr(mount, b"", flags, set, clear, propagation, userns)
    _check(result, "mount_setattr")


def mount(
    source: str | None, target: str, type: str | None, flags: int, data: str | None = None
) -> None:
    arguments = (_optional(source), _text(target), _optional(type), flags, _optional(data))
    _check(lib.lpc_mount(*arguments), "mount", target)


def umount(path: str, flags: int) -> None:
    _check(lib.lpc_umount2(_text(path), flags), "umount2", path)


def pivot_root(new_root: str, put_old: str) -> None:
    _check(lib.lpc_pivot_root(_text(new_root), _text(put_old)), "pivot_root")


def filesystem_type(fd: int) -> int:
    """The magic number of the file system that a descriptor lies on (man 2 statfs)."""
    magic = ffi.new("int64_t *")
    _check(lib.lpc_fstatfs_type(fd, magic), "fstatfs")
    return int(magic[0])


def sealed_memfd(name: str, data: bytes) -> Fd:
    """A memory file that holds ``data`` and can never change again, offset 0."""
    fd = memfd(name, MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(fd.fileno(), view) :]
    os.lseek(fd.fileno(), 0, os.SEEK_SET)
    seal(fd.fileno())
    return fd


def memfd(name: str, flags: int = 0) -> Fd:
    return Fd(_check(lib.lpc_memfd_create(_text(name), flags | MFD_CLOEXEC), "memfd_create"))


def seal(fd: int) -> None:
    """Forbid every later change of a memory file's content and seals."""
    _check(lib.lpc_seal(fd), "F_ADD_SEALS")


# ---- the process's own properties -----------------------------------------------------------


def prctl(option: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
    return _check(lib.lpc_prctl(option, a, b, c, d), "prctl")


def set_rlimit(resource: int, soft: int, hard: int) -> None:
    """Set one of this process's limits; both in 0 ... 2**64-1, the last meaning unlimited."""
    _check(lib.lpc_set_rlimit(resource, soft, hard), "prlimit")


def get_rlimit(resource: int) -> tuple[int, int]:
    """One of this process's limits, ``(soft, hard)``."""
    soft, hard = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    _check(lib.lpc_get_rlimit(resource, soft, hard), "prlimit")
    return int(soft[0]), int(hard[0])


def join_session_keyring(name: str) -> int:
    """Make (or join) the session keyring of that name; returns its serial number."""
    return _check(lib.lpc_join_session_keyring(_text(name)), "keyctl", name)


def describe_key_permissions(key: int) -> int:
    """A key's permission mask (man 7 keyrings)."""
    buffer = ffi.new("char[]", 4096)
    address = int(ffi.cast("uintptr_t", buffer))
    _check(lib.lpc_keyctl(KEYCTL_DESCRIBE, key, address, 4096, 0), "keyctl")
    # "type;uid;gid;permissions in hex;description"
    return int(ffi.string(buffer).split(b";")[3], 16)


def set_key_permissions(key: int, permissions: int) -> None:
    _check(lib.lpc_keyctl(KEYCTL_SETPERM, key, permissions, 0, 0), "keyctl")


def personality(persona: int) -> None:
    _check(lib.lpc_personality(persona), "personality")


def sched_setattr(attr: bytes) -> None:
    """sched_setattr(2) on this process; ``attr`` is a packed ``struct sched_attr``."""
    _check(lib.lpc_sched_setattr(0, attr), "sched_setattr")


def set_io_priority(value: int) -> None:
    """ioprio_set(2) on this process; ``value`` is class << 13 | priority."""
    _check(lib.lpc_ioprio_set(1, 0, value), "ioprio_set")


def set_mempolicy(mode: int, nodes: Iterable[int]) -> None:
    """set_mempolicy(2) on this process; ``nodes`` are node numbers."""
    wanted = list(nodes)
    words = max(wanted, default=0) // 64 + 1
    mask = ffi.new("unsigned long[]", words)
    for node in wanted:
        mask[node // 64] |= 1 << node % 64
    size = words * 64 + 1 if wanted else 0
    _check(lib.lpc_set_mempolicy(mode, mask if wanted else ffi.NULL, size), "set_mempolicy")


# ---- odds and ends --------------------------------------------------------------------------


def dup_above(fd: int, least: int) -> Fd:
    """A copy of a descriptor whose number is at least ``least``, close-on-exec."""
    return Fd(_check(lib.lpc_dup_above(fd, least), "F_DUPFD_CLOEXEC"))


def close_from(first: int) -> None:
    """Close every descriptor of this process from ``first`` upwards."""
    _check(lib.lpc_close_range(first, 0xFFFFFFFF, 0), "close_range")


def ioctl(fd: int, request: int, argument: int = 0) -> int:
    """An ioctl whose argument is a plain number."""
    return _check(lib.lpc_ioctl(fd, request, ffi.cast("void *", argument)), "ioctl")


def ioctl_buffer(fd: int, request: int, data: bytearray) -> int:
    """An ioctl whose argument points to ``data``, which the kernel may change in place."""
    return _check(lib.lpc_ioctl(fd, request, ffi.from_buffer(data)), "ioctl")


def knows_seccomp_flag(flag: int) -> bool:
    """Does this kernel take that SECCOMP_FILTER_FLAG? Nothing is loaded to find out."""
    result = lib.lpc_seccomp(SECCOMP_SET_MODE_FILTER, flag, ffi.NULL)
    return bool(result == -EFAULT)


def bpf(command: int, attr: bytearray) -> int:
    """bpf(2); the kernel's answers come back inside ``attr``."""
    return _check(lib.lpc_bpf(command, ffi.from_buffer(attr), len(attr)), "bpf")


def inotify_init() -> Fd:
    """An empty set of watches, close-on-exec and non-blocking (man 7 inotify)."""
    return Fd(_check(lib.lpc_inotify_init(), "inotify_init1"))


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """Watch ``path`` for the events in ``mask``, IN_ flags; returns the watch's number."""
    return _check(lib.lpc_inotify_add_watch(fd, _text(path), mask), "inotify_add_watch", path)


def address_of(data: bytes | bytearray) -> tuple[int, object]:
    """Where ``data`` lies in memory, and what to keep alive while the kernel reads it."""
    kept = ffi.from_buffer(data)
    return int(ffi.cast("uintptr_t", kept)), kept
