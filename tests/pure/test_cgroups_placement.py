"""Where a container's cgroups go: runc's rules, and paths that try to climb out."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libpycontainer.cgroups import load_manager, open_manager
from libpycontainer.cgroups.hierarchies import Hierarchy
from libpycontainer.cgroups.placement import clean
from libpycontainer.errors import CgroupError, UnsupportedError
from libpycontainer.spec.models import (
    LinuxCPU,
    LinuxDeviceCgroup,
    LinuxMemory,
    LinuxPids,
    LinuxResources,
)

CPU = Hierarchy("cpu,cpuacct", ("cpu", "cpuacct"), "cpu,cpuacct", "/cg/cpu,cpuacct", "/own/cpu", 1)
MEMORY = Hierarchy("memory", ("memory",), "memory", "/cg/memory", "/box/own", 1, root="/box")
NAMED = Hierarchy("systemd", ("name=systemd",), "name=systemd", "/cg/systemd", "/", 1)
UNIFIED = Hierarchy("unified", (), "", "/cg/unified", "/own/unified", 2)
HYBRID = (UNIFIED, CPU, MEMORY, NAMED)
V2 = (Hierarchy("cgroup", (), "", "/cg", "/user.slice/session.scope", 2),)


def facts(mode: str, *, user_namespace: bool = False) -> Any:
    return SimpleNamespace(cgroup_mode=mode, in_user_namespace=user_namespace)


def paths(
    mode: str, cgroups_path: str | None, *, parent: str | None = None, name: str = "web"
) -> dict[str, str]:
    found = V2 if mode == "v2" else HYBRID
    return open_manager(cgroups_path, name, facts(mode), parent=parent, found=found).paths()


def test_an_absolute_path_starts_at_each_mount() -> None:
    assert paths("hybrid", "/pod/a") == {
        "cpu": "/cg/cpu,cpuacct/pod/a",
        "cpuacct": "/cg/cpu,cpuacct/pod/a",
        "memory": "/cg/memory/pod/a",
        "name=systemd": "/cg/systemd/pod/a",
        "": "/cg/unified/pod/a",
    }
    assert paths("v2", "/pod/a") == {"": "/cg/pod/a"}


def test_a_relative_path_starts_at_the_callers_own_group() -> None:
    assert paths("hybrid", "pod/a") == {
        "cpu": "/cg/cpu,cpuacct/own/cpu/pod/a",
        "cpuacct": "/cg/cpu,cpuacct/own/cpu/pod/a",
        "memory": "/cg/memory/own/pod/a",
        "name=systemd": "/cg/systemd/pod/a",
        "": "/cg/unified/own/unified/pod/a",
    }


def test_on_v2_a_relative_path_starts_beside_the_callers_own_group() -> None:
    assert paths("v2", "pod/a") == {"": "/cg/user.slice/pod/a"}


def test_without_a_path_the_id_is_the_name_under_parent_or_own_group() -> None:
    assert paths("v2", None, parent="/libpycontainer") == {"": "/cg/libpycontainer/web"}
    assert paths("v2", "", parent="/") == {"": "/cg/web"}
    assert paths("v2", None) == {"": "/cg/user.slice/web"}
    assert paths("hybrid", None)["memory"] == "/cg/memory/own/web"


@pytest.mark.parametrize(
    ("given_path", "expected"),
    [
        ("/../../etc/x", "/etc/x"),
        ("../../x", "x"),
        ("a/../../../x", "x"),
        ("/a//b/./c/", "/a/b/c"),
        ("a/..", ""),
        ("/", "/"),
    ],
)
def test_dots_never_climb_above_the_start(given_path: str, expected: str) -> None:
    assert clean(given_path) == expected


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b"])).map("/".join))
def test_no_path_escapes(path: str) -> None:
    cleaned = clean(path)
    assert cleaned.startswith("/") == path.startswith("/")
    assert not {"..", "."} & set(cleaned.split("/"))
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize("path", ["/", "..", "/a/..", "./"])
def test_the_hierarchys_root_or_the_callers_group_is_refused(path: str) -> None:
    with pytest.raises(CgroupError, match=r"\$\.linux\.cgroupsPath"):
        paths("hybrid", path)


def test_a_null_byte_is_refused() -> None:
    with pytest.raises(CgroupError, match="null byte"):
        paths("v2", "/a\0b")


def test_a_relative_path_needs_a_visible_own_group() -> None:
    outside = Hierarchy("memory", ("memory",), "memory", "/cg/memory", "/else", 1, root="/box")
    with pytest.raises(CgroupError, match="use an absolute path"):
        open_manager("pod", "web", facts("v1"), found=(outside,))
    manager = open_manager("/pod", "web", facts("v1"), found=(outside,))
    assert manager.paths() == {"memory": "/cg/memory/pod"}


def test_the_mode_follows_from_what_is_used() -> None:
    assert open_manager("/a", "web", facts("hybrid"), found=HYBRID).mode == "hybrid"
    assert open_manager("/a", "web", facts("v1"), found=(CPU,)).mode == "v1"
    assert open_manager("/a", "web", facts("v2"), found=(*V2, CPU)).mode == "v2"
    assert open_manager("/a", "web", facts("none"), found=()).mode == "none"


@pytest.mark.parametrize("mode", ["v1", "hybrid", "v2", "none"])
def test_a_record_survives_json_and_names_the_same_places(mode: str) -> None:
    found = {"v1": (CPU, MEMORY), "hybrid": HYBRID, "v2": V2, "none": ()}[mode]
    manager = open_manager("/pod", "web", facts(mode, user_namespace=True), found=found)
    record = manager.record()
    again = load_manager(json.loads(json.dumps(record)))
    assert again.record() == record
    assert again.paths() == manager.paths()
    assert again.mode == manager.mode == mode
    assert record["skip_devices"] is True


def test_v1_mounts_show_each_hierarchy_with_its_symbolic_links() -> None:
    cpu, memory, named = open_manager("/pod", "web", facts("hybrid"), found=HYBRID).mounts()
    assert (cpu.name, cpu.fstype, cpu.options) == ("cpu,cpuacct", "cgroup", "cpu,cpuacct")
    assert cpu.symlinks == ("cpu", "cpuacct")
    assert cpu.source == "/cg/cpu,cpuacct/pod"
    assert memory.symlinks == ()
    assert named.options == "name=systemd"


def test_v2_mount_is_single() -> None:
    (only,) = open_manager("/pod", "web", facts("v2"), found=V2).mounts()
    assert (only.name, only.fstype, only.options, only.source) == ("", "cgroup2", "", "/cg/pod")


def test_rootless_without_delegation_joins_nothing_and_refuses_limits() -> None:
    nowhere = (Hierarchy("cgroup", (), "", "/nonexistent", "/", 2),)
    manager = open_manager(None, "web", facts("v2"), rootless=True, found=nowhere)
    assert manager.mode == "none"
    manager.create()
    manager.add(1)
    deny_all = LinuxDeviceCgroup(allow=False, access="rwm")
    manager.apply(LinuxResources(devices=[deny_all], memory=LinuxMemory(), cpu=LinuxCPU()))
    manager.apply(LinuxResources(memory=LinuxMemory(limit=0, disable_oom_killer=False)))
    assert (manager.pids(), manager.clone_fd(), manager.join_fds()) == ([], None, ())
    assert manager.frozen() is False
    with pytest.raises(UnsupportedError, match=r"\$\.linux\.resources\.pids\.limit.*delegated"):
        manager.apply(LinuxResources(pids=LinuxPids(limit=7)))
    with pytest.raises(UnsupportedError, match=r"\$\.linux\.resources\.memory\.limit"):
        manager.create(LinuxResources(memory=LinuxMemory(limit=1 << 20)))
    assert manager.stats().memory is None
    manager.destroy()


def test_rootless_with_an_explicit_path_keeps_it() -> None:
    nowhere = (Hierarchy("cgroup", (), "", "/nonexistent", "/", 2),)
    manager = open_manager("/pod", "web", facts("v2"), rootless=True, found=nowhere)
    assert manager.mode == "v2"
    with pytest.raises(CgroupError, match="/nonexistent"):
        manager.create()
