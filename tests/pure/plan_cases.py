"""The configurations whose plans are kept as text in tests/data/plans, and how they are printed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from libpycontainer import plan
from libpycontainer.cgroups.hierarchies import CgroupMount
from libpycontainer.host import Facts
from libpycontainer.plan.build import join_flags
from libpycontainer.spec import default, light

DATA = Path(__file__).parent.parent / "data"
PLANS = DATA / "plans"

V2 = (CgroupMount("", "cgroup2", "", "/sys/fs/cgroup/box/web"),)
HYBRID = (
    CgroupMount(
        "cpu,cpuacct",
        "cgroup",
        "cpu,cpuacct",
        "/sys/fs/cgroup/cpu,cpuacct/box/web",
        ("cpu", "cpuacct"),
    ),
    CgroupMount("memory", "cgroup", "memory", "/sys/fs/cgroup/memory/box/web"),
    CgroupMount("systemd", "cgroup", "none,name=systemd", "/sys/fs/cgroup/systemd/box/web"),
)
STATE = {
    "createContainer": ('{"id": "web", "status": "creating", "pid": ', ', "bundle": "/bundle"}'),
    "startContainer": ('{"id": "web", "status": "created", "pid": ', ', "bundle": "/bundle"}'),
}

Document = dict[str, Any]


class Case(NamedTuple):
    name: str
    document: Document
    facts: Facts
    request: dict[str, Any]

    def plan(self) -> plan.Plan:
        """The plan of this case, from scratch."""
        spec = light.record("Spec", copy.deepcopy(self.document))
        return plan.build(spec, self.facts, request(**self.request))


def request(**changes: Any) -> plan.Request:
    options: dict[str, Any] = {"bundle": "/bundle", "rootfs": "/bundle/rootfs", "state": STATE}
    options["cgroup_mounts"] = V2
    return plan.Request("web", **{**options, **changes})


def config(**options: Any) -> Document:
    """The default configuration, independent of the host that the tests run on."""
    options = {"uid": 1000, "gid": 1000, "cgroup_namespace": True, **options}
    return default.config(**options)


def edited(change: Callable[[Document], object], **options: Any) -> Document:
    document = config(**options)
    change(document)
    return document


def engine(name: str) -> Document:
    """What an engine wrote, without its seccomp profile."""
    document: Document = json.loads((DATA / "configs" / f"{name}.json").read_text())
    document["linux"].pop("seccomp", None)
    return document


def namespaces(document: Document, *, drop: tuple[str, ...] = (), **paths: str | None) -> None:
    """Change the list: leave types out, add new ones (``None``) or ones to join."""
    rows = [row for row in document["linux"]["namespaces"] if row["type"] not in drop]
    rows = [row for row in rows if row["type"] not in paths]
    for kind, path in paths.items():
        rows.append({"type": kind, "path": path} if path else {"type": kind})
    document["linux"]["namespaces"] = rows


def _user_namespace(document: Document) -> None:
    namespaces(document, user=None)
    rows = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    document["linux"].update(uidMappings=rows, gidMappings=copy.deepcopy(rows))
    document["mounts"].append(
        {"destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "ro"]}
    )


def _shared_namespaces(document: Document) -> None:
    _user_namespace(document)
    namespaces(document, drop=("network", "pid"))


def _joined(document: Document) -> None:
    namespaces(
        document,
        pid="/proc/77/ns/pid",
        network="/run/netns/web",
        user="/proc/77/ns/user",
        time=None,
    )
    document["linux"]["timeOffsets"] = {
        "monotonic": {"secs": 60, "nanosecs": 5},
        "boottime": {"secs": -60},
    }


def _no_mount_namespace(document: Document) -> None:
    namespaces(document, drop=("mount",))
    document["mounts"] = []
    document["root"]["readonly"] = False
    document["process"]["terminal"] = False
    del document["linux"]["maskedPaths"], document["linux"]["readonlyPaths"]


def _hooks(document: Document) -> None:
    document["hooks"] = {
        "prestart": [{"path": "/usr/bin/network"}],
        "createContainer": [
            {"path": "/usr/bin/inside", "args": ["inside", "-v"], "env": ["A=1"], "timeout": 3},
            {"path": "/usr/bin/more"},
        ],
        "startContainer": [{"path": "/bin/prepare"}],
    }


def _process(document: Document) -> None:
    document["domainname"] = "example.org"
    document["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "65536"}
    document["process"].update(
        terminal=False,
        user={"uid": 1000, "gid": 1000, "umask": 0o077, "additionalGids": [5, 50]},
        env=["A=1", "PATH=/bin", "A=2"],
        cwd="/srv/work",
        oomScoreAdj=500,
        apparmorProfile="web-profile",
        selinuxLabel="system_u:system_r:container_t:s0:c1,c2",
        rlimits=[
            {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": (1 << 64) - 1},
        ],
    )


def _mounts(document: Document) -> None:
    document["linux"]["rootfsPropagation"] = "shared"
    document["mounts"] += [
        {"destination": "/a", "type": "bind", "source": "/srv/a", "options": ["bind", "rro"]},
        {"destination": "/b", "type": "bind", "source": "b", "options": ["rbind", "rslave"]},
        {
            "destination": "/c",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["ro", "noatime", "size=1m,mode=700"],
        },
        {
            "destination": "/d",
            "type": "overlay",
            "source": "overlay",
            "options": ["lowerdir=/one\\,two:/three", "upperdir=/up", "workdir=/work", "sync"],
        },
        {"destination": "/e", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]},
        {"destination": "/c", "type": "tmpfs", "options": ["remount", "noexec", "size=2m"]},
        {
            "destination": "/f",
            "type": "bind",
            "source": "/srv/f",
            "options": ["rbind", "ridmap"],
            "uidMappings": [{"containerID": 0, "hostID": 5000, "size": 10}],
            "gidMappings": [{"containerID": 0, "hostID": 6000, "size": 10}],
        },
    ]


def _devices(document: Document) -> None:
    document["linux"]["devices"] = [
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 7},
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229},
        {"path": "/dev//./disk", "type": "b", "major": 8, "minor": 0, "gid": 6},
        {"path": "/dev/queue", "type": "p"},
        {"path": "/dev/plain", "type": "u", "major": 1, "minor": 5},
        {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2},
    ]


def _scheduling(document: Document) -> None:
    document["process"].update(
        scheduler={
            "policy": "SCHED_DEADLINE",
            "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"],
            "runtime": 1_000_000,
            "deadline": 1 << 40,
            "period": 1 << 41,
        },
        ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 6},
        execCPUAffinity={"initial": "0-1,3", "final": "2"},
    )
    document["linux"].update(
        personality={"domain": "LINUX32"},
        memoryPolicy={"mode": "MPOL_BIND", "nodes": "0-1", "flags": ["MPOL_F_STATIC_NODES"]},
    )


# One instruction, which allows everything: what libseccomp makes depends on its version.
ALLOW_ALL = b"\x06\0\0\0\0\0\xff\x7f"


def _seccomp(document: Document) -> None:
    document["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}


def _own_dev(document: Document) -> None:
    document["mounts"] = [
        {"destination": "/dev/", "type": "none", "source": "/dev", "options": ["rbind"]}
    ]


ROOTLESS = Facts(euid=1000, egid=1000, capabilities=0)
TERMINAL = {"terminal": True, "console_size": (24, 80)}

CASES = (
    Case("default", config(), Facts(), {}),
    Case("default-terminal", config(), Facts(), TERMINAL),
    Case("rootless", config(rootless=True), ROOTLESS, {"cgroup_mounts": ()}),
    Case("podman-1", engine("podman-1"), Facts(), {}),
    Case("docker-1", engine("docker-1"), Facts(), {}),
    Case("containerd2-1", engine("containerd2-1"), Facts(), {}),
    Case("user-namespace", edited(_user_namespace), Facts(), {}),
    Case("shared-namespaces", edited(_shared_namespaces), Facts(), {}),
    Case("joined-namespaces", edited(_joined), Facts(), {}),
    Case("no-mount-namespace", edited(_no_mount_namespace), Facts(), {}),
    Case("no-pivot", config(), Facts(), {"no_pivot": True}),
    Case("hooks", edited(_hooks), Facts(), {}),
    Case("process", edited(_process), Facts(), {"nfds": 5, "extra_env": ["LISTEN_FDS=2"]}),
    Case("mounts", edited(_mounts), Facts(), {}),
    Case("hybrid-cgroups", config(), Facts(cgroup_mode="hybrid"), {"cgroup_mounts": HYBRID}),
    Case(
        "hybrid-cgroups-without-namespace",
        config(cgroup_namespace=False),
        Facts(cgroup_mode="hybrid"),
        {"cgroup_mounts": HYBRID},
    ),
    Case("v2-cgroup-without-namespace", config(cgroup_namespace=False), Facts(), {}),
    Case("devices", edited(_devices), Facts(kcore=False), {}),
    Case("devices-in-user-namespace", edited(_devices), Facts(in_user_namespace=True), {}),
    Case("scheduling", edited(_scheduling), Facts(), {}),
    Case("own-dev", edited(_own_dev), Facts(), {}),
    Case("seccomp", edited(_seccomp), Facts(), {"filter": ALLOW_ALL, "filter_flags": 2}),
    Case("progress", config(), Facts(), {"progress": True}),
    Case(
        "read-only-tree",
        config(),
        Facts(),
        {"rootfs": "/", "read_only_tree": True, "new_keyring": False},
    ),
    Case("placed", config(), Facts(), {"placed": True}),
    Case("started", config(), Facts(), {"start": True}),
)


def exec_plan(name: str) -> plan.Plan:
    """The plan of a second process in a container of the case of that name."""
    case = next(case for case in CASES if case.name == name)
    spec = light.record("Spec", copy.deepcopy(case.document))
    wanted = request(nfds=4, **TERMINAL)
    flags = join_flags(spec)
    return plan.build_exec(spec, spec.process, case.facts, wanted, join_flags=flags)


EXECS = ("default", "process", "scheduling", "user-namespace", "rootless")


def printed(made: plan.Plan) -> str:
    """Everything that a plan says: what people read first, then every argument of every step."""
    lines = [made.describe(), f"clone flags {made.clone_flags:#x}"]
    lines += [f"warning: {text}" for text in made.warnings]
    for namespace in made.namespaces:
        fields = [f"{name}={getattr(namespace, name)!r}" for name in sorted(namespace.__slots__)]
        lines.append(f"namespace {' '.join(fields)}")
    for tree in made.trees:
        fields = [f"{name}={getattr(tree, name)!r}" for name in sorted(tree.__slots__)]
        lines.append(f"tree {' '.join(fields)}")
    for where, steps in (("enter", made.enter), ("init", made.steps)):
        for step in steps:
            lines.append(f"{where} {step.op}")
            lines += [f"    {name} = {value!r}" for name, value in step.arguments.items()]
    return "\n".join(lines) + "\n"
