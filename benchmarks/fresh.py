"""This library in a program of its own, which is what this file is when it is executed.

    python -P benchmarks/fresh.py run ROOTFS STATE CGROUP       prints milliseconds
    python -P benchmarks/fresh.py memory ROOTFS STATE CGROUP    prints KiB, PSS and RSS

Nothing that the library might import is imported here before it: that would be its price, hidden.
"""

from __future__ import annotations

import os
import sys
import time
from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

QUIET: dict[str, Any] = {"stdin": -3, "stdout": -3, "stderr": -3}  # DEVNULL


def first_runs(rootfs: str, state: str, cgroup: str) -> list[float]:
    """The import and the first run, in milliseconds."""
    marks = [time.perf_counter_ns()]
    import libpycontainer as lc

    marks.append(time.perf_counter_ns())
    factory = lc.Factory(state, cgroup_parent=cgroup)
    lc.run(["/bin/true"], rootfs=rootfs, check=True, factory=factory, **QUIET)
    marks.append(time.perf_counter_ns())
    return [(later - earlier) / 1e6 for earlier, later in pairwise(marks)]


def memory(rootfs: str, state: str, cgroup: str) -> list[int]:
    """PSS and RSS of this program bare, after the import, and after a run; then of a warm spawner
    (0 where there is none), of a created and of a running container's process.
    """
    found = [*of_process(os.getpid())]
    import libpycontainer as lc

    found += of_process(os.getpid())
    factory = lc.Factory(state, cgroup_parent=cgroup)
    lc.run(["/bin/true"], rootfs=rootfs, check=True, factory=factory, **QUIET)
    found += of_process(os.getpid())
    found += _of_spawner(lc, rootfs, state, cgroup)
    from libpycontainer.spec import default

    config = default.config(cgroup_namespace=True)
    config["root"]["path"] = rootfs
    config["process"].update(args=["sleep", "100000"], terminal=False)
    config["linux"]["cgroupsPath"] = f"{cgroup}/memory"
    with factory.create("memory", config, **QUIET) as container:
        assert container.process is not None
        found += of_process(container.process.pid)
        container.start()
        found += of_process(container.process.pid)
    return found


def _of_spawner(lc: Any, rootfs: str, state: str, cgroup: str) -> tuple[int, int]:
    """The warm interpreter, after it was used: the one child that is left."""
    try:
        factory = lc.Factory(state, cgroup_parent=cgroup, warm=True)
    except TypeError:
        return (0, 0)
    with factory:
        lc.run(["/bin/true"], rootfs=rootfs, check=True, factory=factory, **QUIET)
        [child] = children()
        return of_process(child)


def children() -> list[int]:
    """Of this process."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(word) for word in file.read().split()]


def of_process(pid: int) -> tuple[int, int]:
    """PSS and RSS in KiB."""
    sizes = {}
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("Pss", "Rss"):
                sizes[name] = int(rest.split()[0])
    return sizes["Pss"], sizes["Rss"]


MODES: dict[str, Callable[[str, str, str], Any]] = {"run": first_runs, "memory": memory}

if __name__ == "__main__":
    print(*MODES[sys.argv[1]](*sys.argv[2:]))
