"""Sizes, durations and numbers as people write them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libpycontainer import quantities
from libpycontainer.errors import ArgumentError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (10, 10.0),
        (0.5, 0.5),
        (0, 0.0),
        ("10s", 10.0),
        ("10", 10.0),
        ("500ms", 0.5),
        ("250us", 0.00025),
        ("1.5s", 1.5),
        ("2 m", 120.0),
        ("2min", 120.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("1D", 86400.0),
        (timedelta(minutes=1, milliseconds=500), 60.5),
    ],
)
def test_a_duration_is_seconds_or_numbers_with_units(value: Any, seconds: float) -> None:
    assert quantities.duration(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        *("", "s", "10x", "-1s", "1h30", "1 2", "nan", "inf", "1e3s", "1..5s"),
        *(-1, -0.1, True, None, [1], float("inf"), float("nan"), timedelta(seconds=-1), b"1s"),
    ],
)
def test_any_other_duration_is_refused_by_the_parameters_name(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^patience: invalid duration") as caught:
        quantities.duration(value, "patience")
    assert caught.value.parameter == "patience"
    assert caught.value.value is value


@pytest.mark.parametrize("value", [True, None, b"1M", -2, "-2", float("nan"), "99999999T", [1]])
def test_what_is_no_size_is_refused_by_the_parameters_name(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^memory: invalid size") as caught:
        quantities.size(value, "memory")
    assert isinstance(caught.value, ValueError)


def test_a_size_may_be_a_float_of_bytes() -> None:
    assert quantities.size(1024.0) == 1024
    assert quantities.size(str(2**62 + 1)) == 2**62 + 1


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), True, "2", None])
def test_processors_are_a_positive_number(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^cpus: invalid number of processors"):
        quantities.processors(value)
    assert quantities.processors(1) == 1.0


@pytest.mark.parametrize("value", [-2, 1.5, True, "8", None])
def test_tasks_are_a_whole_number(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^pids: invalid number of tasks"):
        quantities.tasks(value)
    assert [quantities.tasks(each) for each in (-1, 0, 64)] == [-1, 0, 64]


@given(st.text(max_size=12))
def test_no_text_breaks_the_reading_of_a_duration(text: str) -> None:
    try:
        assert 0 <= quantities.duration(text) < float("inf")
    except ArgumentError as error:
        assert repr(text) in str(error)  # noqa: PT017 - either outcome is right
