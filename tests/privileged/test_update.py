"""New limits for containers that are there: all of them or none, one caller at a time.

The battery runs on this host's hierarchies, and again as if there was only version 2, where what is
a v1 controller here is missing: there the limits are those that every v2 group has.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from libpycontainer.spec.models import LinuxMemory, LinuxPids, LinuxResources
from libpycontainer.store import CONFIG, Entry
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    Gate,
    Program,
    create,
    exec_inside,
    hook,
    run_in_pure_v2_view,
    sh,
)
from tests.resctrl_tree import Tree

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

VIEW = "LPC_TEST_UPDATE_VIEW"
PURE = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
MIB = 1 << 20
UPDATES = 1000

# The mount namespace's own view of v2 has the hierarchy, and the controllers stay with v1.
CONTROLLERS = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split() if PURE else []
LIMITED = not PURE or {"cpu", "cpuset", "memory", "pids"} <= set(CONTROLLERS)

needs_v1 = pytest.mark.skipif(PURE, reason="only v1 has it")
needs_controllers = pytest.mark.skipif(not LIMITED, reason="v2 has no controllers here")

# Two whole sets, and what the kernel's files say when one of them is in force.
SETS: tuple[dict[str, Any], ...] = (
    {
        "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB},
        "cpu": {"shares": 512, "quota": 150_000, "period": 100_000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 500},
    },
    {
        "memory": {"limit": 256 * MIB, "swap": 256 * MIB, "reservation": 128 * MIB},
        "cpu": {"shares": 2048, "quota": 20_000, "period": 10_000, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 900},
    },
)
BARE_SETS: tuple[dict[str, Any], ...] = (
    {"unified": {"cgroup.max.descendants": "7", "cgroup.max.depth": "3"}},
    {"unified": {"cgroup.max.descendants": "70", "cgroup.max.depth": "30"}},
)
# The last of these is one that the kernel refuses, after it has taken the others.
REFUSED: dict[str, Any] = {
    **SETS[1],
    "hugepageLimits": [],
    "cpu": {**SETS[1]["cpu"], "cpus": "0-4000"},
}
REFUSED_FIELD = "cpu.cpus"
if not LIMITED:
    SETS = BARE_SETS
    REFUSED = {"unified": {**SETS[1]["unified"], "cgroup.type": "nonsense"}}
    REFUSED_FIELD = "unified"
# What runc 1.5 makes of the shares above.
WEIGHTS = {300: 39, 512: 59, 2048: 174}


def v1_files(limits: dict[str, Any]) -> dict[str, object]:
    memory, cpu = limits["memory"], limits["cpu"]
    return {
        "memory/memory.limit_in_bytes": memory["limit"],
        "memory/memory.memsw.limit_in_bytes": memory["swap"],
        "memory/memory.soft_limit_in_bytes": memory["reservation"],
        "cpu/cpu.shares": cpu["shares"],
        "cpu/cpu.cfs_quota_us": cpu["quota"],
        "cpu/cpu.cfs_period_us": cpu["period"],
        "cpuset/cpuset.cpus": cpu["cpus"],
        "pids/pids.max": limits["pids"]["limit"],
    }


def v2_files(limits: dict[str, Any]) -> dict[str, object]:
    memory, cpu = limits["memory"], limits["cpu"]
    return {
        "/memory.max": memory["limit"],
        "/memory.swap.max": memory["swap"] - memory["limit"],
        "/memory.low": memory["reservation"],
        "/cpu.weight": WEIGHTS[cpu["shares"]],
        "/cpu.max": f"{cpu['quota']} {cpu['period']}",
        "/cpuset.cpus.effective": cpu["cpus"],
        "/pids.max": limits["pids"]["limit"],
    }


def expected(limits: dict[str, Any]) -> dict[str, str]:
    """What the kernel's files say when these limits are in force."""
    if not LIMITED:
        return {f"/{name}": value for name, value in limits["unified"].items()}
    files = v2_files(limits) if PURE else v1_files(limits)
    return {name: str(value) for name, value in files.items()}


FILES = tuple(expected(SETS[0]))


