"""A representative part of this tier once more in the other two ways (tests/ways.py).

``tox -e privileged-userns`` and ``tox -e privileged-user`` run all of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ways
from tests.privileged.support import REPOSITORY

HERE = Path(__file__).parent
FILES = [
    str(HERE / f"test_{name}.py")
    for name in ("exec", "hooks", "lifecycle", "rootfs", "stdio", "terminal", "user_namespace")
]

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.no_user_namespace("starts the other ways itself"),
]


def run_files(command: list[str], way: str) -> None:
    done = subprocess.run(
        [*command, "-q", "-p", "no:cacheprovider", *FILES],
        env={**os.environ, ways.VARIABLE: way},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_as_root_with_a_user_namespace() -> None:
    run_files([sys.executable, "-m", "pytest"], "userns")


@pytest.mark.skipif(shutil.which("newuidmap") is None, reason="newuidmap is not installed")
def test_as_an_ordinary_user() -> None:
    run_files([sys.executable, str(REPOSITORY / "scripts/as_user.py")], "user")
