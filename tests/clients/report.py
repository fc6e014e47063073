"""The table of a client: one row for each operation, one column for each runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.clients.battery import Outcome, Row
from tests.clients.engine import Runtime


def as_text(title: str, rows: Sequence[Row], runtimes: Sequence[Runtime]) -> str:
    """For a terminal: reasons and messages stand below their row."""
    width = max((len(row.title) for row in rows), default=0)
    heads = [f"{runtime.name} {runtime.version}" for runtime in runtimes]
    lines = ["", f"{title:{width}}  {heads[0]:16}  {heads[1]}"]
    for row in rows:
        lines.append(f"{row.title:{width}}  {_word(row, row.control):16}  {_verdict(row)}")
        lines += [f"    {line}" for line in _notes(row)]
    return "\n".join([*lines, ""])


def as_markdown(title: str, rows: Sequence[Row], runtimes: Sequence[Runtime]) -> str:
    """For the documentation: what failed with the control, and the messages, follow the table."""
    heads = [f"{runtime.name} {runtime.version}" for runtime in runtimes]
    lines = [f"### {title}", "", f"| operation | {heads[0]} | {heads[1]} |", "|---|---|---|"]
    lines += [f"| {row.title} | {_word(row, row.control)} | {_verdict(row)} |" for row in rows]
    for row in rows:
        notes = [*_notes(row)]
        if notes:
            lines += ["", f"{row.title}:", "", *(f"- `{note}`" for note in notes)]
    return "\n".join([*lines, ""])


def _word(row: Row, outcome: Outcome) -> str:
    if outcome.failure:
        return "control failed" if outcome is row.control else "fails"
    return "message" if row.shown else "passes"


def _verdict(row: Row) -> str:
    return "FAILS" if row.difference else _word(row, row.ours)


def _notes(row: Row) -> Iterator[str]:
    if row.control.failure:
        yield f"control failed: {row.control.failure}"
        if row.ours.failure:
            yield f"pyrunc: {row.ours.failure}"
    if row.difference:
        yield f"FAILS: {row.difference}"
    if row.shown and not row.control.failure:
        yield f"runc: {row.control.answer}"
        yield f"pyrunc: {row.ours.answer}"
