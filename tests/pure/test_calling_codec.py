"""Plain data as bytes: all of it comes back, and no bytes at all can do harm."""

from __future__ import annotations

import array
import collections
import sys
import time
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libpycontainer.calling import codec

ROOM = 1 << 24
HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters())
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
VALUES = st.recursive(
    HASHABLE | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=5)
        | st.sets(HASHABLE, max_size=5)
    ),
    max_leaves=20,
)


def back(value: Any) -> Any:
    return codec.loads(codec.dumps(value), room=ROOM)


def typed(value: Any) -> Any:
    """A value with the type of everything in it: 1, 1.0 and True are otherwise equal."""
    if isinstance(value, list | tuple):
        return type(value), [typed(each) for each in value]
    if isinstance(value, set | frozenset):
        return type(value), sorted(str(typed(each)) for each in value)
    if isinstance(value, dict):
        return dict, [(typed(key), typed(each)) for key, each in value.items()]
    return type(value), repr(value)


def alike(left: Any, right: Any) -> bool:
    return bool(typed(left) == typed(right))


@given(VALUES)
def test_whatever_is_plain_comes_back_as_it_was(value: Any) -> None:
    assert alike(back(value), value)


@pytest.mark.parametrize(
    "value",
    [0, -1, 127, 128, -128, -129, 2**63, -(2**63), 2**1000, -(2**1000), True, False, None],
)
def test_every_number_comes_back_with_its_type(value: Any) -> None:
    assert alike(back(value), value)


def test_floats_come_back_to_the_bit() -> None:
    for value in (0.0, -0.0, float("inf"), float("-inf"), 5e-324, sys.float_info.max):
        assert repr(back(value)) == repr(value)
    assert repr(back(float("nan"))) == "nan"
    assert repr(back(complex(-0.0, float("inf")))) == repr(complex(-0.0, float("inf")))


def test_text_comes_back_with_its_surrogates() -> None:
    assert back("\udcff\ud800 é \U0001f600 \0") == "\udcff\ud800 é \U0001f600 \0"


@given(st.binary(max_size=300))
@settings(max_examples=2000)
def test_no_bytes_do_anything_but_be_a_value_or_malformed(data: bytes) -> None:
    try:
        value = codec.loads(data, room=ROOM)
    except codec.Malformed:
        return
    assert alike(back(value), value)


@given(VALUES, st.data())
def test_whatever_is_cut_or_changed_is_a_value_or_malformed(value: Any, data: Any) -> None:
    whole = bytearray(codec.dumps(value))
    for cut in range(len(whole)):
        with pytest.raises(codec.Malformed):
            codec.loads(whole[:cut], room=ROOM)
    index = data.draw(st.integers(0, len(whole) - 1))
    whole[index] ^= 1 << data.draw(st.integers(0, 7))
    try:
        codec.loads(whole, room=ROOM)
    except codec.Malformed:
        pass


def number(value: int) -> bytes:
    out = bytearray()
    codec._put_number(out, value)
    return bytes(out)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cut short"),
        (b"NN", "1 bytes follow"),
        (b"q", "begins with the byte 0x71"),
        (b"\x80\x05K\x01.", "begins with the byte 0x80"),
        (b"b" + number(5) + b"1234", "cut short"),
        (b"s" + number(2) + b"\xff\xfe", "not UTF-8"),
        (b"i" + b"\xff" * 20, "no end"),
        (b"b" + number(2**62), "cut short"),
        (b"l" + number(2**62), "cut short"),
        (b"d" + number(2**61), "cut short"),
        (b"d" + number(1) + b"l" + number(0) + b"N", "cannot be a key"),
        (b"e" + number(1) + b"B" + number(0), "cannot be a key"),
        (b"e" + number(2) + b"TT", "there twice"),
        (b"d" + number(2) + b"TN" + b"i" + number(1) + b"\x01N", "there twice"),
        (b"f1234567", "cut short"),
        (b"l" + number(1), "cut short"),
    ],
)
def test_malformed_data_is_told_of(data: bytes, words: str) -> None:
    with pytest.raises(codec.Malformed, match=words):
        codec.loads(data, room=ROOM)


@pytest.mark.parametrize("letter", [b"l", b"t", b"z", b"d"])
def test_depth_is_bounded_whatever_the_callers_own(letter: bytes) -> None:
    head = letter + number(1) + (b"N" if letter == b"d" else b"")
    with pytest.raises(codec.Malformed, match="nested more than 200"):
        codec.loads(head * 100_000 + b"N", room=ROOM)
    nested: Any = None
    for _ in range(codec.MAX_DEPTH):
        nested = [nested]
    found = back(nested)
    for _ in range(codec.MAX_DEPTH):
        (found,) = found
    with pytest.raises(ValueError, match="nested more than 200 deep"):
        codec.dumps([nested])


def test_what_contains_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="contains itself"):
        codec.dumps(circle)


@pytest.mark.parametrize("letter", [b"e", b"d", b"l", b"t"])
def test_few_bytes_cannot_take_much_memory(letter: bytes) -> None:
    """Empty sets: two bytes each, and two hundred in memory."""
    count = 500_000
    data = b"l" + number(count) + (letter + number(0)) * count
    with pytest.raises(codec.Malformed, match="max_result"):
        codec.loads(data, room=1 << 20)


def test_lengths_are_not_believed() -> None:
    before = time.thread_time()
    for letter in (b"b", b"B", b"s", b"i", b"l", b"t", b"e", b"z", b"d"):
        with pytest.raises(codec.Malformed):
            codec.loads(letter + number(2**60) + b"x" * 100, room=1 << 62)
    assert time.thread_time() - before < 1


def colliding(letter: bytes, count: int) -> bytes:
    """Integers that all hash to 0."""
    out = bytearray(letter + number(count))
    for index in range(count):
        codec._put_int(out, index * sys.hash_info.modulus)
        if letter == b"d":
            out += b"N"
    return bytes(out)


@pytest.mark.parametrize("letter", [b"e", b"z", b"d"])
def test_colliding_keys_cost_seconds_and_no_hours(letter: bytes) -> None:
    before = time.thread_time()
    with pytest.raises(codec.Malformed, match="collide"):
        codec.loads(colliding(letter, 100_000), room=1 << 30)
    assert time.thread_time() - before < 20


def test_many_honest_keys_are_no_attack() -> None:
    numbers = dict.fromkeys(range(200_000))
    assert codec.loads(codec.dumps(numbers), room=1 << 30) == numbers


class Pair(NamedTuple):
    left: int
    right: int


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "^result is of type object"),
        ([1, {"k": (0, {2: print})}], r"^result\[1\]\['k'\]\[1\]\[2\] is of type builtin_function"),
        ({print: 1}, "^a key of result is of type builtin_function"),
        ({(1, print): 1}, r"^a key of result\[1\] is of type builtin_function"),
        ({1, frozenset({print})}, "an item of an item of result is of type"),
        (Pair(1, 2), r"of type .*test_calling_codec\.Pair"),
        (collections.OrderedDict(), r"of type collections\.OrderedDict"),
        (array.array("i"), r"of type array\.array"),
        ([ValueError("x")], r"^result\[0\] is of type ValueError"),
        ({"x" * 100: print}, r"^result\['x{36}\.\.\.\] is of type"),
    ],
)
def test_what_cannot_cross_is_named_with_its_place(value: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        codec.dumps(value)


def test_too_much_is_refused_before_it_is_all_there() -> None:
    with pytest.raises(ValueError, match="result takes more than 1000 bytes"):
        codec.dumps(["x" * 400] * 100_000, limit=1000)
