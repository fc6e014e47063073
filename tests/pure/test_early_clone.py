"""What init is cloned with before there is a plan must be what the plan would have had."""

from __future__ import annotations

import copy

import pytest

from libpycontainer import plan
from libpycontainer.spec import light
from tests.pure import plan_cases as cases


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_it_is_offered_where_nothing_is_to_be_entered_first(case: cases.Case) -> None:
    spec = light.record("Spec", copy.deepcopy(case.document))
    flags = plan.early_clone_flags(spec)
    made = case.plan()
    assert (flags is not None) == (not made.namespaces)
    if flags is not None:
        assert flags == made.clone_flags
        assert not [step for step in made.enter if step.op == "join"]
