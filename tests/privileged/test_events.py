"""Events of real containers: measurements, OOM notices, memory pressure, stalls, the end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from libpycontainer.events import Events
from tests.privileged.support import FOREVER, TIMEOUT, create, exec_inside, run_in_pure_v2_view, sh

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

VIEW = "LPC_TEST_EVENTS_VIEW"
PURE = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
UNIFIED = Path("/sys/fs/cgroup" if PURE else "/sys/fs/cgroup/unified")
MIB = 1 << 20

# The mount namespace's own view of v2 has the hierarchy, and the controllers stay with v1.
CONTROLLERS = (UNIFIED / "cgroup.controllers").read_text().split() if PURE else []
MEASURED = not PURE or {"io", "memory", "pids"} <= set(CONTROLLERS)

needs_v1 = pytest.mark.skipif(PURE, reason="only v1 has it")
needs_controllers = pytest.mark.skipif(not MEASURED, reason="v2 has no controllers here")
needs_stalls = pytest.mark.skipif(
    not (UNIFIED / "cpu.pressure").exists(), reason="this kernel does not count stalls"
)

# The pipe makes the hog wait for a word, and its shell's variable takes all the memory it gets.
HOG = "read word; x=$(head -c 67108864 /dev/zero | tr '\\0' x); echo $x | wc -c"

# Reads a file in, into less memory than that needs.
READ_AGAIN = "head -c 33554432 /dev/zero >/big; while true; do cat /big >/dev/null; done"


def limited(config: dict[str, Any]) -> None:
    config["linux"]["resources"]["memory"] = {"limit": 16 * MIB, "swap": 16 * MIB}


@pytest.fixture
def running(factory: lc.Factory, bundle: BundleMaker) -> Iterator[lc.Container]:
    with create(factory, bundle(FOREVER)) as made:
        made.start()
        yield made


def test_measurements_come_at_the_interval_until_the_end(running: lc.Container) -> None:
    begun = time.monotonic()
    with running.events(0.05) as events:
        first, second = next(events), next(events)
        assert time.monotonic() - begun >= 0.1
        for event in (first, second):
            assert isinstance(event, lc.StatsEvent)
            assert (event.type, event.id) == ("stats", "one")
            assert event.stats.network is not None
            if MEASURED:
                assert event.stats.pids is not None
                assert event.stats.pids.current == 1
        running.signal(signal.SIGKILL)
        assert list(events)[3:] == []
        with pytest.raises(StopIteration):
            next(events)


def test_events_end_with_the_container_however_it_ends(running: lc.Container) -> None:
    events = running.events(None)
    timer = threading.Timer(0.1, running.delete, kwargs={"force": True})
    timer.start()
    assert list(events) == []
    timer.join()


def test_events_of_a_container_that_somebody_else_made(
    running: lc.Container, factory: lc.Factory
) -> None:
    other = factory.load("one")
    with other.events(0.01) as events:
        assert isinstance(next(events), lc.StatsEvent)
    other._let_go()


@pytest.mark.parametrize("status", ["created", "paused"])
def test_events_of_a_container_that_does_not_run(
    status: str, factory: lc.Factory, bundle: BundleMaker
) -> None:
    with create(factory, bundle(FOREVER)) as container:
        if status == "paused":
            container.start()
            container.pause()
        with container.events(0.01) as events:
            assert isinstance(next(events), lc.StatsEvent)


def test_a_container_that_has_stopped_has_no_events(running: lc.Container) -> None:
    running.signal(signal.SIGKILL)
    running.wait(TIMEOUT)
    with pytest.raises(lc.StatusError, match="container with id one is not running"):
        running.events()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_are_given_back(running: lc.Container) -> None:
    before = descriptors()
    stalls = [lc.Stall("cpu", 0.5)] if (UNIFIED / "cpu.pressure").exists() else []
    level = None if PURE else "low"
    with running.events(memory_pressure=level, stalls=stalls) as events:
        assert descriptors() > before
    assert descriptors() == before
    events.close()
    assert list(events) == []
    events = running.events(None)
    assert descriptors() > before
    del events
    assert descriptors() == before
    # A source that is refused closes those before it.
    with pytest.raises(ValueError, match="low, medium, critical"):
        running.events(memory_pressure="none")
    assert descriptors() == before
    with pytest.raises(ValueError, match="interval"):
        running.events(0)


def test_get_waits_no_longer_than_it_is_told(running: lc.Container) -> None:
    with running.events(None) as events:
        with pytest.raises(TimeoutError):
            events.get(timeout=0.02)
        running.signal(signal.SIGKILL)
        assert events.get(timeout=TIMEOUT) is None


# ---- out of memory ---------------------------------------------------------------------------


def notices(events: Events) -> list[lc.OOMEvent]:
    return [event for event in events if isinstance(event, lc.OOMEvent)]


@needs_controllers
def test_a_hog_that_is_init_is_killed_and_reported_before_the_end(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    with create(factory, bundle(sh(HOG), edit=limited), stdin=lc.PIPE) as container:
        container.start()
        process = container.process
        assert process is not None
        assert process.stdin is not None
        with container.events(None) as events:
            process.stdin.write(b"go\n")
            process.stdin.flush()
            found = notices(events)
        assert found
        assert {event.id for event in found} == {"one"}
        assert container.wait(TIMEOUT) != 0
        memory = container.stats().memory
        assert memory is not None
        assert memory.oom_kills
        assert memory.limit == 16 * MIB


@needs_controllers
def test_a_hog_beside_init_is_killed_and_reported_while_init_lives(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    with create(factory, bundle(FOREVER, edit=limited)) as container:
        container.start()
        with container.events(None) as events:
            for _ in range(2):
                done = exec_inside(container, sh("echo | (" + HOG + ")"))
                assert done.code != 0 or "67108864" not in done.text
                event = events.get(timeout=TIMEOUT)
                assert isinstance(event, lc.OOMEvent)
            assert container.status == "running"


@needs_v1
def test_without_the_killer_the_container_waits_and_is_reported(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    def edit(config: dict[str, Any]) -> None:
        limited(config)
        config["linux"]["resources"]["memory"]["disableOOMKiller"] = True

    with create(factory, bundle(sh(HOG), edit=edit), stdin=lc.PIPE) as container:
        container.start()
        process = container.process
        assert process is not None
        assert process.stdin is not None
        with container.events(None) as events:
            process.stdin.write(b"go\n")
            process.stdin.flush()
            event = events.get(timeout=TIMEOUT)
            assert isinstance(event, lc.OOMEvent)
            assert event.kills == 0
            assert container.status == "running"
            container.update({"memory": {"disableOOMKiller": False}})
            container.wait(TIMEOUT)


# ---- pressure --------------------------------------------------------------------------------


@needs_v1
def test_memory_that_is_hard_to_get_back_is_reported(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["root"]["readonly"] = False
        config["linux"]["resources"]["memory"] = {"limit": 8 * MIB}

    made = bundle(sh(READ_AGAIN), private_rootfs=True, edit=edit)
    with create(factory, made) as container, container.events(None, memory_pressure="low") as it:
        container.start()
        event = it.get(timeout=TIMEOUT)
        while isinstance(event, lc.OOMEvent):
            event = it.get(timeout=TIMEOUT)
        assert isinstance(event, lc.MemoryPressureEvent)
        assert event.level in ("low", "medium", "critical")


@pytest.mark.skipif(not PURE, reason="v1 has levels")
def test_levels_are_refused_where_there_are_none(running: lc.Container) -> None:
    with pytest.raises(lc.UnsupportedError, match="Stall"):
        running.events(memory_pressure="low")


@needs_stalls
def test_a_stall_is_reported(factory: lc.Factory, bundle: BundleMaker) -> None:
    loop = "while :; do :; done"
    script = sh(f"for i in 1 2 3 4 5 6; do {loop} & done; {loop}")
    stall = lc.Stall("cpu", 0.1)
    made = bundle(script)
    with create(factory, made) as container, container.events(None, stalls=[stall]) as events:
        container.start()
        event = events.get(timeout=TIMEOUT)
        assert isinstance(event, lc.StallEvent)
        assert event.stall is stall


@needs_stalls
@pytest.mark.skipif(not PURE, reason="v1 has levels")
@needs_controllers
def test_memory_that_is_hard_to_get_back_stalls(factory: lc.Factory, bundle: BundleMaker) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["root"]["readonly"] = False
        config["linux"]["resources"]["memory"] = {"limit": 8 * MIB}

    made = bundle(sh(READ_AGAIN), private_rootfs=True, edit=edit)
    stall = lc.Stall("memory", 0.02)
    with create(factory, made) as container, container.events(None, stalls=[stall]) as events:
        container.start()
        event = events.get(timeout=TIMEOUT)
        while isinstance(event, lc.OOMEvent):
            event = events.get(timeout=TIMEOUT)
        assert isinstance(event, lc.StallEvent)
        assert event.stall is stall


@needs_stalls
def test_a_stall_that_the_kernel_refuses_is_named(running: lc.Container) -> None:
    with pytest.raises(
        lc.CgroupError, match=r"watch for Stall\('io', 1, 60.*io\.pressure: EINVAL \(a w"
    ):
        running.events(stalls=[lc.Stall("io", 1, window=60)])


# ---- measurements ----------------------------------------------------------------------------


SEND = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
    for _ in range(3):
        out.sendto(bytes(1000), ("127.0.0.1", 9))
"""