def group_file(container: lc.Container, v1: str, v2: str) -> str:
    """A file of the container's group, named by controller and file, or by the file alone."""
    controller, _, file = (f"/{v2}" if PURE else v1).partition("/")
    return Path(container.cgroup.paths()[controller], file).read_text().strip()


def in_force(container: lc.Container) -> dict[str, str]:
    """What the kernel's files say."""
    found = {}
    for name in FILES:
        controller, _, file = name.partition("/")
        found[name] = Path(container.cgroup.paths()[controller], file).read_text().strip()
    return found


def on_record(container: lc.Container) -> dict[str, Any]:
    document = container._entry.load(CONFIG)
    assert document is not None
    resources: dict[str, Any] = document["linux"]["resources"]
    return {name: resources.get(name) for name in SETS[0]}


@pytest.fixture
def container(factory: lc.Factory, bundle: BundleMaker) -> Iterator[lc.Container]:
    with create(factory, bundle(FOREVER)) as made:
        made.start()
        yield made


# ---- what is asked for is in force, and on record --------------------------------------------


def test_new_limits_are_in_force_and_on_record(
    container: lc.Container, factory: lc.Factory
) -> None:
    for limits in (*SETS, *SETS):
        container.update(limits)
        assert in_force(container) == expected(limits)
        assert on_record(container) == on_record(factory.load("one")) == limits
        assert container.spec.linux is not None
        assert container.spec.linux.resources is not None
        assert container.spec.linux.resources.to_dict().items() >= limits.items()


@needs_controllers
def test_limits_in_every_form(container: lc.Container) -> None:
    def found() -> tuple[str, ...]:
        return (
            group_file(container, "pids/pids.max", "pids.max"),
            group_file(container, "memory/memory.limit_in_bytes", "memory.max"),
            group_file(container, "cpu/cpu.cfs_quota_us", "cpu.max").removesuffix(" 100000"),
        )

    container.update(LinuxResources(pids=LinuxPids(limit=33)))
    assert found()[0] == "33"
    container.update(memory="48M", cpus=0.5, pids=44)
    assert found() == ("44", str(48 * MIB), "50000")
    container.update(memory=-1, cpus=float("inf"), pids=-1)
    unlimited = ("max", "max", "max") if PURE else ("max", "9223372036854771712", "-1")
    assert found() == unlimited


@needs_controllers
def test_what_is_not_named_or_zero_stays(container: lc.Container) -> None:
    container.update(SETS[0])
    container.update({"memory": {"limit": 0}, "cpu": {"shares": 0, "cpus": ""}, "pids": {}})
    container.update({"pids": {"limit": 0}})
    container.update()
    assert in_force(container) == expected(SETS[0])
    container.update({"cpu": {"quota": 75_000}})
    changed = {**SETS[0], "cpu": {**SETS[0]["cpu"], "quota": 75_000}}
    assert in_force(container) == expected(changed)


@needs_controllers
def test_an_idle_container_gets_its_shares_back(container: lc.Container) -> None:
    def shares() -> str:
        return group_file(container, "cpu/cpu.shares", "cpu.weight")

    container.update({"cpu": {"shares": 512}})
    container.update({"cpu": {"idle": 1}})
    container.update({"cpu": {"shares": 300}})
    # An idle group has the 3 shares of the policy SCHED_IDLE; v2 rounds that to a weight of 0, and
    # from Linux 6.12 on to its smallest.
    assert shares() in (("0", "1") if PURE else ("3",))
    container.update({"cpu": {"idle": 0}})
    assert shares() == (str(WEIGHTS[300]) if PURE else "300")


@pytest.mark.parametrize("status", ["created", "running", "paused"])
def test_update_is_allowed_while_there_is_an_init(
    status: str, factory: lc.Factory, bundle: BundleMaker
) -> None:
    with create(factory, bundle(FOREVER)) as container:
        if status != "created":
            container.start()
        if status == "paused":
            container.pause()
        container.update(SETS[0])
        assert in_force(container) == expected(SETS[0])
        assert container.status == status


