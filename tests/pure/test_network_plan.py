"""What of a network device is kept, what travels, and how it is known again; no kernel needed."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from libpycontainer import netlink, network, plan, validate
from libpycontainer.errors import UnsupportedError
from libpycontainer.host import Facts
from libpycontainer.spec import light
from tests.pure import plan_cases as cases

LINK: dict[str, Any] = {
    "index": 7,
    "name": "web0",
    "altnames": [],
    "kind": "veth",
    "mac": "02:00:00:00:00:07",
    "mtu": 1400,
    "flags": netlink.IFF_UP | 0x10000 | 0x40,
    "master": None,
}


def address(local: str, flags: int = 0x80, scope: int = 0, **more: Any) -> dict[str, Any]:
    return {"family": 2, "prefixlen": 24, "flags": flags, "scope": scope, "local": local, **more}


def lent(name: str, *addresses: dict[str, Any]) -> list[dict[str, Any]]:
    return network.lent_addresses(network.device_row(LINK, addresses, name), name)


def test_record_has_what_an_administrator_sets() -> None:
    row = network.device_row(LINK, [address("10.0.0.1"), address("10.0.0.2", flags=0)], None)
    assert row["flags"] == netlink.IFF_UP
    assert [each["local"] for each in row["addresses"]] == ["10.0.0.1"]
    assert (row["name"], row["rename"]) == ("web0", "web0")


def test_only_global_addresses_travel_and_all_permanent_ones_are_kept() -> None:
    local = address("169.254.0.1", scope=253)
    assert [each["local"] for each in lent("web0", local, address("10.0.0.1"))] == ["10.0.0.1"]
    assert len(network.device_row(LINK, [local], None)["addresses"]) == 1


@pytest.mark.parametrize(
    ("name", "label", "inside"),
    [
        ("net1", "web0", "net1"),
        ("net1", "web0:a", "net1:a"),
        ("a-long-name-xyz", "web0:a", "a-long-name-xyz"),
    ],
)
def test_label_follows_the_name(name: str, label: str, inside: str) -> None:
    assert [each["label"] for each in lent(name, address("10.0.0.1", label=label))] == [inside]


def test_device_is_known_by_its_index_inside_whatever_its_name() -> None:
    row = network.device_row(LINK, [], "net1")
    other = {**LINK, "index": 3, "name": "net1"}
    mine = {**LINK, "index": 9, "name": "mine", "mac": "02:00:00:00:00:99"}
    assert network.find_device([other, mine], row, 9) is mine
    assert network.find_device([other, {**mine, "kind": "dummy"}], row, 9) is None


def test_device_without_an_index_inside_is_known_by_its_address() -> None:
    row = network.device_row(LINK, [], "net1")
    stranger = {**LINK, "mac": "02:00:00:00:00:99"}
    moved = {**LINK, "index": 9, "name": "net1"}
    halfway = {**LINK, "index": 9}
    assert network.find_device([stranger], row) is None
    assert network.find_device([stranger, moved], row) is moved
    assert network.find_device([stranger, halfway], row) is halfway


def message(code: int, words: bytes = b"") -> bytes:
    text = words + b"\0"
    attribute = struct.pack("=HH", 4 + len(text), 1) + text + b"\0" * (-len(text) % 4)
    return b"\0" * 16 + struct.pack("=i", code) + b"\0" * 16 + (attribute if words else b"")


def test_error_has_the_words_of_the_kernel() -> None:
    netlink.raise_error(message(0), 0)
    with pytest.raises(OSError, match=r"File exists \(name taken\)") as caught:
        netlink.raise_error(message(-17, b"name taken"), 0x200)
    assert caught.value.errno == 17
    with pytest.raises(PermissionError, match=r"Operation not permitted$"):
        netlink.raise_error(message(-1), 0x200)


def config(devices: dict[str, Any]) -> Any:
    document = cases.config()
    document["linux"]["netDevices"] = devices
    return light.record("Spec", document)


def test_caller_without_the_capability_is_told_by_the_planner() -> None:
    facts = Facts(capabilities=((1 << 41) - 1) & ~(1 << 12))
    spec = config({"web0": {}})
    with pytest.raises(UnsupportedError, match=r"^\$\.linux\.netDevices: .* CAP_NET_ADMIN$"):
        plan.build(spec, facts, cases.request())
    assert plan.build(spec, Facts(), cases.request()).steps


def test_a_template_may_be_given_twice() -> None:
    spec = config({"web0": {"name": "net%d"}, "web1": {"name": "net%d"}})
    assert not [p for p in validate.check(spec, Facts()) if "netDevices" in p.path]
    spec = config({"web0": {"name": "net"}, "web1": {"name": "net"}})
    assert [p for p in validate.check(spec, Facts()) if "netDevices" in p.path]
