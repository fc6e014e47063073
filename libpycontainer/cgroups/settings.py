"""PURE: ``linux.resources`` as the control files of v1 and of v2, each with its JSON path.

Zero and absent mean "leave alone" where runc takes them so. A field that the cgroup version
cannot express raises :class:`~libpycontainer.errors.CgroupError`, naming it.
Sources: runtime-spec config-linux.md#control-groups; kernel admin-guide/cgroup-v1, cgroup-v2.
"""

from __future__ import annotations

from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from libpycontainer.spec.models import (
        LinuxBlockIO,
        LinuxCPU,
        LinuxMemory,
        LinuxNetwork,
        LinuxResources,
    )

_PREFIX = "$.linux.resources."
_DEFAULT_PERIOD = 100_000  # microseconds, kernel cgroup-v2.rst, cpu.max
_MIN_SHARES, _MAX_SHARES = 2, 262_144  # kernel/sched/core.c


class Setting:
    """One value for one control file.

    ``fallback`` is another file and value to use where ``file`` does not exist; ``optional``
    says that a missing file changes nothing for the container.
    """

    __slots__ = ("controller", "fallback", "field", "file", "optional", "value")

    def __init__(
        self,
        controller: str,
        file: str,
        value: object,
        field: str,
        *,
        fallback: tuple[str, str] | None = None,
        optional: bool = False,
    ) -> None:
        self.controller = controller
        self.file = file
        self.value = str(value)
        self.field = _PREFIX + field
        self.fallback = fallback
        self.optional = optional

    def instead(self, file: str, value: str) -> Setting:
        """The same field's value for another file, or another value."""
        return Setting(self.controller, file, value, self.field[len(_PREFIX) :], optional=True)

    @property
    def what(self) -> str:
        """``memory limit``, for the sentence of an error."""
        return self.field[len(_PREFIX) :].replace(".", " ")

    def __repr__(self) -> str:
        return f"Setting({self.file!r}, {self.value!r})"


def v1(resources: LinuxResources, *, explicit: bool = False) -> list[Setting]:
    """The settings for v1's hierarchies, in the order of writing.

    With ``explicit`` also what is off in a new group, so that it can be switched off again.
    """
    found: list[Setting] = []
    if resources.cpu is not None:
        found += _cpu_v1(resources.cpu)
    if resources.memory is not None:
        found += _memory_v1(resources.memory)
        if explicit and resources.memory.disable_oom_killer is False:
            found.append(Setting("memory", "memory.oom_control", 0, "memory.disableOOMKiller"))
    found += _pids(resources)
    if resources.block_io is not None:
        found += _block_io_v1(resources.block_io)
    found += _hugepages(resources, ".limit_in_bytes")
    if resources.network is not None:
        found += _network_v1(resources.network)
    found += _rdma(resources)
    return found


def v2(resources: LinuxResources) -> list[Setting]:
    """The settings for a v2 group, in the order of writing; ``unified`` is last and so wins."""
    found: list[Setting] = []
    if resources.cpu is not None:
        found += _cpu_v2(resources.cpu)
    if resources.memory is not None:
        found += _memory_v2(resources.memory)
    found += _pids(resources)
    if resources.block_io is not None:
        found += _block_io_v2(resources.block_io)
    found += _hugepages(resources, ".max")
    if resources.network is not None:
        for setting in _network_v1(resources.network):
            raise _inexpressible(setting.field, "has no network controllers")
    found += _rdma(resources)
    return found + unified(resources)


def in_either(resources: LinuxResources) -> list[Setting]:
    """The settings for v2's files of fields that mean the same in either version.

    A host that has v1 hierarchies may have their controllers in the unified one.
    """
    return [*_hugepages(resources, ".max"), *_rdma(resources)]


