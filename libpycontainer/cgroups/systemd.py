"""The manager for cgroups that systemd makes: a transient unit around the manager of its group.

The unit is systemd's: it makes the group, counts it in its own tree (systemctl, systemd-cgls) and
removes it. All else happens in the group itself, through the manager of its hierarchy. Limits go
both ways: first to systemd, or it would write its own idea of them sooner or later, then to the
files, for what systemd does not know or knows only roughly. Source: runc's docs/systemd.md.

A scope is made around a process, so it begins when the container's init is there (:meth:`add`); a
slice needs none.
"""

from __future__ import annotations

import os

from libpycontainer.errors import CgroupError, ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from libpycontainer.cgroups.hierarchies import CgroupMount
    from libpycontainer.cgroups.protocol import Occupant
    from libpycontainer.cgroups.settings import Setting
    from libpycontainer.cgroups.stats import Stats
    from libpycontainer.cgroups.systemd_annotations import Property
    from libpycontainer.cgroups.systemd_bus import Bus
    from libpycontainer.cgroups.systemd_names import Unit
    from libpycontainer.cgroups.v1 import V1Manager
    from libpycontainer.cgroups.v2 import V2Manager
    from libpycontainer.cgroups.writer import Change
    from libpycontainer.spec.models import LinuxResources

    Located = list[tuple[Setting, str]]

_ROUGHLY = ("cpu", "io", "blkio")