@pytest.mark.privileged_caller("enters a network namespace that is not the caller's")
def test_interfaces_are_those_inside(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        before = container.stats().network
        assert before is not None
        assert [one.name for one in before] == ["lo"]
        enter = ["nsenter", "--net", "--target", str(container.pid), sys.executable, "-c"]
        subprocess.run([*enter, SEND], check=True)
        after = container.stats().network
        assert after is not None
        assert after[0].tx_packets - before[0].tx_packets >= 3
        assert after[0].rx_bytes - before[0].rx_bytes >= 3000


def test_the_hosts_interfaces_are_not_the_containers(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    def shared(config: dict[str, Any]) -> None:
        spaces = config["linux"]["namespaces"]
        config["linux"]["namespaces"] = [each for each in spaces if each["type"] != "network"]

    with create(factory, bundle(FOREVER, edit=shared)) as container:
        assert container.stats().network is None


def test_a_container_that_has_stopped_is_measured_by_what_is_left(running: lc.Container) -> None:
    running.signal(signal.SIGKILL)
    running.wait(TIMEOUT)
    stats = running.stats()
    assert stats.network is None
    assert stats.cpu is not None
    assert stats.cpu.usage > 0


@needs_controllers
def test_writes_and_reads_are_counted_by_device(factory: lc.Factory, bundle: BundleMaker) -> None:
    def writable(config: dict[str, Any]) -> None:
        config["root"]["readonly"] = False

    made = bundle(FOREVER, private_rootfs=True, edit=writable)
    with create(factory, made) as container:
        container.start()
        exec_inside(container, sh("dd if=/dev/zero of=/big bs=1M count=8 conv=fsync"))
        io = container.stats().io
        assert io is not None
        if not io.devices:
            pytest.skip("the root filesystem lies on no block device")
        assert sum(device.write_bytes for device in io.devices) >= 8 * MIB
        assert PURE or all(device.sync_bytes is not None for device in io.devices)


def test_huge_pages_are_measured_where_there_is_a_controller(running: lc.Container) -> None:
    paths = running.cgroup.paths()
    directory = Path(paths.get("hugetlb") or paths.get("", "/nonexistent"))
    there = {path.name.split(".")[1] for path in directory.glob("hugetlb.*")}
    pages = running.stats().hugepages
    assert set(pages or ()) == there
    for page in (pages or {}).values():
        assert (page.usage, page.limit) == (0, None)


def test_everything_that_is_measured_is_there(running: lc.Container) -> None:
    stats = running.stats()
    assert stats.cpu is not None
    if not MEASURED:
        assert stats.cpuset is None or stats.cpuset.flags is None
        return
    assert stats.cpuset is not None
    assert stats.cpuset.cpus == tuple(sorted(os.sched_getaffinity(running.pid)))
    assert stats.cpuset.mems == (0,)
    assert stats.memory is not None
    assert stats.memory.usage > 0
    assert stats.pids is not None
    assert stats.pids.current == 1
    if PURE:
        assert stats.cpu.user is not None
        assert stats.cpu.system is not None
        assert stats.cpu.user + stats.cpu.system == pytest.approx(stats.cpu.usage, rel=0.2)
        for part in (stats.cpu, stats.memory, stats.io):
            assert part is not None
            assert part.pressure is not None
            assert part.pressure.some is not None
        return
    assert stats.memory.kernel is not None
    assert stats.memory.kernel.usage > 0
    assert stats.cpu.per_cpu is not None
    assert sum(stats.cpu.per_cpu) == pytest.approx(stats.cpu.usage, rel=0.2)


# ---- the same again, as if there was only v2 -------------------------------------------------


@pytest.mark.skipif(VIEW in os.environ, reason="this is the view already")
@pytest.mark.skipif(PURE, reason="the host shows nothing else")
def test_the_battery_in_a_pure_v2_view() -> None:
    run_in_pure_v2_view(__file__, VIEW, timeout=110)


def test_v2_counts_kills_by_their_number(tmp_path: Path) -> None:
    """memory.events on a host whose memory controller is v1's: the file, and what is made of it."""
    from libpycontainer.events import _OOMv2

    file = tmp_path / "memory.events"
    file.write_text("low 0\noom 0\noom_kill 0\n")
    source = _OOMv2(str(tmp_path))
    watch = source.fds[0]
    try:
        assert source.take("one", 0) == []
        file.write_text("low 1\noom 0\noom_kill 0\n")
        assert select.select([watch], [], [], TIMEOUT)[0]
        assert source.take("one", 0) == []
        assert not select.select([watch], [], [], 0)[0]
        file.write_text("low 1\noom 2\noom_kill 2\n")
        assert select.select([watch], [], [], TIMEOUT)[0]
        (event,) = source.take("one", 0)
        assert isinstance(event, lc.OOMEvent)
        assert event.kills == 2
        assert source.take("one", 0) == []
        file.unlink()
        assert source.take("one", 0) == []
        assert source.gone
    finally:
        watch.close()
