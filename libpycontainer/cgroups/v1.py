"""cgroup v1, and hybrid: v1 controllers, with a v2 hierarchy beside them that has none.

In hybrid mode the container sits in the v2 hierarchy as well (as with runc): that gives
CLONE_INTO_CGROUP, cgroup.kill and a notice when the last process is gone.
"""

from __future__ import annotations

import errno
import os
import time

from libpycontainer.cgroups import files, freezer, tree
from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from libpycontainer.cgroups.hierarchies import CgroupMount
    from libpycontainer.cgroups.placement import Group
    from libpycontainer.cgroups.settings import Setting
    from libpycontainer.cgroups.stats import Stats
    from libpycontainer.cgroups.writer import Change
    from libpycontainer.spec.models import LinuxResources

_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")
_KILL_ROUNDS = 20
# Not from the signal module, which imports enum: a cold command line pays for that.
_SIGKILL = 9


class V1Manager:
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

    def create(self, resources: LinuxResources | None = None) -> None:
        self._refuse_occupied()
        made: list[str] = []
        try:
            for group in self._all:
                settle = _inherit_cpuset if "cpuset" in group.controllers else None
                made += tree.make(group.base, group.path, settle)
        except BaseException:
            tree.discard(made)
            raise

    def _refuse_occupied(self) -> None:
        for group in self._all:
            found = tree.pids(group.directory, recursive=True)
            if found:
                raise CgroupError(
                    f"the cgroup {group.directory} is not empty: {len(found)} process(es) found",
                    op="create",
                    path=group.directory,
                    errno=errno.EBUSY,
                )
        if self.frozen():
            raise CgroupError(
                f"the cgroup {self._freezer()} is frozen",
                op="create",
                path=self._freezer() or "",
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
        change.make(self._located(resources, explicit=True))
        if resources.devices is not None and not self.skip_devices:
            change.add(lambda: self._apply_devices(resources), lambda: self._apply_devices(before))
        return change

    def _located(
        self, resources: LinuxResources, *, explicit: bool = False
    ) -> list[tuple[Setting, str]]:
        from libpycontainer.cgroups import settings

        wanted = settings.v1(resources, explicit=explicit)
        found = [(each, self._directory_of(each)) for each in wanted]
        return found + [(each, self._unified_of(each)) for each in settings.unified(resources)]

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
        path = "" if self.unified is None else f"{self.unified.directory}/{setting.file}"
        if self.unified is None or not os.path.exists(path):
            raise CgroupError(
                f"{setting.field}: cannot set {setting.file}: this host's {setting.controller}"
                f" controller is a cgroup v1 one",
                op="apply",
                path=path or setting.file,
                errno=errno.ENOENT,
            )
        return self.unified.directory

    def clone_fd(self) -> int | None:
        if self.unified is None:
            return None
        return os.open(self.unified.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def add(self, pid: int, *, cloned: bool = False) -> None:
        for group in self.groups if cloned else self._all:
            add_process(group.directory, pid)

    def join_fds(self, *, cloned: bool = False) -> tuple[int, ...]:
        paths = [group.directory + "/tasks" for group in self.groups]
        if self.unified is not None and not cloned:
            paths.append(self.unified.directory + "/cgroup.procs")
        return open_for_writing(paths)

    def pids(self, recursive: bool = True) -> list[int]:
        return tree.pids(self._primary.directory, recursive=recursive)

    def _freezer(self) -> str | None:
        group = self._by_controller.get("freezer")
        return None if group is None else group.directory

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
            if not kill_v2(self.unified.directory) or set(self.pids()) - seen:
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


def open_for_writing(paths: Sequence[str]) -> tuple[int, ...]:
    """The files' descriptors, all of them or none."""
    fds: list[int] = []
    try:
        for path in paths:
            fds.append(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
    except OSError as error:
        for fd in fds:
            os.close(fd)
        number = error.errno or 0
        raise CgroupError(
            f"cannot open {path}: {files.symbol(number)}", op="open", path=path, errno=number
        ) from error
    return tuple(fds)


def add_process(directory: str, pid: int) -> None:
    """Move a process into a group; a task so new that the kernel refuses it is tried again."""
    for attempt in range(5):
        try:
            files.write(f"{directory}/cgroup.procs", str(pid), what="process")
        except CgroupError as error:
            if error.errno != errno.EINVAL or attempt == 4:
                raise
            time.sleep(0.01)
        else:
            return


def kill_v2(directory: str) -> bool:
    """Kill a whole v2 subtree at once; false where the kernel cannot (before 5.14; threaded)."""
    try:
        files.write(f"{directory}/cgroup.kill", "1")
    except CgroupError as error:
        if error.errno == errno.EOPNOTSUPP:
            return False
        if error.errno not in files.GONE:
            raise
        return not os.path.isdir(directory)
    return True


def kill_each(manager: Any) -> None:
    """Kill process by process, stopped meanwhile so that none forks away and no pid is reused."""
    try:
        manager.freeze()
    except CgroupError:
        # No freezer, or one that got stuck: outrun the forks instead.
        for _ in range(_KILL_ROUNDS):
            if not _signal(manager.pids()):
                return
        return
    try:
        _signal(manager.pids())
    finally:
        manager.thaw()


def _signal(found: Sequence[int]) -> bool:
    for pid in found:
        try:
            os.kill(pid, _SIGKILL)
        except ProcessLookupError:
            continue
    return bool(found)


def _inherit_cpuset(parent: str, child: str) -> None:
    """A new cpuset group has no CPUs and no memory nodes, and nobody may join it: copy them."""
    for file in _CPUSET_FILES:
        path = f"{child}/{file}"
        if files.read(path) == "":
            files.write(path, files.read(f"{parent}/{file}"))
