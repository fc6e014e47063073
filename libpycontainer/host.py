"""What this host is and what the caller may do on it: gathered once, injectable in tests.

The planner decides on these facts alone, so a plan for another host can be made and read anywhere.
"""

from __future__ import annotations

import os

from libpycontainer import kernel

NAMESPACE_FILES = {
    "pid": "pid",
    "network": "net",
    "mount": "mnt",
    "ipc": "ipc",
    "uts": "uts",
    "user": "user",
    "cgroup": "cgroup",
    "time": "time",
}
"""The spec's namespace types and the files under /proc/PID/ns that stand for them."""


SECCOMP_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": kernel.SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": kernel.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    # Linux 5.19, and only together with the other one.
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": (
        kernel.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | kernel.SECCOMP_FILTER_FLAG_NEW_LISTENER
    ),
}
"""The spec's names of seccomp's flags, and what the kernel is asked about each."""


class Facts:
    """One host as one caller sees it. Capability sets are bit masks (bit n is capability n).

    ``setgroups`` is false where /proc/self/setgroups says deny, as in a user namespace that an
    unprivileged process made; ``kcore`` says whether this kernel has /proc/kcore;
    ``seccomp_flags`` are the spec's flags that seccomp(2) takes here. Every default is
    that of an ordinary root on a current kernel, so that tests state only what matters to them.
    """

    __slots__ = (
        "bounding",
        "capabilities",
        "cgroup_mode",
        "egid",
        "euid",
        "in_user_namespace",
        "kcore",
        "kernel",
        "last_cap",
        "lsms",
        "namespaces",
        "seccomp_flags",
        "setgroups",
    )

    def __init__(
        self,
        *,
        kernel: tuple[int, int] = (6, 12),
        euid: int = 0,
        egid: int = 0,
        capabilities: int = (1 << 41) - 1,
        bounding: int = (1 << 41) - 1,
        last_cap: int = 40,
        cgroup_mode: str = "v2",
        lsms: frozenset[str] = frozenset(),
        in_user_namespace: bool = False,
        namespaces: frozenset[str] = frozenset(NAMESPACE_FILES),
        setgroups: bool = True,
        kcore: bool = True,
        seccomp_flags: frozenset[str] = frozenset(SECCOMP_FLAGS),
    ) -> None:
        self.kernel = kernel
        self.euid = euid
        self.egid = egid
        self.capabilities = capabilities
        self.bounding = bounding
        self.last_cap = last_cap
        self.cgroup_mode = cgroup_mode
        self.lsms = lsms
        self.in_user_namespace = in_user_namespace
        self.namespaces = namespaces
        self.setgroups = setgroups
        self.kcore = kcore
        self.seccomp_flags = seccomp_flags

    CAP_SYS_ADMIN = 21

    @property
    def privileged(self) -> bool:
        """May the caller mount, set ids and write id maps as it likes?"""
        return self.euid == 0 and bool(self.capabilities >> self.CAP_SYS_ADMIN & 1)


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536).decode("ascii", "replace")
    finally:
        os.close(fd)


def _kernel() -> tuple[int, int]:
    major, minor, *_ = os.uname().release.split(".")
    digits = ""
    for char in minor:
        if not char.isdigit():
            break
        digits += char
    return int(major), int(digits or 0)


def _status_masks() -> dict[str, int]:
    masks = {}
    for line in _read("/proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name in ("CapEff", "CapBnd"):
            masks[name] = int(value, 16)
    return masks


def _lsms() -> frozenset[str]:
    """The active security modules; securityfs may not be mounted, so their own files decide too."""
    try:
        found = set(_read("/sys/kernel/security/lsm").strip().split(","))
    except OSError:
        found = set()
    if os.path.exists("/sys/fs/selinux/enforce"):
        found.add("selinux")
    else:
        found.discard("selinux")
    try:
        if _read("/sys/module/apparmor/parameters/enabled").startswith("Y"):
            found.add("apparmor")
    except OSError:
        found.discard("apparmor")
    return frozenset(name for name in found if name)


def _in_user_namespace() -> bool:
    return _read("/proc/self/uid_map").split() != ["0", "0", "4294967295"]


def _setgroups() -> bool:
    try:
        return _read("/proc/self/setgroups").strip() != "deny"
    except OSError:
        return True


def gather() -> Facts:
    """Read the facts off this host, now. :func:`facts` keeps the first answer."""
    from libpycontainer import syscalls as sys_
    from libpycontainer.cgroups import hierarchies

    masks = _status_masks()
    return Facts(
        kernel=_kernel(),
        euid=os.geteuid(),
        egid=os.getegid(),
        capabilities=masks["CapEff"],
        bounding=masks["CapBnd"],
        last_cap=int(_read("/proc/sys/kernel/cap_last_cap")),
        cgroup_mode=hierarchies.mode(),
        lsms=_lsms(),
        in_user_namespace=_in_user_namespace(),
        namespaces=frozenset(
            name
            for name, file in NAMESPACE_FILES.items()
            if os.path.exists(f"/proc/self/ns/{file}")
        ),
        setgroups=_setgroups(),
        kcore=os.path.exists("/proc/kcore"),
        seccomp_flags=frozenset(
            name for name, flag in SECCOMP_FLAGS.items() if sys_.knows_seccomp_flag(flag)
        ),
    )


_facts: list[Facts] = []


def facts() -> Facts:
    """The facts of this process's host, gathered at the first call."""
    if not _facts or _facts[0].euid != os.geteuid():
        _facts[:] = [gather()]
    return _facts[0]
