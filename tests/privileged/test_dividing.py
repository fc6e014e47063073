"""v2: who is in the way of a limit is moved, if he is ours, and is reached there as before.

A group with processes cannot pass a domain controller (memory, io, hugetlb ...) on to the groups
below it. The tests need one of them in the v2 hierarchy.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from libpycontainer import host
from libpycontainer.cgroups import load_manager, open_manager
from libpycontainer.cgroups.dividing import LEAF
from libpycontainer.cgroups.protocol import Manager
from libpycontainer.spec import light
from tests.conftest import RUN_PREFIX
from tests.privileged.support import (
    FOREVER,
    REPOSITORY,
    TIMEOUT,
    create,
    exec_inside,
    run_in_pure_v2_view,
    sh,
)
from tests.privileged.test_cgroups import HEADLESS
from tests.privileged.test_delegation import ROOT_INSIDE, delegated

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

VIEW = "LPC_TEST_DIVIDING_VIEW"
ROOT = Path("/sys/fs/cgroup")
PURE = (ROOT / "cgroup.controllers").exists()
MIB = 1 << 20

# A limit of a controller that this host has in v2: what to ask for, the file, what it says then.
LIMITS: dict[str, tuple[dict[str, Any], str, str]] = {
    "memory": ({"memory": {"limit": 64 * MIB}}, "memory.max", str(64 * MIB)),
    "hugetlb": (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]},
        "hugetlb.2MB.max",
        str(4 * MIB),
    ),
}


def controllers() -> list[str]:
    return (ROOT / "cgroup.controllers").read_text().split() if PURE else []


DOMAIN = next((name for name in LIMITS if name in controllers()), "")
LIMIT, FILE, VALUE = LIMITS.get(DOMAIN, ({}, "", ""))

needs_domain = pytest.mark.skipif(
    not DOMAIN, reason="no domain controller of this host is in a v2 hierarchy that stands alone"
)
needs_pids = pytest.mark.skipif(
    "pids" not in controllers(), reason="the pids controller is in no v2 hierarchy here"
)


def group_of(pid: int) -> str:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return line[3:]
    raise AssertionError(pid)


def procs(directory: str | Path) -> list[int]:
    return [int(line) for line in Path(directory, "cgroup.procs").read_text().split()]


def manager_at(path: str) -> Manager:
    return open_manager(path, "unused", host.facts())


def limits(resources: dict[str, Any] = LIMIT) -> Any:
    return light.record("LinuxResources", resources)


@pytest.fixture
def parent(factory: lc.Factory, bundle: BundleMaker) -> Iterator[lc.Container]:
    """A container with a few processes."""
    script = "for i in 1 2 3; do sleep 1000 & done; echo ready; wait"
    with create(factory, bundle(sh(script)), "job", stdout=lc.PIPE) as made:
        made.start()
        process = made.process
        assert process is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield made


def inside(parent: lc.Container, bundle: BundleMaker, **resources: Any) -> Bundle:
    """A bundle of a container whose group lies below ``parent``'s."""
    made = bundle(FOREVER)
    made.linux["cgroupsPath"] = group_of(parent.pid).removesuffix("/" + LEAF) + "/below"
    made.linux["resources"].update(resources)
    return made


# ---- a container's processes -----------------------------------------------------------------


@needs_domain
def test_a_containers_processes_make_way_for_the_limit_of_one_below(
    factory: lc.Factory, bundle: BundleMaker, parent: lc.Container
) -> None:
    own = parent.cgroup.paths()[""]
    members = sorted(parent.processes())
    assert len(members) == 4
    with create(factory, inside(parent, bundle, **LIMIT), "child") as child:
        child.start()
        assert Path(child.cgroup.paths()[""], FILE).read_text().strip() == VALUE
        assert procs(own) == []
        assert sorted(procs(f"{own}/{LEAF}")) == members
        assert group_of(parent.pid).endswith(f"/{LEAF}")
        assert sorted(parent.cgroup.pids(recursive=False)) == members
        assert sorted(parent.processes()) == sorted([*members, *child.processes()])
        # Everything that can be done to it is done to the whole of it.
        shown = exec_inside(parent, ["grep", "^0:", "/proc/self/cgroup"])
        assert shown.text == f"0::/{LEAF}\n"
        with parent.exec(lc.Process(FOREVER)) as process:
            assert group_of(process.pid).endswith(f"/{LEAF}")
            process.kill()
            process.wait(TIMEOUT)
        parent.pause()
        assert "frozen 1" in Path(child.cgroup.paths()[""], "cgroup.events").read_text()
        parent.resume()
        assert parent.stats().cpu is not None
    # The child has gone, and nothing of its parent's with it.
    assert sorted(parent.processes()) == members
    assert os.path.isdir(f"{own}/{LEAF}")
    parent.signal(signal.SIGKILL, all=True)
    assert parent.wait(TIMEOUT) == -signal.SIGKILL
    parent.delete()
    assert not os.path.exists(own)