def unified(resources: LinuxResources) -> list[Setting]:
    """The v2 files that the config names itself."""
    found = []
    for file, value in (resources.unified or {}).items():
        field = f"unified[{file!r}]"
        controller, dot, parameter = file.partition(".")
        if "/" in file or not (controller and dot and parameter):
            raise CgroupError(
                f"{_PREFIX}{field}: must be a file name of the form CONTROLLER.PARAMETER",
                op="apply",
                path=file,
            )
        # Files that list devices take one line at a time.
        found += [Setting(controller, file, line, field) for line in value.split("\n") if line]
    return found


def weight_from_shares(shares: int) -> int:
    """v1's cpu.shares [2..262144] as v2's cpu.weight [1..10000]; 0 means unset in both.

    The quadratic curve through minimum, default (1024 -> 100) and maximum that runc uses since
    1.3.2 (opencontainers/runc pull 4785), instead of the straight line before it.
    """
    if shares <= 0:
        return 0
    if shares <= _MIN_SHARES:
        return 1
    if shares >= _MAX_SHARES:
        return 10_000
    from math import ceil, log2

    power = log2(shares)
    return ceil(10 ** ((power * power + 125 * power) / 612.0 - 7.0 / 34.0))


def io_weight_from_blkio(weight: int) -> int:
    """v1's blkio.weight [10..1000] as v2's io.weight [1..10000]; 0 means unset in both."""
    return 0 if weight == 0 else 1 + (weight - 10) * 9999 // 990


def swap_from_memory_and_swap(limit: int, swap: int) -> int | None:
    """v2's swap alone from v1's memory plus swap; -1 is unlimited, ``None`` leave alone."""
    if swap == 0:
        return -1 if limit == -1 else None
    if swap == -1 or limit == -1:
        return swap
    field = _PREFIX + "memory.swap"
    if limit == 0:
        raise CgroupError(f"{field}: needs a memory limit beside it", op="apply")
    if swap < limit:
        raise CgroupError(
            f"{field}: {swap} is below the memory limit {limit}, which it includes", op="apply"
        )
    return swap - limit


def _cpu_v1(cpu: LinuxCPU) -> Iterator[Setting]:
    if cpu.cpus:
        yield Setting("cpuset", "cpuset.cpus", cpu.cpus, "cpu.cpus")
    if cpu.mems:
        yield Setting("cpuset", "cpuset.mems", cpu.mems, "cpu.mems")
    if cpu.realtime_period:
        yield Setting("cpu", "cpu.rt_period_us", cpu.realtime_period, "cpu.realtimePeriod")
    if cpu.realtime_runtime:
        yield Setting("cpu", "cpu.rt_runtime_us", cpu.realtime_runtime, "cpu.realtimeRuntime")
    if cpu.idle is not None:
        yield Setting("cpu", "cpu.idle", cpu.idle, "cpu.idle")
    if cpu.shares:
        # The kernel clamps silently; the config would lie about the container.
        if not _MIN_SHARES <= cpu.shares <= _MAX_SHARES:
            raise CgroupError(
                f"{_PREFIX}cpu.shares: {cpu.shares} is not within"
                f" {_MIN_SHARES} and {_MAX_SHARES}, the kernel's limits",
                op="apply",
                path="cpu.shares",
            )
        # An idle group's shares are fixed by the kernel.
        if cpu.idle != 1:
            yield Setting("cpu", "cpu.shares", cpu.shares, "cpu.shares")
    if cpu.period:
        yield Setting("cpu", "cpu.cfs_period_us", cpu.period, "cpu.period")
    if cpu.burst is not None:
        yield Setting("cpu", "cpu.cfs_burst_us", cpu.burst, "cpu.burst")
    if cpu.quota:
        yield Setting("cpu", "cpu.cfs_quota_us", cpu.quota, "cpu.quota")


