"""Limits as they are felt inside, and what the measurements outside say of it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    bind,
    create,
    exec_inside,
    run_in_pure_v2_view,
    sh,
)

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

VIEW = "LPC_TEST_LIMITS_VIEW"
PURE = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
MIB = 1 << 20
needs_controllers = pytest.mark.skipif(
    PURE and "pids" not in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split(),
    reason="the controllers are in no hierarchy that is mounted",
)


def limits(**resources: Any) -> Any:
    return lambda config: config["linux"]["resources"].update(resources)


# ---- processes -------------------------------------------------------------------------------

# A shell gives up when it cannot fork; this one tries again, for ever.
BOMB = "exec awk 'BEGIN { while (1) system(\"sleep 1000 & sleep 1000 &\") }' 2>/dev/null"


@needs_controllers
def test_a_fork_bomb_stops_at_the_limit(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(sh(BOMB), edit=limits(pids={"limit": 24}))) as container:
        with container.events(0.01) as events:
            container.start()
            most = 0
            for event in events:
                assert isinstance(event, lc.StatsEvent)
                pids = event.stats.pids
                assert pids is not None
                assert pids.limit == 24
                assert pids.current <= 24
                most = max(most, pids.current)
                if most == 24:
                    break
        assert most == 24
        assert len(container.processes()) <= 24
        container.signal(signal.SIGKILL, all=True)
        container.wait(TIMEOUT)


@needs_controllers
def test_a_fork_bomb_is_stopped_by_an_update(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(sh(BOMB), edit=limits(pids={"limit": 60}))) as container:
        container.start()
        container.update(pids=1)
        with container.events(0.01) as events:
            for event in events:
                assert isinstance(event, lc.StatsEvent)
                assert event.stats.pids is not None
                assert event.stats.pids.limit == 1
                assert event.stats.pids.current <= 60
                break
        container.signal(signal.SIGKILL, all=True)
        container.wait(TIMEOUT)


@needs_controllers
@pytest.mark.parametrize(("limit", "file"), [(0, "1"), (1, "1"), (-1, "max")])
def test_no_more_processes_and_any_number_of_them(
    limit: int, file: str, factory: lc.Factory, bundle: BundleMaker
) -> None:
    made = bundle(sh("(true) && echo forked"), edit=limits(pids={"limit": limit}))
    with create(factory, made, stdout=lc.PIPE, stderr=lc.STDOUT) as container:
        directory = container.cgroup.paths()["" if PURE else "pids"]
        assert Path(directory, "pids.max").read_text() == f"{file}\n"
        container.start()
        process = container.process
        assert process is not None
        output, _ = process.communicate(timeout=TIMEOUT)
        assert (b"forked" in (output or b"")) is (file == "max")
        pids = container.stats().pids
        assert pids is not None
        assert pids.limit == (None if file == "max" else 1)


# ---- processor time --------------------------------------------------------------------------


@needs_controllers
def test_a_quota_shows_as_throttling(factory: lc.Factory, bundle: BundleMaker) -> None:
    loop = sh("while :; do :; done")
    with create(factory, bundle(loop)) as container:
        container.start()
        with container.events(0.05) as events:
            first = next(events)
            assert isinstance(first, lc.StatsEvent)
            container.update(cpus=0.05)
            throttled = 0
            for event in events:
                assert isinstance(event, lc.StatsEvent)
                cpu = event.stats.cpu
                assert cpu is not None
                assert cpu.throttling is not None
                throttled = cpu.throttling.throttled_periods
                if throttled >= 5:
                    # Each of those periods lost most of what the others on this host left of it.
                    assert cpu.throttling.throttled > 5 * 10_000_000
                    break
            assert throttled >= 5


# ---- memory ----------------------------------------------------------------------------------


@needs_controllers
def test_a_hog_is_killed_and_the_others_live(factory: lc.Factory, bundle: BundleMaker) -> None:
    made = bundle(FOREVER, edit=limits(memory={"limit": 16 * MIB, "swap": 17 * MIB}))
    with create(factory, made) as container:
        container.start()
        # It keeps the last line of a file that has no end of line, nor an end.
        hog = lc.Process(["tail", "-n", "1", "/dev/zero"], stdin=lc.DEVNULL)
        with container.exec(hog):
            assert hog.wait(TIMEOUT) == -signal.SIGKILL
        memory = container.stats().memory
        assert memory is not None
        assert memory.oom_kills == 1
        assert memory.max_usage is not None
        assert memory.max_usage <= 16 * MIB
        assert memory.failures
        # With room for it, the same is no trouble.
        container.update({"memory": {"limit": 512 * MIB, "swap": 512 * MIB}})
        done = exec_inside(container, sh("head -c 40000000 /dev/zero | tail -n 1 | wc -c"))
        assert done.text == "40000000\n"
        assert container.status == "running"


# ---- devices ---------------------------------------------------------------------------------


@pytest.mark.no_user_namespace("device rules are not all that decides")
def test_a_denied_device_gives_eperm_and_an_allowed_one_works(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    kmsg = {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}
    rule = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "w"}

    def edit(config: dict[str, Any], *more: dict[str, Any]) -> None:
        config["linux"]["devices"] = [kmsg]
        config["linux"]["resources"]["devices"] = [{"allow": False, "access": "rwm"}, *more]

    script = ": 2>&1 >/dev/null && echo null; : >/dev/kmsg && echo kmsg"
    more: list[dict[str, Any]] = []
    for wanted in ("not permitted", "kmsg\n"):
        made = bundle(FOREVER, edit=lambda config: edit(config, *more))
        more.append(rule)
        with create(factory, made) as container:
            container.start()
            text = exec_inside(container, sh(script)).text
            assert text.startswith("null\n")
            assert wanted in text


# ---- pause -----------------------------------------------------------------------------------


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    tmp_path.chmod(0o777)
    path = tmp_path / "count"
    path.touch()
    path.chmod(0o666)
    return path


@pytest.fixture
def counting(factory: lc.Factory, bundle: BundleMaker, counter: Path) -> Iterator[lc.Container]:
    """Two processes that write to a file without end."""
    script = sh("while :; do echo 1 >>/count; done & while :; do echo 2 >>/count; done")
    made = bundle(script, edit=lambda config: bind(config, counter, "/count", "rw"))
    with create(factory, made) as container:
        container.start()
        grows(counter)
        yield container


def grows(path: Path) -> None:
    """Wait until the file is longer than it was."""
    size, passed = path.stat().st_size, threading.Event()
    for _ in range(2000):
        if path.stat().st_size > size:
            return
        passed.wait(0.005)
    raise AssertionError(f"{path} does not grow")


def rests(path: Path) -> None:
    """Does the file keep its length for a tenth of a second?"""
    size = path.stat().st_size
    assert not threading.Event().wait(0.1)
    assert path.stat().st_size == size


def test_pause_stops_everything_and_resume_goes_on(counting: lc.Container, counter: Path) -> None:
    for _ in range(3):
        counting.pause()
        assert counting.status == "paused"
        rests(counter)
        with pytest.raises(lc.StatusError, match="container not running: one is paused"):
            counting.pause()
        counting.resume()
        assert counting.status == "running"
        grows(counter)
    with pytest.raises(lc.StatusError, match="container not paused"):
        counting.resume()


def test_a_pause_that_fails_leaves_everything_running(
    counting: lc.Container, counter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from libpycontainer.cgroups import freezer

    with monkeypatch.context() as patch:
        # The kernel never says that all have stopped.
        patch.setattr(freezer, "_SECONDS", -1.0)
        patch.setattr(freezer, "_wait_v2", lambda *_: False)
        patch.setattr(freezer, "read", lambda _: "FREEZING")
        with pytest.raises(lc.CgroupError, match="all of them run again"):
            counting.pause()
    assert counting.status == "running"
    grows(counter)
    counting.pause()
    rests(counter)
    counting.resume()


def test_an_interrupted_pause_leaves_everything_running(
    counting: lc.Container, counter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from libpycontainer.cgroups import freezer

    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(freezer, "_wait_v2", interrupted)
        patch.setattr(freezer, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            counting.pause()
    assert counting.status == "running"
    grows(counter)


def test_a_pause_of_one_that_ends_meanwhile_leaves_no_frozen_group(
    counting: lc.Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = counting.cgroup
    freeze = type(manager).freeze

    def late(self: Any) -> None:
        process = counting.process
        assert process is not None
        process.signal(signal.SIGKILL)
        process.wait(TIMEOUT)
        freeze(self)

    monkeypatch.setattr(type(manager), "freeze", late)
    with pytest.raises(lc.StatusError, match="is stopped"):
        counting.pause()
    assert not manager.frozen()


def test_forks_do_not_escape_a_pause(factory: lc.Factory, bundle: BundleMaker) -> None:
    storm = sh("while :; do (true) & (true) & wait; done")
    with create(factory, bundle(storm)) as container:
        container.start()
        for _ in range(20):
            container.pause()
            before = sorted(container.processes())
            assert not threading.Event().wait(0.005)
            assert sorted(container.processes()) == before
            container.resume()


# ---- the same again, as if there was only v2 -------------------------------------------------


@pytest.mark.skipif(VIEW in os.environ, reason="this is the view already")
@pytest.mark.skipif(PURE, reason="the host shows nothing else")
def test_the_battery_in_a_pure_v2_view() -> None:
    run_in_pure_v2_view(__file__, VIEW, timeout=110)
