"""Plain data as bytes, and back from bytes that anybody may have made.

Each value is a letter and what it needs: numbers of 7 bits a byte (least first, the highest bit
says that more follow) count the bytes of a text or the items of a collection. Nothing in it names a
class, refers to another place or is executed. :func:`loads` takes any bytes at all: it returns
plain data or raises :class:`Malformed`, in memory and time that its limits bound.
"""

from __future__ import annotations

import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_DEPTH = 200
PLAIN = (
    "None, bool, int, float, complex, str, bytes, bytearray, tuple, list, dict, set and frozenset"
)
_LONGEST_NUMBER = 9
_PORTION = 64
_PATIENCE = 1.0
_PATIENCE_PER_BYTE = 1e-7
_POINTER = 8


class Malformed(ValueError):  # noqa: N818 - about bytes; whoever sent them has made the error
    """These bytes are not plain data, or more of it than is allowed."""


# ---- to bytes --------------------------------------------------------------------------------


def dumps(value: object, *, limit: int | None = None, name: str = "result") -> bytes:
    """Plain data as bytes.

    Raises ``TypeError`` that says what cannot cross and where in ``name`` it lies, ``ValueError``
    for what lies too deep or takes more than ``limit`` bytes.
    """
    out = bytearray()
    try:
        _put(out, value, 0, sys.maxsize if limit is None else limit)
    except _CannotCross as problem:
        where, found = _find(value, name, 0)
        if found is None:
            raise ValueError(f"{name} {problem}") from None
        kind = type(found)
        described = kind.__qualname__ if kind.__module__ == "builtins" else _full_name(kind)
        raise TypeError(
            f"{where} is of type {described}, which cannot leave the container: only {PLAIN} can"
        ) from None
    return bytes(out)


class _CannotCross(Exception):  # noqa: N818 - never leaves this module
    pass


def _put(out: bytearray, value: Any, depth: int, limit: int) -> None:
    put = _WRITERS.get(type(value))
    if put is not None:
        put(out, value)
    elif type(value) in _COLLECTIONS:
        if depth == MAX_DEPTH:
            raise _CannotCross(f"is nested more than {MAX_DEPTH} deep, or contains itself")
        out += _COLLECTIONS[type(value)]
        _put_number(out, len(value))
        if type(value) is dict:
            for key, item in value.items():
                _put(out, key, depth + 1, limit)
                _put(out, item, depth + 1, limit)
        else:
            for item in value:
                _put(out, item, depth + 1, limit)
    else:
        raise _CannotCross
    if len(out) > limit:
        raise _CannotCross(f"takes more than {limit} bytes (see max_result)")