@needs_domain
def test_a_second_one_below_finds_the_way_made(
    factory: lc.Factory, bundle: BundleMaker, parent: lc.Container
) -> None:
    for name in ("one", "two"):
        made = inside(parent, bundle, **LIMIT)
        made.linux["cgroupsPath"] += name
        with create(factory, made, name):
            assert procs(parent.cgroup.paths()[""]) == []
    assert len(parent.processes()) == 4


@needs_domain
def test_nobody_is_moved_without_need(
    factory: lc.Factory, bundle: BundleMaker, parent: lc.Container
) -> None:
    own = parent.cgroup.paths()[""]
    with create(factory, inside(parent, bundle), "child") as child:
        child.start()
        assert len(procs(own)) == 4
        assert not os.path.exists(f"{own}/{LEAF}")
        assert Path(child.cgroup.paths()[""], "cgroup.type").read_text() == "domain\n"
        # The need may come later.
        child.update(LIMIT)
        assert Path(child.cgroup.paths()[""], FILE).read_text().strip() == VALUE
        assert procs(own) == []
        assert len(procs(f"{own}/{LEAF}")) == 4


@needs_domain
def test_another_process_reaches_those_that_were_moved(
    factory: lc.Factory, bundle: BundleMaker, parent: lc.Container
) -> None:
    with create(factory, inside(parent, bundle, **LIMIT), "child"):
        again = load_manager(json.loads(json.dumps(parent.cgroup.record())))
        assert again.frozen() is False
        again.freeze()
        assert again.frozen()
        again.thaw()
        assert sorted(again.pids(recursive=False)) == sorted(procs(again.paths()[""] + "/" + LEAF))
        (fd,) = again.join_fds()
        os.close(fd)


@needs_domain
def test_a_delegated_group_stays_its_users(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER, edit=delegated), "job") as parent:
        parent.start()
        own = Path(parent.cgroup.paths()[""])
        with create(factory, inside(parent, bundle, **LIMIT), "child"):
            for path in (own, own / LEAF, own / LEAF / "cgroup.procs"):
                assert path.stat().st_uid == ROOT_INSIDE
            assert (own / LEAF / FILE).stat().st_uid == 0
            # In its own view it is still below the root, and can go on dividing.
            script = "cd /sys/fs/cgroup; mkdir mine && echo $$ >mine/cgroup.procs; "
            done = exec_inside(parent, sh(script + "grep ^0: /proc/self/cgroup"))
            assert done.text == "0::/mine\n"


# ---- whoever is not ours ---------------------------------------------------------------------


@pytest.fixture
def foreign() -> Iterator[tuple[Path, int]]:
    """An administrator's group with a process in it."""
    path = ROOT / f"{RUN_PREFIX}-foreign"
    path.mkdir()
    with subprocess.Popen(FOREVER) as process:
        (path / "cgroup.procs").write_text(str(process.pid))
        yield path, process.pid
        process.kill()
        process.wait()
    path.rmdir()


