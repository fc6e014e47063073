"""What to run, as whom, and with which rights: ``$.process``, and what exec is given."""

from __future__ import annotations

from libpycontainer.errors import Problem
from libpycontainer.kernel import CAPABILITIES, RLIMITS
from libpycontainer.plan.process import CAPABILITY_SETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from libpycontainer.host import Facts
    from libpycontainer.spec.models import Process, Spec

    ProcessCheck = Callable[[Process, Facts, str], Iterator[Problem]]

UNCHANGED = 0xFFFFFFFF
"""What setresuid and setgroups take for "leave it" (man 2 setresuid)."""


def command(process: Process, facts: Facts, path: str) -> Iterator[Problem]:
    """config.md#process: an absolute cwd, and something to execute."""
    if not process.cwd.startswith("/"):
        yield Problem(f"{path}.cwd", f"{process.cwd!r} is not an absolute path")
    if not process.args:
        yield Problem(f"{path}.args", "must not be empty")
    elif not process.args[0]:
        yield Problem(f"{path}.args[0]", "must not be empty")


def environment(process: Process, facts: Facts, path: str) -> Iterator[Problem]:
    """Variables must have a name and a value, as runc's prepareEnv demands."""
    for index, variable in enumerate(process.env or ()):
        if variable.find("=") < 1:
            yield Problem(f"{path}.env[{index}]", f"{variable!r} is not NAME=value")


def user(process: Process, facts: Facts, path: str) -> Iterator[Problem]:
    """A umask has nine bits; additional groups need setgroups."""
    who = process.user
    if who is None:
        return
    named = [("uid", who.uid), ("gid", who.gid)]
    named += [(f"additionalGids[{i}]", gid) for i, gid in enumerate(who.additional_gids or ())]
    for name, number in named:
        if number == UNCHANGED:
            message = f"{number} is no id: the kernel takes it for -1, and would stay with root's"
            yield Problem(f"{path}.user.{name}", message)
    if who.umask is not None and who.umask > 0o777:
        yield Problem(f"{path}.user.umask", f"{who.umask:#o} is more than 0o777")
    if who.additional_gids and not facts.setgroups:
        message = "additional groups cannot be set: setgroups is denied to the caller"
        yield Problem(f"{path}.user.additionalGids", message)


def capabilities(process: Process, facts: Facts, path: str) -> Iterator[Problem]:
    """config.md#linux-process: what cannot be granted is a warning, never an error."""
    sets = process.capabilities
    if sets is None:
        return
    for name in CAPABILITY_SETS:
        for index, capability in enumerate(getattr(sets, name) or ()):
            message = _not_granted(capability, name, facts)
            if message:
                yield Problem(f"{path}.capabilities.{name}[{index}]", message, warning=True)
    held = set(sets.permitted or ()) & set(sets.inheritable or ())
    for index, capability in enumerate(sets.ambient or ()):
        # runc's own default config has no inheritable set at all: nobody wants to hear of that.
        if sets.inheritable and capability not in held:
            message = f"{capability} is not both permitted and inheritable, ignored"
            yield Problem(f"{path}.capabilities.ambient[{index}]", message, warning=True)


def _not_granted(capability: str, set_name: str, facts: Facts) -> str:
    if capability not in CAPABILITIES:
        return f"{capability!r} is not a known capability, ignored"
    number = CAPABILITIES.index(capability)
    if number > facts.last_cap:
        return f"this kernel does not have {capability}, ignored"
    if set_name == "bounding" and facts.euid == 0 and not facts.bounding >> number & 1:
        return f"{capability} is not in the caller's bounding set, ignored"
    return ""


def rlimits(process: Process, facts: Facts, path: str) -> Iterator[Problem]:
    """config.md#posix-process: known types, each once, soft not above hard."""
    seen = set()
    for index, limit in enumerate(process.rlimits or ()):
        here = f"{path}.rlimits[{index}]"
        if limit.type not in RLIMITS:
            yield Problem(f"{here}.type", f"{limit.type!r} is not a known resource limit")
        elif limit.type in seen:
            yield Problem(f"{here}.type", f"{limit.type} is given twice")
        seen.add(limit.type)
        if limit.soft > limit.hard:
            message = f"{limit.soft} is more than the hard limit {limit.hard}"
            yield Problem(f"{here}.soft", message)


def oom_score(process: Process, facts: Facts, path: str) -> Iterator[Problem]:
    """``man 5 proc_pid_oom_score_adj``."""
    score = process.oom_score_adj
    if score is not None and not -1000 <= score <= 1000:
        yield Problem(f"{path}.oomScoreAdj", f"{score} is not between -1000 and 1000")


