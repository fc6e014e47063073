"""The cgroup: its path, and limits that the kernel, or the cgroup manager, would refuse."""

from __future__ import annotations

from libpycontainer.errors import Problem
from libpycontainer.spec.leaves import child
from libpycontainer.validate.process import is_cpu_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from libpycontainer.host import Facts
    from libpycontainer.spec.models import LinuxResources, Spec

    ResourceCheck = Callable[[LinuxResources, Facts, str], Iterator[Problem]]

PERIOD_MIN, PERIOD_MAX = 1_000, 1_000_000
QUOTA_MIN = 1_000
"""Microseconds (kernel/sched/core.c: min_cfs_quota_period, max_cfs_quota_period)."""


def cgroups_path(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config-linux.md#cgroups-path: a path that leaves its parent is refused."""
    path = spec.linux.cgroups_path if spec.linux else None
    if path and ".." in path.split("/"):
        yield Problem("$.linux.cgroupsPath", f"{path!r} must not contain '..'")


def memory(resources: LinuxResources, facts: Facts, path: str) -> Iterator[Problem]:
    """config-linux.md#memory: bytes or -1; swap counts memory and swap together."""
    limits = resources.memory
    if limits is None:
        return
    here = f"{path}.memory"
    for name, value in (
        ("limit", limits.limit),
        ("reservation", limits.reservation),
        ("swap", limits.swap),
    ):
        if value is not None and value < -1:
            yield Problem(f"{here}.{name}", f"{value} is neither a number of bytes nor -1")
    limit, swap = limits.limit or 0, limits.swap or 0
    if swap > 0:
        if limit == 0:
            yield Problem(f"{here}.swap", "cannot be limited without a memory limit")
        elif limit > swap or limit == -1:
            message = f"{swap} is less than the memory limit, which it includes"
            yield Problem(f"{here}.swap", message)
    if limits.swappiness is not None and limits.swappiness > 100:
        yield Problem(f"{here}.swappiness", f"{limits.swappiness} is not between 0 and 100")
    if limits.kernel is not None:
        message = "kernel memory cannot be limited any more, ignored"
        yield Problem(f"{here}.kernel", message, warning=True)
    if limits.use_hierarchy is False:
        message = "memory is always accounted for hierarchically, ignored"
        yield Problem(f"{here}.useHierarchy", message, warning=True)


def cpu(resources: LinuxResources, facts: Facts, path: str) -> Iterator[Problem]:
    """config-linux.md#cpu: bandwidth within what the scheduler takes, and lists that parse."""
    limits = resources.cpu
    if limits is None:
        return
    here = f"{path}.cpu"
    if limits.period and not PERIOD_MIN <= limits.period <= PERIOD_MAX:
        message = f"{limits.period} is not between {PERIOD_MIN} and {PERIOD_MAX} microseconds"
        yield Problem(f"{here}.period", message)
    quota = limits.quota or 0
    if 0 < quota < QUOTA_MIN:
        yield Problem(f"{here}.quota", f"{quota} is less than {QUOTA_MIN} microseconds")
    if limits.burst and 0 < quota < limits.burst:
        yield Problem(f"{here}.burst", f"{limits.burst} is more than the quota {quota}")
    if limits.realtime_period and (limits.realtime_runtime or 0) > limits.realtime_period:
        message = f"{limits.realtime_runtime} is more than the period {limits.realtime_period}"
        yield Problem(f"{here}.realtimeRuntime", message)
    if limits.idle is not None and limits.idle not in (0, 1):
        yield Problem(f"{here}.idle", f"{limits.idle} is neither 0 nor 1")
    for name, value in (("cpus", limits.cpus), ("mems", limits.mems)):
        if value and not is_cpu_list(value):
            yield Problem(f"{here}.{name}", f"{value!r} is not a list such as 0-3,7")


def block_io(resources: LinuxResources, facts: Facts, path: str) -> Iterator[Problem]:
    """config-linux.md#block-io: weights from 10 to 1000, 0 for none."""
    limits = resources.block_io
    if limits is None:
        return
    here = f"{path}.blockIO"
    weights = [("weight", limits.weight), ("leafWeight", limits.leaf_weight)]
    for index, device in enumerate(limits.weight_device or ()):
        weights.append((f"weightDevice[{index}].weight", device.weight))
        weights.append((f"weightDevice[{index}].leafWeight", device.leaf_weight))
    for name, weight in weights:
        if weight and not 10 <= weight <= 1000:
            yield Problem(f"{here}.{name}", f"{weight} is not between 10 and 1000")


def devices(resources: LinuxResources, facts: Facts, path: str) -> Iterator[Problem]:
    """config-linux.md#allowed-device-list: a kind of device and what may be done to it."""
    for index, rule in enumerate(resources.devices or ()):
        here = f"{path}.devices[{index}]"
        if rule.type and rule.type not in ("a", "b", "c"):
            yield Problem(f"{here}.type", f"{rule.type!r} is not one of a, b, c")
        if not rule.access:
            yield Problem(f"{here}.access", "must not be empty")
        elif not set(rule.access) <= set("rwm"):
            yield Problem(f"{here}.access", f"{rule.access!r} is not made of r, w and m")
        for name, number in (("major", rule.major), ("minor", rule.minor)):
            if number is not None and number < -1:
                yield Problem(f"{here}.{name}", f"{number} is neither a device number nor -1")


def unified(resources: LinuxResources, facts: Facts, path: str) -> Iterator[Problem]:
    """config-linux.md#unified: files of the container's own group, on the unified hierarchy."""
    settings = resources.unified
    if not settings:
        return
    if facts.cgroup_mode in ("v1", "hybrid"):
        yield Problem(f"{path}.unified", "this host does not use the unified cgroup hierarchy")
    for name in settings:
        if "/" in name or "." not in name or "\0" in name:
            message = f"{name!r} is not the name of a cgroup file"
            yield Problem(child(f"{path}.unified", name), message)


RESOURCE_CHECKS: tuple[ResourceCheck, ...] = (memory, cpu, block_io, devices, unified)


def resources(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """Every check of limits, at ``$.linux.resources``."""
    if spec.linux is not None and spec.linux.resources is not None:
        for each in RESOURCE_CHECKS:
            yield from each(spec.linux.resources, facts, "$.linux.resources")


CHECKS = (cgroups_path, resources)
