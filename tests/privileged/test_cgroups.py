"""Managers on the real kernel: on this host's hierarchies, and again as if there was one version.

The other runs happen in a mount namespace of their own, where either the unified hierarchy is
missing or everything else is. Controllers that are v1 ones on the host are not there in the v2
view, and tests that need them skip.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace, TracebackType
from typing import Any

import pytest

from libpycontainer import syscalls
from libpycontainer.cgroups import (
    devices,
    hierarchies,
    load_manager,
    open_manager,
    settings,
    tree,
)
from libpycontainer.cgroups.protocol import Manager
from libpycontainer.errors import CgroupError, UnsupportedError
from libpycontainer.spec.models import (
    LinuxCPU,
    LinuxDeviceCgroup,
    LinuxHugepageLimit,
    LinuxMemory,
    LinuxPids,
    LinuxResources,
)

pytestmark = pytest.mark.privileged_caller("makes groups at the top of every hierarchy")

MODE = hierarchies.mode()
TOP = f"/lpc-cgroups-{os.getpid()}"
VIEW = "LPC_TEST_CGROUP_VIEW"
VIEWS = {
    "v1": "umount /sys/fs/cgroup/unified",
    "v2": "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup",
}
KMSG = LinuxDeviceCgroup(allow=True, type="c", major=1, minor=11, access="r")
DENY_ALL = LinuxDeviceCgroup(allow=False, access="rwm")
MIB = 1 << 20

HELPER = """
import sys
for line in sys.stdin:
    try:
        print(repr(eval(line, {"os": __import__("os"), "sys": sys})), flush=True)
    except OSError as error:
        print(repr(__import__("errno").errorcode[error.errno]), flush=True)
"""


def facts(mode: str = MODE) -> Any:
    return SimpleNamespace(cgroup_mode=mode, in_user_namespace=False)


def manager_at(path: str) -> Manager:
    return open_manager(TOP + path, "unused", facts())


def left_behind() -> list[str]:
    found = []
    for one in hierarchies.hierarchies():
        found += [one.mountpoint + name for name in (TOP,) if os.path.exists(one.mountpoint + name)]
    return found


@pytest.fixture(scope="module", autouse=True)
def controllers_as_before() -> Iterator[None]:
    """What the v2 manager enables for its groups stays enabled in the root: take it back."""
    control = hierarchies.ROOT + "/cgroup.subtree_control"
    before = set(read(control).split()) if MODE == "v2" else set()
    yield
    if MODE == "v2":
        for name in set(read(control).split()) - before:
            with open(control, "w", encoding="ascii") as file:
                file.write("-" + name)


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    left = left_behind()
    for path in left:
        tree.remove(path, time.monotonic() + 1)
    assert left == []


@pytest.fixture
def manager() -> Iterator[Manager]:
    made = manager_at("/one")
    made.create()
    yield made
    made.kill()
    made.destroy()


class Member:
    """A process that evaluates what it is asked to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", HELPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ask("1")

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, expression: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        return eval(self.process.stdout.readline())

    def ask(self, expression: str) -> Any:
        self.tell(expression)
        return self.hear()

    def opens(self, path: str, flags: int = os.O_RDONLY) -> Any:
        """The errno's name, or 0."""
        return self.ask(f"os.close(os.open({path!r}, {flags})) or 0")

    def __enter__(self) -> Member:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue


@pytest.fixture
def member(manager: Manager) -> Iterator[Member]:
    with Member() as made:
        manager.add(made.pid)
        yield made


