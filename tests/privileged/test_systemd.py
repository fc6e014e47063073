"""Cgroups that systemd makes: the unit, its limits on both sides, its end; as root and as a user.

What is wanted of systemd itself is read with systemctl, what is in force from the kernel's files.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import libpycontainer as lc
from tests.conftest import RUN_PREFIX, Bundle, BundleMaker, Pyrunc
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    bind,
    create,
    exec_inside,
    hook,
    read_inside,
    sh,
)
from tests.privileged.test_rootless import PRELUDE, UID, as_user, interpreter, package

__all__ = ["interpreter", "package"]

TOP = Path("/sys/fs/cgroup")
MIB = 1 << 20
CONTROLLERS = TOP / "cgroup.controllers"

pytestmark = [
    pytest.mark.skipif(
        Path("/proc/1/comm").read_text() != "systemd\n", reason="systemd is not PID 1 here"
    ),
    pytest.mark.skipif(
        not CONTROLLERS.exists() or "memory" not in CONTROLLERS.read_text().split(),
        reason="the controllers are not in the v2 hierarchy",
    ),
]


def systemctl(*args: str, user: bool = False) -> subprocess.CompletedProcess[str]:
    command = ["systemctl", "--no-pager", *args]
    if user:
        address = f"unix:path=/run/user/{UID}/bus"
        own = {"XDG_RUNTIME_DIR": f"/run/user/{UID}", "DBUS_SESSION_BUS_ADDRESS": address}
        return as_user("systemctl", "--user", *command[1:], env={**os.environ, **own})
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)


def show(unit: str, *names: str) -> dict[str, str]:
    """The unit's properties as systemctl has them."""
    done = systemctl("show", unit, *(f"--property={name}" for name in names))
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def units(user: bool = False) -> set[str]:
    """This run's units, also those that failed."""
    done = systemctl("list-units", "--all", "--plain", "--no-legend", f"*{RUN_PREFIX}*", user=user)
    return {line.split()[0] for line in done.stdout.splitlines()}


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "the time is up"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def no_units_left(leak_check: None) -> Iterator[None]:
    yield
    left = units()
    for unit in left:
        systemctl("stop", unit)
        systemctl("reset-failed", unit)
    assert left == set()


@pytest.fixture
def factory(state_root: str) -> Iterator[lc.Factory]:
    with lc.Factory(root=state_root, systemd_cgroup=True) as factory:
        yield factory


