"""Every field of ``linux.resources``: what the kernel's own file says, and what is felt inside.

Where this host's kernel has no such file, or cgroup v2 no such setting, the field is an error that
names it; the table below says which. Processes, memory, processor time and devices are also felt
in test_limits_felt.py, notices of them are in test_events.py, changes in test_update.py.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from libpycontainer import host
from libpycontainer.cgroups import open_manager
from libpycontainer.cgroups.protocol import Manager
from libpycontainer.spec import light
from tests import ways
from tests.conftest import RUN_PREFIX
from tests.privileged.support import (
    FOREVER,
    create,
    exec_inside,
    groups_left,
    run_in_pure_v2_view,
    sh,
)
from tests.privileged.test_cgroups import Member

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

VIEW = "LPC_TEST_RESOURCES_VIEW"
TOP = Path("/sys/fs/cgroup")
PURE = (TOP / "cgroup.controllers").exists()
BESIDE = TOP / "unified/cgroup.controllers"
UNIFIED = BESIDE.read_text().split() if BESIDE.exists() else []
MIB = 1 << 20
UNFIT = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV)


def directory_of(manager: Manager, controller: str) -> Path | None:
    """Where the controller's files of a group are; ``None`` where the controller is not."""
    paths = manager.paths()
    if controller in paths:
        return Path(paths[controller])
    unified = Path(paths.get("", "/nonexistent"))
    here = unified / "cgroup.controllers"
    if here.exists() and controller in here.read_text().split():
        return unified
    return None


def resources(document: dict[str, Any]) -> Any:
    return light.record("LinuxResources", document)


