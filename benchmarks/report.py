"""The table, the verdicts, and the JSON document."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import Cell, Row
from benchmarks.peers import RESIDENT_FLOOR
from benchmarks.targets import Verdict
from libpycontainer import __version__

HEAD = f"{'':44} {'n':>4} {'min':>8} {'p50':>8} {'p95':>8}       {'x floor':>8} {'x peer':>8}  peer"


def ratio(row: Row, of: Row | None) -> float | None:
    """Of the medians; ``None`` where there is nothing to compare, or nothing in common."""
    if of is None or of is row or of.unit != row.unit or not of.samples or not of.p50:
        return None
    return row.p50 / of.p50


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def line(row: Row, rows: Mapping[str, Row]) -> str:
    floor = ratio(row, rows.get(RESIDENT_FLOOR))
    peer = ratio(row, rows.get(row.peer))
    numbers = (
        f"{len(row.samples):4} {row.best:8.2f} {row.p50:8.2f} {row.at(0.95):8.2f} {row.unit:5}"
    )
    ratios = f"{_number(floor):>8} {_number(peer):>8}"
    return f"{row.name:44} {numbers} {ratios}  {row.peer if peer else ''}".rstrip()


def table(rows: Mapping[str, Row]) -> str:
    """Every row that was measured, under the name of its group."""
    lines = [HEAD]
    for group in dict.fromkeys(row.group for row in rows.values()):
        lines += ["", group]
        lines += [line(row, rows) for row in rows.values() if row.group == group]
    return "\n".join(lines)


def missing(cells: Iterable[Cell]) -> str:
    """What could not be measured, with the reason."""
    found = [(cell.rows, cell.trouble) for cell in cells if cell.trouble]
    if not found:
        return ""
    lines = ["", "not measured, or not always"]
    for rows, reason in found:
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        lines.append(f"{rows[0].name + more:44} {reason}")
    return "\n".join(lines)


def verdicts(judged: Sequence[Verdict]) -> str:
    lines = ["", "targets"]
    lines += [f"{each.target.describe():68} {each.words()}" for each in judged]
    return "\n".join(lines)


def surroundings() -> dict[str, Any]:
    """What a reader must know of the machine to compare two documents."""
    model = [
        text.partition(":")[2].strip()
        for text in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if text.startswith("model name")
    ]
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "processor": model[0] if model else platform.machine(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "interpreter": sys.executable,
        "libpycontainer": __version__,
        "commit": _commit(),
    }


def _commit() -> str:
    try:
        here = Path(__file__).parent
        asked = ["git", "-C", str(here), "describe", "--always", "--dirty"]
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""


def introduction(about: Mapping[str, Any]) -> str:
    return (
        f"Linux {about['kernel']}, {about['processors']} x {about['processor']}, "
        f"load {about['load']:.1f}; Python {about['python']}; "
        f"libpycontainer {about['libpycontainer']} {about['commit']}".rstrip()
    )


def document(
    about: Mapping[str, Any],
    rows: Mapping[str, Row],
    cells: Iterable[Cell],
    judged: Sequence[Verdict],
) -> str:
    """Everything of a run, as JSON; :mod:`benchmarks.plots` draws from it."""
    floor = rows.get(RESIDENT_FLOOR)
    made = {
        "about": dict(about),
        "rows": [
            {
                "name": row.name,
                "group": row.group,
                "unit": row.unit,
                "n": len(row.samples),
                "min": row.best,
                "p50": row.p50,
                "p95": row.at(0.95),
                "floor_ratio": ratio(row, floor),
                "peer": row.peer,
                "peer_ratio": ratio(row, rows.get(row.peer)),
                "samples": [round(sample, 4) for sample in row.samples],
            }
            for row in rows.values()
        ],
        "missing": [
            {"rows": [row.name for row in cell.rows], "reason": cell.trouble}
            for cell in cells
            if cell.trouble
        ],
        "targets": [
            {
                "target": each.target.describe(),
                "value": each.value,
                "best": each.best,
                "met": each.met,
            }
            for each in judged
        ],
    }
    return json.dumps(made, indent=1) + "\n"
