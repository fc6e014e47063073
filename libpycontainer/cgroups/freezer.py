"""Stopping and resuming every process of a group; never left in between."""

from __future__ import annotations

import errno
import time

from libpycontainer.cgroups.files import GONE, pairs, read, read_optional, write
from libpycontainer.errors import CgroupError

_SECONDS = 10.0


def freeze_v1(directory: str) -> None:
    """Stop every process through the v1 freezer controller.

    A v1 freezer can stay FREEZING while processes keep appearing: it has to be told again, and
    thawed now and then (runc's experience; kernel cgroup-v1/freezer-subsystem.rst before 5.x).
    """
    state = directory + "/freezer.state"
    deadline = time.monotonic() + _SECONDS
    attempt = 0
    try:
        while True:
            write(state, "FROZEN", what="the freezer to")
            if read(state) == "FROZEN":
                return
            attempt += 1
            if time.monotonic() > deadline:
                raise _stuck(directory)
            if attempt % 50 == 0:
                write(state, "THAWED", what="the freezer to")
                time.sleep(0.01)
            elif attempt % 25 == 0:
                time.sleep(0.0001)
    except BaseException:
        thaw_v1(directory)
        raise


def thaw_v1(directory: str) -> None:
    """Let every process run again; a group that is gone has none."""
    try:
        write(directory + "/freezer.state", "THAWED", what="the freezer to")
    except CgroupError as error:
        if error.errno not in GONE:
            raise


def frozen_v1(directory: str) -> bool:
    """Whether this group itself was frozen (a frozen parent does not count, as in runc)."""
    deadline = time.monotonic() + 1
    while (state := read_optional(directory + "/freezer.state")) == "FREEZING":
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return state == "FROZEN" and read_optional(directory + "/freezer.self_freezing") != "0"


def freeze_v2(directory: str) -> None:
    """Stop every process through cgroup.freeze and wait until the kernel says all have."""
    try:
        write(directory + "/cgroup.freeze", "1", what="the freezer to")
        if not _wait_v2(directory):
            raise _stuck(directory)
    except BaseException:
        thaw_v2(directory)
        raise


def thaw_v2(directory: str) -> None:
    """Let every process run again; a group that is gone has none."""
    try:
        write(directory + "/cgroup.freeze", "0", what="the freezer to")
    except CgroupError as error:
        if error.errno not in GONE:
            raise


def frozen_v2(directory: str) -> bool:
    """Whether this group itself was frozen and all its processes have stopped."""
    if read_optional(directory + "/cgroup.freeze") != "1":
        return False
    return _wait_v2(directory, 1)


def _wait_v2(directory: str, seconds: float = _SECONDS) -> bool:
    """Wait until cgroup.events says frozen; false when the time is up or the group is gone.

    Without poll(2): the kernel holds the file's notices back for 10 ms, and most groups stop
    within one.
    """
    deadline = time.monotonic() + seconds
    delay = 0.0001
    while True:
        text = read_optional(directory + "/cgroup.events")
        if text is None:
            return False
        if pairs(text).get("frozen") == 1:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(delay)
        delay = min(delay * 2, 0.01)


def _stuck(directory: str) -> CgroupError:
    return CgroupError(
        f"cannot freeze {directory}: not every process stopped within {_SECONDS:g} seconds;"
        " all of them run again",
        op="freeze",
        path=directory,
        errno=errno.EAGAIN,
    )
