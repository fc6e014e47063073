"""One command line, cut into flags and arguments as runc's parser cuts it.

runc uses urfave/cli over Go's ``flag`` package. Its clients rely on what follows from that: a long
flag may have one dash or two, a value follows after a space or ``=``, a boolean takes a value only
after ``=``, a flag may stand behind the arguments (``exec`` excepted, whose arguments are another
command's line), and ``--`` ends the flags.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Value = bool | str | int | float | list[str] | list[int]

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_INT_BITS = 63


class UsageError(Exception):
    """A command line that cannot be understood; the text is what runc says of it."""


class Flag:
    """One flag: ``kind`` is what its value is, and ``default`` what it is when not given.

    Kinds are "bool", "string", "int", "duration" (seconds), and the two that may be repeated,
    "strings" and "ints". A ``hidden`` one is taken, but no help names it.
    """

    __slots__ = ("default", "hidden", "kind", "name", "short", "usage")

    def __init__(
        self,
        name: str,
        usage: str,
        *,
        short: str = "",
        kind: str = "string",
        default: str | int = "",
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.short = short
        self.usage = usage
        self.kind = kind
        self.default = default
        self.hidden = hidden

    def unset(self) -> Value:
        """The value of the flag on a command line that does not give it."""
        match self.kind:
            case "bool":
                return False
            case "int" | "duration":
                return self.default or 0
            case "strings" | "ints":
                return []
            case _:
                return self.default


class Options:
    """The flags of one command line, by their long names."""

    __slots__ = ("_given", "_values")

    def __init__(self, flags: Iterable[Flag]) -> None:
        self._values: dict[str, Value] = {flag.name: flag.unset() for flag in flags}
        self._given: set[str] = set()

    def given(self, name: str) -> bool:
        """Was the flag on the command line at all, be it with its default value?"""
        return name in self._given

    def text(self, name: str) -> str:
        value = self._values[name]
        assert isinstance(value, str)
        return value

    def enabled(self, name: str) -> bool:
        value = self._values[name]
        assert isinstance(value, bool)
        return value

    def number(self, name: str) -> int:
        value = self._values[name]
        assert isinstance(value, int)
        return value

    def seconds(self, name: str) -> float:
        value = self._values[name]
        assert isinstance(value, int | float)
        return float(value)

    def texts(self, name: str) -> list[str]:
        """Every value of a repeatable flag, in the order given."""
        value = self._values[name]
        assert isinstance(value, list)
        return [item for item in value if isinstance(item, str)]

    def numbers(self, name: str) -> list[int]:
        """Every value of a repeatable number, in the order given."""
        value = self._values[name]
        assert isinstance(value, list)
        return [item for item in value if isinstance(item, int)]

    def store(self, flag: Flag, value: Value) -> None:
        held = self._values[flag.name]
        if isinstance(held, list) and isinstance(value, list):
            self._values[flag.name] = [*held, *value]
        else:
            self._values[flag.name] = value
        self._given.add(flag.name)


def parse(
    flags: Sequence[Flag], words: Sequence[str], *, interspersed: bool = True
) -> tuple[Options, list[str]]:
    """Cut ``words`` into the values of ``flags`` and the arguments that are left.

    With ``interspersed``, flags are also taken from behind the first argument; what looks like a
    flag there and is none is an argument (``kill ID -9``). Raises :class:`UsageError`.
    """
    known = {name: flag for flag in flags for name in (flag.name, flag.short) if name}
    options = Options(flags)
    arguments: list[str] = []
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        if word == "--":
            break
        if len(word) < 2 or word[0] != "-":
            arguments.append(word)
            if not interspersed:
                break
            continue
        name, equals, text = _split(word)
        flag = known.get(name)
        if flag is None:
            if not arguments:
                raise UsageError(f"flag provided but not defined: -{name}")
            arguments.append(word)
            continue
        if flag.kind != "bool" and not equals:
            if not rest:
                raise UsageError(f"flag needs an argument: -{name}")
            text = rest.pop()
        options.store(flag, _value(flag, name, text if equals or flag.kind != "bool" else "true"))
    arguments.extend(reversed(rest))
    return options, arguments


def _split(word: str) -> tuple[str, str, str]:
    """``--name=value`` as name, "=" or nothing, value."""
    name, equals, text = word[2 if word.startswith("--") else 1 :].partition("=")
    if not name or name[0] == "-":
        raise UsageError(f"bad flag syntax: {word}")
    return name, equals, text


def _value(flag: Flag, name: str, text: str) -> Value:
    """The value that ``text`` spells for ``flag``, which the command line calls ``name``."""
    match flag.kind:
        case "bool":
            if text in _TRUE or text in _FALSE:
                return text in _TRUE
            raise UsageError(f'invalid boolean value "{text}" for -{name}: parse error')
        case "int":
            return _integer(name, text)
        case "ints":
            return [_integer(name, text)]
        case "strings":
            return [text]
        case "duration":
            return _duration(name, text)
        case _:
            return text


def _integer(name: str, text: str) -> int:
    """A whole number as Go reads it: decimal, or with one of the prefixes 0x, 0o, 0b and 0."""
    digits = text.lstrip("+-")
    octal = len(digits) > 1 and digits[0] == "0" and digits[1:].isdigit()
    try:
        if not text.isascii() or text != text.strip():
            raise ValueError(text)
        number = int(text, 8) if octal else int(text, 0)
    except ValueError:
        raise UsageError(f'invalid value "{text}" for flag -{name}: parse error') from None
    if not -(1 << _INT_BITS) <= number < 1 << _INT_BITS:
        raise UsageError(f'invalid value "{text}" for flag -{name}: value out of range')
    return number


def _duration(name: str, text: str) -> float:
    """A duration as Go writes it, such as ``1m30s`` or ``1.5h``, in seconds."""
    wrong = UsageError(f'invalid value "{text}" for flag -{name}: parse error')
    left = text.removeprefix("-").removeprefix("+")
    if left == "0":
        return 0.0
    total, seen = 0.0, False
    while left:
        digits = len(left) - len(left.lstrip("0123456789."))
        unit = left[digits:][: len(left[digits:]) - len(left[digits:].lstrip("nuµmsh"))]
        try:
            total += float(left[:digits]) * _SECONDS[unit]
        except (KeyError, ValueError):
            raise wrong from None
        left, seen = left[digits + len(unit) :], True
    if not seen:
        raise wrong
    return -total if text.startswith("-") else total
