"""Many at once, many mounts, many alive."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import libpycontainer as lc
from benchmarks.library import PLAIN, QUIET, WARM, Factories, life
from benchmarks.measuring import Cell, Measure, Row, milliseconds
from benchmarks.peers import Peers
from benchmarks.programs import run
from benchmarks.world import World

AT_ONCE = (1, 2, 8, 32)
ALIVE = (1, 10, 100, 300)
BINDS = (0, 10, 50, 200)
SAMPLES = 5
LEAST_BATCH = 8

Slot = Callable[[int], object]
"""Runs one container from nothing to nothing, in the place with this number."""


def throughput(slot: Slot, at_once: int) -> float:
    """Containers in a second, from as many threads of this program as are to run at once."""
    turns = max(1, LEAST_BATCH // at_once)
    errors: list[BaseException] = []
    over = threading.Event()

    def work(number: int) -> None:
        try:
            for _ in range(turns):
                if not over.is_set():
                    slot(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(at_once)]
    started = time.perf_counter()
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        # Interrupted: what they have begun must be over before it is cleaned up after.
        over.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        raise
    taken = time.perf_counter() - started
    if errors:
        raise errors[0]
    return at_once * turns / taken


def cells(world: World, peers: Peers, factories: Factories) -> list[Cell]:
    made = []
    for at_once in AT_ONCE:
        for whose, slot in _slots(world, peers, factories, at_once).items():
            title = f"{at_once} at once"
            peer = "" if whose == "runc run" else f"runc run, {title}"
            row = Row(f"{whose}, {title}", "throughput", peer, unit="1/s")
            made.append(Cell([row], _batches(slot, at_once), every=3))
    for binds in BINDS:
        made += _with_mounts(world, peers, factories, binds)
    return made


def _batches(prepare: Callable[[], Slot], at_once: int) -> Callable[[], Measure]:
    def prepared() -> Measure:
        slot = prepare()
        return lambda: [throughput(slot, at_once)]

    return prepared


def _slots(
    world: World, peers: Peers, factories: Factories, at_once: int
) -> dict[str, Callable[[], Slot]]:
    def library(mode: str) -> Slot:
        factory = factories.of(mode)
        names = [f"{mode.replace(', ', '-')}-{at_once}-{n}" for n in range(at_once)]
        configs = [world.config(name) for name in names]
        bundle = str(world.directory)
        return lambda number: life(factory, names[number], configs[number], bundle)

    def runc() -> Slot:
        runtime = peers.runtime("runc")
        runs = [runtime.runs(world, f"runc-{at_once}-{n}") for n in range(at_once)]
        return lambda number: runs[number]()

    def bubblewrap() -> Slot:
        argv = peers.bubblewrap()
        return lambda number: run(argv)

    def floor() -> Slot:
        floors = [peers.floor(f"floor-{at_once}-{n}") for n in range(at_once)]
        return lambda number: floors[number]()

    return {
        WARM: lambda: library(WARM),
        PLAIN: lambda: library(PLAIN),
        "runc run": runc,
        "bwrap --unshare-all": bubblewrap,
        "floor (C)": floor,
    }


def _with_mounts(world: World, peers: Peers, factories: Factories, binds: int) -> list[Cell]:
    title = f"{binds} bind mounts more"

    def library(mode: str) -> Measure:
        name = f"{mode.replace(', ', '-')}-binds-{binds}"
        factory, config = factories.of(mode), world.config(name, binds=binds)
        return lambda: life(factory, name, config, str(world.directory))

    def runc() -> Measure:
        name = f"runc-binds-{binds}"
        bundle = world.bundle(name, world.config(name, binds=binds))
        return peers.runtime("runc").runs_bundle(bundle, name)

    def floor() -> Measure:
        made = peers.floor(f"floor-binds-{binds}", binds)
        return lambda: [made()]

    peer = f"runc run, {title}"
    group = "mounts"
    return [
        Cell([Row(f"{WARM}, {title}", group, peer)], lambda: library(WARM), every=2),
        Cell([Row(f"{PLAIN}, {title}", group, peer)], lambda: library(PLAIN), every=2),
        Cell([Row(peer, group)], runc, every=2),
        Cell([Row(f"floor (C), {title}", group, peer)], floor, every=2),
    ]


class Crowd:
    """Containers that only sleep, all of them inside of one group."""

    def __init__(self, factory: lc.Factory, config: dict[str, Any], directory: str) -> None:
        self.factory = factory
        self.config = config
        self.directory = directory
        self.alive: list[lc.Container] = []

    def make(self, name: str) -> lc.Container:
        return self.factory.run(f"crowd/{name}", self.config, bundle=self.directory, **QUIET)

    def grow(self, size: int) -> None:
        while len(self.alive) < size:
            self.alive.append(self.make(f"c{len(self.alive)}"))

    def one_more(self) -> float:
        times = []
        for number in range(SAMPLES):
            made: list[lc.Container] = []
            times.append(milliseconds(lambda n=number, m=made: m.append(self.make(f"x{n}"))))  # type: ignore[misc]
            made[0].delete(force=True)
        return statistics.median(times)

    def look(self) -> list[float]:
        """One more; then list, state and stats of all, for each of them."""
        size = len(self.alive)
        create = self.one_more()
        listing = milliseconds(self.factory.list)
        states = milliseconds(lambda: [each.state() for each in self.alive])
        stats = milliseconds(lambda: [each.stats() for each in self.alive])
        return [create, listing / size, states / size, stats / size]


LOOKS = ("create and start one more", "list, for each", "state, for each", "stats, for each")


def alive(world: World, factories: Factories, most: int) -> Cell:
    """What one more costs when many are alive, and what it costs to look at all of them.

    They live at the same time, so this is measured once, when the rounds are over.
    """
    sizes = [size for size in ALIVE if size <= most]
    rows = []
    for size in sizes:
        for look in LOOKS:
            peer = f"{look}, {sizes[0]} alive" if size != sizes[0] else ""
            rows.append(Row(f"{look}, {size} alive", "alive", peer))

    def measure() -> list[float]:
        config = world.config("crowd", "sleep", "100000")
        del config["linux"]["cgroupsPath"]
        found: list[float] = []
        with factories.best.group("crowd", cgroups_path=world.cgroup("crowd")):
            crowd = Crowd(factories.best, config, str(world.directory))
            crowd.make("warm-up").delete(force=True)
            crowd.grow(1)
            # The first look imports what looks need.
            crowd.look()
            for size in sizes:
                crowd.grow(size)
                found += crowd.look()
        return found

    return Cell(rows, lambda: measure, measure=measure)
