"""Command lines: a container's whole life in one verb, or one verb after the other."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import Cell, Measure, Row
from benchmarks.programs import ProgramError, Start, run
from benchmarks.world import World

VERBS = ("create", "start", "state", "list", "exec", "kill", "delete")
INTERPRETER = "python -I -S -c pass"
GROUP = "verbs"
SCRIPT = """#!{python}
import sys
from libpycontainer.cli.main import entry
sys.exit(entry())
"""


@dataclass(frozen=True)
class Runtime:
    """A command that takes runc's command line."""

    name: str
    command: list[str]
    start: Start

    def argv(self, verb: str, *words: str) -> list[str]:
        return [*self.command, verb, *words]

    def runs(self, world: World, name: str) -> Measure:
        """From nothing to nothing, with ``run``."""
        bundle = world.bundle(name, world.config(name))
        return self.runs_bundle(bundle, name)

    def runs_bundle(self, bundle: Path, name: str) -> Measure:
        argv = self.argv("run", "--bundle", str(bundle), name)
        return lambda: [self.start(argv)]

    def lives(self, world: World) -> Measure:
        """A container's life, verb by verb, in the order of ``VERBS``."""
        name = f"life-{self.name}"
        bundle = world.bundle(name, world.config(name, "sleep", "100000"))
        pid_file = bundle / "pid"
        words = {
            "create": ["--bundle", str(bundle), "--pid-file", str(pid_file), name],
            "list": [],
            "exec": [name, "true"],
            "kill": [name, "KILL"],
        }

        def life() -> list[float]:
            taken = []
            for verb in VERBS:
                if verb == "delete":
                    await_end(pid_file)
                taken.append(self.start(self.argv(verb, *words.get(verb, [name]))))
            return taken

        return life


def await_end(pid_file: Path) -> None:
    """Until the process is gone or a zombie, which somebody who reaps slowly may leave."""
    try:
        pidfd = os.pidfd_open(int(pid_file.read_text()))
    except ProcessLookupError:
        return
    try:
        if not select.select([pidfd], [], [], 10)[0]:
            raise ProgramError("the container outlived its SIGKILL")
    finally:
        os.close(pidfd)


def pyrunc(world: World) -> Runtime:
    """Our command, as pip installs it: a script."""
    script = world.directory / "pyrunc"
    if not script.exists():
        script.write_text(SCRIPT.format(python=world.python), encoding="utf-8")
        script.chmod(stat.S_IRWXU)
    root = world.states / "pyrunc"
    return Runtime("pyrunc", [str(script), "--root", str(root)], run)


def cells(world: World, runtime: Callable[[str], Runtime]) -> list[Cell]:
    """``runtime`` finds a peer by its name."""
    bare = [world.python, "-I", "-S", "-c", "pass"]
    made = [
        Cell([Row(INTERPRETER, GROUP)], lambda: lambda: [run(bare)]),
        Cell(
            [Row("python -c pass", GROUP, INTERPRETER)],
            lambda: lambda: [run([world.python, "-c", "pass"])],
        ),
        Cell(
            [Row("pyrunc run", "start to exit", "runc run")],
            lambda: pyrunc(world).runs(world, "run-pyrunc"),
        ),
        Cell(
            [
                Row("pyrunc --version", GROUP, INTERPRETER),
            ],
            lambda: lambda: [run([pyrunc(world).command[0], "--version"])],
        ),
    ]
    for name in ("pyrunc", "runc", "crun"):
        rows = [Row(f"{name} {verb}", GROUP, _peer(name, verb)) for verb in VERBS]
        if name == "pyrunc":
            made.append(Cell(rows, lambda: pyrunc(world).lives(world), every=2))
        else:
            made.append(Cell(rows, lambda name=name: runtime(name).lives(world), every=2))  # type: ignore[misc]
    return made


def _peer(name: str, verb: str) -> str:
    # What only looks or removes is little more than the interpreter's own start.
    cheap = name == "pyrunc" and verb in ("state", "list", "kill", "delete")
    return INTERPRETER if cheap else "" if name == "runc" else f"runc {verb}"
