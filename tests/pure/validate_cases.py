"""One spoilt config per rule of the validator, and beside it the nearest one that is allowed."""

from __future__ import annotations

from typing import Any, NamedTuple

Changes = dict[str, Any]
NET = {"type": "network"}
USER = {"type": "user"}
RANGE = {"containerID": 0, "hostID": 100000, "size": 65536}
USERNS = {"linux.uidMappings": [RANGE], "linux.gidMappings": [RANGE]}
ROOTLESS = {"euid": 1000, "egid": 100}
OWN = [{"containerID": 0, "hostID": 1000, "size": 1}]
OWN_GROUP = [{"containerID": 0, "hostID": 100, "size": 1}]


class Case(NamedTuple):
    """``bad`` changes the default config so that ``path: says`` is found; ``good`` does not.

    Keys are places in the document: ``linux.seccomp``, ``mounts.0.source``, ``linux.namespaces+``
    to add an item. ``facts`` differ from an ordinary root's on a current kernel.
    """

    path: str
    says: str
    bad: Changes
    good: Changes
    facts: Changes = {}  # noqa: RUF012 - a default that nobody changes
    warning: bool = False


def seccomp(**fields: Any) -> Changes:
    return {"linux.seccomp": {"defaultAction": "SCMP_ACT_ALLOW", **fields}}


def rule(action: str, *names: str, **fields: Any) -> Changes:
    return {"names": list(names), "action": action, **fields}


def bind(**fields: Any) -> Changes:
    mount = {"destination": "/data", "source": "/srv", "options": ["rbind", "ro"], **fields}
    return {"mounts": [mount]}


def mapping(container: int, host: int, size: int) -> Changes:
    return {"containerID": container, "hostID": host, "size": size}


def user_namespace(*ranges: Changes) -> Changes:
    return {
        "linux.namespaces+": USER,
        "linux.uidMappings": list(ranges),
        "linux.gidMappings": [RANGE],
    }


DOCUMENT = [
    Case("$.ociVersion", "must not be empty", {"ociVersion": ""}, {"ociVersion": "1.0.0"}),
    Case("$.ociVersion", "is not a version", {"ociVersion": "1.0"}, {"ociVersion": "1.0.2-dev"}),
    Case("$.ociVersion", "is not a version", {"ociVersion": "1.01.0"}, {"ociVersion": "1.2.0+a.b"}),
    Case("$.ociVersion", "is not a version", {"ociVersion": "1.0.0-"}, {"ociVersion": "1.0.0-rc"}),
    Case("$.ociVersion", "not supported", {"ociVersion": "2.0.0"}, {"ociVersion": "1.99.0"}),
    Case("$.root", "required", {"root": None}, {}),
    Case("$.root.path", "must not be empty", {"root.path": ""}, {"root.path": "/srv/root"}),
    Case("$.process", "required to start", {"process": None}, {}),
    Case("$.hostname", "longer than 64", {"hostname": "x" * 65}, {"hostname": "x" * 64}),
    Case("$.domainname", "longer than 64", {"domainname": "é" * 33}, {"domainname": "é" * 32}),
    Case(
        "$.hooks.poststop[1].path",
        "not an absolute path",
        {"hooks": {"poststop": [{"path": "/bin/a"}, {"path": "bin/b"}]}},
        {"hooks": {"poststop": [{"path": "/bin/a", "timeout": 1}]}},
    ),
    Case("$.annotations", "not be empty", {"annotations": {"": "x"}}, {"annotations": {"x": ""}}),
    Case("$.zos", "ignored", {"zos": {}}, {}, warning=True),
    Case("$.windows", "ignored", {"windows": {"layerFolders": ["x"]}}, {}, warning=True),
]

