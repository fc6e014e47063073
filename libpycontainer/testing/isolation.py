"""What a marked test asks for, and whether this host can."""

from __future__ import annotations

import os
import sys

import pytest

from libpycontainer import kernel, quantities
from libpycontainer.errors import ArgumentError, ContainerError
from libpycontainer.testing import entering
from libpycontainer.testing.plugin import MARKER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KINDS = {
    "network": kernel.CLONE_NEWNET,
    "mount": kernel.CLONE_NEWNS,
    "pid": kernel.CLONE_NEWPID,
    "ipc": kernel.CLONE_NEWIPC,
    "uts": kernel.CLONE_NEWUTS,
    "cgroup": kernel.CLONE_NEWCGROUP,
}
DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(KINDS, True),
    "cgroup": False,
    "user": None,
    "hostname": None,
    "memory": None,
    "cpus": None,
    "pids": None,
    "timeout": None,
}
WISHES = pytest.StashKey["Wishes"]()
_obstacles: dict[tuple[int, bool], str] = {}


class Wishes:
    """A marker's keywords, resolved: ``flags`` are the namespaces to make (``man 2 unshare``)."""

    def __init__(self, given: dict[str, Any]) -> None:
        for name in given:
            if name not in DEFAULTS:
                known = ", ".join(DEFAULTS)
                raise ArgumentError(
                    f"{name}: the marker {MARKER} has no such keyword, only {known}",
                    parameter=name,
                    value=given[name],
                )
        values = {**DEFAULTS, **given}
        for name in (*KINDS, "user"):
            if values[name] not in (True, False, None):
                raise ArgumentError(
                    f"{name}: expected True or False, not {values[name]!r}",
                    parameter=name,
                    value=values[name],
                )
        self.flags = sum(flag for kind, flag in KINDS.items() if values[kind])
        if values["pid"] and not values["mount"]:
            raise ArgumentError(
                "pid: needs mount=True as well: /proc would show the host's processes",
                parameter="pid",
                value=True,
            )
        # Nobody else may make the other kinds.
        self.user = os.geteuid() != 0 if values["user"] is None else bool(values["user"])
        self.hostname = values["hostname"]
        if self.hostname is not None and not values["uts"]:
            raise ArgumentError(
                "hostname: needs uts=True: it would be the host's",
                parameter="hostname",
                value=self.hostname,
            )
        timeout = values["timeout"]
        self.timeout = None if timeout is None else quantities.duration(timeout)
        limits = {name: values[name] for name in ("memory", "cpus", "pids")}
        self.limits = {name: value for name, value in limits.items() if value is not None}

    def obstacle(self) -> str:
        """Why such namespaces cannot be made here; "" if they can. Asked once of the kernel."""
        key = (self.flags, self.user)
        if key not in _obstacles:
            _obstacles[key] = entering.attempt(self)
        return _obstacles[key]


def prepare(item: pytest.Item) -> None:
    """Read the marker of a test, and skip it with the reason where it cannot be had."""
    if _is_unittest(item) or not isinstance(item, pytest.Function):
        pytest.fail(f"the marker {MARKER} is for test functions, not for {item!r}", pytrace=False)
    try:
        wishes = Wishes(_keywords(item))
    except ArgumentError as error:
        wrong = f"{item.nodeid}: @pytest.mark.{MARKER}: {error}"
        raise pytest.fail.Exception(wrong, pytrace=False) from None
    if reason := wishes.obstacle():
        # By a mark, so that it is the test's own place that is shown.
        item.add_marker(pytest.mark.skip(reason=reason))
    item.stash[WISHES] = wishes


def _keywords(item: pytest.Item) -> dict[str, Any]:
    """The marks of module, class and function together; the closest one decides."""
    found: dict[str, Any] = {}
    for mark in item.iter_markers(MARKER):
        if mark.args:
            raise ArgumentError("only keywords are taken", parameter=MARKER, value=mark.args)
        found = {**mark.kwargs, **found}
    return found


def _is_unittest(item: pytest.Item) -> bool:
    unittest: Any = sys.modules.get("unittest")
    cls = getattr(item, "cls", None)
    return unittest is not None and cls is not None and issubclass(cls, unittest.TestCase)


def make_group(wishes: Wishes) -> Any:
    """A group of cgroups with the limits, to be deleted afterwards; ``None`` where there are none.

    Skips the test where limits cannot be had.
    """
    if not wishes.limits:
        return None
    from libpycontainer.factory import Factory

    name = f"pytest-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        group = Factory().group(name, **wishes.limits)
        if group.cgroup.mode == "none":
            group.delete(force=True)
            pytest.skip("no cgroup here can be limited by this user")
        return group
    except ArgumentError as error:
        raise pytest.fail.Exception(f"@pytest.mark.{MARKER}: {error}", pytrace=False) from None
    except ContainerError as error:
        pytest.skip(f"{error}")
