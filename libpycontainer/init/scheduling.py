"""Steps that decide how the program is scheduled, and where its memory comes from."""

from __future__ import annotations

import os

from libpycontainer import syscalls as sys_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from libpycontainer.init.context import Context

MAX_CPUS = 8192


def set_personality(context: Context, persona: int) -> None:
    sys_.personality(persona)


def set_memory_policy(context: Context, mode: int, nodes: Sequence[int]) -> None:
    sys_.set_mempolicy(mode, nodes)


def set_io_priority(context: Context, value: int) -> None:
    sys_.set_io_priority(value)


def set_scheduler(context: Context, attributes: bytes) -> None:
    sys_.sched_setattr(attributes)


def set_affinity(context: Context, cpus: Sequence[int]) -> None:
    """Run on these CPUs; on all of none, of which the kernel leaves those of the cpuset."""
    os.sched_setaffinity(0, cpus or range(MAX_CPUS))
