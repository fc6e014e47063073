"""cgroup v1, and hybrid: v1 controllers, with a v2 hierarchy beside them.

In hybrid mode the container sits in the v2 hierarchy as well (as with runc): that gives
CLONE_INTO_CGROUP, cgroup.kill and a notice when the last process is gone. A controller of it that
no v1 hierarchy has is used where its fields mean the same there.
"""

from __future__ import annotations

import errno
import os
import time

from libpycontainer.cgroups import files, freezer, tree
from libpycontainer.cgroups.applying import Applying
from libpycontainer.cgroups.members import add, kill_each, kill_v2, open_for_writing
from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from libpycontainer.cgroups.hierarchies import CgroupMount
    from libpycontainer.cgroups.placement import Group
    from libpycontainer.cgroups.protocol import Occupant
    from libpycontainer.cgroups.settings import Setting
    from libpycontainer.cgroups.stats import Stats
    from libpycontainer.spec.models import LinuxResources

_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")


class V1Manager(Applying):
    """A container's groups in the v1 hierarchies, and in the unified one where there is one."""

    def __init__(
        self, groups: Sequence[Group], *, skip_devices: bool = False, rootless: bool = False
    ) -> None:
        self.groups = tuple(group for group in groups if group.version == 1)
        self.unified = next((group for group in groups if group.version == 2), None)
        self.skip_devices = skip_devices
        self.rootless = rootless
        self._by_controller = {
            controller: group for group in self.groups for controller in group.controllers
        }

    @property
    def mode(self) -> str:
        return "v1" if self.unified is None else "hybrid"

    @property
    def _all(self) -> tuple[Group, ...]:
        return self.groups if self.unified is None else (*self.groups, self.unified)

    @property
    def _primary(self) -> Group:
        """The group whose processes stand for the container's; runc asks the devices one too."""
        return self._by_controller.get("devices") or self._all[0]

    def record(self) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "groups": [group.record() for group in self._all],
            "skip_devices": self.skip_devices,
            "rootless": self.rootless,
        }

    def paths(self) -> dict[str, str]:
        found = {name: group.directory for name, group in self._by_controller.items()}
        if self.unified is not None:
            found[""] = self.unified.directory
        return found

    def mounts(self) -> tuple[CgroupMount, ...]:
        """The v1 hierarchies; the unified one stays out, as with runc."""
        from libpycontainer.cgroups.hierarchies import CgroupMount

        return tuple(
            CgroupMount(
                group.name,
                "cgroup",
                group.options,
                group.directory,
                group.controllers if len(group.controllers) > 1 else (),
            )
            for group in self.groups
        )

    def _make(
        self,
        resources: LinuxResources | None,
        made: list[str],
        found: Callable[[str], None] | None,
        occupant: Occupant | None,
    ) -> None:
        if self.unified is not None:
            wanted = self._wanted_of_unified(resources)
            settle = _pass_on(wanted) if wanted else None
            base, path = self.unified.base, self.unified.path
            tree.make(base, path, settle, made=made, found=found, own=True)
        if occupant is not None:
            occupant.begin()
        for group in self.groups:
            settle = _inherit_cpuset if "cpuset" in group.controllers else None
            tree.make(group.base, group.path, settle, made=made, found=found)

    def _refuse_in_use(self, directory: str) -> None:
        found = tree.pids(directory, recursive=True)
        problem = f"is not empty: {len(found)} process(es) found" if found else ""
        if not problem and directory == self._freezer_or_unified and self.frozen():
            problem = "is frozen"
        if problem:
            raise CgroupError(
                f"the cgroup {directory} {problem}",
                op="create",
                path=directory,
                errno=errno.EBUSY,
            )

    def give_to(self, uid: int) -> None:
        """Nothing: a user who may divide a v1 group may also raise its limits."""

    def _located(
        self, resources: LinuxResources, *, update: bool = False
    ) -> list[tuple[Setting, str]]:
        from libpycontainer.cgroups import settings

        wanted, found = settings.v1(resources, explicit=update), []
        others = self._wanted_of_unified(resources)
        if others and self.unified is not None:
            if update:
                from libpycontainer.cgroups import dividing

                dividing.enable_all(self.unified.base, self.unified.path, others)
            wanted = [each for each in wanted if each.controller not in others]
            same = [each for each in settings.in_either(resources) if each.controller in others]
            found = [(each, self._unified_of(each)) for each in same]
        found += [(each, self._directory_of(each)) for each in wanted]
        return found + [(each, self._unified_of(each)) for each in settings.unified(resources)]

    def _wanted_of_unified(self, resources: LinuxResources | None) -> set[str]:
        """The controllers that the limits need, and that only the unified hierarchy has."""
        if self.unified is None or resources is None:
            return set()
        from libpycontainer.cgroups import settings

        wanted = {each.controller for each in settings.in_either(resources)}
        wanted -= set(self._by_controller)
        if not wanted:
            return wanted
        return wanted.intersection(files.read(self.unified.base + "/cgroup.controllers").split())

    def _apply_devices(self, resources: LinuxResources | None) -> None:
        from libpycontainer.cgroups import device_filter
        from libpycontainer.cgroups.devices import rules

        wanted = rules(resources.devices if resources is not None else None)
        group = self._by_controller.get("devices")
        if group is not None:
            device_filter.install_v1(group.directory, wanted)
        elif self.unified is not None:
            device_filter.install_v2(self.unified.directory, wanted)
        else:
            raise CgroupError(
                "$.linux.resources.devices: no devices controller is mounted on this host",
                op="apply",
                path="devices",
            )

    def _directory_of(self, setting: Setting) -> str:
        group = self._by_controller.get(setting.controller)
        if group is None:
            why = "the caller may not use" if self.rootless else "this host does not have mounted"
            raise CgroupError(
                f"{setting.field}: cannot set {setting.what} {setting.value}: needs the cgroup v1"
                f" controller {setting.controller}, which {why} ({setting.file})",
                op="apply",
                path=setting.file,
                errno=errno.ENOENT,
            )
        return group.directory

    def _unified_of(self, setting: Setting) -> str:
        controller = setting.controller
        if self.unified is None or controller in self._by_controller:
            why = f"this host's {controller} controller is a cgroup v1 one"
        elif setting.optional or os.path.exists(f"{self.unified.directory}/{setting.file}"):
            return self.unified.directory
        else:
            from libpycontainer.cgroups import dividing

            why = dividing.hindrance(self.unified.base, self.unified.directory, controller)
        raise CgroupError(
            f"{setting.field}: cannot set {setting.file}: {why}",
            op="apply",
            path=setting.file,
            errno=errno.ENOENT,
        )

    def _entrance(self, beside: int | None = None) -> str:
        assert self.unified is not None
        directory = self.unified.directory
        if beside is None and not os.path.isdir(f"{directory}/{tree.LEAF}"):
            return directory
        from libpycontainer.cgroups import dividing

        return dividing.entrance(directory, beside)

    def clone_fd(self, beside: int | None = None) -> int | None:
        if self.unified is None:
            return None
        return os.open(self._entrance(beside), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def add(self, pid: int, *, cloned: bool = False) -> None:
        for group in self.groups:
            add(group.directory, pid)
        if self.unified is not None and not cloned:
            add(self._entrance(), pid)

    def join_fds(self, beside: int | None = None, *, cloned: bool = False) -> tuple[int, ...]:
        paths = [group.directory + "/tasks" for group in self.groups]
        if self.unified is not None and not cloned:
            paths.append(self._entrance(beside) + "/cgroup.procs")
        return open_for_writing(paths)

    def pids(self, recursive: bool = True) -> list[int]:
        return tree.pids(self._primary.directory, recursive=recursive)

    def occupied(self) -> bool:
        # Only the unified hierarchy keeps count; elsewhere every group has to be asked.
        return bool(self.pids()) if self.unified is None else tree.occupied(self.unified.directory)

    def _freezer(self) -> str | None:
        group = self._by_controller.get("freezer")
        return None if group is None else group.directory

    @property
    def _freezer_or_unified(self) -> str | None:
        return self._freezer() or (self.unified.directory if self.unified else None)

    def freeze(self) -> None:
        directory = self._freezer()
        if directory is not None:
            freezer.freeze_v1(directory)
        elif self.unified is not None:
            freezer.freeze_v2(self.unified.directory)
        else:
            raise CgroupError("no freezer controller is mounted on this host", op="freeze")

    def thaw(self) -> None:
        directory = self._freezer()
        if directory is not None:
            freezer.thaw_v1(directory)
        elif self.unified is not None:
            freezer.thaw_v2(self.unified.directory)

    def frozen(self) -> bool:
        directory = self._freezer()
        if directory is not None:
            return freezer.frozen_v1(directory)
        return self.unified is not None and freezer.frozen_v2(self.unified.directory)

    def kill(self) -> None:
        if self.unified is None:
            kill_each(self)
        else:
            seen = set(tree.pids(self.unified.directory, recursive=True))
            killed = not seen or kill_v2(self.unified.directory)
            if not killed or set(self.pids()) - seen:
                # Somebody left the unified group for another, but not the v1 ones.
                kill_each(self)
        # A task that the v1 freezer stopped dies only when it is thawed.
        self.thaw()

    def destroy(self, timeout: float = 5.0) -> None:
        deadline = time.monotonic() + timeout
        # The unified group first: it can be waited for, and the others are empty when it is.
        for group in reversed(self._all):
            tree.remove(group.directory, deadline)
        for group in self._all:
            tree.remove_parents(group.base, group.path)

    def stats(self) -> Stats:
        from libpycontainer.cgroups import measuring

        return measuring.from_v1(self.paths())


def _inherit_cpuset(parent: str, child: str) -> None:
    """A new cpuset group has no CPUs and no memory nodes, and nobody may join it: copy them."""
    for file in _CPUSET_FILES:
        path = f"{child}/{file}"
        if files.read(path) == "":
            files.write(path, files.read(f"{parent}/{file}"))


def _pass_on(wanted: set[str]) -> Callable[[str, str], None]:
    from libpycontainer.cgroups import dividing

    return lambda parent, child: dividing.enable(parent, wanted)
