"""PURE: whose the container's cgroups are, and what the container's ids are on the host."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from libpycontainer.host import Facts
    from libpycontainer.spec.models import LinuxIDMapping, Mount, Spec


def host_id(mappings: Sequence[LinuxIDMapping], id: int) -> int | None:
    """What a container's id is on the host; ``None`` for one that is not mapped."""
    for mapping in mappings:
        if mapping.container_id <= id < mapping.container_id + mapping.size:
            return mapping.host_id + id - mapping.container_id
    return None


def cgroup_owner(spec: Spec, facts: Facts) -> int | None:
    """The host's uid that the container's cgroup is for; ``None`` where it stays its maker's.

    The container's user gets it if he sees it and nothing above it (a new cgroup namespace), and
    may write to it there (a writable mount); and if the caller may give anything away. Of a
    user namespace that is joined the maps are not known.
    Source: runtime-spec config-linux.md#cgroup-ownership.
    """
    linux = spec.linux
    if linux is None or not _has_own_cgroups(spec):
        return None
    uid = (spec.process.user.uid if spec.process and spec.process.user else 0) or 0
    if any(each.type == "user" for each in linux.namespaces or ()):
        owner = host_id(linux.uid_mappings or (), uid)
    else:
        owner = uid
    return owner if facts.privileged and owner != facts.euid else None


def _has_own_cgroups(spec: Spec) -> bool:
    assert spec.linux is not None
    namespaces = spec.linux.namespaces or ()
    return any(each.type == "cgroup" and not each.path for each in namespaces) and any(
        _shows_cgroups(each) for each in spec.mounts or ()
    )


def _shows_cgroups(mount: Mount) -> bool:
    destination = "/" + "/".join(part for part in mount.destination.split("/") if part)
    return (
        mount.source == "cgroup"
        and destination == "/sys/fs/cgroup"
        and not {"ro", "rro"} & set(mount.options or ())
    )
