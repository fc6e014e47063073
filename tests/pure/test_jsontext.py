"""JSON without the module: the same values, the same text, the same errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libpycontainer import jsontext

DOCUMENTS = sorted(Path(__file__).parents[1].glob("data/**/*.json"))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
BROKEN = [
    "",
    " ",
    "{",
    '{"a": 1,}',
    '{"a" 1}',
    "[1 2]",
    '"\n"',
    '"\\x"',
    "tru",
    "1 2",
    '{"a": 1} x',
    "\ufeff{}",
    "\x0c{}",
    "nul",
    "01",
    "-",
    "1.",
]


@given(VALUES)
def test_values_are_written_and_read_as_json_does(value: object) -> None:
    text = jsontext.dumps(value)
    assert text == json.dumps(value, allow_nan=False)
    assert jsontext.loads(text) == value == jsontext.loads(f"\n\t {text}\r\n ")
    assert jsontext.dumps(value, separators=(",", ":")) == json.dumps(value, separators=(",", ":"))


def outcome(reader: Callable[[str], object], text: str) -> tuple[object, str]:
    """The value, or the error's words."""
    try:
        return reader(text), ""
    except ValueError as error:
        return None, f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_document_reads_the_same(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert outcome(jsontext.loads, text) == outcome(json.loads, text)


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_not_json_gets_the_modules_own_error(text: str) -> None:
    with pytest.raises(json.JSONDecodeError) as wanted:
        json.loads(text)
    with pytest.raises(json.JSONDecodeError) as caught:
        jsontext.loads(text)
    assert str(caught.value) == str(wanted.value)


def test_also_where_json_was_never_imported() -> None:
    """The accelerator then finds no class for its errors."""
    source = f"""
import sys
from libpycontainer import jsontext
assert jsontext.loads('{{"a": [1, null]}}') == {{"a": [1, None]}}
assert jsontext.dumps({{"a": 1}}) == '{{"a": 1}}'
assert "json" not in sys.modules and "re" not in sys.modules
for text in {BROKEN!r}:
    try:
        jsontext.loads(text)
    except ValueError as error:
        assert type(error).__name__ == "JSONDecodeError", text
    else:
        raise AssertionError(text)
"""
    # Without site, which may load either module for reasons of its own.
    command = [sys.executable, "-S", "-c", source]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(Path(__file__).parents[2])})


def test_callables_see_what_json_would_show_them() -> None:
    def refuse(name: str) -> float:
        raise ValueError(f"no {name}")

    assert jsontext.loads("[1.5, 2]", parse_float=str) == ["1.5", 2]
    assert str(jsontext.loads("[NaN, -Infinity]")) == "[nan, -inf]"
    for text in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(ValueError, match=f"no {text}"):
            jsontext.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), b"x"])
def test_what_json_has_no_words_for_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)) as wanted:
        json.dumps(value, allow_nan=False)
    with pytest.raises((TypeError, ValueError)) as caught:
        jsontext.dumps(value)
    assert str(caught.value) == str(wanted.value)


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(ValueError, match="Circular"):
        jsontext.dumps(value)


def test_what_is_nested_too_deeply_is_an_error() -> None:
    with pytest.raises(RecursionError):
        jsontext.loads("[" * 200_000)
