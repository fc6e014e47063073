"""The six kinds of hooks: where and when they run, what they are told, what a failure does."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    Gate,
    bind,
    children,
    create,
    groups_left,
    hook,
    read_inside,
    sh,
)

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

BEFORE = ("prestart", "createRuntime", "createContainer")
OUTSIDE = ("prestart", "createRuntime", "poststart", "poststop")
OF_THE_SHELL = ("PATH", "PWD", "SHLVL", "_", "OLDPWD")
KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
STATUS = {
    "prestart": "creating",
    "createRuntime": "creating",
    "createContainer": "creating",
    "startContainer": "created",
    "poststart": "running",
    "poststop": "stopped",
}


class Log:
    """A directory that every hook can write to, under one path inside and outside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.chmod(0o777)
        # Hooks of several users write to it.
        (path / "order").touch()
        (path / "order").chmod(0o666)

    def bundle(
        self, bundle: BundleMaker, hooks: dict[str, list[dict[str, Any]]], **options: Any
    ) -> Bundle:
        """A bundle with these hooks and this directory, which a copied root has a place for."""
        made = bundle(
            options.pop("args", sh(f"echo program >>{self.path}/order")), private_rootfs=True
        )
        (made.rootfs / str(self.path).lstrip("/")).mkdir(parents=True)
        bind(made.config, self.path, str(self.path))
        made.config["hooks"] = hooks
        return made

    def lines(self, name: str = "order") -> list[str]:
        file = self.path / name
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def inside(kind: str) -> bool:
    return kind in ("createContainer", "startContainer")


def test_hooks_run_in_order(factory: lc.Factory, bundle: BundleMaker, log: Log) -> None:
    hooks = {
        kind: [hook(f"echo {kind}.{index} >>{log.path}/order") for index in (0, 1)]
        for kind in KINDS
    }
    # So that the program ends after poststart, which it would otherwise race with.
    one = log.bundle(bundle, hooks, args=sh(f"echo program >>{log.path}/order; read line"))
    with create(factory, one, stdin=lc.PIPE) as container:
        assert log.lines() == [f"{kind}.{index}" for kind in BEFORE for index in (0, 1)]
        container.start()
        assert container.process is not None
        assert container.process.stdin is not None
        container.process.stdin.close()
        container.wait(TIMEOUT)
    order = log.lines()
    order.remove("program")
    assert order == [f"{kind}.{index}" for kind in KINDS for index in (0, 1)]


def test_hooks_are_told_the_state(factory: lc.Factory, bundle: BundleMaker, log: Log) -> None:
    hooks = {kind: [hook(f"cat >{log.path}/{kind}")] for kind in KINDS}
    one = log.bundle(bundle, hooks, args=list(FOREVER))
    one.config["annotations"] = {"a": "b"}
    with create(factory, one) as container:
        container.start()
        pid = container.pid
    for kind in KINDS:
        state = json.loads((log.path / kind).read_text())
        expected: dict[str, Any] = {
            "ociVersion": one.config["ociVersion"],
            "id": "one",
            "status": STATUS[kind],
            "bundle": str(one),
            "annotations": {"a": "b"},
        }
        if kind != "poststop":
            # The pid as the hook itself would see it.
            expected["pid"] = 1 if inside(kind) else pid
        assert state == expected, kind


def test_hooks_run_in_their_namespaces(factory: lc.Factory, bundle: BundleMaker, log: Log) -> None:
    names = ("pid", "net", "mnt", "uts")
    script = "; ".join(f"readlink /proc/self/ns/{name}" for name in names)
    hooks = {kind: [hook(f"({script}) >{log.path}/{kind}")] for kind in KINDS}
    one = log.bundle(bundle, hooks, args=list(FOREVER))
    with create(factory, one) as container:
        container.start()
        theirs = [os.readlink(f"/proc/{container.pid}/ns/{name}") for name in names]
    ours = [os.readlink(f"/proc/self/ns/{name}") for name in names]
    for kind in OUTSIDE:
        assert log.lines(kind) == ours, kind
    # createContainer still sees the host's files through the container's own mount namespace,
    # and the host's procfs, which does not know it in its pid namespace.
    assert log.lines("startContainer") == theirs


def test_create_container_hook_finds_its_path_on_the_host(
    factory: lc.Factory, bundle: BundleMaker, log: Log, tmp_path: Path
) -> None:
    program = tmp_path / "only-on-the-host"
    program.write_text(f"#!/bin/sh\npwd >{log.path}/where; ls {tmp_path} >{log.path}/seen\n")
    program.chmod(0o755)
    one = log.bundle(bundle, {"createContainer": [{"path": str(program)}]})
    with create(factory, one):
        pass
    assert log.lines("where") == [str(one.rootfs)]
    assert "only-on-the-host" in log.lines("seen")


def test_start_container_hook_finds_its_path_inside(
    factory: lc.Factory, bundle: BundleMaker, log: Log
) -> None:
    one = log.bundle(bundle, {"startContainer": [{"path": "/only-inside"}]})
    program = one.rootfs / "only-inside"
    program.write_text(f"#!/bin/sh\necho ran >>{log.path}/order\n")
    program.chmod(0o755)
    assert read_inside(factory, one).code == 0
    assert log.lines() == ["ran", "program"]


