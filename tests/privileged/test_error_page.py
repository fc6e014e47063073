"""Each class of error, met for real: what it says is what docs/errors.md shows."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import libpycontainer as lc
from libpycontainer.cgroups import none
from scripts import errors as page
from tests.conftest import RUN_PREFIX
from tests.ways import WAY, cgroup

Provoke = Callable[["Scene"], Any]


class Scene:
    """What a test may provoke an error with."""

    def __init__(self, factory: lc.Factory, rootfs: Path, directory: Path) -> None:
        self.factory = factory
        self.rootfs = rootfs
        self.directory = directory
        self.spec = lc.Spec.default().evolve(
            args=["sleep", "600"],
            rootfs=rootfs,
            seccomp=None,
            cgroups_path=cgroup(f"{RUN_PREFIX}-errors"),
        )

    def run(self, id: str = "web-1", **changes: Any) -> lc.Container:
        return self.factory.run(id, self.spec.evolve(**changes), stdin=lc.DEVNULL)


def broken_document(scene: Scene) -> object:
    return lc.Spec.load({"ociVersion": "1.3.0", "process": {}, "hostname": 5})


def taken_name(scene: Scene) -> object:
    with scene.run():
        return scene.run()


def started_twice(scene: Scene) -> None:
    with scene.run() as container:
        container.start()


def wrong_mount_option(scene: Scene) -> object:
    return scene.run(add_mounts=[lc.Mount.tmpfs("/tmp", options=["bogus=1"])])


def failing_hook(scene: Scene) -> object:
    return scene.run(hooks={"create_runtime": [{"path": shutil.which("false")}]})


def killed_init(scene: Scene) -> object:
    """By its own hook, which knows its pid."""
    script = "kill -9 $(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p')"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script]}
    return scene.run(hooks={"create_runtime": [hook]})


def processors_that_there_are_not(scene: Scene) -> object:
    return scene.run(linux={"resources": {"cpu": {"cpus": "1023"}}})


def limit_without_a_group(scene: Scene) -> None:
    linux = scene.spec.evolve(memory="64M").linux
    none.NoManager(rootless=True).apply(linux.resources if linux else None)


def held_lock(scene: Scene) -> None:
    with scene.run() as container:
        handle = os.open(container._entry.path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            container._entry.lock(timeout=0.2)
        finally:
            os.close(handle)


def die() -> None:
    os._exit(3)


class Broken(Exception):  # noqa: N818 - a program's own exception
    pass


def burn() -> None:
    raise Broken("the disk is on fire")


PROVOKED: dict[str, Provoke] = {
    "SpecError": broken_document,
    "ArgumentError": lambda scene: scene.spec.evolve(capabilities=["NET_ADMN"]),
    "InvalidIDError": lambda scene: scene.run("web 1"),
    "NotFoundError": lambda scene: scene.factory.load("web-1"),
    "AlreadyExistsError": taken_name,
    "BusyError": held_lock,
    "StatusError": started_twice,
    "StepError": wrong_mount_option,
    "ExecutableError": lambda scene: scene.run(args=["serve"]),
    "HookError": failing_hook,
    "CgroupError": processors_that_there_are_not,
    "UnsupportedError": limit_without_a_group,
    "InterpreterError": lambda scene: lc.Factory(interpreter="/no/python").interpreter(),
    "ProtocolError": killed_init,
    "TimeoutExpired": lambda scene: lc.run(["sleep", "60"], timeout="100ms"),
    "CallError": lambda scene: lc.call(burn),
    "CallDiedError": lambda scene: lc.call(die),
    "ResultError": lambda scene: lc.call(print, "x" * 5000, capture_output=True, max_output=100),
    "CalledProcessError": lambda scene: lc.run(["false"], check=True),
}


def test_every_class_has_an_example() -> None:
    wanted = {cls.__name__ for cls in page.classes()}
    assert set(page.EXAMPLES) == set(PROVOKED) == wanted


@pytest.mark.parametrize("name", PROVOKED)
def test_an_error_says_what_the_page_shows(
    name: str,
    factory: lc.Factory,
    busybox_rootfs: Path,
    tmp_path: Path,
) -> None:
    if name == "CgroupError" and WAY == "user":
        pytest.skip("as user: no cpuset was delegated")
    with pytest.raises(lc.ContainerError) as caught:
        PROVOKED[name](Scene(factory, busybox_rootfs, tmp_path))
    assert type(caught.value).__name__ == name
    assert same(str(caught.value)) == same(page.EXAMPLES[name])
    assert caught.value.hint


def same(text: str) -> str:
    """Without what differs from host to host and from run to run."""
    text = text.replace(RUN_PREFIX, "")
    text = text.replace(Broken.__module__, "example")
    return re.sub(r"\d+/\d+|mounts\[\d+\]|[\d.]+ s$|/usr/bin|/bin|/sys/fs/cgroup/\S+", "n", text)
