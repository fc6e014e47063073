"""Classes and priorities of network traffic, which only cgroup v1 has.

Hosts seldom mount these controllers. The tests run in a mount namespace that shows them, beside
whatever else the host has.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from tests.privileged.support import FOREVER, REPOSITORY, create, groups_left

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

VIEW = "LPC_TEST_NETWORK_CONTROLLERS_VIEW"
NAMES = ("net_cls", "net_prio")
# The v2 hierarchy is bound, for a new mount would take its options away from the host's.
PREPARE = """
set -e
new=/mnt old=/sys/fs/cgroup
mount -t tmpfs none $new
mkdir $new/unified $new/net_cls,net_prio
if test -e $old/cgroup.controllers; then mount --bind $old $new/unified
else mount --bind $old/unified $new/unified; fi
while read name hierarchy rest; do
    case "$name $hierarchy" in
        *" 0" | "#"*) continue;;
    esac
    mkdir $new/$name && mount -t cgroup -o $name none $new/$name
done </proc/cgroups
mount -t cgroup -o net_cls,net_prio none $new/net_cls,net_prio
umount -R $old
mount --move $new $old
exec "$@"
"""

needs_view = pytest.mark.skipif(VIEW not in os.environ, reason="runs in the view, see below")
LIMITS = {"classID": 0x100001, "priorities": [{"name": "lo", "priority": 3}]}


@needs_view
def test_class_and_priorities_are_on_the_kernels_files(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    made = bundle(FOREVER, edit=lambda c: c["linux"]["resources"].update(network=LIMITS))
    with create(factory, made) as container:
        paths = container.cgroup.paths()
        assert Path(paths["net_cls"], "net_cls.classid").read_text() == f"{0x100001}\n"
        assert "lo 3" in Path(paths["net_prio"], "net_prio.ifpriomap").read_text().splitlines()
        members = Path(paths["net_cls"], "cgroup.procs").read_text().split()
        assert members == [str(container.pid)]
        container.update({"network": {"classID": 7, "priorities": [{"name": "lo", "priority": 1}]}})
        assert Path(paths["net_cls"], "net_cls.classid").read_text() == "7\n"
        assert "lo 1" in Path(paths["net_prio"], "net_prio.ifpriomap").read_text().splitlines()


@needs_view
def test_an_interface_that_is_not_there_is_named(factory: lc.Factory, bundle: BundleMaker) -> None:
    rows = [{"name": "lo", "priority": 3}, {"name": "none0", "priority": 3}]
    network = {"priorities": rows}
    made = bundle(FOREVER, edit=lambda c: c["linux"]["resources"].update(network=network))
    field = re.escape("$.linux.resources.network.priorities[1]: ")
    with pytest.raises(lc.CgroupError, match=f"^{field}.*none0 3.*ENODEV"):
        create(factory, made)
    assert groups_left(made.linux["cgroupsPath"]) == []


@pytest.mark.skipif(VIEW in os.environ, reason="this is the view already")
@pytest.mark.privileged_caller("mounts on the host")
def test_the_battery_where_the_controllers_are_mounted() -> None:
    known = [line.split() for line in Path("/proc/cgroups").read_text().splitlines()]
    free = {name for name, hierarchy, *_ in known if hierarchy == "0"}
    if not free.issuperset(NAMES):
        pytest.skip("this kernel does not have the controllers, or they are mounted already")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", PREPARE, "sh", *command],
        env={**os.environ, VIEW: "1"},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
