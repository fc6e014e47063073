"""Who makes the containers of a test run: the same tests, in three ways (``LPC_TEST_AS``).

root      root, without a user namespace unless a test asks for one
userns    root; every bundle has a user namespace, whose root is the host's user 300000
user      an ordinary user with subordinate ids; scripts/as_user.py makes him, for the run

A test that means something in some of them only says so, and why:
``@pytest.mark.privileged_caller`` needs root as the caller,
``@pytest.mark.no_user_namespace`` needs root in the container to be the host's as well.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "LPC_TEST_AS"
PARENT_GROUP = os.environ.get("LPC_TEST_CGROUP", "")
"""The cgroup that was given to the user, in every hierarchy."""
WAYS = ("root", "userns", "user")
WAY = os.environ.get(VARIABLE, "root")
MARKERS = {
    "privileged_caller(reason)": ("root", "userns"),
    "no_user_namespace(reason)": ("root",),
}
SHIFTED_BY = 300_000
SIZE = 65_536


def register(config: pytest.Config) -> None:
    """Make the markers known; refuse a way that there is none."""
    if WAY not in WAYS:
        raise pytest.UsageError(f"{VARIABLE}={WAY}: not one of {', '.join(WAYS)}")
    for marker, ways in MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: runs only as {', '.join(ways)}")


def obstacle(item: pytest.Item) -> str:
    """Why a test of the real kernel cannot run in this way; "" if it can."""
    if WAY != "user" and os.geteuid() != 0:
        return "needs root"
    for marker, ways in MARKERS.items():
        found = item.get_closest_marker(marker.partition("(")[0])
        if found is not None and WAY not in ways:
            return f"as {WAY}: {found.args[0]}"
    return ""


def adapt(config: dict[str, Any]) -> None:
    """Give a configuration the user namespace that this way has, unless it has one."""
    linux = config["linux"]
    if WAY != "root" and not any(each["type"] == "user" for each in linux["namespaces"]):
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = mappings(os.geteuid(), "/etc/subuid")
        linux["gidMappings"] = mappings(os.getegid(), "/etc/subgid")


def mappings(own: int, granted: str) -> list[dict[str, int]]:
    """All the ids that a usual container has: 0 is the user himself or, for root, nobody's."""
    if WAY == "userns":
        return [{"containerID": 0, "hostID": SHIFTED_BY, "size": SIZE}]
    _name, first, size = Path(granted).read_text(encoding="ascii").split()[-1].split(":")
    return [
        {"containerID": 0, "hostID": own, "size": 1},
        {"containerID": 1, "hostID": int(first), "size": int(size)},
    ]


def cgroup(name: str) -> str:
    """The ``cgroupsPath`` of a container of this run."""
    return f"{PARENT_GROUP}/{name}"


def own(path: Path, uid: int = 0, gid: int | None = None) -> None:
    """Let a path belong to the container's ``uid`` (and group of that number), if root may say so.

    What an ordinary user makes is the container's root's as it is.
    """
    if os.geteuid() == 0:
        by = SHIFTED_BY if WAY == "userns" else 0
        os.chown(path, uid + by, (uid if gid is None else gid) + by, follow_symlinks=False)


def own_tree(top: Path) -> None:
    """Let a tree belong to the container's root."""
    if WAY == "userns":
        own(top)
        for directory, names, files in os.walk(top):
            for name in names + files:
                own(Path(directory, name))