class Made:
    """A bundle whose container will be a unit of its own in system.slice."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.name = f"{RUN_PREFIX}-{secrets.token_hex(4)}"
        self.unit = f"lpc-{self.name}.scope"
        self.group = TOP / "system.slice" / self.unit
        bundle.linux["cgroupsPath"] = f"system.slice:lpc:{self.name}"
        bundle.save()

    def file(self, name: str) -> str:
        return (self.group / name).read_text().strip()


@pytest.fixture
def make(bundle: BundleMaker) -> Callable[..., Made]:
    def made(*args: Any, **resources: Any) -> Made:
        found = Made(bundle(*args))
        found.bundle.linux["resources"].update(resources)
        found.bundle.save()
        return found

    return made


Make = Callable[..., Made]


# ---- the unit --------------------------------------------------------------------------------


def test_a_container_is_a_scope_from_create_to_delete(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    with create(factory, made.bundle) as container:
        assert container.status == "created"
        assert container.process is not None
        assert container.processes() == [container.process.pid]
        container.start()
        found = show(
            made.unit,
            *("ActiveState", "Slice", "Delegate", "Transient", "ControlGroup", "Description"),
            *("DefaultDependencies", "MemoryAccounting", "IOAccounting", "TasksAccounting"),
        )
        assert found == {
            "ActiveState": "active",
            "Slice": "system.slice",
            "Delegate": "yes",
            "Transient": "yes",
            "ControlGroup": f"/system.slice/{made.unit}",
            "Description": "libpycontainer container one",
            "DefaultDependencies": "no",
            "MemoryAccounting": "yes",
            "IOAccounting": "yes",
            "TasksAccounting": "yes",
        }
        container.signal(signal.SIGKILL)
        assert container.wait(TIMEOUT) == -signal.SIGKILL
    assert units() == set()
    assert not made.group.exists()


def test_the_cgroup_namespace_is_rooted_at_the_scope(factory: lc.Factory, make: Make) -> None:
    made = make(["cat", "/proc/self/cgroup"])
    assert {"type": "cgroup"} in made.bundle.linux["namespaces"]
    assert read_inside(factory, made.bundle).lines == ["0::/"]


def test_exec_goes_into_the_scope(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    made.bundle.linux["namespaces"] = [
        each for each in made.bundle.linux["namespaces"] if each["type"] != "cgroup"
    ]
    with create(factory, made.bundle) as container:
        container.start()
        inside = exec_inside(container, ["cat", "/proc/self/cgroup"])
        assert inside.lines == [f"0::/system.slice/{made.unit}"]


def test_exec_goes_where_init_went_in_a_divided_scope(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    with create(factory, made.bundle) as container:
        container.start()
        leaf = made.group / "leaf"
        leaf.mkdir()
        (leaf / "cgroup.procs").write_text(str(container.pid))
        (made.group / "cgroup.subtree_control").write_text("+pids")
        assert exec_inside(container, ["true"]).code == 0
    assert not made.group.exists()


def test_the_command_needs_its_flag_only_once(pyrunc: Pyrunc, make: Make) -> None:
    made = make(FOREVER)
    pyrunc("--systemd-cgroup", "run", "--detach", "--bundle", made.bundle, "c", check=True)
    assert json.loads(pyrunc("state", "c", check=True).stdout)["status"] == "running"
    assert units() == {made.unit}
    ps = json.loads(pyrunc("ps", "--format", "json", "c", check=True).stdout)
    assert [str(pid) for pid in ps] == made.file("cgroup.procs").split()
    pyrunc("update", "--pids-limit", "17", "c", check=True)
    assert show(made.unit, "TasksMax") == {"TasksMax": "17"}
    pyrunc("exec", "c", "true", check=True)
    pyrunc("kill", "c", "KILL", check=True)
    wait_for(lambda: "stopped" in pyrunc("state", "c", check=True).stdout)
    pyrunc("delete", "c", check=True)


def test_a_running_container_is_deleted_by_force(pyrunc: Pyrunc, make: Make) -> None:
    made = make(sh("trap '' TERM; while :; do sleep 1; done"))
    pyrunc("--systemd-cgroup", "run", "--detach", "--bundle", made.bundle, "c", check=True)
    begun = time.monotonic()
    pyrunc("delete", "--force", "c", check=True)
    # Killed at once, not after systemd's TimeoutStopSec.
    assert time.monotonic() - begun < 30
    assert not made.group.exists()


def test_without_a_path_the_unit_is_named_as_runc_names_it(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    del made.bundle.linux["cgroupsPath"]
    id = f"{RUN_PREFIX}+x"
    with create(factory, made.bundle, id=id):
        assert units() == {f"runc-{RUN_PREFIX}\\x2bx.scope"}


def test_a_nested_slice(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    stem = RUN_PREFIX.replace("-", "")
    made.bundle.linux["cgroupsPath"] = f"{stem}-inner.slice:lpc:{made.name}"
    with create(factory, made.bundle) as container:
        group = TOP / f"{stem}.slice" / f"{stem}-inner.slice" / made.unit
        assert container.cgroup.paths() == {"": str(group)}
        assert group.is_dir()
    assert not group.exists()
    systemctl("stop", f"{stem}.slice")


def test_a_name_that_is_a_slice_makes_one(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER, pids={"limit": 9})
    name = f"lpctest{secrets.token_hex(4)}.slice"
    made.bundle.linux["cgroupsPath"] = f":ignored:{name}"
    with create(factory, made.bundle) as container:
        container.start()
        assert container.cgroup.paths() == {"": str(TOP / name)}
        assert (TOP / name / "cgroup.procs").read_text().split() == [str(container.pid)]
        assert show(name, "ActiveState", "TasksMax") == {"ActiveState": "active", "TasksMax": "9"}
        assert exec_inside(container, ["true"]).code == 0
    assert show(name, "ActiveState") == {"ActiveState": "inactive"}
    assert not (TOP / name).exists()


def test_a_group_of_containers_needs_a_slice(factory: lc.Factory, make: Make) -> None:
    with pytest.raises(lc.CgroupError, match="systemd makes a scope around a process"):
        factory.group("job", pids=9)
    name = f"lpctest{secrets.token_hex(4)}.slice"
    with factory.group("job", pids=9, cgroups_path=f"::{name}"):
        assert show(name, "TasksMax") == {"TasksMax": "9"}
        made = make(FOREVER)
        made.bundle.linux["cgroupsPath"] = "task"
        with create(factory, made.bundle, id="job/task") as container:
            assert container.cgroup.paths() == {"": f"{TOP}/{name}/task"}
            assert (TOP / name / "task/cgroup.procs").read_text().split() == [str(container.pid)]
    assert show(name, "ActiveState") == {"ActiveState": "inactive"}
    assert not (TOP / name).exists()


# ---- limits ----------------------------------------------------------------------------------

LIMITS = {
    "memory": {"limit": 128 * MIB, "reservation": 64 * MIB, "swap": 256 * MIB},
    "cpu": {
        **{"shares": 512, "quota": 15_250, "period": 50_000, "burst": 1000},
        **{"cpus": "0", "mems": "0"},
    },
    "pids": {"limit": 20},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
}
SHOWN = {
    "MemoryMax": str(128 * MIB),
    "MemoryLow": str(64 * MIB),
    "MemorySwapMax": str(128 * MIB),
    "CPUWeight": "59",
    # Rounded up to a whole percentage.
    "CPUQuotaPerSecUSec": "310ms",
    "CPUQuotaPeriodUSec": "50ms",
    "AllowedCPUs": "0",
    "AllowedMemoryNodes": "0",
    "TasksMax": "20",
}
FILES = {
    "memory.max": str(128 * MIB),
    "memory.low": str(64 * MIB),
    "memory.swap.max": str(128 * MIB),
    "cpu.weight": "59",
    "cpu.max": "15250 50000",
    "cpu.max.burst": "1000",
    "cpuset.cpus": "0",
    "cpuset.mems": "0",
    "pids.max": "20",
    "hugetlb.2MB.max": str(4 * MIB),
}


def in_force(made: Made, files: dict[str, str]) -> dict[str, str]:
    return {name: made.file(name) for name in files}


def test_every_limit_is_systemds_and_the_kernels(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER, **LIMITS)
    with create(factory, made.bundle):
        assert show(made.unit, *SHOWN) == SHOWN
        assert in_force(made, FILES) == FILES


def test_limits_outlive_a_reload_of_systemd(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER, **LIMITS)
    with create(factory, made.bundle):
        systemctl("daemon-reload")
        assert show(made.unit, *SHOWN) == SHOWN
        # What systemd writes anew is its own, rounded quota, if it does.
        assert made.file("cpu.max") in ("15250 50000", "15500 50000")
        rest = {name: text for name, text in FILES.items() if name != "cpu.max"}
        assert in_force(made, rest) == rest


@pytest.mark.parametrize(
    ("file", "text", "name", "shown"),
    [
        ("memory.high", str(64 * MIB), "MemoryHigh", str(64 * MIB)),
        ("memory.min", str(4 * MIB), "MemoryMin", str(4 * MIB)),
        ("memory.low", "max", "MemoryLow", "infinity"),
        ("memory.max", str(64 * MIB), "MemoryMax", str(64 * MIB)),
        ("memory.swap.max", "0", "MemorySwapMax", "0"),
        ("memory.oom.group", "1", "OOMPolicy", "kill"),
        ("memory.oom.group", "0", "OOMPolicy", "continue"),
        ("cpu.weight", "77", "CPUWeight", "77"),
        ("cpu.idle", "1", "CPUWeight", "idle"),
        ("cpu.max", "20000 100000", "CPUQuotaPerSecUSec", "200ms"),
        ("cpuset.cpus", "0", "AllowedCPUs", "0"),
        ("pids.max", "13", "TasksMax", "13"),
    ],
)
def test_unified_keys(
    file: str, text: str, name: str, shown: str, factory: lc.Factory, make: Make
) -> None:
    made = make(FOREVER, unified={file: text})
    with create(factory, made.bundle):
        assert show(made.unit, name) == {name: shown}
        assert made.file(file) == text


def test_an_idle_container_and_back(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER, cpu={"idle": 1})
    with create(factory, made.bundle) as container:
        assert show(made.unit, "CPUWeight") == {"CPUWeight": "idle"}
        assert made.file("cpu.idle") == "1"
        container.update({"cpu": {"idle": 0, "shares": 512}})
        assert show(made.unit, "CPUWeight") == {"CPUWeight": "59"}
        assert (made.file("cpu.idle"), made.file("cpu.weight")) == ("0", "59")


def block_device() -> tuple[int, int]:
    for path in sorted(Path("/sys/block").iterdir()):
        if (path / "device").exists():
            major, minor = (path / "dev").read_text().strip().split(":")
            if Path(f"/dev/block/{major}:{minor}").exists():
                return int(major), int(minor)
    pytest.skip("no block device here that has a driver's device behind it")


def test_throttles_of_block_devices(factory: lc.Factory, make: Make) -> None:
    major, minor = block_device()
    number = {"major": major, "minor": minor}
    made = make(
        FOREVER,
        blockIO={
            "throttleReadBpsDevice": [{**number, "rate": 10 * MIB}],
            "throttleWriteBpsDevice": [{**number, "rate": 5 * MIB}],
            "throttleReadIOPSDevice": [{**number, "rate": 100}],
            "throttleWriteIOPSDevice": [{**number, "rate": 50}],
        },
    )
    with create(factory, made.bundle) as container:
        text = f"{major}:{minor} rbps={10 * MIB} wbps={5 * MIB} riops=100 wiops=50"
        assert made.file("io.max") == text
        device = f"/dev/block/{major}:{minor}"
        assert show(made.unit, "IOReadBandwidthMax", "IOWriteIOPSMax") == {
            "IOReadBandwidthMax": f"{device} {10 * MIB}",
            "IOWriteIOPSMax": f"{device} 50",
        }
        container.update({"blockIO": {"throttleReadBpsDevice": [{**number, "rate": MIB}]}})
        assert made.file("io.max") == text.replace(str(10 * MIB), str(MIB), 1)
        systemctl("daemon-reload")
        assert made.file("io.max") == text.replace(str(10 * MIB), str(MIB), 1)


def test_the_weight_of_block_devices(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER, blockIO={"weight": 500})
    with create(factory, made.bundle):
        if (made.group / "io.bfq.weight").exists():
            assert made.file("io.bfq.weight") == "default 500"
        else:
            assert made.file("io.weight") == "default 4950"
            assert show(made.unit, "IOWeight") == {"IOWeight": "4950"}


def test_a_limit_that_is_refused_leaves_nothing(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER, cpu={"cpus": "0-4000"})
    with pytest.raises(lc.CgroupError, match=r"\$\.linux\.resources\.cpu\.cpus"):
        create(factory, made.bundle)
    assert factory.list() == []
    assert not made.group.exists()


# ---- update ----------------------------------------------------------------------------------


def test_update_changes_both_sides(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER, **LIMITS)
    with create(factory, made.bundle) as container:
        container.start()
        container.update({"memory": {"limit": 96 * MIB}, "pids": {"limit": 30}})
        changed = {"MemoryMax": str(96 * MIB), "MemorySwapMax": str(160 * MIB), "TasksMax": "30"}
        assert show(made.unit, *SHOWN) == {**SHOWN, **changed}
        new = {"memory.max": str(96 * MIB), "memory.swap.max": str(160 * MIB), "pids.max": "30"}
        assert in_force(made, FILES) == {**FILES, **new}


def test_an_exact_quota_outlives_the_change_of_another_limit(
    factory: lc.Factory, make: Make
) -> None:
    # systemd writes the controller's files anew, from what it has rounded.
    made = make(FOREVER, **LIMITS)
    with create(factory, made.bundle) as container:
        container.update({"cpu": {"shares": 1024}})
        assert made.file("cpu.weight") == "100"
        assert made.file("cpu.max") == "15250 50000"
        assert made.file("cpu.max.burst") == "1000"


@pytest.mark.parametrize(
    "refused",
    [
        {"cpu": {"cpus": "0-4000"}},
        {"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]},
        {"unified": {"memory.oom.group": "7"}},
        {"unified": {"pids.no_such_file": "1"}},
    ],
)
def test_an_update_is_all_or_nothing(
    refused: dict[str, Any], factory: lc.Factory, make: Make
) -> None:
    made = make(FOREVER, **LIMITS)
    with create(factory, made.bundle) as container:
        container.start()
        wanted = {
            "memory": {"limit": 96 * MIB, "reservation": 32 * MIB},
            "pids": {"limit": 30},
            **refused,
            "cpu": {"shares": 2048, "quota": 40_000, **refused.get("cpu", {})},
        }
        with pytest.raises(lc.ContainerError) as caught:
            container.update(wanted)
        assert not hasattr(caught.value, "__notes__")
        assert show(made.unit, *SHOWN) == SHOWN
        assert in_force(made, FILES) == FILES
        assert container.spec.linux.resources.pids.limit == 20  # type: ignore[union-attr]
        systemctl("daemon-reload")
        rest = {name: text for name, text in FILES.items() if name != "cpu.max"}
        assert in_force(made, rest) == rest


def test_limits_that_were_never_set_are_infinite_again(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    names = ("MemoryMax", "TasksMax", "CPUQuotaPerSecUSec", "CPUWeight")
    with create(factory, made.bundle) as container:
        before = show(made.unit, *names)
        text = made.file("pids.max")
        with pytest.raises(lc.ContainerError):
            container.update(
                {
                    "memory": {"limit": 96 * MIB},
                    "pids": {"limit": 30},
                    "cpu": {"shares": 2048, "quota": 40_000},
                    "unified": {"memory.oom.group": "7"},
                }
            )
        assert show(made.unit, *names) == before
        assert made.file("memory.max") == "max"
        assert made.file("pids.max") == text
        assert made.file("cpu.max") == "max 100000"
        assert made.file("cpu.weight") == "100"


# ---- pause, OOM, devices ---------------------------------------------------------------------


def test_pause_and_resume(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    with create(factory, made.bundle) as container:
        container.start()
        container.pause()
        assert container.status == "paused"
        assert "frozen 1" in made.file("cgroup.events")
        container.resume()
        assert container.status == "running"
        assert "frozen 0" in made.file("cgroup.events")


def test_a_paused_container_is_deleted_by_force(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    with create(factory, made.bundle) as container:
        container.start()
        container.pause()
        container.delete(force=True)
    assert units() == set()


def test_running_out_of_memory_is_reported(factory: lc.Factory, make: Make) -> None:
    hog = 'exec awk \'BEGIN { for (;;) x = x sprintf("%1000000s", "") }\''
    made = make(sh(hog), memory={"limit": 24 * MIB, "swap": 24 * MIB})
    with create(factory, made.bundle) as container, container.events(None) as events:
        container.start()
        assert any(isinstance(event, lc.OOMEvent) for event in events)
        assert container.wait(TIMEOUT) == -signal.SIGKILL


DEVICES = """
if echo x 2>/dev/null >/dev/null; then echo null; fi
if : 2>/dev/null >/tmp/kmsg; then echo kmsg; fi
if head -c1 /tmp/port >/dev/null 2>&1; then echo port; fi
"""


def test_device_rules_are_in_force_also_after_a_reload(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    made.bundle.linux["resources"]["devices"] = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rwm"},
    ]
    made.bundle.process["capabilities"] = {
        kind: ["CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_SYS_RAWIO"]
        for kind in ("bounding", "effective", "permitted")
    }
    made.bundle.config["mounts"].append(
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["dev", "mode=1777"]}
    )
    with create(factory, made.bundle) as container:
        container.start()
        nodes = sh("mknod /tmp/kmsg c 1 11 && mknod /tmp/port c 1 4")
        assert exec_inside(container, nodes).code == 0
        assert exec_inside(container, sh(DEVICES)).lines == ["null", "kmsg"]
        systemctl("daemon-reload")
        assert exec_inside(container, sh(DEVICES)).lines == ["null", "kmsg"]
        assert "/dev/char/1:11 rwm" in systemctl("show", made.unit).stdout
        container.update({"devices": [{"allow": False, "access": "rwm"}]})
        assert exec_inside(container, sh(DEVICES)).lines == ["null"]
        assert "1:11" not in systemctl("show", made.unit).stdout
        systemctl("daemon-reload")
        assert exec_inside(container, sh(DEVICES)).lines == ["null"]
        with pytest.raises(lc.ContainerError):
            container.update(
                {
                    "devices": [{"allow": True, "access": "rwm"}],
                    "unified": {"memory.oom.group": "7"},
                }
            )
        assert exec_inside(container, sh(DEVICES)).lines == ["null"]
        assert show(made.unit, "DevicePolicy") == {"DevicePolicy": "strict"}


def test_a_hole_in_what_is_allowed_stays_one(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    made.bundle.linux["resources"]["devices"] = [
        {"allow": True, "access": "rwm"},
        {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "rwm"},
    ]
    made.bundle.config["mounts"].append(
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}
    )
    bind(made.bundle.config, "/dev/kmsg", "/tmp/kmsg")
    with create(factory, made.bundle) as container:
        container.start()
        for _ in range(2):
            assert exec_inside(container, sh(DEVICES)).lines == ["null"]
            systemctl("daemon-reload")


# ---- annotations -----------------------------------------------------------------------------


def test_annotations_are_properties(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    made.bundle.config["annotations"] = {
        "org.systemd.property.TimeoutStopUSec": "uint64 20000000",
        "org.systemd.property.RuntimeMaxSec": "3600",
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.Description": "'mine'",
        "org.systemd.property.Before": "['final.target']",
        "other": "{",
    }
    with create(factory, made.bundle):
        assert show(
            made.unit,
            *("TimeoutStopUSec", "RuntimeMaxUSec", "CollectMode", "Description", "Before"),
        ) == {
            "TimeoutStopUSec": "20s",
            "RuntimeMaxUSec": "1h",
            "CollectMode": "inactive-or-failed",
            "Description": "mine",
            "Before": "final.target",
        }


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("NoSuchProperty", "true", "NoSuchProperty"),
        ("TimeoutStopUSec", "'soon'", "TimeoutStopUSec"),
        ("TimeoutStopUSec", "soon", r"annotations\['org\.systemd\.property\.TimeoutStopUSec'\]"),
        ("Slice", "'user.slice'", "Slice is set for the container itself"),
    ],
)
def test_annotations_that_cannot_be(
    key: str, text: str, said: str, factory: lc.Factory, make: Make
) -> None:
    made = make(FOREVER)
    made.bundle.config["annotations"] = {f"org.systemd.property.{key}": text}
    with pytest.raises(lc.CgroupError, match=said):
        create(factory, made.bundle)
    assert factory.list() == []
    assert not made.group.exists()


# ---- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/plain/path", "system.slice:only-two", "no-slice:lpc:x", "a--b.slice:lpc:x"]
)
def test_a_path_that_names_no_unit(path: str, factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    made.bundle.linux["cgroupsPath"] = path
    with pytest.raises(lc.CgroupError, match=r"\$\.linux\.cgroupsPath: "):
        create(factory, made.bundle)
    assert factory.list() == []


def test_a_unit_that_is_there_is_left_alone(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    with create(factory, made.bundle, id="first") as first:
        first.start()
        with pytest.raises(lc.CgroupError, match="is not empty"):
            create(factory, made.bundle, id="second")
        assert [container.id for container in factory.list()] == ["first"]
        assert first.status == "running"
        assert units() == {made.unit}


def test_a_unit_that_appears_meanwhile_is_left_alone(factory: lc.Factory, make: Make) -> None:
    """Between the look at its group and the start of the unit, another one takes the name."""
    from libpycontainer.cgroups.systemd import SystemdManager

    made = make(FOREVER)
    look = SystemdManager.create
    stranger: list[subprocess.Popen[bytes]] = []

    def late(manager: SystemdManager, *arguments: Any) -> None:
        look(manager, *arguments)
        command = ["systemd-run", "--quiet", "--scope", f"--unit={made.unit}", "sleep", "1000"]
        stranger.append(subprocess.Popen(command))
        wait_for(lambda: made.unit in units() and made.file("cgroup.procs"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SystemdManager, "create", late)
        with pytest.raises(lc.CgroupError, match=f"StartTransientUnit.*{made.unit}"):
            create(factory, made.bundle)
    assert stranger[0].poll() is None
    assert made.file("cgroup.procs") != ""
    assert factory.list() == []
    stranger[0].kill()
    stranger[0].wait()
    systemctl("stop", made.unit)


def test_what_is_left_of_a_failed_unit_is_cleared_away(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    command = [
        *("systemd-run", "--quiet", "--scope", f"--unit={made.unit}"),
        *("--property=RuntimeMaxSec=1", "sleep", "1000"),
    ]
    subprocess.run(command, timeout=TIMEOUT)
    wait_for(lambda: show(made.unit, "ActiveState") == {"ActiveState": "failed"})
    with create(factory, made.bundle) as container:
        container.start()
        assert show(made.unit, "ActiveState") == {"ActiveState": "active"}


def test_a_container_whose_unit_failed_is_deleted_whole(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    made.bundle.config["annotations"] = {
        "org.systemd.property.RuntimeMaxSec": "1",
        "org.systemd.property.TimeoutStopSec": "1",
    }
    with create(factory, made.bundle) as container:
        container.start()
        container.wait(TIMEOUT)
        wait_for(lambda: show(made.unit, "ActiveState") == {"ActiveState": "failed"})
    assert units() == set()


def test_another_unit_of_the_same_name_outlives_a_delete(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    with create(factory, made.bundle, id="old") as old:
        old.start()
        old.signal(signal.SIGKILL)
        old.wait(TIMEOUT)
        wait_for(lambda: not made.group.exists())
        command = ["systemd-run", "--quiet", "--scope", f"--unit={made.unit}", "sleep", "1000"]
        stranger = subprocess.Popen(command)
        wait_for(lambda: made.unit in units() and made.group.exists())
        old.cgroup.destroy(0.1)
        assert made.unit in units()
        assert stranger.poll() is None
        stranger.kill()
        stranger.wait()
        systemctl("stop", made.unit)


def test_a_failing_hook_leaves_no_unit(factory: lc.Factory, make: Make) -> None:
    made = make(FOREVER)
    made.bundle.config["hooks"] = {"createRuntime": [hook("exit 3")]}
    with pytest.raises(lc.HookError):
        create(factory, made.bundle)
    assert units() == set()
    assert not made.group.exists()


def test_a_creator_that_is_killed_leaves_nothing_that_delete_cannot_clear(
    pyrunc: Pyrunc, make: Make, tmp_path: Path
) -> None:
    made = make(FOREVER)
    mark = tmp_path / "reached"
    made.bundle.config["hooks"] = {"createRuntime": [hook(f"touch {mark}; sleep 1000")]}
    made.bundle.save()
    argv = pyrunc.argv("--systemd-cgroup", "create", "--bundle", made.bundle, "c")
    creator = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
    wait_for(mark.exists)
    assert units() == {made.unit}
    os.killpg(creator.pid, signal.SIGKILL)
    creator.wait()
    pyrunc("delete", "--force", "c", check=True)
    assert not made.group.exists()


def test_many_at_once(factory: lc.Factory, make: Make) -> None:
    made = [make(FOREVER) for _ in range(8)]
    containers = [create(factory, each.bundle, id=f"c{index}") for index, each in enumerate(made)]
    assert units() == {each.unit for each in made}
    for container in containers:
        container.delete(force=True)
    assert units() == set()


# ---- a user's own systemd --------------------------------------------------------------------

RUNTIME = Path(f"/run/user/{UID}")

OWN = """
import os
factory = lc.Factory({root!r}, systemd_cgroup=True)
name = {name!r}
unit = "lpc-" + name + ".scope"
def make(*args, annotations=None, path=None, **resources):
    document = config(*args)
    document["linux"]["cgroupsPath"] = path or ":lpc:" + name
    document["linux"]["resources"] = resources
    document["annotations"] = annotations or {{}}
    quiet = dict(stdin=lc.DEVNULL, stdout=lc.DEVNULL, stderr=lc.DEVNULL)
    return factory.create("one", document, **quiet)
