"""What a process sees around itself: a script for busybox, and its output in comparable form.

Two runtimes are compared by what a program finds inside, so everything is taken from the kernel's
own files, and whatever two containers made one after the other cannot have in common (numbers that
the kernel gives in turn, the name of the cgroup) is replaced by names.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence

# Few forks: the shell's own redirections, one grep that names the file before each line, one stat.
# $1 is the path of the container's cgroup, $2 the exit code.
SCRIPT = r"""
section() { echo "== $1"; }
section arguments;   for word in "$0" "$@"; do echo "$word"; done
section stdin;       while read -r line; do echo "$line"; done
section environment; tr '\0' '\n' < /proc/$$/environ
section files
self=/proc/$$ own=/sys/fs/cgroup all=/groups
grep -s "" $self/status $self/limits $self/mountinfo $self/cgroup $self/stat $self/oom_score_adj \
    $self/uid_map $self/gid_map $self/setgroups $self/timens_offsets $self/personality \
    /proc/sys/kernel/hostname /proc/sys/kernel/domainname /proc/sys/kernel/shm_rmid_forced \
    /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max /proc/sys/net/ipv4/ip_forward \
    /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range \
    /proc/net/if_inet6 /proc/net/fib_trie /proc/net/route /proc/keys
section groups
for group in $own $all; do
    path=; [ $group = $all ] && path=$1
    grep -s "" $group/memory$path/memory.limit_in_bytes $group/memory$path/memory.swappiness \
        $group/memory$path/memory.memsw.limit_in_bytes \
        $group/memory$path/memory.soft_limit_in_bytes $group/memory$path/memory.oom_control \
        $group/pids$path/pids.max $group/cpu$path/cpu.shares $group/cpu$path/cpu.cfs_quota_us \
        $group/cpu$path/cpu.cfs_period_us $group/cpu$path/cpu.cfs_burst_us \
        $group/cpu$path/cpu.idle $group/cpuset$path/cpuset.cpus $group/cpuset$path/cpuset.mems \
        $group/devices$path/devices.list $group$path/memory.max $group$path/memory.low \
        $group$path/memory.swap.max $group$path/pids.max $group$path/cpu.max \
        $group$path/cpu.weight $group$path/cpuset.cpus $group$path/cpuset.mems
