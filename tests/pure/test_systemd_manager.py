"""The manager around a unit, as far as no systemd is needed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from libpycontainer.cgroups import load_manager, open_manager, systemd, systemd_opening
from libpycontainer.cgroups.hierarchies import Hierarchy
from libpycontainer.errors import CgroupError, UnsupportedError
from libpycontainer.host import Facts

V2 = Hierarchy("cgroup", (), "", "/cg", "/", 2)


def record(invocation: str | None = "ab", **more: Any) -> dict[str, Any]:
    group = {
        "name": "cgroup",
        "controllers": [],
        "options": "",
        "version": 2,
        "base": "/cg",
        "path": "/system.slice/a-b.scope",
    }
    unit = {"unit": "a-b.scope", "slice": "system.slice", "user": False, "invocation": invocation}
    return {
        "mode": "v2",
        "groups": [group],
        "skip_devices": False,
        "rootless": False,
        "systemd": {**unit, **more},
    }


@pytest.mark.parametrize("invocation", [None, "", "ab"])
def test_a_record_brings_the_manager_back(invocation: str | None) -> None:
    manager = load_manager(record(invocation))
    assert isinstance(manager, systemd.SystemdManager)
    assert manager.record() == record(invocation)
    assert manager.mode == "v2"
    assert manager.paths() == {"": "/cg/system.slice/a-b.scope"}
    assert [mount.source for mount in manager.mounts()] == ["/cg/system.slice/a-b.scope"]


def test_before_it_is_started_there_is_no_way_in_and_nothing_to_end() -> None:
    manager = load_manager(record(None))
    assert manager.clone_fd() is None
    assert manager.join_fds() == ()
    manager.kill()
    manager.destroy()
    with pytest.raises(CgroupError, match="systemd makes a scope around a process"):
        manager.apply(None)


def test_a_users_processes_are_moved_by_systemd() -> None:
    manager = load_manager(record(user=True))
    assert manager.clone_fd() is None
    assert manager.join_fds() == ()


def refused(facts: Facts, *, rootless: bool = False, path: str = "") -> str:
    with pytest.raises(UnsupportedError) as caught:
        open_manager(path, "c1", facts, rootless=rootless, systemd=True, found=(V2,))
    return str(caught.value)


def test_a_host_without_systemd_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd_opening, "BOOTED", "/nonexistent/systemd")
    text = refused(Facts())
    assert text == (
        "systemd is not running here (no /nonexistent/systemd), so it cannot make the cgroups"
    )


@pytest.mark.parametrize(
    ("facts", "rootless", "said"),
    [
        (Facts(cgroup_mode="none"), False, "no cgroups are mounted here"),
        (Facts(cgroup_mode="v1"), True, "a user's systemd cannot set limits on cgroup v1"),
        (
            Facts(cgroup_mode="hybrid", in_user_namespace=True),
            False,
            "a user's systemd cannot set limits on cgroup v1",
        ),
    ],
)
def test_hosts_where_it_cannot_be(
    facts: Facts, rootless: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd_opening, "BOOTED", "/")
    assert said in refused(facts, rootless=rootless)


def run(script: str) -> str:
    code = f"import sys; sys.path[:] = {sys.path!r}\n{script}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_command_that_only_looks_does_not_load_the_bus() -> None:
    script = f"""
from libpycontainer.cgroups import load_manager
manager = load_manager({record()!r})
manager.paths(), manager.frozen(), manager.pids(), manager.occupied()
print([name for name in sys.modules if name.startswith("jeepney") or name.endswith("_bus")])
"""
    assert run(script) == "[]"


def test_without_jeepney_the_error_names_the_extra() -> None:
    script = """
sys.modules["jeepney"] = None
from libpycontainer.errors import UnsupportedError
try:
    from libpycontainer.cgroups import systemd_bus
except UnsupportedError as error:
    print(error)
"""
    assert "pip install 'libpycontainer[systemd]'" in run(script)
