"""Which directory a path below a container's group stands for, and which it must not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from libpycontainer.cgroups import entering
from libpycontainer.cgroups.protocol import Manager
from libpycontainer.cli.command import CommandError
from libpycontainer.cli.exec import groups
from libpycontainer.errors import CgroupError, UnsupportedError


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, str]:
    """A container in three hierarchies, the first of which two controllers share."""
    found = {}
    for name, hierarchy in (("cpu", "a"), ("cpuacct", "a"), ("pids", "b"), ("", "unified")):
        own = tmp_path / hierarchy / "box"
        (own / "in/deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / hierarchy / "boxes").mkdir(exist_ok=True)
        found[name] = str(own)
    return found


def shown(paths: Mapping[str, str], below: str | Mapping[str, str]) -> dict[str, str]:
    found = entering.groups_below(paths, below)
    return {Path(own).parent.name: group[len(own) :] for own, group in found.items()}


def test_one_path_is_meant_for_every_hierarchy(paths: dict[str, str]) -> None:
    for path in ("in", "/in", "in/", "./in", "in/deep/..", "../box/in"):
        assert shown(paths, path) == {"a": "/in", "b": "/in", "unified": "/in"}
    for path in ("", "/", ".", "in/.."):
        assert shown(paths, path) == {"a": "", "b": "", "unified": ""}


def test_a_controller_stands_for_its_hierarchy(paths: dict[str, str]) -> None:
    assert shown(paths, {"cpu": "in"}) == {"a": "/in"}
    assert shown(paths, {"cpu": "in", "cpuacct": "/in"}) == {"a": "/in"}
    assert shown(paths, {"pids": "in/deep", "cpu": "/"}) == {"a": "", "b": "/in/deep"}


@pytest.mark.parametrize("path", ["..", "/..", "in/../..", "../boxes", "../../b/box/in"])
def test_no_path_leads_out(path: str, paths: dict[str, str]) -> None:
    with pytest.raises(CgroupError, match="is not a sub cgroup path"):
        entering.groups_below(paths, path)


@pytest.mark.parametrize(
    ("below", "words"),
    [
        ("nothing", "no such file or directory"),
        ({"memory": "in"}, "no hierarchy of the controller 'memory': it is in those of cpu, "),
        ({"cpu": "in", "cpuacct": "/"}, "'cpuacct' shares its hierarchy with another"),
    ],
)
def test_what_cannot_be_entered_is_named(
    below: str | dict[str, str], words: str, paths: dict[str, str]
) -> None:
    with pytest.raises(CgroupError, match=words):
        entering.groups_below(paths, below)


def test_a_container_without_groups_has_none_below() -> None:
    with pytest.raises(CgroupError, match="it has no cgroup of its own"):
        entering.groups_below({}, "in")


def test_a_users_systemd_places_its_processes_itself() -> None:
    class Users:
        def record(self) -> dict[str, Any]:
            return {"mode": "v2", "systemd": {"unit": "x.scope", "user": True}}

    with pytest.raises(UnsupportedError, match="the user's own systemd"):
        entering.open_below(cast(Manager, Users()), "in", 1)


@pytest.mark.parametrize(
    ("values", "meant"),
    [
        ([], None),
        (["in"], "in"),
        ([""], ""),
        (["cpu:in"], {"cpu": "in"}),
        (["cpu,pids:in", "memory:"], {"cpu": "in", "pids": "in", "memory": ""}),
        (["name=systemd:/"], {"name=systemd": "/"}),
        (["a:b:c"], {"a": "b:c"}),
    ],
)
def test_the_flag_names_a_path_or_controllers(values: list[str], meant: object) -> None:
    assert groups(values) == meant


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["cpu:/", "/"], "missing <controller>: prefix"),
        ([":/"], "empty <controller> prefix"),
        (["cpu,:/"], "empty <controller> prefix"),
        (["cpu:/", "pids,cpu:/x"], "controller cpu specified multiple times"),
    ],
)
def test_a_flag_that_says_nothing_clear_is_refused(values: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        groups(values)