def test_update_of_a_container_that_has_stopped_is_refused(container: lc.Container) -> None:
    container.signal(signal.SIGKILL)
    container.wait(TIMEOUT)
    with pytest.raises(lc.StatusError, match="container not running: one is stopped"):
        container.update(SETS[0])


def test_update_of_a_container_in_the_making_is_refused_at_once(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    made = bundle(FOREVER)
    with Gate(tmp_path) as gate:
        made.config["hooks"] = {"createRuntime": [hook(gate.script())]}
        thread = threading.Thread(target=lambda: create(factory, made))
        thread.start()
        gate.reached()
        container = factory.load("one")
        for change in (container.update, container.pause, container.resume):
            with pytest.raises(lc.StatusError, match="is creating"):
                change()
        gate.open()
        thread.join()
    factory.load("one").delete(force=True)


# ---- all or nothing --------------------------------------------------------------------------


def test_a_refused_field_is_named_and_nothing_has_changed(container: lc.Container) -> None:
    container.update(SETS[0])
    with pytest.raises(lc.ContainerError) as caught:
        container.update(REFUSED)
    assert str(caught.value).startswith(f"$.linux.resources.{REFUSED_FIELD}")
    assert not hasattr(caught.value, "__notes__")
    assert in_force(container) == expected(SETS[0])
    assert on_record(container) == SETS[0]


@needs_v1
def test_a_limit_below_the_usage_is_refused_with_the_kernels_reason(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    # The shell's variable is memory that the kernel cannot take back.
    made = bundle(sh("x=$(head -c 8000000 /dev/zero | tr '\\0' x); echo ready; read never"))
    with create(factory, made, stdin=lc.PIPE, stdout=lc.PIPE) as container:
        container.start()
        process = container.process
        assert process is not None
        assert process.stdout is not None
        process.stdout.readline()
        container.update(SETS[0])
        with pytest.raises(lc.CgroupError) as caught:
            container.update({"pids": {"limit": 11}, "memory": {"limit": 4 * MIB}})
        assert caught.value.errno == errno.EBUSY
        assert "$.linux.resources.memory.limit: cannot set memory limit" in str(caught.value)
        assert "current usage: " in str(caught.value)
        assert in_force(container) == expected(SETS[0])
        assert container.status == "running"


@needs_controllers
def test_memory_and_swap_go_up_and_down_together(container: lc.Container) -> None:
    def memory_limit() -> str:
        return group_file(container, "memory/memory.limit_in_bytes", "memory.max")

    for limit, swap in ((64, 64), (256, 512), (32, 48), (300, 300), (40, -1), (64, 64)):
        amount = swap * MIB if swap > 0 else swap
        container.update(LinuxResources(memory=LinuxMemory(limit=limit * MIB, swap=amount)))
        assert memory_limit() == str(limit * MIB)
        found = group_file(container, "memory/memory.memsw.limit_in_bytes", "memory.swap.max")
        if swap > 0:
            assert found == str(amount - limit * MIB if PURE else amount)
        else:
            assert found == ("max" if PURE else "9223372036854771712")
    with pytest.raises(lc.SpecError, match=r"\$\.linux\.resources\.memory\.swap: .*which it incl"):
        container.update(memory="128M")
    assert memory_limit() == str(64 * MIB)


def test_limits_that_cannot_be_recorded_are_taken_back(
    container: lc.Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    container.update(SETS[0])
    save = Entry.save

    def full(self: Entry, record: dict[str, Any], name: str = "state.json") -> None:
        if name == CONFIG:
            raise lc.ContainerError("no space left", errno=errno.ENOSPC)
        save(self, record, name)

    monkeypatch.setattr(Entry, "save", full)
    with pytest.raises(lc.ContainerError, match="no space"):
        container.update(SETS[1])
    assert in_force(container) == expected(SETS[0])
    assert on_record(container) == SETS[0]


# ---- devices ---------------------------------------------------------------------------------

DENY = {"allow": False, "access": "rwm"}
KMSG = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "w"}
BAD = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "q"}
# To open it for writing takes no capability; nothing is written.
OPEN_KMSG = sh(": >/dev/kmsg")


def with_kmsg(config: dict[str, Any]) -> None:
    config["linux"]["devices"] = [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]


def may_open(container: lc.Container) -> bool:
    done = exec_inside(container, OPEN_KMSG)
    assert done.code == 0 or "Operation not permitted" in done.text
    return done.code == 0


@pytest.mark.no_user_namespace("device rules are not all that decides")
def test_device_rules_are_replaced(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER, edit=with_kmsg)) as container:
        container.start()
        assert not may_open(container)
        container.update({"devices": [DENY, KMSG]})
        assert may_open(container)
        with pytest.raises(lc.ContainerError, match=r"devices\[1\]\.access"):
            container.update({"devices": [DENY, BAD]})
        assert may_open(container)
        container.update({"devices": [DENY]})
        assert not may_open(container)


