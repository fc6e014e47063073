"""What the kernel counted for a container: times in nanoseconds, sizes in bytes.

``None`` stands for what this host does not count (a controller that is not there), and for a
limit that is not set. Sources: kernel admin-guide/cgroup-v1/{cpuacct,memory,pids,blkio},
admin-guide/cgroup-v2, accounting/psi.
"""

from __future__ import annotations

import os
from typing import Any

import attrs

from libpycontainer.cgroups.files import number, pairs, read_optional

# v1 spells "no limit" as the largest page-aligned number of bytes.
_UNLIMITED = 1 << 62


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
    """CPU time used, in nanoseconds; ``per_cpu`` on v1 only."""

    usage: int
    user: int | None = None
    system: int | None = None
    per_cpu: tuple[int, ...] | None = None
    throttling: Throttling | None = None
    pressure: PressureStats | None = None


@attrs.frozen
class MemoryStats:
    """Memory in bytes.

    ``swap`` and ``swap_limit`` count swap alone on v2, memory plus swap on v1 (the kernel's own
    meaning in each). ``oom_kills`` counts processes killed. ``detail`` is memory.stat, whole.
    """

    usage: int
    limit: int | None = None
    max_usage: int | None = None
    swap: int | None = None
    swap_limit: int | None = None
    failures: int | None = None
    oom_kills: int | None = None
    detail: dict[str, int] = attrs.Factory(dict)
    pressure: PressureStats | None = None


@attrs.frozen
class PidsStats:
    """Tasks (threads count) alive and allowed; ``limit`` ``None`` is unlimited."""

    current: int
    limit: int | None = None


@attrs.frozen
class DeviceIO:
    """What went to and from one block device: bytes and operations."""

    major: int
    minor: int
    read_bytes: int = 0
    write_bytes: int = 0
    reads: int = 0
    writes: int = 0


@attrs.frozen
class IOStats:
    """Block I/O by device."""

    devices: tuple[DeviceIO, ...] = ()
    pressure: PressureStats | None = None


@attrs.frozen
class Stats:
    """One measurement of a container; each part is ``None`` where its controller is absent."""

    cpu: CPUStats | None = None
    memory: MemoryStats | None = None
    pids: PidsStats | None = None
    io: IOStats | None = None


def from_v1(paths: dict[str, str]) -> Stats:
    """Measure the v1 groups in ``paths`` (by controller); PSI comes from the unified one."""
    unified = paths.get("")
    return Stats(
        cpu=_cpu_v1(paths.get("cpuacct"), paths.get("cpu"), unified),
        memory=_memory_v1(paths.get("memory"), unified),
        pids=_pids(paths.get("pids")),
        io=_io_v1(paths.get("blkio"), unified),
    )


def from_v2(directory: str) -> Stats:
    """Measure one v2 group."""
    return Stats(
        cpu=_cpu_v2(directory),
        memory=_memory_v2(directory),
        pids=_pids(directory),
        io=_io_v2(directory),
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
    per_cpu = _read(accounting, "cpuacct.usage_percpu")
    stat = pairs(_read(cpu, "cpu.stat"))
    return CPUStats(
        usage=usage,
        user=user if user is not None else ticks.get("user", 0) * tick,
        system=system if system is not None else ticks.get("system", 0) * tick,
        per_cpu=tuple(map(int, per_cpu.split())) if per_cpu else None,
        throttling=_throttling(stat, "throttled_time", 1),
        pressure=_pressure(unified, "cpu.pressure"),
    )


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
        failures=number(_read(directory, "memory.failcnt")),
        oom_kills=pairs(_read(directory, "memory.oom_control")).get("oom_kill"),
        detail=pairs(_read(directory, "memory.stat")),
        pressure=_pressure(unified, "memory.pressure"),
    )


def _memory_v2(directory: str) -> MemoryStats | None:
    usage = number(_read(directory, "memory.current"))
    if usage is None:
        return None
    events = pairs(_read(directory, "memory.events"))
    return MemoryStats(
        usage=usage,
        limit=number(_read(directory, "memory.max")),
        max_usage=number(_read(directory, "memory.peak")),
        swap=number(_read(directory, "memory.swap.current")),
        swap_limit=number(_read(directory, "memory.swap.max")),
        failures=events.get("max"),
        oom_kills=events.get("oom_kill"),
        detail=pairs(_read(directory, "memory.stat")),
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
    return tuple(
        DeviceIO(
            *node,
            read_bytes=volume.get(node, {}).get("Read", 0),
            write_bytes=volume.get(node, {}).get("Write", 0),
            reads=operations.get(node, {}).get("Read", 0),
            writes=operations.get(node, {}).get("Write", 0),
        )
        for node in sorted({*volume, *operations})
    )


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
                *(int(counts.get(key, 0)) for key in ("rbytes", "wbytes", "rios", "wios")),
            )
        )
    return IOStats(tuple(devices), _pressure(directory, "io.pressure"))


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
