"""Capabilities and cgroups that nobody was given."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from libpycontainer.spec import default
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    add_user_namespace,
    create,
    exec_inside,
    hook,
    read_inside,
    sh,
)
from tests.security.support import EVERY_SET, capability_lines

if TYPE_CHECKING:
    from tests.conftest import BundleMaker, Pyrunc

attack = pytest.mark.attack

STATUS = ["grep", "^Cap", "/proc/self/status"]
NET_RAW, KILL, AUDIT = 1 << 13, 1 << 5, 1 << 29


@attack("CVE-2022-24769", "gains by a file what only the inheritable set would let it")
@pytest.mark.parametrize("uid", [0, 1000])
def test_cve_2022_24769_inheritable_set_is_empty_unless_asked(
    factory: lc.Factory, bundle: BundleMaker, uid: int
) -> None:
    one = bundle(STATUS)
    one.process["user"] = {"uid": uid, "gid": uid}
    sets = capability_lines(read_inside(factory, one).text)
    assert sets["Inh"] == sets["Amb"] == 0
    assert sets["Bnd"] & KILL
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        for more in ({}, {"capabilities": ["CAP_NET_RAW"]}, {"user": (uid, uid)}):
            joined = capability_lines(exec_inside(container, STATUS, **more).text)
            assert joined["Inh"] == joined["Amb"] == 0


@attack("CVE-2022-24769", "gains by a file what only the inheritable set would let it")
@pytest.mark.privileged_caller("gives a file capabilities")
def test_cve_2022_24769_file_with_inheritable_capabilities(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(["/program", *STATUS[1:]], private_rootfs=True)
    program = one.rootfs / "program"
    shutil.copy(one.rootfs / "bin/busybox", one.rootfs / "grep")
    program.symlink_to("grep")
    # linux/capability.h, vfs_cap_data of the second revision: inheritable alone, and effective.
    words = (0x02000001, 0, NET_RAW, 0, 0)
    data = b"".join(word.to_bytes(4, "little") for word in words)
    os.setxattr(one.rootfs / "grep", "security.capability", data)
    one.process.update(args=["/grep", *STATUS[1:]], user={"uid": 1000, "gid": 1000})
    one.process["noNewPrivileges"] = False
    one.process["capabilities"]["bounding"].append("CAP_NET_RAW")
    sets = capability_lines(read_inside(factory, one).text)
    assert sets["Bnd"] & NET_RAW
    assert not sets["Eff"] | sets["Prm"] | sets["Inh"]


@pytest.mark.parametrize(
    "uid",
    [
        pytest.param(0, marks=attack("CVE-2022-29162", "keeps what exec was given as inheritable")),
        pytest.param(
            1000, marks=attack("CVE-2022-27650", "keeps what exec was given as inheritable")
        ),
    ],
)
def test_cve_2022_29162_and_27650_exec_with_a_capability(
    pyrunc: Pyrunc, bundle: BundleMaker, uid: int
) -> None:
    one = bundle(FOREVER)
    pyrunc("run", "--detach", "--bundle", one, "one", check=True)
    done = pyrunc("exec", "--cap", "CAP_NET_RAW", "--user", f"{uid}:{uid}", "one", *STATUS)
    pyrunc("delete", "--force", "one", check=True)
    sets = capability_lines(done.stdout)
    assert sets["Bnd"] & NET_RAW
    assert sets["Inh"] == sets["Amb"] == 0
    assert bool(sets["Eff"] & NET_RAW) is (uid == 0)


@attack("CVE-2025-27612", "joins with ambient and inheritable capabilities nobody named")
def test_cve_2025_27612_exec_keeps_nothing(factory: lc.Factory, bundle: BundleMaker) -> None:
    everything = [f"CAP_{name}" for name in ("KILL", "NET_RAW", "AUDIT_WRITE")]
    one = bundle(FOREVER)
    one.process["capabilities"] = dict.fromkeys(EVERY_SET, everything)
    without = {"args": STATUS, "cwd": "/", "user": {"uid": 1000, "gid": 1000}}
    with create(factory, one) as container:
        container.start()
        given: list[dict[str, Any]] = [{}, {"capabilities": {}}]
        for capabilities in [*given, {"capabilities": {"bounding": everything}}]:
            process = lc.Process.from_document(
                {**without, **capabilities}, stdin=lc.DEVNULL, stdout=lc.PIPE, stderr=lc.DEVNULL
            )
            with container.exec(process):
                output, _ = process.communicate(timeout=TIMEOUT)
            sets = capability_lines((output or b"").decode())
            assert not sets["Inh"] | sets["Amb"] | sets["Eff"] | sets["Prm"]
            assert sets["Bnd"] == (
                NET_RAW | KILL | AUDIT if capabilities.get("capabilities") else 0
            )


# ---- cgroups ------------------------------------------------------------------------------------


@attack("CVE-2023-25809", "writes to the host's cgroups without a cgroup namespace of its own")
@pytest.mark.privileged_caller("gives a group of the host's to the container's root")
@pytest.mark.parametrize("sysfs", ["sysfs", "rbind"])
def test_cve_2023_25809_cgroups_are_read_only(
    factory: lc.Factory, bundle: BundleMaker, sysfs: str
) -> None:
    script = """
find /sys/fs/cgroup -mindepth 1 -type d -user 0 | while read place; do
    echo "owned $place"
    mkdir $place/evil && echo MADE
    echo 0 >$place/cgroup.procs && echo MOVED
done
echo end
"""
    one = bundle(sh(script))
    add_user_namespace(one.config)
    spaces = one.linux["namespaces"]
    one.linux["namespaces"] = [each for each in spaces if each["type"] != "cgroup"]
    if sysfs == "rbind":
        # As "spec --rootless" writes it.
        one.config["mounts"] = default.config(rootless=True)["mounts"]
    path = one.linux["cgroupsPath"]
    # A user's own groups are his, as systemd delegates them.
    give = f"find /sys/fs/cgroup -path '*{path}' -exec chown -R 300000:300000 {{}} +"
    one.config["hooks"] = {"createRuntime": [hook(give)]}
    result = read_inside(factory, one)
    owned = [line for line in result.lines if line.startswith("owned ")]
    assert owned
    assert result.lines[-1] == "end"
    assert "MADE" not in result.lines
    assert "MOVED" not in result.lines
