"""Clean-ups: their order, what happens when one fails, and what a commit keeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from libpycontainer.undo import Undo


class SomeError(Exception):
    pass


def fail(text: str) -> None:
    raise SomeError(text)


def interrupt() -> None:
    raise KeyboardInterrupt


class Operation:
    """Registers its clean-ups in order, and then fails or does not."""

    def __init__(self, *clean_ups: int | str | Callable[[], object]) -> None:
        self.done: list[int] = []
        self.clean_ups = clean_ups

    def run(self, cause: str = "") -> None:
        with Undo() as undo:
            for each in self.clean_ups:
                if isinstance(each, int):
                    undo.push(self.done.append, each)
                elif isinstance(each, str):
                    undo.push(fail, each)
                else:
                    undo.push(each)
            if cause:
                fail(cause)


def test_clean_ups_run_last_first_when_the_operation_fails() -> None:
    operation = Operation(1, 2, 3)
    with pytest.raises(SomeError, match="cause"):
        operation.run("cause")
    assert operation.done == [3, 2, 1]


def test_leaving_without_a_commit_takes_everything_back() -> None:
    operation = Operation(1)
    operation.run()
    assert operation.done == [1]


def test_a_commit_keeps_what_was_done_so_far() -> None:
    done: list[int] = []
    with Undo() as undo:
        undo.push(done.append, 1)
        undo.commit()
        undo.push(done.append, 2)
    assert done == [2]


def test_a_clean_up_that_fails_is_noted_on_the_cause_and_stops_nothing() -> None:
    operation = Operation(1, "first note", "second note")
    with pytest.raises(SomeError, match="cause") as caught:
        operation.run("cause")
    assert operation.done == [1]
    notes = [note.partition(": ")[2] for note in caught.value.__notes__]
    assert notes == ["second note", "first note"]


def test_without_a_cause_the_first_clean_up_that_fails_is_raised() -> None:
    operation = Operation(1, "first", "second")
    with pytest.raises(SomeError, match="second"):
        operation.run()
    assert operation.done == [1]


@pytest.mark.parametrize("cause", ["", "cause"])
def test_an_interrupt_during_a_clean_up_does_not_keep_the_others_from_running(cause: str) -> None:
    operation = Operation(1, interrupt)
    with pytest.raises((SomeError, KeyboardInterrupt)):
        operation.run(cause)
    assert operation.done == [1]
