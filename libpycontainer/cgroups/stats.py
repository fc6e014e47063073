"""What the kernel counted for a container: times in nanoseconds, sizes in bytes.

``None`` stands for what this host does not count (a controller that is not there), and for a
limit that is not set. Sources: kernel admin-guide/cgroup-v1/{cpuacct,cpusets,memory,pids,
blkio-controller,hugetlb,rdma}, admin-guide/cgroup-v2, accounting/psi.
"""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen
class Throttling:
    """How often the cpu quota was used up: periods, periods cut short, time spent stopped (ns)."""

    periods: int = 0
    throttled_periods: int = 0
    throttled: int = 0


@attrs.frozen
class Pressure:
    """One line of a PSI file: shares of time lost, in percent, and the total in nanoseconds."""

    avg10: float
    avg60: float
    avg300: float
    total: int


@attrs.frozen
class PressureStats:
    """Time in which some, or all (``full``), of the processes waited for the resource."""

    some: Pressure | None = None
    full: Pressure | None = None


@attrs.frozen
class CPUStats:
    """CPU time used, in nanoseconds; ``per_cpu``, ``per_cpu_user``, ``per_cpu_system`` on v1 only.

    They have an entry for each CPU that the host might have, in their order.
    """

    usage: int
    user: int | None = None
    system: int | None = None
    per_cpu: tuple[int, ...] | None = None
    per_cpu_user: tuple[int, ...] | None = None
    per_cpu_system: tuple[int, ...] | None = None
    throttling: Throttling | None = None
    pressure: PressureStats | None = None


@attrs.frozen
class CpusetStats:
    """The CPUs and memory nodes that may be used, by number.

    ``flags`` has v1's switches (``cpu_exclusive`` ... without the "cpuset."), ``None`` on v2.
    """

    cpus: tuple[int, ...]
    mems: tuple[int, ...]
    flags: dict[str, int] | None = None


@attrs.frozen
class MemoryCounter:
    """One of v1's counters of a part of the memory, in bytes; ``failures`` is a number."""

    usage: int
    limit: int | None = None
    max_usage: int | None = None
    failures: int | None = None


@attrs.frozen
class MemoryStats:
    """Memory in bytes.

    ``swap``, its limit and its peak count swap alone on v2, memory plus swap on v1 (the kernel's
    own meaning in each). ``failures`` and ``swap_failures`` count how often the limit was hit,
    ``oom_kills`` processes killed. ``kernel`` and ``kernel_tcp`` are parts of the usage: the
    kernel's own memory, and TCP's buffers; v2 knows only how much the first is. ``detail`` is
    memory.stat, whole; ``events`` is v2's memory.events.
    """

    usage: int
    limit: int | None = None
    max_usage: int | None = None
    swap: int | None = None
    swap_limit: int | None = None
    swap_max_usage: int | None = None
    swap_failures: int | None = None
    failures: int | None = None
    oom_kills: int | None = None
    kernel: MemoryCounter | None = None
    kernel_tcp: MemoryCounter | None = None
    events: dict[str, int] | None = None
    detail: dict[str, int] = attrs.Factory(dict)
    pressure: PressureStats | None = None


@attrs.frozen
class PidsStats:
    """Tasks (threads count) alive and allowed; ``limit`` ``None`` is unlimited."""

    current: int
    limit: int | None = None


@attrs.frozen
class DeviceIO:
    """What went to and from one block device: bytes and operations.

    Reads, writes and discards add up to the whole. v1 also tells how much of it was synchronous
    (``syncs``) and how much was not; these are ``None`` on v2.
    """

    major: int
    minor: int
    read_bytes: int = 0
    write_bytes: int = 0
    reads: int = 0
    writes: int = 0
    discard_bytes: int = 0
    discards: int = 0
    sync_bytes: int | None = None
    async_bytes: int | None = None
    syncs: int | None = None
    asyncs: int | None = None


@attrs.frozen
class IOStats:
    """Block I/O by device."""

    devices: tuple[DeviceIO, ...] = ()
    pressure: PressureStats | None = None


@attrs.frozen
class HugepageStats:
    """Huge pages of one size ("2MB"), in bytes; ``reserved`` counts what was set aside by mmap.

    ``failures`` counts allocations that the limit forbade; ``max_usage`` on v1 only.
    """

    usage: int
    limit: int | None = None
    max_usage: int | None = None
    failures: int | None = None
    reserved: int | None = None
    reserved_limit: int | None = None


@attrs.frozen
class RdmaStats:
    """Handles and objects of one RDMA device in use, and how many may be."""

    handles: int = 0
    objects: int = 0
    handles_limit: int | None = None
    objects_limit: int | None = None


@attrs.frozen
class NetworkInterface:
    """One network interface, as seen from inside: bytes and packets since it was made."""

    name: str
    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


@attrs.frozen
class Stats:
    """One measurement of a container; each part is ``None`` where its controller is absent.

    ``hugepages`` goes by page size, ``rdma`` by device. ``network`` is ``None`` for a container
    in the caller's own network namespace: the interfaces there are not its own.
    """

    cpu: CPUStats | None = None
    cpuset: CpusetStats | None = None
    memory: MemoryStats | None = None
    pids: PidsStats | None = None
    io: IOStats | None = None
    hugepages: dict[str, HugepageStats] | None = None
    rdma: dict[str, RdmaStats] | None = None
    network: tuple[NetworkInterface, ...] | None = None

    def evolve(self, **changes: Any) -> Stats:
        """A copy with some parts changed."""
        return attrs.evolve(self, **changes)
