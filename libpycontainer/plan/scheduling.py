"""How the program is scheduled, and where its memory comes from: numbers for the spec's words."""

from __future__ import annotations

import sys

from libpycontainer.errors import Problem, SpecError
from libpycontainer.plan.model import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libpycontainer.plan.build import Builder
    from libpycontainer.spec.models import LinuxMemoryPolicy, Scheduler
    from libpycontainer.spec.models import Process as SpecProcess

# linux/sched.h
POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
MAX_NUMBER = 8191
"""Linux knows at most 8192 CPUs, and fewer NUMA nodes."""

SCHED_ATTR_SIZE = 56
"""``SCHED_ATTR_SIZE_VER1`` (Linux 5.3), which the SCHED_FLAG_UTIL_CLAMP flags need."""

# linux/ioprio.h
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
IO_CLASS_SHIFT = 13

# linux/personality.h
DOMAINS = {"LINUX": 0x0000, "LINUX32": 0x0008}

# linux/mempolicy.h
MEMORY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_FLAGS = {
    "MPOL_F_STATIC_NODES": 1 << 15,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_NUMA_BALANCING": 1 << 13,
}


def steps(builder: Builder, process: SpecProcess) -> None:
    """The steps that set these for the program, which inherits them from init."""
    linux = builder.linux
    if linux.personality is not None:
        domain = linux.personality.domain or "LINUX"
        title = f"use the execution domain {domain}"
        builder.add(Step("set_personality", title, persona=DOMAINS[domain]))
    if linux.memory_policy is not None:
        builder.add(_memory_policy(linux.memory_policy))
    if process.io_priority is not None:
        level = process.io_priority.priority or 0
        value = IO_CLASSES[process.io_priority.class_] << IO_CLASS_SHIFT | level
        title = f"set the I/O priority {process.io_priority.class_} {level}"
        builder.add(Step("set_io_priority", title, value=value))
    if process.scheduler is not None:
        title = f"set the scheduling policy {process.scheduler.policy}"
        builder.add(
            Step("set_scheduler", title, attributes=scheduler_attributes(process.scheduler))
        )


def affinity_step(cpus: str | None, field: str) -> Step | None:
    """Run on these CPUs only, given as "0-3,7" in that field of ``execCPUAffinity``."""
    if not cpus:
        return None
    numbers = number_list(cpus, f"$.process.execCPUAffinity.{field}")
    return Step("set_affinity", f"run on the CPUs {cpus}", cpus=numbers)


def scheduler_attributes(scheduler: Scheduler) -> bytes:
    """A packed ``struct sched_attr`` (man 2 sched_setattr)."""
    flags = 0
    for flag in scheduler.flags or ():
        flags |= SCHEDULER_FLAGS[flag]
    fields = (
        (SCHED_ATTR_SIZE, 4),
        (POLICIES[scheduler.policy], 4),
        (flags, 8),
        (scheduler.nice or 0, 4),
        (scheduler.priority or 0, 4),
        (scheduler.runtime or 0, 8),
        (scheduler.deadline or 0, 8),
        (scheduler.period or 0, 8),
        # sched_util_min and sched_util_max, for which the specification has no fields.
        (0, 8),
    )
    return b"".join(value.to_bytes(size, sys.byteorder, signed=value < 0) for value, size in fields)


def number_list(text: str, where: str) -> list[int]:
    """``"0-3,7"`` or ``"0-31:2/4"`` as numbers, in order (man 7 cpuset, "List format").

    Raises :class:`SpecError`, naming ``where``, for numbers that no kernel has.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        span, _, stride = part.strip().partition(":")
        first, dash, last = span.partition("-")
        used, _, size = stride.partition("/")
        words = [word for word in (first, last, used, size) if word]
        if not all(word.isascii() and word.isdigit() for word in words):
            raise SpecError([Problem(where, f"{part!r} is not a range of numbers")])
        if any(len(word) > 4 or int(word) > MAX_NUMBER for word in words):
            raise SpecError([Problem(where, f"{part!r}: {MAX_NUMBER} is the highest number")])
        if first:
            whole = range(int(first), int(last if dash else first) + 1)
            if stride:
                group, wanted = int(size or 1), int(used or 1)
                numbers.update(n for n in whole if (n - whole.start) % max(group, 1) < wanted)
            else:
                numbers.update(whole)
    return sorted(numbers)


def _nodes(policy: LinuxMemoryPolicy) -> list[int]:
    return number_list(policy.nodes or "", "$.linux.memoryPolicy.nodes")


def _memory_policy(policy: LinuxMemoryPolicy) -> Step:
    mode = MEMORY_MODES[policy.mode or "MPOL_DEFAULT"]
    for flag in policy.flags or ():
        mode |= MEMORY_FLAGS[flag]
    title = f"set the memory policy {policy.mode} {policy.nodes or ''}".rstrip()
    return Step("set_memory_policy", title, mode=mode, nodes=_nodes(policy))