class SystemdManager:
    """A container's unit, and its groups.

    ``user`` says whether the caller's own systemd has it, ``invocation`` which unit of that name
    it is: systemd's id of this run of it (a slice has none), ``None`` before it has been started.
    """

    def __init__(
        self,
        inner: V1Manager | V2Manager,
        unit: Unit,
        *,
        user: bool,
        invocation: str | None = None,
        description: str = "",
        properties: Sequence[Property] = (),
    ) -> None:
        self._inner = inner
        self.unit = unit
        self.user = user
        self._invocation = invocation
        self._description = description
        self._properties = tuple(properties)
        self._wanted: LinuxResources | None = None

    @property
    def mode(self) -> str:
        return self._inner.mode

    def record(self) -> dict[str, Any]:
        record = self._inner.record()
        record["systemd"] = {
            "unit": self.unit.name,
            "slice": self.unit.slice,
            "user": self.user,
            "invocation": self._invocation,
        }
        return record

    def paths(self) -> dict[str, str]:
        return self._inner.paths()

    def mounts(self) -> tuple[CgroupMount, ...]:
        return self._inner.mounts()

    # ---- the unit ------------------------------------------------------------------------------

    def create(
        self, resources: LinuxResources | None = None, occupant: Occupant | None = None
    ) -> None:
        """Check that the name is free. A slice is made now, a scope when it gets its process."""
        self._inner.refuse_occupied()
        self._wanted = resources
        if self.unit.is_slice:
            self._start(())
        if occupant is not None:
            occupant.begin()

    def add(self, pid: int, *, cloned: bool = False) -> None:
        if self._invocation is None:
            self._start((pid,))
            if self.mode != "v2":
                # systemd puts it where it has limits to set; the other hierarchies are left to us.
                self._inner.add(pid)
        elif self.user:
            # The caller's session is no part of what was delegated to the caller's systemd, and the
            # way between the two is barred; systemd asks the system's one to move the process.
            self._attach(pid)
        else:
            self._inner.add(pid, cloned=cloned)

    def _start(self, pids: Sequence[int]) -> None:
        from libpycontainer.cgroups import systemd_bus

        with systemd_bus.connect(user=self.user) as bus:
            try:
                bus.start(self.unit.name, self._new(bus, pids))
            except systemd_bus.BusError as error:
                if not self._properties:
                    raise
                # systemd need not say which of them it does not like.
                names = ", ".join(name for name, _ in self._properties)
                what = f"{error.message} (with $.annotations: org.systemd.property. {names})"
                raise systemd_bus.BusError(error.name, what, op=error.op) from None
            try:
                self._take_up(bus)
                self._inner.make(self._wanted)
            except BaseException as error:
                self._invocation = None
                try:
                    bus.stop(self.unit.name)
                except CgroupError as problem:
                    error.add_note(f"while stopping {self.unit.name}: {problem}")
                raise

    def _new(self, bus: Bus, pids: Sequence[int]) -> list[Property]:
        """What the unit begins with; annotations come last, and so may say otherwise."""
        from libpycontainer.cgroups import systemd_properties as properties

        found: list[Property] = [("Description", ("s", self._description))]
        if self.unit.is_slice:
            found.append(("Wants", ("as", [self.unit.slice])))
        else:
            found += [
                ("Slice", ("s", self.unit.slice)),
                ("Delegate", ("b", True)),
                ("PIDs", ("au", list(pids))),
            ]
        found += properties.accounting(self.mode)
        found.append(("DefaultDependencies", ("b", False)))
        if self._wanted is not None:
            settings = _settings(self.mode, self._wanted)
            found += properties.at_start(settings, bus.version)
        return [*found, *self._properties]

    def _take_up(self, bus: Bus) -> None:
        """Learn which run of the unit this is, and that its group is where it was expected."""
        from libpycontainer.cgroups import systemd_bus

        path = bus.unit(self.unit.name)
        self._invocation = bytes(bus.get(path, systemd_bus.UNIT, "InvocationID")).hex()
        group = bus.get(path, self._interface, "ControlGroup")
        expected = self._expected
        if group != expected:
            raise CgroupError(
                f"systemd made {self.unit.name} at {group}, not at {expected}",
                op="start",
                path=group,
            )

    @property
    def _expected(self) -> str:
        groups: list[dict[str, Any]] = self._inner.record()["groups"]
        return str(groups[0]["path"])

    @property
    def _interface(self) -> str:
        return f"org.freedesktop.systemd1.{'Slice' if self.unit.is_slice else 'Scope'}"

    def _attach(self, pid: int) -> None:
        from libpycontainer.cgroups import systemd_bus

        with systemd_bus.connect(user=self.user) as bus:
            bus.manager("AttachProcessesToUnit", "ssau", self.unit.name, self._entrance(), [pid])

    def _entrance(self) -> str:
        """The group for one more process, below the unit's: where others are, if that is divided.

        A group with controllers enabled below it holds no processes itself (man 7 cgroups, "no
        internal processes").
        """
        from libpycontainer.cgroups import dividing, hierarchies, tree

        own = self.paths().get("", "")
        where = dividing.entrance(own)
        if where == own and not tree.pids(own, recursive=False):
            for pid in self.pids():
                where = hierarchies.unified_path(pid) or own
                break
        return where[len(own) :] if where.startswith(f"{own}/") else ""

    def destroy(self, timeout: float = 5.0) -> None:
        """Stop the unit, if it is still the one that was started here, and remove its groups."""
        if self._invocation is None:
            # It was never made; what has its name is somebody else's.
            return
        try:
            theirs = not self._stop()
        except ContainerError as error:
            # A user's systemd ends with the last session. What counts is that the group is gone.
            try:
                self._inner.destroy(timeout)
            except ContainerError as problem:
                problem.add_note(str(error))
                raise
            return
        if not theirs:
            self._inner.destroy(timeout)

    def _stop(self) -> bool:
        """Stop the unit; false when the name, and the group, are another one's by now."""
        from libpycontainer.cgroups import systemd_bus

        with systemd_bus.connect(user=self.user) as bus:
            try:
                path = bus.unit(self.unit.name)
                now = bytes(bus.get(path, systemd_bus.UNIT, "InvocationID")).hex()
            except systemd_bus.BusError as error:
                if error.name != systemd_bus.NO_SUCH_UNIT:
                    raise
                return True
            if now != self._invocation:
                return False
            bus.stop(self.unit.name)
            return True

    # ---- limits --------------------------------------------------------------------------------

    def apply(self, resources: LinuxResources | None, *, devices: bool = True) -> None:
        self._refuse_unmade()
        located = [] if resources is None else self._inner._located(resources)
        rules = devices and not self._inner.skip_devices
        self._tell(located, resources, rules)
        self._inner.apply(resources, devices=devices)

    def update(self, resources: LinuxResources, before: LinuxResources | None = None) -> Change:
        from libpycontainer.cgroups import systemd_bus, systemd_properties, writer

        self._refuse_unmade()
        located = self._inner._located(resources, update=True)
        rules = resources.devices is not None and not self._inner.skip_devices
        change = writer.Change()
        with systemd_bus.connect(user=self.user) as bus:
            wanted = self._told(bus, located, resources, rules)
            now = bus.get_all(bus.unit(self.unit.name), self._interface)
        back = systemd_properties.restoring((name for name, _ in wanted), now)

        def write(settings: Sequence[tuple[Setting, str]]) -> None:
            self._set(wanted, rules)
            writer.write_settings(settings)

        if wanted:
            change.add(lambda: None, lambda: self._set(back, rules))
        change.make(self._with_rewritten(located, before) if wanted else located, write)
        if rules:
            inner = self._inner
            change.add(
                lambda: inner._apply_devices(resources), lambda: inner._apply_devices(before)
            )
        return change

    def _refuse_unmade(self) -> None:
        if self._invocation is None:
            raise CgroupError(
                f"{self.unit.name} has not been started: systemd makes a scope around a process."
                " What has none needs a slice (a cgroupsPath of slice:prefix:name.slice)",
                op="apply",
                path=self.unit.name,
            )

    def _with_rewritten(self, located: Located, before: LinuxResources | None) -> Located:
        """Also what is in force and known to systemd only roughly, as it writes all files anew.

        A quota of 1.5 % would become 2 % as soon as any other limit changes.
        """
        if before is None:
            return located
        known = {_key(setting) for setting, _ in located}
        kept = [
            (setting, self._inner._directory_of(setting))
            for setting in _settings(self.mode, before)
            if setting.controller in _ROUGHLY and _key(setting) not in known
        ]
        return kept + located

    def _tell(self, located: Located, resources: LinuxResources | None, rules: bool) -> None:
        from libpycontainer.cgroups import systemd_bus

        with systemd_bus.connect(user=self.user) as bus:
            wanted = self._told(bus, located, resources, rules)
            if wanted:
                self._quietly(lambda: bus.set(self.unit.name, wanted), rules)

    def _told(
        self, bus: Bus, located: Located, resources: LinuxResources | None, rules: bool
    ) -> list[Property]:
        from libpycontainer.cgroups import systemd_properties

        settings = [setting for setting, _ in located]
        bfq = os.path.exists(f"{self.paths().get('', '')}/io.bfq.weight")
        found = systemd_properties.resources(settings, bus.version, bfq=bfq)
        return [*systemd_properties.device_rules(resources), *found] if rules else found

    def _set(self, wanted: Sequence[Property], rules: bool) -> None:
        from libpycontainer.cgroups import systemd_bus

        if not wanted:
            return
        with systemd_bus.connect(user=self.user) as bus:
            self._quietly(lambda: bus.set(self.unit.name, wanted), rules)

    def _quietly(self, change: Callable[[], None], rules: bool) -> None:
        """Change device rules while nobody looks: on v1 systemd denies all, then allows some."""
        if not rules or self.mode == "v2" or self.frozen():
            change()
            return
        self._inner.freeze()
        try:
            change()
        finally:
            self._inner.thaw()

    # ---- the group -----------------------------------------------------------------------------

    def give_to(self, uid: int) -> None:
        self._inner.give_to(uid)

    def clone_fd(self, beside: int | None = None) -> int | None:
        return None if self._by_systemd else self._inner.clone_fd(beside)

    def join_fds(self, beside: int | None = None, *, cloned: bool = False) -> tuple[int, ...]:
        return () if self._by_systemd else self._inner.join_fds(beside, cloned=cloned)

    @property
    def _by_systemd(self) -> bool:
        """Whether processes are moved in by systemd, see :meth:`add`."""
        return self.user or self._invocation is None

    def pids(self, recursive: bool = True) -> list[int]:
        return self._inner.pids(recursive)

    def occupied(self) -> bool:
        return self._inner.occupied()

    def freeze(self) -> None:
        self._inner.freeze()

    def thaw(self) -> None:
        self._inner.thaw()

    def frozen(self) -> bool:
        return self._inner.frozen()

    def kill(self) -> None:
        if self._invocation is not None:
            self._inner.kill()

    def stats(self) -> Stats:
        return self._inner.stats()


def _settings(mode: str, resources: LinuxResources) -> list[Setting]:
    from libpycontainer.cgroups import settings

    if mode == "v2":
        return settings.v2(resources)
    return settings.v1(resources)


def _key(setting: Setting) -> tuple[str, str]:
    """The file, and in files that list devices the device: what one write replaces."""
    first, space, _ = setting.value.partition(" ")
    return setting.file, first if space and ":" in first else ""
