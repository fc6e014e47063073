"""cgroupsPath as a unit of systemd's, and the group that systemd makes for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libpycontainer.cgroups import systemd_names
from libpycontainer.cgroups.systemd_names import Unit, expand
from libpycontainer.errors import CgroupError


def unit(cgroups_path: str | None, container_id: str = "c1", *, user: bool = False) -> Unit:
    return systemd_names.unit(cgroups_path, container_id, user=user)


@pytest.mark.parametrize(
    ("path", "name", "parent", "group"),
    [
        (
            "machine.slice:libpod:1f",
            "libpod-1f.scope",
            "machine.slice",
            "/machine.slice/libpod-1f.scope",
        ),
        (":cri:1f", "cri-1f.scope", "system.slice", "/system.slice/cri-1f.scope"),
        ("::1f", "-1f.scope", "system.slice", "/system.slice/-1f.scope"),
        ("-:cri:1f", "cri-1f.scope", "-.slice", "/cri-1f.scope"),
        ("-.slice:cri:1f", "cri-1f.scope", "-.slice", "/cri-1f.scope"),
        (
            "kubepods-besteffort-pod1.slice:cri:1f",
            "cri-1f.scope",
            "kubepods-besteffort-pod1.slice",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-1f.scope",
        ),
        (
            "kubepods.slice:ignored:kubepods-pod1.slice",
            "kubepods-pod1.slice",
            "kubepods.slice",
            "/kubepods.slice/kubepods-pod1.slice",
        ),
        (None, "runc-c1.scope", "system.slice", "/system.slice/runc-c1.scope"),
        ("", "runc-c1.scope", "system.slice", "/system.slice/runc-c1.scope"),
    ],
)
def test_a_path_names_a_unit_as_for_runc(
    path: str | None, name: str, parent: str, group: str
) -> None:
    found = unit(path)
    assert (found.name, found.slice, found.path) == (name, parent, group)
    assert found.is_slice is name.endswith(".slice")


def test_a_user_has_another_default_slice() -> None:
    assert unit(None, user=True).path == "/user.slice/runc-c1.scope"
    assert unit(":a:b", user=True).slice == "user.slice"
    assert unit("app.slice:a:b", user=True).path == "/app.slice/a-b.scope"


def test_a_container_name_that_no_unit_may_have_is_escaped() -> None:
    assert unit(None, "a+b").name == "runc-a\\x2bb.scope"
    assert unit(None, "job/task-1").name == "runc-job\\x2ftask-1.scope"


@given(st.text("abz059_+-.", min_size=1), st.text("abz059_+-.", min_size=1))
def test_two_containers_never_have_one_unit(one: str, other: str) -> None:
    assert (unit(None, one).name == unit(None, other).name) is (one == other)


@pytest.mark.parametrize(
    "path",
    [
        "/an/ordinary/path",
        "relative",
        "system.slice:one",
        "a.slice:b:c:d",
        "system.slice:lpc:",
        "system:lpc:one",
        ".slice:lpc:one",
        "system.slice/x.slice:lpc:one",
        "a--b.slice:lpc:one",
        "-a.slice:lpc:one",
        "a-.slice:lpc:one",
        "system.slice:lpc:o/ne",
        "system.slice:lpc:o ne",
        "system.slice:l+pc:one",
        "system.slice:lpc:one\n",
        "system.slice:lpc:ö",
        "sys$tem.slice:lpc:one",
        "system.slice:lpc:.slice",
        "system.slice:lpc:-.slice",
        "system.slice:lpc:a--b.slice",
        "system.slice:lpc:" + "x" * 300,
    ],
)
def test_what_systemd_would_not_take_is_refused_by_the_name_of_the_field(path: str) -> None:
    with pytest.raises(CgroupError, match=r"^\$\.linux\.cgroupsPath: "):
        unit(path)


def test_dashes_are_levels_of_slices() -> None:
    assert expand("a.slice") == "/a.slice"
    assert expand("a-b-c.slice") == "/a.slice/a-b.slice/a-b-c.slice"
    assert expand("-.slice") == "/"


@pytest.mark.parametrize(
    ("slice", "group"),
    [
        ("cpu.slice", "/_cpu.slice"),
        ("memory.slice", "/_memory.slice"),
        ("cgroup.slice", "/_cgroup.slice"),
        ("_x.slice", "/__x.slice"),
        ("cpu-x.slice", "/_cpu.slice/cpu-x.slice"),
    ],
)
def test_units_that_look_like_files_of_the_kernel_have_other_groups(slice: str, group: str) -> None:
    assert expand(slice) == group
