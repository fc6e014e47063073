"""What only the tests against the real kernel need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import libpycontainer as lc


@pytest.fixture
def factory(state_root: str) -> Iterator[lc.Factory]:
    """A factory on the test's own state root, closed when the test is over."""
    with lc.Factory(root=state_root) as factory:
        yield factory
