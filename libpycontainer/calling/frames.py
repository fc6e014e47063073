"""What goes over the line to a function: a letter, a length of eight bytes, that many bytes."""

from __future__ import annotations

CALL = b"c"
"""To the function: a pickle of what is to be called, with which arguments."""

VALUE, PICKLE, EXCEPTION = b"v", b"p", b"e"
"""Back from it: a value as plain data, as a pickle, or an exception's description."""

HEADER = 9
MAX_EXCEPTION = 4 << 20
"""How many bytes the description of an exception may have."""


def head(kind: bytes, payload: bytes) -> bytes:
    return kind + len(payload).to_bytes(8, "little")


def parse(header: bytes | bytearray) -> tuple[bytes, int]:
    """The kind and the length that a header tells."""
    return bytes(header[:1]), int.from_bytes(header[1:HEADER], "little")
