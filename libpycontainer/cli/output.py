"""What the command puts on standard output, and JSON in the shapes that Go's encoder gives it."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Json = str | int | float | bool | None | Sequence["Json"] | Mapping[str, "Json"]

_STDOUT = 1
_SIGPIPE_CODE = 128 + 13
_NAMED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPES = str.maketrans({chr(i): f"\\u{i:04x}" for i in range(32)} | _NAMED)
# Go's encoder escapes these, so that its output may stand inside HTML.
_HTML = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


def put(text: str) -> None:
    """Write ``text`` to standard output, all of it. Raises :class:`OSError` (a full disk ...).

    A reader that went away ends the process as SIGPIPE would, which Python has turned off.
    """
    data = text.encode("utf-8", "surrogateescape")
    try:
        while data:
            data = data[os.write(_STDOUT, data) :]
    except BrokenPipeError:
        raise SystemExit(_SIGPIPE_CODE) from None
    except OSError as error:
        raise OSError(error.errno, f"write /dev/stdout: {error.strerror}") from None


def quote(text: str, *, html: bool = True) -> str:
    """``text`` as a JSON string. Bytes that were not UTF-8 become U+FFFD, as Go has it."""
    clean = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    escaped = clean.translate(_ESCAPES)
    return f'"{escaped.translate(_HTML) if html else escaped}"'


def dump(value: Json, indent: str | None = None) -> str:
    """``value`` as JSON: on one line, or with ``indent`` per level."""
    return _dump(value, indent, "\n")


def _dump(value: Json, indent: str | None, line: str) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value).removesuffix(".0")
        case str():
            return quote(value)
    inner = line + (indent or "")
    separator = ": " if indent is not None else ":"
    if isinstance(value, dict):
        pairs = value.items()
        items = [f"{quote(key)}{separator}{_dump(item, indent, inner)}" for key, item in pairs]
        opening, closing = "{}"
    else:
        items = [_dump(item, indent, inner) for item in value]
        opening, closing = "[]"
    if not items:
        return opening + closing
    if indent is None:
        return opening + ",".join(items) + closing
    return opening + inner + f",{inner}".join(items) + line + closing
