"""The examples about confinement say what they say they do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.attack("the example", "does in examples/confinement.py what it may not")
@pytest.mark.privileged_caller("its containers have no user namespace")
def test_the_example_of_confinement(busybox_rootfs: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples/confinement.py"), str(busybox_rootfs)],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows == [
        ["ping", "refused", "answered"],
        ["hostname", "refused", "renamed"],
        ["mkdir", "refused", "made"],
    ]
