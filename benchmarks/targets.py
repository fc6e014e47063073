"""What the numbers are held against. A ratio is one of medians, in one and the same run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks import own_program
from benchmarks.library import WARM
from benchmarks.measuring import Row
from benchmarks.peers import RESIDENT_FLOOR, RUNC
from benchmarks.verbs import INTERPRETER


@dataclass(frozen=True)
class Target:
    """``row`` is to be at most ``limit`` times ``of``; without ``of``, ``limit`` in its own unit.

    With ``at_least`` the other way round.
    """

    row: str
    limit: float
    of: str = ""
    at_least: bool = False

    def describe(self) -> str:
        sense = "at least" if self.at_least else "at most"
        return f"{self.row}: {sense} {self.limit:g} {'x ' + self.of if self.of else ''}".rstrip()


TARGETS = (
    Target(WARM, 2.0, RESIDENT_FLOOR),
    Target(WARM, 0.25, RUNC),
    Target(WARM, 0.6, "crun run"),
    Target(WARM, 1.1, "bwrap --unshare-all"),
    Target("lc.run, first in its program", 1.0, RUNC),
    Target("exec, warm", 0.30, "runc exec"),
    Target(f"{WARM}, 8 at once", 3.0, "runc run, 8 at once", at_least=True),
    *(Target(f"pyrunc {verb}", 1.6, INTERPRETER) for verb in ("state", "kill", "delete", "list")),
    Target("pyrunc run", 1.5, RUNC),
    Target(own_program.IMPORT, 5.0),
    Target("podman's config.json: read and validate", 1.0),
    Target(f"{own_program.SPAWNER}, RSS", 12.0),
    Target(own_program.DETACHED, 0.0),
)


@dataclass(frozen=True)
class Verdict:
    target: Target
    value: float | None
    """``None``: a row that it needs was not measured."""
    best: float | None
    """The same from the best samples, which a busy machine disturbs less."""

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        limit = self.target.limit
        return self.value >= limit if self.target.at_least else self.value <= limit

    def words(self) -> str:
        if self.value is None:
            return "not measured"
        return f"{self._judgement(self.value)} (of the best: {self.best:.2f})"

    def _judgement(self, value: float) -> str:
        if self.met:
            return f"met: {value:.2f}"
        limit = self.target.limit
        if not limit:
            return f"missed: {value:.2f}"
        missing = limit / value if self.target.at_least else value / limit
        return f"missed: {value:.2f}, by a factor of {missing:.2f}"


def judge(rows: Mapping[str, Row]) -> list[Verdict]:
    """A verdict for every target."""
    return [_verdict(target, rows) for target in TARGETS]


def _verdict(target: Target, rows: Mapping[str, Row]) -> Verdict:
    row, of = rows.get(target.row), rows.get(target.of)
    if row is None or (target.of and of is None):
        return Verdict(target, None, None)
    if of is None:
        return Verdict(target, row.p50, row.best)
    return Verdict(target, row.p50 / of.p50, row.best / of.best)
