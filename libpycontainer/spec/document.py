"""From a path, text or dict to a JSON value, and back to text: what both readers begin with.

The rules are Go's ``encoding/json``, which every other runtime reads with, where they are strict:
UTF-8 alone, no NaN or Infinity, no trailing data. Of a field given twice the last one counts.
"""

from __future__ import annotations

from libpycontainer import jsontext
from libpycontainer.errors import Problem, SpecError
from libpycontainer.spec import leaves

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from typing import Any

    Source = str | bytes | os.PathLike[str] | dict[str, Any]


def read(source: Source) -> tuple[object, str]:
    """The JSON value of ``source``, and the file it came from (``""`` if it was none).

    A ``str`` that begins with ``{`` (white space aside) and ``bytes`` are text, any other ``str``
    is a path. A dict is taken as the JSON it would be written as: the value that comes back shares
    nothing with it. Raises :class:`SpecError`.
    """
    if isinstance(source, dict):
        return _plain(source), ""
    if isinstance(source, bytes):
        return parse(source), ""
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return parse(source.encode("utf-8", "surrogatepass")), ""
    import os

    path = os.fspath(source)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError([Problem("$", f"cannot be read: {reason}")], source=path) from error
    return parse(data, path), path


def parse(data: bytes, source: str = "") -> object:
    """The JSON value that ``data`` spells; a :class:`SpecError` names the line and column."""
    try:
        text = data.decode("utf-8")
        value = jsontext.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except UnicodeDecodeError as error:
        where = _position(data, error.start)
        raise _broken(f"not JSON: not UTF-8 at {where}", source) from error
    except RecursionError as error:
        raise _broken("nested too deeply", source) from error
    except ValueError as error:
        raise _broken(f"not JSON: {_reason(error)}", source) from error
    if "\\ud" in text or "\\uD" in text:
        # Half of a surrogate pair cannot be encoded again: it would break the first system call.
        problems = list(_lone_surrogates(value, "$"))
        if problems:
            raise SpecError(problems, source=source)
    return value


def text(value: object) -> str:
    """``value`` as JSON text with tabs, in the order it has; ASCII, so any locale can write it."""
    import json

    return json.dumps(value, indent="\t", allow_nan=False)


def ordered(value: object) -> object:
    """A copy of a JSON value whose objects are in alphabetical order and whose arrays are lists."""
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [ordered(item) for item in value]
    return value


def _broken(message: str, source: str) -> SpecError:
    return SpecError([Problem("$", message)], source=source)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{digits} is too large a number")
    return number


def _reason(error: ValueError) -> str:
    line = getattr(error, "lineno", None)
    if line is None:
        return str(error)
    # A json.JSONDecodeError, whose class is not worth loading.
    return f"{error.msg} at line {line} column {error.colno}"  # type: ignore[attr-defined]


def _position(data: bytes, offset: int) -> str:
    line = data.count(b"\n", 0, offset) + 1
    column = offset - data.rfind(b"\n", 0, offset)
    return f"line {line} column {column}"


def _plain(value: dict[str, Any]) -> object:
    try:
        return jsontext.loads(jsontext.dumps(value))
    except RecursionError as error:
        raise _broken("nested too deeply", "") from error
    except (TypeError, ValueError) as error:
        raise _broken(f"not JSON: {error}", "") from error


def _lone_surrogates(value: object, path: str) -> Iterator[Problem]:
    if isinstance(value, str):
        if any("\ud800" <= char <= "\udfff" for char in value):
            yield Problem(path, "invalid value, half of a surrogate pair is not text")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _lone_surrogates(key, path)
            yield from _lone_surrogates(item, leaves.child(path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _lone_surrogates(item, f"{path}[{index}]")
