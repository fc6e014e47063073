"""PURE: ``org.systemd.property.*`` annotations as properties of the container's unit.

podman and the CRI use them: ``org.systemd.property.TimeoutStopUSec: "uint64 20000000"``. Values are
in GVariant's text format, as for runc: booleans, numbers, strings, and arrays and tuples of these.
Sources: runc's docs/systemd.md; https://docs.gtk.org/glib/gvariant-text-format.html.
"""

from __future__ import annotations

from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

    Variant = tuple[str, Any]
    Property = tuple[str, Variant]

PREFIX = "org.systemd.property."

# What the container's unit is found by afterwards: another value would lose the container.
_TAKEN = frozenset(("PIDs", "PIDFDs", "Slice"))
_TYPES = {
    "boolean": "b",
    "byte": "y",
    "int16": "n",
    "uint16": "q",
    "int32": "i",
    "uint32": "u",
    "int64": "x",
    "uint64": "t",
    "double": "d",
    "string": "s",
    "objectpath": "o",
    "signature": "g",
}
_RANGES = {
    "y": (0, 255),
    "n": (-(1 << 15), (1 << 15) - 1),
    "q": (0, (1 << 16) - 1),
    "i": (-(1 << 31), (1 << 31) - 1),
    "u": (0, (1 << 32) - 1),
    "x": (-(1 << 63), (1 << 63) - 1),
    "t": (0, (1 << 64) - 1),
}
_NUMBERS = (*_RANGES, "d")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_SECOND = 1_000_000


def properties(annotations: Mapping[str, str] | None) -> list[Property]:
    """Each as ``(name, (D-Bus signature, value))``, by name; other annotations are left out.

    A name that ends in ``Sec`` is taken as seconds and handed on as systemd's ``USec``. Raises
    :class:`~libpycontainer.errors.CgroupError` for a name that cannot be one or is not free, and
    for a value that cannot be read.
    """
    found = []
    for key, text in sorted((annotations or {}).items()):
        if not key.startswith(PREFIX):
            continue
        name = key[len(PREFIX) :]
        field = f"$.annotations[{key!r}]"
        if len(name) < 3 or not (name.isascii() and name.isalpha()):
            raise CgroupError(f"{field}: {name!r} is not the name of a property", op="place")
        if name in _TAKEN:
            raise CgroupError(
                f"{field}: {name} is set for the container itself, see $.linux.cgroupsPath",
                op="place",
            )
        value = _Reader(field, text).whole()
        if name.endswith("Sec") and name[-4].islower():
            name, value = f"{name[:-3]}USec", _microseconds(field, value)
        found.append((name, value))
    return found


def _microseconds(field: str, value: Variant) -> Variant:
    signature, number = value
    if signature not in _NUMBERS or number < 0:
        raise CgroupError(f"{field}: {number!r} is not a number of seconds", op="place")
    return "t", int(number * _SECOND)


