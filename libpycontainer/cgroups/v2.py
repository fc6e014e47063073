"""cgroup v2: one hierarchy for everything."""

from __future__ import annotations

import errno
import os
import time

from libpycontainer.cgroups import files, freezer, tree
from libpycontainer.cgroups.v1 import add_process, kill_each, kill_v2, open_for_writing
from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libpycontainer.cgroups.hierarchies import CgroupMount
    from libpycontainer.cgroups.placement import Group
    from libpycontainer.cgroups.settings import Setting
    from libpycontainer.cgroups.stats import Stats
    from libpycontainer.cgroups.writer import Change
    from libpycontainer.spec.models import LinuxResources

# The controllers that also work in a threaded subtree (kernel cgroup-v2.rst, Threads).
_THREADED = frozenset(("cgroup", "cpu", "cpuset", "perf_event", "pids"))


class V2Manager:
    """A container's group in the v2 hierarchy."""

    mode = "v2"

    def __init__(self, group: Group, *, skip_devices: bool = False, rootless: bool = False) -> None:
        self.group = group
        self.skip_devices = skip_devices
        self.rootless = rootless

    @property
    def directory(self) -> str:
        return self.group.directory

    def record(self) -> dict[str, Any]:
        return {
            "mode": "v2",
            "groups": [self.group.record()],
            "skip_devices": self.skip_devices,
            "rootless": self.rootless,
        }

    def paths(self) -> dict[str, str]:
        return {"": self.directory}

    def mounts(self) -> tuple[CgroupMount, ...]:
        from libpycontainer.cgroups.hierarchies import CgroupMount

        return (CgroupMount("", "cgroup2", "", self.directory),)

    def create(self, resources: LinuxResources | None = None) -> None:
        self._refuse_occupied()
        needed = _domain_controllers(resources)

        def settle(parent: str, child: str) -> None:
            _settle_type(child, needed)
            _enable_controllers(parent)

        tree.make(self.group.base, self.group.path, settle)

    def _refuse_occupied(self) -> None:
        found = tree.pids(self.directory, recursive=True)
        problem = ""
        if found:
            problem = f"is not empty: {len(found)} process(es) found"
        elif self.frozen():
            problem = "is frozen"
        if problem:
            raise CgroupError(
                f"the cgroup {self.directory} {problem}",
                op="create",
                path=self.directory,
                errno=errno.EBUSY,
            )

    def apply(self, resources: LinuxResources | None, *, devices: bool = True) -> None:
        if resources is not None:
            from libpycontainer.cgroups import writer

            writer.write_settings(self._located(resources))
        if devices and not self.skip_devices:
            self._apply_devices(resources)

    def update(self, resources: LinuxResources, before: LinuxResources | None = None) -> Change:
        from libpycontainer.cgroups import writer

        change = writer.Change()
        change.make(self._located(resources))
        if resources.devices is not None and not self.skip_devices:
            change.add(lambda: self._apply_devices(resources), lambda: self._apply_devices(before))
        return change

    def _located(self, resources: LinuxResources) -> list[tuple[Setting, str]]:
        from libpycontainer.cgroups import settings, writer

        writer.check_memory(resources.memory, self.directory)
        return [(each, self._directory_of(each)) for each in settings.v2(resources)]

    def _apply_devices(self, resources: LinuxResources | None) -> None:
        from libpycontainer.cgroups import device_filter
        from libpycontainer.cgroups.devices import rules

        wanted = rules(resources.devices if resources is not None else None)
        device_filter.install_v2(self.directory, wanted)

    def _directory_of(self, setting: Setting) -> str:
        if setting.controller == "cgroup":
            return self.directory
        enabled = files.read(self.directory + "/cgroup.controllers").split()
        if setting.controller not in enabled:
            raise CgroupError(
                f"{setting.field}: cannot set {setting.what} {setting.value} in"
                f" {self.directory}/{setting.file}: the {setting.controller} controller is not"
                " available to this group (see cgroup.controllers there)",
                op="apply",
                path=f"{self.directory}/{setting.file}",
                errno=errno.ENOENT,
            )
        return self.directory

    def clone_fd(self) -> int | None:
        return os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def add(self, pid: int, *, cloned: bool = False) -> None:
        if not cloned:
            add_process(self.directory, pid)

    def join_fds(self, *, cloned: bool = False) -> tuple[int, ...]:
        return () if cloned else open_for_writing([self.directory + "/cgroup.procs"])

    def pids(self, recursive: bool = True) -> list[int]:
        return tree.pids(self.directory, recursive=recursive)

    def freeze(self) -> None:
        freezer.freeze_v2(self.directory)

    def thaw(self) -> None:
        freezer.thaw_v2(self.directory)

    def frozen(self) -> bool:
        return freezer.frozen_v2(self.directory)

    def kill(self) -> None:
        if not kill_v2(self.directory):
            kill_each(self)

    def destroy(self, timeout: float = 5.0) -> None:
        tree.remove(self.directory, time.monotonic() + timeout)
        tree.remove_parents(self.group.base, self.group.path)

    def stats(self) -> Stats:
        from libpycontainer.cgroups import measuring

        return measuring.from_v2(self.directory)


def _domain_controllers(resources: LinuxResources | None) -> set[str]:
    """The controllers asked for that a threaded subtree cannot have."""
    if resources is None:
        return set()
    from libpycontainer.cgroups.settings import v2

    return {setting.controller for setting in v2(resources)} - _THREADED


def _settle_type(directory: str, needed: set[str]) -> None:
    """A group below a threaded one, or below one with processes, is "domain invalid" at first."""
    kind = files.read_optional(directory + "/cgroup.type") or "domain"
    if kind == "domain":
        return
    if needed:
        raise CgroupError(
            f"cannot use {', '.join(sorted(needed))} limits in {directory}: a cgroup of type"
            f" {kind!r} has threaded controllers only",
            op="create",
            path=directory + "/cgroup.type",
            errno=errno.EOPNOTSUPP,
        )
    if kind == "domain invalid":
        files.write(directory + "/cgroup.type", "threaded", what="the type to")


def _enable_controllers(parent: str) -> None:
    """Let the children of ``parent`` have every controller that it has itself.

    What cannot be enabled (a parent with processes in it, or one of somebody else's) is found
    out when, and only if, a limit needs it.
    """
    available = files.read(parent + "/cgroup.controllers").split()
    control = parent + "/cgroup.subtree_control"
    enabled = files.read(control).split()
    missing = [f"+{name}" for name in available if name not in enabled]
    if not missing:
        return
    try:
        files.write(control, " ".join(missing))
    except CgroupError:
        for one in missing:
            try:
                files.write(control, one)
            except CgroupError:
                continue
