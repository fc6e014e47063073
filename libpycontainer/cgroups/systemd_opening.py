"""Which unit a container is, on which systemd; and its manager again from what is on record."""

from __future__ import annotations

import errno
import os

from libpycontainer.cgroups.systemd import SystemdManager
from libpycontainer.errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from libpycontainer.cgroups.hierarchies import Hierarchy
    from libpycontainer.cgroups.placement import Group
    from libpycontainer.cgroups.protocol import HostFacts
    from libpycontainer.cgroups.v1 import V1Manager
    from libpycontainer.cgroups.v2 import V2Manager

BOOTED = "/run/systemd/system"
"""There as long as systemd runs the host (man 3 sd_booted)."""


def open_systemd(
    cgroups_path: str | None,
    container_id: str,
    facts: HostFacts,
    found: Sequence[Hierarchy],
    *,
    rootless: bool,
    annotations: Mapping[str, str] | None,
) -> SystemdManager:
    """Decide which unit a container will be. See :func:`libpycontainer.cgroups.open_manager`.

    Raises :class:`~libpycontainer.errors.UnsupportedError` on a host without systemd, and where
    jeepney is not installed.
    """
    from libpycontainer.cgroups import placement, systemd_annotations, systemd_names

    mode = facts.cgroup_mode
    user = rootless or facts.in_user_namespace
    unit = systemd_names.unit(cgroups_path, container_id, user=user)
    properties = systemd_annotations.properties(annotations)
    _refuse_host(mode, user)
    from libpycontainer.cgroups import systemd_bus

    with systemd_bus.connect(user=user) as bus:
        root = bus.get(systemd_bus.PATH, systemd_bus.MANAGER, "ControlGroup")
    groups = placement.place(found, mode, root.rstrip("/") + unit.path, container_id, None)
    return SystemdManager(
        _inner(mode, groups, skip_devices=user, rootless=rootless),
        unit,
        user=user,
        description=f"libpycontainer container {container_id}",
        properties=properties,
    )


def load_systemd(record: Mapping[str, Any]) -> SystemdManager:
    """Take up a manager again from :meth:`SystemdManager.record`."""
    from libpycontainer.cgroups import systemd_names
    from libpycontainer.cgroups.placement import Group

    groups = [Group.load(entry) for entry in record["groups"]]
    known = record["systemd"]
    return SystemdManager(
        _inner(
            record["mode"],
            groups,
            skip_devices=record["skip_devices"],
            rootless=record["rootless"],
        ),
        systemd_names.Unit(known["unit"], known["slice"]),
        user=known["user"],
        invocation=known["invocation"],
    )


def _inner(
    mode: str, groups: Sequence[Group], *, skip_devices: bool, rootless: bool
) -> V1Manager | V2Manager:
    if mode == "v2":
        from libpycontainer.cgroups.v2 import V2Manager

        return V2Manager(groups[0], skip_devices=skip_devices, rootless=rootless)
    from libpycontainer.cgroups.v1 import V1Manager

    return V1Manager(groups, skip_devices=skip_devices, rootless=rootless)


def _refuse_host(mode: str, user: bool) -> None:
    problem = ""
    if not os.path.isdir(BOOTED):
        problem = f"systemd is not running here (no {BOOTED}), so it cannot make the cgroups"
    elif mode == "none":
        problem = "no cgroups are mounted here for systemd to make one in"
    elif user and mode != "v2":
        problem = "a user's systemd cannot set limits on cgroup v1: it needs v2"
    if problem:
        raise UnsupportedError(problem, op="place", path=BOOTED, errno=errno.EOPNOTSUPP)