def limited(document: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    return lambda config: config["linux"]["resources"].update(document)


@pytest.fixture
def group() -> Iterator[Callable[[dict[str, Any]], Manager]]:
    """Makes a group with the limits that it is given; skips where the controllers are missing."""
    made: list[Manager] = []

    def make(document: dict[str, Any], *controllers: str) -> Manager:
        wanted = resources(document)
        path = ways.cgroup(f"{RUN_PREFIX}-resources-{len(made)}")
        manager = open_manager(path, "unused", host.facts())
        manager.create(wanted)
        made.append(manager)
        for controller in controllers:
            if directory_of(manager, controller) is None:
                pytest.skip(f"the controller {controller} is in no hierarchy that is mounted")
        manager.apply(wanted, devices=False)
        return manager

    yield make
    for manager in made:
        manager.kill()
        manager.destroy()


@pytest.fixture
def disk(workspace: Path) -> Iterator[str]:
    """A block device of the test's own, scheduled by BFQ where the kernel has that."""
    if shutil.which("losetup") is None:
        pytest.skip("losetup is not installed")
    image = workspace / "disk"
    image.write_bytes(bytes(4 * MIB))
    made = subprocess.run(
        ["losetup", "--find", "--show", "--direct-io=off", image], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr}")
    path = made.stdout.strip()
    try:
        Path("/sys/block", Path(path).name, "queue/scheduler").write_text("bfq")
    except OSError:
        # Without BFQ there are no weights, which the tests will find out.
        pass
    yield path
    subprocess.run(["losetup", "--detach", path], check=True)
    image.unlink()


@pytest.fixture
def rdma() -> Iterator[None]:
    """An RDMA device in software, rxe0, where the kernel and the host's programs can make one."""
    made = shutil.which("rdma") is not None and shutil.which("modprobe") is not None
    for command in ("modprobe rdma_rxe", "rdma link add rxe0 type rxe netdev lo"):
        made = made and subprocess.run(command.split(), capture_output=True).returncode == 0
    yield
    if made:
        subprocess.run(["rdma", "link", "delete", "rxe0"], check=True)


def numbers(path: str) -> tuple[int, int]:
    node = os.stat(path).st_rdev
    return os.major(node), os.minor(node)


# ---- the kernel's files ----------------------------------------------------------------------

# Field | its section in the configuration | v1's files and what they say | v2's, "-" for none.
# What they say is a pattern; NODE and NUMBERS are the test's device. An "also" tells a second row
# of the same field from the first.
TABLE = r"""
memory.limit | {"limit": 67108864} | memory.limit_in_bytes=67108864 | memory.max=67108864
memory.limit also unlimited | {"limit": -1} | memory.limit_in_bytes=\d{19} | memory.max=max; memory.swap.max=max
memory.limit also useHierarchy | {"limit": 67108864, "useHierarchy": true} | memory.use_hierarchy=1 | memory.max=67108864
memory.limit also checkBeforeUpdate | {"limit": 67108864, "checkBeforeUpdate": true} | memory.limit_in_bytes=67108864 | memory.max=67108864
memory.swap | {"limit": 67108864, "swap": 100663296} | memory.memsw.limit_in_bytes=100663296 | memory.max=67108864; memory.swap.max=33554432
memory.swap also unlimited | {"limit": 67108864, "swap": -1} | memory.memsw.limit_in_bytes=\d{19} | memory.swap.max=max
memory.swap also none | {"limit": 67108864, "swap": 67108864} | memory.memsw.limit_in_bytes=67108864 | memory.swap.max=0
memory.reservation | {"reservation": 33554432} | memory.soft_limit_in_bytes=33554432 | memory.low=33554432
memory.kernelTCP | {"kernelTCP": 8388608} | memory.kmem.tcp.limit_in_bytes=8388608 | -
memory.swappiness | {"swappiness": 7} | memory.swappiness=7 | -
memory.disableOOMKiller | {"disableOOMKiller": true} | memory.oom_control=oom_kill_disable 1\s.* | -
cpu.shares | {"shares": 512} | cpu.shares=512 | cpu.weight=59
cpu.shares also default | {"shares": 1024} | cpu.shares=1024 | cpu.weight=100
cpu.shares also most | {"shares": 262144} | cpu.shares=262144 | cpu.weight=10000
cpu.quota | {"quota": 50000, "period": 200000} | cpu.cfs_quota_us=50000; cpu.cfs_period_us=200000 | cpu.max=50000 200000
cpu.period | {"period": 50000} | cpu.cfs_quota_us=-1; cpu.cfs_period_us=50000 | cpu.max=max 50000
cpu.burst | {"quota": 50000, "burst": 20000} | cpu.cfs_quota_us=50000; cpu.cfs_burst_us=20000 | cpu.max=50000 100000; cpu.max.burst=20000
cpu.idle | {"idle": 1, "shares": 512} | cpu.idle=1 | cpu.idle=1
cpu.realtimePeriod | {"realtimePeriod": 500000, "realtimeRuntime": 1000} | cpu.rt_period_us=500000; cpu.rt_runtime_us=1000 | -
cpu.realtimeRuntime | {"realtimeRuntime": 1000} | cpu.rt_runtime_us=1000 | -
cpu.cpus | {"cpus": "0"} | cpuset.cpus=0 | cpuset.cpus=0
cpu.mems | {"mems": "0"} | cpuset.mems=0 | cpuset.mems=0
pids.limit | {"limit": 33} | pids.max=33 | pids.max=33
pids.limit also none | {"limit": 0} | pids.max=1 | pids.max=1
pids.limit also unlimited | {"limit": -1} | pids.max=max | pids.max=max
blockIO.weight | {"weight": 250} | blkio.bfq.weight=(default )?250.* | io.bfq.weight=default 250.*
blockIO.leafWeight | {"leafWeight": 250} | blkio.leaf_weight=250 | -
blockIO.weightDevice | {"weightDevice": [{NUMBERS, "weight": 300}]} | blkio.bfq.weight_device=.*NODE 300.* | io.bfq.weight=.*NODE 300.*
blockIO.weightDevice also leaf | {"weightDevice": [{NUMBERS, "leafWeight": 300}]} | blkio.leaf_weight_device=NODE 300 | -
blockIO.throttleReadBpsDevice | {"throttleReadBpsDevice": [{NUMBERS, "rate": 2097152}]} | blkio.throttle.read_bps_device=NODE 2097152 | io.max=NODE .*rbps=2097152.*
blockIO.throttleWriteBpsDevice | {"throttleWriteBpsDevice": [{NUMBERS, "rate": 3145728}]} | blkio.throttle.write_bps_device=NODE 3145728 | io.max=NODE .*wbps=3145728.*
blockIO.throttleReadIOPSDevice | {"throttleReadIOPSDevice": [{NUMBERS, "rate": 400}]} | blkio.throttle.read_iops_device=NODE 400 | io.max=NODE .*riops=400.*
blockIO.throttleWriteIOPSDevice | {"throttleWriteIOPSDevice": [{NUMBERS, "rate": 500}]} | blkio.throttle.write_iops_device=NODE 500 | io.max=NODE .*wiops=500.*
hugepageLimits | [{"pageSize": "2MB", "limit": 4194304}] | hugetlb.2MB.limit_in_bytes=4194304; hugetlb.2MB.rsvd.limit_in_bytes=4194304 | hugetlb.2MB.max=4194304; hugetlb.2MB.rsvd.max=4194304
network.classID | {"classID": 1048577} | net_cls.classid=1048577 | -
network.priorities | {"priorities": [{"name": "lo", "priority": 3}]} | net_prio.ifpriomap=.*lo 3.* | -
rdma | {"rxe0": {"hcaHandles": 3, "hcaObjects": 100}} | rdma.max=.*rxe0 hca_handle=3 hca_object=100.* | rdma.max=.*rxe0 hca_handle=3 hca_object=100.*
"""  # noqa: E501 - a table


class Field:
    """One row of the table."""

    def __init__(self, row: str) -> None:
        self.id, self._section, v1, v2 = (cell.strip() for cell in row.split(" | "))
        self.name = self.id.partition(" also ")[0]
        # A controller that no v1 hierarchy has may be in the unified one, beside those.
        version2 = PURE or v1.partition(".")[0] in UNIFIED
        self._expected = v2 if version2 else v1
        self.needs_device = "NUMBERS" in row

    def document(self, device: tuple[int, int]) -> dict[str, Any]:
        major, minor = device
        text = self._section.replace("NUMBERS", f'"major": {major}, "minor": {minor}')
        return {self.name.partition(".")[0]: json.loads(text)}

    def expected(self, device: tuple[int, int]) -> dict[str, str]:
        """Patterns by file; none for what v2 cannot express."""
        text = self._expected.replace("NODE", "{}:{}".format(*device))
        return dict(each.split("=", 1) for each in text.split("; ")) if text != "-" else {}


FIELDS = [Field(row) for row in TABLE.strip().splitlines()]


def file_of(container: lc.Container, file: str) -> Path | None:
    directory = directory_of(container.cgroup, file.partition(".")[0])
    path = directory and directory / file
    return path if path and path.exists() else None


@pytest.mark.parametrize("field", FIELDS, ids=[field.id for field in FIELDS])
def test_the_kernels_file_says_it_or_the_field_is_named(
    field: Field, factory: lc.Factory, bundle: BundleMaker, request: pytest.FixtureRequest
) -> None:
    if field.name.startswith("cpu.realtime") and ways.WAY == "user":
        pytest.skip("as user: the group that he was given has no time for real-time processes")
    device = numbers(request.getfixturevalue("disk")) if field.needs_device else (0, 0)
    if field.name == "rdma":
        request.getfixturevalue("rdma")
    made = bundle(FOREVER, edit=limited(field.document(device)))
    expected = field.expected(device)
    container, error = attempt(factory, made)
    if container is None:
        assert re.match(re.escape(f"$.linux.resources.{field.name}"), str(error))
        assert groups_left(made.linux["cgroupsPath"]) == []
        if expected:
            skip_if_it_cannot_be(field, expected, factory, bundle(FOREVER), error)
        assert "cgroup v2" in str(error)
        return
    with container:
        assert expected, f"cgroup v2 cannot express {field.name}"
        for file, value in expected.items():
            path = file_of(container, file)
            if path is None and "bfq" in file:
                # The cost model's weight stands in for that of BFQ.
                assert file_of(container, "io.weight") is not None
                continue
            assert path is not None, f"there is no {file}"
            text = path.read_text().strip()
            assert re.fullmatch(value, text, re.DOTALL), f"{file}: {text!r}"


def attempt(
    factory: lc.Factory, made: Bundle
) -> tuple[lc.Container, None] | tuple[None, lc.ContainerError]:
    try:
        return create(factory, made), None
    except lc.ContainerError as error:
        return None, error


def skip_if_it_cannot_be(
    field: Field, expected: dict[str, str], factory: lc.Factory, made: Bundle, error: Any
) -> None:
    """Skip if the kernel has no such file, or the device of the test does not take what it says."""
    with create(factory, made) as other:
        there = [file for file in expected if file_of(other, file)]
    unfit = field.needs_device and error.errno in UNFIT
    assert unfit or there == [], error
    pytest.skip(str(error))


def test_what_no_kernel_limits_any_more_is_logged(
    factory: lc.Factory, bundle: BundleMaker, caplog: pytest.LogCaptureFixture
) -> None:
    with create(factory, bundle(FOREVER, edit=limited({"memory": {"kernel": 64 * MIB}}))):
        assert "$.linux.resources.memory.kernel: " in caplog.text


def test_every_field_of_the_specification_is_in_the_table() -> None:
    from libpycontainer.spec.models import LinuxBlockIO, LinuxCPU, LinuxMemory, LinuxResources

    named = {field.name.partition(".")[0] for field in FIELDS}
    sections = {to_json(name) for name in names_of(LinuxResources)}
    # Device rules and files of v2 have tests of their own, below and in test_cgroups.py.
    assert sections - {"devices", "unified", "extra"} == named
    beside = {"kernel", "useHierarchy", "checkBeforeUpdate", "extra"}
    for model, section in ((LinuxMemory, "memory"), (LinuxCPU, "cpu"), (LinuxBlockIO, "blockIO")):
        given = {
            field.name.partition(".")[2] for field in FIELDS if field.name.startswith(section + ".")
        }
        assert {to_json(name) for name in names_of(model)} - beside == given


def names_of(model: Any) -> list[str]:
    import attrs

    return [each.name for each in attrs.fields(model)]


def to_json(name: str) -> str:
    spelled = {
        "block_io": "blockIO",
        "kernel_tcp": "kernelTCP",
        "disable_oom_killer": "disableOOMKiller",
        "throttle_read_iops_device": "throttleReadIOPSDevice",
        "throttle_write_iops_device": "throttleWriteIOPSDevice",
    }
    first, *rest = name.split("_")
    return spelled.get(name) or first + "".join(word.capitalize() for word in rest)


@pytest.mark.skipif(not PURE, reason="the files are v2's")
def test_files_of_v2_that_the_config_names_itself(factory: lc.Factory, bundle: BundleMaker) -> None:
    here = (TOP / "cgroup.controllers").read_text().split()
    wanted = {"cgroup.max.depth": "7"}
    if "memory" in here:
        # Last and so in the place of what the limit says; a value that is no plain number.
        wanted |= {"memory.high": str(48 * MIB), "memory.max": str(96 * MIB)}
    if "hugetlb" in here:
        wanted["hugetlb.2MB.max"] = str(6 * MIB)
    with create(factory, bundle(FOREVER, edit=limited({"unified": wanted}))) as container:
        for file, value in wanted.items():
            assert Path(container.cgroup.paths()[""], file).read_text() == f"{value}\n"


# ---- felt inside -----------------------------------------------------------------------------


def test_processors_and_memory_nodes_are_those_that_are_allowed(
    factory: lc.Factory, bundle: BundleMaker, group: Callable[..., Manager]
) -> None:
    group({}, "cpuset")
    script = "nproc; grep -E '(Cpus|Mems)_allowed_list' /proc/self/status"
    made = bundle(FOREVER, edit=limited({"cpu": {"cpus": "1", "mems": "0"}}))
    with create(factory, made) as container:
        container.start()
        assert os.sched_getaffinity(container.pid) == {1}
        words = exec_inside(container, sh(script)).text.split()
        assert words == ["1", "Cpus_allowed_list:", "1", "Mems_allowed_list:", "0"]
        container.update({"cpu": {"cpus": "0-1"}})
        assert exec_inside(container, ["nproc"]).text == "2\n"


def test_more_shares_are_more_time(group: Callable[..., Manager]) -> None:
    managers = [group({"cpu": {"shares": shares}}, "cpu") for shares in (2048, 128)]
    with Member() as much, Member() as little:
        for manager, member in zip(managers, (much, little), strict=True):
            manager.add(member.pid)
            # They share one processor; on two there would be nothing to divide.
            assert member.ask("os.sched_setaffinity(0, {0}) or sum(os.times()[:2])") < 5
        end = time.monotonic() + 1.5
        spin = f"all(iter(lambda: __import__('time').monotonic() < {end}, False))"
        used = []
        for member in (much, little):
            member.tell(f"{spin} and sum(os.times()[:2])")
        for member in (much, little):
            used.append(member.hear())
    assert used[0] > 2.5 * used[1], used


@pytest.mark.no_user_namespace("needs CAP_SYS_NICE on the host")
def test_realtime_takes_a_share_of_time(group: Callable[..., Manager]) -> None:
    if PURE:
        pytest.skip("v2 has no such limit, and the field is an error")
    with Member() as member:
        without = group({}, "cpu")
        if not Path(without.paths()["cpu"], "cpu.rt_runtime_us").exists():
            pytest.skip("this kernel does not divide realtime among groups")
        ask = "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)) or 0"
        without.add(member.pid)
        assert member.ask(ask) == "EPERM"
        group({"cpu": {"realtimePeriod": 1_000_000, "realtimeRuntime": 5_000}}).add(member.pid)
        assert member.ask(ask) == 0


@pytest.mark.skipif(
    len(Path("/proc/swaps").read_text().splitlines()) < 2, reason="this host has no swap"
)
def test_memory_beyond_the_limit_goes_to_the_swap_that_is_allowed(
    group: Callable[..., Manager],
) -> None:
    hog = f"setattr(sys, 'hog', bytearray(b'x') * {48 * MIB}) or 1"
    with Member() as member:
        roomy = group({"memory": {"limit": 24 * MIB, "swap": 96 * MIB}}, "memory")
        roomy.add(member.pid)
        assert member.ask(hog) == 1
        memory = roomy.stats().memory
        assert memory is not None
        assert memory.usage <= 24 * MIB
        assert memory.swap is not None
        assert memory.swap > 0
    with Member() as member:
        tight = group({"memory": {"limit": 24 * MIB, "swap": 24 * MIB}})
        tight.add(member.pid)
        member.tell(hog)
        assert member.process.wait(30) == -signal.SIGKILL


def test_a_limit_below_the_usage_is_refused_if_that_is_asked_for(
    group: Callable[..., Manager],
) -> None:
    manager = group({"memory": {"limit": 128 * MIB}}, "memory")
    with Member() as member:
        manager.add(member.pid)
        assert member.ask(f"setattr(sys, 'hog', bytearray(b'x') * {32 * MIB}) or 1") == 1
        below = {"memory": {"limit": 4 * MIB, "checkBeforeUpdate": True}}
        with pytest.raises(lc.CgroupError, match=r"^\$\.linux\.resources\.memory\.limit: "):
            manager.update(resources(below))
        assert member.ask("1") == 1


TRANSFER = (
    "(lambda fd, page: [os.{call}(fd, [page], at << 16) for at in range({count})]"
    " and os.close(fd) or 1)"
    "(os.open({path!r}, os.{flags} | os.O_DIRECT), __import__('mmap').mmap(-1, 1 << 16))"
)
RATES = {
    "throttleReadBpsDevice": ("preadv", MIB),
    "throttleWriteBpsDevice": ("pwritev", MIB),
    "throttleReadIOPSDevice": ("preadv", 16),
    "throttleWriteIOPSDevice": ("pwritev", 16),
}


@pytest.mark.parametrize("name", RATES)
def test_a_disk_is_as_slow_as_it_may_be(
    name: str, disk: str, group: Callable[..., Manager]
) -> None:
    call, rate = RATES[name]
    major, minor = numbers(disk)
    row = {"major": major, "minor": minor, "rate": rate}
    free = group({}, "io" if PURE else "blkio")
    flags = "O_RDONLY" if call == "preadv" else "O_WRONLY"
    # Two seconds' worth of either limit.
    transfer = TRANSFER.format(call=call, count=32, path=disk, flags=flags)
    with Member() as member:
        free.add(member.pid)
        begun = time.monotonic()
        assert member.ask(transfer) == 1
        freely = time.monotonic() - begun
        group({"blockIO": {name: [row]}}).add(member.pid)
        begun = time.monotonic()
        assert member.ask(transfer) == 1
        assert time.monotonic() - begun > max(1.0, 2 * freely)


@pytest.fixture
def huge_pages() -> Iterator[int]:
    """Eight huge pages that nobody uses; the size of one."""
    count = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    if not count.exists():
        pytest.skip("this kernel has no huge pages of 2 MiB")
    before = int(count.read_text())
    count.write_text(str(before + 8))
    free = int(count.with_name("free_hugepages").read_text())
    try:
        if free < 8:
            pytest.skip("this host's memory is too scattered for eight huge pages")
        yield 2 * MIB
    finally:
        count.write_text(str(before))


# MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB; the last touches one byte of each page.
HUGE_MAP = "setattr(sys, 'huge', __import__('mmap').mmap(-1, {size}, flags=0x40022)) or 1"
HUGE_TOUCH = "[sys.huge.__setitem__(at, 1) for at in range(0, len(sys.huge), 2 << 20)] and 1"


@pytest.mark.privileged_caller("sets the host's number of huge pages")
def test_huge_pages_end_at_the_limit(huge_pages: int, group: Callable[..., Manager]) -> None:
    document = {"hugepageLimits": [{"pageSize": "2MB", "limit": 2 * huge_pages}]}
    try:
        manager = group(document, "hugetlb")
    except lc.CgroupError as error:
        pytest.skip(str(error))
    with Member() as member:
        manager.add(member.pid)
        assert member.ask(HUGE_MAP.format(size=2 * huge_pages)) == 1
        assert member.ask(HUGE_TOUCH) == 1
        pages = (manager.stats().hugepages or {})["2MB"]
        assert (pages.usage, pages.limit) == (2 * huge_pages, 2 * huge_pages)
        assert pages.reserved_limit in (None, 2 * huge_pages)
        # A page is reserved when it is mapped, where the kernel limits reservations (5.7).
        if pages.reserved_limit is not None:
            assert member.ask(HUGE_MAP.format(size=3 * huge_pages)) == "ENOMEM"
        assert member.ask("sys.huge.close() or 1") == 1


# ---- devices ---------------------------------------------------------------------------------

DENY = {"allow": False, "access": "rwm"}


def rule(minor: int | None, access: str = "rw", allow: bool = True) -> dict[str, Any]:
    return {"allow": allow, "type": "c", "major": 1, "minor": minor, "access": access}


def allowed(*rules: dict[str, Any]) -> Any:
    return resources({"devices": [DENY, *rules]})


@pytest.mark.no_user_namespace("device rules are not all that decides")
def test_rules_change_at_once_for_a_program_that_keeps_trying(
    group: Callable[..., Manager],
) -> None:
    """What is allowed before and after is allowed in between; what is denied always, never."""
    manager = group({})
    kept, other = rule(11, "r"), rule(1, "r")
    manager.apply(allowed(kept))
    script = """
import errno, os, sys
sys.stdin.readline()
counts, wrong = [0, 0], []
while not os.path.exists(sys.argv[1]):
    for path, flags, expected in (("/dev/kmsg", os.O_RDONLY, 0), ("/dev/kmsg", os.O_WRONLY, 1)):
        try:
            os.close(os.open(path, flags)); denied = 0
        except PermissionError:
            denied = 1
        counts[denied] += 1
        if denied != expected: wrong.append((flags, denied))
print(counts, wrong)
"""
    stop = Path(f"/tmp/{RUN_PREFIX}-stop")
    program = subprocess.Popen(
        [sys.executable, "-c", script, stop],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    manager.add(program.pid)
    assert program.stdin is not None
    program.stdin.write("go\n")
    program.stdin.flush()
    for _ in range(200):
        manager.update(allowed(other, kept), allowed(kept))
        manager.update(allowed(kept), allowed(other, kept))
    stop.touch()
    output, _ = program.communicate(timeout=30)
    stop.unlink()
    counts, _, wrong = output.strip().partition("] ")
    assert wrong == "[]", output
    assert all(int(count) > 50 for count in counts.strip("[]").split(","))


@pytest.mark.no_user_namespace("device rules are not all that decides")
def test_the_last_rule_that_matches_decides(group: Callable[..., Manager]) -> None:
    manager = group({})
    cases = [
        # A narrow rule after a wide one, and the same the other way round.
        ((rule(None, "r"), rule(11, "w")), 0, 0),
        ((rule(11, "rw"), rule(11, "w", allow=False)), 0, "EPERM"),
        ((rule(11, "rw"), rule(None, "rw", allow=False)), "EPERM", "EPERM"),
    ]
    if PURE:
        cases.append(((rule(None, "rw"), rule(11, "w", allow=False)), 0, "EPERM"))
    with Member() as member:
        manager.add(member.pid)
        for rules, reading, writing in cases:
            manager.apply(allowed(*rules))
            assert member.opens("/dev/kmsg") == reading, rules
            assert member.opens("/dev/kmsg", os.O_WRONLY) == writing, rules
            # Those that every container has come after all others.
            assert member.opens("/dev/null", os.O_RDWR) == 0


# ---- the same again, in other views ----------------------------------------------------------


@pytest.mark.skipif(VIEW in os.environ, reason="this is the view already")
@pytest.mark.skipif(PURE, reason="the host shows nothing else")
@pytest.mark.timeout(120)
def test_the_battery_in_a_pure_v2_view() -> None:
    run_in_pure_v2_view(__file__, VIEW, timeout=110)
