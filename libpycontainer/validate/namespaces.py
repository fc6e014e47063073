"""Namespaces and what depends on them: id mappings, clocks, sysctls, network devices, names."""

from __future__ import annotations

import os

from libpycontainer.errors import Problem
from libpycontainer.spec.leaves import child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from libpycontainer.host import Facts
    from libpycontainer.spec.models import LinuxIDMapping, LinuxNamespace, Spec

IPC_SYSCTLS = frozenset(
    {
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shm_rmid_forced",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
    }
)
MAX_MAPPINGS = 340
"""Lines that the kernel takes into a uid_map (``man 7 user_namespaces``)."""
INTERFACE_NAME_MAX = 15


def namespaces_of(spec: Spec) -> dict[str, LinuxNamespace]:
    """The namespaces by type; the first of a type counts."""
    found: dict[str, LinuxNamespace] = {}
    for namespace in (spec.linux.namespaces if spec.linux else None) or ():
        found.setdefault(namespace.type, namespace)
    return found


def is_ours(path: str, file: str) -> bool:
    """Is ``path`` the namespace that this process is in? No, if it cannot be looked at."""
    try:
        return os.path.samefile(path, f"/proc/self/ns/{file}")
    except (OSError, ValueError):
        return False


def namespaces(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config-linux.md#namespaces: each type once, known to the kernel, an absolute path."""
    seen = set()
    for index, namespace in enumerate((spec.linux.namespaces if spec.linux else None) or ()):
        here = f"$.linux.namespaces[{index}]"
        if namespace.type not in facts.namespaces:
            message = f"this kernel does not have {namespace.type} namespaces"
            yield Problem(f"{here}.type", message)
        if namespace.type in seen:
            yield Problem(f"{here}.type", f"namespace {namespace.type} is given twice")
        seen.add(namespace.type)
        if namespace.path and not namespace.path.startswith("/"):
            yield Problem(f"{here}.path", f"{namespace.path!r} is not an absolute path")


def names(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """Host and domain name are not the host's to change."""
    if "uts" not in namespaces_of(spec):
        for name, value in (("hostname", spec.hostname), ("domainname", spec.domainname)):
            if value:
                yield Problem(f"$.{name}", "cannot be set without a uts namespace")


def mappings(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config-linux.md#user-namespace-mappings, and what a user namespace cannot be without."""
    linux = spec.linux
    if linux is None:
        return
    namespace = namespaces_of(spec).get("user")
    for path, ranges in (
        ("$.linux.uidMappings", linux.uid_mappings),
        ("$.linux.gidMappings", linux.gid_mappings),
    ):
        if ranges and namespace is None:
            yield Problem(path, "id mappings are given, but no user namespace")
        elif ranges and namespace and namespace.path:
            message = "the user namespace to join has mappings of its own, which count"
            yield Problem(path, message, warning=True)
        elif namespace and not namespace.path:
            if not ranges:
                yield Problem(path, "a new user namespace needs at least one mapping")
            elif not is_mapped(0, ranges):
                yield Problem(path, "the container's id 0 is not mapped")
        yield from well_formed(ranges or (), path)


def well_formed(ranges: Sequence[LinuxIDMapping], path: str) -> Iterator[Problem]:
    """A set of ranges as the kernel takes it: not empty, within 32 bits, not overlapping."""
    if len(ranges) > MAX_MAPPINGS:
        # Nor is each compared with every other one then: thousands would take seconds.
        yield Problem(path, f"more than {MAX_MAPPINGS} mappings")
        return
    for index, each in enumerate(ranges):
        here = f"{path}[{index}]"
        if each.size == 0:
            yield Problem(f"{here}.size", "must not be 0")
        for name, first in (("containerID", each.container_id), ("hostID", each.host_id)):
            if first + each.size > 2**32:
                yield Problem(f"{here}.{name}", "the mapping ends beyond the last 32-bit id")
        for place, other in enumerate(ranges[:index]):
            if _overlap(each.container_id, each.size, other.container_id, other.size):
                yield Problem(f"{here}.containerID", f"overlaps with mapping {place}")
            if _overlap(each.host_id, each.size, other.host_id, other.size):
                yield Problem(f"{here}.hostID", f"overlaps with mapping {place}")


def _overlap(first: int, size: int, other: int, other_size: int) -> bool:
    return first < other + other_size and other < first + size


def is_mapped(container_id: int, ranges: Sequence[LinuxIDMapping]) -> bool:
    """Has the container's id a counterpart on the host?"""
    return any(each.container_id <= container_id < each.container_id + each.size for each in ranges)


def process_ids(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """A process cannot become somebody whom its user namespace does not have."""
    linux = spec.linux
    namespace = namespaces_of(spec).get("user")
    who = spec.process.user if spec.process else None
    if linux is None or who is None or namespace is None or namespace.path:
        return
    uids, gids = linux.uid_mappings or (), linux.gid_mappings or ()
    path = "$.process.user"
    if uids and not is_mapped(who.uid or 0, uids):
        yield Problem(f"{path}.uid", f"{who.uid} is not mapped in the user namespace")
    if gids and not is_mapped(who.gid or 0, gids):
        yield Problem(f"{path}.gid", f"{who.gid} is not mapped in the user namespace")
    for index, gid in enumerate(who.additional_gids or ()):
        if gids and not is_mapped(gid, gids):
            here = f"{path}.additionalGids[{index}]"
            yield Problem(here, f"{gid} is not mapped in the user namespace")


def time_offsets(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config-linux.md#offset-for-time-namespace: they belong to a namespace that is made here."""
    offsets = spec.linux.time_offsets if spec.linux else None
    if offsets is None:
        return
    path = "$.linux.timeOffsets"
    namespace = namespaces_of(spec).get("time")
    if namespace is None:
        yield Problem(path, "clock offsets are given, but no time namespace")
    elif namespace.path:
        yield Problem(path, "the clocks of a time namespace that is joined cannot be set")
    for name, offset in (("boottime", offsets.boottime), ("monotonic", offsets.monotonic)):
        if offset is not None and (offset.nanosecs or 0) >= 10**9:
            yield Problem(f"{path}.{name}.nanosecs", "must be less than one second")
    for name in offsets.extra or ():
        yield Problem(child(path, name), "not a clock that has an offset")


def dotted(name: str) -> str:
    """A sysctl's name with dots between its parts, whichever way it was written.

    As sysctl(8) reads it: the first separator decides, so ``net/ipv4/conf/eno2.100/mtu`` is
    ``net.ipv4.conf.eno2/100.mtu``.
    """
    slash, dot = name.find("/"), name.find(".")
    if slash < 0 or 0 <= dot < slash:
        return name
    return name.translate({ord("."): "/", ord("/"): "."})


def sysctls(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """A sysctl that does not belong to one of the container's namespaces is the host's."""
    present = namespaces_of(spec)
    for name in (spec.linux.sysctl if spec.linux else None) or ():
        message = _not_ours(dotted(name), present)
        if message:
            yield Problem(child("$.linux.sysctl", name), message)


def _not_ours(name: str, present: dict[str, LinuxNamespace]) -> str:
    if any(part.replace("/", ".") in ("", ".", "..") for part in name.split(".")):
        # Each part becomes a file name below /proc/sys: "net/../kernel" would leave it.
        return "is not the name of a sysctl"
    if name in IPC_SYSCTLS or name.startswith("fs.mqueue."):
        return "" if "ipc" in present else "is the host's without an ipc namespace"
    if name.startswith("net."):
        namespace = present.get("network")
        if namespace is None:
            return "is the host's without a network namespace"
        if namespace.path and is_ours(namespace.path, "net"):
            return "is the host's: the network namespace to join is the host's own"
        return ""
    if name == "kernel.domainname":
        return "" if "uts" in present else "is the host's without a uts namespace"
    if name == "kernel.hostname":
        return "conflicts with the field hostname, which is to be used"
    return "does not belong to a namespace, it would change the host"


def net_devices(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config-linux.md#network-devices: a namespace to move them to, and names the kernel takes."""
    devices = (spec.linux.net_devices if spec.linux else None) or {}
    if not devices:
        return
    path = "$.linux.netDevices"
    namespace = namespaces_of(spec).get("network")
    if namespace is None:
        yield Problem(path, "network devices cannot be moved without a network namespace")
    elif namespace.path and is_ours(namespace.path, "net"):
        yield Problem(path, "the network namespace to join is the host's own")
    if facts.euid != 0:
        yield Problem(path, "network devices cannot be moved without privilege")
    seen: dict[str, str] = {}
    for name, device in devices.items():
        here = child(path, name)
        if not is_interface_name(name):
            yield Problem(here, f"{name!r} cannot be the name of a network device")
        if device.name and not is_interface_name(device.name):
            yield Problem(f"{here}.name", f"{device.name!r} cannot be the name of a network device")
        inside = device.name or name
        # The kernel puts a number for %d, a new one for each.
        if inside in seen and "%d" not in inside:
            yield Problem(here, f"{seen[inside]!r} has the name {inside!r} in the container too")
        seen[inside] = name


def is_interface_name(name: str) -> bool:
    """As the kernel's dev_valid_name."""
    if not name or len(os.fsencode(name)) > INTERFACE_NAME_MAX or name in (".", ".."):
        return False
    return not any(char in "/:" or char.isspace() for char in name)


def rootless(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """What a caller without privilege needs: a user namespace in which he is somebody."""
    if facts.euid == 0:
        return
    namespace = namespaces_of(spec).get("user")
    if namespace is None:
        message = "a container made without privilege needs a user namespace"
        yield Problem("$.linux.namespaces", message)
    elif not namespace.path and spec.linux is not None:
        for name, ranges, own in (
            ("uidMappings", spec.linux.uid_mappings or (), facts.euid),
            ("gidMappings", spec.linux.gid_mappings or (), facts.egid),
        ):
            mapped = any(each.host_id <= own < each.host_id + each.size for each in ranges)
            if ranges and not mapped:
                yield Problem(f"$.linux.{name}", f"the caller's own id {own} is not mapped")


CHECKS = (
    namespaces,
    names,
    mappings,
    process_ids,
    time_offsets,
    sysctls,
    net_devices,
    rootless,
)
