"""The errors as objects: they travel, and say what to do."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

from libpycontainer import errors

MADE = [
    errors.ContainerError("m", op="o", path="p", errno=3, hint="do that"),
    errors.SpecError([errors.Problem("$.x", "bad"), errors.Problem("$.y", "bad")], source="f"),
    errors.ArgumentError("m", parameter="p", value=3),
    errors.StatusError("m", verb="v", status="s"),
    errors.StepError("m", step=1, total=2, op="x", errno=4),
    errors.ExecutableError("m", errno=2),
    errors.HookError("m", hook="h", path="p", returncode=3),
    errors.TimeoutExpired("m", timeout=3.0, output=b"x"),
    errors.CalledProcessError(3, ["x"], b"o", b"e"),
    errors.CallError("m", type_name="t", words="w"),
    errors.CallDiedError("m", returncode=3, out_of_memory=True),
    errors.ResultError("m"),
    errors.NotFoundError("m"),
]


@pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)
def test_an_error_crosses_a_process_boundary_whole(error: errors.ContainerError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def test_a_hint_for_the_case_is_in_the_traceback_and_the_classs_own_is_not() -> None:
    special = errors.UnsupportedError("cannot", hint="Install it.")
    assert special.hint == "Install it."
    assert "Install it." in "".join(traceback.format_exception(special))
    usual = errors.UnsupportedError("cannot")
    assert usual.hint == errors.UnsupportedError.hint
    assert usual.hint not in "".join(traceback.format_exception(usual))


def test_an_argument_error_is_a_value_error() -> None:
    assert issubclass(errors.ArgumentError, ValueError)
