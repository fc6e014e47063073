"""linux.intelRdt on a tree of plain files that behaves as resctrl's directories do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from libpycontainer import resctrl, validate
from libpycontainer.errors import ContainerError, SpecError, UnsupportedError
from libpycontainer.host import Facts
from libpycontainer.spec import default, light
from tests.resctrl_tree import Tree


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(tmp_path / "resctrl", monkeypatch)


def rdt(**fields: Any) -> Any:
    return light.record("LinuxIntelRdt", fields)


def set_up(tree: Tree, id: str = "web", pid: int = 77, **fields: Any) -> dict[str, Any]:
    record = resctrl.resolve(rdt(**fields), id)
    resctrl.make(record)
    resctrl.join(record, pid)
    return record


def test_class_is_named_after_the_container_and_ends_with_it(tree: Tree) -> None:
    record = set_up(tree, l3CacheSchema="L3:0=f", memBwSchema="MB:0=50")
    assert tree.tasks("web") == "77"
    assert tree.writes == [("web/schemata", "L3:0=f\nMB:0=50\n")]
    resctrl.remove(record)
    assert tree.groups() == set()
    resctrl.remove(record)


def test_bandwidth_of_the_cache_schema_gives_way_to_its_own_field(tree: Tree) -> None:
    set_up(tree, l3CacheSchema="L3:0=f\nMB:0=10\nL3CODE:0=3", memBwSchema="MB:0=50")
    assert [text for _, text in tree.writes] == ["L3:0=f\nL3CODE:0=3\nMB:0=50\n"]
    tree.writes.clear()
    set_up(tree, "alone", l3CacheSchema="L3:0=f\nMB:0=10")
    assert [text for _, text in tree.writes] == ["L3:0=f\nMB:0=10\n"]


def test_schemata_are_written_last_and_in_one_piece(tree: Tree) -> None:
    set_up(tree, l3CacheSchema="L3:0=f", schemata=["L3:0=3", "MB:0=10"])
    assert [text for _, text in tree.writes] == ["L3:0=f\n", "L3:0=3\nMB:0=10\n"]


def test_nothing_is_written_without_a_schema(tree: Tree) -> None:
    set_up(tree)
    assert tree.writes == []
    assert tree.tasks("web") == "77"


def test_group_of_the_container_that_was_there_stays_there(tree: Tree) -> None:
    tree.add("web")
    resctrl.remove(set_up(tree, l3CacheSchema="L3:0=f"))
    assert tree.groups() == {"web"}


def test_missing_class_is_made_and_outlives_the_container(tree: Tree) -> None:
    resctrl.remove(set_up(tree, closID="gold", schemata=["L3:0=f;1=f"]))
    assert tree.groups() == {"gold"}
    assert tree.tasks("gold") == "77"


def test_class_without_a_schema_must_exist(tree: Tree) -> None:
    with pytest.raises(SpecError, match=r"\$\.linux\.intelRdt\.closID: there is no class .*gold"):
        resctrl.resolve(rdt(closID="gold"), "web")
    tree.add("gold", "L3:0=f")
    resctrl.remove(set_up(tree, closID="gold"))
    assert tree.tasks("gold") == "77"
    assert tree.groups() == {"gold"}
    assert tree.writes == []


def test_default_class_is_the_root(tree: Tree) -> None:
    document = {**default.config(), "linux": {"intelRdt": {"closID": "/"}}}
    problems = validate.check(light.record("Spec", document), Facts())
    assert not [problem for problem in problems if "intelRdt" in problem.path]
    record = set_up(tree, closID="/", enableMonitoring=True)
    assert record["group"] == str(tree.root)
    assert tree.tasks("") == tree.tasks("mon_groups/web") == "77"
    resctrl.remove(record)
    assert tree.groups("mon_groups") == set()
    assert tree.root.is_dir()


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ("    L3:0=ff;1=0f\n    MB:0= 50;1=100\n", {"l3CacheSchema": "L3:0=FF;1=f"}),
        ("L3:0=ff;1=0f\n", {"l3CacheSchema": "L3:1=0x0f"}),
        ("L3:0=ff\nMB:0=50", {"l3CacheSchema": "L3:0=3", "schemata": ["MB:0=50", "L3:0=ff"]}),
    ],
)
def test_class_that_exists_with_the_same_limits_is_shared(
    tree: Tree, there: str, wanted: dict[str, Any]
) -> None:
    tree.add("gold", there)
    set_up(tree, closID="gold", **wanted)
    assert tree.tasks("gold") == "77"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"l3CacheSchema": "L3:0=f"}, "L3:0 is ff and not f"),
        ({"memBwSchema": "MB:0=50"}, "MB:0 is missing and not 50"),
        ({"schemata": ["L3:0=ff", "L3:1=1"]}, "L3:1 is missing and not 1"),
    ],
)
def test_class_that_exists_with_other_limits_is_refused(
    tree: Tree, wanted: dict[str, Any], words: str
) -> None:
    tree.add("gold", "L3:0=ff")
    with pytest.raises(SpecError, match=rf"^\$\.linux\.intelRdt\.closID: .*gold.*{words}"):
        resctrl.resolve(rdt(closID="gold", **wanted), "web")


def test_monitoring_group_counts_the_container_alone(tree: Tree) -> None:
    tree.add("gold", "L3:0=ff")
    record = set_up(tree, closID="gold", enableMonitoring=True)
    assert tree.tasks("gold/mon_groups/web") == tree.tasks("gold") == "77"
    resctrl.remove(record)
    assert tree.groups("gold/mon_groups") == set()
    assert tree.groups() == {"gold"}


def test_class_and_its_monitoring_group_end_together(tree: Tree) -> None:
    resctrl.remove(set_up(tree, enableMonitoring=True))
    assert tree.groups() == set()


@pytest.mark.parametrize("name", ["info", "mon_groups", "mon_data"])
def test_part_of_resctrl_is_no_class(tree: Tree, name: str) -> None:
    for clos, id in ((name, "web"), (None, name)):
        with pytest.raises(SpecError, match="is not a class of resctrl"):
            resctrl.resolve(rdt(closID=clos), id)


def test_schema_must_be_a_single_line(tree: Tree) -> None:
    with pytest.raises(SpecError, match=r"^\$\.linux\.intelRdt\.schemata\[1\]: must be a single"):
        resctrl.resolve(rdt(schemata=["L3:0=f", "L3:0=f\nMB:0=1"]), "web")


def test_refusal_has_the_words_of_resctrl_and_nothing_stays(tree: Tree) -> None:
    tree.refuse = "L3"
    tree.status("Invalid L3 mask")
    record = resctrl.resolve(rdt(closID="gold", l3CacheSchema="L3:0=0"), "web")
    with pytest.raises(ContainerError, match=r"^\$\.linux\.intelRdt: .*\(Invalid L3 mask\)$"):
        resctrl.make(record)
    resctrl.unmake(record)
    assert tree.groups() == set()


def test_group_that_somebody_else_monitors_with_is_not_taken_away(tree: Tree) -> None:
    tree.add("gold")
    os.mkdir(tree.root / "gold/mon_groups/web")
    record = resctrl.resolve(rdt(closID="gold", enableMonitoring=True), "web")
    with pytest.raises(ContainerError, match=r"cannot make the monitoring group .*File exists"):
        resctrl.make(record)
    resctrl.unmake(record)
    assert tree.groups("gold/mon_groups") == {"web"}


def test_class_that_another_container_makes_meanwhile_is_shared(tree: Tree) -> None:
    record = resctrl.resolve(rdt(closID="gold", schemata=["L3:0=f"]), "web")
    tree.add("gold")
    resctrl.make(record)
    resctrl.unmake(record)
    assert tree.groups() == {"gold"}


def test_group_that_cannot_be_removed_is_said(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    record = set_up(tree)
    shutil.rmtree(tree.root / "web")
    (tree.root / "web").write_text("")
    resctrl.remove(record)
    assert "cannot remove" in caplog.text


def test_root_is_found_in_the_mount_table(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    head = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs resctrl rw\n"
    table.write_text(head)
    with pytest.raises(UnsupportedError) as caught:
        resctrl.find_root(str(table))
    message = "$.linux.intelRdt: this host has no resctrl file system mounted"
    assert str(caught.value) == message
    table.write_text(head + "40 23 0:40 / /a\\040b shared:1 master:2 - resctrl resctrl rw\n")
    assert resctrl.find_root(str(table)) == "/a b"
