"""What a container may leave behind: processes, mounts, cgroups and files of state.

Only for a world of one's own (``world.py``): every process in it is looked at.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

Remains = frozenset[str]

PARENT = os.environ.setdefault("LPC_TEST_CLIENTS", f"/lpc-test-clients-{secrets.token_hex(3)}")
"""Every container's cgroup lies below this one, by name: not below that of whoever runs this."""
PODMANS_PARENT = "/libpod_parent"
"""Where podman puts what cannot be given a parent: the pods of ``kube play``."""


def take(state_roots: Iterable[Path]) -> Remains:
    return Remains({*_processes(), *_mounts(), *_groups(), *_entries(state_roots)})


def hierarchies() -> list[Path]:
    """Where the cgroup hierarchies are mounted."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.partition(" - ")[2].startswith(("cgroup ", "cgroup2 ")):
            found.append(Path(line.split()[4]))
    return found


def groups_below(parent: str) -> list[Path]:
    """The group and those inside of it, in every hierarchy, the innermost first."""
    return [
        Path(directory)
        for hierarchy in hierarchies()
        for directory, _, _ in os.walk(f"{hierarchy}{parent}", topdown=False)
    ]


def _processes() -> Iterable[str]:
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        # Threads of the kernel and zombies that are about to be reaped have none.
        if words[0] and int(name) != os.getpid():
            yield f"process {name}: {b' '.join(words).decode(errors='replace').strip()[:120]}"


def _mounts() -> Iterable[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        yield f"mount: {line.split()[4]}"


def _groups() -> Iterable[str]:
    for parent in (PARENT, PODMANS_PARENT):
        # These stay, as the parent does: for every conmon, and for every build.
        standing = (parent, f"{parent}/conmon", f"{parent}/buildkit")
        groups = map(str, groups_below(parent))
        yield from (f"cgroup: {group}" for group in groups if not group.endswith(standing))


def _entries(state_roots: Iterable[Path]) -> Iterable[str]:
    for root in state_roots:
        if root.is_dir():
            # What begins so is pyrunc's cache of compiled profiles, and no container.
            names = (name for name in os.listdir(root) if not name.startswith("@"))
            yield from (f"state: {root / name}" for name in names)
