"""linux.resources as control files: meanings, conversions, and what a version cannot express."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libpycontainer.cgroups import settings
from libpycontainer.errors import CgroupError
from libpycontainer.spec.models import (
    LinuxBlockIO,
    LinuxCPU,
    LinuxHugepageLimit,
    LinuxInterfacePriority,
    LinuxMemory,
    LinuxNetwork,
    LinuxPids,
    LinuxRdma,
    LinuxResources,
    LinuxThrottleDevice,
    LinuxWeightDevice,
)


def v1(resources: LinuxResources) -> dict[str, str]:
    return {setting.file: setting.value for setting in settings.v1(resources)}


def v2(resources: LinuxResources) -> dict[str, str]:
    return {setting.file: setting.value for setting in settings.v2(resources)}


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(0, 0), (1, 1), (2, 1), (1024, 100), (512, 59), (262_144, 10_000), (999_999, 10_000)],
)
def test_shares_become_weight_by_the_quadratic_curve(shares: int, weight: int) -> None:
    assert settings.weight_from_shares(shares) == weight


@given(st.integers(2, 262_144), st.integers(2, 262_144))
def test_more_shares_are_never_less_weight(one: int, other: int) -> None:
    low, high = sorted((one, other))
    weights = settings.weight_from_shares(low), settings.weight_from_shares(high)
    assert 1 <= weights[0] <= weights[1] <= 10_000


@pytest.mark.parametrize(("weight", "io"), [(0, 0), (10, 1), (500, 4950), (1000, 10_000)])
def test_block_weight_becomes_io_weight(weight: int, io: int) -> None:
    assert settings.io_weight_from_blkio(weight) == io


@pytest.mark.parametrize(
    ("limit", "swap", "expected"),
    [
        (100, 0, None),
        (0, 0, None),
        (100, 100, 0),
        (100, 250, 150),
        (100, -1, -1),
        (-1, 0, -1),
        (-1, 250, 250),
    ],
)
def test_memory_plus_swap_becomes_swap(limit: int, swap: int, expected: int | None) -> None:
    assert settings.swap_from_memory_and_swap(limit, swap) == expected


@pytest.mark.parametrize(("limit", "swap"), [(0, 100), (200, 100)])
def test_swap_that_makes_no_sense_is_refused(limit: int, swap: int) -> None:
    with pytest.raises(CgroupError, match=r"\$\.linux\.resources\.memory\.swap"):
        settings.swap_from_memory_and_swap(limit, swap)


def test_absent_and_zero_leave_everything_alone() -> None:
    empty = LinuxResources(
        memory=LinuxMemory(limit=0, swap=0, reservation=0, disable_oom_killer=False),
        cpu=LinuxCPU(shares=0, quota=0, period=0, cpus="", mems=""),
        block_io=LinuxBlockIO(weight=0),
        network=LinuxNetwork(class_id=0),
        rdma={"mlx5": LinuxRdma()},
    )
    assert v1(empty) == v2(empty) == v1(LinuxResources()) == v2(LinuxResources()) == {}


def test_cpu_on_v1_and_v2() -> None:
    cpu = LinuxCPU(shares=1024, quota=50_000, period=100_000, burst=1000, cpus="0-1", mems="0")
    assert v1(LinuxResources(cpu=cpu)) == {
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "cpu.shares": "1024",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_burst_us": "1000",
        "cpu.cfs_quota_us": "50000",
    }
    assert v2(LinuxResources(cpu=cpu)) == {
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "cpu.weight": "100",
        "cpu.max.burst": "1000",
        "cpu.max": "50000 100000",
    }


@pytest.mark.parametrize(
    ("cpu", "value"),
    [
        (LinuxCPU(quota=-1), "max 100000"),
        (LinuxCPU(quota=20_000), "20000 100000"),
        (LinuxCPU(period=50_000), "max 50000"),
    ],
)
def test_quota_or_period_alone_on_v2(cpu: LinuxCPU, value: str) -> None:
    assert v2(LinuxResources(cpu=cpu)) == {"cpu.max": value}


def test_an_idle_group_keeps_the_kernels_weight() -> None:
    cpu = LinuxCPU(idle=1, shares=512)
    assert v1(LinuxResources(cpu=cpu)) == {"cpu.idle": "1"}
    assert v2(LinuxResources(cpu=cpu)) == {"cpu.idle": "1"}


@pytest.mark.parametrize("shares", [1, 262_145])
def test_shares_that_the_kernel_would_clamp_are_refused_on_v1(shares: int) -> None:
    with pytest.raises(CgroupError, match=r"cpu\.shares.*not within 2 and 262144"):
        v1(LinuxResources(cpu=LinuxCPU(shares=shares)))


def test_memory_on_v1_and_v2() -> None:
    memory = LinuxMemory(limit=100, swap=250, reservation=50)
    assert v1(LinuxResources(memory=memory)) == {
        "memory.limit_in_bytes": "100",
        "memory.memsw.limit_in_bytes": "250",
        "memory.soft_limit_in_bytes": "50",
    }
    assert v2(LinuxResources(memory=memory)) == {
        "memory.swap.max": "150",
        "memory.max": "100",
        "memory.low": "50",
    }


def test_unlimited_memory_unlimits_swap_where_it_is_counted() -> None:
    resources = LinuxResources(memory=LinuxMemory(limit=-1))
    assert v2(resources) == {"memory.swap.max": "max", "memory.max": "max"}
    limit, swap = settings.v1(resources)
    assert (limit.value, limit.optional) == ("-1", False)
    assert (swap.file, swap.value, swap.optional) == ("memory.memsw.limit_in_bytes", "-1", True)


def test_equal_memory_and_swap_forbid_swapping_also_where_there_is_none() -> None:
    swap = settings.v2(LinuxResources(memory=LinuxMemory(limit=100, swap=100)))[0]
    assert (swap.file, swap.value, swap.optional) == ("memory.swap.max", "0", True)
    swap = settings.v2(LinuxResources(memory=LinuxMemory(limit=100, swap=101)))[0]
    assert (swap.value, swap.optional) == ("1", False)


def test_v1_memory_extras() -> None:
    memory = LinuxMemory(kernel_tcp=5, swappiness=0, disable_oom_killer=True, use_hierarchy=True)
    assert v1(LinuxResources(memory=memory)) == {
        "memory.kmem.tcp.limit_in_bytes": "5",
        "memory.oom_control": "1",
        "memory.use_hierarchy": "1",
        "memory.swappiness": "0",
    }


@pytest.mark.parametrize(("limit", "value"), [(33, "33"), (0, "1"), (-1, "max")])
def test_pids_limit(limit: int, value: str) -> None:
    resources = LinuxResources(pids=LinuxPids(limit=limit))
    assert v1(resources) == v2(resources) == {"pids.max": value}


def test_block_io() -> None:
    block = LinuxBlockIO(
        weight=500,
        weight_device=[LinuxWeightDevice(major=8, minor=0, weight=10)],
        throttle_read_bps_device=[LinuxThrottleDevice(major=8, minor=0, rate=1000)],
        throttle_write_iops_device=[LinuxThrottleDevice(major=8, minor=16, rate=0)],
    )
    assert v1(LinuxResources(block_io=block)) == {
        "blkio.weight": "500",
        "blkio.weight_device": "8:0 10",
        "blkio.throttle.read_bps_device": "8:0 1000",
        "blkio.throttle.write_iops_device": "8:16 0",
    }
    written = settings.v2(LinuxResources(block_io=block))
    assert [(one.file, one.value, one.fallback) for one in written] == [
        ("io.bfq.weight", "500", ("io.weight", "4950")),
        ("io.bfq.weight", "8:0 10", ("io.weight", "8:0 1")),
        ("io.max", "8:0 rbps=1000", None),
        ("io.max", "8:16 wiops=max", None),
    ]


def test_hugepages_network_and_rdma() -> None:
    resources = LinuxResources(
        hugepage_limits=[LinuxHugepageLimit(page_size="2MB", limit=4096)],
        rdma={"mlx5": LinuxRdma(hca_handles=3, hca_objects=100)},
    )
    assert v1(resources) == {
        "hugetlb.2MB.limit_in_bytes": "4096",
        "hugetlb.2MB.rsvd.limit_in_bytes": "4096",
        "rdma.max": "mlx5 hca_handle=3 hca_object=100",
    }
    assert v2(resources) == {
        "hugetlb.2MB.max": "4096",
        "hugetlb.2MB.rsvd.max": "4096",
        "rdma.max": "mlx5 hca_handle=3 hca_object=100",
    }
    network = LinuxNetwork(
        class_id=1_048_577, priorities=[LinuxInterfacePriority(name="eth0", priority=5)]
    )
    assert v1(LinuxResources(network=network)) == {
        "net_cls.classid": "1048577",
        "net_prio.ifpriomap": "eth0 5",
    }


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        (LinuxResources(memory=LinuxMemory(swappiness=10)), "memory.swappiness"),
        (LinuxResources(memory=LinuxMemory(kernel_tcp=10)), "memory.kernelTCP"),
        (LinuxResources(memory=LinuxMemory(disable_oom_killer=True)), "memory.disableOOMKiller"),
        (LinuxResources(cpu=LinuxCPU(realtime_period=10)), "cpu.realtimePeriod"),
        (LinuxResources(cpu=LinuxCPU(realtime_runtime=10)), "cpu.realtimeRuntime"),
        (LinuxResources(block_io=LinuxBlockIO(leaf_weight=10)), "blockIO.leafWeight"),
        (LinuxResources(network=LinuxNetwork(class_id=10)), "network.classID"),
    ],
)
def test_v2_names_what_it_cannot_express(resources: LinuxResources, field: str) -> None:
    with pytest.raises(CgroupError) as caught:
        settings.v2(resources)
    assert caught.value.message.startswith(f"$.linux.resources.{field}: cgroup v2 ")


def test_what_limits_nothing_is_expressed_by_nothing() -> None:
    memory = LinuxMemory(kernel_tcp=-1, swappiness=-1, disable_oom_killer=False, use_hierarchy=True)
    assert settings.v2(LinuxResources(memory=memory)) == []


def test_unified_comes_last_and_takes_file_names_only() -> None:
    resources = LinuxResources(pids=LinuxPids(limit=5), unified={"pids.max": "7"})
    assert [one.value for one in settings.v2(resources)] == ["5", "7"]
    for name in ("../pids.max", "pids", ".max", "pids."):
        with pytest.raises(CgroupError, match="form CONTROLLER"):
            settings.v2(LinuxResources(unified={name: "1"}))


def test_every_setting_says_where_it_comes_from() -> None:
    (setting,) = settings.v1(LinuxResources(memory=LinuxMemory(limit=1024)))
    assert setting.field == "$.linux.resources.memory.limit"
    assert setting.what == "memory limit"