def _cpu_v2(cpu: LinuxCPU) -> Iterator[Setting]:
    if cpu.realtime_period or cpu.realtime_runtime:
        name = "realtimePeriod" if cpu.realtime_period else "realtimeRuntime"
        raise _inexpressible(_PREFIX + "cpu." + name, "cannot limit realtime scheduling")
    if cpu.cpus:
        yield Setting("cpuset", "cpuset.cpus", cpu.cpus, "cpu.cpus")
    if cpu.mems:
        yield Setting("cpuset", "cpuset.mems", cpu.mems, "cpu.mems")
    if cpu.idle is not None:
        yield Setting("cpu", "cpu.idle", cpu.idle, "cpu.idle")
    if cpu.shares and cpu.idle != 1:
        yield Setting("cpu", "cpu.weight", weight_from_shares(cpu.shares), "cpu.shares")
    if cpu.burst is not None:
        yield Setting("cpu", "cpu.max.burst", cpu.burst, "cpu.burst")
    if cpu.quota or cpu.period:
        quota = cpu.quota if cpu.quota and cpu.quota > 0 else "max"
        field = "cpu.quota" if cpu.quota else "cpu.period"
        yield Setting("cpu", "cpu.max", f"{quota} {cpu.period or _DEFAULT_PERIOD}", field)


def _memory_v1(memory: LinuxMemory) -> Iterator[Setting]:
    swap = memory.swap
    if memory.limit:
        yield Setting("memory", "memory.limit_in_bytes", memory.limit, "memory.limit")
    if swap or memory.limit == -1:
        # Unlimited memory with swap not mentioned: swap included, where the kernel counts it.
        value, unsaid = swap or -1, not swap
        file = "memory.memsw.limit_in_bytes"
        yield Setting("memory", file, value, "memory.swap", optional=unsaid)
    if memory.reservation:
        file = "memory.soft_limit_in_bytes"
        yield Setting("memory", file, memory.reservation, "memory.reservation")
    if memory.kernel_tcp:
        file = "memory.kmem.tcp.limit_in_bytes"
        yield Setting("memory", file, memory.kernel_tcp, "memory.kernelTCP")
    if memory.disable_oom_killer:
        yield Setting("memory", "memory.oom_control", 1, "memory.disableOOMKiller")
    if memory.use_hierarchy:
        yield Setting("memory", "memory.use_hierarchy", 1, "memory.useHierarchy", optional=True)
    # -1 was docker's way to say "not set".
    if memory.swappiness is not None and memory.swappiness != -1:
        yield Setting("memory", "memory.swappiness", memory.swappiness, "memory.swappiness")


def _memory_v2(memory: LinuxMemory) -> Iterator[Setting]:
    for name, value in (
        ("swappiness", memory.swappiness not in (None, -1)),
        ("kernelTCP", memory.kernel_tcp not in (None, 0, -1)),
        ("disableOOMKiller", memory.disable_oom_killer),
    ):
        if value:
            raise _inexpressible(f"{_PREFIX}memory.{name}", "has no such setting")
    swap = swap_from_memory_and_swap(memory.limit or 0, memory.swap or 0)
    if swap is not None:
        # A kernel that counts no swap gives none, and limits none, as asked.
        optional = swap in (-1, 0)
        field = "memory.swap" if memory.swap else "memory.limit"
        yield Setting("memory", "memory.swap.max", _limit(swap), field, optional=optional)
    if memory.limit:
        yield Setting("memory", "memory.max", _limit(memory.limit), "memory.limit")
    if memory.reservation:
        yield Setting("memory", "memory.low", _limit(memory.reservation), "memory.reservation")


def _pids(resources: LinuxResources) -> Iterator[Setting]:
    if resources.pids is None or resources.pids.limit is None:
        return
    limit = resources.pids.limit
    # systemd knows no TasksMax=0; runc writes 1 for it everywhere, which forbids as much.
    value = limit if limit > 0 else 1 if limit == 0 else "max"
    yield Setting("pids", "pids.max", value, "pids.limit")


_THROTTLES = (
    ("throttle_read_bps_device", "throttleReadBpsDevice", "read_bps_device", "rbps"),
    ("throttle_write_bps_device", "throttleWriteBpsDevice", "write_bps_device", "wbps"),
    ("throttle_read_iops_device", "throttleReadIOPSDevice", "read_iops_device", "riops"),
    ("throttle_write_iops_device", "throttleWriteIOPSDevice", "write_iops_device", "wiops"),
)


