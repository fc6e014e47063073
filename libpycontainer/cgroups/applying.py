"""What is the same in every hierarchy, but for the files: groups are made, limits put in force."""

from __future__ import annotations

from libpycontainer.cgroups import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from libpycontainer.cgroups.placement import Group
    from libpycontainer.cgroups.protocol import Occupant
    from libpycontainer.cgroups.settings import Setting
    from libpycontainer.cgroups.writer import Change
    from libpycontainer.spec.models import LinuxResources


class Applying:
    """What the managers that have groups share."""

    skip_devices: bool

    def create(
        self, resources: LinuxResources | None = None, occupant: Occupant | None = None
    ) -> None:
        self.make(resources, self._refuse_in_use, occupant)

    def make(
        self,
        resources: LinuxResources | None,
        found: Callable[[str], None] | None = None,
        occupant: Occupant | None = None,
    ) -> None:
        """:meth:`create`, where ``found`` decides on a group that is there already."""
        made: list[str] = []
        try:
            self._make(resources, made, found, occupant)
        except BaseException:
            if occupant is not None:
                # First of all, or the group could not be removed.
                occupant.take_back()
            tree.discard(made)
            for group in self._all:
                tree.remove_parents(group.base, group.path)
            raise

    def _make(
        self,
        resources: LinuxResources | None,
        made: list[str],
        found: Callable[[str], None] | None,
        occupant: Occupant | None,
    ) -> None:
        raise NotImplementedError

    @property
    def _all(self) -> tuple[Group, ...]:
        raise NotImplementedError

    def _refuse_in_use(self, directory: str) -> None:
        raise NotImplementedError

    def refuse_occupied(self) -> None:
        """Raise :class:`CgroupError` when one of the groups is there and in use."""
        for group in self._all:
            self._refuse_in_use(group.directory)

    def apply(self, resources: LinuxResources | None, *, devices: bool = True) -> None:
        if resources is not None:
            from libpycontainer.cgroups import writer

            writer.write_settings(self._located(resources))
        if devices and not self.skip_devices:
            self._apply_devices(resources)

    def update(self, resources: LinuxResources, before: LinuxResources | None = None) -> Change:
        from libpycontainer.cgroups import writer

        change = writer.Change()
        change.make(self._located(resources, update=True))
        if resources.devices is not None and not self.skip_devices:
            change.add(lambda: self._apply_devices(resources), lambda: self._apply_devices(before))
        return change

    def _located(
        self, resources: LinuxResources, *, update: bool = False
    ) -> list[tuple[Setting, str]]:
        """Each setting with the directory it is for; with ``update``, of a group in use."""
        raise NotImplementedError

    def _apply_devices(self, resources: LinuxResources | None) -> None:
        raise NotImplementedError
