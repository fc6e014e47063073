"""The benchmarks run, and leave nothing behind, also when they are interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
ROW = "library: start"


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks", "--only", f"stages / {ROW}", *options]


def environment(directory: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(directory)}


def left(token: str) -> list[str]:
    """What has a run's name, in the places that it uses."""
    places = [Path("/dev/shm"), Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
    return [str(path) for place in places if place.is_dir() for path in place.glob(f"{token}*")]


@pytest.mark.privileged_caller("a benchmark is run by root")
def test_one_cell_prints_its_rows(tmp_path: Path) -> None:
    document = tmp_path / "run.json"
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        command("--quick", "--rounds", "2", "--json", str(document)),
        cwd=REPOSITORY,
        env=environment(work),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith(ROW)]
    rows = {row["name"]: row for row in json.loads(document.read_text())["rows"]}
    assert rows[ROW]["n"] == 2
    assert 0 < rows[ROW]["min"] <= rows[ROW]["p50"] <= rows["library: create to delete"]["p50"]
    assert f"{rows[ROW]['p50']:.2f}" in line
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.privileged_caller("a benchmark is run by root")
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        command("--rounds", "1000000"),
        cwd=REPOSITORY,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        # Its directories and cgroups are there when it introduces itself.
        assert running.stdout.readline().startswith("Linux")
        [directory] = tmp_path.iterdir()
        token = directory.name.rpartition("-")[0]
        assert left(token) != []
        running.send_signal(number)
        _, said = running.communicate(timeout=30)
    assert running.returncode == 130, said
    assert list(tmp_path.iterdir()) == []
    assert left(token) == []
