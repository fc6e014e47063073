"""The pytest plugin, as far as it needs no namespaces: what it loads, its marker, its reports."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import libpycontainer
from libpycontainer import kernel
from libpycontainer.errors import ArgumentError
from libpycontainer.testing import isolation, plugin, remote

REPOSITORY = Path(libpycontainer.__file__).parents[1]


def test_the_entry_point_is_the_plugin() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"libpycontainer": plugin.__name__}


def test_loading_the_plugin_loads_nothing_of_the_library() -> None:
    look = """
import sys, pytest
before = set(sys.modules)
import libpycontainer.testing.plugin
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    light = {"", "._version", ".testing", ".testing.plugin"}
    loaded = set(done.stdout.split())
    assert loaded <= {f"libpycontainer{name}" for name in light}
    assert plugin.__name__ in loaded


def test_the_marker_is_described_with_all_of_its_keywords() -> None:
    words = plugin.DESCRIPTION.partition("container(*, ")[2].partition(")")[0]
    told = {word.partition("=")[0]: word.partition("=")[2] for word in words.split(", ")}
    assert told == {name: repr(value) for name, value in isolation.DEFAULTS.items()}


def test_a_bare_marker_is_everything_but_what_has_to_be_asked_for() -> None:
    wishes = isolation.Wishes({})
    assert wishes.flags == (
        kernel.CLONE_NEWNET
        | kernel.CLONE_NEWNS
        | kernel.CLONE_NEWPID
        | kernel.CLONE_NEWIPC
        | kernel.CLONE_NEWUTS
    )
    assert (wishes.hostname, wishes.timeout, wishes.limits) == (None, None, {})


@pytest.mark.parametrize(("euid", "user"), [(0, False), (1000, True)])
def test_an_ordinary_user_needs_a_user_namespace(
    euid: int, user: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: euid)
    assert isolation.Wishes({}).user is user
    assert isolation.Wishes({"user": True}).user
    assert not isolation.Wishes({"user": False}).user


def test_keywords_are_resolved() -> None:
    wishes = isolation.Wishes(
        {"network": False, "cgroup": True, "timeout": "1m", "memory": "1M", "pids": None}
    )
    assert not wishes.flags & kernel.CLONE_NEWNET
    assert wishes.flags & kernel.CLONE_NEWCGROUP
    assert wishes.timeout == 60
    assert wishes.limits == {"memory": "1M"}


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({"nework": True}, "nework"),
        ({"network": "host"}, "network"),
        ({"network": 2}, "network"),
        ({"mount": False}, "pid"),
        ({"uts": False, "hostname": "x"}, "hostname"),
        ({"timeout": -1}, "timeout"),
    ],
)
def test_mistakes_are_told_by_the_keyword(given: dict[str, Any], parameter: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{parameter}: ") as caught:
        isolation.Wishes(given)
    assert caught.value.parameter == parameter


def test_a_report_keeps_to_the_test_that_it_is_about(request: pytest.FixtureRequest) -> None:
    """Whatever the child says: the name, the place and the phase are the parent's to say."""
    item = request.node
    made = pytest.TestReport("other.py::test", ("o", 1, "o"), {}, "skipped", ("f", 3, "w"), "setup")
    hook = request.config.hook.pytest_report_to_serializable
    item.stash[plugin.REPORT] = json.dumps(hook(config=request.config, report=made))
    try:
        for _ in range(2):
            again = remote._restored(item)
            assert (again.nodeid, again.location) == (item.nodeid, item.location)
            assert (again.when, again.outcome) == ("call", "skipped")
            assert again.longrepr == ("f", 3, "w")
        item.stash[plugin.REPORT] = json.dumps({"$report_type": "CollectReport"})
        with pytest.raises((TypeError, KeyError)):
            remote._restored(item)
    finally:
        del item.stash[plugin.REPORT]


def test_a_warning_from_inside_is_of_a_class_that_is_here(
    recwarn: pytest.WarningsRecorder,
) -> None:
    for name in ("DeprecationWarning", "exit", "no.such", 5, "ValueError"):
        remote._show_warning("careful", name, "f.py", "not a number")
    assert [each.category for each in recwarn] == [DeprecationWarning, *[UserWarning] * 4]
    assert {each.lineno for each in recwarn} == {1}