def _put_number(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _put_sized(letter: bytes) -> Callable[[bytearray, Any], None]:
    def put(out: bytearray, data: bytes) -> None:
        out += letter
        _put_number(out, len(data))
        out += data

    return put


def _put_int(out: bytearray, value: int) -> None:
    _put_sized(b"i")(out, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


def _put_text(out: bytearray, value: str) -> None:
    _put_sized(b"s")(out, value.encode("utf-8", "surrogatepass"))


def _put_float(out: bytearray, value: float) -> None:
    out += b"f" + struct.pack("<d", value)


def _put_complex(out: bytearray, value: complex) -> None:
    out += b"c" + struct.pack("<dd", value.real, value.imag)


_WRITERS: dict[type, Callable[[bytearray, Any], None]] = {
    type(None): lambda out, _: out.extend(b"N"),
    bool: lambda out, value: out.extend(b"T" if value else b"F"),
    int: _put_int,
    float: _put_float,
    complex: _put_complex,
    str: _put_text,
    bytes: _put_sized(b"b"),
    bytearray: _put_sized(b"B"),
}
_COLLECTIONS: dict[type, bytes] = {tuple: b"t", list: b"l", dict: b"d", set: b"e", frozenset: b"z"}


def _find(value: Any, name: str, depth: int) -> tuple[str, Any]:
    """Where the first thing lies that is not plain data, and it; ``None`` for no such thing."""
    if type(value) in _WRITERS or depth > MAX_DEPTH:
        return name, None
    if type(value) not in _COLLECTIONS:
        return name, value
    items = value.items() if type(value) is dict else enumerate(value)
    ordered = type(value) in (tuple, list, dict)
    for key, item in items:
        if type(value) is dict:
            where, found = _find(key, f"a key of {name}", depth + 1)
            if found is not None:
                return where, found
        inner = f"{name}[{_short(key)}]" if ordered else f"an item of {name}"
        where, found = _find(item, inner, depth + 1)
        if found is not None:
            return where, found
    return name, None


def _short(key: object) -> str:
    text = repr(key)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


# ---- from bytes ------------------------------------------------------------------------------


def loads(data: bytes | bytearray, *, room: int) -> Any:
    """The value that ``data`` stands for; ``room`` is the memory that it may take, in bytes.

    Raises :class:`Malformed` for everything that :func:`dumps` would not have written.
    """
    return _Reader(data, room).read()


class _Reader:
    """No recursion: how deep the data goes must not depend on how deep the caller stands."""

    def __init__(self, data: bytes | bytearray, room: int) -> None:
        self.data = bytes(data)
        self.position = 0
        self.room = room
        self.limit = room
        self.patience = _PATIENCE + _PATIENCE_PER_BYTE * len(data)

    def read(self) -> Any:
        open_: list[tuple[int, int, list[Any]]] = []
        while True:
            letter = self.take(1)[0]
            if letter in _SCALARS:
                value = _SCALARS[letter](self)
            elif letter in _BUILDERS:
                wanted = self.count(2 if letter == _DICT else 1)
                if len(open_) == MAX_DEPTH:
                    raise Malformed(f"nested more than {MAX_DEPTH} deep")
                if wanted:
                    open_.append((letter, wanted, []))
                    continue
                value = _BUILDERS[letter](self, [])
            else:
                raise Malformed(f"no value begins with the byte {letter:#04x}")
            self.charge(value)
            while open_:
                letter, wanted, items = open_[-1]
                items.append(value)
                if len(items) < wanted:
                    break
                open_.pop()
                value = _BUILDERS[letter](self, items)
                self.charge(value)
            else:
                if self.position != len(self.data):
                    raise Malformed(f"{len(self.data) - self.position} bytes follow the value")
                return value

    def charge(self, value: object) -> None:
        self.room -= sys.getsizeof(value) + _POINTER
        if self.room < 0:
            raise Malformed(f"it takes more than {self.limit} bytes of memory (see max_result)")

    def take(self, size: int) -> bytes:
        piece = self.data[self.position : self.position + size]
        if len(piece) < size:
            raise Malformed("it is cut short")
        self.position += size
        return piece

    def number(self) -> int:
        found = 0
        for shift in range(0, 7 * _LONGEST_NUMBER, 7):
            byte = self.take(1)[0]
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                return found
        raise Malformed("a number has no end")

    def count(self, each: int) -> int:
        """How many values follow, each of which takes a byte at least."""
        wanted = self.number() * each
        if wanted > len(self.data) - self.position:
            raise Malformed("it is cut short")
        return wanted

    def sized(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        try:
            return self.sized().decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise Malformed(f"a text is not UTF-8: {error.reason}") from None

    def collect(self, target: Any, items: list[Any], size: int) -> Any:
        """Fill a dict (``items`` are pairs) or set, as long as that takes a plausible time.

        The hashes of numbers are known beforehand: keys that all collide would take for ever.
        """
        for first in range(0, size, _PORTION):
            began = time.thread_time()
            try:
                target.update(items[first : first + _PORTION])
            except TypeError:
                raise Malformed("what is mutable cannot be a key, or in a set") from None
            self.patience -= time.thread_time() - began
            if self.patience < 0:
                raise Malformed("its keys collide on purpose")
        if len(target) != size:
            raise Malformed("a key, or an item of a set, is there twice")
        return target


def _build_dict(reader: _Reader, items: list[Any]) -> dict[Any, Any]:
    pairs = list(zip(items[0::2], items[1::2], strict=True))
    return reader.collect({}, pairs, len(pairs))  # type: ignore[no-any-return]


def _build_set(reader: _Reader, items: list[Any]) -> set[Any]:
    return reader.collect(set(), items, len(items))  # type: ignore[no-any-return]


_SCALARS: dict[int, Callable[[_Reader], Any]] = {
    ord("N"): lambda reader: None,
    ord("T"): lambda reader: True,
    ord("F"): lambda reader: False,
    ord("i"): lambda reader: int.from_bytes(reader.sized(), "little", signed=True),
    ord("f"): lambda reader: struct.unpack("<d", reader.take(8))[0],
    ord("c"): lambda reader: complex(*struct.unpack("<dd", reader.take(16))),
    ord("s"): _Reader.text,
    ord("b"): _Reader.sized,
    ord("B"): lambda reader: bytearray(reader.sized()),
}
_BUILDERS: dict[int, Callable[[_Reader, list[Any]], Any]] = {
    ord("t"): lambda reader, items: tuple(items),
    ord("l"): lambda reader, items: items,
    ord("d"): _build_dict,
    ord("e"): _build_set,
    ord("z"): lambda reader, items: frozenset(_build_set(reader, items)),
}
_DICT = ord("d")
