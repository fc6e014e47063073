"""cgroup v2: one hierarchy for everything."""

from __future__ import annotations

import errno
import os
import time

from libpycontainer.cgroups import dividing, files, freezer, tree
from libpycontainer.cgroups.applying import Applying
from libpycontainer.cgroups.members import add, kill_each, kill_v2, open_for_writing
from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from libpycontainer.cgroups.hierarchies import CgroupMount
    from libpycontainer.cgroups.placement import Group
    from libpycontainer.cgroups.protocol import Occupant
    from libpycontainer.cgroups.settings import Setting
    from libpycontainer.cgroups.stats import Stats
    from libpycontainer.spec.models import LinuxResources


class V2Manager(Applying):
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

    @property
    def _all(self) -> tuple[Group, ...]:
        return (self.group,)

    def _make(
        self,
        resources: LinuxResources | None,
        made: list[str],
        found: Callable[[str], None] | None,
        occupant: Occupant | None,
    ) -> None:
        wanted = _controllers(resources)

        def settle(parent: str, child: str) -> None:
            dividing.enable(parent, wanted)
            # Only now: it depends on what the parent passes on.
            _settle_type(child, wanted - dividing.THREADED)

        tree.make(self.group.base, self.group.path, settle, made=made, found=found, own=True)
        if occupant is not None:
            occupant.begin()

    def _refuse_in_use(self, directory: str) -> None:
        found = tree.pids(directory, recursive=True)
        problem = ""
        if found:
            problem = f"is not empty: {len(found)} process(es) found"
        elif self.frozen():
            problem = "is frozen"
        if problem:
            raise CgroupError(
                f"the cgroup {directory} {problem}",
                op="create",
                path=directory,
                errno=errno.EBUSY,
            )

    def give_to(self, uid: int) -> None:
        tree.give(self.directory, uid)

    def _located(
        self, resources: LinuxResources, *, update: bool = False
    ) -> list[tuple[Setting, str]]:
        from libpycontainer.cgroups import settings, writer

        wanted = settings.v2(resources)
        if update:
            self._ask_for({each.controller for each in wanted})
        writer.check_memory(resources.memory, self.directory)
        return [(each, self._directory_of(each)) for each in wanted]

    def _ask_for(self, controllers: set[str]) -> None:
        """Have the groups above pass on what they did not, as nobody needed it so far."""
        if controllers - {"cgroup"} - set(self._controllers()):
            dividing.enable_all(self.group.base, self.group.path, controllers)

    def _controllers(self) -> list[str]:
        return files.read(self.directory + "/cgroup.controllers").split()

    def _apply_devices(self, resources: LinuxResources | None) -> None:
        from libpycontainer.cgroups import device_filter
        from libpycontainer.cgroups.devices import rules

        wanted = rules(resources.devices if resources is not None else None)
        device_filter.install_v2(self.directory, wanted)

    def _directory_of(self, setting: Setting) -> str:
        controller = setting.controller
        if controller != "cgroup" and controller not in self._controllers():
            why = dividing.hindrance(self.group.base, self.directory, controller)
            raise CgroupError(
                f"{setting.field}: cannot set {setting.what} {setting.value} in"
                f" {self.directory}/{setting.file}: the {controller} controller is not available"
                f" to this group: {why}",
                op="apply",
                path=f"{self.directory}/{setting.file}",
                errno=errno.ENOENT,
            )
        return self.directory

    def clone_fd(self, beside: int | None = None) -> int | None:
        directory = dividing.entrance(self.directory, beside)
        if os.stat(f"{directory}/cgroup.procs").st_uid != os.geteuid():
            return None
        return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def add(self, pid: int, *, cloned: bool = False) -> None:
        if not cloned:
            add(dividing.entrance(self.directory), pid)

    def join_fds(self, beside: int | None = None, *, cloned: bool = False) -> tuple[int, ...]:
        if cloned:
            return ()
        return open_for_writing([dividing.entrance(self.directory, beside) + "/cgroup.procs"])

    def pids(self, recursive: bool = True) -> list[int]:
        found = tree.pids(self.directory, recursive=recursive)
        if not recursive:
            found += tree.pids(f"{self.directory}/{tree.LEAF}", recursive=False)
        return found

    def occupied(self) -> bool:
        return tree.occupied(self.directory)

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


def _controllers(resources: LinuxResources | None) -> set[str]:
    """The controllers that the limits need."""
    if resources is None:
        return set()
    from libpycontainer.cgroups.settings import v2

    return {setting.controller for setting in v2(resources)}


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