STRINGS = [
    Case(path, "NUL", {path[2:]: value}, {path[2:]: "/good"})
    for path, value in [
        ("$.root.path", "root\0fs"),
        ("$.hostname", "a\0b"),
        ("$.process.cwd", "/\0"),
    ]
]
STRINGS += [
    Case("$.process.args[1]", "NUL", {"process.args": ["a", "\0"]}, {"process.args": ["a", "b"]}),
    Case("$.process.env[0]", "NUL", {"process.env": ["A=\0"]}, {"process.env": ["A="]}),
    Case("$.mounts[0].source", "NUL", bind(source="/\0"), bind(source="/srv/ü")),
    Case("$.mounts[0].options[0]", "NUL", {"mounts.0.options": ["\0"]}, {"mounts.0.options": []}),
    Case(
        "$.hooks.prestart[0].args[0]",
        "NUL",
        {"hooks": {"prestart": [{"path": "/a", "args": ["\0"]}]}},
        {"hooks": {"prestart": [{"path": "/a", "args": ["a"]}]}},
    ),
    Case("$.linux.maskedPaths[0]", "NUL", {"linux.maskedPaths": ["\0"]}, {"linux.maskedPaths": []}),
    Case(
        "$.linux.namespaces[5].path",
        "NUL",
        {"linux.namespaces+": {"type": "cgroup", "path": "/\0"}},
        {"linux.namespaces+": {"type": "cgroup", "path": "/x"}},
    ),
    Case(
        '$.linux.sysctl["net.a"]',
        "NUL",
        {"linux.sysctl": {"net.a": "\0"}},
        {"linux.sysctl": {"net.a": "1"}},
    ),
    Case(
        "$.process.args[0]",
        "cannot be encoded",
        {"process.args": ["\ud800"]},
        {"process.args": ["\udcff"]},
    ),
]