@pytest.mark.no_user_namespace("device rules are not all that decides")
def test_device_rules_go_back_when_a_later_step_fails(
    factory: lc.Factory, bundle: BundleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create(factory, bundle(FOREVER, edit=with_kmsg)) as container:
        container.start()

        def full(*_: Any) -> None:
            raise lc.ContainerError("no space left", errno=errno.ENOSPC)

        with monkeypatch.context() as patch:
            patch.setattr(Entry, "save", full)
            with pytest.raises(lc.ContainerError, match="no space"):
                container.update({"devices": [DENY, KMSG]})
        assert not may_open(container)


@needs_v1
@pytest.mark.no_user_namespace("device rules are not all that decides")
def test_rules_that_stay_leave_what_others_have_allowed(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    """A hook that lends a GPU writes to the group itself; kubelet's update repeats all rules."""
    with create(factory, bundle(FOREVER, edit=with_kmsg)) as container:
        container.start()
        assert container.spec.linux is not None
        assert container.spec.linux.resources is not None
        rules = container.spec.linux.resources.to_dict()["devices"]
        Path(container.cgroup.paths()["devices"], "devices.allow").write_text("c 1:11 w")
        container.update({"devices": rules, "pids": {"limit": 50}})
        assert may_open(container)


# ---- the resctrl class -----------------------------------------------------------------------


def test_a_class_gets_new_limits(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Tree(tmp_path / "resctrl", monkeypatch)
    made = bundle(FOREVER, edit=lambda c: c["linux"].update(intelRdt={"l3CacheSchema": "L3:0=f"}))
    with create(factory, made) as container:
        container.start()
        container.update(intel_rdt={"l3CacheSchema": "L3:0=ff"})
        assert tree.writes[-1] == ("one/schemata", "L3:0=ff\n")
        document = container._entry.load(CONFIG)
        assert document is not None
        assert document["linux"]["intelRdt"]["l3CacheSchema"] == "L3:0=ff"
        tree.refuse = "L3:0=0"
        before = in_force(container)
        with pytest.raises(lc.ContainerError, match=r"\$\.linux\.intelRdt"):
            container.update(SETS[0], intel_rdt={"l3CacheSchema": "L3:0=0"})
        assert in_force(container) == before


def test_a_container_without_a_class_gets_one(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Tree(tmp_path / "resctrl", monkeypatch)
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        container.update(intel_rdt={"memBwSchema": "MB:0=50"})
        assert tree.writes[-1] == ("one/schemata", "MB:0=50\n")
        assert str(container.pid) in tree.tasks("one")
    assert tree.groups() == set()


def test_without_resctrl_a_class_is_refused_and_nothing_has_changed(
    container: lc.Container,
) -> None:
    if " - resctrl " in Path("/proc/self/mountinfo").read_text():
        pytest.skip("this host has resctrl")
    before = in_force(container)
    with pytest.raises(lc.UnsupportedError, match=r"\$\.linux\.intelRdt"):
        container.update(SETS[0], intel_rdt={"l3CacheSchema": "L3:0=f"})
    assert in_force(container) == before


# ---- two callers -----------------------------------------------------------------------------

# Memory that comes and goes, processes that do, and a loop.
LOAD = """
while true; do x=$(head -c 2000000 /dev/zero | tr '\\0' y); x=; done &
while true; do true & wait; done &
while true; do :; done
"""
CALLER = """
from tests.privileged.test_update import call_often
own, other = map(int, sys.argv[3:])
say(json.dumps(call_often(factory.load("one"), own, other)))
"""


def call_often(container: lc.Container, own: int, other: int) -> list[Any]:
    """Half of the updates, to the set of that number, and what was in force in between.

    ``other`` is a socket to the other caller, with whom each update is begun together. What is
    in force is read while nobody may change it, right after the update and again when both are
    done: 0 or 1, the number of a set that is there as a whole, in the kernel and on record, or
    else all that was found.
    """
    wanted = [expected(limits) for limits in SETS]

    def together() -> None:
        os.write(other, b".")
        assert os.read(other, 1)

    def look() -> Any:
        with Entry("one", container._entry.path) as entry:
            entry.lock()
            found, record = in_force(container), on_record(container)
        which = wanted.index(found) if found in wanted else -1
        return which if which >= 0 and record == SETS[which] else [found, record]

    def taken() -> bool:
        try:
            container.update(SETS[own])
        except lc.CgroupError as error:
            # On a busy machine the kernel may be too slow to take memory back from the load.
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    seen: list[Any] = []
    for _ in range(UPDATES // 2):
        together()
        while not taken():
            # All of it was refused; what was there before still has to be, as a whole.
            assert look() in (0, 1)
        seen.append(look())
        together()
        seen.append(look())
    return seen


@pytest.mark.parametrize("callers", ["threads", "processes"])
def test_a_thousand_updates_of_two_callers_never_mix(
    callers: str, factory: lc.Factory, bundle: BundleMaker, state_root: str
) -> None:
    with create(factory, bundle(sh(LOAD))) as container:
        container.start()
        ends = socket.socketpair()
        with ends[0], ends[1]:
            if callers == "threads":
                seen = _from_threads(container, ends)
            else:
                seen = _from_processes(bundle, state_root, ends)
        assert [each for one in seen for each in one if each not in (0, 1)] == []
        # Each pair of updates has one that came last, and both callers see the same.
        assert seen[0][1::2] == seen[1][1::2]
        assert len(seen[0]) == UPDATES
        assert container.status == "running"


Ends = tuple[socket.socket, socket.socket]


def _from_threads(container: lc.Container, ends: Ends) -> list[list[Any]]:
    seen: list[list[Any]] = [[], []]
    failures: list[BaseException] = []

    def work(own: int) -> None:
        try:
            seen[own] = call_often(container, own, ends[own].fileno())
        except BaseException as error:
            failures.append(error)
            ends[own].shutdown(socket.SHUT_RDWR)

    threads = [threading.Thread(target=work, args=(own,)) for own in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    return seen


def _from_processes(bundle: BundleMaker, state_root: str, ends: Ends) -> list[list[Any]]:
    made: Bundle = bundle(FOREVER)
    programs = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", Program.PRELUDE + CALLER, state_root, str(made)),
                *(str(own), str(ends[own].fileno())),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            pass_fds=[ends[own].fileno()],
        )
        for own in (0, 1)
    ]
    for end in ends:
        # Whoever ends early is not waited for.
        end.close()
    try:
        output = [program.communicate(timeout=100)[0] for program in programs]
        assert [program.returncode for program in programs] == [0, 0]
        return [json.loads(each) for each in output]
    finally:
        for program in programs:
            program.kill()
            program.communicate()


# ---- the same again, as if there was only v2 -------------------------------------------------


@pytest.mark.skipif(VIEW in os.environ, reason="this is the view already")
@pytest.mark.skipif(PURE, reason="the host shows nothing else")
def test_the_battery_in_a_pure_v2_view() -> None:
    run_in_pure_v2_view(__file__, VIEW, timeout=170)


@pytest.mark.skipif(not PURE, reason="needs a pure v2 hierarchy")
def test_the_view_is_v2s_alone(container: lc.Container) -> None:
    assert container.cgroup.mode == "v2"
