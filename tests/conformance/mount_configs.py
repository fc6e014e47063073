"""Lists of mounts that nobody would think of, with holes as in :mod:`tests.conformance.configs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]

ROOTFS_LINKS = {
    "to-directory": "mnt/linked",
    "to-absolute": "/mnt/linked",
    "to-outside": "../../../../../mnt/linked",
    "to-nothing": "mnt/made",
    "to-file": "mnt/file",
    "etc/resolv.conf": "../run/resolv.conf",
    "loop": "loop",
}
"""Symlinks in the root file system, which mounts go through."""

DIRECTORY_TARGETS = (
    "/mnt/a",
    "/mnt/missing/deep/down",
    "/mnt/linked",
    "/to-directory/b",
    "/to-absolute",
    "/to-outside/c",
    "/to-nothing",
    "/to-nothing/below",
    "/mnt//twice/./over/",
    "/mnt/x/../dots",
    "mnt/relative",
    "/tmp",
    "/home",
    "/opt",
    "/srv/new",
)
FILE_TARGETS = (
    "/mnt/file",
    "/mnt/new-file",
    "/to-file",
    "/to-nothing/file",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/srv/deep/down/file",
    "/tmp/file",
)
ODD_TARGETS = ("/loop", "/mnt/file/below", "/", "/mnt/file")
SOURCE_DIRECTORIES = ("dir", "dir/sub", "tree", "flags", "shared", "tree/sub", "to-dir")
SOURCE_FILES = ("file", "dir/file", "flags/file")

ATTRIBUTES = (
    *("ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime", "atime"),
    *("relatime", "norelatime", "strictatime", "nostrictatime", "nodiratime", "diratime"),
)
RECURSIVE = (
    *("rro", "rrw", "rnosuid", "rsuid", "rnodev", "rdev", "rnoexec", "rexec", "rnoatime", "ratime"),
    *("rrelatime", "rnorelatime", "rstrictatime", "rnostrictatime", "rnodiratime", "rdiratime"),
    *("rnosymfollow", "rsymfollow"),
)
PROPAGATION = ("private", "shared", "slave", "unbindable")
PROPAGATIONS = (*PROPAGATION, *(f"r{word}" for word in PROPAGATION))


def sometimes(draw: Draw, chance: float) -> bool:
    """True in about this share of the examples; false is what shrinking goes to."""
    return bool(draw(st.integers(0, 999)) >= 1000 - int(chance * 1000))


def some(draw: Draw, choices: Any, most: int, least: int = 0) -> list[Any]:
    return list(draw(st.lists(st.sampled_from(choices), min_size=least, max_size=most)))


@st.composite
def mount_lists(draw: Draw, spaces: dict[str, Any]) -> list[dict[str, Any]]:
    """The usual mounts, most of them, and a few more in between and behind."""
    usual = [_proc(draw, spaces)]
    for make, chance in ((_dev, 0.9), (_pts, 0.8), (_shm, 0.7), (_mqueue, 0.6), (_sys, 0.7)):
        if sometimes(draw, chance):
            usual += make(draw, spaces)
    if sometimes(draw, 0.35):
        usual.append(_cgroup(draw))
    found = list(usual)
    for mount in draw(st.lists(extra_mounts(), max_size=4)):
        if sometimes(draw, 0.2):
            found.insert(draw(st.integers(1, len(found))), mount)
        else:
            found.append(mount)
    # The probe reads the cgroup's files there, whatever else is mounted.
    groups = {"destination": "/groups", "source": "/sys/fs/cgroup", "options": ["rbind"]}
    return [*found, {**groups, "type": "bind"}]


def _proc(draw: Draw, spaces: dict[str, Any]) -> dict[str, Any]:
    mount: dict[str, Any] = {"destination": "/proc", "type": "proc", "source": "proc"}
    if spaces["user"] != "host" and spaces["pid"] == "host":
        return {**mount, "type": "bind", "source": "/proc", "options": ["rbind"]}
    options = some(draw, ("nosuid", "noexec", "nodev", "relatime", "hidepid=0"), 3)
    return {**mount, "options": options} if options else mount


def _dev(draw: Draw, spaces: dict[str, Any]) -> list[dict[str, Any]]:
    options = ["nosuid", *some(draw, ("strictatime", "mode=755", "size=65536k", "noexec"), 3)]
    if sometimes(draw, 0.1):
        options.append("ro")
    return [{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": options}]


def _pts(draw: Draw, spaces: dict[str, Any]) -> list[dict[str, Any]]:
    options = ["nosuid", "noexec"]
    if not sometimes(draw, 0.2):
        options += ["newinstance", "ptmxmode=0666", "mode=0620"]
    if sometimes(draw, 0.5):
        options.append("gid=5")
    return [{"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": options}]


def _shm(draw: Draw, spaces: dict[str, Any]) -> list[dict[str, Any]]:
    options = some(draw, ("nosuid", "noexec", "nodev", "mode=1777", "size=1m"), 4)
    return [{"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": options}]


def _mqueue(draw: Draw, spaces: dict[str, Any]) -> list[dict[str, Any]]:
    if spaces["user"] == "new" and spaces["ipc"] != "new" and not sometimes(draw, 0.1):
        # Of the host's queues a user namespace has no right to make a mount.
        return []
    options = some(draw, ("nosuid", "noexec", "nodev", "ro"), 3)
    return [{"destination": "/dev/mqueue", "type": "mqueue", "source": "m", "options": options}]


def _sys(draw: Draw, spaces: dict[str, Any]) -> list[dict[str, Any]]:
    if spaces["user"] != "host" and spaces["network"] != "new" and not sometimes(draw, 0.2):
        options = ["rbind", "nosuid", "noexec", "nodev", "ro"]
        return [{"destination": "/sys", "type": "none", "source": "/sys", "options": options}]
    options = some(draw, ("nosuid", "noexec", "nodev", "ro"), 4)
    return [{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": options}]


def _cgroup(draw: Draw) -> dict[str, Any]:
    options = some(draw, ("nosuid", "noexec", "nodev", "relatime", "ro", "rprivate"), 4)
    where = "/sys/fs/cgroup" if not sometimes(draw, 0.1) else "/mnt/cgroup"
    return {"destination": where, "type": "cgroup", "source": "cgroup", "options": options}


@st.composite
def extra_mounts(draw: Draw) -> dict[str, Any]:
    kind = draw(
        st.sampled_from(["bind-directory"] * 8 + ["bind-file"] * 4 + ["tmpfs"] * 6 + ["odd"])
    )
    if kind == "tmpfs":
        return _tmpfs(draw)
    if kind == "odd":
        return _odd(draw)
    if kind == "bind-file":
        source, target = draw(st.sampled_from(SOURCE_FILES)), draw(st.sampled_from(FILE_TARGETS))
    else:
        source = draw(st.sampled_from(SOURCE_DIRECTORIES))
        target = draw(st.sampled_from(DIRECTORY_TARGETS))
    mount: dict[str, Any] = {"destination": target, "source": f"{{source}}/{source}"}
    mount["type"] = draw(st.sampled_from(["bind", "none", "bogus-that-is-ignored"]))
    mount["options"] = [draw(st.sampled_from(["bind", "rbind"])), *some(draw, ATTRIBUTES, 3)]
    if sometimes(draw, 0.25):
        mount["options"] += some(draw, RECURSIVE, 3, 1)
    if sometimes(draw, 0.4):
        mount["options"] += some(draw, PROPAGATIONS, 2, 1)
    return mount


def _tmpfs(draw: Draw) -> dict[str, Any]:
    options = some(draw, ATTRIBUTES, 3)
    data = ("size=1m", "mode=0750", "mode=1777", "nr_inodes=100", "uid=7", "gid=8", "size=50%")
    options += some(draw, data, 2)
    if sometimes(draw, 0.2):
        options += some(draw, RECURSIVE, 2, 1)
    if sometimes(draw, 0.3):
        options += some(draw, PROPAGATIONS, 2, 1)
    if sometimes(draw, 0.1):
        options += some(draw, ("sync", "dirsync", "async", "defaults", "lazytime", "tmpcopyup"), 2)
    target = draw(st.sampled_from(DIRECTORY_TARGETS))
    return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}


def _odd(draw: Draw) -> dict[str, Any]:
    """Mounts that are refused, or nearly so."""
    tmpfs = {"destination": "/mnt/a", "type": "tmpfs", "source": "tmpfs"}
    bind = {"destination": "/mnt/a", "type": "bind", "source": "{source}/dir"}
    choices: tuple[dict[str, Any], ...] = (
        {**tmpfs, "options": ["bogus=1"]},
        {**tmpfs, "options": ["size=much"]},
        {**tmpfs, "options": ["mode=999"]},
        {**tmpfs, "options": []},
        {**tmpfs, "type": "no-such-file-system"},
        {**bind, "source": "{source}/missing", "options": ["bind"]},
        {**bind, "options": []},
        {**bind, "options": ["bind", "size=1m"]},
        {**bind, "source": "../source/dir", "options": ["bind"]},
        {**bind, "destination": "/mnt/file", "options": ["bind"]},
        {**bind, "source": "{source}/file", "options": ["bind"]},
        {**bind, "source": "{source}/file", "destination": "/mnt", "options": ["bind"]},
        {**bind, "source": "/dev/zero", "destination": "/mnt/zero", "options": ["bind"]},
        {**bind, "source": "{source}/dir", "destination": "/dev/dir", "options": ["rbind"]},
        *({**tmpfs, "destination": target} for target in ODD_TARGETS),
        *({**bind, "options": ["bind"], "destination": target} for target in ODD_TARGETS),
        {**tmpfs, "type": "proc", "source": "proc", "destination": "/mnt/proc"},
        {**tmpfs, "type": "sysfs", "source": "sysfs", "destination": "/to-absolute"},
        {**tmpfs, "type": "ramfs", "source": "ramfs", "options": ["mode=0700", "nodev"]},
    )
    return dict(draw(st.sampled_from(choices)))
