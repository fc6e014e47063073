"""JSON by the C halves of the standard library's module, without the module.

``import json`` costs some 6 ms, nearly all of it the regular expressions that only its Python half
needs: as much as a bare interpreter's start, and a cold ``pyrunc state`` reads one small record.
The accelerator is CPython's own affair (no documented interface), so whatever is unusual about it,
or about the text, is left to ``json`` itself, which then gives the answer, or the error.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_WHITE = " \t\n\r"
_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
# What the accelerator raises where json.decoder, which has the errors' class, is not loaded.
_UNSURE = (ImportError, AttributeError, TypeError, StopIteration, SystemError, ValueError)


class _Context:
    """What a scanner asks about how to read: the attributes of a ``json.JSONDecoder``."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_int = int

    def __init__(
        self, parse_float: Callable[[str], Any], parse_constant: Callable[[str], Any]
    ) -> None:
        self.parse_float = parse_float
        self.parse_constant = parse_constant


def loads(
    text: str,
    *,
    parse_float: Callable[[str], Any] = float,
    parse_constant: Callable[[str], Any] = _CONSTANTS.__getitem__,
) -> Any:
    """``json.loads`` of a ``str``, with its errors: ``json.JSONDecodeError`` (a ``ValueError``) for
    what is not JSON, what the callables raise, :class:`RecursionError`."""
    try:
        from _json import make_scanner

        start = len(text) - len(text.lstrip(_WHITE))
        scan = make_scanner(_Context(parse_float, parse_constant))  # type: ignore[arg-type]
        value, end = scan(text, start)
        if not text[end:].strip(_WHITE):
            return value
    except _UNSURE:
        pass
    import json

    return json.loads(text, parse_float=parse_float, parse_constant=parse_constant)


def dumps(value: Any, *, separators: tuple[str, str] = (", ", ": ")) -> str:
    """``json.dumps`` on one line, in ASCII and without NaN; raises what that raises."""
    comma, colon = separators
    try:
        from _json import encode_basestring_ascii, make_encoder

        encode = make_encoder(
            {}, _refuse, encode_basestring_ascii, None, colon, comma, False, False, False
        )
        return "".join(encode(value, 0))
    except _UNSURE:
        pass
    import json

    return json.dumps(value, separators=separators, allow_nan=False)


def _refuse(value: object) -> object:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
