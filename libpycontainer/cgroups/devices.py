"""PURE: ``linux.resources.devices`` as an eBPF program (v2) and as v1's exceptions.

The last rule that matches decides, for each of read, write and mknod by itself; what no rule
matches is denied. An access that asks for several (open for reading and writing) needs all.
Sources: runtime-spec config-linux.md#allowed-device-list; kernel bpf/prog_cgroup_device,
admin-guide/cgroup-v1/devices; runc's specconv for the rules every container has.
"""

from __future__ import annotations

import struct

from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from libpycontainer.spec.models import LinuxDeviceCgroup

    # kind, major, minor; None stands for every number
    Node = tuple[str, int | None, int | None]

# linux/bpf.h: BPF_DEVCG_ACC_*, BPF_DEVCG_DEV_*
MKNOD, READ, WRITE = 1, 2, 4
ALL = MKNOD | READ | WRITE
BLOCK, CHAR = 1, 2
_KINDS = {"b": BLOCK, "c": CHAR}
_LETTERS = (("r", READ), ("w", WRITE), ("m", MKNOD))
_FIELD = "$.linux.resources.devices"


class Rule:
    """One rule; ``kind`` is ``a`` (both kinds), ``b`` or ``c``, a number of ``None`` is every one.

    ``field`` is the JSON path of the rule in the config, empty for those every container has.
    """

    __slots__ = ("access", "allow", "field", "kind", "major", "minor")

    def __init__(
        self,
        allow: bool,
        kind: str,
        major: int | None,
        minor: int | None,
        access: int,
        field: str = "",
    ) -> None:
        self.allow = allow
        self.kind = kind
        self.major = major
        self.minor = minor
        self.access = access
        self.field = field

    @property
    def everything(self) -> bool:
        return self.kind == "a" and self.access == ALL and self.major is self.minor is None

    def __repr__(self) -> str:
        node = spell((self.kind, self.major, self.minor), self.access)
        return f"{'allow' if self.allow else 'deny'} {node}"


# What runc allows in every container, after the config's own rules: to make any node (using it
# is another matter), null, random, full, tty, zero, urandom, the ptys and ptmx.
ALWAYS = (
    Rule(True, "c", None, None, MKNOD),
    Rule(True, "b", None, None, MKNOD),
    *(Rule(True, "c", 1, minor, ALL) for minor in (3, 8, 7)),
    Rule(True, "c", 5, 0, ALL),
    *(Rule(True, "c", 1, minor, ALL) for minor in (5, 9)),
    Rule(True, "c", 136, None, ALL),
    Rule(True, "c", 5, 2, ALL),
    # /dev/net/tun: runc took it away in 1.2.0 and, as VPN containers broke, gave it back in 1.2.4.
    Rule(True, "c", 10, 200, ALL),
)


def rules(configured: Sequence[LinuxDeviceCgroup] | None) -> list[Rule]:
    """The config's rules in their order, then those every container has."""
    found = [_rule(device, f"{_FIELD}[{index}]") for index, device in enumerate(configured or ())]
    return [*found, *ALWAYS]


def _rule(device: LinuxDeviceCgroup, field: str) -> Rule:
    kind = device.type or "a"
    if kind not in ("a", "b", "c"):
        raise CgroupError(f"{field}.type: {kind!r} is not one of a, b, c", op="apply", path=field)
    if not device.access:
        raise CgroupError(f"{field}.access: is empty; some of r, w, m", op="apply", path=field)
    access = 0
    for letter in device.access:
        bit = dict(_LETTERS).get(letter)
        if bit is None:
            raise CgroupError(
                f"{field}.access: {letter!r} is not one of r, w, m", op="apply", path=field
            )
        access |= bit
    return Rule(
        bool(device.allow), kind, _number(device.major), _number(device.minor), access, field
    )


def _number(value: int | None) -> int | None:
    """Go programs write -1 for "every number"."""
    return None if value is None or value < 0 else value


def allow_everything(ordered: Sequence[Rule]) -> bool:
    """Whether nothing at all is denied."""
    for rule in reversed(ordered):
        if rule.everything or not rule.allow:
            return rule.allow
    return False


