"""What a program can hear of its containers: by its logging, and by progress."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import libpycontainer as lc
from tests.conftest import BundleMaker

Heard = list[tuple[int, int, str]]


def test_every_step_of_a_creation_is_told(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["true"])
    heard: Heard = []

    def progress(step: int, total: int, title: str) -> None:
        heard.append((step, total, title))

    with factory.create("told", f"{one}/config.json", bundle=one, progress=progress) as container:
        (total,) = {each[1] for each in heard}
        steps = [each[0] for each in heard]
        assert steps == list(range(steps[0], steps[-1] + 1))
        assert steps[-1] <= total
        titles = [each[2] for each in heard]
        mounts = [title for title in titles if title.startswith("mount ") or ": mount " in title]
        assert len(mounts) >= len(one.config["mounts"]) - 1
        assert "report that the container is created" in titles
        before = len(heard)
        container.start()
        assert container.wait(timeout=20) == 0
        # start is another call, which nobody has asked to tell.
        assert len(heard) == before
    # The numbers are those of the plan.
    plan = factory.plan("told", f"{one}/config.json", bundle=one)
    assert total == len(plan.enter) + len(plan.steps) + 1


def test_a_container_that_runs_at_once_is_told_of_too(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(["true"])
    heard: Heard = []
    with factory.run(
        "told", f"{one}/config.json", bundle=one, progress=lambda *step: heard.append(step)
    ) as container:
        assert container.wait(timeout=20) == 0
    assert heard


def test_who_is_told_may_end_the_creation(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["true"])

    def progress(step: int, total: int, title: str) -> None:
        if "created" in title:
            raise RuntimeError("no longer wanted")

    with pytest.raises(RuntimeError, match="no longer wanted"):
        factory.create("told", f"{one}/config.json", bundle=one, progress=progress)
    assert factory.list() == []


def test_nothing_is_told_without_being_asked(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["true"])
    plan = factory.plan("told", f"{one}/config.json", bundle=one)
    assert "report_progress" not in {step.op for step in plan.steps}


@pytest.mark.privileged_caller("makes groups")
def test_the_deletion_of_a_group_is_told(factory: lc.Factory) -> None:
    group = factory.group("job")
    for name in ("a", "b"):
        factory.group(f"job/{name}")
    heard: Heard = []
    group.delete(force=True, progress=lambda *step: heard.append(step))
    assert heard == [(1, 3, "job/a"), (2, 3, "job/b"), (3, 3, "job")]


VERBS = """
{head}
import libpycontainer as lc
with lc.Factory(root={root!r}) as factory:
    with factory.create("told", {config!r}, bundle={bundle!r}) as container:
        container.start()
        container.exec(lc.Process(["true"])).wait(timeout=20)
from libpycontainer import log
log.warn("doubtful")
{tail}
"""


def program(head: str, tail: str, one: BundleMaker, root: str) -> subprocess.CompletedProcess[str]:
    made = one(["sleep", "60"])
    source = VERBS.format(
        head=head, tail=tail, root=root, config=f"{made}/config.json", bundle=f"{made}"
    )
    repository = Path(lc.__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        timeout=100,
        stdin=subprocess.DEVNULL,
        cwd=repository,
    )


def test_a_program_that_configures_no_logging_hears_nothing(
    bundle: BundleMaker, state_root: str
) -> None:
    done = program("import logging", "", bundle, state_root)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_program_without_logging_does_not_get_it_loaded(
    bundle: BundleMaker, state_root: str
) -> None:
    done = program("import sys", "assert 'logging' not in sys.modules", bundle, state_root)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_program_with_logging_hears_of_verbs_and_warnings(
    bundle: BundleMaker, state_root: str
) -> None:
    head = """
import logging, sys
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
"""
    done = program(head, "", bundle, state_root)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    verbs = [line.partition("INFO container told: ")[2].partition(" ")[0] for line in lines[:-1]]
    assert verbs == ["created", "started", "joined", "deleted"]
    assert lines[-1] == "libpycontainer WARNING doubtful"
