"""What a caller of update asks for, in every form, and what it changes on record."""

from __future__ import annotations

from typing import Any

import pytest

from libpycontainer import updating
from libpycontainer.errors import ContainerError, SpecError
from libpycontainer.spec import light
from libpycontainer.spec.models import LinuxCPU, LinuxMemory, LinuxPids, LinuxResources

MIB = 1 << 20
MEMORY = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 5}}
# As dockerd 20.10 sends it for `docker update --cpus 1.5`: zeros for what is to stay.
DOCKER = {
    "memory": {"limit": 0, "reservation": 0, "kernel": 0, "swap": 0},
    "cpu": {"shares": 0, "period": 100000, "quota": 150000, "cpus": "", "mems": ""},
    "blockIO": {"weight": 0},
}


def requested(resources: Any = None, **limits: Any) -> dict[str, Any]:
    return updating.requested(
        resources, limits.get("memory"), limits.get("cpus"), limits.get("pids")
    )


@pytest.mark.parametrize(
    "resources",
    [
        MEMORY,
        LinuxResources(memory=LinuxMemory(limit=64 * MIB), pids=LinuxPids(limit=5)),
        light.record("LinuxResources", MEMORY),
    ],
    ids=["dict", "typed", "light"],
)
def test_every_form_of_resources_says_the_same(resources: Any) -> None:
    assert requested(resources) == MEMORY


def test_the_usual_limits_have_short_names() -> None:
    assert requested(memory="64M", pids=5) == MEMORY
    assert requested(cpus=1.5) == {"cpu": {"quota": 150_000, "period": 100_000}}
    assert requested(memory=-1, cpus=float("inf"), pids=-1) == {
        "memory": {"limit": -1},
        "cpu": {"quota": -1},
        "pids": {"limit": -1},
    }


def test_short_names_join_the_rest() -> None:
    swap = {"memory": {"swap": 96 * MIB}}
    assert requested(swap, memory="64M") == {"memory": {"swap": 96 * MIB, "limit": 64 * MIB}}
    assert swap == {"memory": {"swap": 96 * MIB}}


def test_dockers_zeros_leave_things_as_they_are() -> None:
    assert requested(DOCKER) == {"cpu": {"period": 100000, "quota": 150000}}
    assert requested({"pids": {"limit": 0}}) == requested({"pids": {}}) == {}


def test_zeros_that_mean_something_are_kept() -> None:
    kept = {
        "memory": {"swappiness": 0, "disableOOMKiller": False},
        "cpu": {"idle": 0, "burst": 0},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
        "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 0}]},
    }
    assert requested(kept) == kept


def test_null_and_nothing_say_nothing() -> None:
    assert requested() == requested({}) == {}
    assert requested({"memory": None, "pids": None, "cpu": {"cpus": None}}) == {}


@pytest.mark.parametrize(
    ("resources", "problem"),
    [
        ({"memory": {"limit": "64M"}}, r"\$\.linux\.resources\.memory\.limit: .*expected int"),
        ({"memory": 5}, r"\$\.linux\.resources\.memory: .*expected object"),
        ({"devices": [{"access": "r"}]}, r"\$\.linux\.resources\.devices\[0\]\.allow: "),
        ([], r"\$\.linux\.resources: .*expected object"),
    ],
)
def test_a_misshapen_field_is_named(resources: Any, problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        requested(resources)


def test_a_size_or_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(ContainerError, match="'much'"):
        requested(memory="much")
    with pytest.raises(ValueError, match="cpus"):
        requested(cpus=0)


def test_fields_that_are_not_named_stay_on_record() -> None:
    old = {"memory": {"limit": 1, "swap": 2}, "cpu": {"shares": 3}}
    merged = updating.merge(old, {"memory": {"limit": 4}, "pids": {"limit": 5}})
    assert merged == {
        "memory": {"limit": 4, "swap": 2},
        "cpu": {"shares": 3},
        "pids": {"limit": 5},
    }
    assert old == {"memory": {"limit": 1, "swap": 2}, "cpu": {"shares": 3}}


def test_lists_about_devices_and_page_sizes_are_merged_entry_by_entry() -> None:
    def device(minor: int, rate: int) -> dict[str, int]:
        return {"major": 8, "minor": minor, "rate": rate}

    old = {
        "hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 2}],
        "blockIO": {"throttleReadBpsDevice": [device(0, 10), device(16, 20)]},
        "devices": [{"allow": False, "access": "rwm"}],
    }
    new = {
        "hugepageLimits": [{"pageSize": "1GB", "limit": 3}],
        "blockIO": {"throttleReadBpsDevice": [device(16, 30), device(32, 40)]},
        "devices": [{"allow": True, "access": "rwm"}],
    }
    assert updating.merge(old, new) == {
        "hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 3}],
        "blockIO": {"throttleReadBpsDevice": [device(0, 10), device(16, 30), device(32, 40)]},
        "devices": [{"allow": True, "access": "rwm"}],
    }


@pytest.mark.parametrize(
    ("wanted", "stored", "written"),
    [
        ({"pids": {"limit": 5}}, {"memory": {"limit": 1}}, {"pids": {"limit": 5}}),
        (
            {"memory": {"limit": 5}},
            {"memory": {"limit": 1, "swap": 9, "reservation": 2}},
            {"memory": {"limit": 5, "swap": 9}},
        ),
        ({"memory": {"swap": 9}}, {"memory": {"limit": 5}}, {"memory": {"limit": 5, "swap": 9}}),
        (
            {"cpu": {"quota": 5000}},
            {"cpu": {"period": 10_000, "shares": 7}},
            {"cpu": {"quota": 5000, "period": 10_000}},
        ),
        (
            {"cpu": {"idle": 0}},
            {"cpu": {"idle": 1, "shares": 7}},
            {"cpu": {"idle": 0, "shares": 7}},
        ),
        ({"memory": {"reservation": 5}}, {"memory": {"limit": 9}}, {"memory": {"reservation": 5}}),
    ],
)
def test_what_belongs_together_is_written_together(
    wanted: dict[str, Any], stored: dict[str, Any], written: dict[str, Any]
) -> None:
    assert updating.effective(wanted, stored) == written


def test_device_rules_that_have_not_changed_are_left_alone() -> None:
    rules = [{"allow": False, "access": "rwm"}]
    other = [{"allow": True, "access": "rwm"}]
    assert updating.effective({"devices": rules}, {"devices": rules}) == {}
    assert updating.effective({"devices": rules}, {"devices": other}) == {"devices": rules}


def test_typed_cpu_limits_are_taken_whole() -> None:
    limits = LinuxResources(cpu=LinuxCPU(shares=512, cpus="0-1", idle=1))
    assert requested(limits) == {"cpu": {"shares": 512, "cpus": "0-1", "idle": 1}}
