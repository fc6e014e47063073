"""Whoever dies, at whatever moment: no process survives, and what is left can be cleared."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from libpycontainer import launch
from libpycontainer.creation import Creation
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    Gate,
    Program,
    await_end,
    bind,
    children,
    create,
    groups_left,
    hook,
)

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

STOP = "say('here'); signal.pause()"
# Where the program stops for good, to be killed: the library's functions, wrapped.
WRAP = """
import {module} as module
owner, name = {owner}, {name!r}
original, calls = getattr(owner, name), []
def stopping(*args, **options):
    calls.append(name)
    here = len(calls) == {call}
    if here and {before}:
        say("here"); signal.pause()
    result = original(*args, **options)
    if here and not {before}:
        say("here"); signal.pause()
    return result
setattr(owner, name, stopping)
create()
"""


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with Gate(tmp_path) as gate:
        yield gate


def clear(factory: lc.Factory, one: Bundle) -> None:
    """The state is gone, or force clears it; and then there is nothing."""
    for container in factory.list():
        assert container.status in ("creating", "created", "running", "stopped")
        try:
            container.delete(force=True)
        except lc.NotFoundError:
            # Its creator lives, and was faster.
            continue
    assert factory.list() == []
    assert groups_left(one.linux["cgroupsPath"]) == []


def init_of(factory: lc.Factory) -> int:
    """A pidfd of the container's init."""
    return os.pidfd_open(factory.load("one").state()["pid"])


POINTS = {
    "before the name is taken": ("libpycontainer.store", "module.Store", "reserve", 1, True),
    "before the first record": ("libpycontainer.store", "module.Entry", "save", 1, True),
    "after the first record": ("libpycontainer.store", "module.Entry", "save", 1, False),
    "before the cgroups": ("libpycontainer.cgroups.v1", "module.V1Manager", "create", 1, True),
    "after the cgroups": ("libpycontainer.cgroups.v1", "module.V1Manager", "create", 1, False),
    "before the request": ("libpycontainer.launch", "module.Launch", "clone", 1, True),
    "after the clone": ("libpycontainer.launch", "module.Launch", "clone", 1, False),
    "before it is noted": ("libpycontainer.creation", "module.Creation", "_note_clone", 1, True),
    "when it is ready": ("libpycontainer.creation", "module.Creation", "_created", 1, True),
    "before it is recorded": ("libpycontainer.process", "module.Process", "attach", 1, True),
}


@pytest.mark.parametrize("point", POINTS)
def test_caller_dies_while_creating(factory: lc.Factory, bundle: BundleMaker, point: str) -> None:
    module, owner, name, call, before = POINTS[point]
    if "cgroups" in point and not Path("/sys/fs/cgroup/memory").exists():
        pytest.skip("no cgroup v1 here")
    source = WRAP.format(module=module, owner=owner, name=name, call=call, before=before)
    one = bundle(FOREVER)
    with Program(factory.root, one, source) as program:
        assert program.hear() == "here"
        born = [os.pidfd_open(pid) for pid in _children_of(program.popen.pid)]
        program.kill()
        for pidfd in born:
            assert await_end(pidfd)
            os.close(pidfd)
    clear(factory, one)


