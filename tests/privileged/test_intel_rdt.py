"""linux.intelRdt in real containers: on a tree in the place of resctrl, and without any."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from libpycontainer import resctrl
from tests.privileged.support import FOREVER, create, exec_inside, hook
from tests.resctrl_tree import Tree

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

HAS_RESCTRL = " - resctrl " in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(tmp_path / "resctrl", monkeypatch)


def classed(bundle: BundleMaker, **fields: Any) -> Bundle:
    return bundle(FOREVER, edit=lambda config: config["linux"].update(intelRdt=fields))


def test_init_is_in_its_class_before_its_first_step(
    factory: lc.Factory, bundle: BundleMaker, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = classed(bundle, l3CacheSchema="L3:0=f", enableMonitoring=True)
    mounts = []
    join = resctrl.join

    def watch(record: Any, pid: int) -> None:
        mounts.append(Path(f"/proc/{pid}/mountinfo").read_text())
        join(record, pid)

    monkeypatch.setattr(resctrl, "join", watch)
    with create(factory, made) as container:
        assert len(mounts) == 1
        assert str(made.rootfs) not in mounts[0]
        assert tree.tasks("one") == tree.tasks("one/mon_groups/one") == str(container.pid)
        assert tree.writes == [("one/schemata", "L3:0=f\n")]
    assert tree.groups() == set()


def test_exec_joins_the_class(factory: lc.Factory, bundle: BundleMaker, tree: Tree) -> None:
    with create(factory, classed(bundle, schemata=["MB:0=50"])) as container:
        container.start()
        assert exec_inside(container, ["true"]).code == 0
        assert tree.tasks("one") not in ("", str(container.pid))


def test_class_of_others_outlives_the_container(
    factory: lc.Factory, bundle: BundleMaker, tree: Tree
) -> None:
    tree.add("gold", "L3:0=ff")
    container = create(factory, classed(bundle, closID="gold", enableMonitoring=True))
    assert tree.groups("gold/mon_groups") == {"one"}
    lc.Factory(root=factory.root).load("one").delete(force=True)
    assert tree.groups("gold/mon_groups") == set()
    assert tree.groups() == {"gold"}
    container.__exit__(None, None, None)


@pytest.mark.parametrize("clos", [None, "gold"])
def test_failed_creation_leaves_no_class(
    factory: lc.Factory, bundle: BundleMaker, tree: Tree, clos: str | None
) -> None:
    made = classed(bundle, closID=clos, schemata=["L3:0=f"], enableMonitoring=True)
    if clos is None:
        del made.linux["intelRdt"]["closID"]
    made.config["hooks"] = {"createRuntime": [hook("exit 1")]}
    with pytest.raises(lc.HookError):
        create(factory, made)
    assert tree.groups() == set()
    assert factory.list() == []


def test_class_that_does_not_exist_is_refused_before_anything_is_made(
    factory: lc.Factory, bundle: BundleMaker, tree: Tree
) -> None:
    with pytest.raises(lc.SpecError, match=r"\$\.linux\.intelRdt\.closID: there is no class"):
        create(factory, classed(bundle, closID="gold"))
    assert factory.list() == []


@pytest.mark.skipif(HAS_RESCTRL, reason="this host has resctrl")
def test_host_without_resctrl_says_so(factory: lc.Factory, bundle: BundleMaker) -> None:
    with pytest.raises(lc.UnsupportedError) as caught:
        create(factory, classed(bundle))
    assert str(caught.value) == "$.linux.intelRdt: this host has no resctrl file system mounted"
    assert not os.listdir(factory.root)
