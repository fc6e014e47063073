"""Measurements that are read from texts, and the document that ``pyrunc events`` makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from libpycontainer.cgroups import measuring
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
from libpycontainer.cli import measurements, ps
from libpycontainer.cli.command import CommandError
from libpycontainer.cli.output import dump
from libpycontainer.events import Stall

NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo
    lo:     100       2    0    0    0     0          0         0      100       2    0    0    0
a:b0: 7 6 5 4 3 2 1 0 17 16 15 14 13 12 11 10
"""


def test_interfaces_have_four_counters_each_way() -> None:
    assert measuring.interfaces(NET_DEV) == (
        NetworkInterface("lo", 100, 2, 0, 0, 100, 2, 0, 0),
        NetworkInterface("a:b0", 7, 6, 5, 4, 17, 16, 15, 14),
    )


def files(directory: Path, **texts: str) -> str:
    for name, text in texts.items():
        (directory / name.replace("__", ".")).write_text(text)
    return str(directory)


def test_huge_pages_and_rdma_of_v2(tmp_path: Path) -> None:
    group = files(
        tmp_path,
        hugetlb__2MB__current="4096",
        hugetlb__2MB__max="max",
        hugetlb__2MB__events="max 3",
        hugetlb__2MB__rsvd__current="0",
        hugetlb__2MB__rsvd__max="8192",
        rdma__current="mlx4_0 hca_handle=2 hca_object=20\nrxe0 hca_handle=0 hca_object=0",
        rdma__max="mlx4_0 hca_handle=3 hca_object=max",
    )
    stats = measuring.from_v2(group)
    assert stats.hugepages == {
        "2MB": HugepageStats(
            4096, limit=None, failures=3, max_usage=None, reserved=0, reserved_limit=8192
        )
    }
    assert stats.rdma == {"mlx4_0": RdmaStats(2, 20, 3, None), "rxe0": RdmaStats(0, 0)}
    assert (stats.cpu, stats.cpuset, stats.memory, stats.io, stats.network) == (None,) * 5


def test_huge_pages_of_v1(tmp_path: Path) -> None:
    group = files(
        tmp_path,
        hugetlb__1GB__usage_in_bytes="0",
        hugetlb__1GB__limit_in_bytes="9223372036854771712",
        hugetlb__1GB__max_usage_in_bytes="7",
        hugetlb__1GB__failcnt="2",
    )
    assert measuring.from_v1({"hugetlb": group}).hugepages == {
        "1GB": HugepageStats(0, limit=None, max_usage=7, failures=2)
    }


def test_nothing_is_measured_where_there_is_nothing(tmp_path: Path) -> None:
    assert measuring.from_v1({}) == measuring.from_v2(str(tmp_path / "gone")) == Stats()