class _Reader:
    """One value in GVariant's text format."""

    def __init__(self, field: str, text: str) -> None:
        self._field = field
        self._text = text
        self._at = 0

    def whole(self) -> Variant:
        value = self._value(None)
        self._skip()
        if self._at != len(self._text):
            self._fail()
        return value

    def _fail(self, why: str = "") -> NoReturn:
        reason = why or f"not a value in GVariant's text format (character {self._at + 1})"
        raise CgroupError(f"{self._field}: {self._text!r}: {reason}", op="place")

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _peek(self) -> str:
        self._skip()
        return self._text[self._at : self._at + 1]

    def _take(self, char: str) -> bool:
        if self._peek() != char:
            return False
        self._at += 1
        return True

    def _word(self) -> str:
        start = self._at
        while self._at < len(self._text) and (
            self._text[self._at].isalnum() or self._text[self._at] in "+-._"
        ):
            self._at += 1
        return self._text[start : self._at]

    def _value(self, wanted: str | None) -> Variant:
        char = self._peek()
        if char == "@":
            return self._value(self._signature())
        if char and char in "'\"":
            return self._as(wanted, "s", self._string(char))
        if char == "[":
            return self._array(wanted)
        if char == "(":
            return self._tuple(wanted)
        start = self._at
        word = self._word()
        if word in _TYPES and self._peek() not in ("", ",", "]", ")"):
            return self._value(_TYPES[word])
        if word in ("true", "false"):
            return self._as(wanted, "b", word == "true")
        number = _number(word)
        if number is None:
            self._at = start
            self._fail()
        if wanted is None:
            wanted = "d" if isinstance(number, float) else "i"
        elif wanted not in _NUMBERS:
            self._fail(f"{word} is not of type {wanted!r}")
        return self._as(wanted, wanted, number)

    def _signature(self) -> str:
        self._at += 1
        start = self._at
        while self._at < len(self._text) and not self._text[self._at].isspace():
            self._at += 1
        signature = self._text[start : self._at]
        if not signature or set(signature) - set("bynqiuxtdsoga()"):
            self._fail(f"{signature!r} is not a type that is known here")
        return signature

    def _as(self, wanted: str | None, found: str, value: Any) -> Variant:
        """The value, if it may have the type that was asked for."""
        if wanted in (None, found) or (found == "s" and wanted in ("o", "g")):
            signature = wanted or found
        else:
            self._fail(f"{value!r} is not of type {wanted!r}")
        if signature in _RANGES:
            low, high = _RANGES[signature]
            if not isinstance(value, int) or not low <= value <= high:
                self._fail(f"{value} does not fit into type {signature!r}")
        elif signature == "d":
            value = float(value)
        elif signature != found and found != "s":
            self._fail(f"{value!r} is not of type {signature!r}")
        return signature, value

    def _string(self, quote: str) -> str:
        self._at += 1
        parts: list[str] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            self._at += 1
            if char == quote:
                return self._sendable("".join(parts))
            if char == "\\":
                char = self._text[self._at : self._at + 1]
                self._at += 1
                if char and char in "uU":
                    parts.append(self._unicode(4 if char == "u" else 8))
                    continue
                char = _ESCAPES.get(char, char)
            parts.append(char)
        self._fail("the string does not end")

    def _sendable(self, text: str) -> str:
        if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text):
            self._fail("D-Bus has no such character")
        return text

    def _unicode(self, digits: int) -> str:
        text = self._text[self._at : self._at + digits]
        self._at += digits
        try:
            return chr(int(text, 16))
        except (ValueError, OverflowError):
            self._fail(f"{text!r} is not the number of a character")

    def _array(self, wanted: str | None) -> Variant:
        if wanted is not None and not wanted.startswith("a"):
            self._fail(f"an array is not of type {wanted!r}")
        self._at += 1
        # The first tells what all of them are, unless it was said before.
        element = wanted[1:] if wanted else None
        values: list[Any] = []
        while not self._ends("]", bool(values)):
            element, value = self._value(element)
            values.append(value)
        if element is None:
            self._fail("an empty array does not tell its type; write @as [], for example")
        return f"a{element}", values

    def _tuple(self, wanted: str | None) -> Variant:
        if wanted is not None:
            self._fail("the type of a tuple is told by what is in it")
        self._at += 1
        parts: list[Variant] = []
        while not self._ends(")", bool(parts)):
            parts.append(self._value(None))
        return f"({''.join(part for part, _ in parts)})", tuple(value for _, value in parts)

    def _ends(self, end: str, begun: bool) -> bool:
        """Whether a sequence is over; takes the comma where it is not."""
        if self._take(end):
            return True
        if begun and not self._take(","):
            self._fail()
        return self._take(end)


def _number(word: str) -> int | float | None:
    digits = word.lstrip("+-")
    try:
        if digits.lower().startswith("0x"):
            return int(word, 16)
        if len(digits) > 1 and digits.startswith("0") and digits.isdigit():
            return int(word, 8)
        return int(word) if digits.isdigit() else float(word) if digits[:1].isdigit() else None
    except ValueError:
        return None