PROCESS = [
    Case("$.process.cwd", "not an absolute path", {"process.cwd": "tmp"}, {"process.cwd": "/tmp"}),
    Case("$.process.cwd", "not an absolute path", {"process.cwd": ""}, {"process.cwd": "/"}),
    Case("$.process.args", "must not be empty", {"process.args": []}, {"process.args": ["a"]}),
    Case("$.process.args", "must not be empty", {"process.args": None}, {"process.args": ["a"]}),
    Case("$.process.args[0]", "not be empty", {"process.args": [""]}, {"process.args": ["a", ""]}),
    Case("$.process.env[1]", "NAME=value", {"process.env": ["A=", "B"]}, {"process.env": ["A=b="]}),
    Case("$.process.env[0]", "NAME=value", {"process.env": ["=b"]}, {"process.env": None}),
    Case(
        "$.process.user.umask",
        "more than 0o777",
        {"process.user.umask": 0o1000},
        {"process.user.umask": 0o777},
    ),
    Case(
        "$.process.user.additionalGids",
        "setgroups is denied",
        {"process.user.additionalGids": [1]},
        {"process.user.additionalGids": []},
        {"setgroups": False},
    ),
    Case(
        "$.process.capabilities.effective[0]",
        "not a known capability",
        {"process.capabilities.effective": ["CAP_FLY"]},
        {"process.capabilities.effective": ["CAP_BPF"]},
        warning=True,
    ),
    Case(
        "$.process.capabilities.permitted[0]",
        "kernel does not have",
        {"process.capabilities.permitted": ["CAP_BPF"]},
        {"process.capabilities.permitted": ["CAP_AUDIT_READ"]},
        {"last_cap": 37},
        warning=True,
    ),
    Case(
        "$.process.capabilities.bounding[0]",
        "bounding set",
        {"process.capabilities.bounding": ["CAP_SYS_ADMIN"]},
        {"process.capabilities.bounding": ["CAP_KILL"]},
        {"bounding": 0xFFFF | 1 << 29},
        warning=True,
    ),
    Case(
        "$.process.capabilities.ambient[0]",
        "not both permitted and inheritable",
        {"process.capabilities": {"ambient": ["CAP_KILL"], "inheritable": ["CAP_KILL"]}},
        {
            "process.capabilities": {
                name: ["CAP_KILL"] for name in ("ambient", "inheritable", "permitted")
            }
        },
        warning=True,
    ),
    Case(
        "$.process.rlimits[0].type",
        "not a known resource limit",
        {"process.rlimits": [{"type": "RLIMIT_FOO", "soft": 1, "hard": 1}]},
        {"process.rlimits": [{"type": "RLIMIT_RTTIME", "soft": 1, "hard": 1}]},
    ),
    Case(
        "$.process.rlimits[1].type",
        "given twice",
        {"process.rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2},
        {"process.rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}]},
    ),
    Case(
        "$.process.rlimits[0].soft",
        "more than the hard limit",
        {"process.rlimits": [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]},
        {"process.rlimits": [{"type": "RLIMIT_CPU", "soft": 2**64 - 1, "hard": 2**64 - 1}]},
    ),
    Case(
        "$.process.oomScoreAdj",
        "between -1000 and 1000",
        {"process.oomScoreAdj": 1001},
        {"process.oomScoreAdj": -1000},
    ),
    Case(
        "$.process.consoleSize",
        "no terminal",
        {"process.terminal": False, "process.consoleSize": {"height": 1, "width": 1}},
        {"process.consoleSize": {"height": 1, "width": 1}},
        warning=True,
    ),
    Case(
        "$.process.consoleSize.width",
        "more than 65535",
        {"process.consoleSize": {"height": 1, "width": 65536}},
        {"process.consoleSize": {"height": 65535, "width": 0}},
    ),
    Case(
        "$.process.scheduler.nice",
        "between -20 and 19",
        {"process.scheduler": {"policy": "SCHED_BATCH", "nice": 20}},
        {"process.scheduler": {"policy": "SCHED_OTHER", "nice": -20}},
    ),
    Case(
        "$.process.scheduler.priority",
        "between 1 and 99",
        {"process.scheduler": {"policy": "SCHED_FIFO"}},
        {"process.scheduler": {"policy": "SCHED_RR", "priority": 99}},
    ),
    Case(
        "$.process.scheduler.priority",
        "only SCHED_FIFO",
        {"process.scheduler": {"policy": "SCHED_OTHER", "priority": 1}},
        {"process.scheduler": {"policy": "SCHED_OTHER", "priority": 0}},
    ),
    Case(
        "$.process.scheduler.period",
        "only SCHED_DEADLINE",
        {"process.scheduler": {"policy": "SCHED_IDLE", "period": 5}},
        {"process.scheduler": {"policy": "SCHED_IDLE"}},
    ),
    Case(
        "$.process.scheduler.runtime",
        "1024 <= runtime",
        {"process.scheduler": {"policy": "SCHED_DEADLINE", "runtime": 9000, "deadline": 8000}},
        {"process.scheduler": {"policy": "SCHED_DEADLINE", "runtime": 7000, "deadline": 8000}},
    ),
    Case(
        "$.process.ioPriority.priority",
        "between 0 and 7",
        {"process.ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}},
        {"process.ioPriority": {"class": "IOPRIO_CLASS_IDLE"}},
    ),
    Case("$.process.selinuxLabel", "not enabled", {"process.selinuxLabel": "a:b"}, {}),
    Case(
        "$.process.apparmorProfile",
        "not enabled",
        {"process.apparmorProfile": "x"},
        {"process.selinuxLabel": "x"},
        {"lsms": frozenset({"selinux"})},
    ),
    Case(
        "$.process.execCPUAffinity.final",
        "not a list of CPUs",
        {"process.execCPUAffinity": {"initial": "0-3,7", "final": "3-1"}},
        {"process.execCPUAffinity": {"initial": "0-3, 7", "final": ""}},
    ),
]

NAMESPACES = [
    Case(
        "$.linux.namespaces[5].type",
        "kernel does not have",
        {"linux.namespaces+": {"type": "time"}},
        {"linux.namespaces+": {"type": "cgroup"}},
        {"namespaces": frozenset({"pid", "network", "mount", "ipc", "uts", "user", "cgroup"})},
    ),
    Case("$.linux.namespaces[5].type", "given twice", {"linux.namespaces+": NET}, {}),
    Case(
        "$.linux.namespaces[5].path",
        "not an absolute path",
        {"linux.namespaces+": {"type": "cgroup", "path": "ns/cgroup"}},
        {"linux.namespaces+": {"type": "cgroup", "path": ""}},
    ),
    Case("$.hostname", "without a uts namespace", {"linux.namespaces": [{"type": "mount"}]}, {}),
    Case(
        "$.domainname",
        "without a uts namespace",
        {"linux.namespaces": [{"type": "mount"}], "hostname": None, "domainname": "x"},
        {"linux.namespaces": [{"type": "mount"}], "hostname": None, "domainname": ""},
    ),
    Case("$.linux.uidMappings", "no user namespace", USERNS, {"linux.uidMappings": []}),
    Case(
        "$.linux.gidMappings",
        "at least one mapping",
        {"linux.namespaces+": USER, "linux.uidMappings": [RANGE]},
        {"linux.namespaces+": USER, **USERNS},
    ),
    Case(
        "$.linux.uidMappings",
        "id 0 is not mapped",
        {**user_namespace(mapping(1, 100000, 5)), "process.user": {"uid": 1}},
        user_namespace(mapping(0, 100000, 5)),
    ),
    Case(
        "$.linux.uidMappings",
        "mappings of its own",
        {"linux.namespaces+": {"type": "user", "path": "/ns"}, "linux.uidMappings": [RANGE]},
        {"linux.namespaces+": {"type": "user", "path": "/ns"}},
        warning=True,
    ),
    Case(
        "$.linux.uidMappings[1].size",
        "must not be 0",
        user_namespace(mapping(0, 1, 1), mapping(1, 2, 0)),
        user_namespace(mapping(0, 1, 1), mapping(1, 2, 1)),
    ),
    Case(
        "$.linux.uidMappings[1].containerID",
        "overlaps with mapping 0",
        user_namespace(mapping(0, 100, 10), mapping(9, 200, 10)),
        user_namespace(mapping(0, 100, 10), mapping(10, 200, 10)),
    ),
    Case(
        "$.linux.uidMappings[1].hostID",
        "overlaps with mapping 0",
        user_namespace(mapping(0, 100, 10), mapping(10, 95, 6)),
        user_namespace(mapping(0, 100, 10), mapping(10, 95, 5)),
    ),
    Case(
        "$.linux.uidMappings[0].hostID",
        "beyond the last",
        user_namespace(mapping(0, 2**32 - 5, 6)),
        user_namespace(mapping(0, 2**32 - 5, 5)),
    ),
    Case(
        "$.linux.uidMappings",
        "more than 340 mappings",
        user_namespace(*(mapping(n, n, 1) for n in range(341))),
        user_namespace(*(mapping(n, n, 1) for n in range(340))),
    ),
    *(
        Case(
            f"$.process.user.{name}",
            "not mapped in the user namespace",
            {"linux.namespaces+": USER, **USERNS, f"process.user.{field}": bad},
            {"linux.namespaces+": USER, **USERNS, f"process.user.{field}": good},
        )
        for name, field, bad, good in [
            ("uid", "uid", 65536, 65535),
            ("gid", "gid", 65536, 65535),
            ("additionalGids[1]", "additionalGids", [0, 70000], [0, 1]),
        ]
    ),
    Case(
        "$.linux.timeOffsets",
        "no time namespace",
        {"linux.timeOffsets": {"boottime": {"secs": 5}}},
        {"linux.timeOffsets": {"boottime": {"secs": 5}}, "linux.namespaces+": {"type": "time"}},
    ),
    Case(
        "$.linux.timeOffsets",
        "joined cannot be set",
        {"linux.timeOffsets": {}, "linux.namespaces+": {"type": "time", "path": "/ns"}},
        {"linux.timeOffsets": {}, "linux.namespaces+": {"type": "time"}},
    ),
    Case(
        "$.linux.timeOffsets.monotonic.nanosecs",
        "less than one second",
        {
            "linux.timeOffsets": {"monotonic": {"nanosecs": 10**9}},
            "linux.namespaces+": {"type": "time"},
        },
        {
            "linux.timeOffsets": {"monotonic": {"nanosecs": 10**9 - 1}},
            "linux.namespaces+": {"type": "time"},
        },
    ),
    Case(
        "$.linux.timeOffsets.realtime",
        "not a clock",
        {"linux.timeOffsets": {"realtime": {}}, "linux.namespaces+": {"type": "time"}},
        {"linux.timeOffsets": {"boottime": {}}, "linux.namespaces+": {"type": "time"}},
    ),
]

SYSCTLS = [
    *(
        Case(f'$.linux.sysctl["{name}"]', says, {"linux.sysctl": {name: "1"}}, {})
        for name, says in [
            ("kernel.panic", "would change the host"),
            ("vm/swappiness", "would change the host"),
            ("kernel.hostname", "conflicts with the field hostname"),
            ("net..x", "not the name of a sysctl"),
            ("net/../kernel/panic", "not the name of a sysctl"),
            ("net.ipv4/../../x", "not the name of a sysctl"),
        ]
    ),
    *(
        Case(
            f'$.linux.sysctl["{name}"]',
            f"without {namespace} namespace",
            {"linux.sysctl": {name: "1"}, "linux.namespaces": [{"type": "mount"}], "hostname": ""},
            {"linux.sysctl": {name: "1"}},
        )
        for name, namespace in [
            ("kernel.shmmax", "an ipc"),
            ("kernel/msgmni", "an ipc"),
            ("fs.mqueue.msg_max", "an ipc"),
            ("net.ipv4.ip_forward", "a network"),
            ("net/ipv4/conf/eno2.100/rp_filter", "a network"),
            ("kernel.domainname", "a uts"),
        ]
    ),
    Case(
        '$.linux.sysctl["net.core.somaxconn"]',
        "the host's own",
        {
            "linux.sysctl": {"net.core.somaxconn": "1"},
            "linux.namespaces.1.path": "/proc/self/ns/net",
        },
        {
            "linux.sysctl": {"net.core.somaxconn": "1"},
            "linux.namespaces.1.path": "/nonexistent/ns",
        },
    ),
]

NET_DEVICES = [
    Case(
        "$.linux.netDevices",
        "without a network namespace",
        {"linux.netDevices": {"eth0": {}}, "linux.namespaces": [{"type": "mount"}], "hostname": ""},
        {"linux.netDevices": {"eth0": {}}},
    ),
    Case(
        "$.linux.netDevices",
        "the host's own",
        {"linux.netDevices": {"eth0": {}}, "linux.namespaces.1.path": "/proc/self/ns/net"},
        {"linux.netDevices": {"eth0": {"name": "x" * 15}}},
    ),
    *(
        Case(
            f"$.linux.netDevices.eth0{where}",
            "cannot be the name" if where else "the container too",
            {"linux.netDevices": {"eth1": {}, "eth0": {"name": bad}}},
            {"linux.netDevices": {"eth1": {}, "eth0": {"name": "eth2"}}},
        )
        for where, bad in [(".name", "a/b"), (".name", "x" * 16), (".name", ".."), ("", "eth1")]
    ),
    Case(
        '$.linux.netDevices["e 0"]',
        "cannot be the name",
        {"linux.netDevices": {"e 0": {}}},
        {"linux.netDevices": {}},
    ),
]

UNPRIVILEGED = [
    Case(
        "$.linux.namespaces",
        "needs a user namespace",
        {"mounts": []},
        {
            "mounts": [],
            "linux.namespaces+": USER,
            "linux.uidMappings": OWN,
            "linux.gidMappings": OWN_GROUP,
        },
        ROOTLESS,
    ),
    *(
        Case(
            f"$.linux.{name}",
            "own id",
            {**userns, f"linux.{name}": [RANGE]},
            {**userns, f"linux.{name}": [mapping(0, own, 1), mapping(1, 100000, 5)]},
            ROOTLESS,
        )
        for userns in [
            {
                "mounts": [],
                "linux.namespaces+": USER,
                "linux.uidMappings": OWN,
                "linux.gidMappings": OWN_GROUP,
            }
        ]
        for name, own in [("uidMappings", 1000), ("gidMappings", 100)]
    ),
    Case(
        "$.mounts[0].options[1]",
        "'gid=5' names a gid that is not mapped",
        {
            **user_namespace(*OWN),
            "linux.gidMappings": OWN_GROUP,
            "mounts": [{"destination": "/p", "type": "devpts", "options": ["uid=0", "gid=5"]}],
        },
        {
            **user_namespace(*OWN),
            "linux.gidMappings": OWN_GROUP,
            "mounts": [{"destination": "/p", "type": "devpts", "options": ["uid=0", "gid=tty"]}],
        },
        ROOTLESS,
    ),
    Case(
        "$.linux.netDevices",
        "without privilege",
        {
            **user_namespace(*OWN),
            "linux.gidMappings": OWN_GROUP,
            "mounts": [],
            "linux.netDevices": {"eth0": {}},
        },
        {**user_namespace(*OWN), "linux.gidMappings": OWN_GROUP, "mounts": []},
        ROOTLESS,
    ),
    Case(
        "$.mounts[0]",
        "without privilege",
        {**user_namespace(*OWN), "linux.gidMappings": OWN_GROUP, **bind(options=["bind", "idmap"])},
        {**user_namespace(*OWN), "linux.gidMappings": OWN_GROUP, **bind()},
        ROOTLESS,
    ),
]

BAD_DEVICES: list[tuple[str, str, Changes]] = [
    ("path", "not an absolute path", {"path": "dev/x"}),
    ("major", "required for a device of type c", {"major": None}),
    ("minor", "not a minor device number", {"minor": -1}),
    ("major", "not a major device number", {"type": "u", "major": 4096}),
]
FILESYSTEM = [
    Case(
        "$.mounts[0].destination",
        "taken as below /",
        {"mounts": [{"destination": "proc", "type": "proc"}]},
        {"mounts": [{"destination": "/proc", "type": "proc"}] * 2},
        warning=True,
    ),
    Case("$.mounts[0].destination", "must not be empty", bind(destination=""), bind()),
    Case("$.mounts[0].source", "needs a source", bind(source=None), bind(source="relative")),
    Case(
        "$.mounts[0].options[1]",
        "is for a file system",
        bind(options=["bind", "mode=755"]),
        bind(options=["bind", "rnosuid", "rslave", "tmpcopyup"]),
    ),
    Case(
        "$.mounts[0]",
        "only bind mounts",
        {
            "mounts": [
                {
                    "destination": "/t",
                    "type": "tmpfs",
                    "uidMappings": [RANGE],
                    "gidMappings": [RANGE],
                }
            ]
        },
        bind(uidMappings=[RANGE], gidMappings=[RANGE]),
    ),
    Case(
        "$.mounts[0].gidMappings",
        "both kinds",
        bind(uidMappings=[RANGE]),
        bind(uidMappings=[RANGE], gidMappings=[RANGE]),
    ),
    Case(
        "$.mounts[0]",
        "needs mappings",
        bind(options=["bind", "ridmap"]),
        {**bind(options=["bind", "ridmap"]), **user_namespace(RANGE)},
    ),
    Case(
        "$.mounts[0].uidMappings[0].size",
        "must not be 0",
        bind(uidMappings=[mapping(0, 0, 0)], gidMappings=[RANGE]),
        bind(uidMappings=[mapping(0, 0, 1)], gidMappings=[RANGE]),
    ),
    Case(
        "$.linux.maskedPaths",
        "without a mount namespace",
        {"linux.namespaces": [{"type": "uts"}]},
        {"linux.namespaces": [{"type": "uts"}], "linux.maskedPaths": [], "linux.readonlyPaths": []},
    ),
    Case(
        "$.linux.readonlyPaths[0]",
        "not an absolute path",
        {"linux.readonlyPaths": ["proc"]},
        {"linux.readonlyPaths": ["/proc"]},
    ),
    *(
        Case(
            f"$.linux.devices[0].{field}",
            says,
            {"linux.devices": [{"type": "c", "path": "/dev/x", "major": 1, "minor": 3, **bad}]},
            {"linux.devices": [{"type": "p", "path": "/dev/x"}]},
        )
        for field, says, bad in BAD_DEVICES
    ),
]

RESOURCES = [
    *(
        Case(
            "$.linux.cgroupsPath",
            "must not contain",
            {"linux.cgroupsPath": bad},
            {"linux.cgroupsPath": good},
        )
        for bad, good in [("../x", "x"), ("/a/../b", "/a/..b"), ("/..", "system.slice:x:y")]
    ),
    *(
        Case(
            f"$.linux.resources.{field}",
            says,
            {"linux.resources": bad},
            {"linux.resources": good},
        )
        for field, says, bad, good in [
            ("memory.limit", "nor -1", {"memory": {"limit": -2}}, {"memory": {"limit": -1}}),
            (
                "memory.swap",
                "less than the memory limit",
                {"memory": {"limit": 2, "swap": 1}},
                {"memory": {"limit": 2, "swap": 2}},
            ),
            (
                "memory.swap",
                "less than the memory limit",
                {"memory": {"limit": -1, "swap": 1}},
                {"memory": {"limit": -1, "swap": -1}},
            ),
            (
                "memory.swap",
                "without a memory limit",
                {"memory": {"swap": 5}},
                {"memory": {"swap": -1}},
            ),
            (
                "memory.swappiness",
                "between 0 and 100",
                {"memory": {"swappiness": 101}},
                {"memory": {"swappiness": 100}},
            ),
            ("cpu.period", "between", {"cpu": {"period": 999}}, {"cpu": {"period": 1000}}),
            ("cpu.period", "between", {"cpu": {"period": 1000001}}, {"cpu": {"period": 0}}),
            ("cpu.quota", "less than 1000", {"cpu": {"quota": 999}}, {"cpu": {"quota": -1}}),
            (
                "cpu.burst",
                "more than the quota",
                {"cpu": {"quota": 2000, "burst": 2001}},
                {"cpu": {"quota": 2000, "burst": 2000}},
            ),
            (
                "cpu.realtimeRuntime",
                "more than the period",
                {"cpu": {"realtimeRuntime": 2, "realtimePeriod": 1}},
                {"cpu": {"realtimeRuntime": 1, "realtimePeriod": 1}},
            ),
            ("cpu.idle", "neither 0 nor 1", {"cpu": {"idle": 2}}, {"cpu": {"idle": 1}}),
            ("cpu.cpus", "not a list", {"cpu": {"cpus": "0-"}}, {"cpu": {"cpus": "0-7:1/2,9"}}),
            ("cpu.mems", "not a list", {"cpu": {"mems": "x"}}, {"cpu": {"mems": "0"}}),
            (
                "blockIO.weight",
                "between 10 and 1000",
                {"blockIO": {"weight": 9}},
                {"blockIO": {"weight": 0}},
            ),
            (
                "blockIO.weightDevice[0].leafWeight",
                "between 10 and 1000",
                {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 1001}]}},
                {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 1000}]}},
            ),
            (
                "devices[0].type",
                "not one of a, b, c",
                {"devices": [{"allow": True, "type": "p", "access": "r"}]},
                {"devices": [{"allow": True, "type": "a", "access": "r"}]},
            ),
            (
                "devices[0].access",
                "must not be empty",
                {"devices": [{"allow": True}]},
                {"devices": [{"allow": True, "access": "rwm"}]},
            ),
            (
                "devices[0].access",
                "not made of",
                {"devices": [{"allow": True, "access": "rx"}]},
                {"devices": [{"allow": True, "access": "mr"}]},
            ),
            (
                "devices[0].major",
                "nor -1",
                {"devices": [{"allow": True, "access": "r", "major": -2}]},
                {"devices": [{"allow": True, "access": "r", "major": -1}]},
            ),
            (
                'unified["../x.y"]',
                "not the name of a cgroup file",
                {"unified": {"../x.y": "1"}},
                {"unified": {"memory.high": "1"}},
            ),
        ]
    ),
    Case(
        "$.linux.resources.memory.kernel",
        "ignored",
        {"linux.resources": {"memory": {"kernel": 1}}},
        {"linux.resources": {"memory": {}}},
        warning=True,
    ),
    Case(
        "$.linux.resources.unified",
        "does not use the unified",
        {"linux.resources": {"unified": {"memory.high": "1"}}},
        {"linux.resources": {"unified": {}}},
        {"cgroup_mode": "hybrid"},
    ),
]