def _children_of(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_caller_dies_during_a_hook_of_create(
    factory: lc.Factory, bundle: BundleMaker, gate: Gate, kind: str
) -> None:
    one = bundle(FOREVER, edit=lambda c: c.update(hooks={kind: [hook(gate.script())]}))
    with Program(factory.root, one, "create()") as program:
        gate.reached()
        init = init_of(factory)
        program.kill()
        # The hook itself is somebody's who was promised a container: it may finish.
        gate.open()
        assert await_end(init)
        os.close(init)
    clear(factory, one)


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_force_clears_what_a_dead_caller_left_in_a_hook(
    factory: lc.Factory, bundle: BundleMaker, gate: Gate, kind: str
) -> None:
    one = bundle(FOREVER, edit=lambda c: c.update(hooks={kind: [hook(gate.script())]}))
    with Program(factory.root, one, "create()") as program:
        gate.reached()
        init = init_of(factory)
        program.kill()
    clear(factory, one)
    assert await_end(init, 0)
    os.close(init)


def test_force_deletes_what_is_being_created(
    factory: lc.Factory, bundle: BundleMaker, gate: Gate
) -> None:
    one = bundle(FOREVER, edit=lambda c: c.update(hooks={"createContainer": [hook(gate.script())]}))
    source = "\ntry: create()\nexcept lc.ContainerError as error: say(type(error).__name__)"
    with Program(factory.root, one, source) as program:
        gate.reached()
        clear(factory, one)
        assert program.rest() == "ProtocolError"
    clear(factory, one)


@pytest.mark.parametrize("started", [False, True])
def test_container_outlives_its_creator(
    factory: lc.Factory, bundle: BundleMaker, started: bool
) -> None:
    one = bundle(FOREVER)
    source = f"container = create()\nif {started}: container.start()\n{STOP}"
    with Program(factory.root, one, source) as program:
        assert program.hear() == "here"
        program.kill()
    container = factory.load("one")
    if not started:
        assert container.status == "created"
        container.start()
    assert container.status == "running"
    container.signal(signal.SIGKILL)
    assert container.wait(TIMEOUT) == -signal.SIGKILL
    container.delete()
    clear(factory, one)


def test_caller_dies_during_a_hook_of_start(
    factory: lc.Factory, bundle: BundleMaker, gate: Gate
) -> None:
    one = bundle(FOREVER)
    bind(one.config, gate.path, "/tmp")
    one.config["hooks"] = {"startContainer": [hook(gate.script("/tmp"))]}
    one.save()
    with Program(factory.root, one, "create().start()") as program:
        gate.reached()
        init = init_of(factory)
        program.kill()
    clear(factory, one)
    assert await_end(init, 0)
    os.close(init)


def test_starter_dies_and_the_hook_goes_on(
    factory: lc.Factory, bundle: BundleMaker, gate: Gate
) -> None:
    one = bundle(FOREVER)
    bind(one.config, gate.path, "/tmp")
    one.config["hooks"] = {"startContainer": [hook(gate.script("/tmp"))]}
    one.save()
    with Program(factory.root, one, "create().start()") as program:
        gate.reached()
        program.kill()
        gate.open()
    # Nobody is there to be told whether it could be started: it runs, or it is gone.
    container = factory.load("one")
    assert container.status in ("running", "stopped")
    clear(factory, one)


def test_caller_dies_during_poststart(factory: lc.Factory, bundle: BundleMaker, gate: Gate) -> None:
    one = bundle(FOREVER, edit=lambda c: c.update(hooks={"poststart": [hook(gate.script())]}))
    with Program(factory.root, one, "create().start()") as program:
        gate.reached()
        program.kill()
    assert factory.load("one").status == "running"
    clear(factory, one)


def test_caller_dies_while_deleting(factory: lc.Factory, bundle: BundleMaker, gate: Gate) -> None:
    once = f"test -e {gate.path}/done && exit; touch {gate.path}/done; {gate.script()}"
    one = bundle(FOREVER, edit=lambda c: c.update(hooks={"poststop": [hook(once)]}))
    with Program(factory.root, one, "create().delete()") as program:
        gate.reached()
        program.kill()
        gate.open()
    clear(factory, one)


class Creating:
    """A creation in a thread of its own, and how it ended."""

    def __init__(self, factory: lc.Factory, one: Bundle) -> None:
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._create, args=(factory, one))
        self._thread.start()

    def _create(self, factory: lc.Factory, one: Bundle) -> None:
        try:
            create(factory, one)
        except lc.ContainerError as error:
            self.error = error

    def join(self) -> BaseException | None:
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()
        return self.error


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_init_dies_during_a_hook_of_create(
    factory: lc.Factory, bundle: BundleMaker, gate: Gate, kind: str
) -> None:
    before = children()
    one = bundle(FOREVER, edit=lambda c: c.update(hooks={kind: [hook(gate.script())]}))
    creating = Creating(factory, one)
    gate.reached()
    init = init_of(factory)
    signal.pidfd_send_signal(init, signal.SIGKILL)
    os.close(init)
    gate.open()
    error = creating.join()
    assert isinstance(error, lc.ProtocolError)
    assert "died" in str(error)
    assert factory.list() == []
    assert groups_left(one.linux["cgroupsPath"]) == []
    assert children() == before