@needs_domain
def test_others_are_left_alone_and_named(
    factory: lc.Factory, bundle: BundleMaker, foreign: tuple[Path, int]
) -> None:
    directory, pid = foreign
    made = bundle(FOREVER)
    made.linux["cgroupsPath"] = f"/{directory.name}/below"
    made.linux["resources"].update(LIMIT)
    with pytest.raises(lc.CgroupError) as caught:
        create(factory, made)
    assert str(caught.value).startswith("$.linux.resources.")
    assert f"{directory} does not pass it on: there are processes in it" in str(caught.value)
    assert caught.value.errno == errno.ENOENT
    assert procs(directory) == [pid]
    assert [each.name for each in directory.iterdir() if each.is_dir()] == []
    del made.linux["resources"][next(iter(LIMIT))]
    with create(factory, made) as container:
        container.start()
        assert procs(directory) == [pid]


@needs_pids
def test_beside_others_a_container_has_threaded_controllers(
    factory: lc.Factory, bundle: BundleMaker, foreign: tuple[Path, int]
) -> None:
    directory, pid = foreign
    made = bundle(FOREVER)
    made.linux["cgroupsPath"] = f"/{directory.name}/below"
    made.linux["resources"].update(pids={"limit": 17})
    with create(factory, made) as container:
        container.start()
        own = Path(container.cgroup.paths()[""])
        assert (own / "cgroup.type").read_text() == "threaded\n"
        assert (own / "pids.max").read_text() == "17\n"
        assert container.processes() == [container.pid]
        assert exec_inside(container, ["echo", "in"]).text == "in\n"
        container.pause()
        container.resume()
        if DOMAIN == "memory":
            with pytest.raises(lc.CgroupError, match=r"memory\.limit"):
                container.update(LIMIT)
        container.signal(signal.SIGKILL, all=True)
        assert container.wait(TIMEOUT) == -signal.SIGKILL
    assert pid in procs(directory)


# ---- processes that do not hold still --------------------------------------------------------

STORM = """
import os
while True:
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os.wait()
        os._exit(0)
    try:
        while True:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                break
    except ChildProcessError:
        pass
"""
THREADS = """
import threading, time
while True:
    some = [threading.Thread(target=time.sleep, args=(0.002,)) for _ in range(20)]
    for each in some: each.start()
    for each in some: each.join()
"""


@pytest.fixture
def outer() -> Iterator[Manager]:
    made = manager_at(f"/{RUN_PREFIX}-outer")
    made.create()
    yield made
    made.kill()
    made.destroy()


def enter(manager: Manager, source: str, *, waits: bool = False) -> subprocess.Popen[bytes]:
    script = f"input()\n{source}"
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-S", "-E", "-c", script], **options)
    manager.add(process.pid)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.close()
    if waits:
        assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


@needs_domain
@pytest.mark.parametrize("source", [STORM, THREADS], ids=["forks", "threads"])
def test_whoever_forks_meanwhile_comes_along(source: str, outer: Manager) -> None:
    own = outer.paths()[""]
    processes = [enter(outer, source) for _ in range(4)]
    assert not threading.Event().wait(0.1)
    below = manager_at(f"/{RUN_PREFIX}-outer/below")
    below.create(limits())
    below.apply(limits(), devices=False)
    assert Path(below.paths()[""], FILE).read_text().strip() == VALUE
    assert procs(own) == []
    assert not outer.frozen()
    assert {process.pid for process in processes} <= set(procs(f"{own}/{LEAF}"))
    outer.kill()
    for process in processes:
        assert process.wait(TIMEOUT) == -signal.SIGKILL
    below.destroy()


