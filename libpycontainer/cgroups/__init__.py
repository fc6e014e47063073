"""Control groups: where a container's processes are counted, limited, paused and killed.

hierarchies.py   what is mounted on this host, and where the caller itself sits
placement.py     PURE: cgroupsPath + id -> a path in each hierarchy
protocol.py      what every manager can do (for type checkers and readers)
v1.py v2.py none.py   the managers: v1 and hybrid, v2, and no group at all
entering.py           the groups for a process that asks for one below the container's
systemd.py            a unit of systemd's, around one of those
systemd_opening.py    which unit, on which systemd; the manager again from a record
systemd_names.py      PURE: cgroupsPath -> the unit, and the group that systemd makes for it
systemd_properties.py PURE: settings and device rules as properties of the unit
systemd_annotations.py PURE: org.systemd.property.* as properties of the unit
systemd_bus.py        the connection (jeepney; imported by nobody who does not use systemd)
applying.py members.py what they share: limits put in force; processes joined and killed
dividing.py           v2: controllers for the groups below, and processes moved out of the way
files.py tree.py      one way to read and write a file, to make and remove a directory
freezer.py            pause and resume, never half
settings.py           PURE: linux.resources -> (controller, file, value, JSON path)
writer.py             writes them in an order that the kernel takes; all of them or none
restoring.py          PURE: what to write to a file so that it says again what it says now
devices.py            PURE: device rules, their eBPF program, their v1 exceptions
device_filter.py      loads and attaches the program; writes the exceptions
stats.py              typed measurements (attrs; never imported by a cold command line)
measuring.py          reads them
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from libpycontainer.cgroups.hierarchies import Hierarchy
    from libpycontainer.cgroups.protocol import HostFacts, Manager

__all__ = ["MANAGERS", "load_manager", "open_manager", "open_manager_below"]

MANAGERS = ("v1", "v2", "systemd", "systemd user")
"""What there is a manager for; the features document says the same."""


def open_manager(
    cgroups_path: str | None,
    container_id: str,
    facts: HostFacts,
    *,
    parent: str | None = None,
    rootless: bool = False,
    systemd: bool = False,
    annotations: Mapping[str, str] | None = None,
    found: Sequence[Hierarchy] | None = None,
) -> Manager:
    """Decide where a container's cgroups will be. Nothing is created yet.

    ``cgroups_path`` is the config's ``linux.cgroupsPath``: absolute paths start at each
    hierarchy's mount, relative ones at the caller's own group; when it is absent the group is
    ``<parent or the caller's own group>/<container_id>``. ``found`` replaces what
    :func:`libpycontainer.cgroups.hierarchies.hierarchies` reads off the host.

    A ``rootless`` caller without a path of its own choosing gets only the hierarchies in which
    it may make a group, under ``parent`` or else under its own group; where there are none, a
    manager that joins nothing and refuses limits.

    With ``systemd`` the group is that of a unit, ``cgroups_path`` reads ``slice:prefix:name``, and
    ``annotations`` may have properties for the unit. A ``rootless`` caller's own systemd makes it.

    Raises :class:`~libpycontainer.errors.CgroupError` for a path that cannot be used,
    :class:`~libpycontainer.errors.UnsupportedError` where there is no systemd to ask.
    Source: runtime-spec config-linux.md#cgroups-path; runc's cgroupfs and systemd drivers.
    """
    from libpycontainer.cgroups import hierarchies, placement

    mode = facts.cgroup_mode
    mounted = hierarchies.hierarchies() if found is None else tuple(found)
    if systemd:
        from libpycontainer.cgroups.systemd_opening import open_systemd

        return open_systemd(
            cgroups_path,
            container_id,
            facts,
            mounted,
            rootless=rootless,
            annotations=annotations,
        )
    if rootless and not cgroups_path:
        groups = placement.delegated(mounted, mode, container_id, parent)
    else:
        groups = placement.place(mounted, mode, cgroups_path, container_id, parent)
    skip_devices = rootless or facts.in_user_namespace
    return _manager(mode, groups, skip_devices, rootless)


def open_manager_below(parent: Manager, path: str) -> Manager:
    """The same for a container inside of another: ``path`` counts from that one's groups.

    It is in every hierarchy that ``parent`` is in, and in no other.
    Raises :class:`~libpycontainer.errors.CgroupError` for a path that names no group below.
    """
    from libpycontainer.cgroups import placement

    record = parent.record()
    groups = tuple(placement.below(placement.Group.load(entry), path) for entry in record["groups"])
    return _manager(record["mode"], groups, record["skip_devices"], record["rootless"])


def load_manager(record: dict[str, Any]) -> Manager:
    """Take up a manager again from :meth:`Manager.record`, in this or in another process."""
    from libpycontainer.cgroups.placement import Group

    if "systemd" in record:
        from libpycontainer.cgroups.systemd_opening import load_systemd

        return load_systemd(record)
    groups = tuple(Group.load(entry) for entry in record["groups"])
    return _manager(record["mode"], groups, record["skip_devices"], record["rootless"])


def _manager(mode: str, groups: Sequence[Any], skip_devices: bool, rootless: bool) -> Manager:
    if not groups:
        from libpycontainer.cgroups.none import NoManager

        return NoManager(rootless=rootless)
    if mode == "v2":
        from libpycontainer.cgroups.v2 import V2Manager

        return V2Manager(groups[0], skip_devices=skip_devices, rootless=rootless)
    from libpycontainer.cgroups.v1 import V1Manager

    return V1Manager(groups, skip_devices=skip_devices, rootless=rootless)
