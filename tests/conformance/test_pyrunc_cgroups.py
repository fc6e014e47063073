"""``exec --cgroup`` and :attr:`Process.cgroup`: a process in a group below its container's.

Run twice: on this host's hierarchies, and as if there was only version 2. What runc does is
compared in test_pyrunc_mistakes.py.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from tests.privileged.support import run_in_pure_v2_view

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

pytestmark = pytest.mark.conformance

VIEW = "LPC_TEST_EXEC_CGROUP_VIEW"
ROOT = Path("/sys/fs/cgroup")
PURE = (ROOT / "cgroup.controllers").exists()
UNIFIED = ROOT if PURE else ROOT / "unified"
CONTROLLERS = (ROOT / "cgroup.controllers").read_text().split() if PURE else []

needs_v2 = pytest.mark.skipif(not PURE, reason="there are hierarchies of version 1 here")
needs_controller = pytest.mark.skipif(not CONTROLLERS, reason="no controller is a v2 one here")


@pytest.fixture
def running(bundle: BundleMaker, pyrunc: Pyrunc) -> Iterator[Bundle]:
    made = bundle(["sleep", "1000"])
    pyrunc("run", "--detach", "--bundle", made, "c", check=True)
    yield made
    pyrunc("delete", "--force", "c", check=True)


def own(made: Bundle, hierarchy: Path = UNIFIED) -> Path:
    return Path(f"{hierarchy}{made.linux['cgroupsPath']}")


def hierarchies() -> list[Path]:
    return [ROOT] if PURE else [path for path in ROOT.iterdir() if not path.is_symlink()]


def make_below(made: Bundle, name: str) -> None:
    for hierarchy in hierarchies():
        group = own(made, hierarchy)
        if not group.is_dir():
            continue
        (group / name).mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):
            # A v1 group without them takes no process.
            if not PURE and (group / file).exists():
                (group / name / file).write_text((group / file).read_text())


def groups_of(done: subprocess.CompletedProcess[str], made: Bundle) -> set[str]:
    assert (done.returncode, done.stderr) == (0, "")
    return groups_in(done.stdout, made)


def groups_in(text: str, made: Bundle) -> set[str]:
    """The groups of /proc/self/cgroup, seen from the container's own."""
    rows = [line.split(":", 2) for line in text.splitlines()]
    # Where only version 2 is looked at, the others go on behind the scenes.
    found = [path for number, _, path in rows if number == "0" or not PURE]
    return {path.replace(made.linux["cgroupsPath"], "") or "/" for path in found}


def test_a_process_is_placed_below_its_container(running: Bundle, pyrunc: Pyrunc) -> None:
    make_below(running, "below")
    show = ("c", "cat", "/proc/self/cgroup")
    assert groups_of(pyrunc("exec", *show), running) == {"/"}
    assert groups_of(pyrunc("exec", "--cgroup", "below", *show), running) == {"/below"}
    assert groups_of(pyrunc("exec", "--cgroup", "/below/.", *show), running) == {"/below"}
    assert groups_of(pyrunc("exec", "--cgroup", "/", *show), running) == {"/"}


def test_so_it_is_from_a_program(running: Bundle, pyrunc: Pyrunc) -> None:
    make_below(running, "below")
    with lc.Factory(pyrunc.root) as factory, factory.load("c") as container:
        described = lc.Process(["cat", "/proc/self/cgroup"], cgroup="below", stdout=lc.PIPE)
        with container.exec(described) as process:
            out, _ = process.communicate(timeout=20)
            assert out is not None
            assert groups_in(out.decode(), running) == {"/below"}
        with pytest.raises(lc.CgroupError, match="leads out of") as caught:
            container.exec(lc.Process(["true"], cgroup="../.."))
        assert caught.value.op == "join"
        with pytest.raises(lc.CgroupError, match="no hierarchy of the controller 'nothing'"):
            container.exec(lc.Process(["true"], cgroup={"nothing": "below"}))


def test_nothing_is_made_on_the_way(running: Bundle, pyrunc: Pyrunc) -> None:
    done = pyrunc("exec", "--cgroup", "below", "c", "true")
    assert done.returncode == 255
    assert "/below: no such file or directory" in done.stderr
    assert [path for each in hierarchies() for path in own(running, each).glob("*/")] == []


def test_a_group_of_another_user_is_entered(running: Bundle, pyrunc: Pyrunc) -> None:
    """A container in a user namespace owns what it has made; nothing is cloned into that."""
    make_below(running, "below")
    os.chown(own(running) / "below/cgroup.procs", 1000, 1000)
    done = pyrunc("exec", "--cgroup", "below", "c", "cat", "/proc/self/cgroup")
    assert groups_of(done, running) == {"/below"}


@needs_v2
def test_version_2_has_no_hierarchy_for_a_controller(running: Bundle, pyrunc: Pyrunc) -> None:
    done = pyrunc("exec", "--cgroup", "memory:/", "c", "true")
    assert done.returncode == 255
    assert "its only hierarchy is the unified one" in done.stderr


@needs_controller
def test_a_group_that_was_divided_takes_no_process(running: Bundle, pyrunc: Pyrunc) -> None:
    group = own(running)
    make_below(running, "init")
    (group / "init/cgroup.procs").write_text((group / "cgroup.procs").read_text())
    (group / "cgroup.subtree_control").write_text(f"+{CONTROLLERS[0]}")
    show = ("c", "cat", "/proc/self/cgroup")
    assert groups_of(pyrunc("exec", *show), running) == {"/init"}
    assert groups_of(pyrunc("exec", "--cgroup", "init", *show), running) == {"/init"}
    done = pyrunc("exec", "--cgroup", "/", *show)
    assert done.returncode == 255
    assert "passes controllers on to groups below it, and so takes no processes" in done.stderr


@pytest.mark.skipif(VIEW in os.environ or PURE, reason="there is only version 2 already")
def test_the_same_where_there_is_only_version_2() -> None:
    run_in_pure_v2_view(__file__, VIEW, timeout=110)
