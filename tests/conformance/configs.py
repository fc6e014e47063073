"""Configurations that nobody would think of: strategies for everything that runc 1.1.5 knows.

A :class:`Case` is a configuration with holes for what differs from machine to machine and from run
to run: ``{rootfs}``, ``{source}`` (a directory of the host to bind from), ``{group}``,
``{probe}``, ``{ns:network}`` (a namespace that somebody else holds). Most of them are accepted,
some are refused: a runtime must know both.

Left out is what would do harm: a container in the host's mount namespace, for which runc mounts on
the host. Left out too is what runc learned after 1.1.5, see docs/differences.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.conformance.mount_configs import PROPAGATIONS, Draw, mount_lists, some, sometimes

DEFAULT_DEVICES = tuple(
    f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")
)

CAPABILITIES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"),
    *("CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD"),
    *("CAP_AUDIT_WRITE", "CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE", "CAP_BPF"),
    *("CAP_PERFMON", "CAP_CHECKPOINT_RESTORE", "CAP_SYS_RESOURCE"),
)
CAPABILITY_SETS = ("bounding", "permitted", "effective", "inheritable", "ambient")

NAMESPACES = ("pid", "network", "ipc", "uts", "cgroup")
MAPPINGS = (
    [(0, 100000, 65536)],
    [(0, 100000, 1), (1, 200000, 999), (1000, 300000, 64536)],
    [(0, 0, 1000), (1000, 101000, 64536)],
    [(1000, 501000, 1000), (0, 500000, 1000), (65534, 565534, 1)],
)
HELD_MAPPING = MAPPINGS[1]
"""Of the user namespace that is there to be joined."""

COMMANDS = (
    ["nothing-of-the-kind"],
    ["/bin/nothing"],
    ["bin/nothing"],
    ["/etc/passwd"],
    ["/etc"],
    ["etc"],
    ["script-without-interpreter"],
    ["true"],
    ["/to-outside/../../bin/true"],
    ["sh", "-c", "kill -TERM $$"],
    ["sh", "-c", "exit 300"],
)


class Case(NamedTuple):
    """A configuration with holes, and what else a run of it needs."""

    config: dict[str, Any]
    owner: tuple[int, int]
    """Of the root file system: the container's root, as a rule."""
    preserved: int
    """Descriptors beyond the standard streams."""


@st.composite
def cases(draw: Draw) -> Case:
    """Configurations, as :class:`Case`."""
    spaces = draw(namespaces())
    linux: dict[str, Any] = {"namespaces": spaces["list"], "cgroupsPath": "{group}"}
    uids = gids = MAPPINGS[0]
    if spaces["user"] == "new":
        uids, gids = draw(st.sampled_from(MAPPINGS)), draw(st.sampled_from(MAPPINGS))
    elif spaces["user"] == "joined":
        uids = gids = HELD_MAPPING
    if spaces["user"] != "host":
        # runc 1.1 demands them for a namespace that is joined as well.
        linux["uidMappings"] = [_mapping(row) for row in uids]
        linux["gidMappings"] = [_mapping(row) for row in gids]
    config: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "root": {"path": "{rootfs}", "readonly": sometimes(draw, 0.3)},
        "process": draw(processes()),
        "mounts": draw(mount_lists(spaces)),
        "linux": linux,
    }
    if sometimes(draw, 0.7 if spaces["uts"] != "host" else 0.01):
        config["hostname"] = draw(st.sampled_from(["box", "a-longer.name.example"]))
    linux.update(draw(confinement(spaces)))
    linux["resources"] = draw(resources())
    owner = (0, 0)
    if spaces["user"] != "host" and not sometimes(draw, 0.1):
        owner = (_host_id(uids), _host_id(gids))
    return Case(config, owner, 2 if sometimes(draw, 0.1) else 0)


def _mapping(row: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("containerID", "hostID", "size"), row, strict=True))


def _host_id(rows: list[tuple[int, int, int]]) -> int:
    """The host's id of the container's root."""
    return next(host for inside, host, _ in rows if inside == 0)


