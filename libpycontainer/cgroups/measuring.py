"""Reading a container's measurements off its control files, and its network namespace.

Sources: kernel admin-guide/cgroup-v1/{cpuacct,cpusets,memory,pids,blkio-controller,hugetlb,rdma},
admin-guide/cgroup-v2, accounting/psi; man 5 proc_pid_net.
"""

from __future__ import annotations

import os

from libpycontainer.cgroups.files import number, pairs, read_optional
from libpycontainer.cgroups.stats import (
    CpusetStats,
    CPUStats,
    DeviceIO,
    HugepageStats,
    IOStats,
    MemoryCounter,
    MemoryStats,
    NetworkInterface,
    PidsStats,
    Pressure,
    PressureStats,
    RdmaStats,
    Stats,
    Throttling,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# v1 spells "no limit" as the largest page-aligned number of bytes.
_UNLIMITED = 1 << 62
_IO_KEYS = ("rbytes", "wbytes", "rios", "wios", "dbytes", "dios")
_CPUSET_FLAGS = (
    "cpu_exclusive",
    "mem_exclusive",
    "mem_hardwall",
    "memory_migrate",
    "memory_pressure",
    "memory_spread_page",
    "memory_spread_slab",
    "sched_load_balance",
    "sched_relax_domain_level",
)


def from_v1(paths: dict[str, str]) -> Stats:
    """Measure the v1 groups in ``paths`` (by controller); PSI comes from the unified one."""
    unified = paths.get("")
    return Stats(
        cpu=_cpu_v1(paths.get("cpuacct"), paths.get("cpu"), unified),
        cpuset=_cpuset(paths.get("cpuset"), "cpuset.effective_%s"),
        memory=_memory_v1(paths.get("memory"), unified),
        pids=_pids(paths.get("pids")),
        io=_io_v1(paths.get("blkio"), unified),
        hugepages=_hugepages(paths.get("hugetlb", unified)),
        rdma=_rdma(paths.get("rdma", unified)),
    )


def from_v2(directory: str) -> Stats:
    """Measure one v2 group."""
    return Stats(
        cpu=_cpu_v2(directory),
        cpuset=_cpuset(directory, "cpuset.%s.effective"),
        memory=_memory_v2(directory),
        pids=_pids(directory),
        io=_io_v2(directory),
        hugepages=_hugepages(directory),
        rdma=_rdma(directory),
    )


def _cpu_v1(accounting: str | None, cpu: str | None, unified: str | None) -> CPUStats | None:
    usage = number(_read(accounting, "cpuacct.usage"))
    if usage is None:
        return None
    # Ticks in cpuacct.stat, nanoseconds in the per-mode files of newer kernels (4.10).
    ticks = pairs(_read(accounting, "cpuacct.stat"))
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    user = number(_read(accounting, "cpuacct.usage_user"))
    system = number(_read(accounting, "cpuacct.usage_sys"))
    stat = pairs(_read(cpu, "cpu.stat"))
    return CPUStats(
        usage=usage,
        user=user if user is not None else ticks.get("user", 0) * tick,
        system=system if system is not None else ticks.get("system", 0) * tick,
        per_cpu=_numbers(_read(accounting, "cpuacct.usage_percpu")),
        per_cpu_user=_numbers(_read(accounting, "cpuacct.usage_percpu_user")),
        per_cpu_system=_numbers(_read(accounting, "cpuacct.usage_percpu_sys")),
        throttling=_throttling(stat, "throttled_time", 1),
        pressure=_pressure(unified, "cpu.pressure"),
    )


def _numbers(text: str | None) -> tuple[int, ...] | None:
    return tuple(map(int, text.split())) if text else None


def _cpu_v2(directory: str) -> CPUStats | None:
    stat = pairs(_read(directory, "cpu.stat"))
    if "usage_usec" not in stat:
        return None
    return CPUStats(
        usage=stat["usage_usec"] * 1000,
        user=stat.get("user_usec", 0) * 1000,
        system=stat.get("system_usec", 0) * 1000,
        throttling=_throttling(stat, "throttled_usec", 1000),
        pressure=_pressure(directory, "cpu.pressure"),
    )


def _throttling(stat: dict[str, int], key: str, unit: int) -> Throttling | None:
    if "nr_periods" not in stat:
        return None
    return Throttling(stat["nr_periods"], stat.get("nr_throttled", 0), stat.get(key, 0) * unit)


def _cpuset(directory: str | None, effective: str) -> CpusetStats | None:
    """What is in force: a v2 group's own files may be empty."""
    cpus, mems = _read(directory, effective % "cpus"), _read(directory, effective % "mems")
    if cpus is None or mems is None:
        return None
    flags = {name: number(_read(directory, f"cpuset.{name}")) for name in _CPUSET_FLAGS}
    known = {name: value for name, value in flags.items() if value is not None}
    return CpusetStats(_listed(cpus), _listed(mems), known or None)


def _listed(text: str) -> tuple[int, ...]:
    """``0-2,7`` as numbers."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first:
            found += range(int(first), int(last or first) + 1)
    return tuple(found)


def _memory_v1(directory: str | None, unified: str | None) -> MemoryStats | None:
    usage = number(_read(directory, "memory.usage_in_bytes"))
    if usage is None:
        return None
    return MemoryStats(
        usage=usage,
        limit=_limit_v1(directory, "memory.limit_in_bytes"),
        max_usage=number(_read(directory, "memory.max_usage_in_bytes")),
        swap=number(_read(directory, "memory.memsw.usage_in_bytes")),
        swap_limit=_limit_v1(directory, "memory.memsw.limit_in_bytes"),
        swap_max_usage=number(_read(directory, "memory.memsw.max_usage_in_bytes")),
        swap_failures=number(_read(directory, "memory.memsw.failcnt")),
        kernel=_counter_v1(directory, "memory.kmem"),
        kernel_tcp=_counter_v1(directory, "memory.kmem.tcp"),
        failures=number(_read(directory, "memory.failcnt")),
        oom_kills=pairs(_read(directory, "memory.oom_control")).get("oom_kill"),
        detail=pairs(_read(directory, "memory.stat")),
        pressure=_pressure(unified, "memory.pressure"),
    )


def _counter_v1(directory: str | None, prefix: str) -> MemoryCounter | None:
    usage = number(_read(directory, f"{prefix}.usage_in_bytes"))
    if usage is None:
        return None
    return MemoryCounter(
        usage,
        limit=_limit_v1(directory, f"{prefix}.limit_in_bytes"),
        max_usage=number(_read(directory, f"{prefix}.max_usage_in_bytes")),
        failures=number(_read(directory, f"{prefix}.failcnt")),
    )


def _memory_v2(directory: str) -> MemoryStats | None:
    usage = number(_read(directory, "memory.current"))
    if usage is None:
        return None
    events = pairs(_read(directory, "memory.events"))
    detail = pairs(_read(directory, "memory.stat"))
    return MemoryStats(
        usage=usage,
        limit=number(_read(directory, "memory.max")),
        max_usage=number(_read(directory, "memory.peak")),
        swap=number(_read(directory, "memory.swap.current")),
        swap_limit=number(_read(directory, "memory.swap.max")),
        swap_max_usage=number(_read(directory, "memory.swap.peak")),
        swap_failures=pairs(_read(directory, "memory.swap.events")).get("max"),
        kernel=MemoryCounter(detail["kernel"]) if "kernel" in detail else None,
        events=events,
        failures=events.get("max"),
        oom_kills=events.get("oom_kill"),
        detail=detail,
        pressure=_pressure(directory, "memory.pressure"),
    )


def _limit_v1(directory: str | None, file: str) -> int | None:
    limit = number(_read(directory, file))
    return None if limit is None or limit >= _UNLIMITED else limit


def _pids(directory: str | None) -> PidsStats | None:
    current = number(_read(directory, "pids.current"))
    if current is None:
        return None
    return PidsStats(current, number(_read(directory, "pids.max")))


def _io_v1(directory: str | None, unified: str | None) -> IOStats | None:
    # BFQ counts what it schedules, the throttling code everything; the recursive files first.
    for prefix in ("blkio.throttle", "blkio.bfq"):
        volume = _read(directory, f"{prefix}.io_service_bytes_recursive")
        if volume is not None:
            operations = _read(directory, f"{prefix}.io_serviced_recursive")
            devices = _merge(_blkio(volume), _blkio(operations or ""))
            return IOStats(devices, _pressure(unified, "io.pressure"))
    return None


def _blkio(text: str) -> dict[tuple[int, int], dict[str, int]]:
    """``8:0 Read 1282048`` lines."""
    found: dict[tuple[int, int], dict[str, int]] = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 3:
            major, minor = parts[0].split(":")
            found.setdefault((int(major), int(minor)), {})[parts[1]] = int(parts[2])
    return found


def _merge(
    volume: dict[tuple[int, int], dict[str, int]], operations: dict[tuple[int, int], dict[str, int]]
) -> tuple[DeviceIO, ...]:
    found = []
    for node in sorted({*volume, *operations}):
        size, count = volume.get(node, {}), operations.get(node, {})
        found.append(
            DeviceIO(
                *node,
                read_bytes=size.get("Read", 0),
                write_bytes=size.get("Write", 0),
                reads=count.get("Read", 0),
                writes=count.get("Write", 0),
                discard_bytes=size.get("Discard", 0),
                discards=count.get("Discard", 0),
                sync_bytes=size.get("Sync"),
                async_bytes=size.get("Async"),
                syncs=count.get("Sync"),
                asyncs=count.get("Async"),
            )
        )
    return tuple(found)


def _io_v2(directory: str) -> IOStats | None:
    text = _read(directory, "io.stat")
    if text is None:
        return None
    devices = []
    for line in text.splitlines():
        node, *parts = line.split()
        counts = dict(part.split("=", 1) for part in parts if "=" in part)
        major, minor = map(int, node.split(":"))
        devices.append(
            DeviceIO(
                major,
                minor,
                *(int(counts.get(key, 0)) for key in _IO_KEYS),
            )
        )
    return IOStats(tuple(devices), _pressure(directory, "io.pressure"))


def _hugepages(directory: str | None) -> dict[str, HugepageStats] | None:
    """By page size; v1 and v2 have files of different names, and each group all of its own."""
    found = {}
    for name in _names(directory):
        parts = name.split(".")
        if parts[0] != "hugetlb" or parts[2:] not in (["usage_in_bytes"], ["current"]):
            continue
        prefix, old = f"hugetlb.{parts[1]}", parts[2] == "usage_in_bytes"
        usage, limit = ("usage_in_bytes", "limit_in_bytes") if old else ("current", "max")
        failures = (
            number(_read(directory, f"{prefix}.failcnt"))
            if old
            else pairs(_read(directory, f"{prefix}.events")).get("max")
        )
        found[parts[1]] = HugepageStats(
            usage=number(_read(directory, f"{prefix}.{usage}")) or 0,
            limit=_limit_v1(directory, f"{prefix}.{limit}"),
            max_usage=number(_read(directory, f"{prefix}.max_usage_in_bytes")),
            failures=failures,
            reserved=number(_read(directory, f"{prefix}.rsvd.{usage}")),
            reserved_limit=_limit_v1(directory, f"{prefix}.rsvd.{limit}"),
        )
    return found or None


def _names(directory: str | None) -> list[str]:
    try:
        return [] if directory is None else sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def _rdma(directory: str | None) -> dict[str, RdmaStats] | None:
    current, limit = _read(directory, "rdma.current"), _read(directory, "rdma.max")
    if current is None:
        return None
    used, allowed = _rdma_rows(current), _rdma_rows(limit or "")
    return {
        name: RdmaStats(
            number(row.get("hca_handle")) or 0,
            number(row.get("hca_object")) or 0,
            number(allowed.get(name, {}).get("hca_handle")),
            number(allowed.get(name, {}).get("hca_object")),
        )
        for name, row in used.items()
    }


def _rdma_rows(text: str) -> dict[str, dict[str, str]]:
    """``mlx4_0 hca_handle=2 hca_object=max`` lines."""
    found = {}
    for line in text.splitlines():
        name, *parts = line.split()
        found[name] = dict(part.split("=", 1) for part in parts if "=" in part)
    return found


def _pressure(directory: str | None, file: str) -> PressureStats | None:
    text = _read(directory, file)
    if not text:
        return None
    found: dict[str, Pressure] = {}
    for line in text.splitlines():
        kind, *parts = line.split()
        values: dict[str, Any] = dict(part.split("=", 1) for part in parts)
        found[kind] = Pressure(
            avg10=float(values["avg10"]),
            avg60=float(values["avg60"]),
            avg300=float(values["avg300"]),
            total=int(values["total"]) * 1000,
        )
    return PressureStats(found.get("some"), found.get("full"))


def _read(directory: str | None, file: str) -> str | None:
    return None if directory is None else read_optional(f"{directory}/{file}")


# ---- the network -------------------------------------------------------------------------------


def add_interfaces(stats: Stats, pid: int) -> Stats:
    """``stats`` with the interfaces that the process ``pid`` sees, where they are its own.

    A container that shares the caller's network has none of its own.
    """
    text = _net_dev(pid) if pid else None
    return stats if text is None else stats.evolve(network=interfaces(text))


def interfaces(text: str) -> tuple[NetworkInterface, ...]:
    """The interfaces of a /proc/net/dev, in its order: eight columns for each direction."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, counts = line.rpartition(":")
        numbers = [int(word) for word in counts.split()]
        found.append(NetworkInterface(name.strip(), *numbers[:4], *numbers[8:12]))
    return tuple(found)


def _net_dev(pid: int) -> str | None:
    try:
        # Opened first: what is read below is then of the process that was looked at.
        directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.readlink("ns/net", dir_fd=directory) == os.readlink("/proc/self/ns/net"):
            return None
        fd = os.open("net/dev", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        with open(fd, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        # It has ended, or may not be looked at.
        return None
    finally:
        os.close(directory)
