"""The config to start from: what ``runc spec`` writes, as a dict shaped like the document."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OCI_VERSION = "1.3.0"
CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def config(
    rootless: bool = False,
    *,
    uid: int | None = None,
    gid: int | None = None,
    cgroup_namespace: bool | None = None,
) -> dict[str, Any]:
    """A fresh default config, with the fields in the order runc writes them.

    ``uid`` and ``gid`` are the host's ids that become root in a rootless container: the caller's
    effective ones unless given. ``cgroup_namespace`` is asked for where the host has the unified
    hierarchy, as runc does, unless it is said here.
    """
    if cgroup_namespace is None:
        cgroup_namespace = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    linux: dict[str, Any] = {}
    if rootless:
        linux["uidMappings"] = [_root_is(os.geteuid() if uid is None else uid)]
        linux["gidMappings"] = [_root_is(os.getegid() if gid is None else gid)]
    else:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    linux["namespaces"] = _namespaces(rootless, cgroup_namespace)
    linux["maskedPaths"] = list(MASKED_PATHS)
    linux["readonlyPaths"] = list(READONLY_PATHS)
    return {
        "ociVersion": OCI_VERSION,
        "process": _process(),
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runc",
        "mounts": _mounts(rootless),
        "linux": linux,
    }


def _root_is(host_id: int) -> dict[str, int]:
    return {"containerID": 0, "hostID": host_id, "size": 1}


def _namespaces(rootless: bool, cgroup: bool) -> list[dict[str, str]]:
    types = ["pid", "ipc", "uts", "mount"]
    if not rootless:
        types.insert(1, "network")
    if cgroup:
        types.append("cgroup")
    if rootless:
        types.append("user")
    return [{"type": type_} for type_ in types]


def _process() -> dict[str, Any]:
    sets = ("bounding", "effective", "permitted", "ambient")
    return {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {name: list(CAPABILITIES) for name in sets},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }


def _mounts(rootless: bool) -> list[dict[str, Any]]:
    sealed = ["nosuid", "noexec", "nodev"]
    devpts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if rootless:
        # sysfs can be mounted by the owner of the network namespace alone: the host's is shared.
        sysfs = _mount("/sys", "none", "/sys", ["rbind", *sealed, "ro"])
    else:
        # Group 5 (tty) is not mapped in a rootless container.
        devpts.append("gid=5")
        sysfs = _mount("/sys", "sysfs", "sysfs", [*sealed, "ro"])
    shm = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", "devpts", devpts),
        _mount("/dev/shm", "tmpfs", "shm", shm),
        _mount("/dev/mqueue", "mqueue", "mqueue", sealed),
        sysfs,
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*sealed, "relatime", "ro"]),
    ]


def _mount(destination: str, type_: str, source: str, options: list[str]) -> dict[str, Any]:
    return {
        "destination": destination,
        "type": type_,
        "source": source,
        "options": list(options),
    }
