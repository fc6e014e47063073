"""The pictures for the documentation, written as SVG by hand: no library is needed for so few.

python -m benchmarks --plots docs/images
python -m benchmarks.plots RUN.json docs/images     the same, from a run that was kept
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.crowds import ALIVE, AT_ONCE, BINDS, LOOKS
from benchmarks.library import PLAIN, WARM
from benchmarks.measuring import Row
from benchmarks.peers import START

WIDTH = 720
FONT = 'font-family="DejaVu Sans, Verdana, sans-serif" font-size="12"'
OURS, THEIRS, FLOOR = "#0b6e4f", "#9aa5b1", "#c0392b"
LINE_COLOURS = {WARM: "#0b6e4f", PLAIN: "#5fb49c", "runc run": "#5c6b7a", "floor (C)": "#c0392b"}
LINE_COLOURS["bwrap --unshare-all"] = "#d68910"
LINE_COLOURS |= dict(zip(LOOKS, ("#0b6e4f", "#5c6b7a", "#c0392b", "#d68910"), strict=True))
# They do so much more that the others would shrink to nothing beside them.
NOT_DRAWN = ("podman run", "docker run")


class Picture:
    """An SVG that grows downwards."""

    def __init__(self, height: int, title: str) -> None:
        self.height = height
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" {FONT}>',
            f"<title>{escape(title)}</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        ]
        self.text(12, 22, title, weight="bold")

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", colour: str = "#222",
        weight: str = "normal",
    ) -> None:  # fmt: skip
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
            f'font-weight="{weight}">{escape(words)}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="{colour}"/>'
        )

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1) -> None:
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(
            f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
        )

    def dot(self, x: float, y: float, colour: str) -> None:
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')

    def save(self, path: Path) -> None:
        path.write_text("\n".join([*self._parts, "</svg>", ""]), encoding="utf-8")


def bars(rows: Sequence[Row], title: str, path: Path) -> None:
    """A bar to each row's median, from its fastest to its 95th percentile a thin line."""
    left, right, step, top = 250, 70, 24, 40
    picture = Picture(top + step * len(rows) + 44, title)
    widest = max(row.p50 for row in rows)
    scale = (WIDTH - left - right) / widest
    for tick in ticks(widest):
        x = left + tick * scale
        picture.line([(x, top - 4), (x, top + step * len(rows))], "#e3e6ea")
        picture.text(x, top + step * len(rows) + 18, f"{tick:g}", anchor="middle", colour="#666")
    for number, row in enumerate(sorted(rows, key=lambda row: row.p50)):
        y = top + number * step
        picture.text(left - 8, y + 15, row.name, anchor="end")
        picture.box(left, y + 4, row.p50 * scale, step - 9, _colour_of(row.name))
        whisker = [left + min(value, widest) * scale for value in (row.best, row.at(0.95))]
        picture.line([(x, y + step / 2) for x in whisker], "#222")
        end = max(left + row.p50 * scale, *whisker)
        picture.text(end + 6, y + 15, f"{row.p50:.1f}")
    picture.text(WIDTH - 12, picture.height - 8, "milliseconds", anchor="end", colour="#666")
    picture.save(path)


def _colour_of(name: str) -> str:
    if name.startswith("floor"):
        return FLOOR
    ours = name.startswith(("library", "lc.", "pyrunc", "python program"))
    return OURS if ours else THEIRS


def ticks(most: float) -> list[float]:
    """Some five round numbers from 0 up to ``most``."""
    raw = most / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    return [step * number for number in range(int(most / step) + 1)]


@dataclass
class Series:
    name: str
    points: list[tuple[float, float]]


def lines(series: Sequence[Series], title: str, path: Path, *, below: str, left_of: str) -> None:
    """One line for each series; the places on the lower axis are evenly spaced."""
    left, right, top, height = 64, 200, 44, 260
    picture = Picture(top + height + 50, title)
    places = sorted({x for each in series for x, _ in each.points})
    most = max(y for each in series for _, y in each.points)
    across = (WIDTH - left - right) / max(1, len(places) - 1)
    for tick in ticks(most):
        y = top + height * (1 - tick / most)
        picture.line([(left, y), (WIDTH - right, y)], "#e3e6ea")
        picture.text(left - 8, y + 4, f"{tick:g}", anchor="end", colour="#666")
    for number, place in enumerate(places):
        words = f"{place:g}"
        picture.text(
            left + number * across, top + height + 18, words, anchor="middle", colour="#666"
        )
    names = []
    for each in series:
        colour = LINE_COLOURS.get(each.name, "#7d5ba6")
        points = [
            (left + places.index(x) * across, top + height * (1 - y / most)) for x, y in each.points
        ]
        picture.line(points, colour, 2)
        for x, y in points:
            picture.dot(x, y, colour)
        names.append((points[-1][1], each.name, colour))
    for y, name, colour in _spread(names):
        picture.text(WIDTH - right + 10, y + 4, name, colour=colour)
    picture.text(left, picture.height - 8, below, colour="#666")
    picture.text(12, 38, left_of, colour="#666")
    picture.save(path)


def _spread(names: list[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Far enough from each other to be read, upwards from the lowest."""
    made: list[tuple[float, str, str]] = []
    for y, name, colour in sorted(names, reverse=True):
        most = made[-1][0] - 15 if made else y
        made.append((min(y, most), name, colour))
    return made


def _series(
    rows: Mapping[str, Row], names: Sequence[str], places: Sequence[int], pattern: str
) -> list[Series]:
    """``pattern`` makes a row's name of a series' name and a place."""
    made = []
    for name in names:
        points = [
            (float(place), rows[key].p50)
            for place in places
            if (key := pattern.format(name=name, place=place)) in rows
        ]
        if len(points) > 1:
            made.append(Series(name, points))
    return made


def draw(rows: Mapping[str, Row], directory: Path) -> None:
    """Every picture that there are enough rows for."""
    directory.mkdir(parents=True, exist_ok=True)
    starts = [row for row in rows.values() if row.group == START and row.name not in NOT_DRAWN]
    if starts:
        bars(
            starts, "From nothing to the program's end and back to nothing", directory / "start.svg"
        )
    whose = list(LINE_COLOURS)
    found = _series(rows, whose, AT_ONCE, "{name}, {place} at once")
    if found:
        lines(
            found, "Containers in a second", directory / "throughput.svg",
            below="at once, from one program", left_of="1/s",
        )  # fmt: skip
    found = _series(rows, whose, BINDS, "{name}, {place} bind mounts more")
    if found:
        lines(
            found, "What more mounts cost", directory / "mounts.svg",
            below="bind mounts beside the default ones", left_of="ms, start to exit",
        )  # fmt: skip
    found = _series(rows, LOOKS, ALIVE, "{name}, {place} alive")
    if found:
        lines(
            found, "What many alive cost", directory / "alive.svg",
            below="containers alive", left_of="ms",
        )  # fmt: skip


def main() -> None:
    source, directory = sys.argv[1:]
    document = json.loads(Path(source).read_text(encoding="utf-8"))
    rows = {
        each["name"]: Row(each["name"], each["group"], each["peer"], each["unit"], each["samples"])
        for each in document["rows"]
    }
    draw(rows, Path(directory))


if __name__ == "__main__":
    main()