def _block_io_v1(block: LinuxBlockIO) -> Iterator[Setting]:
    if block.weight:
        bfq = ("blkio.bfq.weight", str(block.weight))
        yield Setting("blkio", "blkio.weight", block.weight, "blockIO.weight", fallback=bfq)
    if block.leaf_weight:
        yield Setting("blkio", "blkio.leaf_weight", block.leaf_weight, "blockIO.leafWeight")
    for index, device in enumerate(block.weight_device or ()):
        field = f"blockIO.weightDevice[{index}]"
        node = f"{device.major}:{device.minor}"
        if device.weight:
            value = f"{node} {device.weight}"
            bfq = ("blkio.bfq.weight_device", value)
            yield Setting("blkio", "blkio.weight_device", value, field + ".weight", fallback=bfq)
        if device.leaf_weight:
            value = f"{node} {device.leaf_weight}"
            yield Setting("blkio", "blkio.leaf_weight_device", value, field + ".leafWeight")
    for attribute, name, file, _ in _THROTTLES:
        for index, device in enumerate(getattr(block, attribute) or ()):
            value = f"{device.major}:{device.minor} {device.rate or 0}"
            yield Setting("blkio", f"blkio.throttle.{file}", value, f"blockIO.{name}[{index}]")


def _block_io_v2(block: LinuxBlockIO) -> Iterator[Setting]:
    if block.leaf_weight:
        raise _inexpressible(_PREFIX + "blockIO.leafWeight", "has no such setting")
    if block.weight:
        plain = ("io.weight", str(io_weight_from_blkio(block.weight)))
        yield Setting("io", "io.bfq.weight", block.weight, "blockIO.weight", fallback=plain)
    for index, device in enumerate(block.weight_device or ()):
        field = f"blockIO.weightDevice[{index}]"
        if device.leaf_weight:
            raise _inexpressible(f"{_PREFIX}{field}.leafWeight", "has no such setting")
        if device.weight:
            node = f"{device.major}:{device.minor}"
            plain = ("io.weight", f"{node} {io_weight_from_blkio(device.weight)}")
            value = f"{node} {device.weight}"
            yield Setting("io", "io.bfq.weight", value, field + ".weight", fallback=plain)
    for attribute, name, _, key in _THROTTLES:
        for index, device in enumerate(getattr(block, attribute) or ()):
            value = f"{device.major}:{device.minor} {key}={device.rate or 'max'}"
            yield Setting("io", "io.max", value, f"blockIO.{name}[{index}]")


def _hugepages(resources: LinuxResources, suffix: str) -> Iterator[Setting]:
    for index, page in enumerate(resources.hugepage_limits or ()):
        field = f"hugepageLimits[{index}].limit"
        file = f"hugetlb.{page.page_size}"
        yield Setting("hugetlb", file + suffix, page.limit, field)
        # Reservation limits exist since Linux 5.7.
        yield Setting("hugetlb", f"{file}.rsvd{suffix}", page.limit, field, optional=True)


def _network_v1(network: LinuxNetwork) -> Iterator[Setting]:
    if network.class_id:
        yield Setting("net_cls", "net_cls.classid", network.class_id, "network.classID")
    for index, priority in enumerate(network.priorities or ()):
        value = f"{priority.name} {priority.priority}"
        yield Setting("net_prio", "net_prio.ifpriomap", value, f"network.priorities[{index}]")


def _rdma(resources: LinuxResources) -> Iterator[Setting]:
    for device, limit in (resources.rdma or {}).items():
        value = device
        if limit.hca_handles is not None:
            value += f" hca_handle={limit.hca_handles}"
        if limit.hca_objects is not None:
            value += f" hca_object={limit.hca_objects}"
        if value != device:
            yield Setting("rdma", "rdma.max", value, f"rdma[{device!r}]")


def _limit(value: int) -> str:
    return "max" if value == -1 else str(value)


def _inexpressible(field: str, reason: str) -> CgroupError:
    return CgroupError(f"{field}: cgroup v2 {reason}", op="apply", path=field)
