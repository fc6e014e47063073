"""Whole plans, kept as text: what a change of the planner changes shows as a difference.

``LPC_REWRITE_PLANS=1`` writes them anew; read what changed before you commit it.
"""

from __future__ import annotations

import inspect
import marshal
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from libpycontainer import plan
from libpycontainer.init.steps import TABLE
from tests.pure import plan_cases as cases

PLANS: dict[str, Callable[[], plan.Plan]] = {case.name: case.plan for case in cases.CASES}
PLANS |= {f"exec-{name}": lambda name=name: cases.exec_plan(name) for name in cases.EXECS}  # type: ignore[misc]
REPOSITORY = Path(__file__).parents[2]

# Imports come first: what they open is not the planner's doing.
WITHOUT_INPUT_AND_OUTPUT = """
import sys
from tests.pure import plan_cases
import libpycontainer.errors
made, events = 0, []
FORBIDDEN = ("open", "os.", "socket.", "subprocess.", "import", "exec", "ctypes.")
sys.addaudithook(lambda event, _: event.startswith(FORBIDDEN) and events.append(event))
for case in plan_cases.CASES:
    made += bool(case.plan().steps)
for name in plan_cases.EXECS:
    made += bool(plan_cases.exec_plan(name).steps)
assert not events, events
open("/dev/null").close()
assert events == ["open"], events
assert made == len(plan_cases.CASES) + len(plan_cases.EXECS)
"""


@pytest.mark.parametrize("name", PLANS)
def test_the_plan_is_the_one_on_record(name: str) -> None:
    text = cases.printed(PLANS[name]())
    file = cases.PLANS / f"{name}.txt"
    if os.environ.get("LPC_REWRITE_PLANS"):
        file.write_text(text, encoding="utf-8")
    assert text.splitlines() == file.read_text(encoding="utf-8").splitlines()


def test_no_record_is_left_of_a_plan_that_is_no_more() -> None:
    assert {path.stem for path in cases.PLANS.iterdir()} == set(PLANS)


@pytest.mark.parametrize("name", PLANS)
def test_init_has_a_function_for_every_step_that_takes_its_arguments(name: str) -> None:
    made = PLANS[name]()
    for step in [*made.enter, *made.steps]:
        inspect.signature(TABLE[step.op]).bind(None, **step.arguments)


def test_the_plans_on_record_use_every_function_of_init() -> None:
    used = {step.op for make in PLANS.values() for step in [*make().enter, *make().steps]}
    assert used == set(TABLE)


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_survives_its_way_to_init_and_is_the_same_every_time(name: str) -> None:
    made = PLANS[name]()
    data = made.serialise()
    assert data == PLANS[name]().serialise()
    clone_flags, enter, steps = marshal.loads(data)
    assert clone_flags == made.clone_flags
    for rows, wanted in ((enter, made.enter), (steps, made.steps)):
        assert [plan.Step(op, title, **arguments) for op, title, arguments in rows] == wanted


@pytest.mark.parametrize("name", PLANS)
def test_every_descriptor_that_a_step_takes_is_made_before(name: str) -> None:
    made = PLANS[name]()
    steps = [*made.enter, *made.steps]
    taken = [s.arguments["fd"] for s in steps if s.op == "join" and not s.arguments["keep"]]
    taken += [step.arguments["tree"] for step in steps if step.arguments.get("tree")]
    held = [namespace.fd for namespace in made.namespaces] + [tree.fd for tree in made.trees]
    if name.startswith("exec-"):
        held.append("init")
    assert sorted(taken) == sorted(held)


def test_the_planner_opens_nothing_and_asks_the_kernel_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_INPUT_AND_OUTPUT],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_steps_are_numbered_over_both_sides_of_the_clone() -> None:
    made = cases.CASES[0].plan()
    lines = made.describe().splitlines()
    total = len(made.enter) + len(made.steps)
    numbered = [line for line in lines if line.startswith("step ")]
    assert len(numbered) == total
    assert numbered[-1] == f"step {total}/{total}: {made.steps[-1].title}"
    assert lines.index("clone init") == len(made.enter)
