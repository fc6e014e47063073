"""The table of a client: one row for each operation, a result and seconds for each runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.clients.battery import Outcome, Row
from tests.clients.engine import Runtime

GAP = "  "


def as_text(title: str, rows: Sequence[Row], runtimes: Sequence[Runtime]) -> str:
    """For a terminal: reasons and messages stand below their row."""
    heads = [word for each in runtimes for word in (f"{each.name} {each.version}", "s")]
    lines = [[title, *heads], *([row.title, *_cells(row)] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [_line(line, widths) for line in lines]
    text = [shown[0]]
    for row, line in zip(rows, shown[1:], strict=True):
        text += [line, *(f"    {note}" for note in _notes(row))]
    return "\n".join(["", *text, ""])


def as_markdown(title: str, rows: Sequence[Row], runtimes: Sequence[Runtime]) -> str:
    """For the documentation: reasons and messages follow the table."""
    heads = [word for each in runtimes for word in (f"{each.name} {each.version}", "s")]
    lines = [f"### {title}", "", _markdown_row("operation", *heads), "|---|---|---:|---|---:|"]
    lines += [_markdown_row(row.title, *_cells(row)) for row in rows]
    for row in rows:
        if notes := [*_notes(row)]:
            lines += ["", f"{row.title}:", "", *(f"- `{note}`" for note in notes)]
    return "\n".join([*lines, ""])


def _cells(row: Row) -> list[str]:
    ours = "FAIL" if row.difference else _word(row.ours)
    return [_word(row.control), f"{row.control.seconds:.1f}", ours, f"{row.ours.seconds:.1f}"]


def _word(outcome: Outcome) -> str:
    if outcome.skipped:
        return "skip"
    return "fail" if outcome.failure else "pass"


def _notes(row: Row) -> Iterator[str]:
    """What a row's words do not say. Both messages of an operation that is about messages."""
    for name, outcome in (("runc", row.control), ("pyrunc", row.ours)):
        if outcome.skipped or outcome.failure:
            yield f"{name}: {outcome.skipped or outcome.failure}"
        elif row.shown:
            yield f"{name}: {outcome.answer}"
    if row.difference and not row.ours.failure:
        yield f"pyrunc: {row.difference}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    # Seconds, every other column after the first, stand at the right.
    padded = [
        cell.rjust(width) if index and index % 2 == 0 else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return GAP.join(padded)


def _markdown_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
