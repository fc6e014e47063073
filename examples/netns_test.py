"""A unit test of a network: two containers, a router between them, and what gets through.

    python -m pytest examples/netns_test.py

As root, with libpycontainer's pytest plugin: the hosts are containers of ``container_factory``, the
router is a network namespace, ``netns``. The host's own network sees nothing of it, so any number
of such tests may run at once. Needs busybox for its ping.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyroute2 import NetNS

from libpycontainer.testing.boxes import Box, BoxFactory
from libpycontainer.testing.netns import NetworkNamespace

pytestmark = pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is missing")


@pytest.fixture
def left(container_factory: BoxFactory, netns: NetworkNamespace) -> Box:
    """10.0.1.2, behind the router's 10.0.1.1."""
    return plug_in(container_factory(capabilities=["NET_RAW"]), netns, "to-left", "10.0.1")


@pytest.fixture
def right(container_factory: BoxFactory, netns: NetworkNamespace) -> Box:
    """10.0.2.2, behind the router's 10.0.2.1."""
    return plug_in(container_factory(capabilities=["NET_RAW"]), netns, "to-right", "10.0.2")


def plug_in(host: Box, netns: NetworkNamespace, cable: str, prefix: str) -> Box:
    """Lay a cable from the router to a host, with addresses, and the host's default route."""
    with NetNS(netns.path) as router:
        peer = {"ifname": "eth0", "net_ns_pid": host.pid}
        router.link("add", ifname=cable, kind="veth", peer=peer)
        connect(router, cable, f"{prefix}.1")
    with NetNS(f"/proc/{host.pid}/ns/net") as inside:
        connect(inside, "eth0", f"{prefix}.2")
        inside.route("add", dst="default", gateway=f"{prefix}.1")
    return host


def connect(network: NetNS, interface: str, address: str) -> None:
    [index] = network.link_lookup(ifname=interface)
    network.addr("add", index=index, address=address, prefixlen=24)
    network.link("set", index=index, state="up")


def forward(netns: NetworkNamespace, on: bool) -> None:
    with netns.enter():
        Path("/proc/sys/net/ipv4/ip_forward").write_text(str(int(on)))


def reaches(host: Box, address: str, seconds: int = 5) -> bool:
    return host.run(["busybox", "ping", "-c", "1", "-W", str(seconds), address]).returncode == 0


def test_a_host_reaches_its_router(left: Box) -> None:
    assert reaches(left, "10.0.1.1")
    assert left.run(["busybox", "ip", "route"]).stdout.startswith("default via 10.0.1.1 dev eth0")


def test_a_router_that_forwards_joins_them(left: Box, right: Box, netns: NetworkNamespace) -> None:
    forward(netns, True)
    assert reaches(left, "10.0.2.2")
    assert reaches(right, "10.0.1.2")


def test_a_router_that_does_not_forward_parts_them(
    left: Box, right: Box, netns: NetworkNamespace
) -> None:
    forward(netns, False)
    assert not reaches(left, "10.0.2.2", seconds=1)


def test_a_cable_that_is_pulled_parts_them(left: Box, right: Box, netns: NetworkNamespace) -> None:
    forward(netns, True)
    with NetNS(netns.path) as router:
        [index] = router.link_lookup(ifname="to-right")
        router.link("set", index=index, state="down")
    assert not reaches(left, "10.0.2.2", seconds=1)
