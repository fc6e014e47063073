"""Which hierarchies are mounted, and where the caller sits: read from the kernel's own tables."""

from __future__ import annotations

import pytest

from libpycontainer.cgroups import hierarchies

V1 = """\
21 25 0:19 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
25 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/systemd rw,relatime shared:10 - cgroup cgroup rw,xattr,name=systemd
34 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:13 - cgroup cgroup rw,cpu,cpuacct
35 30 0:31 / /sys/fs/cgroup/memory rw,relatime shared:14 - cgroup cgroup rw,memory
"""
V1_OWN = "4:memory:/user.slice\n3:cpu,cpuacct:/user.slice\n1:name=systemd:/user.slice/one.scope\n"

HYBRID = V1 + "36 30 0:32 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID_OWN = V1_OWN + "0::/user.slice/one.scope\n"

V2 = """\
21 25 0:19 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
25 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:26 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""
V2_OWN = "0::/user.slice/user-1000.slice/session-2.scope\n"

# Inside a container without a cgroup namespace: each mount shows the container's own group.
NESTED = """\
500 400 0:50 / / rw,relatime - overlay overlay rw
510 500 0:51 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro
511 510 0:52 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755
512 511 0:31 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory
"""
NESTED_OWN = "4:memory:/docker/abc/inner\n"


def names(found: tuple[hierarchies.Hierarchy, ...]) -> list[str]:
    return [one.name for one in found]


@pytest.mark.parametrize(
    ("mountinfo", "mode"),
    [
        (V1, "v1"),
        (HYBRID, "hybrid"),
        (V2, "v2"),
        (NESTED, "v1"),
        ("25 0 8:1 / / rw - ext4 a rw", "none"),
    ],
)
def test_mode_is_told_by_the_mounts(mountinfo: str, mode: str) -> None:
    assert hierarchies.parse_mode(mountinfo) == mode


def test_v1_controllers_options_and_own_paths() -> None:
    systemd, cpu, memory = hierarchies.parse(V1, V1_OWN)
    assert systemd.controllers == ("name=systemd",)
    assert systemd.options == "name=systemd"
    assert systemd.own == "/user.slice/one.scope"
    assert cpu.name == "cpu,cpuacct"
    assert cpu.controllers == ("cpu", "cpuacct")
    assert cpu.options == "cpu,cpuacct"
    assert cpu.own == "/user.slice"
    assert memory.mountpoint == "/sys/fs/cgroup/memory"
    assert {one.version for one in (systemd, cpu, memory)} == {1}


def test_hybrid_has_the_unified_hierarchy_too() -> None:
    unified = hierarchies.parse(HYBRID, HYBRID_OWN)[-1]
    assert (unified.name, unified.version, unified.options) == ("unified", 2, "")
    assert unified.controllers == ()
    assert unified.own == "/user.slice/one.scope"


def test_v2_has_one_hierarchy() -> None:
    (only,) = hierarchies.parse(V2, V2_OWN)
    assert (only.mountpoint, only.version) == ("/sys/fs/cgroup", 2)
    assert only.own_below_mount() == only.own


def test_a_v2_view_of_a_host_with_v1_controllers_elsewhere() -> None:
    (only,) = hierarchies.parse(V2, V1_OWN + "0::/\n")
    assert only.own == "/"


def test_own_path_counts_from_what_the_mount_shows() -> None:
    (memory,) = hierarchies.parse(NESTED, NESTED_OWN)
    assert memory.root == "/docker/abc"
    assert memory.own_below_mount() == "/inner"
    (memory,) = hierarchies.parse(NESTED, "4:memory:/docker/abc\n")
    assert memory.own_below_mount() == "/"


@pytest.mark.parametrize("own", ["/docker/abcdef", "/elsewhere", "/../outside"])
def test_own_path_outside_of_the_mount_is_unknown(own: str) -> None:
    (memory,) = hierarchies.parse(NESTED, f"4:memory:{own}\n")
    assert memory.own_below_mount() is None


def test_own_path_is_unknown_when_the_mount_shows_more_than_the_namespace() -> None:
    mountinfo = V2.replace("0:26 / /sys/fs/cgroup", "0:26 /.. /sys/fs/cgroup")
    (only,) = hierarchies.parse(mountinfo, "0::/\n")
    assert only.own_below_mount() is None


def test_mounts_of_containers_do_not_hide_the_hosts() -> None:
    bind = "90 25 0:31 /docker/x /var/lib/c/sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    found = hierarchies.parse(bind + V1, V1_OWN)
    assert [one.mountpoint for one in found if "memory" in one.controllers] == [
        "/sys/fs/cgroup/memory"
    ]


def test_a_mount_over_the_old_hierarchies_hides_them() -> None:
    over = "77 30 0:32 / /sys/fs/cgroup rw,relatime - cgroup2 none rw\n"
    assert hierarchies.parse_mode(V1 + over) == "v2"
    assert names(hierarchies.parse(V1 + over, HYBRID_OWN)) == ["cgroup"]


def test_a_mount_over_sys_hides_everything() -> None:
    over = "77 21 0:40 / /sys rw - tmpfs none rw\n"
    assert hierarchies.parse_mode(V1 + over) == "none"


def test_a_mount_elsewhere_hides_nothing() -> None:
    other = "77 21 0:40 / /sys/fs/bpf rw - bpf none rw\n78 25 0:41 / /tmp rw - tmpfs none rw\n"
    assert hierarchies.parse_mode(V1 + other) == "v1"


def test_escaped_mountpoints_are_read() -> None:
    odd = "36 25 0:32 / /mnt/a\\040b\\134c rw - cgroup2 cgroup2 rw\n"
    (only,) = hierarchies.parse("25 0 8:1 / / rw - ext4 a rw\n" + odd, "0::/\n")
    assert only.mountpoint == "/mnt/a b\\c"


def test_the_running_host_is_readable() -> None:
    assert hierarchies.mode() in ("v1", "hybrid", "v2", "none")
    assert all(one.mountpoint.startswith("/") for one in hierarchies.hierarchies())