@pytest.mark.parametrize("kind", KINDS)
def test_environment_is_exact(
    factory: lc.Factory, bundle: BundleMaker, log: Log, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_CALLER", "must not be seen")
    script = f"/usr/bin/env >{log.path}/env"
    entry = {"path": "/bin/sh", "args": sh(script), "env": ["ONE=1", "TWO=2"]}
    with create(factory, log.bundle(bundle, {kind: [entry]})) as container:
        container.start()
        container.wait(TIMEOUT)
    found = [line for line in log.lines("env") if line.partition("=")[0] not in OF_THE_SHELL]
    assert sorted(found) == ["ONE=1", "TWO=2"]


def test_arguments_are_the_configured_ones(
    factory: lc.Factory, bundle: BundleMaker, log: Log
) -> None:
    entry = {
        "path": "/bin/sh",
        "args": ["my-name", "-c", f'echo "$0|$1" >{log.path}/args', "a b", "c"],
    }
    with create(factory, log.bundle(bundle, {"createRuntime": [entry]})):
        pass
    assert log.lines("args") == ["a b|c"]


@pytest.mark.parametrize("kind", BEFORE)
@pytest.mark.parametrize(
    ("script", "words"),
    [("echo broken >&2; exit 3", ["exit status 3", "broken"]), ("kill -9 $$", ["signal 9"])],
    ids=["exit code", "signal"],
)
def test_failure_while_creating_fails_create(
    factory: lc.Factory, bundle: BundleMaker, log: Log, kind: str, script: str, words: list[str]
) -> None:
    before = children()
    hooks = {
        kind: [hook(script), hook(f"echo next >>{log.path}/order")],
        "poststop": [hook(f"echo poststop >>{log.path}/order")],
    }
    one = log.bundle(bundle, hooks)
    with pytest.raises(lc.HookError) as caught:
        create(factory, one)
    for word in (kind, "/bin/sh", *words):
        assert word in str(caught.value)
    assert caught.value.path == "/bin/sh"
    assert factory.list() == []
    assert groups_left(one.linux["cgroupsPath"]) == []
    assert children() == before
    # runtime.md#lifecycle: the remaining ones of its kind do not run, those of poststop do.
    assert log.lines() == ["poststop"]


def test_failure_of_start_container_fails_start(
    factory: lc.Factory, bundle: BundleMaker, log: Log
) -> None:
    with create(factory, log.bundle(bundle, {"startContainer": [hook("exit 4")]})) as container:
        with pytest.raises(lc.HookError, match=r"startContainer.*exit status 4"):
            container.start()
        assert container.status == "stopped"
    assert log.lines() == []


def test_failure_of_poststart_stops_the_container(
    factory: lc.Factory, bundle: BundleMaker, log: Log
) -> None:
    one = log.bundle(bundle, {"poststart": [hook("exit 5")]}, args=list(FOREVER))
    with create(factory, one) as container:
        with pytest.raises(lc.HookError, match=r"poststart.*exit status 5"):
            container.start()
        assert container.status == "stopped"
        assert container.processes() == []


def test_failure_of_poststop_is_only_logged(
    factory: lc.Factory, bundle: BundleMaker, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = {"poststop": [hook("exit 6"), hook(f"echo next >>{log.path}/order")]}
    container = create(factory, log.bundle(bundle, hooks))
    with caplog.at_level(logging.WARNING, "libpycontainer"):
        container.delete()
    assert "exit status 6" in caplog.text
    assert log.lines() == ["next"]
    assert factory.list() == []


@pytest.mark.parametrize("kind", [*BEFORE, "startContainer", "poststart"])
def test_hook_that_takes_too_long_is_killed(
    factory: lc.Factory, bundle: BundleMaker, log: Log, kind: str
) -> None:
    before = children()
    entry = {"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}
    one = log.bundle(bundle, {kind: [entry]}, args=list(FOREVER))
    with pytest.raises(lc.HookError, match=f"{kind}.*1 s"), create(factory, one) as container:
        container.start()
    assert children() == before


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_ctrl_c_ends_the_hook_that_runs(
    kind: str, factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    before = children()
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    with Gate(tmp_path) as gate:

        def interrupt() -> None:
            gate.reached()
            signal.pthread_kill(main, signal.SIGINT)

        main = threading.get_ident()
        thread = threading.Thread(target=interrupt)
        thread.start()
        one = bundle(["true"], edit=lambda c: c.update(hooks={kind: [hook(gate.script())]}))
        with pytest.raises(KeyboardInterrupt):
            create(factory, one)
        thread.join()
        assert children() == before
    signal.signal(signal.SIGINT, previous)
    assert factory.list() == []


@pytest.mark.parametrize("kind", [*BEFORE, "startContainer", "poststart"])
def test_missing_hook_is_an_error(
    factory: lc.Factory, bundle: BundleMaker, log: Log, kind: str
) -> None:
    one = log.bundle(bundle, {kind: [{"path": "/nowhere/hook"}]}, args=list(FOREVER))
    words = r"/nowhere/hook.*No such file"
    with pytest.raises(lc.HookError, match=words), create(factory, one) as container:
        container.start()
    assert factory.list() == []


def test_hook_may_ignore_its_input_and_print_much(
    factory: lc.Factory, bundle: BundleMaker, log: Log
) -> None:
    hooks = {kind: [hook("exec <&-; head -c 1000000 /dev/zero")] for kind in KINDS}
    assert read_inside(factory, log.bundle(bundle, hooks)).code == 0


def test_hook_may_use_the_library_on_its_container(
    factory: lc.Factory, bundle: BundleMaker, log: Log
) -> None:
    where = os.path.join(factory.root, "one", "state.json")
    one = log.bundle(
        bundle, {"createRuntime": [hook(f"grep -o '\"pid\":[0-9]*' {where} >{log.path}/pid")]}
    )
    with create(factory, one) as container:
        assert log.lines("pid") == [f'"pid":{container.pid}']
