"""Containers inside of containers and groups: one tree of names, of cgroups and of verbs.

Run twice, as test_cgroup_modes.py: on this host's hierarchies, and as if there was only version 2.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests import ways
from tests.conftest import RUN_PREFIX
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    Gate,
    Program,
    children,
    create,
    exec_inside,
    group_files,
    groups_left,
    hook,
    read_inside,
    run_in_pure_v2_view,
    sh,
)

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

VIEW = "LPC_TEST_GROUPS_V2_VIEW"
PATH = ways.cgroup(f"{RUN_PREFIX}-groups")
# Nobody swaps his way out of it: as much memory and swap together as memory alone.
NO_SWAP = {"memory": {"limit": 32 << 20, "swap": 32 << 20}}
CONTROLLERS = Path("/sys/fs/cgroup/cgroup.controllers")


def need_controller(name: str) -> None:
    if CONTROLLERS.exists() and name not in CONTROLLERS.read_text().split():
        pytest.skip(f"this hierarchy has no {name} controller")


def inside(bundle: BundleMaker, args: list[str] | tuple[str, ...] = FOREVER, **edit: Any) -> Bundle:
    """A bundle without a cgroup path of its own: it goes where its name says."""
    made = bundle(args, **edit)
    del made.linux["cgroupsPath"]
    return made


def tasks(container: lc.Container) -> int:
    pids = container.stats().pids
    assert pids is not None
    assert pids.current is not None
    return pids.current


@pytest.fixture
def job(factory: lc.Factory) -> Iterator[lc.Container]:
    with factory.group("job", cgroups_path=PATH) as group:
        yield group
    assert groups_left(PATH) == []


# ---- where things are --------------------------------------------------------------------------


def test_the_groups_of_a_child_lie_below_its_parents(
    factory: lc.Factory, job: lc.Container, bundle: BundleMaker
) -> None:
    with create(factory, inside(bundle), "job/task") as task:
        above, below = job.cgroup.paths(), task.cgroup.paths()
        assert below == {name: f"{path}/task" for name, path in above.items()}
        for path in below.values():
            assert str(task.pid) in Path(path, "cgroup.procs").read_text().split()
        assert task.parent is not None
        assert task.parent.id == "job"
        assert [child.id for child in job.children()] == ["job/task"]
        assert job.processes() == [task.pid]


def test_a_relative_path_counts_from_the_parent(
    factory: lc.Factory, job: lc.Container, bundle: BundleMaker
) -> None:
    one = bundle(FOREVER)
    one.linux["cgroupsPath"] = "sub/here"
    with create(factory, one, "job/task") as task:
        for path in task.cgroup.paths().values():
            assert path.endswith(f"{PATH}/sub/here")
    for path in job.cgroup.paths().values():
        assert not Path(path, "sub").exists()


@pytest.mark.parametrize("path", ["/elsewhere", "..", "."])
def test_a_path_that_leads_out_of_the_parent_is_refused(
    factory: lc.Factory, job: lc.Container, bundle: BundleMaker, path: str
) -> None:
    one = bundle(FOREVER)
    one.linux["cgroupsPath"] = path
    with pytest.raises((lc.SpecError, lc.CgroupError), match=r"\$\.linux\.cgroupsPath: "):
        create(factory, one, "job/task")
    assert job.children() == []


def test_a_child_of_nothing_is_refused(factory: lc.Factory, bundle: BundleMaker) -> None:
    with pytest.raises(lc.NotFoundError, match="container does not exist: job"):
        create(factory, inside(bundle), "job/task")
    with pytest.raises(lc.NotFoundError, match="container does not exist: job"):
        factory.group("job/inner")
    assert factory.list() == []


def test_groups_nest_and_the_list_is_a_tree(
    factory: lc.Factory, job: lc.Container, bundle: BundleMaker
) -> None:
    factory.group("job/b")
    factory.group("job/b/c")
    factory.group("job/a", memory="64M") if not CONTROLLERS.exists() else factory.group("job/a")
    create(factory, inside(bundle), "job/b/c/task")
    names = [container.id for container in factory.list()]
    assert names == ["job", "job/a", "job/b", "job/b/c", "job/b/c/task"]
    assert [container.id for container in factory.list(inside="job/b")] == names[3:]
    assert {c.id: c.status for c in factory.list()} == {
        "job": "running",
        "job/a": "empty",
        "job/b": "running",
        "job/b/c": "running",
        "job/b/c/task": "created",
    }


def test_a_group_is_recorded_as_one_for_every_process(
    factory: lc.Factory, job: lc.Container
) -> None:
    loaded = lc.Factory(factory.root).load("job")
    assert loaded.is_group
    assert (loaded.status, loaded.pid, loaded.bundle, loaded.process) == ("empty", 0, "", None)
    assert loaded.state()["status"] == "empty"


def test_a_group_is_made_once(factory: lc.Factory, job: lc.Container) -> None:
    with pytest.raises(lc.AlreadyExistsError):
        factory.group("job")


# ---- limits ------------------------------------------------------------------------------------


def test_the_parents_limit_bounds_its_children_together(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    need_controller("pids")
    with factory.group("job", pids=4, cgroups_path=PATH) as job:
        create(factory, inside(bundle, sh("sleep 1000 & sleep 1000 & wait")), "job/a").start()
        wanted = inside(bundle, sh("(sleep 0 && echo forked)"))
        result = read_inside(factory, wanted, "job/b")
        assert "can't fork" in result.text, result
        assert group_files(PATH, "pids.max", "pids.max", "pids") == "4"
        assert tasks(job) == 3
        job.update(pids=9)
        assert read_inside(factory, wanted, "job/b").text == "forked\n"


def test_a_child_inside_of_a_memory_limit_is_killed_for_both(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    need_controller("memory")
    hog = "dd if=/dev/zero of=/dev/null bs=96M count=1"
    with factory.group("job", NO_SWAP, cgroups_path=PATH) as job:
        result = read_inside(factory, inside(bundle, sh(hog)), "job/task")
        assert result.code in (-signal.SIGKILL, 128 + signal.SIGKILL), result.text
        job.update({"memory": {"limit": 256 << 20, "swap": 256 << 20}})
        assert read_inside(factory, inside(bundle, sh(hog)), "job/other").code == 0


def test_the_limits_of_a_group_can_be_updated_while_it_is_empty(
    factory: lc.Factory, job: lc.Container
) -> None:
    need_controller("pids")
    job.update(pids=99)
    assert group_files(PATH, "pids.max", "pids.max", "pids") == "99"
    assert lc.Factory(factory.root).load("job").spec.linux.resources.pids.limit == 99  # type: ignore[union-attr]


def test_a_limit_that_the_host_refuses_leaves_no_group(factory: lc.Factory) -> None:
    with pytest.raises((lc.CgroupError, lc.SpecError), match=r"\$\.linux\.resources\."):
        factory.group(
            "job", {"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}, cgroups_path=PATH
        )
    assert factory.list() == []
    assert groups_left(PATH) == []


@pytest.mark.privileged_caller("device rules are not enforced")
def test_device_rules_of_a_group_bound_its_children(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    rules = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
    ]
    with factory.group("job", {"devices": rules}, cgroups_path=PATH):
        one = inside(
            bundle, sh("mknod /tmp/fuse c 10 229; cat /tmp/fuse; echo >/dev/null && echo on")
        )
        one.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
        fuse = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
        one.process["capabilities"]["bounding"].append("CAP_MKNOD")
        one.process["capabilities"]["effective"].append("CAP_MKNOD")
        one.process["capabilities"]["permitted"].append("CAP_MKNOD")
        one.linux["resources"] = {"devices": [*rules, fuse]}
        if CONTROLLERS.exists():
            # v2: two programs, and both have to say yes.
            result = read_inside(factory, one, "job/task")
            assert "Operation not permitted" in result.text
            assert "on" in result.lines
        else:
            # v1: the kernel refuses the exception itself.
            with pytest.raises(lc.CgroupError, match=r"devices"):
                read_inside(factory, one, "job/task")
        assert [c.id for c in factory.list()] == ["job"]


# ---- verbs on a whole subtree ------------------------------------------------------------------


def test_pausing_a_group_stops_what_is_inside(
    factory: lc.Factory, job: lc.Container, bundle: BundleMaker
) -> None:
    with create(factory, inside(bundle), "job/task") as task:
        task.start()
        job.pause()
        assert (job.status, task.status) == ("paused", "paused")
        with pytest.raises(lc.StatusError, match="job, which it lies inside of, is paused"):
            task.resume()
        with pytest.raises(lc.StatusError):
            task.exec(lc.Process(["true"]))
        with pytest.raises(lc.StatusError, match="cannot create a container inside of job"):
            create(factory, inside(bundle), "job/other")
        job.resume()
        assert (job.status, task.status) == ("running", "running")
        assert exec_inside(task, ["echo", "on"]).text == "on\n"
        task.pause()
        assert (job.status, task.status) == ("running", "paused")


def test_a_child_that_was_paused_itself_stays_so(
    factory: lc.Factory, job: lc.Container, bundle: BundleMaker
) -> None:
    with create(factory, inside(bundle), "job/task") as task:
        task.start()
        task.pause()
        job.pause()
        job.resume()
        assert (job.status, task.status) == ("running", "paused")
        task.resume()
        assert task.status == "running"


def test_killing_a_group_reaches_everything_inside(
    factory: lc.Factory, job: lc.Container, bundle: BundleMaker
) -> None:
    factory.group("job/inner")
    tasks = [create(factory, inside(bundle), f"job/{name}") for name in ("a", "inner/b")]
    for task in tasks:
        task.start()
    job.signal(signal.SIGKILL)
    assert [task.wait(TIMEOUT) for task in tasks] == [-signal.SIGKILL] * 2
    assert job.status == "empty"
    with pytest.raises(lc.StatusError):
        job.signal(signal.SIGKILL)


def test_a_group_with_something_running_is_deleted_only_by_force(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    before = children()
    job = factory.group("job", cgroups_path=PATH)
    task = create(factory, inside(bundle), "job/task")
    task.start()
    with pytest.raises(lc.StatusError, match="job that is not stopped"):
        job.delete()
    assert task.status == "running"
    job.delete(force=True)
    assert factory.list() == []
    assert groups_left(PATH) == []
    assert task.status == "stopped"
    assert children() == before


def test_deleting_a_group_deletes_what_has_stopped_inside(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    job = factory.group("job", cgroups_path=PATH)
    factory.group("job/inner")
    task = create(factory, inside(bundle, ["true"]), "job/inner/task")
    task.start()
    task.wait(TIMEOUT)
    job.delete()
    assert factory.list() == []
    assert groups_left(PATH) == []


@pytest.mark.parametrize("verb", ["start", "exec", "wait"])
def test_a_group_has_no_process(job: lc.Container, verb: str) -> None:
    argument = [lc.Process(["true"])] if verb == "exec" else []
    with pytest.raises(lc.StatusError, match="job: it is a group"):
        getattr(job, verb)(*argument)


def test_stats_count_the_whole_subtree(
    factory: lc.Factory, job: lc.Container, bundle: BundleMaker
) -> None:
    need_controller("pids")
    for name in ("a", "b"):
        create(factory, inside(bundle), f"job/{name}").start()
    assert tasks(job) == 2
    assert tasks(factory.load("job/a")) == 1


def test_events_of_a_group_tell_of_what_is_inside_and_end_with_it(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    need_controller("memory")
    with factory.group("job", NO_SWAP, cgroups_path=PATH) as job, job.events(None) as events:
        hog = "dd if=/dev/zero of=/dev/null bs=96M count=1"
        read_inside(factory, inside(bundle, sh(hog)), "job/task")
        event = events.get(TIMEOUT)
        assert isinstance(event, lc.OOMEvent)
        assert event.id == "job"
        job.delete(force=True)
        assert [event for event in events if not isinstance(event, lc.OOMEvent)] == []


# ---- a container as the outer one --------------------------------------------------------------


def test_a_running_container_may_have_another_inside(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    outer = bundle(FOREVER)
    with create(factory, outer, "outer") as one:
        one.start()
        with create(factory, inside(bundle), "outer/inner") as two:
            two.start()
            assert sorted(one.processes()) == sorted([one.pid, two.pid])
            assert exec_inside(one, ["echo", "outer"]).text == "outer\n"
            assert exec_inside(two, ["echo", "inner"]).text == "inner\n"
            one.pause()
            assert (one.status, two.status) == ("paused", "paused")
            one.resume()
        assert one.status == "running"
    assert groups_left(outer.linux["cgroupsPath"]) == []


def test_a_stopped_container_goes_only_when_those_inside_may(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    outer = bundle(["true"])
    with create(factory, outer, "outer") as one:
        two = create(factory, inside(bundle), "outer/inner")
        two.start()
        one.start()
        one.wait(TIMEOUT)
        with pytest.raises(lc.StatusError, match="outer/inner inside of it is running"):
            one.delete()
        assert (one.status, two.status) == ("stopped", "running")
        with pytest.raises(lc.StatusError, match="cannot create a container inside of outer"):
            create(factory, inside(bundle), "outer/late")
        two.signal(signal.SIGKILL)
        two.wait(TIMEOUT)
        one.delete()
    assert factory.list() == []


# ---- races and deaths --------------------------------------------------------------------------


def test_nothing_is_made_inside_of_what_is_being_deleted(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    """Ten rounds of four creators against one who deletes: whoever was too late is told so."""
    before = children()
    one = inside(bundle)
    for _ in range(10):
        job = factory.group("job", cgroups_path=PATH)
        ready = threading.Barrier(5)
        problems: list[BaseException] = []

        def make(name: str, ready: threading.Barrier, problems: list[BaseException]) -> None:
            ready.wait()
            try:
                create(factory, one, f"job/{name}")
            except lc.NotFoundError:
                pass
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=make, args=(name, ready, problems)) for name in "abcd"]
        for thread in threads:
            thread.start()
        ready.wait()
        job.delete(force=True)
        for thread in threads:
            thread.join()
        assert problems == []
        assert factory.list() == []
        assert groups_left(PATH) == []
    assert children() == before


def test_pausing_a_group_waits_for_one_that_is_being_made_inside(
    factory: lc.Factory, job: lc.Container, bundle: BundleMaker, tmp_path: Path
) -> None:
    """Frozen half-way its init could not answer, and its maker would hang."""
    one = inside(bundle)
    with Gate(tmp_path) as gate:
        one.config["hooks"] = {"createRuntime": [hook(gate.script())]}
        maker = threading.Thread(target=create, args=(factory, one, "job/task"))
        maker.start()
        gate.reached()
        pauser = threading.Thread(target=job.pause)
        pauser.start()
        gate.open()
        maker.join(TIMEOUT)
        pauser.join(TIMEOUT)
    assert job.status == "paused"
    assert factory.load("job/task").status == "paused"
    job.resume()
    assert factory.load("job/task").status == "created"


def test_what_a_killed_maker_left_goes_with_the_group(
    factory: lc.Factory, job: lc.Container, bundle: BundleMaker, tmp_path: Path
) -> None:
    one = inside(bundle)
    with Gate(tmp_path) as gate:
        one.config["hooks"] = {"createRuntime": [hook(gate.script())]}
        one.save()
        with Program(factory.root, one, "create('job/task')") as program:
            gate.reached()
            program.kill()
        job.delete(force=True)
    assert factory.list() == []
    assert groups_left(PATH) == []


@pytest.mark.timeout(300)
def test_all_this_also_holds_where_there_is_only_version_2() -> None:
    if os.environ.get(VIEW) or CONTROLLERS.exists():
        pytest.skip("this is that run")
    run_in_pure_v2_view("tests/privileged/test_groups.py", VIEW, 280)
