"""What is asked of a client, how a column of answers is made, and how two are compared."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from tests.clients.remains import Remains

SETTLING_SECONDS = 5.0


class SkippedError(Exception):
    """An operation means nothing for this client or on this machine; the message says why."""


class Client(Protocol):
    """One client on one runtime, with directories of its own."""

    title: str
    """With the version: the head of a table."""

    def clear(self) -> None:
        """Remove every container, pod, network and volume, whatever state it is in."""

    def remains(self) -> Remains:
        """What is there at this moment."""


AnyClient = TypeVar("AnyClient", bound=Client)


@dataclass(frozen=True)
class Operation(Generic[AnyClient]):
    title: str
    carry_out: Callable[[AnyClient], str | None]
    shown: bool
    """Its answer is a message to be read, not a fact that must be the same with both runtimes."""


@dataclass(frozen=True)
class Outcome:
    failure: str = ""
    """Empty: it passed."""
    skipped: str = ""
    """Why it was not carried out."""
    answer: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Row:
    """One operation, with the control and with the runtime that is looked at."""

    title: str
    control: Outcome
    ours: Outcome
    shown: bool

    @property
    def difference(self) -> str:
        """Why the runtime is worse than the control; empty when it is not."""
        if self.control.failure or self.control.skipped:
            return ""
        if self.ours.failure or self.ours.skipped:
            return self.ours.failure or f"skipped: {self.ours.skipped}"
        if not self.shown and self.control.answer != self.ours.answer:
            return _first_difference(self.control.answer, self.ours.answer)
        return ""


Column = dict[str, Outcome]


class Battery(Generic[AnyClient]):
    """The operations of one kind of client, in the order in which they were written."""

    def __init__(self, operations: Iterable[Operation[AnyClient]] = ()) -> None:
        self.operations = list(operations)

    def operation(
        self, title: str, *, shown: bool = False
    ) -> Callable[[Callable[[AnyClient], str | None]], Callable[[AnyClient], str | None]]:
        """Add a function. What it returns must not depend on the runtime, unless it is shown."""

        def add(
            function: Callable[[AnyClient], str | None],
        ) -> Callable[[AnyClient], str | None]:
            self.operations.append(Operation(title, function, shown))
            return function

        return add

    def column(self, client: AnyClient, wanted: str, report: Callable[[str], None]) -> Column:
        """Carry out every operation in whose title the pattern ``wanted`` is found."""
        outcomes = {}
        for operation in self.operations:
            if re.search(wanted, operation.title):
                outcome = _carry_out(operation, client)
                outcomes[operation.title] = outcome
                word = outcome.failure or outcome.skipped or "passes"
                report(f"{operation.title}: {word} ({outcome.seconds:.1f} s)")
        return outcomes

    def rows(self, control: Column, ours: Column) -> list[Row]:
        return [
            Row(each.title, control[each.title], ours[each.title], each.shown)
            for each in self.operations
            if each.title in control
        ]


def together(*batteries: Battery[Any]) -> Battery[Any]:
    """One battery out of several, in their order."""
    return Battery(each for battery in batteries for each in battery.operations)


def _carry_out(operation: Operation[AnyClient], client: AnyClient) -> Outcome:
    before = client.remains()
    began = time.monotonic()
    answer, failure, skipped = "", "", ""
    try:
        answer = operation.carry_out(client) or ""
    except SkippedError as reason:
        skipped = str(reason)
    except Exception as error:  # whatever goes wrong is this operation's result
        failure = " ".join(str(error).split()) or type(error).__name__
    seconds = time.monotonic() - began
    client.clear()
    left = _settle(before, client)
    if left and not failure:
        failure = "left behind: " + "; ".join(left)
    return Outcome(failure, skipped, answer, seconds)


def _settle(before: Remains, client: Client) -> Sequence[str]:
    """What is more than before once the ends of processes have come through."""
    deadline = time.monotonic() + SETTLING_SECONDS
    while (left := client.remains() - before) and time.monotonic() < deadline:
        time.sleep(0.1)
    return sorted(left)


def _first_difference(control: str, ours: str) -> str:
    lines, others = control.splitlines(), ours.splitlines()
    for expected, got in zip(lines, others, strict=False):
        if expected != got:
            return f"differs: {got!r} where the control has {expected!r}"
    more = max(lines, others, key=len)[min(len(lines), len(others)) :]
    return f"differs: {len(others)} lines where the control has {len(lines)}: {more[0]!r}"