def group(container):
    return container.cgroup.paths()[""]
def read(container, file):
    with open(group(container) + "/" + file) as opened:
        return opened.read().strip()
"""


class Owner:
    """Runs scripts as an ordinary user who has a systemd of his own."""

    def __init__(self, interpreter: str, package: Path, rootfs: Path, home: Path) -> None:
        self.interpreter = interpreter
        self.name = f"{RUN_PREFIX}-{secrets.token_hex(4)}"
        self.unit = f"lpc-{self.name}.scope"
        self.group = f"/user.slice/user-{UID}.slice/user@{UID}.service/user.slice/{self.unit}"
        self.prelude = PRELUDE.format(package=str(package), rootfs=str(rootfs)) + OWN.format(
            root=str(home / "state"), name=self.name
        )
        self.env = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(RUNTIME)}

    def try_(self, script: str, **env: str) -> subprocess.CompletedProcess[str]:
        own = {**self.env, **env}
        return as_user(self.interpreter, "-c", self.prelude + script, env=own)

    def __call__(self, script: str, **env: str) -> str:
        done = self.try_(script, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def owner(
    interpreter: str, package: Path, busybox_rootfs: Path, workspace: Path
) -> Iterator[Owner]:
    try:
        pwd.getpwuid(UID)
    except KeyError:
        pytest.skip(f"no user {UID} here")
    if not (RUNTIME / "bus").exists():
        pytest.skip(f"user {UID} has no systemd of his own running (loginctl enable-linger)")
    home = workspace / f"home-{secrets.token_hex(4)}"
    home.mkdir()
    os.chown(home, UID, UID)
    before = units(user=True)
    yield Owner(interpreter, package, busybox_rootfs, home)
    assert units(user=True) - before == set()
    shutil.rmtree(home)


def test_a_users_own_systemd_makes_the_scope(owner: Owner) -> None:
    script = """
