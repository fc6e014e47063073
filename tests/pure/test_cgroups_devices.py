"""Device rules: the eBPF program, run in a small machine, and v1's exceptions, against a model."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libpycontainer.cgroups import devices
from libpycontainer.cgroups.devices import ALL, MKNOD, READ, WRITE, Rule
from libpycontainer.errors import CgroupError
from libpycontainer.spec.models import LinuxDeviceCgroup

NUMBERS = (0, 1, 2, 0x8000_0000, 0xFFFF_FFFF)
kinds = st.sampled_from("bc")
numbers = st.sampled_from(NUMBERS)
accesses = st.integers(1, ALL)
rules = st.builds(
    Rule,
    st.booleans(),
    st.sampled_from("abc"),
    st.none() | numbers,
    st.none() | numbers,
    accesses,
)


def model(ordered: Sequence[Rule], kind: str, major: int, minor: int, access: int) -> bool:
    """The last rule that matches decides, for each bit by itself; no match is a denial."""
    for bit in (READ, WRITE, MKNOD):
        if not access & bit:
            continue
        decided = False
        for rule in ordered:
            if (
                rule.kind in ("a", kind)
                and rule.major in (None, major)
                and rule.minor in (None, minor)
                and rule.access & bit
            ):
                decided = rule.allow
        if not decided:
            return False
    return True


def run(program: bytes, kind: str, major: int, minor: int, access: int) -> bool:
    """Interpret the program as the kernel would; refuses what its verifier would refuse."""
    context = struct.pack("<III", access << 16 | {"b": 1, "c": 2}[kind], major, minor)
    code = list(struct.iter_unpack("<BBhI", program))
    registers: dict[int, int] = {}
    position = 0
    while True:
        operation, both, offset, value = code[position]
        target, source = both & 15, both >> 4
        position += 1
        if operation == 0x61:
            assert source == 1
            assert offset % 4 == 0
            (registers[target],) = struct.unpack_from("<I", context, offset)
        elif operation == 0xB4:
            registers[target] = value
        elif operation == 0x54:
            registers[target] &= value
        elif operation == 0x74:
            registers[target] >>= value
        elif operation == 0x05:
            assert offset >= 0
            position += offset
        elif operation == 0x56:
            assert offset >= 0
            position += offset if registers[target] != value else 0
        elif operation == 0x46:
            assert offset >= 0
            position += offset if registers[target] & value else 0
        else:
            assert operation == 0x95
            assert registers[0] in (0, 1)
            return bool(registers[0])


@given(st.lists(rules, max_size=8), kinds, numbers, numbers, accesses)
def test_the_program_decides_as_the_rules_do(
    ordered: list[Rule], kind: str, major: int, minor: int, access: int
) -> None:
    decision = run(devices.program(ordered), kind, major, minor, access)
    assert decision == model(ordered, kind, major, minor, access)


@given(st.lists(rules, max_size=8), kinds, numbers, numbers, accesses)
def test_v1_exceptions_never_allow_more_than_the_rules(
    ordered: list[Rule], kind: str, major: int, minor: int, access: int
) -> None:
    try:
        state = devices.exceptions(ordered)
    except CgroupError:
        return
    wanted = model(ordered, kind, major, minor, access)
    assert kernel_v1(state, kind, major, minor, access) <= wanted
    if access in (READ, WRITE, MKNOD):
        assert kernel_v1(state, kind, major, minor, access) == wanted


def kernel_v1(state: devices.Exceptions, kind: str, major: int, minor: int, access: int) -> bool:
    """security/device_cgroup.c: one exception has to cover it all, or touch any of it."""
    met = [
        mask & access
        for (node_kind, node_major, node_minor), mask in state.nodes.items()
        if node_kind == kind and node_major in (None, major) and node_minor in (None, minor)
    ]
    return not any(met) if state.allow_by_default else access in met


@given(st.lists(rules, max_size=6), st.lists(rules, max_size=6))
def test_v1_transition_reaches_the_wanted_state(before: list[Rule], after: list[Rule]) -> None:
    try:
        now, wanted = devices.exceptions(before), devices.exceptions(after)
    except CgroupError:
        return
    default, nodes = now.allow_by_default, dict(now.nodes)
    writes = devices.transition(now, wanted)
    for file, value in [(file, value) for file, values in writes for value in values]:
        kind, spelled, letters = value.split()
        if kind == "a":
            default, nodes = file == "devices.allow", {}
            continue
        major, minor = (None if part == "*" else int(part) for part in spelled.split(":"))
        node = (kind, major, minor)
        access = sum(bit for letter, bit in devices._LETTERS if letter in letters)
        adds = (file == "devices.allow") != default
        left = nodes.get(node, 0) | access if adds else nodes.get(node, 0) & ~access
        nodes[node] = left
    assert default == wanted.allow_by_default
    assert {node: access for node, access in nodes.items() if access} == wanted.nodes


def configured(*entries: LinuxDeviceCgroup) -> list[Rule]:
    return devices.rules(entries)


def test_every_container_has_the_usual_devices() -> None:
    program = devices.program(configured(LinuxDeviceCgroup(allow=False, access="rwm")))
    for minor in (3, 5, 7, 8, 9):
        assert run(program, "c", 1, minor, READ | WRITE)
    for major, minor in ((5, 0), (5, 2), (136, 0), (136, 99)):
        assert run(program, "c", major, minor, ALL)
    assert run(program, "b", 8, 0, MKNOD)
    assert not run(program, "b", 8, 0, READ)
    assert not run(program, "c", 1, 1, READ)
    assert not run(program, "c", 1, 1, READ | MKNOD)


def test_without_any_rule_the_usual_devices_are_all() -> None:
    assert [repr(rule) for rule in devices.rules(None)] == [
        "allow c *:* m",
        "allow b *:* m",
        "allow c 1:3 rwm",
        "allow c 1:8 rwm",
        "allow c 1:7 rwm",
        "allow c 5:0 rwm",
        "allow c 1:5 rwm",
        "allow c 1:9 rwm",
        "allow c 136:* rwm",
        "allow c 5:2 rwm",
        "allow c 10:200 rwm",
    ]


def test_a_privileged_container_may_use_everything() -> None:
    ordered = configured(LinuxDeviceCgroup(allow=True, access="rwm"))
    assert devices.allow_everything(ordered)
    assert run(devices.program(ordered), "b", 8, 0, ALL)
    assert devices.exceptions(ordered) == devices.Exceptions(True)
    assert not devices.allow_everything(devices.rules(None))


def test_negative_numbers_are_wildcards() -> None:
    entry = LinuxDeviceCgroup(allow=True, type="c", major=-1, minor=-1, access="r")
    assert repr(devices.rules([entry])[0]) == "allow c *:* r"


def test_type_a_with_numbers_means_both_kinds_not_everything() -> None:
    ordered = configured(LinuxDeviceCgroup(allow=True, type="a", major=7, minor=1, access="rw"))
    program = devices.program(ordered)
    assert run(program, "b", 7, 1, READ | WRITE)
    assert run(program, "c", 7, 1, READ)
    assert not run(program, "b", 7, 2, READ)
    nodes = devices.exceptions(ordered).nodes
    assert nodes["b", 7, 1] == nodes["c", 7, 1] == READ | WRITE


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (LinuxDeviceCgroup(allow=True), r"devices\[0\]\.access: is empty"),
        (LinuxDeviceCgroup(allow=True, access="rx"), r"devices\[0\]\.access: 'x'"),
        (LinuxDeviceCgroup(allow=True, type="p", access="r"), r"devices\[0\]\.type: 'p'"),
    ],
)
def test_a_rule_of_the_wrong_shape_is_named(entry: LinuxDeviceCgroup, problem: str) -> None:
    with pytest.raises(CgroupError, match=problem):
        devices.rules([entry])


def test_v1_refuses_a_hole_in_a_wider_rule() -> None:
    ordered = configured(
        LinuxDeviceCgroup(allow=True, type="c", major=10, access="rw"),
        LinuxDeviceCgroup(allow=False, type="c", major=10, minor=229, access="w"),
    )
    with pytest.raises(CgroupError, match=r"devices\[1\]: cgroup v1 cannot deny c 10:229 w"):
        devices.exceptions(ordered)
    program = devices.program(ordered)
    assert run(program, "c", 10, 229, READ)
    assert not run(program, "c", 10, 229, READ | WRITE)
    assert run(program, "c", 10, 201, READ | WRITE)


def test_v1_denying_a_wide_rule_takes_the_narrow_ones_back() -> None:
    ordered = [
        Rule(True, "c", 10, 200, ALL),
        Rule(True, "b", 10, 200, ALL),
        Rule(False, "c", 10, None, READ | WRITE),
    ]
    assert devices.exceptions(ordered).nodes == {("c", 10, 200): MKNOD, ("b", 10, 200): ALL}


def test_devices_list_is_read() -> None:
    text = "c *:* m\nb *:* m\nc 1:3 rwm\nc 136:* rwm"
    assert devices.parse_list(text) == devices.Exceptions(
        False,
        {
            ("c", None, None): MKNOD,
            ("b", None, None): MKNOD,
            ("c", 1, 3): ALL,
            ("c", 136, None): ALL,
        },
    )
    assert devices.parse_list("a *:* rwm") == devices.Exceptions(True)


def test_a_second_application_writes_nothing() -> None:
    state = devices.exceptions(devices.rules(None))
    assert devices.transition(state, state) == []
    assert devices.transition(devices.Exceptions(True), state)[0] == ("devices.deny", ["a *:* rwm"])
