"""What the root of a default container would do to the kernel."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from tests.privileged.support import read_inside, sh, writable_tmp
from tests.security.support import grant

if TYPE_CHECKING:
    from tests.conftest import BundleMaker


REFUSED = {
    "core_pattern": "cat /proc/sys/kernel/core_pattern >/tmp/x && "
    "cat /tmp/x >/proc/sys/kernel/core_pattern",
    "a sysctl": "cat /proc/sys/vm/swappiness >/tmp/x && cat /tmp/x >/proc/sys/vm/swappiness",
    "by init's root": "cat /proc/1/root/proc/sys/vm/swappiness >/tmp/x && "
    "cat /tmp/x >/proc/1/root/proc/sys/vm/swappiness",
    "sysrq": "echo h >/proc/sysrq-trigger",
    "kcore": "test $(head -c 100 /proc/kcore | wc -c) -gt 0",
    "keys": "test $(head -c 100 /proc/keys | wc -c) -gt 0",
    "timer_list": "test $(head -c 100 /proc/timer_list | wc -c) -gt 0",
    "firmware": 'test -n "$(ls -A /sys/firmware)"',
    "sysfs": "echo 1 >/sys/kernel/uevent_seqnum || echo /x >/sys/kernel/uevent_helper",
    "a mount": "mount -t tmpfs none /tmp",
    "a namespace": "unshare -m true",
    "a cgroup": "for each in $(grep ' cgroup2\\? ' /proc/mounts | cut -d' ' -f2); do "
    "mkdir $each/planted && exit 0; done; exit 1",
    "release_agent": "for each in /sys/fs/cgroup/*/release_agent; do echo /x >$each && exit 0; "
    "done; exit 1",
    "the disk": "for number in 0 1 2; do mknod /tmp/d$number b DISK; head -c 1 /tmp/d$number && "
    "exit 0; done; exit 1",
    "memory": "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem",
    "kernel's log": "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg",
    "a remount": "mount -o remount,rw /proc/sys",
}


@pytest.mark.attack("default confinement", "reaches the kernel as root of a default container")
@pytest.mark.parametrize("script", REFUSED.values(), ids=REFUSED)
def test_root_of_a_default_container_is_refused(
    factory: lc.Factory, bundle: BundleMaker, script: str
) -> None:
    """With the right to make nodes besides; opening them is what the device rules forbid."""
    disk = os.stat("/").st_dev
    script = script.replace("DISK", f"{os.major(disk)} {os.minor(disk)}")
    one = bundle(sh(f"({script}); echo code $?"))
    writable_tmp(one.config)
    grant(
        one, "CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"
    )
    last = read_inside(factory, one).lines[-1]
    assert last.startswith("code ")
    assert last != "code 0"
