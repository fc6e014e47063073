"""config-linux.md, devices: nodes with exact modes and owners, and what else a /dev must have."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import add_user_namespace, bind, create, read_inside, sh

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

LOOP = {"type": "b", "major": 7, "minor": 0}
NULL = {"type": "c", "major": 1, "minor": 3}
DEFAULTS = {
    "/dev/null": "1:3",
    "/dev/zero": "1:5",
    "/dev/full": "1:7",
    "/dev/random": "1:8",
    "/dev/urandom": "1:9",
    "/dev/tty": "5:0",
}


def with_devices(*devices: dict[str, Any]) -> Any:
    return lambda config: config["linux"].update(devices=list(devices))


def listing(*paths: str) -> list[str]:
    return sh(f"stat -c '%n %F %t:%T %a %u:%g' {' '.join(paths)}")


@pytest.mark.no_user_namespace("devices cannot be made")
def test_every_kind_of_device(factory: lc.Factory, bundle: BundleMaker) -> None:
    edit = with_devices(
        {"path": "/dev/one", **NULL, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/two", **LOOP, "fileMode": 0o600, "uid": 1000},
        {"path": "/dev/three", "type": "p", "fileMode": 0o620, "gid": 50},
        {"path": "/dev/four", "type": "u", "major": 1, "minor": 5, "fileMode": 0o666},
        {"path": "/dev/five", "type": "c", "major": 250, "minor": 1_000_000},
    )
    names = ("/dev/one", "/dev/two", "/dev/three", "/dev/four", "/dev/five")
    assert read_inside(factory, bundle(listing(*names), edit=edit)).lines == [
        "/dev/one character special file 1:3 640 7:8",
        "/dev/two block special file 7:0 600 1000:0",
        "/dev/three fifo 0:0 620 0:50",
        "/dev/four character special file 1:5 666 0:0",
        "/dev/five character special file fa:f4240 666 0:0",
    ]


@pytest.mark.parametrize("umask", [0, 0o22, 0o777])
@pytest.mark.no_user_namespace("devices cannot be made")
def test_modes_do_not_depend_on_any_umask(
    factory: lc.Factory, bundle: BundleMaker, umask: int
) -> None:
    modes = (0o000, 0o001, 0o222, 0o666, 0o777)
    devices = [{"path": f"/dev/m{mode:o}", **NULL, "fileMode": mode} for mode in modes]
    one = bundle(sh("stat -c %a /dev/m[0-9]* /dev/null /dev"), edit=with_devices(*devices))
    one.process["user"]["umask"] = 0o77
    previous = os.umask(umask)
    try:
        result = read_inside(factory, one)
    finally:
        os.umask(previous)
    assert result.lines == ["0", "1", "222", "666", "777", "666", "755"]


@pytest.mark.no_user_namespace("devices cannot be made")
def test_the_bits_of_the_file_type_in_a_mode_are_harmless(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    """docker writes the whole st_mode there."""
    edit = with_devices({"path": "/dev/one", **NULL, "fileMode": stat.S_IFCHR | 0o644})
    assert read_inside(factory, bundle(listing("/dev/one"), edit=edit)).lines == [
        "/dev/one character special file 1:3 644 0:0"
    ]


@pytest.mark.no_user_namespace("devices cannot be made")
def test_a_device_may_lie_anywhere(factory: lc.Factory, bundle: BundleMaker) -> None:
    edit = with_devices(
        {"path": "/srv/deep/null", **NULL},
        {"path": "/dev/below/deep/null", **NULL},
    )
    one = bundle(listing("/srv/deep/null", "/dev/below/deep/null"), edit=edit, private_rootfs=True)
    assert read_inside(factory, one).lines == [
        "/srv/deep/null character special file 1:3 666 0:0",
        "/dev/below/deep/null character special file 1:3 666 0:0",
    ]
    assert stat.S_ISCHR((one.rootfs / "srv/deep/null").stat().st_mode)


@pytest.mark.no_user_namespace("devices cannot be made")
def test_a_configured_device_takes_the_place_of_a_default_one(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    edit = with_devices(
        {"path": "/dev/null", **NULL, "fileMode": 0o600, "uid": 5},
        {"path": "/dev/../dev/zero", "type": "c", "major": 1, "minor": 7},
    )
    result = read_inside(factory, bundle(listing("/dev/null", "/dev/zero"), edit=edit))
    assert result.lines == [
        "/dev/null character special file 1:3 600 5:0",
        "/dev/zero character special file 1:7 666 0:0",
    ]


def own_dev(config: dict[str, Any]) -> None:
    """Leave /dev to the root file system."""
    config["mounts"] = [
        mount for mount in config["mounts"] if not mount["destination"].startswith("/dev")
    ]
    config["root"]["readonly"] = False
    config["linux"]["maskedPaths"] = []


@pytest.mark.parametrize("user_namespace", [False, True])
def test_the_default_devices_are_there_whatever_the_configuration_mounts(
    factory: lc.Factory, bundle: BundleMaker, user_namespace: bool
) -> None:
    one = bundle(sh(f"stat -c '%n %t:%T' {' '.join(DEFAULTS)}"), private_rootfs=True)
    own_dev(one.config)
    if user_namespace:
        add_user_namespace(one.config)
        one.rootfs.chmod(0o777)
        (one.rootfs / "dev").chmod(0o777)
    assert dict(line.split() for line in read_inside(factory, one).lines) == DEFAULTS


@pytest.mark.parametrize("where", ["configured", "default"])
@pytest.mark.parametrize("what", ["file", "directory", "other device", "fifo", "link"])
@pytest.mark.no_user_namespace("devices are the host's, bound over whatever lies there")
def test_something_else_in_its_place_is_an_error(
    factory: lc.Factory, bundle: BundleMaker, where: str, what: str
) -> None:
    one = bundle(private_rootfs=True)
    own_dev(one.config)
    name = "zero" if where == "default" else "mine"
    if where == "configured":
        one.linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 5}]
    path = one.rootfs / "dev" / name
    if what == "file":
        path.touch()
    elif what == "directory":
        path.mkdir()
    elif what == "other device":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("null")
    with pytest.raises(lc.errors.StepError, match="something else is in its place") as caught:
        create(factory, one)
    assert f"make the device /dev/{name}" in str(caught.value)
    assert factory.list() == []


@pytest.mark.no_user_namespace("devices are the host's")
def test_the_same_device_in_its_place_is_used_and_made_right(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(listing("/dev/mine", "/dev/zero"), private_rootfs=True)
    own_dev(one.config)
    one.linux["devices"] = [
        {"path": "/dev/mine", **NULL, "fileMode": 0o640, "uid": 7, "gid": 8},
    ]
    os.mknod(one.rootfs / "dev/mine", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(one.rootfs / "dev/zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    os.chown(one.rootfs / "dev/zero", 9, 9)
    assert read_inside(factory, one).lines == [
        "/dev/mine character special file 1:3 640 7:8",
        "/dev/zero character special file 1:5 666 0:0",
    ]


@pytest.mark.privileged_caller("makes a device")
def test_a_node_of_the_hosts_that_is_mounted_in_its_place_keeps_mode_and_owner(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    hosts = tmp_path / "node"
    os.mknod(hosts, stat.S_IFCHR | 0o600, os.makedev(1, 3))

    def edit(config: dict[str, Any]) -> None:
        with_devices({"path": "/dev/null", **NULL, "uid": 1000, "fileMode": 0o666})(config)
        bind(config, hosts, "/dev/null")

    read_inside(factory, bundle(edit=edit))
    status = hosts.stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o600, 0, 0)


@pytest.mark.no_user_namespace("devices cannot be made")
def test_no_symlink_leads_a_device_out(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    one = bundle(["stat", "-c", "%F", "/link/null"], private_rootfs=True)
    (one.rootfs / "link").symlink_to(outside)
    one.linux["devices"] = [{"path": "/link/null", **NULL}]
    assert read_inside(factory, one).text == "character special file\n"
    assert list(outside.iterdir()) == []


def test_a_user_namespace_shows_the_hosts_nodes(factory: lc.Factory, bundle: BundleMaker) -> None:
    def edit(config: dict[str, Any]) -> None:
        add_user_namespace(config)
        with_devices({"path": "/dev/loop0", **LOOP}, {"path": "/dev/null", **NULL})(config)

    script = (
        "stat -c '%n %F %t:%T' /dev/loop0 /dev/null; grep -c ' /dev/loop0 ' /proc/self/mountinfo"
    )
    assert read_inside(factory, bundle(sh(script), edit=edit)).lines == [
        "/dev/loop0 block special file 7:0",
        "/dev/null character special file 1:3",
        "1",
    ]


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ({"path": "/dev/not-there", **NULL}, "No such file or directory"),
        ({"path": "/dev/loop0", **NULL}, "the host's /dev/loop0 is of another type"),
        ({"path": "/dev/zero", **NULL}, "the host's /dev/zero is another device"),
    ],
)
def test_a_node_that_the_host_has_not_is_an_error_in_a_user_namespace(
    factory: lc.Factory, bundle: BundleMaker, device: dict[str, Any], words: str
) -> None:
    def edit(config: dict[str, Any]) -> None:
        add_user_namespace(config)
        with_devices(device)(config)

    with pytest.raises(lc.errors.StepError, match=words) as caught:
        create(factory, bundle(edit=edit))
    assert f"bind the device {device['path']}" in str(caught.value)


@pytest.mark.privileged_caller("what is mounted below may not be uncovered")
def test_a_dev_of_the_hosts_is_left_as_it_is(factory: lc.Factory, bundle: BundleMaker) -> None:
    def edit(config: dict[str, Any]) -> None:
        own_dev(config)
        bind(config, "/dev", "/dev", "rprivate")

    before = sorted(os.listdir("/dev"))
    one = bundle(["ls", "-A", "/dev"], edit=edit, private_rootfs=True)
    assert sorted(read_inside(factory, one).lines) == before
    assert sorted(os.listdir("/dev")) == before


@pytest.mark.privileged_caller("makes a device")
def test_ptmx_of_the_root_file_system_is_replaced(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["readlink", "/dev/ptmx"], private_rootfs=True)
    own_dev(one.config)
    os.mknod(one.rootfs / "dev/ptmx", stat.S_IFCHR | 0o666, os.makedev(5, 2))
    assert read_inside(factory, one).text == "pts/ptmx\n"


@pytest.mark.parametrize(
    ("device", "path"),
    [
        ({"path": "dev/x", **NULL}, "$.linux.devices[0].path"),
        ({"path": "/dev/x", "type": "c", "minor": 1}, "$.linux.devices[0].major"),
        ({"path": "/dev/x", "type": "b", "major": 1}, "$.linux.devices[0].minor"),
        ({"path": "/dev/x", "type": "c", "major": 5000, "minor": 1}, "$.linux.devices[0].major"),
        ({"path": "/dev/x", "type": "x", "major": 1, "minor": 1}, "$.linux.devices[0].type"),
        ({"type": "c", "major": 1, "minor": 1}, "$.linux.devices[0].path"),
    ],
)
def test_a_device_that_is_none_is_refused(
    factory: lc.Factory, bundle: BundleMaker, device: dict[str, Any], path: str
) -> None:
    with pytest.raises(lc.errors.SpecError) as caught:
        create(factory, bundle(edit=with_devices(device)))
    assert path in str(caught.value)