@st.composite
def namespaces(draw: Draw) -> dict[str, Any]:
    """Where each namespace comes from: "new", "host" or "joined"; "list" is the config's own."""
    user = draw(st.sampled_from(["host"] * 5 + ["new"] * 3 + ["joined"]))
    found: dict[str, Any] = {"user": user, "mount": "new"}
    entries: list[dict[str, str]] = []
    if user != "host":
        entries.append(_namespace("user", user))
    joined = sometimes(draw, 0.05) and user == "host"
    found["mount"] = "joined" if joined else "new"
    entries.append(_namespace("mount", found["mount"]))
    for type in NAMESPACES:
        kinds = ["new"] * 6 + ["host"] * 2 + ["joined"] * 2
        if user == "new":
            kinds = ["new"] * 9 + ["host"] * 2 + ["joined"]
        found[type] = draw(st.sampled_from(kinds))
        if found[type] != "host":
            entries.append(_namespace(type, found[type]))
    found["list"] = draw(st.permutations(entries))
    return found


def _namespace(type: str, kind: str) -> dict[str, str]:
    return {"type": type} if kind == "new" else {"type": type, "path": f"{{ns:{type}}}"}


# ---- the process -------------------------------------------------------------------------------


@st.composite
def processes(draw: Draw) -> dict[str, Any]:
    code = draw(st.sampled_from([0, 1, 3, 37, 127, 255]))
    args = ["sh", "-c", "{probe}", "zero", "{group}", str(code), "one two", "*", ""]
    if sometimes(draw, 0.1):
        args = draw(st.sampled_from(COMMANDS))
    process: dict[str, Any] = {"args": args, "cwd": draw(_directories()), "user": draw(_users())}
    process["env"] = draw(_environments())
    if sometimes(draw, 0.85):
        process["capabilities"] = draw(_capabilities())
    if sometimes(draw, 0.6):
        process["noNewPrivileges"] = draw(st.booleans())
    if sometimes(draw, 0.4):
        process["rlimits"] = draw(_rlimits())
    if sometimes(draw, 0.3):
        process["oomScoreAdj"] = draw(st.sampled_from([0, 1, 500, 1000]))
    return process


def _directories() -> st.SearchStrategy[str]:
    usual = ("/", "/home/app", "/tmp", "/mnt/a", "/mnt/missing/cwd", "/to-outside", "/proc")
    odd = ("/root/../home", "/to-nothing/cwd", "/mnt/file", "/loop")
    return st.sampled_from([*(usual * 5), *odd])


@st.composite
def _users(draw: Draw) -> dict[str, Any]:
    user: dict[str, Any] = {"uid": 0, "gid": 0}
    if sometimes(draw, 0.5):
        user["uid"] = draw(st.sampled_from([0, 1, 999, 1000, 5000, 65534]))
        user["gid"] = draw(st.sampled_from([0, 1, 50, 1000, 1999, 65534]))
    if sometimes(draw, 0.4):
        user["additionalGids"] = draw(
            st.lists(st.sampled_from((0, 1, 5, 50, 1000, 1500)), max_size=4, unique=True)
        )
    if sometimes(draw, 0.3):
        user["umask"] = draw(st.sampled_from([0, 0o22, 0o27, 0o77, 0o777, 0o1]))
    return user


@st.composite
def _environments(draw: Draw) -> list[str]:
    env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    words = ("A=1", "A=2", "A=", "B=x y", "HOME=/elsewhere", "HOME=", "TERM=xterm", "PATH=/bin")
    env += some(draw, (*words, "C==", "LISTEN_FDS=3", "ÄÖ=ü", "lower=1", "A=1"), 5)
    if sometimes(draw, 0.02):
        env += some(draw, ("NOVALUE", "=empty", ""), 1, 1)
    return env


