"""org.systemd.property.* annotations: GVariant's text format, names, seconds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libpycontainer.cgroups.systemd_annotations import properties
from libpycontainer.errors import CgroupError


def value(text: str, name: str = "Anything") -> tuple[str, Any]:
    ((found, variant),) = properties({f"org.systemd.property.{name}": text})
    assert found == name
    return variant


@pytest.mark.parametrize(
    ("text", "signature", "expected"),
    [
        ("true", "b", True),
        (" false ", "b", False),
        ("boolean true", "b", True),
        ("'inactive-or-failed'", "s", "inactive-or-failed"),
        ('"a b"', "s", "a b"),
        (r"'it\'s'", "s", "it's"),
        (r"'tab\tend'", "s", "tab\tend"),
        (r"'\u00e4'", "s", "ä"),
        ("string 'x'", "s", "x"),
        ("objectpath '/a'", "o", "/a"),
        ("5", "i", 5),
        ("-5", "i", -5),
        ("0x10", "i", 16),
        ("010", "i", 8),
        ("0", "i", 0),
        ("1.5", "d", 1.5),
        ("double 2", "d", 2.0),
        ("byte 255", "y", 255),
        ("int16 -1", "n", -1),
        ("uint16 1", "q", 1),
        ("int32 1", "i", 1),
        ("uint32 4294967295", "u", 4294967295),
        ("int64 -9223372036854775808", "x", -(1 << 63)),
        ("uint64 18446744073709551615", "t", (1 << 64) - 1),
        ("['a', 'b']", "as", ["a", "b"]),
        ("[uint64 1, 2]", "at", [1, 2]),
        ("@as []", "as", []),
        ("@at [1, 2]", "at", [1, 2]),
        ("@t 7", "t", 7),
        ("('/dev/sda', uint64 5)", "(st)", ("/dev/sda", 5)),
        ("[('/dev/null', 'rw')]", "a(ss)", [("/dev/null", "rw")]),
    ],
)
def test_values_are_read(text: str, signature: str, expected: Any) -> None:
    found = value(text)
    assert found == (signature, expected)
    assert type(found[1]) is type(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "inactive",
        "'open",
        "'a' 'b'",
        "5 6",
        "[1, 'a']",
        "[1, 2",
        "[1,, 2]",
        "[]",
        "uint64",
        "uint64 -1",
        "uint64 'a'",
        "byte 256",
        "4294967296",
        "boolean 1",
        "@q []",
        "@{ 1",
        "1.2.3",
        "<'variant'>",
        "{'a': 1}",
        "uint64 1.5",
        r"'\ud8'",
        r"'\ud800'",
        r"'\u0000'",
        "int32",
    ],
)
def test_what_cannot_be_read_is_an_error_that_names_the_annotation(text: str) -> None:
    with pytest.raises(CgroupError, match=r"annotations\['org\.systemd\.property\.Anything'\]"):
        value(text)


@given(st.text())
def test_nothing_but_a_clear_error_comes_of_any_text(text: str) -> None:
    try:
        value(text)
    except CgroupError:
        pass


@given(st.text().filter(lambda text: "\0" not in text))
def test_every_string_can_be_said(text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    assert value(f"'{quoted}'") == ("s", text)


@pytest.mark.parametrize(
    ("text", "microseconds"), [("2", 2_000_000), ("uint64 3", 3_000_000), ("0.5", 500_000)]
)
def test_seconds_become_what_systemd_takes(text: str, microseconds: int) -> None:
    found = properties({"org.systemd.property.TimeoutStopSec": text})
    assert found == [("TimeoutStopUSec", ("t", microseconds))]


def test_microseconds_stay_as_they_are() -> None:
    assert value("uint64 20000000", "TimeoutStopUSec") == ("t", 20_000_000)


@pytest.mark.parametrize("text", ["'2'", "-1", "true"])
def test_what_is_no_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(CgroupError, match="not a number of seconds"):
        properties({"org.systemd.property.TimeoutStopSec": text})


@pytest.mark.parametrize("name", ["", "CP", "CPU2", "A.B", "Größe", "With Space"])
def test_names_that_no_property_has_are_refused(name: str) -> None:
    with pytest.raises(CgroupError, match="is not the name of a property"):
        properties({f"org.systemd.property.{name}": "1"})


@pytest.mark.parametrize("name", ["PIDs", "Slice"])
def test_what_finds_the_container_cannot_be_changed(name: str) -> None:
    with pytest.raises(CgroupError, match="is set for the container itself"):
        properties({f"org.systemd.property.{name}": "'x'"})


def test_other_annotations_are_nobodys_business() -> None:
    assert properties({"org.systemd.other": "{", "a": "b"}) == []
    assert properties(None) == []