done
section nodes
stat -c '%f %u:%g %t:%T %N' /* /dev/* /dev/*/* /etc/* /home/* /mnt/* /mnt/*/* /opt/* /run/* \
    /srv/* /tmp/* /var/* /proc/acpi /proc/kcore /proc/keys /proc/sysrq-trigger /proc/timer_list \
    /sys/firmware /sys/firmware/* $self/cwd $self/root 2>/dev/null
section descriptors; stat -c '%f %u:%g %N' $self/fd/* 2>/dev/null
section namespaces;  stat -c '%N' $self/ns/*
section opens
for node in /dev/* /mnt/*; do
    [ -L "$node" ] || [ -f "$node" ] || [ -d "$node" ] || { true <> "$node"; } 2>/dev/null \
        && echo "$node"
done
section processes;   cd /proc; echo [0-9]*
section end
exit ${2:-0}
"""

APPLETS = ("cat", "grep", "sh", "stat", "tr", "true")
"""What the script needs in the root file system."""

# Without SigIgn: runc hands on in part what its own caller ignores, ours nothing of it.
_STATUS = re.compile(
    r"(Umask|Uid|Gid|Groups|Sig(?!Q|Ign)\w+|Shd\w+|Cap\w+|NoNewPrivs|Seccomp\w*|Speculation\w+"
    r"|THP_enabled|Cpus_allowed_list|Mems_allowed_list):"
)
_NUMBERED = re.compile(r"(\w+):\[\d+\]")
_PROCESS = re.compile(r"/proc/\d+$")
_STARTED = "== arguments"

Report = dict[str, list[str]]


def ran(output: str) -> bool:
    """Did the probe run at all?"""
    return output.startswith(_STARTED)


def host_namespaces() -> dict[str, str]:
    """The links of /proc/self/ns, which a container may share, and a name for each."""
    links = [os.readlink(entry) for entry in os.scandir("/proc/self/ns")]
    return {link: f"{link.partition(':')[0]}:[host]" for link in links}


def report(output: str, names: Mapping[str, str]) -> Report:
    """The probe's output by title; ``names`` has words to be replaced, and what by."""
    for word, name in names.items():
        output = output.replace(word, name)
    found: Report = {}
    lines: list[str] = []
    for line in output.splitlines():
        if line.startswith("== "):
            lines = found.setdefault(line[3:], [])
        else:
            lines.append(line)
    _split_files(found)
    # Whoever else runs, in a second procfs.
    found["nodes"] = [line for line in found.get("nodes", ()) if not _PROCESS.search(line)]
    for title in ("descriptors", "nodes", "namespaces", "groups"):
        found[title] = sorted(_unnumbered(line) for line in found.get(title, ()))
    return found


def _unnumbered(line: str) -> str:
    line = re.sub(r"/proc/\d+/", "/proc/self/", line)
    line = re.sub(r"'\d+(/task/)?\d*'$", r"'PID\1'", line)
    return _NUMBERED.sub(r"\1:[new]", line)


def _split_files(found: Report) -> None:
    """Each file a title of its own, in place of the one that has them all."""
    for line in found.pop("files", ()):
        path, _, content = line.partition(":")
        found.setdefault(path.rpartition("/")[2], []).append(content)
    found["mountinfo"] = mounts(found.get("mountinfo", []))
    found["status"] = [line for line in found.get("status", []) if _STATUS.match(line)]
    found["stat"] = [_session(line) for line in found.get("stat", [])]
    found["limits"] = [" ".join(line.split()) for line in found.get("limits", [])]
    found["keys"] = sorted({_key(line) for line in found.get("keys", []) if "_ses.probe" in line})


def _session(line: str) -> str:
    pid, _, tail = line.partition(" ")
    fields = tail.rpartition(") ")[2].split()
    leads = [name for name, place in (("group", 2), ("session", 3)) if fields[place] == pid]
    return (
        f"leads {leads}, terminal {fields[4]}, priority {fields[15]}, nice {fields[16]},"
        f" realtime {fields[37]}, policy {fields[38]}"
    )


def _key(line: str) -> str:
    fields = line.split()
    return " ".join([fields[4], *fields[5:]])


class _Numbers:
    """The kernel's numbers in the order in which they are met."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def __call__(self, number: str) -> int:
        return self._seen.setdefault(number, len(self._seen))


def mounts(lines: Iterable[str]) -> list[str]:
    """mountinfo as a tree: each mount below the one it lies on, numbers replaced by their order.

    The kernel lists mounts in the order in which they were made, attached or not; what counts is
    what lies on what.
    """
    rows = {fields[0]: fields for fields in map(str.split, lines)}

    def place(fields: Sequence[str]) -> tuple[str, ...]:
        parent = rows.get(fields[1])
        below = place(parent) if parent is not None and parent is not fields else ()
        return (*below, fields[4])

    devices, peers = _Numbers(), _Numbers()
    found = []
    for fields in sorted(rows.values(), key=place):
        device = fields[2]
        if device.startswith("0:"):
            device = f"0:#{devices(device)}"
        end = fields.index("-")
        optional = [
            f"{name}:#{peers(number)}" if number else name
            for name, _, number in (field.partition(":") for field in fields[6:end])
        ]
        words = [" > ".join(place(fields)), device, fields[3], fields[5], *optional, *fields[end:]]
        found.append(" ".join(words))
    return found


def differences(
    theirs: Report, ours: Report, *, names: tuple[str, str] = ("runc", "pyrunc")
) -> list[str]:
    """Every line that only one of two reports has, with its title and whose it is."""
    return [
        f"{title}: {line}"
        for title in sorted({*theirs, *ours})
        for line in difflib.unified_diff(
            theirs.get(title, []), ours.get(title, []), *names, "", "", 0, lineterm=""
        )
        if not line.startswith(("---", "+++", "@@"))
    ]