@st.composite
def _capabilities(draw: Draw) -> dict[str, list[str]]:
    """The sets as a caller would have them, each a part of the one before, or any five."""
    if sometimes(draw, 0.05):
        known = (*CAPABILITIES, "CAP_BOGUS", "cap_chown", "ALL")
        return {name: some(draw, known, 5) for name in CAPABILITY_SETS if sometimes(draw, 0.8)}
    bounding = some(draw, CAPABILITIES, 12)
    if sometimes(draw, 0.1):
        bounding.append("CAP_BOGUS")
    found = {"bounding": bounding}
    permitted = bounding if sometimes(draw, 0.7) else bounding[:3]
    found.update(permitted=permitted, effective=permitted)
    if sometimes(draw, 0.6):
        found["inheritable"] = permitted
        if sometimes(draw, 0.7):
            found["ambient"] = permitted if sometimes(draw, 0.6) else permitted[:2]
    elif sometimes(draw, 0.3):
        found["ambient"] = permitted
    return found


@st.composite
def _rlimits(draw: Draw) -> list[dict[str, Any]]:
    choices = (
        ("NOFILE", 64, 128),
        ("NOFILE", 1024, 4096),
        ("CORE", 0, 0),
        ("CORE", 0, 2**64 - 1),
        ("STACK", 1 << 20, 8 << 20),
        ("AS", 1 << 30, 1 << 31),
        ("DATA", 1 << 29, 1 << 30),
        ("FSIZE", 1 << 24, 1 << 24),
        ("MEMLOCK", 0, 65536),
        ("NICE", 0, 0),
        ("RTPRIO", 0, 0),
        ("SIGPENDING", 100, 200),
        ("MSGQUEUE", 1000, 819200),
        ("CPU", 30, 60),
        ("RTTIME", 10**6, 10**7),
        ("LOCKS", 100, 100),
        ("RSS", 1 << 30, 1 << 30),
        ("NPROC", 1000, 2000),
    )
    limits = draw(
        st.lists(st.sampled_from(choices), min_size=1, max_size=4, unique_by=lambda row: row[0])
    )
    if sometimes(draw, 0.08):
        odd = (("NOFILE", 10, 2**40), ("BOGUS", 1, 1), ("CORE", 2, 1), ("RTPRIO", 5, 10), limits[0])
        limits.append(draw(st.sampled_from(odd)))
    return [{"type": f"RLIMIT_{name}", "soft": soft, "hard": hard} for name, soft, hard in limits]


# ---- the rest of linux -------------------------------------------------------------------------


@st.composite
def confinement(draw: Draw, spaces: dict[str, Any]) -> dict[str, Any]:
    """Propagation of the root, hidden paths, sysctls, devices."""
    found: dict[str, Any] = {}
    if sometimes(draw, 0.4):
        found["rootfsPropagation"] = draw(
            st.sampled_from(["", *PROPAGATIONS[:3], *PROPAGATIONS[4:7], *PROPAGATIONS])
        )
    paths = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware")
    mine = ("/mnt/missing", "/etc/hosts", "/home", "/mnt/file", "/to-file", "/to-outside", "/mnt/a")
    if sometimes(draw, 0.5):
        found["maskedPaths"] = some(draw, (*paths, *mine), 5)
    paths = ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/sysrq-trigger", "/proc/fs")
    if sometimes(draw, 0.5):
        found["readonlyPaths"] = some(draw, (*paths, *mine, "/tmp", "/"), 5)
    if sometimes(draw, 0.35):
        found["sysctl"] = draw(_sysctls(spaces))
    if sometimes(draw, 0.35):
        found["devices"] = draw(_devices(spaces))
    return found


@st.composite
def _sysctls(draw: Draw, spaces: dict[str, Any]) -> dict[str, str]:
    known = (
        ("network", "net.ipv4.ip_forward", ("0", "1")),
        ("network", "net.ipv4.ip_unprivileged_port_start", ("0", "1024", "80")),
        ("network", "net.ipv4.ping_group_range", ("0 0", "1 0")),
        ("network", "net/ipv4/ip_forward", ("1",)),
        ("ipc", "kernel.shm_rmid_forced", ("0", "1")),
        ("ipc", "kernel.msgmax", ("8192", "65536")),
        ("ipc", "fs.mqueue.msg_max", ("5", "20")),
        ("uts", "kernel.domainname", ("example.org",)),
    )
    rows = [row for row in known if spaces[row[0]] != "host"]
    found: dict[str, str] = {}
    for _, name, values in some(draw, rows, 3) if rows else ():
        found[name] = draw(st.sampled_from(values))
    if sometimes(draw, 0.06):
        odd = ("kernel.hostname", "vm.swappiness", "net.ipv4.no_such", "kernel.msgmax", "bogus")
        found[draw(st.sampled_from(odd))] = "1"
    return found


