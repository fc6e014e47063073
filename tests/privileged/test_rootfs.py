"""The file tree inside: mounts and their options, devices, links, what is read-only or hidden."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests import ways
from tests.privileged.support import bind, read_inside, sh, writable_tmp

if TYPE_CHECKING:
    from tests.conftest import BundleMaker


def mount_table(text: str) -> dict[str, tuple[str, set[str], str, set[str]]]:
    """By mount point: its root, its options, its type and its file system's options."""
    table = {}
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        _, _, _, root, point, options, *_ = fields.split()
        kind, _, superblock = rest.split(" ", 2)
        table[point] = (root, set(options.split(",")), kind, set(superblock.split(",")))
    return table


@pytest.mark.no_user_namespace("the kernel shows the host's ids")
def test_default_mounts(factory: lc.Factory, bundle: BundleMaker) -> None:
    table = mount_table(read_inside(factory, bundle(["cat", "/proc/self/mountinfo"])).text)
    assert "ro" in table["/"][1]
    kinds = {point: table[point][2] for point in table if point != "/"}
    assert kinds["/proc"] == "proc"
    assert kinds["/dev"] == kinds["/dev/shm"] == "tmpfs"
    assert (kinds["/dev/pts"], kinds["/dev/mqueue"], kinds["/sys"]) == ("devpts", "mqueue", "sysfs")
    sealed = {"nosuid", "nodev", "noexec"}
    for point in ("/sys", "/dev/mqueue", "/dev/shm"):
        assert sealed <= table[point][1], point
    assert "ro" in table["/sys"][1]
    assert {"mode=755", "size=65536k"} <= table["/dev"][3]
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= table["/dev/pts"][3]
    assert any(point.startswith("/sys/fs/cgroup") for point in table)


def test_nothing_of_the_host_is_mounted(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["cat", "/proc/self/mountinfo"])
    table = mount_table(read_inside(factory, one).text)
    places = ("/proc", "/dev", "/sys")
    foreign = [point for point in table if point != "/" and not point.startswith(places)]
    assert foreign == []
    host = Path("/proc/self/mountinfo").read_text()
    assert one.linux["cgroupsPath"] not in host
    assert str(one) not in host


def test_mounts_stay_inside(factory: lc.Factory, bundle: BundleMaker) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    one = bundle(["mount"], edit=writable_tmp)
    assert "/tmp" in read_inside(factory, one).text
    assert Path("/proc/self/mountinfo").read_text() == before


def test_read_only_root_cannot_be_written(factory: lc.Factory, bundle: BundleMaker) -> None:
    result = read_inside(
        factory, bundle(sh("touch /file; mkdir /etc/x; echo x >/etc/passwd; true"))
    )
    assert result.text.count("Read-only file system") == 3


def test_writable_root_can_be_written(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["touch", "/file"], private_rootfs=True)
    one.config["root"]["readonly"] = False
    assert read_inside(factory, one).code == 0
    assert (one.rootfs / "file").exists()


@pytest.mark.no_user_namespace("devices are the host's; test_user_namespace.py has them")
def test_default_devices(factory: lc.Factory, bundle: BundleMaker) -> None:
    names = ("null", "zero", "full", "random", "urandom", "tty")
    script = "umask 077; cd /dev; stat -c '%n %F %t:%T %a %u:%g' " + " ".join(names)
    expected = [
        f"{name} character special file {numbers} 666 0:0"
        for name, numbers in zip(names, ("1:3", "1:5", "1:7", "1:8", "1:9", "5:0"), strict=True)
    ]
    assert read_inside(factory, bundle(sh(script))).lines == expected


def test_default_devices_work(factory: lc.Factory, bundle: BundleMaker) -> None:
    script = """
echo lost >/dev/null && head -c 4 /dev/zero | od -An -tx1 && head -c 8 /dev/urandom | wc -c
echo x >/dev/full || echo full
"""
    lines = read_inside(factory, bundle(sh(script))).lines
    assert lines[0].split() == ["00"] * 4
    assert lines[1] == "8"
    assert lines[-1] == "full"


def test_links_in_dev(factory: lc.Factory, bundle: BundleMaker) -> None:
    script = "cd /dev; for name in fd stdin stdout stderr ptmx; do readlink $name; done"
    assert read_inside(factory, bundle(sh(script))).lines == [
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "pts/ptmx",
    ]