def groups_of(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    return {names: path for _, names, path in lines}


def expected_groups(path: str) -> dict[str, str]:
    return {
        one.options: path for one in hierarchies.hierarchies() if MODE != "v2" or not one.options
    }


def ends_within(pid_fd: int, seconds: float) -> bool:
    return bool(select.select([pid_fd], [], [], seconds)[0])


def needs(manager: Manager, controller: str) -> str:
    """The controller's directory, or skip."""
    paths = manager.paths()
    if controller in paths:
        return paths[controller]
    directory = paths.get("", "")
    if MODE == "v2" and controller in read(directory + "/cgroup.controllers").split():
        return directory
    pytest.skip(f"no {controller} controller here")


def read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().rstrip("\n")


def python(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return subprocess.run(
        [sys.executable, *args],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


# --- making, joining, removing ---------------------------------------------------------------


def test_create_makes_the_group_in_every_hierarchy_and_destroy_takes_all_of_it() -> None:
    manager = manager_at("/a/b")
    manager.create()
    assert all(os.path.isdir(path) for path in manager.paths().values())
    assert len(set(manager.paths().values())) == len(expected_groups(""))
    manager.destroy()
    assert left_behind() == []
    manager.destroy()


def test_a_parent_that_was_there_stays() -> None:
    tops = [one.mountpoint + TOP for one in hierarchies.hierarchies()]
    for top in tops:
        os.mkdir(top)
    manager = manager_at("/a/b")
    manager.create()
    manager.destroy()
    assert [os.path.isdir(top) for top in tops] == [True] * len(tops)
    assert not any(os.path.exists(top + "/a") for top in tops)
    for top in tops:
        os.rmdir(top)


def test_add_moves_a_process_into_every_hierarchy(manager: Manager) -> None:
    with Member() as member:
        manager.add(member.pid)
        own = groups_of(member.pid)
        assert {key: own[key] for key in expected_groups("")} == expected_groups(TOP + "/one")
        assert manager.pids() == [member.pid]


def test_a_process_moves_itself_through_join_fds(manager: Manager) -> None:
    fds = manager.join_fds()
    with Member() as member:
        pass
    process = subprocess.Popen(
        [
            sys.executable,
            "-S",
            "-E",
            "-c",
            f"import os\nfor fd in {fds!r}: os.write(fd, b'0')\n"
            "print(open('/proc/self/cgroup').read())",
        ],
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=fds,
    )
    for fd in fds:
        os.close(fd)
    output = process.communicate()[0]
    own = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in output.split("\n") if line}
    assert {key: own[key] for key in expected_groups("")} == expected_groups(TOP + "/one")
    assert member.process.returncode is not None


def test_a_process_is_cloned_into_the_v2_group_and_added_to_the_rest(manager: Manager) -> None:
    fd = manager.clone_fd()
    if fd is None:
        pytest.skip("no v2 hierarchy here")
    assert os.get_inheritable(fd) is False
    pid, pidfd = syscalls.clone(0, fd)
    if pid == 0:
        signal.pause()
        os._exit(0)
    assert pidfd is not None
    try:
        assert groups_of(pid)[""] == TOP + "/one"
        manager.add(pid, cloned=True)
        own = groups_of(pid)
        assert {key: own[key] for key in expected_groups("")} == expected_groups(TOP + "/one")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)
        pidfd.close()


def test_an_empty_group_that_exists_is_used() -> None:
    first, second = manager_at("/a"), manager_at("/a")
    first.create()
    second.create()
    second.destroy()
    first.destroy()


def test_a_group_with_processes_is_refused(manager: Manager, member: Member) -> None:
    with pytest.raises(CgroupError, match=r"is not empty: 1 process"):
        manager_at("/one").create()
    assert manager.pids() == [member.pid]


def test_a_frozen_group_is_refused(manager: Manager) -> None:
    manager.freeze()
    with pytest.raises(CgroupError, match="frozen"):
        manager_at("/one").create()
    manager.thaw()


def test_the_saved_record_lets_another_process_clean_up() -> None:
    manager = manager_at("/a/b")
    record = json.dumps(manager.record())
    manager.create()
    with Member() as member:
        manager.add(member.pid)
        script = (
            "import json, sys\nfrom libpycontainer.cgroups import load_manager\n"
            "manager = load_manager(json.loads(sys.argv[1]))\n"
            "print(manager.pids()); manager.freeze(); manager.kill(); manager.destroy()"
        )
        done = python("-c", script, record)
        assert (done.stdout, done.stderr) == (f"[{member.pid}]\n", "")
        assert member.process.wait(5) == -signal.SIGKILL
    assert left_behind() == []


def test_a_half_made_set_is_cleaned_up_from_the_record() -> None:
    record = manager_at("/a").record()
    for path in list(load_manager(record).paths().values())[::2]:
        os.makedirs(path)
    load_manager(record).destroy()
    # Nobody marked the parents: they could be anybody's.
    for path in left_behind():
        os.rmdir(path)


def test_a_creation_that_fails_in_between_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = manager_at("/a/b")
    last = list(manager.paths().values())[-1]
    real = os.mkdir

    def mkdir(path: str, mode: int = 0o777) -> None:
        if path == last:
            raise PermissionError(errno.EACCES, "denied", path)
        real(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(CgroupError, match="EACCES"):
        manager.create()
    assert left_behind() == []


def test_destroy_removes_groups_that_the_container_made(manager: Manager) -> None:
    for path in set(manager.paths().values()):
        os.makedirs(path + "/x/y")
        os.mkdir(path + "/z")
    manager.destroy()
    assert left_behind() == []


def test_destroy_names_the_processes_in_its_way(manager: Manager, member: Member) -> None:
    with pytest.raises(CgroupError, match=rf"processes \[{member.pid}\]") as caught:
        manager.destroy(timeout=0.05)
    assert caught.value.errno == errno.EBUSY


def test_many_callers_share_a_parent_that_comes_and_goes() -> None:
    failures: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for _ in range(40):
                manager = manager_at(f"/shared/deep/{name}")
                manager.create()
                manager.destroy()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert left_behind() == []


# --- pausing and killing ---------------------------------------------------------------------


def test_freeze_stops_and_thaw_resumes(manager: Manager, member: Member) -> None:
    manager.freeze()
    assert manager.frozen()
    assert load_manager(manager.record()).frozen()
    member.tell("42")
    assert member.process.stdout is not None
    assert not select.select([member.process.stdout], [], [], 0.1)[0]
    manager.thaw()
    assert member.hear() == 42
    assert not manager.frozen()


def test_a_freeze_that_cannot_finish_leaves_everything_running(
    manager: Manager, member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    from libpycontainer.cgroups import freezer

    monkeypatch.setattr(freezer, "_SECONDS", -1.0)
    monkeypatch.setattr(freezer, "_wait_v2", lambda *_: False)
    monkeypatch.setattr(freezer, "read", lambda _: "FREEZING")
    with pytest.raises(CgroupError, match="run again"):
        manager.freeze()
    monkeypatch.undo()
    assert not manager.frozen()
    assert member.ask("42") == 42


def test_kill_ends_processes_that_fork_and_processes_that_are_frozen(manager: Manager) -> None:
    storm = "import os\nos.setpgid(0, 0)\nwhile True:\n    os.fork() or os._exit(0)\n"
    process = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", "input()\n" + storm], stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    manager.add(process.pid)
    process.stdin.close()
    process.wait()
    with Member() as member:
        manager.add(member.pid)
        manager.freeze()
        manager.kill()
        assert member.process.wait(5) == -signal.SIGKILL
    manager.destroy()
    assert manager.pids() == []


def test_kill_works_without_cgroup_kill(
    manager: Manager, member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    from libpycontainer.cgroups import v1, v2

    for module in (v1, v2):
        monkeypatch.setattr(module, "kill_v2", lambda directory: False)
    manager.kill()
    assert member.process.wait(5) == -signal.SIGKILL
    assert not manager.frozen()


@pytest.mark.skipif(MODE != "hybrid", reason="needs v1 and v2 side by side")
def test_kill_reaches_who_left_the_unified_group(manager: Manager, member: Member) -> None:
    with open("/sys/fs/cgroup/unified/cgroup.procs", "w", encoding="ascii") as file:
        file.write(str(member.pid))
    manager.kill()
    assert member.process.wait(5) == -signal.SIGKILL


HEADLESS = """
import ctypes, threading, time
started = threading.Event()
def work():
    started.set()
    while True:
        time.sleep(1)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
started.wait()
print("ready", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def test_kill_reaches_processes_that_have_lost_their_first_thread(manager: Manager) -> None:
    command = [sys.executable, "-S", "-E", "-c", "input()\n" + HEADLESS]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        manager.add(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        state = ""
        while state != "Z":
            state = read(f"/proc/{process.pid}/stat").rpartition(")")[2].split()[0]
        manager.kill()
        assert process.wait(5) == -signal.SIGKILL


def test_everything_is_quiet_when_the_group_is_gone() -> None:
    manager = manager_at("/never")
    assert manager.pids() == []
    assert manager.frozen() is False
    manager.thaw()
    manager.kill()
    manager.destroy()


# --- limits ----------------------------------------------------------------------------------


def test_limits_read_back_from_outside(manager: Manager) -> None:
    memory, cpu, pids, cpuset = (
        needs(manager, name) for name in ("memory", "cpu", "pids", "cpuset")
    )
    manager.apply(
        LinuxResources(
            memory=LinuxMemory(limit=64 * MIB, swap=96 * MIB, reservation=32 * MIB),
            cpu=LinuxCPU(shares=512, quota=50_000, period=200_000, cpus="0", mems="0"),
            pids=LinuxPids(limit=33),
        )
    )
    assert read(pids + "/pids.max") == "33"
    assert read(cpuset + "/cpuset.cpus") == "0"
    if MODE == "v2":
        assert read(memory + "/memory.max") == str(64 * MIB)
        assert read(memory + "/memory.low") == str(32 * MIB)
        assert read(cpu + "/cpu.weight") == "59"
        assert read(cpu + "/cpu.max") == "50000 200000"
    else:
        assert read(memory + "/memory.limit_in_bytes") == str(64 * MIB)
        assert read(memory + "/memory.memsw.limit_in_bytes") == str(96 * MIB)
        assert read(memory + "/memory.soft_limit_in_bytes") == str(32 * MIB)
        assert read(cpu + "/cpu.shares") == "512"
        assert read(cpu + "/cpu.cfs_quota_us") == "50000"
        assert read(cpu + "/cpu.cfs_period_us") == "200000"


@pytest.mark.skipif(MODE == "v2", reason="v2 does not check one against the other")
def test_memory_and_swap_move_together_in_either_direction(manager: Manager) -> None:
    memory = needs(manager, "memory")
    for limit, swap in ((64, 64), (256, 512), (32, 48), (300, 300), (40, -1), (-1, None)):
        value = None if swap is None else swap * MIB if swap > 0 else swap
        amount = limit * MIB if limit > 0 else limit
        manager.apply(LinuxResources(memory=LinuxMemory(limit=amount, swap=value)))
        if limit > 0:
            assert read(memory + "/memory.limit_in_bytes") == str(amount)
    assert int(read(memory + "/memory.memsw.limit_in_bytes")) > 1 << 60


def test_cpu_quota_and_period_move_together_below_a_limited_parent(manager: Manager) -> None:
    cpu = needs(manager, "cpu")
    child = manager_at("/one/child")
    child.create()
    manager.apply(LinuxResources(cpu=LinuxCPU(quota=50_000, period=100_000)), devices=False)
    for quota, period in ((50_000, 100_000), (5_000, 10_000), (250_000, 500_000)):
        child.apply(LinuxResources(cpu=LinuxCPU(quota=quota, period=period)), devices=False)
    if MODE != "v2":
        # v2 lets a child promise itself more.
        with pytest.raises(CgroupError, match=rf"cpu\.quota: .* in {cpu}/child/.*: EINVAL"):
            child.apply(LinuxResources(cpu=LinuxCPU(quota=900_000)), devices=False)
    child.destroy()


def test_a_refused_value_names_field_value_and_file(manager: Manager) -> None:
    cpuset = needs(manager, "cpuset")
    with pytest.raises(CgroupError) as caught:
        manager.apply(LinuxResources(cpu=LinuxCPU(cpus="4000")))
    message = f"$.linux.resources.cpu.cpus: cannot set cpu cpus 4000 in {cpuset}/cpuset.cpus: "
    assert caught.value.message.startswith(message)
    assert caught.value.path == cpuset + "/cpuset.cpus"
    assert caught.value.errno in (errno.EINVAL, errno.ERANGE)


def test_a_limit_without_its_controller_names_field_and_file(manager: Manager) -> None:
    paths = manager.paths()
    missing = {
        "hugetlb": LinuxResources(
            hugepage_limits=[LinuxHugepageLimit(page_size="2MB", limit=2 * MIB)]
        ),
        "pids": LinuxResources(pids=LinuxPids(limit=5)),
        "memory": LinuxResources(memory=LinuxMemory(limit=64 * MIB)),
    }
    available = set() if MODE == "v2" else set(paths)
    if "" in paths:
        # Beside v1 ones too: hugetlb, where no v1 hierarchy has it, is the unified one's.
        top = next(one.mountpoint for one in hierarchies.hierarchies() if one.version == 2)
        available.update(read(top + "/cgroup.controllers").split())
    absent = [(name, wanted) for name, wanted in missing.items() if name not in available]
    if not absent:
        pytest.skip("every controller is there")
    for controller, resources in absent:
        (setting, *_) = settings.v2(resources) if MODE == "v2" else settings.v1(resources)
        with pytest.raises(CgroupError) as caught:
            manager.apply(resources)
        assert caught.value.message.startswith(f"{setting.field}: cannot set {setting.what} ")
        assert controller in caught.value.message
        assert caught.value.path.endswith(setting.file)


def test_huge_page_limits_read_back(manager: Manager) -> None:
    directory = needs(manager, "hugetlb")
    manager.apply(
        LinuxResources(hugepage_limits=[LinuxHugepageLimit(page_size="2MB", limit=4 * MIB)])
    )
    suffix = "max" if MODE == "v2" else "limit_in_bytes"
    assert read(f"{directory}/hugetlb.2MB.{suffix}") == str(4 * MIB)
    assert read(f"{directory}/hugetlb.2MB.rsvd.{suffix}") == str(4 * MIB)


def test_unified_settings(manager: Manager) -> None:
    directory = manager.paths().get("")
    if directory is None:
        pytest.skip("no v2 hierarchy here")
    manager.apply(LinuxResources(unified={"cgroup.max.descendants": "7"}))
    assert read(directory + "/cgroup.max.descendants") == "7"
    with pytest.raises(CgroupError, match=r"unified\['nonsense\.max'\]"):
        manager.apply(LinuxResources(unified={"nonsense.max": "7"}))


def test_a_fork_bomb_stops_at_the_pids_limit(manager: Manager, member: Member) -> None:
    needs(manager, "pids")
    manager.apply(LinuxResources(pids=LinuxPids(limit=1)))
    assert member.ask("os.fork()") == "EAGAIN"
    stats = manager.stats()
    assert stats.pids is not None
    assert (stats.pids.current, stats.pids.limit) == (1, 1)


def test_a_memory_hog_is_killed_and_counted(manager: Manager, member: Member) -> None:
    needs(manager, "memory")
    manager.apply(LinuxResources(memory=LinuxMemory(limit=16 * MIB, swap=16 * MIB)))
    member.tell("len(bytearray(64 << 20))")
    assert member.process.wait(20) == -signal.SIGKILL
    memory = manager.stats().memory
    assert memory is not None
    assert (memory.limit, memory.oom_kills) == (16 * MIB, 1)


def test_a_limit_below_the_usage_is_refused_where_asked(manager: Manager, member: Member) -> None:
    needs(manager, "memory")
    assert member.ask("setattr(sys, 'hog', bytearray(b'x') * (32 << 20)) or 1") == 1
    wanted = LinuxMemory(limit=MIB, check_before_update=True)
    with pytest.raises(CgroupError, match=r"\$\.linux\.resources\.memory\.limit.*current usage"):
        manager.apply(LinuxResources(memory=wanted))
    assert member.ask("1") == 1


def test_quota_shows_as_throttling(manager: Manager, member: Member) -> None:
    needs(manager, "cpu")
    manager.apply(LinuxResources(cpu=LinuxCPU(quota=5_000, period=100_000)))
    member.ask("sum(range(5_000_000)) and 1")
    cpu = manager.stats().cpu
    assert cpu is not None
    assert cpu.usage > 1_000_000
    assert cpu.throttling is not None
    assert cpu.throttling.throttled_periods > 0
    assert cpu.throttling.throttled > 1_000_000


def test_stats_count_cpu_time_in_nanoseconds(manager: Manager, member: Member) -> None:
    member.ask("sum(range(2_000_000)) and 1")
    used = member.ask("sum(os.times()[:2])")
    stats = manager.stats()
    assert stats.cpu is not None
    assert used * 1e9 / 3 < stats.cpu.usage < 60e9
    if "" in manager.paths():
        assert stats.cpu.pressure is not None
        assert stats.cpu.pressure.some is not None


# --- devices ---------------------------------------------------------------------------------


def test_a_denied_device_gives_eperm_and_the_usual_ones_work(
    manager: Manager, member: Member
) -> None:
    assert member.opens("/dev/kmsg") == 0
    manager.apply(LinuxResources(devices=[DENY_ALL]))
    assert member.opens("/dev/kmsg") == "EPERM"
    for path in ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"):
        assert member.opens(path, os.O_RDWR) == 0


def test_without_resources_the_usual_devices_are_all(manager: Manager, member: Member) -> None:
    manager.apply(None)
    assert member.opens("/dev/kmsg") == "EPERM"
    assert member.opens("/dev/null", os.O_RDWR) == 0


def test_an_allowed_device_works_for_the_allowed_access_only(
    manager: Manager, member: Member
) -> None:
    manager.apply(LinuxResources(devices=[DENY_ALL, KMSG]))
    assert member.opens("/dev/kmsg") == 0
    assert member.opens("/dev/kmsg", os.O_WRONLY) == "EPERM"
    assert member.opens("/dev/kmsg", os.O_RDWR) == "EPERM"


def test_device_rules_are_replaced_not_piled_up(manager: Manager, member: Member) -> None:
    for _ in range(3):
        manager.apply(LinuxResources(devices=[DENY_ALL]))
        assert member.opens("/dev/kmsg") == "EPERM"
        manager.apply(LinuxResources(devices=[DENY_ALL, KMSG]))
        assert member.opens("/dev/kmsg") == 0
    manager.apply(LinuxResources(devices=[LinuxDeviceCgroup(allow=True, access="rwm")]))
    assert member.opens("/dev/kmsg", os.O_RDWR) == 0
    manager.apply(LinuxResources(devices=[DENY_ALL]))
    assert member.opens("/dev/kmsg") == "EPERM"
    if MODE == "v2":
        from libpycontainer.cgroups import device_filter

        fd = os.open(manager.paths()[""], os.O_RDONLY | os.O_DIRECTORY)
        assert len(device_filter._attached(fd)) == 1
        os.close(fd)


def test_limits_alone_leave_the_device_rules(manager: Manager, member: Member) -> None:
    manager.apply(LinuxResources(devices=[DENY_ALL, KMSG]))
    manager.apply(LinuxResources(), devices=False)
    assert member.opens("/dev/kmsg") == 0
    assert member.opens("/dev/kmsg", os.O_WRONLY) == "EPERM"


def test_device_rules_outlive_the_process_that_set_them(manager: Manager, member: Member) -> None:
    script = (
        "import json, sys\nfrom libpycontainer.cgroups import load_manager\n"
        "load_manager(json.loads(sys.argv[1])).apply(None)"
    )
    done = python("-c", script, json.dumps(manager.record()))
    assert done.stderr == ""
    assert member.opens("/dev/kmsg") == "EPERM"


def test_any_node_may_be_made_but_not_used(manager: Manager, member: Member) -> None:
    manager.apply(LinuxResources(devices=[DENY_ALL]))
    # Not in /tmp, where many hosts let nobody use a device anyway.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="lpc-test-") as directory:
        node = f"{directory}/node"
        make = f"os.mknod({node!r}, {stat.S_IFCHR | 0o600}, os.makedev(1, 11)) or 0"
        assert member.ask(make) == 0
        assert member.opens(node) == "EPERM"


@pytest.mark.skipif(MODE != "v2", reason="v1 keeps a list of its own")
def test_the_kernel_takes_a_program_of_many_rules(manager: Manager, member: Member) -> None:
    many = [
        LinuxDeviceCgroup(
            allow=index % 3 > 0,
            type="c" if index % 2 else "b",
            major=200 + index % 7,
            minor=index,
            access=("r", "rw", "rwm")[index % 3],
        )
        for index in range(1000)
    ]
    manager.apply(LinuxResources(devices=[DENY_ALL, *many, KMSG]))
    assert member.opens("/dev/kmsg") == 0
    assert member.opens("/dev/kmsg", os.O_WRONLY) == "EPERM"


@pytest.mark.skipif(MODE == "v2", reason="v2 can")
def test_v1_refuses_a_hole_in_a_wildcard_and_changes_nothing(
    manager: Manager, member: Member
) -> None:
    wide = LinuxDeviceCgroup(allow=True, type="c", major=1, access="r")
    hole = LinuxDeviceCgroup(allow=False, type="c", major=1, minor=11, access="r")
    manager.apply(LinuxResources(devices=[DENY_ALL]))
    with pytest.raises(CgroupError, match=r"devices\[2\]: cgroup v1 cannot deny c 1:11 r"):
        manager.apply(LinuxResources(devices=[DENY_ALL, wide, hole]))
    assert member.opens("/dev/kmsg") == "EPERM"


def test_in_a_user_namespace_device_rules_are_left_out(member: Member, manager: Manager) -> None:
    inside = SimpleNamespace(cgroup_mode=MODE, in_user_namespace=True)
    open_manager(TOP + "/one", "unused", inside).apply(LinuxResources(devices=[DENY_ALL]))
    assert member.opens("/dev/kmsg") == 0


def test_without_a_v1_devices_controller_the_unified_group_has_a_filter(
    manager: Manager, member: Member
) -> None:
    if MODE != "hybrid":
        pytest.skip("needs v1 and v2 side by side")
    found = [one for one in hierarchies.hierarchies() if "devices" not in one.controllers]
    other = open_manager(TOP + "/one", "unused", facts(), found=found)
    other.apply(LinuxResources(devices=[DENY_ALL]))
    assert member.opens("/dev/kmsg") == "EPERM"
    assert member.opens("/dev/null") == 0
    assert devices.parse_list(read(manager.paths()["devices"] + "/devices.list")).allow_by_default


# --- without privilege -----------------------------------------------------------------------


def as_nobody(action: Callable[[], None]) -> None:
    """Run it in a child with no privilege at all; its exception is the child's exit."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            action()
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_an_unprivileged_caller_without_delegation_gets_no_group() -> None:
    def action() -> None:
        manager = open_manager(None, "web", facts(), rootless=True)
        assert manager.mode == "none"
        manager.create()
        manager.apply(LinuxResources(devices=[DENY_ALL]))
        with pytest.raises(UnsupportedError, match=r"resources\.pids\.limit"):
            manager.apply(LinuxResources(pids=LinuxPids(limit=5)))
        with pytest.raises(CgroupError, match=r"cannot make .*: EACCES"):
            open_manager(TOP + "/web", "web", facts(), rootless=True).create()

    as_nobody(action)


# --- the same again, in other views ----------------------------------------------------------


@pytest.mark.skipif(VIEW in os.environ, reason="this is a view already")
@pytest.mark.skipif(MODE != "hybrid", reason="only a hybrid host has both to show")
@pytest.mark.parametrize("mode", VIEWS)
@pytest.mark.privileged_caller("mounts on the host")
def test_the_whole_battery_in_a_view_of_one_version(mode: str) -> None:
    prepare = VIEWS[mode] + ' && exec "$@"'
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", prepare, "sh", *command],
        env={**os.environ, VIEW: mode},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.skipif(VIEW not in os.environ, reason="this is no view")
def test_this_is_the_view_that_was_asked_for() -> None:
    assert os.environ[VIEW] == MODE
