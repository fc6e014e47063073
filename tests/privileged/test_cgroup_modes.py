"""The same battery on this host's hierarchies as they are, and as if there was only version 2.

The second run happens in a mount namespace of its own, started by the last test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    create,
    exec_inside,
    group_files,
    groups_left,
    read_inside,
    sh,
    writable_tmp,
)

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

VIEW = "LPC_TEST_V2_VIEW"
PURE = os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def has_controller(name: str) -> bool:
    if not PURE:
        return os.path.isdir(f"/sys/fs/cgroup/{name}")
    return name in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()


def test_mode_is_the_expected_one(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER)) as container:
        assert (container.cgroup.mode == "v2") == PURE
    if os.environ.get(VIEW):
        assert PURE


def test_every_process_is_in_every_group(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(FOREVER)
    with create(factory, one) as container:
        container.start()
        with container.exec(lc.Process(FOREVER)) as process:
            for path in container.cgroup.paths().values():
                members = set(map(int, Path(path, "cgroup.procs").read_text().split()))
                assert members == {container.pid, process.pid}, path
            process.kill()
            process.wait(TIMEOUT)
    assert groups_left(one.linux["cgroupsPath"]) == []


def test_freezing_stops_and_thawing_goes_on(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        container.pause()
        assert container.status == "paused"
        with pytest.raises(lc.StatusError):
            container.exec(lc.Process(["true"]))
        container.resume()
        assert exec_inside(container, ["echo", "on"]).text == "on\n"


@pytest.mark.parametrize("paused", [False, True])
def test_killing_reaches_every_process(
    factory: lc.Factory, bundle: BundleMaker, paused: bool
) -> None:
    one = bundle(sh("for i in 1 2 3 4 5; do sleep 1000 & done; echo ready; wait"))
    # Without a pid namespace of its own, init's end is nobody else's.
    one.linux["namespaces"] = [n for n in one.linux["namespaces"] if n["type"] != "pid"]
    with create(factory, one, stdout=lc.PIPE) as container:
        container.start()
        assert container.process is not None
        assert container.process.stdout is not None
        container.process.stdout.readline()
        assert len(container.processes()) == 6
        if paused:
            container.pause()
        container.signal(signal.SIGKILL, all=True)
        assert container.wait(TIMEOUT) == -signal.SIGKILL
    assert groups_left(one.linux["cgroupsPath"]) == []


def test_groups_made_inside_go_as_well(factory: lc.Factory, bundle: BundleMaker) -> None:
    def writable(config: dict[str, Any]) -> None:
        for mount in config["mounts"]:
            if mount["destination"] == "/sys/fs/cgroup":
                mount["options"].remove("ro")

    script = """
cd /sys/fs/cgroup
for d in . *; do mkdir $d/inner && mkdir $d/inner/most; done 2>/dev/null
ls -d inner */inner
"""
    one = bundle(sh(script), edit=writable)
    result = read_inside(factory, one)
    assert "inner" in result.text
    assert groups_left(one.linux["cgroupsPath"]) == []


def test_limits_are_set_or_refused(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(FOREVER, edit=lambda c: c["linux"]["resources"].update(pids={"limit": 17}))
    if not has_controller("pids"):
        with pytest.raises(lc.CgroupError, match=r"\$\.linux\.resources\.pids"):
            create(factory, one)
        assert groups_left(one.linux["cgroupsPath"]) == []
        return
    with create(factory, one):
        assert group_files(one.linux["cgroupsPath"], "pids.max", "pids.max", "pids") == "17"


@pytest.mark.no_user_namespace("device rules cannot be loaded, nor devices made")
def test_devices_are_denied_unless_listed(factory: lc.Factory, bundle: BundleMaker) -> None:
    def configure(config: dict[str, Any]) -> None:
        for names in config["process"]["capabilities"].values():
            names.append("CAP_MKNOD")
        config["linux"]["resources"]["devices"] += [
            {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}
        ]
        writable_tmp(config)

    script = """
cd /tmp; mknod mem c 1 1; mknod disk b 7 0; mknod null c 1 3; mknod zero c 1 5
for name in mem disk null zero; do cat <$name | head -c 1 >/dev/null 2>&1; done
for name in mem disk null zero; do true <$name && echo $name; done 2>&1
"""
    text = read_inside(factory, bundle(sh(script), edit=configure)).text
    assert text.count("/tmp") == 0
    opened = [line for line in text.splitlines() if line in ("mem", "disk", "null", "zero")]
    assert opened == ["null", "zero"]
    assert "Operation not permitted" in text


def test_groups_are_shown_inside(factory: lc.Factory, bundle: BundleMaker) -> None:
    script = """
grep -c cgroup /proc/self/mountinfo; cat /proc/self/cgroup; cd /sys/fs/cgroup
cat $(ls -d cgroup.procs */cgroup.procs 2>/dev/null | head -n 1); mkdir new
"""
    one = bundle(sh(script))
    result = read_inside(factory, one)
    assert int(result.lines[0]) > 0
    # The group that is mounted is the container's own, and it is read-only.
    assert "1" in result.lines
    if PURE:
        assert "Read-only file system" in result.text
        assert "0::/" in result.lines


def test_exec_after_the_container_divided_its_group(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    # What systemd does inside: from then on the kernel lets no process into the group itself.
    def writable(config: dict[str, Any]) -> None:
        for mount in config["mounts"]:
            if mount["destination"] == "/sys/fs/cgroup":
                mount["options"].remove("ro")

    if not PURE:
        pytest.skip("cgroup v1 lets processes into every group")
    script = """
cd /sys/fs/cgroup; mkdir init; echo 1 >init/cgroup.procs
for name in $(cat cgroup.controllers); do echo +$name >cgroup.subtree_control; done
cat cgroup.subtree_control; echo ready; sleep 1000
"""
    one = bundle(sh(script), edit=writable)
    with create(factory, one, stdout=lc.PIPE) as container:
        container.start()
        assert container.process is not None
        assert container.process.stdout is not None
        divided = container.process.stdout.readline().strip()
        if divided != b"ready":
            container.process.stdout.readline()
        assert exec_inside(container, ["echo", "in"]).text == "in\n"
        assert len(container.processes()) == 2


def test_oom_is_counted(factory: lc.Factory, bundle: BundleMaker) -> None:
    if not has_controller("memory"):
        pytest.skip("no memory controller here")
    one = bundle(
        sh("tail -n 1 /dev/zero; sleep 1000"),
        edit=lambda c: c["linux"]["resources"].update(memory={"limit": 32 << 20}),
    )
    with create(factory, one, stderr=lc.PIPE) as container:
        container.start()
        assert container.process is not None
        assert container.process.stderr is not None
        container.process.stderr.readline()
        memory = container.stats().memory
        assert memory is not None
        assert memory.oom_kills


@pytest.mark.skipif(PURE, reason="there is nothing but version 2 here")
@pytest.mark.timeout(100)
@pytest.mark.privileged_caller("mounts on the host")
def test_the_same_with_version_two_alone() -> None:
    if not os.path.isdir("/sys/fs/cgroup/unified"):
        pytest.skip("no cgroup v2 hierarchy here")
    view = 'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", view, "sh", *pytest_],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, VIEW: "1"},
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