@pytest.mark.no_user_namespace("devices cannot be made")
def test_configured_devices(factory: lc.Factory, bundle: BundleMaker) -> None:
    def add(config: dict[str, Any]) -> None:
        config["linux"]["devices"] = [
            {
                "path": "/dev/fuse",
                "type": "c",
                "major": 10,
                "minor": 229,
                "fileMode": 0o640,
                "uid": 1000,
                "gid": 50,
            },
            {"path": "/dev/sub/disk", "type": "b", "major": 7, "minor": 0},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600},
        ]

    script = "cd /dev; stat -c '%n %F %t:%T %a %u:%g' fuse sub/disk pipe null"
    assert read_inside(factory, bundle(sh(script), edit=add)).lines == [
        "fuse character special file a:e5 640 1000:50",
        "sub/disk block special file 7:0 666 0:0",
        "pipe fifo 0:0 600 0:0",
        "null character special file 1:3 600 0:0",
    ]


@pytest.mark.no_user_namespace("devices cannot be made")
def test_unlisted_devices_are_denied(factory: lc.Factory, bundle: BundleMaker) -> None:
    def allow_mknod(config: dict[str, Any]) -> None:
        for names in config["process"]["capabilities"].values():
            names.append("CAP_MKNOD")
        writable_tmp(config)

    # Nodes may be made, but it is the cgroup that decides which of them may be opened.
    script = """
cd /tmp; mknod mem c 1 1; mknod disk b 7 0; mknod null c 1 3
: <mem; : <disk; : <null && echo allowed
"""
    result = read_inside(factory, bundle(sh(script.replace(": <", "cat <")), edit=allow_mknod))
    assert result.text.count("Operation not permitted") == 2
    assert result.lines[-1] == "allowed"


