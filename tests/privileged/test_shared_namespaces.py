"""A user namespace that shares the host's network or processes: /sys and /proc are the host's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import FOREVER, add_user_namespace, create, exec_inside, sh

if TYPE_CHECKING:
    from tests.conftest import BundleMaker


def share(config: dict[str, Any], *types: str) -> None:
    spaces = config["linux"]["namespaces"]
    spaces[:] = [each for each in spaces if each["type"] not in types]
    add_user_namespace(config)


def options_of(mountinfo: str, point: str) -> list[tuple[str, set[str]]]:
    """What is mounted at a point and below: the file system's type, and the mount's options."""
    found = []
    for line in mountinfo.splitlines():
        fields = line.split()
        if fields[4] == point or fields[4].startswith(f"{point}/"):
            found.append((fields[fields.index("-") + 1], set(fields[5].split(","))))
    return found


def test_sysfs_is_the_hosts_and_read_only(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(FOREVER)
    share(one.config, "network")
    mounts = one.config["mounts"]
    one.config["mounts"] = [m for m in mounts if not m["destination"].startswith("/sys/")]
    one.linux["maskedPaths"] = []
    for mount in one.config["mounts"]:
        if mount["type"] == "sysfs":
            # Also if nobody asked for it: below lie the host's cgroups.
            mount["options"] = ["nosuid", "noexec", "nodev", "rw"]
    with create(factory, one) as container:
        container.start()
        found = options_of(Path(f"/proc/{container.pid}/mountinfo").read_text(), "/sys")
        inside = exec_inside(container, ["ls", "/sys/class/net"]).text.split()
    assert found[0][0] == "sysfs"
    for _type, options in found:
        assert {"ro", "nosuid", "noexec", "nodev"} <= options
    assert sorted(inside) == sorted(os.listdir("/sys/class/net"))


def test_cgroups_are_the_containers_in_a_sysfs_of_the_hosts(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    """The configuration's own mounts below it lie over whatever came along."""
    one = bundle(sh("ls /sys/fs/cgroup; ls /sys/kernel >/dev/null && echo end"))
    share(one.config, "network")
    with create(factory, one, stdout=lc.PIPE) as container:
        container.start()
        assert container.process is not None
        output, _ = container.process.communicate(timeout=20)
    assert (output or b"").split()[-1:] == [b"end"]


def test_proc_is_the_hosts_with_what_is_masked(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(FOREVER)
    share(one.config, "pid")
    one.process["oomScoreAdj"] = 500
    one.linux["maskedPaths"] = ["/proc/cpuinfo", "/proc/tty"]
    one.linux["sysctl"] = {"net.ipv4.ip_default_ttl": "33"}
    with create(factory, one) as container:
        container.start()
        seen = exec_inside(container, sh("echo $$; cat /proc/self/stat; cat /proc/cpuinfo")).lines
        writing = exec_inside(container, sh("echo 1 >/proc/sys/net/ipv4/ip_default_ttl"))
        own = exec_inside(container, sh("cat /proc/sys/net/ipv4/ip_default_ttl; ls /proc/tty"))
        found = options_of(Path(f"/proc/{container.pid}/mountinfo").read_text(), "/proc")
        # The same number on both sides.
        assert str(container.pid) in exec_inside(container, ["ls", "/proc"]).text.split()
    assert seen[0] != "1"
    assert len(seen) == 2
    assert writing.code != 0
    assert own.text == "33\n"
    assert found[0][0] == "proc"
    # What protects the host's stays as it is.
    hosts = options_of(Path("/proc/self/mountinfo").read_text(), "/proc")[0][1]
    assert hosts & {"nosuid", "noexec", "nodev"} <= found[0][1]


@pytest.mark.parametrize(("type", "place"), [("network", "sys"), ("pid", "proc")])
def test_a_link_is_no_place_for_it(
    factory: lc.Factory, bundle: BundleMaker, type: str, place: str
) -> None:
    one = bundle(private_rootfs=True)
    share(one.config, type)
    (one.rootfs / place).rmdir()
    (one.rootfs / place).symlink_to("tmp")
    with pytest.raises(lc.StepError, match=f"bind the host's /{place} on /{place}"):
        create(factory, one)
    assert os.listdir(one.rootfs / "tmp") == []


def test_a_network_namespace_of_somebody_elses_is_explained(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    """Its /sys would show another network than the container has."""
    one = bundle()
    share(one.config, "network")
    one.linux["namespaces"].append({"type": "network", "path": "/proc/self/ns/net"})
    if os.geteuid() != 0:
        # One may not even enter what is not one's own.
        with pytest.raises(lc.ContainerError, match="network namespace"):
            create(factory, one)
        return
    with pytest.raises(lc.StepError, match="owns the network namespace") as caught:
        create(factory, one)
    assert "mount sysfs on /sys" in str(caught.value)
