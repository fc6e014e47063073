"""Beyond types: is this a container that the specification allows and this host can make?

A list of small checks over the spec and the facts; every problem comes out at once, each with its
JSON path. A warning is what runc, or the specification, reports and then lives with. The spec may
be a typed model or a light record. The order below is that of the report.

    strings.py      no string that the kernel would cut short
    document.py     version, root, hostname, hooks, annotations
    process.py      what to run, as whom, with which rights (also for exec)
    namespaces.py   namespaces, id mappings, clocks, sysctls, network devices, rootless rules
    filesystem.py   mounts, masked paths, device nodes
    resources.py    cgroup path and limits
    confinement.py  seccomp, LSM labels, resctrl, memory policy, personality

Sources: runtime-spec config.md and config-linux.md; runc libcontainer/configs/validate.
"""

from __future__ import annotations

from libpycontainer.errors import SpecError
from libpycontainer.validate import (
    confinement,
    document,
    filesystem,
    namespaces,
    process,
    resources,
    strings,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from libpycontainer.errors import Problem
    from libpycontainer.host import Facts
    from libpycontainer.spec.models import Process, Spec

    Check = Callable[[Spec, Facts], Iterator[Problem]]

CHECKS: tuple[Check, ...] = (
    *strings.CHECKS,
    *document.CHECKS,
    *process.CHECKS,
    *namespaces.CHECKS,
    *filesystem.CHECKS,
    *resources.CHECKS,
    *confinement.CHECKS,
)


def check(spec: Spec, facts: Facts, *, for_start: bool = True) -> list[Problem]:
    """Everything that is wrong or doubtful about ``spec`` on the host that ``facts`` describe.

    The specification lets ``process`` be absent until ``start``; with ``for_start`` it may not be.
    """
    problems = [problem for each in CHECKS for problem in each(spec, facts)]
    if for_start:
        problems.extend(document.process_present(spec, facts))
    return problems


def check_process(process_: Process, facts: Facts, *, path: str = "$") -> list[Problem]:
    """What :func:`check` finds in a process alone, as ``exec`` needs; it stands at ``path``."""
    found = list(strings.of_process(process_, path))
    for each in process.PROCESS_CHECKS:
        found.extend(each(process_, facts, path))
    return found


def errors_of(problems: Iterable[Problem]) -> list[Problem]:
    """Those of ``problems`` that forbid the container; the others are warnings."""
    return [problem for problem in problems if not problem.warning]


def ensure_valid(
    spec: Spec, facts: Facts, *, for_start: bool = True, source: str = ""
) -> list[Problem]:
    """Raise :class:`SpecError` with every error of ``spec``; return the warnings if there is none.

    ``source`` is the file to name in the error.
    """
    problems = check(spec, facts, for_start=for_start)
    errors = errors_of(problems)
    if errors:
        raise SpecError(errors, source=source)
    return problems