def test_the_document_leaves_out_what_runc_leaves_out() -> None:
    assert measurements.document(Stats(), unified=True) == {
        "cpu": {"usage": {"kernel": 0, "user": 0}, "throttling": {}},
        "cpuset": {
            "cpu_exclusive": 0,
            "mem_hardwall": 0,
            "mem_exclusive": 0,
            "memory_migrate": 0,
            "memory_spread_page": 0,
            "memory_spread_slab": 0,
            "memory_pressure": 0,
            "sched_load_balance": 0,
            "sched_relax_domain_level": 0,
        },
        "memory": {
            name: {"limit": 0, "failcnt": 0} for name in ("usage", "swap", "kernel", "kernelTCP")
        },
        "pids": {},
        "blkio": {},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def test_the_document_of_v1() -> None:
    memory = MemoryStats(
        usage=10,
        limit=100,
        max_usage=20,
        failures=1,
        swap=11,
        swap_max_usage=21,
        kernel=MemoryCounter(3, max_usage=4, failures=5),
        detail={"cache": 6, "b": 1, "a": 0},
    )
    device = DeviceIO(
        8, 0, 1, 2, 3, 4, sync_bytes=3, async_bytes=0, syncs=7, asyncs=0, discard_bytes=5
    )
    stats = Stats(
        cpu=CPUStats(9, 5, 4, per_cpu=(9, 0), throttling=Throttling(2, 1, 7)),
        cpuset=CpusetStats((0, 1), (0,), {"sched_relax_domain_level": -1}),
        memory=memory,
        pids=PidsStats(3, 30),
        io=IOStats((device,)),
        hugepages={"2MB": HugepageStats(1, failures=2)},
        network=(NetworkInterface("lo", rx_bytes=5),),
    )
    found = measurements.document(stats, unified=False)
    unlimited = 9223372036854771712
    assert found["cpu"] == {
        "usage": {"total": 9, "percpu": (9, 0), "kernel": 4, "user": 5},
        "throttling": {"periods": 2, "throttledPeriods": 1, "throttledTime": 7},
    }
    assert list(found["cpuset"]) == [  # type: ignore[arg-type]
        "cpus",
        "cpu_exclusive",
        "mems",
        *("mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page"),
        *("memory_spread_slab", "memory_pressure", "sched_load_balance"),
        "sched_relax_domain_level",
    ]
    assert found["memory"] == {
        "cache": 6,
        "usage": {"limit": 100, "usage": 10, "max": 20, "failcnt": 1},
        "swap": {"limit": unlimited, "usage": 11, "max": 21, "failcnt": 0},
        "kernel": {"limit": unlimited, "usage": 3, "max": 4, "failcnt": 5},
        "kernelTCP": {"limit": 0, "failcnt": 0},
        "raw": {"a": 0, "b": 1, "cache": 6},
    }
    assert found["pids"] == {"current": 3, "limit": 30}
    assert found["hugetlb"] == {"2MB": {"usage": 1, "failcnt": 2}}
    assert found["blkio"] == {
        "ioServiceBytesRecursive": [
            {"major": 8, "op": "Read", "value": 1},
            {"major": 8, "op": "Write", "value": 2},
            {"major": 8, "op": "Sync", "value": 3},
            {"major": 8, "op": "Async"},
            {"major": 8, "op": "Discard", "value": 5},
            {"major": 8, "op": "Total", "value": 8},
        ],
        "ioServicedRecursive": [
            {"major": 8, "op": "Read", "value": 3},
            {"major": 8, "op": "Write", "value": 4},
            {"major": 8, "op": "Sync", "value": 7},
            {"major": 8, "op": "Async"},
            {"major": 8, "op": "Discard"},
            {"major": 8, "op": "Total", "value": 7},
        ],
    }
    assert dump(found["network_interfaces"]).startswith('[{"Name":"lo","RxBytes":5,"RxPackets":0,')


def test_the_document_of_v2_counts_swap_as_v1_does() -> None:
    memory = MemoryStats(
        usage=10,
        limit=None,
        swap=5,
        swap_limit=None,
        kernel=MemoryCounter(3),
        detail={"file": 2},
        events={"low": 0, "oom": 1, "oom_kill": 2},
        pressure=PressureStats(some=Pressure(0.5, 1.0, 0.25, 7000)),
    )
    found = measurements.document(Stats(memory=memory), unified=True)["memory"]
    unlimited = 18446744073709551615
    assert found == {
        "cache": 2,
        "usage": {"limit": unlimited, "usage": 10, "failcnt": 0},
        "swap": {"limit": unlimited, "usage": 15, "failcnt": 0},
        "kernel": {"usage": 3, "limit": 0, "failcnt": 0},
        "kernelTCP": {"limit": 0, "failcnt": 0},
        "raw": {"file": 2},
        "psi": {
            "some": {"avg10": 0.5, "avg60": 1.0, "avg300": 0.25, "total": 7},
            "full": {"avg10": 0, "avg60": 0, "avg300": 0, "total": 0},
        },
        "event_count": {"low": 0, "high": 0, "max": 0, "oom": 1, "oom_kill": 2},
    }
    assert '"some":{"avg10":0.5,"avg60":1,"avg300":0.25,"total":7}' in dump(found)


def test_a_listing_is_reduced_to_the_container() -> None:
    listing = "UID        PID  CMD\nroot         1  init 42\nroot        42  sleep\n\napp 43 x\n"
    assert ps.only([42, 43], listing) == "UID        PID  CMD\nroot        42  sleep\napp 43 x\n"
    assert ps.only([], listing) == "UID        PID  CMD\n"
    with pytest.raises(CommandError, match="couldn't find PID field"):
        ps.only([1], "CMD\ninit\n")
    with pytest.raises(CommandError, match="couldn't find PID field"):
        ps.only([1], "")


def test_a_stall_is_told_to_the_kernel_in_microseconds() -> None:
    assert Stall("memory", 0.15).trigger == "some 150000 2000000\n"
    assert Stall("io", 1, window=1, kind="full").trigger == "full 1000000 1000000\n"


@pytest.mark.parametrize(
    ("resource", "stalled", "window", "kind"),
    [
        ("disk", 0.1, 1, "some"),
        ("cpu", 0.1, 1, "every"),
        ("cpu", 0, 1, "some"),
        ("cpu", 2, 1, "some"),
    ],
)
def test_a_stall_that_cannot_be_is_refused(
    resource: str, stalled: float, window: float, kind: str
) -> None:
    with pytest.raises(ValueError, match="invalid stall"):
        Stall(resource, stalled, window, kind)