@needs_domain
def test_who_forks_faster_than_he_is_moved_is_stopped_for_it(
    outer: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    from libpycontainer.cgroups import dividing

    own = outer.paths()[""]
    process = enter(outer, STORM)
    stopped: list[bool] = []
    move = dividing._move

    def slow(source: str, target: str) -> None:
        stopped.append(outer.frozen())
        if stopped[-1]:
            move(source, target)

    monkeypatch.setattr(dividing, "_move", slow)
    below = manager_at(f"/{RUN_PREFIX}-outer/below")
    below.create(limits())
    assert not stopped[0]
    assert stopped[-1]
    # Once stopped it stays so until all are moved; in how many goes is the kernel's affair.
    assert stopped == sorted(stopped)
    assert not outer.frozen()
    assert procs(own) == []
    below.destroy()
    outer.kill()
    process.wait(TIMEOUT)


@needs_domain
def test_the_dead_and_the_headless_are_in_nobodys_way(outer: Manager) -> None:
    # The kernel lists it where its first thread was until the others have ended.
    headless = enter(outer, HEADLESS, waits=True)
    # A zombie, whose parent is outside.
    dead = enter(outer, "")
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    below = manager_at(f"/{RUN_PREFIX}-outer/below")
    below.create(limits())
    below.apply(limits(), devices=False)
    threads = Path(outer.paths()[""], LEAF, "cgroup.threads").read_text().split()
    assert len(threads) == 3
    below.destroy()
    outer.kill()
    assert headless.wait(TIMEOUT) == -signal.SIGKILL
    assert dead.wait(TIMEOUT) == 0


@needs_domain
def test_a_paused_parent_stays_paused(outer: Manager) -> None:
    process = enter(outer, "import time; time.sleep(1000)")
    outer.freeze()
    below = manager_at(f"/{RUN_PREFIX}-outer/below")
    below.create(limits())
    assert outer.frozen()
    assert procs(outer.paths()[""]) == []
    outer.thaw()
    outer.kill()
    process.wait(TIMEOUT)
    below.destroy()


# ---- the caller's own group ------------------------------------------------------------------

CALLER = """
import os, sys
import libpycontainer as lc
from libpycontainer.cgroups import hierarchies, open_manager
from libpycontainer import host
from libpycontainer.spec import light
path, limits = sys.argv[1], eval(sys.argv[2])
def own():
    return open("/proc/self/cgroup").read().split("0::")[1].split()[0]
before = own()
for name in ("one", "two"):
    manager = open_manager(path and f"{path}/{name}", name, host.facts())
    manager.create(light.record("LinuxResources", limits))
    manager.apply(light.record("LinuxResources", limits), devices=False)
    print(before, own(), manager.paths()[""], flush=True)
    before = own()
    manager.destroy()
"""
# As in a container whose cgroup was given to it: the group that it is in is all that there is.
NAMESPACE = """
echo $$ >"$1/cgroup.procs"; shift
exec unshare --cgroup --mount sh -c '
    umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec "$@"' sh "$@"
"""


@pytest.fixture
def delegated_group() -> Iterator[Path]:
    path = ROOT / f"{RUN_PREFIX}-own"
    path.mkdir()
    yield path
    for leaf in (path / LEAF, path):
        if leaf.exists():
            leaf.rmdir()


def call(script: str, group: Path, path: str, resources: dict[str, Any]) -> list[str]:
    """What the caller prints: his own group before and after, and where the container's was."""
    words = ["sh", "-c", script, "sh", str(group), sys.executable, "-c", CALLER]
    done = subprocess.run(
        [*words, path, repr(resources)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@needs_domain
def test_the_caller_makes_way_in_the_only_group_that_he_has(delegated_group: Path) -> None:
    words = call(NAMESPACE, delegated_group, "", LIMIT)
    assert words == [
        *("/", f"/{LEAF}", "/sys/fs/cgroup/one"),
        # From now on the groups of his containers lie beside his own.
        *(f"/{LEAF}", f"/{LEAF}", "/sys/fs/cgroup/two"),
    ]


@needs_domain
def test_the_caller_stays_where_he_is_without_need(delegated_group: Path) -> None:
    words = call(NAMESPACE, delegated_group, "", {})
    assert words == ["/", "/", "/sys/fs/cgroup/one", "/", "/", "/sys/fs/cgroup/two"]


@needs_domain
def test_the_caller_makes_way_for_an_absolute_path_below_his_own_group(
    delegated_group: Path,
) -> None:
    script = 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"'
    own = f"/{delegated_group.name}"
    words = call(script, delegated_group, own, LIMIT)
    assert words[:3] == [own, f"{own}/{LEAF}", f"/sys/fs/cgroup{own}/one"]


# ---- the same again, as if there was only v2 -------------------------------------------------


@pytest.mark.skipif(VIEW in os.environ, reason="this is the view already")
@pytest.mark.skipif(PURE, reason="the host shows nothing else")
def test_the_battery_in_a_pure_v2_view() -> None:
    run_in_pure_v2_view(__file__, VIEW, timeout=110)
