"""Rows, the cells that measure them, and the round robin over all cells.

Every cell is measured once before any is measured twice, so that whatever else the machine does
meanwhile hurts all of them alike; only ratios of one run mean anything.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Measure = Callable[[], Sequence[float]]
"""Measures once: a number for each row of its cell."""


SETTLING = 0.02
MOST_FAILURES = 3


class UnavailableError(Exception):
    """This machine cannot run a cell; the message tells why."""


@dataclass
class Row:
    """One line of the table."""

    name: str
    group: str
    peer: str = ""
    """The row that this one is a multiple of."""
    unit: str = "ms"
    samples: list[float] = field(default_factory=list)

    @property
    def more_is_better(self) -> bool:
        return self.unit == "1/s"

    def at(self, share: float) -> float:
        """The best sample that ``share`` of all are not worse than."""
        ordered = sorted(self.samples, reverse=self.more_is_better)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    @property
    def best(self) -> float:
        return max(self.samples) if self.more_is_better else min(self.samples)

    @property
    def p50(self) -> float:
        return statistics.median(self.samples)


@dataclass
class Cell:
    """Rows that are measured together.

    ``prepare`` makes ready what is not timed, and returns what measures; it raises
    :class:`UnavailableError` where this machine lacks something. A cell takes part in every
    ``every``-th round: what is slow or varies little need not be measured as often.
    """

    rows: list[Row]
    prepare: Callable[[], Measure]
    every: int = 1
    measure: Measure | None = None
    trouble: str = ""
    failures: int = 0
    """How often it failed for another reason than what this machine lacks."""

    def warm_up(self) -> None:
        """Prepare, and measure once for nothing."""
        try:
            self.measure = self.prepare()
            self.measure()
        except UnavailableError as error:
            self.measure, self.trouble = None, str(error)
        except Exception as error:
            self._note(error)

    def take(self) -> None:
        if self.measure is None:
            return
        try:
            values = self.measure()
        except Exception as error:
            self._note(error)
            return
        for row, value in zip(self.rows, values, strict=True):
            row.samples.append(value)

    def _note(self, error: Exception) -> None:
        text = str(error).strip() or repr(error)
        self.failures += 1
        if self.failures == 1:
            self.trouble = f"failed: {type(error).__name__}: {text.splitlines()[0][:200]}"
        if self.failures == MOST_FAILURES:
            self.measure = None


def milliseconds(action: Callable[[], object]) -> float:
    started = time.perf_counter_ns()
    action()
    return (time.perf_counter_ns() - started) / 1e6


def round_robin(
    cells: Sequence[Cell], rounds: int, seconds: float, progress: Callable[[str], None]
) -> int:
    """Measure every cell once in each round; stop early after ``seconds``. Returns the rounds."""
    for number, cell in enumerate(cells, 1):
        progress(f"preparing {number}/{len(cells)}: {cell.rows[0].name}")
        cell.warm_up()
    started = time.monotonic()
    for number in range(rounds):
        progress(f"round {number + 1}/{rounds}")
        for cell in cells:
            if number % cell.every == 0:
                # What the one before has left to the kernel is not to be paid by this one.
                time.sleep(SETTLING)
                cell.take()
        if time.monotonic() - started > seconds:
            return number + 1
    return rounds
