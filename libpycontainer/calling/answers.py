"""What came back from a call becomes a value or an exception. None of it is trusted.

A value is plain data. An exception is made anew when it is a builtin one that can do no harm here;
everything else is a :class:`CallError` that tells of it. Only where the caller says that he trusts
the container are values and exceptions unpickled.
"""

from __future__ import annotations

import builtins

from libpycontainer.calling import codec
from libpycontainer.calling.frames import EXCEPTION, MAX_EXCEPTION, PICKLE, VALUE
from libpycontainer.errors import CallError, RemoteTraceback, ResultError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Not among them: what ends a program or a loop of the caller's (SystemExit, KeyboardInterrupt,
# GeneratorExit, StopIteration), what holds other exceptions, and SyntaxError, whose printing would
# count with numbers from inside.
REBUILT = frozenset(
    (
        "ArithmeticError",
        "AssertionError",
        "AttributeError",
        "BlockingIOError",
        "BrokenPipeError",
        "BufferError",
        "BytesWarning",
        "ChildProcessError",
        "ConnectionAbortedError",
        "ConnectionError",
        "ConnectionRefusedError",
        "ConnectionResetError",
        "DeprecationWarning",
        "EOFError",
        "EncodingWarning",
        "Exception",
        "FileExistsError",
        "FileNotFoundError",
        "FloatingPointError",
        "FutureWarning",
        "ImportError",
        "ImportWarning",
        "IndexError",
        "InterruptedError",
        "IsADirectoryError",
        "KeyError",
        "LookupError",
        "MemoryError",
        "ModuleNotFoundError",
        "NameError",
        "NotADirectoryError",
        "NotImplementedError",
        "OSError",
        "OverflowError",
        "PendingDeprecationWarning",
        "PermissionError",
        "ProcessLookupError",
        "RecursionError",
        "ReferenceError",
        "ResourceWarning",
        "RuntimeError",
        "RuntimeWarning",
        "SyntaxWarning",
        "SystemError",
        "TimeoutError",
        "TypeError",
        "UnboundLocalError",
        "UnicodeDecodeError",
        "UnicodeEncodeError",
        "UnicodeError",
        "UnicodeTranslateError",
        "UnicodeWarning",
        "UserWarning",
        "ValueError",
        "Warning",
        "ZeroDivisionError",
    )
)
_SPANS = {"UnicodeDecodeError": 1, "UnicodeEncodeError": 1, "UnicodeTranslateError": 0}


def longest(kind: bytes, max_result: int, *, trust: bool) -> int:
    """How many bytes an answer of that kind may have; 0 where there is no such kind."""
    if kind == EXCEPTION:
        return MAX_EXCEPTION
    return max_result if kind == (PICKLE if trust else VALUE) else 0


def value_of(kind: bytes, payload: bytes, *, trust: bool, max_result: int, name: str) -> Any:
    """The function's value; raises what it raised, or :class:`ResultError`."""
    if kind == EXCEPTION:
        raise exception_of(payload, trust=trust, name=name)
    if kind == PICKLE and trust:
        return _unpickled(payload)
    return _plain(payload, max_result, name)


def _unpickled(data: bytes) -> Any:
    """Of a container that is trusted; the caller's own module goes by multiprocessing's name."""
    import _pickle
    import sys

    sys.modules.setdefault("__mp_main__", sys.modules["__main__"])
    return _pickle.loads(data)


def _plain(payload: bytes, room: int, name: str) -> Any:
    try:
        return codec.loads(payload, room=room)
    except codec.Malformed as error:
        raise ResultError(f"the answer of {name} is no result: {error}") from None


def exception_of(payload: bytes, *, trust: bool, name: str) -> BaseException:
    """What to raise for an exception in the container; its cause is the traceback there."""
    described = _plain(payload, 16 * MAX_EXCEPTION, name)
    if not _is_description(described):
        raise ResultError(f"the answer of {name} is no exception either")
    type_name, words, text, args, pickled = described
    error: BaseException | None = None
    if trust and pickled is not None:
        error = _unpickled(pickled)
        if not isinstance(error, Exception):
            error = None
    if error is None:
        error = rebuilt(type_name, args)
    if error is None:
        said = printable(f"{type_name}: {words}" if words else type_name)
        error = CallError(said, type_name=printable(type_name), words=printable(words))
    error.__cause__ = RemoteTraceback(printable(text))
    return error


def _is_description(described: Any) -> bool:
    match described:
        case (str(), str(), str(), tuple() | None, bytes() | None):
            return type(described) is tuple
    return False


def rebuilt(type_name: str, args: tuple[Any, ...] | None) -> Exception | None:
    """A builtin exception with plain arguments, ``None`` for one that is not to be made here."""
    if type_name not in REBUILT or args is None:
        return None
    if type_name in _SPANS and not _is_span(args[_SPANS[type_name] :]):
        return None
    try:
        error = getattr(builtins, type_name)(*args)
    except Exception:
        # Arguments that its class does not take.
        return None
    assert isinstance(error, Exception)
    return error


def _is_span(args: tuple[Any, ...]) -> bool:
    """Does it say ``text, start, end`` of a place in the text? CPython relies on that when it tells
    of the exception (before 3.14 it reads there, wherever it is)."""
    if len(args) < 3 or [type(each) for each in args[1:3]] != [int, int]:
        return False
    text, start, end, *_ = args
    return type(text) in (str, bytes) and 0 <= start < end <= len(text)


def printable(text: str) -> str:
    """Text from inside, without what a terminal would take for a command."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode()
        for each in text
    )
