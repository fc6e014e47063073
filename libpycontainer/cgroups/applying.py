"""Putting limits and device rules in force: the same in every hierarchy, but for the files."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libpycontainer.cgroups.settings import Setting
    from libpycontainer.cgroups.writer import Change
    from libpycontainer.spec.models import LinuxResources


class Applying:
    """What a manager that has groups does with ``linux.resources``."""

    skip_devices: bool

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
