"""An interpreter that boots before it is known what for: used once, or ended; never in the way."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from libpycontainer import syscalls as sys_
from libpycontainer.spawner import Spawner
from tests.privileged.support import FOREVER, TIMEOUT, Program, children, create, groups_left

if TYPE_CHECKING:
    from tests.conftest import BundleMaker


@pytest.fixture
def cold(state_root: Path) -> lc.Factory:
    return lc.Factory(state_root)


def test_the_next_container_is_made_by_it(cold: lc.Factory, bundle: BundleMaker) -> None:
    before = children()
    cold.prepare()
    cold.prepare()
    assert len(children()) == len(before) + 1
    with create(cold, bundle(["true"])) as container:
        # Init alone: the interpreter has ended, and there was no other.
        assert children() - before == {container.pid}
        container.start()
        assert container.wait(TIMEOUT) == 0
    assert children() == before


def test_a_call_has_its_own_and_leaves_it(cold: lc.Factory, bundle: BundleMaker) -> None:
    before = children()
    with cold, create(cold, bundle(FOREVER)) as container:
        container.start()
        cold.prepare()
        assert container.call(os.getpid) > 1
        assert len(children() - before) == 2
        container.signal(9)
        container.wait(TIMEOUT)
    assert children() == before


def test_a_fork_makes_its_own(bundle: BundleMaker, state_root: str) -> None:
    source = """
factory.prepare()
(mine,) = factory._prepared.values()
pid = os.fork()
if not pid:
    with create("child") as container:
        container.start()
        code = container.wait(20)
    factory.close()
    os._exit(code)
_, status = os.waitpid(pid, 0)
with create() as container:
    container.start()
    code = container.wait(20)
say(f"{status} {code} {mine.socket is not None}")
"""
    with Program(state_root, bundle(["true"]), source) as program:
        assert program.hear() == "0 0 True"


@pytest.mark.privileged_caller("a user's init enters a user namespace first, by a courier")
@pytest.mark.no_user_namespace("an init that enters one is not cloned early")
def test_an_interrupt_right_behind_the_early_clone_leaves_no_group(
    state_root: str, bundle: BundleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Spawner.start_init

    def interrupted(self: Spawner, flags: int, cgroup: sys_.Fd | None) -> None:
        start(self, flags, cgroup)
        if cgroup is not None:
            procs = Path(f"/proc/self/fd/{cgroup.fileno()}/cgroup.procs")
            deadline = time.monotonic() + TIMEOUT
            while not procs.read_text() and time.monotonic() < deadline:
                time.sleep(0.001)
        raise KeyboardInterrupt

    monkeypatch.setattr(Spawner, "start_init", interrupted)
    one = bundle(["true"])
    with lc.Factory(state_root, warm=True) as warm:
        before = children()
        with pytest.raises(KeyboardInterrupt):
            create(warm, one)
        assert warm.list() == []
        assert children() == before
    assert groups_left(one.linux["cgroupsPath"]) == []


def test_one_that_nobody_needs_ends_with_the_factory(cold: lc.Factory) -> None:
    before = children()
    with cold:
        cold.prepare()
    assert children() == before


def test_a_creation_that_fails_before_it_begins_leaves_none(cold: lc.Factory) -> None:
    before = children()
    with pytest.raises(lc.SpecError):
        cold.create("one", {"ociVersion": "1.0.0"})
    assert children() == before


def test_a_number_that_the_caller_has_closed_never_means_a_descriptor_of_its_own(
    bundle: BundleMaker, state_root: Path
) -> None:
    one = bundle(["sh", "-c", "for n in 0 2; do readlink /proc/self/fd/$n; done"])
    source = """
os.close(0); os.close(2)
config = f"{bundle}/config.json"
with factory.create("one", config, bundle=bundle, stdout=lc.PIPE) as container:
    container.start()
    out, _ = container.process.communicate(timeout=20)
say(out.decode().split())
"""
    with Program(str(state_root), one, source) as program:
        assert program.hear() == str(["/dev/null", "/dev/null"])


def test_a_descriptor_that_is_not_open_is_refused(cold: lc.Factory, bundle: BundleMaker) -> None:
    free = os.dup(0)
    os.close(free)
    with pytest.raises(lc.ContainerError, match=f"{free}, which was to be passed on"):
        create(cold, bundle(["true"]), pass_fds=[free])