@pytest.mark.no_user_namespace("devices cannot be made")
def test_devices_that_the_cgroup_allows_can_be_opened(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    def allow(config: dict[str, Any]) -> None:
        for names in config["process"]["capabilities"].values():
            names.append("CAP_SYSLOG")
        rules = config["linux"]["resources"]["devices"]
        rules.append({"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"})
        config["linux"]["devices"] = [
            {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o600},
            {"path": "/dev/port", "type": "c", "major": 1, "minor": 4, "fileMode": 0o600},
        ]

    script = "true </dev/kmsg && echo readable; true >/dev/kmsg; true </dev/port"
    result = read_inside(factory, bundle(sh(script), edit=allow))
    assert "readable" in result.text
    assert result.text.count("Operation not permitted") == 2


def test_masked_paths_show_nothing(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    def mask(config: dict[str, Any]) -> None:
        config["linux"]["maskedPaths"] += ["/etc/passwd", "/home", "/not/there", "/bin/busybox/x"]

    script = "wc -c </etc/passwd; ls -A /home; touch /home/x; wc -c </proc/timer_list; echo end"
    result = read_inside(factory, bundle(sh(script), edit=mask))
    assert "Read-only file system" in result.text
    assert [line for line in result.lines if "touch" not in line] == ["0", "0", "end"]


def test_read_only_paths_cannot_be_written(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(
        sh("touch /etc/x; touch /home/x && echo home; echo 1 >/proc/sys/kernel/msgmax"),
        private_rootfs=True,
    )
    one.config["root"]["readonly"] = False
    one.linux["readonlyPaths"] += ["/etc", "/not/there"]
    result = read_inside(factory, one)
    assert result.text.count("Read-only file system") == 2
    assert "home" in result.lines


def test_bind_mounts_of_files_and_directories(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("shown\n")
    (tmp_path / "directory").mkdir()
    ways.own(tmp_path / "directory")
    one = bundle(
        sh(
            "cat /new/file; touch /new/place/x && echo written; touch /read/only/x; echo >/new/file"
        ),
        private_rootfs=True,
    )
    bind(one.config, tmp_path / "file", "/new/file", "ro")
    bind(one.config, tmp_path / "directory", "/new/place")
    bind(one.config, tmp_path / "directory", "/read/only", "ro")
    result = read_inside(factory, one)
    assert result.lines[:2] == ["shown", "written"]
    assert result.text.count("Read-only file system") == 2
    assert (tmp_path / "directory/x").exists()
    assert (tmp_path / "file").read_text() == "shown\n"


def test_relative_bind_sources_count_from_the_bundle(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(["cat", "/etc/hostname"], private_rootfs=True)
    (one.path / "hostname").write_text("from the bundle\n")
    bind(one.config, "hostname", "/etc/hostname")
    assert read_inside(factory, one).text == "from the bundle\n"


def test_recursive_read_only_reaches_every_mount_below(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    def add(config: dict[str, Any]) -> None:
        config["mounts"].append(
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        )
        config["mounts"].append(
            {"destination": "/run", "source": "/sys", "options": ["rbind", "rro"]}
        )

    table = mount_table(
        read_inside(factory, bundle(["cat", "/proc/self/mountinfo"], edit=add)).text
    )
    below = [options for point, (_, options, _, _) in table.items() if point.startswith("/run")]
    assert len(below) > 1
    assert all("ro" in options for options in below)


def test_mount_options_reach_the_kernel(factory: lc.Factory, bundle: BundleMaker) -> None:
    def add(config: dict[str, Any]) -> None:
        config["mounts"].append(
            {
                "destination": "/tmp",
                "type": "tmpfs",
                "source": "named",
                "options": ["nosuid", "noexec", "noatime", "size=8m", "mode=700", "nr_inodes=99"],
            }
        )

    one = bundle(sh("grep ' /tmp ' /proc/self/mountinfo; stat -c %a /tmp"), edit=add)
    lines = read_inside(factory, one).lines
    _, options, kind, superblock = mount_table(lines[0])["/tmp"]
    assert {"nosuid", "noexec", "noatime", "rw"} <= options
    assert kind == "tmpfs"
    assert {"size=8192k", "mode=700", "nr_inodes=99"} <= superblock
    assert " named " in lines[0]
    assert lines[1] == "700"


def test_read_only_tmpfs_can_hold_mount_points(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("inner\n")

    def add(config: dict[str, Any]) -> None:
        config["mounts"].append(
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}
        )
        bind(config, tmp_path / "file", "/tmp/deep/file")

    result = read_inside(factory, bundle(sh("cat /tmp/deep/file; touch /tmp/x"), edit=add))
    assert result.lines[0] == "inner"
    assert "Read-only file system" in result.text


def test_mount_points_are_made_where_symlinks_lead_inside(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("resolved\n")
    one = bundle(["cat", "/etc/resolv.conf"], private_rootfs=True)
    # As systemd-resolved leaves it: to a place that is not there, by way of another link.
    (one.rootfs / "etc/resolv.conf").symlink_to("alternative")
    (one.rootfs / "etc/alternative").symlink_to("../run/resolve/stub.conf")
    bind(one.config, tmp_path / "file", "/etc/resolv.conf")
    assert read_inside(factory, one).text == "resolved\n"
    assert (one.rootfs / "run/resolve/stub.conf").read_text() == ""


def test_absolute_symlinks_count_from_the_containers_root(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("here\n")
    outside = tmp_path / "outside"
    outside.mkdir()
    one = bundle(["cat", "/link/file"], private_rootfs=True)
    (one.rootfs / "link").symlink_to(outside)
    bind(one.config, tmp_path / "source", "/link")
    assert read_inside(factory, one).text == "here\n"
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    "word", ["private", "slave", "rprivate", "rslave", "shared", "rshared", "unbindable"]
)
def test_root_propagation(factory: lc.Factory, bundle: BundleMaker, word: str) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    one = bundle(["true"], edit=lambda c: c["linux"].update(rootfsPropagation=word))
    assert read_inside(factory, one).code == 0
    assert Path("/proc/self/mountinfo").read_text() == before


def test_rootfs_may_be_a_symlink(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["ls", "/bin/busybox"], private_rootfs=True)
    one.rootfs.rename(one.path / "real")
    one.rootfs.symlink_to("real")
    assert read_inside(factory, one).text == "/bin/busybox\n"


@pytest.mark.parametrize("no_pivot", [False, True])
def test_hosts_root_is_out_of_reach(
    factory: lc.Factory, bundle: BundleMaker, no_pivot: bool
) -> None:
    script = "cd /; cd ../../..; ls -d bin; pwd; stat -c %i / /..; grep -c / /proc/self/mountinfo"
    one = bundle(sh(script))
    result = read_inside(factory, one, no_pivot=no_pivot)
    assert result.lines[:2] == ["bin", "/"]
    assert result.lines[2] == result.lines[3] == str(os.stat(one.rootfs).st_ino)


def test_host_devices_keep_their_owner(factory: lc.Factory, bundle: BundleMaker) -> None:
    before = os.stat("/dev/null")

    def become(config: dict[str, Any]) -> None:
        config["process"]["user"] = {"uid": 1000, "gid": 1000}

    one = bundle(["true"], edit=become)
    read_inside(factory, one, stdin=lc.DEVNULL, stdout=lc.DEVNULL, stderr=lc.DEVNULL)
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_gid, after.st_mode) == (
        before.st_uid,
        before.st_gid,
        before.st_mode,
    )
