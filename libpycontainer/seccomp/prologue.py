"""ENOSYS for what is newer than the profile: a few instructions before libseccomp's own.

A C library tries a new system call first and falls back to an old one when the kernel does not
know it (ENOSYS). A profile that was written before the new call existed refuses it like one that
it means to refuse, mostly with EPERM, on which no library falls back. So numbers above the highest
that the profile names are answered as a kernel without them would.

runc has done so since 1.0.0-rc93 (its issue 2151), in filters of the same effect.
"""

from __future__ import annotations

from libpycontainer.seccomp.names import ACTIONS, ENOSYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Instruction = tuple[int, int, int, int]

# linux/bpf_common.h: what is loaded, compared and returned are words of 32 bits.
LOAD, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, RETURN = 0x20, 0x05, 0x15, 0x25, 0x35, 6
# struct seccomp_data: where the system call's number is, and where the architecture.
NUMBER, ARCHITECTURE = 0, 4

AUDIT_ARCH_X86_64 = 0xC000003E
SCMP_ARCH_X32 = 0x4000003E
S390 = (0x00000016, 0x80000016)
"""AUDIT_ARCH_S390 and AUDIT_ARCH_S390X."""
X32_BIT = 0x40000000
"""The kernel takes x32 for x86_64 whose numbers have this bit."""

ANSWER = (RETURN, 0, 0, ACTIONS["SCMP_ACT_ERRNO"] | ENOSYS)


def instructions(highest: Iterable[tuple[int, int]]) -> list[Instruction]:
    """The prologue. ``highest`` has each architecture (libseccomp's token) and its last number."""
    numbers: dict[int, dict[bool, int]] = {}
    for token, number in highest:
        x32 = token == SCMP_ARCH_X32
        numbers.setdefault(AUDIT_ARCH_X86_64 if x32 else token, {})[x32] = number
    if not numbers:
        return []
    sections: list[list[Instruction]] = []
    for token, limits in numbers.items():
        body = _x86_64(limits) if token == AUDIT_ARCH_X86_64 else _plain(token, limits[False])
        # The architecture stays loaded until it is found.
        sections.append([(JUMP_EQUAL, 0, len(body), token), *body])
    code: list[Instruction] = [(LOAD, 0, 0, ARCHITECTURE)]
    left = sum(len(section) for section in sections)
    for section in sections:
        for instruction in section:
            left -= 1
            # A jump leads to the filter proper, which begins where this ends.
            code.append((JUMP, 0, 0, left) if instruction[0] == JUMP else instruction)
    return code


def _limit(number: int) -> list[Instruction]:
    return [(JUMP_GREATER, 0, 1, number), ANSWER, (JUMP, 0, 0, 0)]


def _plain(token: int, number: int) -> list[Instruction]:
    body: list[Instruction] = [(LOAD, 0, 0, NUMBER)]
    if token in S390:
        # A number that is too large for the instruction, and unknown to the kernel, arrives as 0:
        # setup(2), which is long gone.
        body += [(JUMP_EQUAL, 0, 1, 0), ANSWER]
    return body + _limit(number)


def _x86_64(limits: dict[bool, int]) -> list[Instruction]:
    """Each of the two modes that are in the filter; the other one is refused by it anyway."""
    elsewhere: list[Instruction] = [(JUMP, 0, 0, 0)]
    x32 = _limit(limits[True]) if True in limits else elsewhere
    x86_64 = _limit(limits[False]) if False in limits else elsewhere
    return [(LOAD, 0, 0, NUMBER), (JUMP_GREATER_EQUAL, 0, len(x32), X32_BIT), *x32, *x86_64]
