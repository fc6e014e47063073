"""Settings and device rules as properties of a unit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libpycontainer.cgroups import settings, systemd_properties
from libpycontainer.cgroups.systemd_properties import INFINITY
from libpycontainer.spec import light

NEW = 257


def resources(**document: Any) -> Any:
    return light.record("LinuxResources", document)


def told(
    version: int = NEW, *, mode: str = "v2", bfq: bool = False, **document: Any
) -> dict[str, Any]:
    wanted = getattr(settings, mode)(resources(**document))
    found = systemd_properties.resources(wanted, version, bfq=bfq)
    assert len({name for name, _ in found}) == len(found)
    return {name: value for name, (_signature, value) in found}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            {"memory": {"limit": 100, "swap": 250, "reservation": 50}},
            {"MemoryMax": 100, "MemorySwapMax": 150, "MemoryLow": 50},
        ),
        ({"memory": {"limit": -1}}, {"MemoryMax": INFINITY, "MemorySwapMax": INFINITY}),
        ({"cpu": {"shares": 512}}, {"CPUWeight": 59}),
        ({"cpu": {"idle": 1, "shares": 512}}, {"CPUWeight": 0}),
        ({"cpu": {"idle": 0, "shares": 512}}, {"CPUWeight": 59}),
        ({"cpu": {"idle": 0}}, {"CPUWeight": INFINITY}),
        (
            {"cpu": {"cpus": "0-2,8", "mems": "0"}},
            {"AllowedCPUs": b"\x07\x01", "AllowedMemoryNodes": b"\x01"},
        ),
        ({"pids": {"limit": 5}}, {"TasksMax": 5}),
        ({"pids": {"limit": 0}}, {"TasksMax": 1}),
        ({"pids": {"limit": -1}}, {"TasksMax": INFINITY}),
        (
            {"unified": {"memory.high": "10", "memory.min": "5", "memory.zswap.max": "max"}},
            {"MemoryHigh": 10, "MemoryMin": 5, "MemoryZSwapMax": INFINITY},
        ),
        (
            {"unified": {"memory.max": " 7 ", "pids.max": "max"}},
            {"MemoryMax": 7, "TasksMax": INFINITY},
        ),
        ({"unified": {"cpu.weight": "7"}}, {"CPUWeight": 7}),
        ({"unified": {"cpu.weight": "7", "cpu.idle": "1"}}, {"CPUWeight": 0}),
        ({"unified": {"io.weight": "default 30"}}, {"IOWeight": 30}),
        (
            {"unified": {"io.weight": "8:0 30\n8:16 40"}},
            {"IODeviceWeight": [("/dev/block/8:0", 30), ("/dev/block/8:16", 40)]},
        ),
        ({"unified": {"hugetlb.2MB.max": "0", "cpu.max.burst": "5"}}, {}),
    ],
)
def test_limits_become_properties(document: dict[str, Any], expected: dict[str, Any]) -> None:
    assert told(**document) == expected


def test_unified_has_the_last_word() -> None:
    assert told(memory={"limit": 100}, unified={"memory.max": "200"}) == {"MemoryMax": 200}


@pytest.mark.parametrize(
    ("cpu", "share", "period"),
    [
        ({"quota": 50_000, "period": 100_000}, 500_000, 100_000),
        ({"quota": 15_500, "period": 100_000}, 160_000, 100_000),
        ({"quota": 1000, "period": 1_000_000}, 10_000, 1_000_000),
        ({"quota": 200_000}, 2_000_000, 100_000),
        ({"quota": -1}, INFINITY, 100_000),
        ({"period": 50_000}, INFINITY, 50_000),
    ],
)
def test_a_quota_is_rounded_up_to_whole_percents(
    cpu: dict[str, int], share: int, period: int
) -> None:
    assert told(cpu=cpu) == {"CPUQuotaPerSecUSec": share, "CPUQuotaPeriodUSec": period}


@given(st.integers(1000, 10**7), st.integers(1000, 10**6))
def test_what_systemd_allows_of_the_processors_is_never_less(quota: int, period: int) -> None:
    share = told(cpu={"quota": quota, "period": period})["CPUQuotaPerSecUSec"]
    assert share % 10_000 == 0
    assert 0 <= share * period - quota * 1_000_000 < 10_000 * period


def test_an_older_systemd_is_told_only_what_it_knows() -> None:
    cpu = {"quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0", "idle": 1}
    assert told(241, cpu=cpu) == {"CPUQuotaPerSecUSec": 500_000}
    assert set(told(242, cpu=cpu)) == {"CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec"}
    assert "AllowedCPUs" in told(244, cpu=cpu)
    assert "CPUWeight" not in told(251, cpu=cpu)
    assert told(252, cpu=cpu)["CPUWeight"] == 0
    assert told(252, unified={"memory.zswap.max": "0"}) == {}


def test_block_devices_are_named_by_their_numbers() -> None:
    block = {
        "weight": 500,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 1000}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}],
        "throttleWriteBpsDevice": [{"major": 8, "minor": 16, "rate": 0}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 10}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 20}],
    }
    assert told(blockIO=block) == {
        "IOWeight": 4950,
        "IODeviceWeight": [("/dev/block/8:0", 10_000)],
        "IOReadBandwidthMax": [("/dev/block/8:0", 1000)],
        "IOWriteBandwidthMax": [("/dev/block/8:16", INFINITY)],
        "IOReadIOPSMax": [("/dev/block/8:0", 10)],
        "IOWriteIOPSMax": [("/dev/block/8:0", 20)],
    }


@given(st.integers(10, 1000))
def test_with_bfq_systemd_arrives_at_the_weight_that_was_asked_for(weight: int) -> None:
    found = told(bfq=True, blockIO={"weight": weight})["IOWeight"]
    # systemd's own way from io.weight to io.bfq.weight
    assert (found if found <= 100 else 100 + (found - 100) * 900 // 9900) == weight


def test_v1_has_its_own_properties() -> None:
    found = told(
        mode="v1",
        memory={"limit": 100, "reservation": 50},
        cpu={"shares": 512, "quota": 50_000, "period": 100_000},
        blockIO={"weight": 300},
        pids={"limit": 5},
    )
    assert found == {
        "MemoryLimit": 100,
        "CPUShares": 512,
        "CPUQuotaPerSecUSec": 500_000,
        "CPUQuotaPeriodUSec": 100_000,
        "BlockIOWeight": 300,
        "TasksMax": 5,
    }


@pytest.mark.parametrize("mode", ["v1", "v2"])
def test_everything_is_counted_from_the_start(mode: str) -> None:
    names = {name for name, _ in systemd_properties.accounting(mode)}
    io = "IOAccounting" if mode == "v2" else "BlockIOAccounting"
    assert names == {"CPUAccounting", "MemoryAccounting", "TasksAccounting", io}


@pytest.mark.parametrize(
    ("text", "version", "policy"),
    [("1", 253, "kill"), ("0", 253, "continue"), ("2", 253, None), ("1", 252, None)],
)
def test_what_to_do_without_memory_is_said_at_the_start(
    text: str, version: int, policy: str | None
) -> None:
    wanted = settings.v2(resources(unified={"memory.oom.group": text}))
    expected = [("OOMPolicy", ("s", policy))] if policy else []
    assert systemd_properties.at_start(wanted, version) == expected


@pytest.mark.parametrize("text", ["max 5 6", "x", "0 100", "", "5 0"])
def test_a_bandwidth_that_the_kernel_will_refuse_is_left_to_it(text: str) -> None:
    assert told(unified={"cpu.max": text}) == {}


@pytest.mark.parametrize("text", ["x", "3-1", "0-99999999999", ",", "-"])
def test_cpus_that_the_kernel_will_refuse_are_left_to_it(text: str) -> None:
    assert told(unified={"cpuset.cpus": text}) == {}


# ---- devices ---------------------------------------------------------------------------------

ALWAYS = {
    ("char-*", "m"),
    ("block-*", "m"),
    ("/dev/char/1:3", "rwm"),
    ("/dev/char/1:8", "rwm"),
    ("/dev/char/1:7", "rwm"),
    ("/dev/char/5:0", "rwm"),
    ("/dev/char/1:5", "rwm"),
    ("/dev/char/1:9", "rwm"),
    ("char-136", "rwm"),
    ("/dev/char/5:2", "rwm"),
    ("/dev/char/10:200", "rwm"),
}


def allowed(*rules: dict[str, Any]) -> set[tuple[str, str]] | None:
    """What systemd allows; ``None`` for everything."""
    policy, reset, *rest = systemd_properties.device_rules(resources(devices=list(rules)))
    assert reset == ("DeviceAllow", ("a(ss)", []))
    if policy == ("DevicePolicy", ("s", "auto")):
        assert rest == []
        return None
    assert policy == ("DevicePolicy", ("s", "strict"))
    ((name, (signature, found)),) = rest
    assert (name, signature) == ("DeviceAllow", "a(ss)")
    return set(found)


def rule(allow: bool, access: str = "rwm", **more: Any) -> dict[str, Any]:
    return {"allow": allow, "access": access, **more}


def test_every_container_has_its_devices() -> None:
    assert allowed() == ALWAYS
    assert allowed(rule(False)) == ALWAYS


def test_rules_are_added_to_them() -> None:
    found = allowed(
        rule(False),
        rule(True, "r", type="b", major=8, minor=0),
        rule(True, "rw", type="c", major=195),
        rule(True, "w", type="c", minor=5),
    )
    assert found == ALWAYS - {("char-*", "m")} | {
        ("/dev/block/8:0", "r"),
        ("char-195", "rw"),
        ("char-*", "wm"),
    }


def test_what_systemd_cannot_say_it_is_not_to_forbid() -> None:
    # Only this library's own program knows of the hole.
    assert allowed(rule(True)) is None
    assert allowed(rule(True), rule(False, type="b", major=8, minor=0)) is None
    everything_of = rule(True, type="b", major=8)
    assert allowed(rule(False), everything_of, rule(False, type="b", major=8, minor=0)) is None


# ---- the way back ----------------------------------------------------------------------------


def test_lists_are_emptied_before_they_are_brought_back() -> None:
    now = {
        "MemoryMax": ("t", 5),
        "DeviceAllow": ("a(ss)", [("/dev/null", "rwm")]),
        "IODeviceWeight": ("a(st)", []),
        "Other": ("s", "x"),
    }
    names = ["DeviceAllow", "DeviceAllow", "MemoryMax", "IODeviceWeight", "Unknown"]
    assert systemd_properties.restoring(names, now) == [
        ("DeviceAllow", ("a(ss)", [])),
        ("DeviceAllow", ("a(ss)", [("/dev/null", "rwm")])),
        ("MemoryMax", ("t", 5)),
        ("IODeviceWeight", ("a(st)", [])),
    ]


@pytest.mark.parametrize(
    ("text", "number"), [("252.38-1~deb12u1", 252), ("v257", 257), ("", 0), ("unknown", 0)]
)
def test_versions(text: str, number: int) -> None:
    assert systemd_properties.version_number(text) == number
