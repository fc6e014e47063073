"""A profile becomes a BPF program, by libseccomp, under the rules that runc has set.

* The native architecture is always in the filter, listed or not.
* A rule whose action is the default one is skipped.
* A system call that libseccomp does not know is skipped.
* Several conditions on one argument are alternatives: each becomes a rule. All others must hold.
"""

from __future__ import annotations

import os
import sys

from libpycontainer import syscalls as sys_
from libpycontainer.errors import Problem, SpecError
from libpycontainer.seccomp import prologue
from libpycontainer.seccomp._libseccomp import ffi
from libpycontainer.seccomp.library import library, version
from libpycontainer.seccomp.names import ENOSYS, OPERATORS, PERMISSIVE, action

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from libpycontainer.seccomp.prologue import Instruction

HERE = "$.linux.seccomp"
MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS: what the kernel takes as one filter."""

CTL_OPTIMIZE, BINARY_TREE = 8, 2
MANY_NAMES = 32
EEXIST = 17
UNKNOWN = -1


class Compiled:
    """``code`` is an array of ``struct sock_filter``; ``unknown`` are names that mean nothing."""

    __slots__ = ("code", "unknown")

    def __init__(self, code: bytes, unknown: list[str]) -> None:
        self.code = code
        self.unknown = unknown


def compile(section: Mapping[str, Any]) -> Compiled:
    """Compile ``linux.seccomp``.

    Raises :class:`SpecError` for what libseccomp refuses, with the place in the profile, and
    :class:`UnsupportedError` where there is no libseccomp.
    """
    lib = library()
    default = action(section["defaultAction"], section.get("defaultErrnoRet"))
    pointer = lib.seccomp_init(default)
    if pointer == ffi.NULL:
        _refuse("defaultAction", f"libseccomp {version()} does not take it")
    try:
        tokens = _add_architectures(pointer, section)
        unknown = _add_rules(pointer, section, default)
        code = _export(pointer)
    finally:
        lib.seccomp_release(pointer)
    before = _pack(prologue.instructions(_highest(section, tokens)))
    count = (len(before) + len(code)) // 8
    if count > MAX_INSTRUCTIONS:
        message = f"it makes {count} instructions, and the kernel takes {MAX_INSTRUCTIONS}"
        raise SpecError([Problem(HERE, message)])
    return Compiled(before + code, unknown)


def _refuse(place: str, message: str) -> None:
    raise SpecError([Problem(f"{HERE}.{place}", message)])


def _add_architectures(pointer: Any, section: Mapping[str, Any]) -> list[int]:
    """The tokens of every architecture in the filter, the native one first."""
    lib = library()
    tokens = [int(lib.seccomp_arch_native())]
    for index, name in enumerate(section.get("architectures") or ()):
        place = f"architectures[{index}]"
        token = int(lib.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode()))
        if token == 0:
            _refuse(place, f"libseccomp {version()} does not know {name}")
        error = -lib.seccomp_arch_add(pointer, token)
        if error and error != EEXIST:
            # EDOM: its byte order is not that of the others.
            _refuse(place, f"libseccomp cannot add {name}: {os.strerror(error)}")
        if token not in tokens:
            tokens.append(token)
    return tokens


def _add_rules(pointer: Any, section: Mapping[str, Any], default: int) -> list[str]:
    lib = library()
    rules = section.get("syscalls") or ()
    if sum(len(rule["names"]) for rule in rules) > MANY_NAMES:
        # Fewer comparisons for each system call. Not before 2.5, and nothing is lost there.
        lib.seccomp_attr_set(pointer, CTL_OPTIMIZE, BINARY_TREE)
    unknown = []
    for index, rule in enumerate(rules):
        verdict = action(rule["action"], rule.get("errnoRet"))
        if verdict == default:
            continue
        conditions = list(_alternatives(rule.get("args") or ()))
        for position, name in enumerate(rule["names"]):
            number = lib.seccomp_syscall_resolve_name(name.encode())
            if number == UNKNOWN:
                unknown.append(name)
                continue
            for count, compared in conditions:
                error = -lib.seccomp_rule_add_array(pointer, verdict, number, count, compared)
                if error:
                    _refuse_rule(f"syscalls[{index}].names[{position}]", name, error)
    return unknown


def _refuse_rule(place: str, name: str, error: int) -> None:
    reason = os.strerror(error)
    if error == EEXIST:
        reason = "another rule gives the same calls another action"
    _refuse(place, f"libseccomp {version()} refuses this rule for {name}: {reason}")


def _alternatives(args: Any) -> Iterator[tuple[int, Any]]:
    """The conditions of each rule that a rule of the profile stands for."""
    indexes = [arg["index"] for arg in args]
    groups = [[arg] for arg in args] if len(set(indexes)) < len(indexes) else [list(args)]
    for group in groups:
        compared = ffi.new("struct scmp_arg_cmp[]", len(group))
        for place, arg in zip(compared, group, strict=True):
            # For MASKED_EQ the value is the mask, and valueTwo what must be left under it.
            place.arg, place.op = arg["index"], OPERATORS[arg["op"]]
            place.datum_a, place.datum_b = arg["value"], arg.get("valueTwo") or 0
        yield len(group), compared


def _export(pointer: Any) -> bytes:
    with sys_.memfd("seccomp") as memory:
        error = -library().seccomp_export_bpf(pointer, memory.fileno())
        if error:
            raise SpecError([Problem(HERE, f"libseccomp cannot compile it: {os.strerror(error)}")])
        size = os.fstat(memory.fileno()).st_size
        return os.pread(memory.fileno(), size, 0)


def _highest(section: Mapping[str, Any], tokens: list[int]) -> Iterator[tuple[int, int]]:
    """Each architecture with the highest number that the profile names; none where it is not due.

    Rules count whatever their action is: who names a system call knows it.
    """
    number = section.get("defaultErrnoRet")
    if section["defaultAction"] in PERMISSIVE or number == ENOSYS:
        return
    lib = library()
    names = {name.encode() for rule in section.get("syscalls") or () for name in rule["names"]}
    for token in tokens:
        resolve = lib.seccomp_syscall_resolve_name_arch
        # Negative: unknown, or a call that this architecture has only by another one.
        found = max((resolve(token, name) for name in names), default=0)
        if found > 0:
            yield token, found


def _pack(instructions: list[Instruction]) -> bytes:
    order = sys.byteorder
    return b"".join(
        code.to_bytes(2, order) + bytes((true, false)) + value.to_bytes(4, order)
        for code, true, false, value in instructions
    )
