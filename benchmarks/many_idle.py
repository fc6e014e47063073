"""``python -m benchmarks.many_idle [N]``: what N idle containers of one asyncio loop cost.

As root. Each is busybox's ``sleep`` in the default configuration, held with its three pipes.
Printed are, as the mean of all, the memory of a container's processes (PSS), what the kernel
charges to its cgroup (those pages, and what it keeps for them), what the program itself grows by,
and its open files; then the program's threads at most. What the kernel charges to nobody is in the
last number, by how much the machine's MemAvailable fell; so is whatever else runs there.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import libpycontainer as lc
from benchmarks.measuring import UnavailableError
from benchmarks.world import World
from libpycontainer import aio

MANY = 200
PIPES: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), lc.PIPE)


def main() -> int:
    many = int(sys.argv[1]) if len(sys.argv) > 1 else MANY
    if os.geteuid() != 0:
        print("many_idle: needs root, for cgroups of its own")
        return 1
    world = World()
    try:
        world.build()
        asyncio.run(measure(world, many))
    except UnavailableError as error:
        print(f"many_idle: {error}")
        return 1
    finally:
        world.close()
    return 0


async def measure(world: World, many: int) -> None:
    async with aio.Factory(world.states / "idle", warm=True) as factory:
        group = factory.group("idle", cgroups_path=world.cgroup("idle"))
        async with group:
            # The first one imports what all of them need.
            await (await make(factory, world, "idle/first")).delete(force=True)
            before = Counts()
            threads = Threads()
            started = time.perf_counter()
            alive = await asyncio.gather(
                *(make(factory, world, f"idle/c{number}") for number in range(many))
            )
            seconds = time.perf_counter() - started
            report(alive, before, seconds, threads.stop())
            started = time.perf_counter()
        print(f"deleted:    all in {time.perf_counter() - started:.2f} s")


async def make(factory: aio.Factory, world: World, name: str) -> aio.Container:
    config = world.config(name, "sleep", "100000")
    del config["linux"]["cgroupsPath"]
    return await factory.run(name, config, bundle=world.directory, **PIPES)


class Threads:
    """How many there were at most, looked at while the loop turns."""

    def __init__(self) -> None:
        self.most = 0
        self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            self.most = max(self.most, threading.active_count())
            await asyncio.sleep(0.002)

    def stop(self) -> int:
        self._looking.cancel()
        return self.most


class Counts:
    """Memory, in KiB, and open files, at one moment."""

    def __init__(self) -> None:
        self.own = memory_of(os.getpid())
        self.free = available()
        self.files = len(os.listdir("/proc/self/fd"))


def report(alive: list[aio.Container], before: Counts, seconds: float, most: int) -> None:
    gc.collect()
    many = len(alive)
    pss = [sum(map(memory_of, each.sync.processes())) for each in alive]
    charged = [charged_to(each) for each in alive]
    now = Counts()
    grown, files = now.own - before.own, now.files - before.files
    print(f"containers: {many}, up together in {seconds:.2f} s ({many / seconds:.0f}/s)")
    print(f"processes:  {sum(pss) / many:.0f} KiB each (PSS)")
    print(f"cgroup:     {sum(charged) / many / 1024:.0f} KiB each, those pages included")
    print(f"program:    {grown / many:.0f} KiB and {files / many:.1f} open files for each")
    print(f"threads:    {most} at most, the main one among them")
    print(f"machine:    {(before.free - now.free) / many:.0f} KiB each", flush=True)


def available() -> int:
    """In KiB."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1])
    raise UnavailableError("this kernel does not tell how much memory is available")


def memory_of(pid: int) -> int:
    """In KiB, with its share of what it shares with others."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise UnavailableError("this kernel does not tell a process's share of memory")


def charged_to(container: aio.Container) -> int:
    """In bytes."""
    paths = container.sync.cgroup.paths()
    if "memory" in paths:
        return int(Path(paths["memory"], "memory.usage_in_bytes").read_text())
    return int(Path(paths[""], "memory.current").read_text())


if __name__ == "__main__":
    sys.exit(main())