def test_spawner_dies_before_the_request(
    state_root: str, bundle: BundleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A cold one; what becomes of a warm one that dies is told in test_warm.py.
    factory = lc.Factory(root=state_root)
    original = launch.Launch.clone
    before = children()

    def kill_first(self: launch.Launch, *args: object) -> None:
        (spawner,) = children() - before
        os.kill(spawner, signal.SIGKILL)
        os.waitid(os.P_PID, spawner, os.WEXITED | os.WNOWAIT)
        original(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(launch.Launch, "clone", kill_first)
    one = bundle(FOREVER)
    with pytest.raises(lc.ProtocolError, match="died"):
        create(factory, one)
    assert factory.list() == []
    assert groups_left(one.linux["cgroupsPath"]) == []
    assert children() == before


def test_init_dies_before_it_is_ready(
    factory: lc.Factory, bundle: BundleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Creation._note_clone

    def kill_first(self: Creation, going: launch.Launch, *rest: Any) -> None:
        assert going.pidfd is not None
        signal.pidfd_send_signal(going.pidfd.fileno(), signal.SIGKILL)
        original(self, going, *rest)

    monkeypatch.setattr(Creation, "_note_clone", kill_first)
    before = children()
    with pytest.raises(lc.ProtocolError, match="died"):
        create(factory, bundle(FOREVER))
    assert factory.list() == []
    assert children() == before


def test_init_dies_before_the_start(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER)) as container:
        container.signal(signal.SIGKILL)
        assert container.wait(TIMEOUT) == -signal.SIGKILL
        assert container.status == "stopped"
        with pytest.raises(lc.StatusError, match="stopped"):
            container.start()


def test_init_dies_during_a_hook_of_start(
    factory: lc.Factory, bundle: BundleMaker, gate: Gate
) -> None:
    one = bundle(FOREVER)
    bind(one.config, gate.path, "/tmp")
    one.config["hooks"] = {"startContainer": [hook(gate.script("/tmp"))]}
    errors: list[Exception] = []

    def start(container: lc.Container) -> None:
        try:
            container.start()
        except Exception as error:
            errors.append(error)

    with create(factory, one) as container:
        thread = threading.Thread(target=start, args=(container,))
        thread.start()
        gate.reached()
        factory.load("one").signal(signal.SIGKILL)
        thread.join(TIMEOUT)
        assert not thread.is_alive()
        assert container.status == "stopped"
    assert [type(error) for error in errors] == [lc.ProtocolError]
    assert "died" in str(errors[0])


def test_container_dies_during_exec(
    factory: lc.Factory, bundle: BundleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        original = launch.Launch.clone

        def kill_first(self: launch.Launch, *args: object) -> None:
            container.signal(signal.SIGKILL)
            assert container.process is not None
            assert await_end(container.process.fileno())
            original(self, *args)  # type: ignore[arg-type]

        before = children()
        monkeypatch.setattr(launch.Launch, "clone", kill_first)
        with pytest.raises(lc.ContainerError):
            container.exec(lc.Process(["true"]))
        monkeypatch.undo()
        assert container.wait(TIMEOUT) == -signal.SIGKILL
        assert children() <= before
