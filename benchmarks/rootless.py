"""An ordinary user's containers: by this library, by runc and by bubblewrap.

The user needs an interpreter that he may execute and a copy of this package that he may read. One
program of his serves every cell of this module; this file is that program when it is executed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

UID = 1000


def serve(package: str, rootfs: str) -> None:
    """Do what each line of the input says, and answer with the nanoseconds, or with an error."""
    sys.path.insert(0, package)
    for line in sys.stdin:
        try:
            print(_obey(json.loads(line), rootfs), flush=True)
        except Exception as error:
            words = " ".join(str(error).split()) or repr(error)
            print(f"{type(error).__name__}: {words}", flush=True)


def _obey(order: dict[str, Any], rootfs: str) -> int:
    if "argv" in order:
        return timed(lambda: _execute(order["argv"]))
    import libpycontainer as lc

    if order["factory"] not in FACTORIES:
        options: dict[str, Any] = {"warm": True} if order["factory"] == "warm" else {}
        FACTORIES[order["factory"]] = lc.Factory(**options)
    factory = FACTORIES[order["factory"]]
    quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), lc.DEVNULL)
    return timed(lambda: lc.run(["/bin/true"], rootfs=rootfs, check=True, factory=factory, **quiet))


FACTORIES: dict[str, Any] = {}


def timed(action: Callable[[], object]) -> int:
    started = time.perf_counter_ns()
    action()
    return time.perf_counter_ns() - started


def _execute(argv: list[str]) -> None:
    nothing = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
    pid = os.posix_spawn(argv[0], argv, dict(os.environ), file_actions=nothing)
    if os.waitpid(pid, 0)[1] != 0:
        said = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        raise RuntimeError(said.stderr.strip()[-200:] or f"{argv[0]} failed")


if __name__ == "__main__":
    serve(*sys.argv[1:])
