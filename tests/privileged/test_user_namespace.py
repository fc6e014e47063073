"""A user namespace made by root: who owns what, what can be mounted, and who may look where."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import (
    FOREVER,
    add_user_namespace,
    bind,
    create,
    exec_inside,
    read_inside,
    sh,
    writable_tmp,
)

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

FIRST = 300_000


@pytest.mark.privileged_caller("these are mapped for root")
def test_ids_are_mapped(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(sh("id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups"))
    add_user_namespace(one.config)
    lines = read_inside(factory, one).lines
    assert lines[:2] == ["0", "0"]
    assert lines[2].split() == lines[3].split() == ["0", str(FIRST), "65536"]
    assert lines[4] == "allow"


@pytest.mark.privileged_caller("these are mapped for root")
def test_process_is_an_ordinary_user_of_the_host(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(FOREVER, edit=add_user_namespace)
    one.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [50]}
    with create(factory, one) as container:
        container.start()
        status = Path(f"/proc/{container.pid}/status").read_text()
        assert f"Uid:\t{FIRST + 1000}\t" in status
        assert f"Gid:\t{FIRST + 1000}\t" in status
        assert f"Groups:\t{FIRST + 50}" in status


@pytest.mark.no_user_namespace("expects a root filesystem that is the host's")
def test_files_are_owned_inside(factory: lc.Factory, bundle: BundleMaker, tmp_path: Path) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    os.chown(root, FIRST, FIRST)

    def configure(config: dict[str, Any]) -> None:
        add_user_namespace(config)
        bind(config, root, "/tmp")

    script = "stat -c %u / /proc /sys /dev /dev/pts /dev/shm /tmp; touch /tmp/new"
    result = read_inside(factory, bundle(sh(script), edit=configure))
    nobody = "65534"
    assert result.lines == [nobody, nobody, nobody, "0", "0", "0", "0"]
    assert os.stat(root / "new").st_uid == FIRST


def test_devices_are_the_hosts(factory: lc.Factory, bundle: BundleMaker) -> None:
    names = ("null", "zero", "full", "random", "urandom", "tty")
    script = (
        "cd /dev; stat -c '%n %t:%T' "
        + " ".join(names)
        + "; echo x >null && head -c 1 zero | wc -c"
    )
    one = bundle(sh(script), edit=add_user_namespace)
    expected = [
        f"{n} {d}" for n, d in zip(names, ("1:3", "1:5", "1:7", "1:8", "1:9", "5:0"), strict=True)
    ]
    assert read_inside(factory, one).lines == [*expected, "1"]


def test_kernel_file_systems_are_its_own(factory: lc.Factory, bundle: BundleMaker) -> None:
    script = "ls -d /proc/[0-9]*; ls /sys/class/net; hostname; ls /dev/mqueue; echo $$"
    lines = read_inside(factory, bundle(sh(script), edit=add_user_namespace)).lines
    assert lines[0] == "/proc/1"
    assert lines[-3:] == ["lo", "runc", "1"]


@pytest.mark.privileged_caller("these are mapped for root")
def test_it_can_be_entered(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER, edit=add_user_namespace)) as container:
        container.start()
        result = exec_inside(container, sh("id -u; cat /proc/self/uid_map; echo /proc/[0-9]*"))
        assert result.lines[0] == "0"
        assert result.lines[1].split() == ["0", str(FIRST), "65536"]
        assert "/proc/1 " in result.lines[2]
        assert exec_inside(container, ["id", "-u"], user=1000).text == "1000\n"
        with container.exec(lc.Process(FOREVER)) as process:
            places = [os.readlink(f"/proc/{p.pid}/ns/user") for p in (container, process)]
            assert places[0] == places[1] != os.readlink("/proc/self/ns/user")
            process.kill()
            process.wait()


def test_cgroup_namespace_hides_where_it_is(factory: lc.Factory, bundle: BundleMaker) -> None:
    def configure(config: dict[str, Any]) -> None:
        add_user_namespace(config)
        if {"type": "cgroup"} not in config["linux"]["namespaces"]:
            config["linux"]["namespaces"].append({"type": "cgroup"})

    one = bundle(sh("cat /proc/self/cgroup; ls /sys/fs/cgroup"), edit=configure)
    result = read_inside(factory, one)
    assert result.code == 0
    assert one.linux["cgroupsPath"] not in result.text
    assert all(line.endswith(":/") for line in result.lines if line[0].isdigit() and ":" in line)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_bind_source_that_only_root_may_reach(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, kind: str
) -> None:
    hidden = tmp_path / "hidden"
    (hidden / "directory").mkdir(parents=True)
    (hidden / "directory/file").write_text("reached\n")
    hidden.chmod(0o700)

    def configure(config: dict[str, Any]) -> None:
        add_user_namespace(config)
        writable_tmp(config)
        bind(config, hidden / "directory", "/tmp/directory", "ro")
        bind(config, hidden / "directory/file", "/tmp/file", "ro")

    path = "/tmp/file" if kind == "file" else "/tmp/directory/file"
    assert read_inside(factory, bundle(["cat", path], edit=configure)).text == "reached\n"


def test_root_that_only_root_may_reach(
    factory: lc.Factory, bundle: BundleMaker, busybox_rootfs: Path, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    shutil.copytree(busybox_rootfs, hidden / "rootfs", symlinks=True)
    one = bundle(["echo", "reached"], edit=add_user_namespace)
    one.config["root"]["path"] = str(hidden / "rootfs")
    assert read_inside(factory, one).text == "reached\n"


def test_missing_bind_source_is_named(factory: lc.Factory, bundle: BundleMaker) -> None:
    def configure(config: dict[str, Any]) -> None:
        add_user_namespace(config)
        bind(config, "/no/such/source", "/tmp")

    with pytest.raises(lc.ContainerError, match=r"mounts\[7\]: bind /no/such/source on /tmp"):
        create(factory, bundle(edit=configure))
    assert factory.list() == []


def test_map_that_the_kernel_refuses_is_an_error(factory: lc.Factory, bundle: BundleMaker) -> None:
    def configure(config: dict[str, Any]) -> None:
        add_user_namespace(config)
        config["linux"]["uidMappings"].append({"containerID": 10, "hostID": 1, "size": 5})

    with pytest.raises(lc.ContainerError, match=r"uid_map|uidMappings"):
        create(factory, bundle(edit=configure))
    assert factory.list() == []


@pytest.mark.privileged_caller("has more ids")
def test_user_that_is_not_mapped_is_an_error(factory: lc.Factory, bundle: BundleMaker) -> None:
    def configure(config: dict[str, Any]) -> None:
        add_user_namespace(config, size=100)
        config["process"]["user"] = {"uid": 1000, "gid": 0}

    refused = pytest.raises(lc.ContainerError, match=r"1000|user")
    with refused, create(factory, bundle(edit=configure)) as container:
        container.start()
    assert factory.list() == []


@pytest.mark.privileged_caller("root inside is the user himself")
def test_root_inside_cannot_touch_the_hosts_files(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts"
    hosts.mkdir()
    (hosts / "secret").write_text("secret")
    (hosts / "secret").chmod(0o600)

    def configure(config: dict[str, Any]) -> None:
        add_user_namespace(config)
        bind(config, hosts, "/tmp")

    result = read_inside(factory, bundle(sh("cat /tmp/secret; echo x >/tmp/new"), edit=configure))
    assert "secret\n" not in result.text.replace("/tmp/secret", "")
    assert not (hosts / "new").exists()


@pytest.mark.privileged_caller("these are mapped for root")
def test_user_namespace_of_another_container_can_be_joined(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    files = {"user": "user", "network": "net", "ipc": "ipc", "uts": "uts"}
    with create(factory, bundle(FOREVER, edit=add_user_namespace), "first") as first:
        first.start()

        def join(config: dict[str, Any]) -> None:
            add_user_namespace(config)
            config.pop("hostname")
            for namespace in config["linux"]["namespaces"]:
                if namespace["type"] in files:
                    namespace["path"] = f"/proc/{first.pid}/ns/{files[namespace['type']]}"

        result = read_inside(
            factory, bundle(sh("id -u; cat /proc/self/uid_map; hostname"), edit=join), "second"
        )
        assert result.lines[0] == "0"
        assert result.lines[1].split() == ["0", str(FIRST), "65536"]
        assert result.lines[2] == "runc"