CONFINEMENT = [
    Case(
        "$.linux.seccomp.defaultAction",
        "cannot be the default",
        {"linux.seccomp": {"defaultAction": "SCMP_ACT_NOTIFY"}},
        seccomp(),
    ),
    Case(
        "$.linux.seccomp.listenerPath",
        "required by",
        seccomp(syscalls=[rule("SCMP_ACT_NOTIFY", "mount")]),
        seccomp(syscalls=[rule("SCMP_ACT_NOTIFY", "mount")], listenerPath="/run/s"),
    ),
    Case(
        "$.linux.seccomp.listenerMetadata",
        "no listenerPath",
        seccomp(listenerMetadata="x"),
        seccomp(listenerMetadata="x", listenerPath="/run/s"),
    ),
    Case(
        "$.linux.seccomp.syscalls[0].names[1]",
        "cannot be used for write",
        seccomp(syscalls=[rule("SCMP_ACT_NOTIFY", "read", "write")], listenerPath="/run/s"),
        seccomp(syscalls=[rule("SCMP_ACT_NOTIFY", "read")], listenerPath="/run/s"),
    ),
    Case(
        "$.linux.seccomp.syscalls[0].args[0].index",
        "between 0 and 5",
        seccomp(
            syscalls=[
                rule(
                    "SCMP_ACT_ERRNO", "clone", args=[{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]
                )
            ]
        ),
        seccomp(
            syscalls=[
                rule(
                    "SCMP_ACT_ERRNO", "clone", args=[{"index": 5, "value": 0, "op": "SCMP_CMP_EQ"}]
                )
            ]
        ),
    ),
    Case(
        "$.linux.seccomp.defaultErrnoRet",
        "has no errno",
        seccomp(defaultErrnoRet=1),
        seccomp(defaultAction="SCMP_ACT_TRACE", defaultErrnoRet=65535),
    ),
    Case(
        "$.linux.seccomp.syscalls[0].errnoRet",
        "has no errno",
        seccomp(syscalls=[{**rule("SCMP_ACT_KILL", "mkdir"), "errnoRet": 1}]),
        seccomp(syscalls=[{**rule("SCMP_ACT_ERRNO", "mkdir"), "errnoRet": 4094}]),
    ),
    Case(
        "$.linux.seccomp.syscalls[0].errnoRet",
        "between 0 and 4094",
        seccomp(syscalls=[{**rule("SCMP_ACT_ERRNO", "mkdir"), "errnoRet": 4095}]),
        seccomp(syscalls=[{**rule("SCMP_ACT_TRACE", "mkdir"), "errnoRet": 4095}]),
    ),
    Case(
        "$.linux.seccomp.flags[0]",
        "this kernel has no",
        seccomp(flags=["SECCOMP_FILTER_FLAG_LOG"]),
        seccomp(),
        {"seccomp_flags": frozenset()},
    ),
    Case("$.linux.mountLabel", "not enabled", {"linux.mountLabel": "x"}, {"linux.mountLabel": ""}),
    *(
        Case(
            "$.linux.intelRdt.closID",
            "cannot be the name",
            {"linux.intelRdt": {"closID": bad}},
            {"linux.intelRdt": {"closID": "a..b"}},
        )
        for bad in (".", "..", "a/b")
    ),
    *(
        Case(
            f"$.linux.memoryPolicy.{field}",
            says,
            {"linux.memoryPolicy": bad},
            {"linux.memoryPolicy": good},
        )
        for field, says, bad, good in [
            ("mode", "required", {}, {"mode": "MPOL_DEFAULT"}),
            (
                "nodes",
                "takes no nodes",
                {"mode": "MPOL_LOCAL", "nodes": "0"},
                {"mode": "MPOL_PREFERRED", "nodes": ""},
            ),
            ("nodes", "required by", {"mode": "MPOL_BIND"}, {"mode": "MPOL_BIND", "nodes": "0-1"}),
            (
                "nodes",
                "not a list",
                {"mode": "MPOL_BIND", "nodes": "x"},
                {"mode": "MPOL_BIND", "nodes": "1"},
            ),
            (
                "flags",
                "exclude each other",
                {
                    "mode": "MPOL_BIND",
                    "nodes": "0",
                    "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"],
                },
                {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
            ),
            (
                "flags",
                "needs MPOL_BIND",
                {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]},
                {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]},
            ),
        ]
    ),
    Case(
        "$.linux.personality.domain",
        "required",
        {"linux.personality": {}},
        {"linux.personality": {"domain": "LINUX32"}},
    ),
    Case(
        "$.linux.personality.flags",
        "ignored",
        {"linux.personality": {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}},
        {"linux.personality": {"domain": "LINUX", "flags": []}},
        warning=True,
    ),
]

CASES = [
    *DOCUMENT,
    *STRINGS,
    *PROCESS,
    *NAMESPACES,
    *SYSCTLS,
    *NET_DEVICES,
    *UNPRIVILEGED,
    *FILESYSTEM,
    *RESOURCES,
    *CONFINEMENT,
]
