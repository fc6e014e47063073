"""Limits as people name them, in the fields of ``linux.resources``, and whether they can be had."""

from __future__ import annotations

from libpycontainer import host, log, quantities
from libpycontainer.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libpycontainer.quantities import Size
    from libpycontainer.spec.models import LinuxResources

RESOURCES = "$.linux.resources"
CPU_PERIOD = 100_000


def resources(
    memory: Size | None, cpus: float | None, pids: int | None, *, lift: bool = False
) -> dict[str, Any]:
    """The ``linux.resources`` of a memory size, a number of processors and a number of tasks.

    With ``lift``, an infinite number of processors takes a limit away.
    """
    found: dict[str, Any] = {}
    if memory is not None:
        found["memory"] = {"limit": quantities.size(memory, "memory")}
    if lift and cpus == quantities.INFINITE:
        found["cpu"] = {"quota": -1}
    elif cpus is not None:
        # The kernel's least quota is 1 ms.
        quota = max(1000, int(quantities.processors(cpus) * CPU_PERIOD))
        found["cpu"] = {"quota": quota, "period": CPU_PERIOD}
    if pids is not None:
        found["pids"] = {"limit": quantities.tasks(pids)}
    return found


def check(resources: LinuxResources) -> None:
    """Raise :class:`SpecError` with everything that is wrong; log what is only doubtful."""
    from libpycontainer import validate
    from libpycontainer.validate.resources import RESOURCE_CHECKS

    facts = host.facts()
    problems = [each for check in RESOURCE_CHECKS for each in check(resources, facts, RESOURCES)]
    if errors := validate.errors_of(problems):
        raise SpecError(errors)
    for problem in problems:
        log.warn(str(problem))