with make("sleep", "1000", memory={"limit": 1 << 26}, pids={"limit": 12}) as container:
    container.start()
    print(group(container).removeprefix("/sys/fs/cgroup"))
    print(read(container, "memory.max"), read(container, "pids.max"))
    print(container.processes() == [container.pid])
    process = container.exec(lc.Process(["cat", "/proc/self/cgroup"], stdout=lc.PIPE))
    print(output(process), process.wait(20))
    container.pause()
    print(container.status)
    container.resume()
    container.update(pids=13)
    print(read(container, "pids.max"), container.status)
    sys.stdout.flush()
    os.system(f"systemctl --user show {unit} -p TasksMax -p MemoryMax -p Slice")
"""
    lines = owner(script).splitlines()
    assert lines[0] == owner.group
    assert lines[1:3] == [f"{1 << 26} 12", "True"]
    # The container has a cgroup namespace of its own.
    assert lines[3:5] == ["0::/", " 0"]
    assert lines[5:7] == ["paused", "13 running"]
    assert set(lines[7:]) == {"TasksMax=13", f"MemoryMax={1 << 26}", "Slice=user.slice"}


def test_exec_of_a_user_in_a_divided_scope(owner: Owner) -> None:
    script = """
with make("sleep", "1000") as container:
    container.start()
    top = group(container)
    os.mkdir(top + "/leaf")
    with open(top + "/leaf/cgroup.procs", "w") as file:
        file.write(str(container.pid))
    with open(top + "/cgroup.subtree_control", "w") as file:
        file.write("+pids")
    process = container.exec(lc.Process(["sleep", "1000"]))
    with open(top + "/leaf/cgroup.procs") as file:
        print(str(process.pid) in file.read().split())
    process.signal(9)
    process.wait(20)
