"""What the comparison with runc found (tests/conformance/test_differential.py), each by itself."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import add_user_namespace, bind, read_inside, sh

if TYPE_CHECKING:
    from tests.conftest import BundleMaker


def without_namespace(config: dict[str, Any], type: str) -> None:
    namespaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [each for each in namespaces if each["type"] != type]


@pytest.fixture
def confined(tmp_path: Path) -> Iterator[Path]:
    """A mount of the host that has every flag to protect it."""
    options = "nosuid,nodev,noexec,noatime,size=64k,mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "confined", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.privileged_caller("mounts on the host")
def test_a_bind_in_a_user_namespace_keeps_the_flags_of_its_source(
    factory: lc.Factory, bundle: BundleMaker, confined: Path
) -> None:
    # They are locked there: container root could not take them off either (man 7 mount_namespaces).
    one = bundle(sh("grep ' /tmp ' /proc/self/mountinfo"), edit=add_user_namespace)
    bind(one.config, str(confined), "/tmp", "ro")
    options = read_inside(factory, one).text.split()[5].split(",")
    assert {"ro", "nosuid", "nodev", "noexec", "noatime"} <= set(options)


def test_sysctls_can_be_set_where_a_procfs_of_ones_own_cannot_be_mounted(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    # A user namespace may mount a procfs only for a pid namespace that it owns.
    one = bundle(["cat", "/proc/sys/net/ipv4/ip_forward"], edit=add_user_namespace)
    without_namespace(one.config, "pid")
    one.config["mounts"][0] = {"destination": "/proc", "source": "/proc", "options": ["rbind"]}
    one.config["linux"].update(maskedPaths=[], readonlyPaths=[])
    for value in ("0", "1"):
        one.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": value}
        assert read_inside(factory, one).lines == [value]


def test_sysctls_are_not_written_to_what_only_looks_like_a_procfs(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    (tmp_path / "sys/net/ipv4").mkdir(parents=True)
    fake = tmp_path / "sys/net/ipv4/ip_forward"
    fake.touch(0o666)
    tmp_path.chmod(0o755)
    one = bundle(edit=add_user_namespace)
    without_namespace(one.config, "pid")
    one.config["mounts"][0] = {"destination": "/proc", "source": str(tmp_path), "options": ["bind"]}
    one.config["linux"].update(
        maskedPaths=[], readonlyPaths=[], sysctl={"net.ipv4.ip_forward": "1"}
    )
    with pytest.raises(lc.ContainerError, match="/proc is not a procfs"):
        read_inside(factory, one)
    assert fake.read_text() == ""


def test_the_message_queues_belong_to_the_containers_root(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(["stat", "-c", "%u:%g", "/dev/mqueue"], edit=add_user_namespace)
    assert read_inside(factory, one).lines == ["0:0"]


@pytest.mark.parametrize(
    ("user", "permissions"),
    [
        pytest.param(False, "3f1b0000", marks=pytest.mark.no_user_namespace("is without one")),
        (True, "3f130008"),
    ],
)
def test_the_session_keyring_can_be_searched_inside(
    factory: lc.Factory, bundle: BundleMaker, user: bool, permissions: str
) -> None:
    id = f"{bundle().path.name}-{user}"
    one = bundle(["grep", f"_ses.{id}:", "/proc/keys"])
    one.config["linux"]["maskedPaths"] = []
    if user:
        add_user_namespace(one.config)
    assert read_inside(factory, one, id).text.split()[4] == permissions


def test_what_a_mount_point_takes_back_is_not_made(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(private_rootfs=True)
    (one.rootfs / "link").symlink_to("opt/deep")
    for destination in ("/gone/../here", "/link/../beside", "/dangling/below"):
        one.config["mounts"].append({"destination": destination, "type": "tmpfs"})
    (one.rootfs / "dangling").symlink_to("made/there")
    assert read_inside(factory, one).code == 0
    made = {path.relative_to(one.rootfs) for path in one.rootfs.rglob("*") if path.is_dir()}
    wanted = ("here", "opt", "opt/beside", "made/there/below")
    assert set(map(Path, wanted)) <= made
    assert not {Path("gone"), Path("opt/deep"), Path("beside")} & made


def test_a_shared_root_is_shared_once_it_is_the_root(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(sh("grep ' / / ' /proc/self/mountinfo || grep ' /[^ ]* / ' /proc/self/mountinfo"))
    one.config["linux"].update(rootfsPropagation="shared", readonlyPaths=[], maskedPaths=[])
    result = read_inside(factory, one)
    assert result.code == 0
    assert " shared:" in result.text


def test_the_root_as_a_read_only_path_cannot_be_written(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(["touch", "/new"], private_rootfs=True)
    one.config["root"]["readonly"] = False
    one.config["linux"]["readonlyPaths"] = ["/"]
    result = read_inside(factory, one)
    assert result.code == 1
    assert "Read-only file system" in result.text


def test_a_mount_on_the_root_is_the_root(
    factory: lc.Factory, bundle: BundleMaker, busybox_rootfs: Path
) -> None:
    one = bundle(sh("ls -d /below /tmp/made/file"), private_rootfs=True)
    (one.rootfs / "below").mkdir()
    (one.path / "source").mkdir()
    (one.path / "source/file").write_text("it is there\n")
    one.config["mounts"][0:0] = [
        {"destination": "/", "type": "bind", "source": str(busybox_rootfs), "options": ["rbind"]},
        {"destination": "/tmp", "type": "tmpfs"},
        {"destination": "/tmp/made", "type": "bind", "source": "source", "options": ["bind"]},
    ]
    assert sorted(read_inside(factory, one).lines) == [
        "/tmp/made/file",
        "ls: /below: No such file or directory",
    ]
