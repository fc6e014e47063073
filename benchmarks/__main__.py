"""``python -m benchmarks``: measure, print, and leave nothing behind."""

from __future__ import annotations

import argparse
import fnmatch
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from benchmarks import crowds, library, own_program, peers, plots, report, targets, user, verbs
from benchmarks.measuring import Cell, UnavailableError, round_robin
from benchmarks.world import World

ROUNDS, QUICK_ROUNDS = 40, 12
SECONDS, QUICK_SECONDS = 900.0, 25.0
QUICK_MOST_ALIVE = 100


def main() -> int:
    options = arguments()
    if os.geteuid() != 0:
        print("benchmarks: needs root: it makes cgroups, and containers as others make them")
        return 1
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    world = World()
    try:
        world.build()
        return measure(world, options)
    except UnavailableError as error:
        print(f"benchmarks: {error}")
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130
    finally:
        world.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description="What a container costs.")
    parser.add_argument("--quick", action="store_true", help="a minute at most, rough numbers")
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        action="append",
        default=[],
        help="the rows whose name or group has PATTERN in it, or matches it (* ?); repeatable",
    )
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS}, and {QUICK_ROUNDS} with --quick")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="draw SVG pictures there")
    parser.add_argument(
        "--peers",
        default=os.environ.get("BENCH_PEERS", ""),
        metavar="DIRECTORIES",
        help="more runc and crun binaries, in directories divided by colons ($BENCH_PEERS)",
    )
    return parser.parse_args()


def _stop(number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def measure(world: World, options: argparse.Namespace) -> int:
    about = report.surroundings()
    print(report.introduction(about), end="\n\n", flush=True)
    found = peers.Peers(world, options.peers.split(":"))
    factories = library.Factories(world)
    cells = [cell for cell in all_cells(world, found, factories) if wanted(cell, options.only)]
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    seconds = QUICK_SECONDS if options.quick and not options.rounds else SECONDS
    round_robin(cells, rounds, seconds, _progress)
    crowd = crowds.alive(world, factories, QUICK_MOST_ALIVE if options.quick else crowds.ALIVE[-1])
    if wanted(crowd, options.only):
        _progress("many alive")
        crowd.take()
        cells.append(crowd)
    _progress("")
    rows = {row.name: row for cell in cells for row in cell.rows if row.samples}
    judged = targets.judge(rows)
    print(report.table(rows))
    print(report.missing(cells))
    if not options.only:
        print(report.verdicts(judged))
    if options.json:
        options.json.write_text(report.document(about, rows, cells, judged), encoding="utf-8")
    if options.plots:
        plots.draw(rows, options.plots)
    return 1 if any(cell.failures for cell in cells) else 0


def all_cells(world: World, found: peers.Peers, factories: library.Factories) -> list[Cell]:
    return [
        *peers.cells(found),
        *library.cells(world, found, factories),
        *own_program.cells(world, found),
        *verbs.cells(world, found.runtime),
        *user.cells(world),
        *crowds.cells(world, found, factories),
    ]


def wanted(cell: Cell, patterns: Sequence[str]) -> bool:
    return any(chosen(f"{row.group} / {row.name}", patterns) for row in cell.rows)


def chosen(name: str, patterns: Sequence[str]) -> bool:
    """No pattern chooses everything."""
    return not patterns or any(
        pattern in name or fnmatch.fnmatch(name, pattern) for pattern in patterns
    )


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