def console(process: Process, facts: Facts, path: str) -> Iterator[Problem]:
    """config.md#process: the size is ignored without a terminal; the kernel has 16 bits for it."""
    size = process.console_size
    if size is None:
        return
    if not process.terminal:
        yield Problem(f"{path}.consoleSize", "there is no terminal, ignored", warning=True)
    for name, value in (("height", size.height), ("width", size.width)):
        if value > 0xFFFF:
            yield Problem(f"{path}.consoleSize.{name}", f"{value} is more than 65535")


def scheduler(process: Process, facts: Facts, path: str) -> Iterator[Problem]:
    """``man 2 sched_setattr``: each policy has parameters of its own."""
    how = process.scheduler
    if how is None:
        return
    here = f"{path}.scheduler"
    nice, priority = how.nice or 0, how.priority or 0
    if how.policy in ("SCHED_OTHER", "SCHED_BATCH") and not -20 <= nice <= 19:
        yield Problem(f"{here}.nice", f"{nice} is not between -20 and 19")
    if how.policy in ("SCHED_FIFO", "SCHED_RR"):
        if not 1 <= priority <= 99:
            yield Problem(f"{here}.priority", f"{priority} is not between 1 and 99")
    elif priority:
        yield Problem(f"{here}.priority", "only SCHED_FIFO and SCHED_RR have a priority")
    yield from _deadline(process, here)


def _deadline(process: Process, here: str) -> Iterator[Problem]:
    how = process.scheduler
    if how is None:
        return
    runtime, deadline, period = how.runtime or 0, how.deadline or 0, how.period or 0
    if how.policy != "SCHED_DEADLINE":
        for name, value in (("runtime", runtime), ("deadline", deadline), ("period", period)):
            if value:
                yield Problem(f"{here}.{name}", f"only SCHED_DEADLINE has a {name}")
    elif not 1024 <= runtime <= deadline <= (period or deadline):
        message = "SCHED_DEADLINE needs 1024 <= runtime <= deadline <= period (nanoseconds)"
        yield Problem(f"{here}.runtime", message)


def io_priority(process: Process, facts: Facts, path: str) -> Iterator[Problem]:
    """``man 2 ioprio_set``."""
    if process.io_priority is not None:
        priority = process.io_priority.priority or 0
        if not 0 <= priority <= 7:
            yield Problem(f"{path}.ioPriority.priority", f"{priority} is not between 0 and 7")


def labels(process: Process, facts: Facts, path: str) -> Iterator[Problem]:
    """A confinement that would silently not take place is refused."""
    if process.selinux_label and "selinux" not in facts.lsms:
        yield Problem(f"{path}.selinuxLabel", "SELinux is not enabled on this host")
    if process.apparmor_profile and "apparmor" not in facts.lsms:
        yield Problem(f"{path}.apparmorProfile", "AppArmor is not enabled on this host")


def is_cpu_list(text: str) -> bool:
    """Is ``text`` a list as the kernel reads it, such as ``0-3,7`` or ``0-31:2/4``?"""
    return all(_is_cpu_range(part.strip()) for part in text.split(","))


def is_number(text: str) -> bool:
    """Is ``text`` a decimal number of at most 32 bits or so, and nothing else?"""
    return text.isascii() and text.isdigit() and len(text) <= 10


def _is_cpu_range(text: str) -> bool:
    span, colon, groups = text.partition(":")
    used, slash, size = groups.partition("/")
    if colon and not (slash and is_number(used) and is_number(size)):
        return False
    first, dash, last = span.partition("-")
    if dash and is_number(first) and is_number(last):
        return int(first) <= int(last)
    return not dash and (is_number(first) or first in ("all", "N"))


def cpu_affinity(process: Process, facts: Facts, path: str) -> Iterator[Problem]:
    """config.md#linux-process: lists of CPUs."""
    affinity = process.exec_cpu_affinity
    if affinity is None:
        return
    for name, cpus in (("initial", affinity.initial), ("final", affinity.final)):
        if cpus and not is_cpu_list(cpus):
            yield Problem(f"{path}.execCPUAffinity.{name}", f"{cpus!r} is not a list of CPUs")


PROCESS_CHECKS: tuple[ProcessCheck, ...] = (
    command,
    environment,
    user,
    capabilities,
    rlimits,
    oom_score,
    console,
    scheduler,
    io_priority,
    labels,
    cpu_affinity,
)


def process(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """Every check of a process, at ``$.process``."""
    if spec.process is not None:
        for each in PROCESS_CHECKS:
            yield from each(spec.process, facts, "$.process")


CHECKS = (process,)
