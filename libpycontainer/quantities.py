"""Sizes, durations and numbers of processors as people write them: every parameter's one reader.

``name`` is the parameter that an error speaks of.
"""

from __future__ import annotations

from libpycontainer.errors import ArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta

    Size = int | float | str
    Duration = int | float | str | timedelta

INFINITE = float("inf")
_BINARY = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def size(value: Size, name: str = "size") -> int:
    """``"256M"`` in bytes: K, M, G and T are powers of 1024, as the kernel reads them.

    A number is bytes; -1 is the kernel's word for "no limit". Raises :class:`ArgumentError`.
    """
    found: float | None = None
    if isinstance(value, str):
        found = _binary(value)
    elif isinstance(value, int | float) and value is not True and value is not False:
        found = value
    if found is None or not -1 <= found < 2**63:
        raise ArgumentError(
            f"{name}: invalid size {value!r}: give bytes, or a number with K, M, G or T",
            parameter=name,
            value=value,
        )
    return int(found)


def _binary(text: str) -> float | None:
    text = text.strip().lower()
    for ending in ("ib", "b"):
        text = text.removesuffix(ending)
    unit = text[-1:] if text[-1:].isalpha() else ""
    factor = 1 << _BINARY[unit] if unit in _BINARY else None
    number = text[: len(text) - len(unit)].strip()
    if factor is None or not number.isascii():
        return None
    try:
        # Whole numbers stay exact, however large.
        return int(number) * factor
    except ValueError:
        return _multiplied(number, factor)


def _multiplied(number: str, factor: float) -> float | None:
    try:
        return float(number) * factor
    except ValueError:
        return None


def duration(value: Duration, name: str = "timeout") -> float:
    """``"1.5s"``, ``"500ms"`` or ``"1h30m"`` in seconds; a number is seconds already.

    The units are us, ms, s, m (or min), h and d; a :class:`datetime.timedelta` is taken as well.
    Raises :class:`ArgumentError`, also for one that is negative or has no end.
    """
    found: float | None = None
    if isinstance(value, str):
        found = _seconds(value)
    elif isinstance(value, int | float) and value is not True and value is not False:
        found = float(value)
    elif hasattr(value, "total_seconds"):
        found = value.total_seconds()
    if found is None or not 0 <= found < INFINITE:
        raise ArgumentError(
            f"{name}: invalid duration {value!r}: give seconds, or text such as '10s', '500ms'",
            parameter=name,
            value=value,
        )
    return found


def _seconds(text: str) -> float | None:
    """The sum of the parts, each a number and a unit."""
    rest = text.strip().lower().replace("min", "m")
    total, found = 0.0, False
    while rest:
        digits = _leading(rest, "0123456789.")
        unit = _leading(rest[len(digits) :].lstrip(), "abcdefghijklmnopqrstuvwxyz")
        part = _multiplied(digits, _SECONDS[unit]) if unit in _SECONDS else None
        # A number without a unit stands alone: in "1h30" it would be anybody's guess.
        if part is None or (unit == "" and (found or rest != digits)):
            return None
        total, found = total + part, True
        rest = rest[len(digits) :].lstrip()[len(unit) :].lstrip()
    return total if found else None


def _leading(text: str, allowed: str) -> str:
    return text[: len(text) - len(text.lstrip(allowed))]


def processors(value: float, name: str = "cpus") -> float:
    """A number of processors: 1.5 is one and a half. Raises :class:`ArgumentError`."""
    number = isinstance(value, int | float) and value is not True and value is not False
    if not number or not 0 < value < INFINITE:
        raise ArgumentError(
            f"{name}: invalid number of processors {value!r}: give one above 0, such as 1.5",
            parameter=name,
            value=value,
        )
    return float(value)


def tasks(value: int, name: str = "pids") -> int:
    """A number of processes and threads; -1 is any. Raises :class:`ArgumentError`."""
    if not isinstance(value, int) or value is True or value is False or not -1 <= value < 2**63:
        raise ArgumentError(
            f"{name}: invalid number of tasks {value!r}: give a whole number, or -1 for any",
            parameter=name,
            value=value,
        )
    return value
