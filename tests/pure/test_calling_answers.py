"""What comes back from a call, made by somebody who means harm."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import libpycontainer as lc
from libpycontainer import syscalls as sys_
from libpycontainer.calling import answers, codec, packing
from libpycontainer.calling.exchange import Exchange
from libpycontainer.calling.session import Terms

ROOM = 1 << 20


class Boom:
    def __reduce__(self) -> Any:
        return os.abort, ()


def described(
    name: Any, words: Any = "w", text: Any = "t", args: Any = (), more: Any = None
) -> bytes:
    return codec.dumps((name, words, text, args, more))


def error_of(payload: bytes, *, trust: bool = False) -> BaseException:
    return answers.exception_of(payload, trust=trust, name="f")


def test_every_exception_on_the_list_is_a_harmless_builtin() -> None:
    for name in answers.REBUILT:
        kind = getattr(builtins, name)
        assert issubclass(kind, Exception)
        assert not issubclass(kind, StopIteration | StopAsyncIteration | SyntaxError)
        assert not issubclass(kind, BaseExceptionGroup)


@pytest.mark.parametrize(
    "name",
    [
        "KeyboardInterrupt",
        "SystemExit",
        "GeneratorExit",
        "StopIteration",
        "StopAsyncIteration",
        "SyntaxError",
        "ExceptionGroup",
        "BaseException",
        "os.abort",
        "exit",
        "eval",
        "__import__",
        "libpycontainer.errors.TimeoutExpired",
        "",
    ],
)
def test_nothing_else_is_made(name: str) -> None:
    error = error_of(described(name, args=("print(1)",)))
    assert type(error) is lc.CallError
    assert error.type_name == name


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("UnicodeDecodeError", ("utf-8", b"x", -(2**40), 2**40, "r")),
        ("UnicodeDecodeError", ("utf-8", b"x", 5, 6, "r")),
        ("UnicodeEncodeError", ("utf-8", "x", -5, -4, "r")),
        ("UnicodeTranslateError", ("x", 3, 4, "r")),
        ("UnicodeDecodeError", ("utf-8",)),
        ("UnicodeDecodeError", (1, 2, 3, 4, 5)),
        ("KeyError", None),
    ],
)
def test_arguments_that_would_do_harm_are_only_told(name: str, args: Any) -> None:
    assert type(error_of(described(name, args=args))) is lc.CallError


PLAIN = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats()


@given(st.sampled_from(sorted(answers.REBUILT)), st.lists(PLAIN, max_size=6))
def test_whatever_arguments_the_exception_can_be_told(name: str, args: list[Any]) -> None:
    error = error_of(described(name, args=tuple(args)))
    assert isinstance(error, Exception)
    assert isinstance(str(error) + repr(error), str)
    assert isinstance(error.__cause__, lc.RemoteTraceback)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x80\x05N.",
        codec.dumps(None),
        codec.dumps(("ValueError",)),
        codec.dumps(["ValueError", "w", "t", (), None]),
        described(1),
        described("ValueError", words=b"w"),
        described("ValueError", text=None),
        described("ValueError", args=[1]),
        described("ValueError", more="x"),
    ],
)
def test_a_description_that_is_none_is_a_result_error(payload: bytes) -> None:
    with pytest.raises(lc.ResultError):
        error_of(payload)


def test_a_pickle_is_not_looked_at_without_trust() -> None:
    bomb = pickle.dumps(Boom())
    assert answers.longest(b"p", ROOM, trust=False) == 0
    for kind in (b"v", b"p"):
        with pytest.raises(lc.ResultError):
            answers.value_of(kind, bomb, trust=False, max_result=ROOM, name="f")
    assert type(error_of(described("X", more=bomb))) is lc.CallError


def test_text_from_inside_commands_no_terminal() -> None:
    hostile = "\x1b[2J\r\x07\x9b31m \u202e é\n\t\udcff"
    assert answers.printable(hostile) == r"\x1b[2J\r\x07\x9b31m \u202e é" + "\n\t" + r"\udcff"
    error = error_of(described("X" + hostile, words=hostile, text=hostile))
    assert str(error).isprintable() or "\x1b" not in str(error)
    assert "\x1b" not in str(error.__cause__)


# ---- the line --------------------------------------------------------------------------------


class Somebody:
    """As much of a process as the exchange looks at; it ends when :meth:`end` is called."""

    def __init__(self) -> None:
        self.line, self.theirs = sys_.socketpair(sys_.SOCK_STREAM)
        self._ended, self._end = os.pipe()
        self.stdout = self.stderr = None

    def fileno(self) -> int:
        return self._ended

    def end(self) -> None:
        if self._end >= 0:
            os.close(self._end)
            self._end = -1

    def close(self) -> None:
        self.end()
        os.close(self._ended)
        self.line.close()
        self.theirs.close()

    def exchange(self, *, trust: bool = False) -> Exchange:
        return Exchange(
            self,  # type: ignore[arg-type]
            self.line,
            name="f",
            max_result=1000,
            max_output=1000,
            trust=trust,
        )

    def say(self, data: bytes) -> None:
        os.write(self.theirs.fileno(), data)


@pytest.fixture
def somebody() -> Iterator[Somebody]:
    one = Somebody()
    yield one
    one.close()


def frame(kind: bytes, payload: bytes, size: int | None = None) -> bytes:
    return kind + (len(payload) if size is None else size).to_bytes(8, "little") + payload


def soon() -> float:
    return time.monotonic() + 0.2


def test_an_answer_in_pieces_is_heard(somebody: Somebody) -> None:
    exchange = somebody.exchange()
    whole = frame(b"v", b"i\x01\x05") + frame(b"v", b"N")
    for index in range(len(whole) - 11):
        somebody.say(whole[index : index + 1])
    with pytest.raises(TimeoutError):
        exchange.answer(soon())
    somebody.say(whole[-11:])
    assert exchange.answer(soon()) == (b"v", b"i\x01\x05")
    assert exchange.answer(soon()) == (b"v", b"N")
    assert exchange.silent
    somebody.say(b"v")
    assert not exchange.silent


@pytest.mark.parametrize("kind", [b"p", b"c", b"\0", b"V", b"\x80"])
def test_another_kind_of_answer_is_refused_at_its_beginning(
    somebody: Somebody, kind: bytes
) -> None:
    somebody.say(frame(kind, b"x"))
    with pytest.raises(lc.ResultError, match="begins with"):
        somebody.exchange().answer(soon())


@pytest.mark.parametrize("size", [1001, 2**32, 2**63, 2**64 - 1])
def test_a_length_beyond_the_limit_is_refused_before_the_bytes_come(
    somebody: Somebody, size: int
) -> None:
    somebody.say(frame(b"v", b"", size))
    with pytest.raises(lc.ResultError, match=f"would take {size} bytes, of 1000"):
        somebody.exchange().answer(soon())


def test_an_end_without_an_answer_is_told_also_where_the_line_is_held(somebody: Somebody) -> None:
    exchange = somebody.exchange()
    somebody.say(b"v12")
    somebody.end()
    with pytest.raises(lc.CallDiedError, match="without an answer"):
        exchange.answer(None)


def test_an_answer_before_the_end_counts(somebody: Somebody) -> None:
    somebody.say(frame(b"v", b"N"))
    somebody.end()
    assert somebody.exchange().answer(None) == (b"v", b"N")


def test_a_closed_line_is_an_end(somebody: Somebody) -> None:
    somebody.theirs.close()
    with pytest.raises(lc.CallDiedError):
        somebody.exchange().answer(soon())


def test_who_does_not_listen_holds_nobody(somebody: Somebody) -> None:
    with pytest.raises(TimeoutError):
        somebody.exchange().send(b"c", bytes(1 << 22), soon())
    somebody.theirs.close()
    with pytest.raises(lc.CallDiedError, match="before it took the call"):
        somebody.exchange().send(b"c", b"x", soon())


# ---- what is sent ----------------------------------------------------------------------------


def test_a_function_is_called_by_its_full_name() -> None:
    import functools

    assert packing.label(os.path.join) == "posixpath.join"
    assert packing.label(functools.partial(functools.partial(soon))).endswith("answers.soon")
    assert packing.label(len) == "builtins.len"


def test_terms_take_sizes_and_streams_as_people_write_them() -> None:
    out = io.BytesIO()
    terms = Terms(
        timeout="1.5s",
        trust=False,
        imports="one",
        max_result="1K",
        max_output=10,
        stdin=None,
        stdout=out,
        stderr=None,
    )
    assert (terms.timeout, terms.max_result, terms.max_output) == (1.5, 1024, 10)
    assert terms.imports == ["one"]
    assert terms.sinks == {"stdout": out}
    assert terms.streams == {"stdin": lc.DEVNULL, "stdout": lc.PIPE, "stderr": None}
    with pytest.raises(lc.ArgumentError, match="max_result"):
        Terms(timeout=None, trust=False, imports=(), max_result="much", max_output=1)
