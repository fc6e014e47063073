"""The cells that take a program of their own (fresh.py): the import, the first run, memory."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from benchmarks import fresh, verbs
from benchmarks.measuring import Cell, Measure, Row, UnavailableError
from benchmarks.peers import RUNC, START, Peers
from benchmarks.programs import NOTHING, environment
from benchmarks.world import HERE, World, members_of

GROUP = "memory"
IMPORT = "import libpycontainer"
WHOSE = ("python, bare", "the program after its import", "the program after lc.run")
SPAWNER = "the warm spawner"
CONTAINERS = ("a created container's init", "a running container (busybox sleep)")
DETACHED = "processes besides a detached container's own"


def execute(world: World, mode: str) -> list[float]:
    argv = [world.python, "-P", str(HERE / "fresh.py"), mode, str(world.rootfs)]
    argv += [str(world.states / "fresh"), f"/{world.token}"]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), timeout=60)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return [float(word) for word in done.stdout.split()]


def cells(world: World, peers: Peers) -> list[Cell]:
    def first_runs() -> list[float]:
        started = time.perf_counter_ns()
        numbers = execute(world, "run")
        return [*numbers, (time.perf_counter_ns() - started) / 1e6]

    def memory() -> list[float]:
        return [kib / 1024 for kib in execute(world, "memory")]

    def ready_inits() -> Measure:
        runtime = peers.runtime("runc")
        return lambda: _created_by(world, runtime.argv("create"), runtime.argv("delete", "--force"))

    def prepare_memory() -> Measure:
        numbers = memory()
        if not all(numbers):
            raise UnavailableError("this libpycontainer has no Factory(warm=True)")
        return memory

    def left() -> Measure:
        return lambda: [float(companions(world, verbs.pyrunc(world)))]

    names = [*WHOSE, SPAWNER, *CONTAINERS]
    rows = [Row(f"{name}, {size}", GROUP, unit="MiB") for name in names for size in ("PSS", "RSS")]
    return [
        Cell(
            [
                Row(IMPORT, "start of a program"),
                Row("lc.run, first in its program", START, RUNC),
                Row("python program: import, lc.run", START, RUNC),
            ],
            lambda: first_runs,
        ),
        Cell(rows, lambda: prepare_memory(), every=10),
        Cell(
            [Row(f"runc's created init, {size}", GROUP, unit="MiB") for size in ("PSS", "RSS")],
            ready_inits,
            every=10,
        ),
        Cell([Row(DETACHED, GROUP, unit="")], left, every=10),
    ]


def _created_by(world: World, create: list[str], delete: list[str]) -> list[float]:
    name = "runc-memory"
    bundle = world.bundle(name, world.config(name, "sleep", "100000"))
    pid_file = bundle / "pid"
    words = ["--bundle", str(bundle), "--pid-file", str(pid_file), name]
    nothing = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    subprocess.run([*create, *words], check=True, **nothing)  # type: ignore[call-overload]
    try:
        return [kib / 1024 for kib in fresh.of_process(int(Path(pid_file).read_text()))]
    finally:
        subprocess.run([*delete, name], check=True, **nothing)  # type: ignore[call-overload]


def companions(world: World, runtime: verbs.Runtime) -> int:
    """How many processes a detached container has beside its program: those of the command's
    session, in which whatever it starts and leaves stays, and others in the container's cgroup.
    """
    name = "detached"
    bundle = world.bundle(name, world.config(name, "sleep", "100000"))
    argv = runtime.argv("run", "--detach", "--bundle", str(bundle), name)
    command = os.posix_spawn(argv[0], argv, environment(), file_actions=NOTHING, setsid=True)
    if os.waitpid(command, 0)[1] != 0:
        raise RuntimeError(f"{' '.join(argv)} failed")
    try:
        groups = [Path(where + world.cgroup(name)) for where in world.hierarchies]
        inside = {pid for group in groups for pid in members_of(group)}
        return len(inside) - 1 + _in_session(command)
    finally:
        runtime.start(runtime.argv("delete", "--force", name))


def _in_session(leader: int) -> int:
    found = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                found += os.getsid(int(entry)) == leader
            except ProcessLookupError:
                continue
    return found
