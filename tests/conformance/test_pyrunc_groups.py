"""pyrunc on containers whose names are paths, and on the groups that they lie in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from tests.conftest import RUN_PREFIX

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

PATH = f"/{RUN_PREFIX}-pyrunc-groups"


@pytest.fixture
def job(state_root: str) -> Iterator[lc.Container]:
    with lc.Factory(state_root).group("job", cgroups_path=PATH) as group:
        yield group


@pytest.fixture
def sleeper(bundle: BundleMaker) -> Bundle:
    made = bundle(["sleep", "1000"])
    del made.linux["cgroupsPath"]
    made.save()
    return made


def test_verbs_take_paths_and_groups(job: lc.Container, sleeper: Bundle, pyrunc: Pyrunc) -> None:
    def ok(*arguments: str) -> str:
        done = pyrunc(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), arguments
        return done.stdout

    ok("run", "-d", "-b", str(sleeper), "job/task")
    assert ok("list", "-q") == "job\njob/task\n"
    task = json.loads(ok("state", "job/task"))
    assert (task["id"], task["status"]) == ("job/task", "running")
    group = json.loads(ok("state", "job"))
    assert (group["status"], group["pid"], group["bundle"]) == ("running", 0, "")
    ok("pause", "job")
    assert json.loads(ok("state", "job/task"))["status"] == "paused"
    ok("resume", "job")
    assert ok("exec", "job/task", "echo", "on") == "on\n"
    assert json.loads(ok("ps", "-f", "json", "job")) == [task["pid"]]
    assert json.loads(ok("events", "--stats", "job"))["id"] == "job"
    ok("update", "--pids-limit", "77", "job")
    assert job.spec.linux is not None
    assert job.spec.linux.resources is not None
    assert job.spec.linux.resources.pids is not None
    assert job.spec.linux.resources.pids.limit == 77
    done = pyrunc("delete", "job")
    assert done.returncode == 1
    assert "cannot delete container job that is not stopped" in done.stderr
    ok("delete", "-f", "job")
    assert ok("list", "-q") == ""


@pytest.mark.parametrize("verb", [["start"], ["exec"]])
def test_a_group_has_nothing_to_start(job: lc.Container, pyrunc: Pyrunc, verb: list[str]) -> None:
    done = pyrunc(*verb, "job", *(["true"] if verb == ["exec"] else []))
    assert done.returncode != 0
    assert "job: it is a group, without a process of its own" in done.stderr