@st.composite
def _devices(draw: Draw, spaces: dict[str, Any]) -> list[dict[str, Any]]:
    node = {"type": "c", "major": 1, "minor": 3}
    mode = {"fileMode": draw(st.sampled_from([0o666, 0o640, 0o600, 0o777, 0]))}
    owner = {"uid": draw(st.sampled_from([0, 7])), "gid": draw(st.sampled_from([0, 8]))}
    choices: tuple[dict[str, Any], ...] = (
        {**node, "path": "/dev/mine", **mode, **owner},
        {**node, "path": "/dev/zero", "minor": 5},
        {**node, "path": "/dev/null", **mode},
        {**node, "path": "/dev/full", "minor": 3},
        {**node, "path": "/dev/below/deep", **owner},
        {**node, "path": "/mnt/device", "minor": 9, **mode},
        {"type": "b", "major": 7, "minor": 0, "path": "/dev/block", **mode},
        {"type": "p", "path": "/dev/pipe", **mode, **owner},
        {"type": "u", "major": 1, "minor": 8, "path": "/dev/unbuffered"},
        {**node, "path": "/dev/tty", "major": 5, "minor": 0, **owner},
    )
    if spaces["user"] != "host" and not sometimes(draw, 0.1):
        # Only nodes of the host can be shown there.
        choices = tuple(each for each in choices if each["path"] in DEFAULT_DEVICES)
    return list(
        draw(
            st.lists(
                st.sampled_from(choices),
                min_size=1,
                max_size=3,
                unique_by=lambda each: each["path"],
            )
        )
    )


@st.composite
def resources(draw: Draw) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if sometimes(draw, 0.3):
        memory: dict[str, Any] = {"limit": draw(st.sampled_from([64 << 20, 256 << 20, -1]))}
        if sometimes(draw, 0.3):
            memory["swap"] = draw(st.sampled_from([512 << 20, -1]))
        if sometimes(draw, 0.3):
            memory["reservation"] = 32 << 20
        if sometimes(draw, 0.2):
            memory["swappiness"] = draw(st.sampled_from([0, 10, 100]))
        if sometimes(draw, 0.2):
            memory["disableOOMKiller"] = draw(st.booleans())
        found["memory"] = memory
    if sometimes(draw, 0.3):
        choices: dict[str, tuple[Any, ...]] = {
            "shares": (0, 2, 100, 1024, 262144),
            "quota": (50000, 20000, -1),
            "period": (100000, 10000, 50000),
            "cpus": ("0", "0-1", "1"),
            "mems": ("0",),
        }
        names = draw(st.lists(st.sampled_from(sorted(choices)), max_size=3, unique=True))
        found["cpu"] = {name: draw(st.sampled_from(choices[name])) for name in names}
    if sometimes(draw, 0.3):
        found["pids"] = {"limit": draw(st.sampled_from([-1, 20, 1000]))}
    if sometimes(draw, 0.5):
        found["devices"] = draw(_device_rules())
    return found


@st.composite
def _device_rules(draw: Draw) -> list[dict[str, Any]]:
    null = {"type": "c", "major": 1, "minor": 3}
    choices: tuple[dict[str, Any], ...] = (
        {"allow": True, **null, "access": "rwm"},
        {"allow": False, **null, "access": "w"},
        {"allow": False, **null, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "access": "r"},
        {"allow": True, "type": "b", "major": 7, "minor": 0, "access": "rw"},
        {"allow": True, "type": "c", "access": "m"},
        {"allow": True, "type": "a", "access": "rwm"},
        {"allow": True, "access": "rwm"},
        {"allow": False, "type": "c", "major": 1, "minor": 9, "access": "r"},
        {"allow": True, "type": "c", "major": 10, "minor": -1, "access": "rw"},
    )
    rules = [{"allow": False, "access": "rwm"}] if sometimes(draw, 0.8) else []
    return rules + some(draw, choices, 3)