def spell(node: Node, access: int) -> str:
    """``c 1:3 rwm``, as devices.allow and devices.deny want it."""
    kind, major, minor = node
    numbers = ":".join("*" if part is None else str(part) for part in (major, minor))
    return f"{kind} {numbers} {''.join(letter for letter, bit in _LETTERS if access & bit)}"


# --- eBPF (cgroup v2) ------------------------------------------------------------------------

_R0, _R1, _R2, _R3, _R4, _R5 = range(6)
_TYPE, _ACCESS, _MAJOR, _MINOR = _R2, _R3, _R4, _R5

_LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOVE = 0xB4  # BPF_ALU | BPF_MOV | BPF_K
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_SHIFT_RIGHT = 0x74  # BPF_ALU | BPF_RSH | BPF_K
_JUMP = 0x05  # BPF_JMP | BPF_JA
# 32-bit comparisons (Linux 5.1): the numbers are u32, and 64-bit ones extend the sign.
_JUMP_IF_NOT_EQUAL = 0x56  # BPF_JMP32 | BPF_JNE | BPF_K
_JUMP_IF_ANY_BIT = 0x46  # BPF_JMP32 | BPF_JSET | BPF_K
_EXIT = 0x95  # BPF_JMP | BPF_EXIT


def _instruction(
    code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0
) -> bytes:
    return struct.pack("<BBhI", code, target | source << 4, offset, value & 0xFFFFFFFF)


def _answer(allow: bool) -> list[bytes]:
    return [_instruction(_MOVE, _R0, value=int(allow)), _instruction(_EXIT)]


def program(ordered: Iterable[Rule]) -> bytes:
    """The rules as a BPF_PROG_TYPE_CGROUP_DEVICE program: r0 is 1 to allow, 0 to deny.

    Walks the rules from the last to the first. R3 holds what of the requested access no rule has
    decided yet: an allow rule clears its bits and is done when none is left, a deny rule that
    meets one of them ends it.
    """
    code = [
        # struct bpf_cgroup_dev_ctx { u32 access_type /* access << 16 | type */, major, minor }
        _instruction(_LOAD_WORD, _TYPE, _R1, 0),
        _instruction(_AND, _TYPE, value=0xFFFF),
        _instruction(_LOAD_WORD, _ACCESS, _R1, 0),
        _instruction(_SHIFT_RIGHT, _ACCESS, value=16),
        _instruction(_LOAD_WORD, _MAJOR, _R1, 4),
        _instruction(_LOAD_WORD, _MINOR, _R1, 8),
    ]
    default = False
    for rule in reversed(list(ordered)):
        if rule.everything:
            default = rule.allow
            break
        code += _block(rule)
    return b"".join(code + _answer(default))


def _block(rule: Rule) -> list[bytes]:
    tests = []
    if rule.kind != "a":
        tests.append((_TYPE, _KINDS[rule.kind]))
    if rule.major is not None:
        tests.append((_MAJOR, rule.major))
    if rule.minor is not None:
        tests.append((_MINOR, rule.minor))
    verdict = _verdict(rule)
    # Each test jumps over the tests after it and over the verdict.
    after = [len(tests) - index - 1 + len(verdict) for index in range(len(tests))]
    return [
        _instruction(_JUMP_IF_NOT_EQUAL, register, offset=offset, value=value)
        for (register, value), offset in zip(tests, after, strict=True)
    ] + verdict


def _verdict(rule: Rule) -> list[bytes]:
    if rule.access == ALL:
        return _answer(rule.allow)
    if rule.allow:
        return [
            _instruction(_AND, _ACCESS, value=~rule.access),
            _instruction(_JUMP_IF_NOT_EQUAL, _ACCESS, offset=2, value=0),
            *_answer(True),
        ]
    return [
        _instruction(_JUMP_IF_ANY_BIT, _ACCESS, offset=1, value=rule.access),
        _instruction(_JUMP, offset=2),
        *_answer(False),
    ]


# --- exceptions (cgroup v1) ------------------------------------------------------------------


