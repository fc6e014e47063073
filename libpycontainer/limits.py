"""Limits as people name them, in the fields of ``linux.resources``, and whether they can be had."""

from __future__ import annotations

from libpycontainer import host, log
from libpycontainer.errors import ContainerError, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libpycontainer.spec.models import LinuxResources

RESOURCES = "$.linux.resources"
CPU_PERIOD = 100_000
UNLIMITED = float("inf")
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def resources(
    memory: int | str | None, cpus: float | None, pids: int | None, *, lift: bool = False
) -> dict[str, Any]:
    """The ``linux.resources`` of a memory size, a number of processors and a number of tasks.

    With ``lift``, an infinite number of processors takes a limit away.
    """
    found: dict[str, Any] = {}
    if memory is not None:
        found["memory"] = {"limit": parse_size(memory)}
    if lift and cpus == UNLIMITED:
        found["cpu"] = {"quota": -1}
    elif cpus is not None:
        if not 0 < cpus < UNLIMITED:
            raise ValueError(f"invalid cpus {cpus!r}: expected a positive number")
        # The kernel's least quota is 1 ms.
        quota = max(1000, int(cpus * CPU_PERIOD))
        found["cpu"] = {"quota": quota, "period": CPU_PERIOD}
    if pids is not None:
        found["pids"] = {"limit": pids}
    return found


def parse_size(size: int | str) -> int:
    """``"256M"`` in bytes: k, M, G and T are powers of 1024, as the kernel reads them."""
    if isinstance(size, int):
        return size
    text = size.strip().lower()
    for ending in ("ib", "b"):
        text = text.removesuffix(ending)
    unit = text[-1:] if text[-1:].isalpha() else ""
    number = text[: len(text) - len(unit)].strip()
    try:
        return int(float(number) * (1 << _UNITS[unit]))
    except (KeyError, ValueError, OverflowError):
        raise ContainerError(
            f"invalid size {size!r}: give bytes, or a number with K, M, G or T", op="size"
        ) from None


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
