"""What only the tests against the real kernel need."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import libpycontainer as lc
from tests import leaks, ways


@pytest.fixture
def factory(state_root: str) -> Iterator[lc.Factory]:
    """A factory on the test's own state root, closed when the test is over.

    With LPC_TEST_WARM=1 it is a warm one: everything has to hold there as well.
    """
    warm = os.environ.get("LPC_TEST_WARM") == "1"
    with lc.Factory(root=state_root, warm=warm) as factory:
        yield factory


@pytest.fixture
def tmp_path(workspace: Path) -> Iterator[Path]:
    """A directory that the container's root owns and everybody may come to, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="t-", dir=workspace))
    path.chmod(0o755)
    ways.own(path)
    yield path
    leaks.remove_tree(path)
