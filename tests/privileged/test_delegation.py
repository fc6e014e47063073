"""Cgroups that the container's own user may divide: what becomes his, and what he can do with it.

Source: runtime-spec config-linux.md#cgroup-ownership; man 7 cgroups, "Cgroups v2 delegation".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    add_user_namespace,
    create,
    exec_inside,
    read_inside,
    run_in_pure_v2_view,
    sh,
)

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

VIEW = "LPC_TEST_DELEGATION_VIEW"
PURE = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
ROOT_INSIDE, USER = 300_000, 7
DELEGATED = set(Path("/sys/kernel/cgroup/delegate").read_text().split())

needs_v2 = pytest.mark.skipif(not PURE, reason="only on v2 does a cgroup change its owner")


def delegated(config: dict[str, Any], *, writable: bool = True, uid: int = 0) -> None:
    add_user_namespace(config, first=ROOT_INSIDE)
    if not any(each["type"] == "cgroup" for each in config["linux"]["namespaces"]):
        config["linux"]["namespaces"].append({"type": "cgroup"})
    config["process"]["user"] = {"uid": uid, "gid": uid}
    for mount in config["mounts"]:
        if mount["destination"] == "/sys/fs/cgroup":
            mount["options"] = [word for word in mount["options"] if word != "ro"]
            mount["options"] += [] if writable else ["ro"]


def owners(container: lc.Container) -> dict[str, int]:
    """Who has the container's directory, as "", and each of its files, in every hierarchy."""
    found = {}
    for place in container.cgroup.paths().values():
        found[place] = os.stat(place).st_uid
        found.update({path.name: path.stat().st_uid for path in Path(place).iterdir()})
    return found


@needs_v2
@pytest.mark.parametrize("uid", [0, USER])
def test_the_directory_and_the_kernels_list_of_files_change_their_owner(
    uid: int, factory: lc.Factory, bundle: BundleMaker
) -> None:
    with create(factory, bundle(FOREVER, edit=lambda c: delegated(c, uid=uid))) as container:
        found = owners(container)
        place = container.cgroup.paths()[""]
        given = {name for name, owner in found.items() if owner == ROOT_INSIDE + uid}
        there = DELEGATED & set(os.listdir(place))
        assert there >= {"cgroup.procs", "cgroup.subtree_control", "cgroup.threads"}
        assert given == {place, *there}
        assert {owner for name, owner in found.items() if name not in given} == {0}
        # The group stays root's, in spite of that, and the parents as well.
        assert os.stat(place).st_gid == 0
        assert os.stat(os.path.dirname(place)).st_uid == 0


@pytest.mark.skipif(PURE, reason="this is v2")
@pytest.mark.privileged_caller("the groups are the caller's")
def test_on_v1_everything_stays_roots(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER, edit=delegated)) as container:
        assert set(owners(container).values()) == {0}


DIVIDE = """
cd /sys/fs/cgroup
mkdir workers && echo $$ >workers/cgroup.procs && grep ^0: /proc/self/cgroup
mkdir workers/deep && echo $$ >workers/deep/cgroup.procs && grep ^0: /proc/self/cgroup
echo 5 >cgroup.max.descendants || echo limits are not mine
echo 5 >workers/cgroup.max.descendants && echo my childrens limits are
for file in *.max; do
    if test -e "$file"; then echo 1 >$file && echo $file is mine; fi
done
echo end
"""


@needs_v2
@pytest.mark.parametrize("uid", [0, USER])
def test_a_program_divides_its_group_and_cannot_raise_its_own_limits(
    uid: int, factory: lc.Factory, bundle: BundleMaker
) -> None:
    lines = read_inside(factory, bundle(sh(DIVIDE), edit=lambda c: delegated(c, uid=uid))).lines
    said = [line for line in lines if "denied" not in line and "not permitted" not in line]
    assert said == [
        "0::/workers",
        "0::/workers/deep",
        "limits are not mine",
        "my childrens limits are",
        "end",
    ]


@needs_v2
def test_a_read_only_mount_gives_nothing_away(factory: lc.Factory, bundle: BundleMaker) -> None:
    made = bundle(FOREVER, edit=lambda config: delegated(config, writable=False))
    with create(factory, made) as container:
        container.start()
        assert set(owners(container).values()) == {0}
        done = exec_inside(container, sh("mkdir /sys/fs/cgroup/workers"))
        assert done.code != 0
        assert "Read-only" in done.text


@needs_v2
def test_without_a_cgroup_namespace_nothing_is_given_away(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    def edit(config: dict[str, Any]) -> None:
        delegated(config)
        spaces = config["linux"]["namespaces"]
        config["linux"]["namespaces"] = [each for each in spaces if each["type"] != "cgroup"]

    with create(factory, bundle(FOREVER, edit=edit)) as container:
        assert set(owners(container).values()) == {0}


@needs_v2
def test_a_group_that_was_divided_inside_is_entered_paused_killed_and_removed(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    script = """
cd /sys/fs/cgroup; mkdir init; echo 1 >init/cgroup.procs
for name in $(cat cgroup.controllers); do echo +$name >cgroup.subtree_control; done
echo ready; sleep 1000
"""
    with create(factory, bundle(sh(script), edit=delegated), stdout=lc.PIPE) as container:
        container.start()
        process = container.process
        assert process is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert exec_inside(container, ["grep", "^0:", "/proc/self/cgroup"]).text == "0::/init\n"
        container.pause()
        assert container.status == "paused"
        container.resume()
        assert len(container.processes()) == 2
        container.signal(9, all=True)
        assert container.wait(TIMEOUT) == -9
    assert not os.path.exists(container.cgroup.paths()[""])


# ---- the same again, as if there was only v2 -------------------------------------------------


@pytest.mark.skipif(VIEW in os.environ, reason="this is the view already")
@pytest.mark.skipif(PURE, reason="the host shows nothing else")
def test_the_battery_in_a_pure_v2_view() -> None:
    run_in_pure_v2_view(__file__, VIEW, timeout=110)
