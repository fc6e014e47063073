"""What the spawner and init open themselves, as traps: a root filesystem may hold anything."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from tests.privileged.support import FOREVER, create, exec_inside, read_inside

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

ATTACK = pytest.mark.attack(
    "planted traps", "hangs or misleads init by what lies at the paths it opens"
)
pytestmark = [ATTACK, pytest.mark.timeout(20)]

OPENED = (
    "etc/passwd",
    "etc/group",
    "etc/mtab",
    "dev",
    "dev/null",
    "dev/console",
    "dev/ptmx",
    "dev/pts",
    "dev/shm",
    "dev/fd",
    "proc",
    "sys",
    "root",
    "tmp",
    "home/app",
    "bin/true",
    "run/point",
)
KINDS = (
    "socket",
    "fifo",
    "directory",
    "file",
    "link",
    "loop",
    pytest.param("device", marks=pytest.mark.privileged_caller("makes devices")),
)
ENTERED = ("etc", "proc", "sys", "dev", "tmp", "root")


def replace(path: Path, kind: str) -> None:
    """Put something of that kind in the place of whatever is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name}-before"))
    else:
        path.unlink(missing_ok=True)
    if kind == "socket":
        # Its path has 107 bytes at most.
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        with socket.socket(socket.AF_UNIX) as planted:
            planted.bind(f"/proc/self/fd/{directory}/{path.name}")
        os.close(directory)
    elif kind == "fifo":
        os.mkfifo(path, 0o777)
    elif kind == "directory":
        (path / "planted").mkdir(parents=True)
    elif kind == "file":
        path.write_text("planted\n")
        path.chmod(0o755)
    elif kind == "link":
        path.symlink_to("/../../../../../../etc")
    elif kind == "loop":
        path.symlink_to(path.name)
    else:
        # Whoever opens it for reading waits for a line that nobody types.
        os.mknod(path, stat.S_IFCHR | 0o777, os.makedev(4, 63))


def bare(bundle: BundleMaker, path: str) -> Bundle:
    """Nothing is mounted over /dev, so that what lies there is met."""
    one = bundle(["true"], private_rootfs=True)
    one.config["root"]["readonly"] = False
    if path.startswith("dev/"):
        mounts = one.config["mounts"]
        one.config["mounts"] = [each for each in mounts if each["destination"] != "/dev"]
    one.config["mounts"].append({"destination": "/run/point", "type": "tmpfs", "source": "tmpfs"})
    one.process["cwd"] = "/home/app"
    one.process["user"] = {"uid": 1000, "gid": 1000}
    return one


def of_the_host() -> list[object]:
    """What of the host lies where a link may lead: names, owners, modes."""
    found: list[object] = [sorted(os.listdir("/etc"))]
    for each in ENTERED:
        status = os.stat(f"/{each}")
        found.append((status.st_dev, status.st_ino, status.st_mode, status.st_uid))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", OPENED)
def test_what_init_opens_may_be_anything(
    factory: lc.Factory, bundle: BundleMaker, path: str, kind: str
) -> None:
    one = bare(bundle, path)
    replace(one.rootfs / path, kind)
    host = of_the_host()
    refusal = ""
    try:
        assert read_inside(factory, one).code == 0
    except lc.ContainerError as error:
        refusal = str(error)
    assert not refusal or not path.startswith("etc/")
    # It names what is in its way, not only that something is.
    assert not refusal or path.partition("/")[0] in refusal or "true" in refusal
    assert factory.list() == []
    assert of_the_host() == host


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["etc/passwd", "etc/group", "home/app", "bin/true", "proc"])
def test_what_exec_opens_may_be_anything(
    factory: lc.Factory, bundle: BundleMaker, path: str, kind: str
) -> None:
    """The container replaces it while it runs; what it has mounted it cannot take away so."""
    one = bundle(FOREVER, private_rootfs=True)
    one.process["user"] = {"uid": 1000, "gid": 1000}
    with create(factory, one) as container:
        container.start()
        replace(one.rootfs / path, kind)
        refusal = ""
        try:
            assert exec_inside(container, ["true"], cwd="/home/app").code == 0
        except lc.ContainerError as error:
            refusal = str(error)
        # Without the two files there are no names, and no home; a program needs neither.
        assert not refusal or not path.startswith("etc/")
        assert not refusal or path.rpartition("/")[2] in refusal
        assert exec_inside(container, ["echo", "on"], cwd="/").text == "on\n"
