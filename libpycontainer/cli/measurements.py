"""PURE: a measurement as the document that runc's ``events`` shows.

What is zero is left out where runc leaves it out, and what is unlimited is the largest number that
the kernel, or runc on v2, has for it. Source: runc's types/events.go.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from libpycontainer.cgroups.stats import (
        CPUStats,
        IOStats,
        MemoryCounter,
        MemoryStats,
        PressureStats,
        Stats,
    )
    from libpycontainer.cli.output import Json

_UNLIMITED_V1 = (1 << 63) - 4096
_UNLIMITED_V2 = (1 << 64) - 1
_CPUSET_FLAGS = (
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
)
_MEMORY_EVENTS = ("low", "high", "max", "oom", "oom_kill")


def document(stats: Stats, *, unified: bool) -> dict[str, Json]:
    """The ``data`` of an event; ``unified`` says that the host's controllers are v2's."""
    pids = stats.pids
    return {
        "cpu": _cpu(stats.cpu),
        "cpuset": _cpuset(stats),
        "memory": _memory(stats.memory, unified),
        "pids": _present(
            {"current": pids.current if pids else 0, "limit": pids.limit if pids else 0}
        ),
        "blkio": _blkio(stats.io),
        "hugetlb": {
            size: {
                **_present({"usage": page.usage, "max": page.max_usage}),
                "failcnt": page.failures or 0,
            }
            for size, page in (stats.hugepages or {}).items()
        },
        "intel_rdt": {},
        "network_interfaces": _interfaces(stats),
    }


def _present(values: Mapping[str, Json]) -> dict[str, Json]:
    """Go's omitempty."""
    return {name: value for name, value in values.items() if value}


def _cpu(cpu: CPUStats | None) -> dict[str, Json]:
    usage: dict[str, Json] = {"kernel": 0, "user": 0}
    throttling: dict[str, Json] = {}
    psi: dict[str, Json] = {}
    if cpu is not None:
        usage = {
            **_present(
                {
                    "total": cpu.usage,
                    "percpu": cpu.per_cpu,
                    "percpu_kernel": cpu.per_cpu_system,
                    "percpu_user": cpu.per_cpu_user,
                }
            ),
            "kernel": cpu.system or 0,
            "user": cpu.user or 0,
        }
        psi = _psi(cpu.pressure)
        if cpu.throttling is not None:
            throttling = _present(
                {
                    "periods": cpu.throttling.periods,
                    "throttledPeriods": cpu.throttling.throttled_periods,
                    "throttledTime": cpu.throttling.throttled,
                }
            )
    return {"usage": usage, "throttling": throttling, **psi}


def _cpuset(stats: Stats) -> dict[str, Json]:
    cpuset = stats.cpuset
    flags = (cpuset.flags if cpuset else None) or {}
    found: dict[str, Json] = {}
    for name in _CPUSET_FLAGS:
        found[name] = flags.get(name, 0)
        if name == "cpu_exclusive" and cpuset and cpuset.mems:
            found["mems"] = cpuset.mems
    return {**({"cpus": cpuset.cpus} if cpuset and cpuset.cpus else {}), **found}


def _memory(memory: MemoryStats | None, unified: bool) -> dict[str, Json]:
    unlimited = _UNLIMITED_V2 if unified else _UNLIMITED_V1
    nothing = {"limit": 0, "failcnt": 0}
    if memory is None:
        return dict.fromkeys(("usage", "swap", "kernel", "kernelTCP"), nothing)

    def entry(usage: int | None, limit: int | None, peak: int | None, failures: int | None) -> Json:
        amount = _present({"usage": usage, "max": peak})
        return {
            "limit": unlimited if limit is None else limit,
            **amount,
            "failcnt": failures or 0,
        }

    def counter(part: MemoryCounter | None) -> Json:
        if part is None:
            return nothing
        if unified:
            return {**_present({"usage": part.usage}), **nothing}
        return entry(part.usage, part.limit, part.max_usage, part.failures)

    swap, swap_limit = memory.swap, memory.swap_limit
    if unified and swap is not None:
        # v1 counts memory and swap together, and so does runc everywhere.
        swap += memory.usage
        if swap_limit is not None and memory.limit is not None:
            swap_limit += memory.limit
    counted = memory.swap is not None
    return {
        **_present({"cache": memory.detail.get("file" if unified else "cache")}),
        "usage": entry(memory.usage, memory.limit, memory.max_usage, memory.failures),
        "swap": entry(swap, swap_limit, memory.swap_max_usage, memory.swap_failures)
        if counted
        else nothing,
        "kernel": counter(memory.kernel),
        "kernelTCP": counter(memory.kernel_tcp),
        **_present({"raw": dict(sorted(memory.detail.items()))}),
        **_psi(memory.pressure),
        **(
            {"event_count": {name: memory.events.get(name, 0) for name in _MEMORY_EVENTS}}
            if memory.events is not None
            else {}
        ),
    }


def _blkio(io: IOStats | None) -> dict[str, Json]:
    if io is None:
        return {}
    volume: list[Json] = []
    operations: list[Json] = []
    for device in io.devices:
        node = {"major": device.major, "minor": device.minor}
        rows = [
            ("Read", device.read_bytes, device.reads),
            ("Write", device.write_bytes, device.writes),
        ]
        if device.sync_bytes is not None:
            rows += [
                ("Sync", device.sync_bytes, device.syncs or 0),
                ("Async", device.async_bytes or 0, device.asyncs or 0),
                ("Discard", device.discard_bytes, device.discards),
                (
                    "Total",
                    device.read_bytes + device.write_bytes + device.discard_bytes,
                    device.reads + device.writes + device.discards,
                ),
            ]
        for name, size, count in rows:
            volume.append(_present({**node, "op": name, "value": size}))
            operations.append(_present({**node, "op": name, "value": count}))
    rows_ = {"ioServiceBytesRecursive": volume, "ioServicedRecursive": operations}
    return {**_present(rows_), **_psi(io.pressure)}


def _psi(pressure: PressureStats | None) -> dict[str, Json]:
    """Averages are written as Go writes floats; totals in microseconds, as the kernel has them."""
    if pressure is None:
        return {}
    found: dict[str, Json] = {}
    for name, line in (("some", pressure.some), ("full", pressure.full)):
        found[name] = {
            "avg10": line.avg10 if line else 0,
            "avg60": line.avg60 if line else 0,
            "avg300": line.avg300 if line else 0,
            "total": line.total // 1000 if line else 0,
        }
    return {"psi": found}


def _interfaces(stats: Stats) -> Json:
    """In the order, and under the names, of Go's fields, which have none of their own in JSON."""
    if stats.network is None:
        return None
    return [
        {
            "Name": one.name,
            "RxBytes": one.rx_bytes,
            "RxPackets": one.rx_packets,
            "RxErrors": one.rx_errors,
            "RxDropped": one.rx_dropped,
            "TxBytes": one.tx_bytes,
            "TxPackets": one.tx_packets,
            "TxErrors": one.tx_errors,
            "TxDropped": one.tx_dropped,
        }
        for one in stats.network
    ]