class Exceptions:
    """The state of a v1 devices group: a default, and the accesses that are excepted from it."""

    __slots__ = ("allow_by_default", "nodes")

    def __init__(self, allow_by_default: bool, nodes: dict[Node, int] | None = None) -> None:
        self.allow_by_default = allow_by_default
        self.nodes = {} if nodes is None else nodes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Exceptions):
            return NotImplemented
        mine = (self.allow_by_default, self.nodes)
        return mine == (other.allow_by_default, other.nodes)

    __hash__ = None  # type: ignore[assignment]


def exceptions(ordered: Iterable[Rule]) -> Exceptions:
    """The v1 state that decides as the rules do.

    Raises CgroupError for a rule that would cut a hole into a wider one before it: the kernel
    keeps a list of exceptions from one default and would ignore such a rule silently.
    """
    state = Exceptions(False)
    for rule in ordered:
        if rule.everything:
            state = Exceptions(rule.allow)
            continue
        for kind in ("b", "c") if rule.kind == "a" else (rule.kind,):
            node = (kind, rule.major, rule.minor)
            if rule.allow == state.allow_by_default:
                _cut(state, node, rule)
            else:
                state.nodes[node] = state.nodes.get(node, 0) | rule.access
    return state


def _cut(state: Exceptions, node: Node, rule: Rule) -> None:
    for other, access in list(state.nodes.items()):
        if not access & rule.access or not _meet(node, other):
            continue
        if not _covers(node, other):
            raise CgroupError(
                f"{rule.field or _FIELD}: cgroup v1 cannot {rule!r} inside of the wider rule"
                f" for {spell(other, access)}",
                op="apply",
                path=rule.field,
            )
        left = access & ~rule.access
        if left:
            state.nodes[other] = left
        else:
            del state.nodes[other]


def _meet(one: Node, other: Node) -> bool:
    return one[0] == other[0] and all(
        a is None or b is None or a == b for a, b in zip(one[1:], other[1:], strict=True)
    )


def _covers(wide: Node, narrow: Node) -> bool:
    return all(a is None or a == b for a, b in zip(wide[1:], narrow[1:], strict=True))


_known: tuple[str, Exceptions] = ("", Exceptions(False))
"""The last list that was parsed: most containers of a program have the same."""


def parse_list(text: str) -> Exceptions:
    """The state that a group's devices.list tells, which is not to be changed.

    With a default of allow the kernel tells nothing of the exceptions.
    """
    global _known
    if _known[0] != text:
        _known = (text, _parse_list(text))
    return _known[1]


def _parse_list(text: str) -> Exceptions:
    nodes: dict[Node, int] = {}
    for line in text.splitlines():
        kind, numbers, letters = line.split()
        if kind == "a":
            return Exceptions(True)
        major, minor = (None if part == "*" else int(part) for part in numbers.split(":"))
        access = sum(bit for letter, bit in _LETTERS if letter in letters)
        node = (kind, major, minor)
        nodes[node] = nodes.get(node, 0) | access
    return Exceptions(False, nodes)


def transition(now: Exceptions, wanted: Exceptions) -> list[tuple[str, list[str]]]:
    """The writes that lead from one state to the other: files, in order, with their values.

    What is allowed before and after stays allowed in between: a running container sees no
    spurious EPERM unless the default itself has to change.
    """
    writes: list[tuple[str, list[str]]] = []
    add, drop = "devices.allow", "devices.deny"
    if wanted.allow_by_default:
        add, drop = drop, add
    old = now.nodes
    if now.allow_by_default or wanted.allow_by_default:
        # What is excepted from "allow" cannot be read back, so it is always set afresh.
        writes.append((drop, ["a *:* rwm"]))
        old = {}
    gained = {node: access & ~old.get(node, 0) for node, access in wanted.nodes.items()}
    lost = {node: access & ~wanted.nodes.get(node, 0) for node, access in old.items()}
    for file, nodes in ((add, gained), (drop, lost)):
        values = [spell(node, access) for node, access in nodes.items() if access]
        if values:
            writes.append((file, values))
    return writes
