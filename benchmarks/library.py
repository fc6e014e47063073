"""This library, inside of one program that has used it before."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import libpycontainer as lc
from benchmarks.measuring import Cell, Measure, Row, UnavailableError, milliseconds
from benchmarks.peers import RUNC, START, Peers
from benchmarks.world import HERE, World
from libpycontainer import host, validate
from libpycontainer.spec import light

WARM = "library, warm"
PLAIN = "library"
STAGES = ("create", "start", "wait", "delete")
QUIET: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), lc.DEVNULL)
FIFTY = 50


class Factories:
    """One factory that keeps an interpreter, and one that starts one for each container."""

    def __init__(self, world: World) -> None:
        self._world = world

    @functools.cached_property
    def plain(self) -> lc.Factory:
        return self._make()

    @functools.cached_property
    def warm(self) -> lc.Factory:
        if "warm" not in inspect.signature(lc.Factory).parameters:
            raise UnavailableError("this libpycontainer has no Factory(warm=True)")
        return self._make(warm=True)

    @property
    def best(self) -> lc.Factory:
        try:
            return self.warm
        except UnavailableError:
            return self.plain

    def of(self, mode: str) -> lc.Factory:
        return self.warm if mode == WARM else self.plain

    def _make(self, **options: Any) -> lc.Factory:
        state = self._world.states / f"library-{len(options)}"
        factory = lc.Factory(state, cgroup_parent=f"/{self._world.token}", **options)
        self._world.closing.callback(factory.close)
        self._world.closing.callback(self._delete_all, factory)
        return factory

    def _delete_all(self, factory: lc.Factory) -> None:
        for container in factory.list():
            try:
                container.delete(force=True)
            except lc.NotFoundError:
                continue


def life(factory: lc.Factory, name: str, config: dict[str, Any], bundle: str) -> list[float]:
    """From nothing to nothing, by ``run``, ``wait`` and ``delete``."""
    return [milliseconds(lambda: _live(factory, name, config, bundle))]


def _live(factory: lc.Factory, name: str, config: dict[str, Any], bundle: str) -> None:
    with factory.run(name, config, bundle=bundle, **QUIET) as container:
        code = container.wait()
    if code != 0:
        raise RuntimeError(f"the program's exit code was {code}")


def life_in_stages(
    factory: lc.Factory, name: str, config: dict[str, Any], bundle: str
) -> list[float]:
    """The same with ``create`` and ``start`` apart: the whole, then each stage of it."""
    marks = [time.perf_counter_ns()]
    container = factory.create(name, config, bundle=bundle, **QUIET)
    try:
        marks.append(time.perf_counter_ns())
        container.start()
        marks.append(time.perf_counter_ns())
        code = container.wait()
        marks.append(time.perf_counter_ns())
    finally:
        container.delete(force=True)
    marks.append(time.perf_counter_ns())
    assert container.process is not None
    container.process.close()
    if code != 0:
        raise RuntimeError(f"the program's exit code was {code}")
    stages = [(later - earlier) / 1e6 for earlier, later in pairwise(marks)]
    return [sum(stages), *stages]


def cells(world: World, peers: Peers, factories: Factories) -> list[Cell]:
    made = []
    for mode in (WARM, PLAIN):
        made += _starts(world, factories, mode)
        made += _executions(world, factories, mode)
    for title, config in VARIANTS.items():
        made += [
            _variant(world, functools.partial(factories.of, mode), mode, title, config)
            for mode in (WARM, PLAIN)
        ]
        made.append(_variant_of_runc(world, peers, title, config))
    return made + _parts(world, factories)


def _starts(world: World, factories: Factories, mode: str) -> list[Cell]:
    name = mode.replace(", ", "-")

    def whole() -> Measure:
        factory = factories.of(mode)
        config = world.config(name)
        return lambda: life(factory, name, config, str(world.directory))

    def stages() -> Measure:
        factory = factories.of(mode)
        config = world.config(name)
        return lambda: life_in_stages(factory, name, config, str(world.directory))

    def run_in(rootfs: str) -> Measure:
        factory = factories.of(mode)
        program = ["/bin/true"]

        def once() -> None:
            lc.run(program, rootfs=rootfs, check=True, factory=factory, **QUIET)

        return lambda: [milliseconds(once)]

    run = mode.replace("library", "lc.run")
    apart = [Row(f"{mode}: {stage}", "stages") for stage in ("create to delete", *STAGES)]
    return [
        Cell([Row(mode, START, RUNC)], whole),
        Cell(apart, stages),
        Cell([Row(run, START, RUNC)], lambda: run_in(str(world.rootfs))),
        Cell([Row(f"{run}, the host's root", START, RUNC)], lambda: run_in("/"), every=2),
    ]


def _executions(world: World, factories: Factories, mode: str) -> list[Cell]:
    name = "exec-in-" + mode.replace(", ", "-")

    def prepare() -> Measure:
        factory = factories.of(mode)
        config = world.config(name, "sleep", "100000")
        container = factory.run(name, config, bundle=world.directory, **QUIET)

        def once() -> None:
            with container.exec(lc.Process(args=["true"], **QUIET)) as process:
                if process.wait() != 0:
                    raise RuntimeError(f"exec's exit code was {process.returncode}")

        return lambda: [milliseconds(once)]

    return [Cell([Row(mode.replace("library", "exec"), "exec", "runc exec")], prepare)]


VARIANTS: dict[str, Callable[[World, str], dict[str, Any]]] = {
    "docker's seccomp profile": World.confined,
    "user namespace": World.mapped,
    f"{FIFTY} bind mounts": functools.partial(World.config, binds=FIFTY),
}


def _variant(
    world: World,
    factory: Callable[[], lc.Factory],
    mode: str,
    title: str,
    config: Callable[[World, str], dict[str, Any]],
) -> Cell:
    name = f"{mode}-{title}".translate(str.maketrans(" ,'", "-__"))

    def prepare() -> Measure:
        made, document = factory(), config(world, name)
        return lambda: life(made, name, document, str(world.directory))

    return Cell([Row(f"{mode}, {title}", title, f"runc run, {title}")], prepare)


def _variant_of_runc(
    world: World, peers: Peers, title: str, config: Callable[[World, str], dict[str, Any]]
) -> Cell:
    name = f"runc-{title}".translate(str.maketrans(" ,'", "-__"))

    def prepare() -> Measure:
        bundle = world.bundle(name, config(world, name))
        return peers.runtime("runc").runs_bundle(bundle, name)

    return Cell([Row(f"runc run, {title}", title)], prepare)


def _parts(world: World, factories: Factories) -> list[Cell]:
    podman = str(HERE / "data/podman.json")
    facts = host.facts()

    def plan() -> Measure:
        config = light.record("Spec", world.config("planned"))
        factory = factories.plain
        bundle = world.directory
        return lambda: [milliseconds(lambda: factory.plan("planned", config, bundle=bundle))]

    def load(reader: Callable[[str], Any]) -> Measure:
        return lambda: [milliseconds(lambda: reader(podman))]

    def load_and_check() -> Measure:
        return lambda: [milliseconds(lambda: validate.check(light.load(podman), facts))]

    group = "without a container"
    return [
        Cell([Row("plan of the default configuration", group)], plan),
        Cell([Row("podman's config.json: Spec.load", group)], lambda: load(lc.Spec.load)),
        Cell([Row("podman's config.json: read", group)], lambda: load(light.load)),
        Cell([Row("podman's config.json: read and validate", group)], load_and_check),
    ]