"""
    assert owner(script) == "True"


@pytest.mark.parametrize("left", ["DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "neither"])
def test_the_users_systemd_is_found(owner: Owner, left: str) -> None:
    script = f"""
os.environ.pop("XDG_RUNTIME_DIR", None) if {left!r} != "XDG_RUNTIME_DIR" else None
with make("true") as container:
    print(group(container).removeprefix("/sys/fs/cgroup"))
"""
    env = {}
    if left == "DBUS_SESSION_BUS_ADDRESS":
        env[left] = f"unix:path={RUNTIME}/bus"
    assert owner(script, **env) == owner.group


def test_without_a_bus_systemds_own_socket_is_enough(owner: Owner) -> None:
    script = f"""
from libpycontainer.cgroups import systemd_bus
systemd_bus._addresses = lambda user: [("/run/user/{UID}/systemd/private", True)]
with make("true") as container:
    print(group(container).removeprefix("/sys/fs/cgroup"))
"""
    assert owner(script) == owner.group


def test_a_controller_that_was_not_delegated_is_refused_clearly(owner: Owner) -> None:
    done = owner.try_(
        """
try:
    make("true", hugepageLimits=[{"pageSize": "2MB", "limit": 0}])
except lc.CgroupError as error:
    print(error)
print(len(factory.list()))
"""
    )
    assert done.returncode == 0, done.stderr
    text, count = done.stdout.splitlines()
    assert text.startswith("$.linux.resources.hugepageLimits[0].limit: cannot set")
    assert "the hugetlb controller is not available" in text
    assert count == "0"


def test_a_user_without_a_systemd_is_told_so(owner: Owner) -> None:
    done = owner.try_(
        'make("true")', XDG_RUNTIME_DIR="/nonexistent", DBUS_SESSION_BUS_ADDRESS="unix:path=/no"
    )
    assert done.returncode == 1
    assert "cannot reach the systemd of this user" in done.stderr
    assert "/nonexistent/bus: No such file or directory" in done.stderr
