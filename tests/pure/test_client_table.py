"""What the battery of clients makes of two columns of results."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients import battery, table
from tests.clients.battery import Battery, Outcome, Row, SkippedError
from tests.clients.engine import Runtime
from tests.clients.remains import Remains

PASSES, FAILS = Outcome(seconds=0.25), Outcome(failure="exit 1, not 0", seconds=1.0)
RUNTIMES = [Runtime("runc", Path("/runc"), "1.1.5"), Runtime("pyrunc", Path("/pyrunc"), "0.1.0")]


class Client:
    """One that leaves something behind when it is told to."""

    title = "a client 1.0"

    def __init__(self) -> None:
        self.left: set[str] = set()

    def clear(self) -> None:
        self.left.discard("what is cleared")

    def remains(self) -> Remains:
        return frozenset(self.left)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Battery[Client]:
    monkeypatch.setattr(battery, "SETTLING_SECONDS", 0.1)
    operations: Battery[Client] = Battery()

    @operations.operation("answers")
    def answers(client: Client) -> str:
        client.left.add("what is cleared")
        return "an answer"

    @operations.operation("fails")
    def fails(client: Client) -> None:
        raise AssertionError("1, not\n  2")

    @operations.operation("leaves something")
    def leaves(client: Client) -> None:
        client.left.add("mount: /somewhere")

    @operations.operation("is skipped")
    def skipped(client: Client) -> None:
        raise SkippedError("no such thing here")

    return operations


def test_every_operation_has_its_outcome(asked: Battery[Client]) -> None:
    told: list[str] = []
    outcomes = asked.column(Client(), "", told.append)
    assert outcomes["answers"].answer == "an answer"
    assert outcomes["answers"].failure == ""
    assert outcomes["fails"].failure == "1, not 2"
    assert outcomes["leaves something"].failure == "left behind: mount: /somewhere"
    assert outcomes["is skipped"].skipped == "no such thing here"
    assert [line.partition(" (")[0] for line in told] == [
        "answers: passes",
        "fails: 1, not 2",
        "leaves something: left behind: mount: /somewhere",
        "is skipped: no such thing here",
    ]


def test_only_what_is_wanted_is_carried_out(asked: Battery[Client]) -> None:
    outcomes = asked.column(Client(), "skip", lambda _: None)
    assert [*outcomes] == ["is skipped"]
    assert [row.title for row in asked.rows(outcomes, outcomes)] == ["is skipped"]


@pytest.mark.parametrize(
    ("control", "ours", "difference"),
    [
        (PASSES, PASSES, ""),
        (FAILS, FAILS, ""),
        (FAILS, PASSES, ""),
        (Outcome(skipped="no"), FAILS, ""),
        (PASSES, FAILS, "exit 1, not 0"),
        (PASSES, Outcome(skipped="no"), "skipped: no"),
        (Outcome(answer="a\nb"), Outcome(answer="a\nb"), ""),
        (Outcome(answer="a\nb"), Outcome(answer="a\nc"), "differs: 'c' where the control has 'b'"),
        (
            Outcome(answer="a"),
            Outcome(answer="a\nb"),
            "differs: 2 lines where the control has 1: 'b'",
        ),
    ],
)
def test_a_difference_is_what_works_with_the_control_only(
    control: Outcome, ours: Outcome, difference: str
) -> None:
    assert Row("an operation", control, ours, shown=False).difference == difference


def test_messages_are_shown_and_not_compared() -> None:
    row = Row("mistake", Outcome(answer="theirs"), Outcome(answer="ours"), shown=True)
    assert row.difference == ""
    text = table.as_text("podman 4.3", [row], RUNTIMES)
    assert "    runc: theirs\n    pyrunc: ours\n" in text


def test_the_table_has_a_result_and_seconds_for_each_runtime() -> None:
    rows = [
        Row("run", PASSES, PASSES, shown=False),
        Row("stop", PASSES, FAILS, shown=False),
        Row("pods", Outcome(skipped="none here"), Outcome(skipped="none here"), shown=False),
    ]
    assert table.as_text("podman 4.3", rows, RUNTIMES).splitlines()[1:] == [
        "podman 4.3  runc 1.1.5    s  pyrunc 0.1.0    s",
        "run         pass        0.2  pass          0.2",
        "stop        pass        0.2  FAIL          1.0",
        "    pyrunc: exit 1, not 0",
        "pods        skip        0.0  skip          0.0",
        "    runc: none here",
        "    pyrunc: none here",
    ]


def test_a_difference_of_answers_is_told_below_its_row() -> None:
    row = Row("mounts", Outcome(answer="ro"), Outcome(answer="rw"), shown=False)
    text = table.as_markdown("podman 4.3", [row], RUNTIMES)
    assert "| mounts | pass | 0.0 | FAIL | 0.0 |" in text
    assert "- `pyrunc: differs: 'rw' where the control has 'ro'`" in text
