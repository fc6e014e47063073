"""What the kernel would do with a seccomp program: an interpreter of classic BPF, in a page.

Only the instructions that a filter may have (kernel/seccomp.c, seccomp_check_filter) and libseccomp
uses are here; another one fails the test. Source: man 2 seccomp, linux/filter.h.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

X86_64, X86, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
X32 = 0x40000000
KILL, KILL_PROCESS, TRAP, ERRNO = 0, 0x80000000, 0x30000, 0x50000
NOTIFY, TRACE, LOG, ALLOW = 0x7FC00000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000
EPERM, ENOSYS = 1, 38
WORD = 0xFFFFFFFF


class Call(NamedTuple):
    """A system call as the filter sees it."""

    number: int
    args: tuple[int, ...] = ()
    arch: int = X86_64

    def data(self) -> bytes:
        """``struct seccomp_data``."""
        args = (*self.args, 0, 0, 0, 0, 0, 0)[:6]
        return struct.pack("=IIQ6Q", self.number & WORD, self.arch, 0, *args)


def instructions(code: bytes) -> list[tuple[int, int, int, int]]:
    """``struct sock_filter``: code, jump if true, jump if false, value."""
    assert len(code) % 8 == 0
    return list(struct.iter_unpack("=HBBI", code))


def verdict(code: bytes, call: Call) -> int:
    """What the program returns for ``call``: an action, with its number in the low 16 bits."""
    data, program = call.data(), instructions(code)
    accumulator = place = 0
    while True:
        op, true, false, value = program[place]
        place += 1
        if op == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif op == 0x54:
            accumulator &= value
        elif op == 0x05:
            place += value
        elif op in (0x15, 0x25, 0x35, 0x45):
            held = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[op]
            place += true if held else false
        else:
            assert op == 0x06, f"instruction {place - 1}: {op:#x} is not expected in a filter"
            return value


def verdicts(code: bytes, calls: Sequence[Call]) -> list[int]:
    return [verdict(code, call) for call in calls]
