"""Attacks, each with a name, and what became of them.

A test here plays the attacker: it does what the attack's write-up does, against this project's own
paths, and then looks whether anything of the host was read, changed or kept. ``--attacks`` prints
the list of them with their verdicts, which is what ``tox -e security`` is for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.privileged.conftest import factory, tmp_path
from tests.privileged.support import TIMEOUT
from tests.security.support import CORE_PATTERN, mounts_below, mounts_of, tree

__all__ = ["factory", "tmp_path"]


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host's with one file: at the end of the test it is as it was."""
    place = tmp_path / "outside"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    (place / "secret").write_text("the host's\n")
    pattern, mounts = CORE_PATTERN.read_text(), set(mounts_of("self"))
    yield place
    found = CORE_PATTERN.read_text()
    if found != pattern:
        CORE_PATTERN.write_text(pattern)
    assert found == pattern
    assert tree(place) == {"secret": "the host's\n"}
    assert mounts_below(place, "self") == []
    # Somebody else's may come, and go again.
    deadline = time.monotonic() + TIMEOUT / 4
    while (new := set(mounts_of("self")) - mounts) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert new == set()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--attacks", action="store_true", help="list every attack with its verdict")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "security" in item.path.parts and item.get_closest_marker("attack") is None:
            raise pytest.UsageError(f"{item.nodeid}: which attack is it? mark it with attack(...)")


class Verdicts:
    """By attack: it held in every test that plays it, it did not, or it could not be played."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], set[str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[None]:
        report: pytest.TestReport = yield  # type: ignore[assignment]
        attack = item.get_closest_marker("attack")
        if attack is not None and (report.when == "call" or report.outcome != "passed"):
            name, does = attack.args
            self.found.setdefault((name, does), set()).add(report.outcome)
        return report  # type: ignore[return-value]

    def lines(self) -> list[str]:
        found = sorted(self.found.items())
        lines = [f"{self.verdict(seen):<8} {name:<18} {does}" for (name, does), seen in found]
        held = sum(self.verdict(seen) == "held" for _, seen in found)
        return [*lines, f"{held} of {len(found)} attacks held"]

    def verdict(self, outcomes: set[str]) -> str:
        if "failed" in outcomes:
            return "BROKEN"
        return "held" if "passed" in outcomes else "skipped"


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--attacks", default=False):
        config.pluginmanager.register(Verdicts(), "verdicts")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    verdicts = terminalreporter.config.pluginmanager.get_plugin("verdicts")
    if verdicts is not None:
        terminalreporter.section("attacks")
        for line in verdicts.lines():
            terminalreporter.write_line(line)
