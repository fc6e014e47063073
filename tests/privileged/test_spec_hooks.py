"""config.md, hooks, and runtime.md, lifecycle: what is the case at the moment each hook runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    bind,
    create,
    groups_left,
    hook,
    read_inside,
    sh,
)

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
PID = "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')"


def with_hooks(bundle: BundleMaker, hooks: dict[str, Any], args: Any = FOREVER) -> Bundle:
    return bundle(args, edit=lambda config: config.update(hooks=hooks))


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_everything_is_mounted_and_nothing_switched_when_hooks_of_the_runtime_run(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, kind: str
) -> None:
    script = (
        f"{PID}; cd {tmp_path}; cat /proc/$pid/mountinfo >mounts; readlink /proc/$pid/root >root;"
        "for name in pid net mnt ipc uts; do readlink /proc/$pid/ns/$name; done >namespaces;"
        "cat /proc/$pid/cgroup >groups"
    )
    one = with_hooks(bundle, {kind: [hook(script)]})
    with create(factory, one):
        mounts = (tmp_path / "mounts").read_text()
        for point in ("/proc", "/dev", "/dev/pts", "/sys"):
            assert f" {one.rootfs}{point} " in mounts
        # The host's root is still there: pivot_root comes later.
        assert f" {one.rootfs} " in mounts
        assert " / / " in mounts
        for line in (tmp_path / "namespaces").read_text().split():
            assert line != os.readlink(f"/proc/self/ns/{line.partition(':')[0]}")
        assert one.linux["cgroupsPath"] in (tmp_path / "groups").read_text()


def test_prestart_comes_before_create_runtime_and_that_before_create_container(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    kinds = ("createContainer", "createRuntime", "prestart")
    (tmp_path / "order").touch()
    (tmp_path / "order").chmod(0o666)
    one = with_hooks(bundle, {kind: [hook(f"echo {kind} >>{tmp_path}/order")] for kind in kinds})
    with create(factory, one):
        assert (tmp_path / "order").read_text().split() == list(reversed(kinds))


def test_create_container_runs_in_the_containers_mounts_before_the_switch(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    script = (
        f"cat /proc/self/mountinfo >{tmp_path}/mounts; hostname; cat /proc/net/dev >{tmp_path}/net"
    )
    one = with_hooks(bundle, {"createContainer": [hook(script)]})
    with create(factory, one):
        mounts = (tmp_path / "mounts").read_text()
        assert f" {one.rootfs}/proc " in mounts
        assert " / / " in mounts


def test_what_create_container_mounts_is_seen_inside(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    """The use of this kind: runtimes of GPUs put their libraries in like this."""
    script = "mount -t tmpfs late tmp && echo late >tmp/file"
    one = with_hooks(bundle, {"createContainer": [hook(script)]}, ["cat", "/tmp/file"])
    before = Path("/proc/self/mountinfo").read_text()
    assert read_inside(factory, one).text == "late\n"
    assert Path("/proc/self/mountinfo").read_text() == before


def test_start_container_runs_inside_before_the_program(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    script = "cat /proc/self/mountinfo >/tmp/mounts; cat /etc/group /proc/1/comm >/tmp/seen"
    entry = {"path": "/bin/sh", "args": sh(script), "env": ["PATH=/bin:/usr/bin"]}
    one = with_hooks(
        bundle, {"startContainer": [entry]}, sh("test -s /tmp/mounts; echo $?; ls /tmp")
    )
    one.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
    assert read_inside(factory, one).lines == ["0", "mounts", "seen"]


def test_start_container_does_not_run_before_start(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    script = "echo ran >/shared/ran"
    entry = {"path": "/bin/sh", "args": sh(script)}
    one = bundle(FOREVER, private_rootfs=True)
    one.config["hooks"] = {"startContainer": [entry]}
    bind(one.config, tmp_path, "/shared")
    with create(factory, one) as container:
        assert not (tmp_path / "ran").exists()
        container.start()
        assert (tmp_path / "ran").exists()


def test_poststart_runs_after_the_program_was_executed(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    script = f"{PID}; cat /proc/$pid/comm >{tmp_path}/comm"
    with create(factory, with_hooks(bundle, {"poststart": [hook(script)]})) as container:
        container.start()
        # It ran before start returned.
        assert (tmp_path / "comm").read_text() == "sleep\n"


def test_poststop_runs_when_everything_is_gone(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    one = bundle(FOREVER)
    path = one.linux["cgroupsPath"]
    script = f"find /sys/fs/cgroup -name '{path[1:]}' >{tmp_path}/groups; ls /proc >{tmp_path}/pids"
    one.config["hooks"] = {"poststop": [hook(script)]}
    with create(factory, one) as container:
        container.start()
        pid = container.pid
        container.delete(force=True)
        # It ran before delete returned.
        assert (tmp_path / "groups").read_text() == ""
        assert str(pid) not in (tmp_path / "pids").read_text().split()
    assert groups_left(path) == []


def _started(container: lc.Container) -> None:
    container.start()


def _ended(container: lc.Container) -> None:
    container.start()
    container.signal(9)
    container.wait(TIMEOUT)
    container.delete()


WAYS = {
    "deleted when created": lambda container: container.delete(),
    "deleted by force when created": lambda container: container.delete(force=True),
    "deleted by force when running": lambda container: (
        container.start(),
        container.delete(force=True),
    ),
    "left by the block": _started,
    "deleted when stopped": _ended,
    "killed before the start": lambda container: (
        container.signal(9),
        container.wait(TIMEOUT),
        container.delete(),
    ),
    "deleted by force when paused": lambda container: (
        container.start(),
        container.pause(),
        container.delete(force=True),
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_poststop_runs_once_however_the_container_ends(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, way: Any
) -> None:
    one = with_hooks(bundle, {"poststop": [hook(f"echo ran >>{tmp_path}/order")]})
    with create(factory, one) as container:
        assert not (tmp_path / "order").exists()
        way(container)
    assert (tmp_path / "order").read_text() == "ran\n"


@pytest.mark.parametrize("kind", ["startContainer", "poststart"])
def test_poststop_runs_after_a_hook_of_start_has_failed(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, kind: str
) -> None:
    failing = {"path": "/bin/sh", "args": sh("exit 1")}
    hooks = {kind: [failing], "poststop": [hook(f"echo ran >>{tmp_path}/order")]}
    container = create(factory, with_hooks(bundle, hooks))
    with pytest.raises(lc.HookError):
        container.start()
    assert container.status == "stopped"
    container.delete()
    assert (tmp_path / "order").read_text() == "ran\n"
    assert factory.list() == []


def test_poststop_runs_after_a_step_of_create_has_failed(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    one = with_hooks(bundle, {"poststop": [hook(f"echo ran >>{tmp_path}/order")]}, ["/not/there"])
    with pytest.raises(lc.ExecutableError):
        create(factory, one)
    assert (tmp_path / "order").read_text() == "ran\n"


# What the reader refuses, and what the checks after it do.
BROKEN: tuple[list[tuple[dict[str, Any], str]], ...] = (
    [
        ({"args": ["true"]}, ".path"),
        ({"path": "/bin/true", "timeout": 0}, ".timeout"),
        ({"path": "/bin/true", "timeout": -1}, ".timeout"),
        ({"path": "/bin/true", "env": "A=1"}, ".env"),
    ],
    [({"path": "bin/true"}, ".path"), ({"path": ""}, ".path")],
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_that_is_none_is_refused(
    factory: lc.Factory, bundle: BundleMaker, kind: str
) -> None:
    for broken in BROKEN:
        hooks = {kind: [entry for entry, _ in broken]}
        with pytest.raises(lc.SpecError) as caught:
            create(factory, with_hooks(bundle, hooks))
        for index, (_, field) in enumerate(broken):
            assert f"$.hooks.{kind}[{index}]{field}" in str(caught.value)
    assert factory.list() == []


def test_lists_may_be_empty(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = with_hooks(bundle, {kind: [] for kind in KINDS}, ["true"])
    assert read_inside(factory, one).code == 0


def test_hooks_count_as_they_were_at_creation(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    """runtime.md#lifecycle: changes to config.json after create have no effect."""
    one = with_hooks(bundle, {"poststop": [hook(f"echo old >>{tmp_path}/order")]})
    one.save()
    with factory.create("one", one.path / "config.json", bundle=one) as container:
        one.config["hooks"] = {"poststop": [hook(f"echo new >>{tmp_path}/order")]}
        one.config["process"]["args"] = ["false"]
        one.save()
        container.start()
        assert factory.load("one").status == "running"
    assert (tmp_path / "order").read_text() == "old\n"
