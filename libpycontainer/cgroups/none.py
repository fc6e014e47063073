"""No cgroup at all: a host without them, or a rootless caller to whom none was delegated."""

from __future__ import annotations

import errno

from libpycontainer.errors import CgroupError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libpycontainer.cgroups.hierarchies import CgroupMount
    from libpycontainer.cgroups.protocol import Occupant
    from libpycontainer.cgroups.stats import Stats
    from libpycontainer.cgroups.writer import Change
    from libpycontainer.spec.models import LinuxResources


DELEGATE = (
    "Do without limits, be root, or have a group delegated: systemd-run --user --scope"
    " -p Delegate=yes PROGRAM."
)


class NoManager:
    """Joins nothing and removes nothing; refuses every limit, by name.

    Device rules are not enforced, as in every rootless container: without privilege over the
    devices of the host there is nothing they could protect.
    """

    mode = "none"

    def __init__(self, *, rootless: bool = False) -> None:
        self.rootless = rootless

    def record(self) -> dict[str, Any]:
        return {"mode": "none", "groups": [], "skip_devices": True, "rootless": self.rootless}

    def paths(self) -> dict[str, str]:
        return {}

    def mounts(self) -> tuple[CgroupMount, ...]:
        """The groups that the caller sits in: its container does, too."""
        from libpycontainer.cgroups.hierarchies import own_mounts

        return own_mounts()

    def create(
        self, resources: LinuxResources | None = None, occupant: Occupant | None = None
    ) -> None:
        self._refuse_limits(resources)
        if occupant is not None:
            occupant.begin()

    def give_to(self, uid: int) -> None:
        return

    def apply(self, resources: LinuxResources | None, *, devices: bool = True) -> None:
        self._refuse_limits(resources)

    def update(self, resources: LinuxResources, before: LinuxResources | None = None) -> Change:
        from libpycontainer.cgroups.writer import Change

        self._refuse_limits(resources)
        return Change()

    def _refuse_limits(self, resources: LinuxResources | None) -> None:
        if resources is None:
            return
        from libpycontainer.cgroups import settings

        for setting in (*settings.v1(resources), *settings.unified(resources)):
            why = (
                "no cgroup was delegated to this user"
                if self.rootless
                else "this host has no cgroups mounted"
            )
            raise UnsupportedError(
                f"{setting.field}: cannot set {setting.what} {setting.value}: {why}",
                op="apply",
                path=setting.file,
                errno=errno.EPERM if self.rootless else errno.ENOENT,
                hint=DELEGATE if self.rootless else "",
            )

    def clone_fd(self, beside: int | None = None) -> int | None:
        return None

    def add(self, pid: int, *, cloned: bool = False) -> None:
        return

    def join_fds(self, beside: int | None = None, *, cloned: bool = False) -> tuple[int, ...]:
        return ()

    def pids(self, recursive: bool = True) -> list[int]:
        return []

    def occupied(self) -> bool:
        return False

    def freeze(self) -> None:
        raise CgroupError("cannot freeze a container without a cgroup", op="freeze")

    def thaw(self) -> None:
        return

    def frozen(self) -> bool:
        return False

    def kill(self) -> None:
        raise CgroupError("cannot kill every process of a container without a cgroup", op="kill")

    def destroy(self, timeout: float = 5.0) -> None:
        return

    def stats(self) -> Stats:
        from libpycontainer.cgroups.stats import Stats

        return Stats()
