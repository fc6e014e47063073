"""What a container may leave behind: processes, mounts, cgroups and files of state.

Only for a world of one's own (``world.py``): every process in it is looked at.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

Remains = frozenset[str]

PREFIX = "/lpc-test-clients-"
PARENT = os.environ.setdefault("LPC_TEST_CLIENTS", f"{PREFIX}{secrets.token_hex(3)}")
"""Every container's cgroup lies below this one, by name: not below that of whoever runs this."""
PODMANS_PARENT = "/libpod_parent"
"""Where podman puts what cannot be given a parent: the pods of ``kube play``."""


def take(state_roots: Iterable[Path], group_parents: Iterable[str]) -> Remains:
    """Whatever there is in this world, below these roots and below these cgroups."""
    seen = (_processes(), _mounts(), _groups(group_parents), _entries(state_roots))
    return Remains(each for kind in seen for each in kind)


def hierarchies() -> list[Path]:
    """Where the cgroup hierarchies are mounted."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.partition(" - ")[2].startswith(("cgroup ", "cgroup2 ")):
            found.append(Path(line.split()[4]))
    return found


def tops(parent: str) -> list[Path]:
    """The group of that path in every hierarchy, whether it is there or not."""
    return [Path(f"{hierarchy}{parent}") for hierarchy in hierarchies()]


def groups_below(parent: str) -> list[Path]:
    """The group and those inside of it, in every hierarchy, the innermost first."""
    return [
        Path(directory) for top in tops(parent) for directory, _, _ in os.walk(top, topdown=False)
    ]


def remove_groups(top: Path) -> None:
    """Remove a group of one hierarchy and those inside of it. What stays is left to be told."""
    for directory, _, _ in os.walk(top, topdown=False):
        for _ in range(50):
            try:
                os.rmdir(directory)
                break
            except FileNotFoundError:
                break
            except OSError:
                # The kernel takes a moment to let go of one whose last process has just ended.
                time.sleep(0.05)


def remove_groups_of_older_runs() -> None:
    """Those of a battery that was ended by force. Nobody else has one now."""
    for hierarchy in hierarchies():
        for path in hierarchy.glob(f"{PREFIX[1:]}*"):
            remove_groups(path)


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


def _groups(parents: Iterable[str]) -> Iterable[str]:
    for parent in parents:
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
