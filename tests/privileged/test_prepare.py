"""An interpreter that boots before it is known what for: used once, or ended; never in the way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from tests.privileged.support import TIMEOUT, Program, children, create

if TYPE_CHECKING:
    from tests.conftest import BundleMaker


@pytest.fixture
def cold(state_root: Path) -> lc.Factory:
    return lc.Factory(state_root)


def test_the_next_container_is_made_by_it(cold: lc.Factory, bundle: BundleMaker) -> None:
    before = children()
    cold.prepare()
    cold.prepare()
    assert len(children()) == len(before) + 1
    with create(cold, bundle(["true"])) as container:
        # Init alone: the interpreter has ended, and there was no other.
        assert children() - before == {container.pid}
        container.start()
        assert container.wait(TIMEOUT) == 0
    assert children() == before


def test_one_that_nobody_needs_ends_with_the_factory(cold: lc.Factory) -> None:
    before = children()
    with cold:
        cold.prepare()
    assert children() == before


def test_a_creation_that_fails_before_it_begins_leaves_none(cold: lc.Factory) -> None:
    before = children()
    with pytest.raises(lc.SpecError):
        cold.create("one", {"ociVersion": "1.0.0"})
    assert children() == before


def test_a_number_that_the_caller_has_closed_never_means_a_descriptor_of_its_own(
    bundle: BundleMaker, state_root: Path
) -> None:
    one = bundle(["sh", "-c", "for n in 0 2; do readlink /proc/self/fd/$n; done"])
    source = """
os.close(0); os.close(2)
config = f"{bundle}/config.json"
with factory.create("one", config, bundle=bundle, stdout=lc.PIPE) as container:
    container.start()
    out, _ = container.process.communicate(timeout=20)
say(out.decode().split())
"""
    with Program(str(state_root), one, source) as program:
        assert program.hear() == str(["/dev/null", "/dev/null"])


def test_a_descriptor_that_is_not_open_is_refused(cold: lc.Factory, bundle: BundleMaker) -> None:
    free = os.dup(0)
    os.close(free)
    with pytest.raises(lc.ContainerError, match=f"{free}, which was to be passed on"):
        create(cold, bundle(["true"]), pass_fds=[free])
