"""update: new limits for a container that is there, all of them or none."""

from __future__ import annotations

from libpycontainer import limits
from libpycontainer.errors import NotFoundError, Problem, SpecError
from libpycontainer.limits import RESOURCES
from libpycontainer.spec import light
from libpycontainer.store import CONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from libpycontainer.cgroups.writer import Change
    from libpycontainer.container import Container
    from libpycontainer.spec.models import LinuxResources

INTEL_RDT = "$.linux.intelRdt"

_ZERO_IS_UNSAID = {
    "memory": ("limit", "reservation", "swap", "kernel", "kernelTCP"),
    "cpu": ("shares", "quota", "period", "realtimeRuntime", "realtimePeriod", "cpus", "mems"),
    "pids": ("limit",),
    "blockIO": ("weight", "leafWeight"),
    "network": ("classID",),
}
# What only makes sense together, so that one of them brings the others from the record along.
_TOGETHER = {
    "memory": (("limit", "swap", "checkBeforeUpdate"),),
    "cpu": (("quota", "period"), ("shares", "idle")),
}
# Lists whose entries are known by these fields; any other list is replaced as a whole.
_KEYS = {
    "hugepageLimits": ("pageSize",),
    "priorities": ("name",),
    "weightDevice": ("major", "minor"),
    "throttleReadBpsDevice": ("major", "minor"),
    "throttleWriteBpsDevice": ("major", "minor"),
    "throttleReadIOPSDevice": ("major", "minor"),
    "throttleWriteIOPSDevice": ("major", "minor"),
}


def requested(
    resources: Any, memory: int | str | None, cpus: float | None, pids: int | None
) -> dict[str, Any]:
    """What a caller asks for, in whichever form, as a ``linux.resources`` without unsaid fields.

    Raises :class:`SpecError` with each field's path.
    """
    document = light.dump(resources) if hasattr(resources, "to_dict") else resources
    if document is None or hasattr(document, "keys"):
        document = dict(document or {})
        document = merge(document, limits.resources(memory, cpus, pids, lift=True))
        if isinstance(document.get("pids"), dict) and document["pids"].get("limit") is None:
            # The field is required in a configuration; here it says no more than any other.
            del document["pids"]
    return without_zeros(light.dump(_record("LinuxResources", document, RESOURCES)))


def _record(kind: str, document: object, path: str) -> Any:
    """A light record; the paths in its errors are those of a configuration's."""
    try:
        return light.record(kind, document)
    except SpecError as error:
        problems = [Problem(path + each.path[1:], each.message) for each in error.problems]
        raise SpecError(problems) from None


def without_zeros(document: dict[str, Any]) -> dict[str, Any]:
    """A copy without the zeros that mean "leave it": what docker sends for what stays."""
    found = {}
    for name, section in document.items():
        unsaid = _ZERO_IS_UNSAID.get(name, ())
        if isinstance(section, dict):
            section = {key: value for key, value in section.items() if value or key not in unsaid}
            if not section:
                continue
        found[name] = section
    return found


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """``old`` as ``new`` would have it, as fresh dicts."""
    merged = dict(old)
    for name, value in new.items():
        before = merged.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            value = merge(before, value)
        elif isinstance(value, list) and isinstance(before, list) and name in _KEYS:
            rows = {tuple(row.get(key) for key in _KEYS[name]): row for row in before}
            for row in value:
                key = tuple(row.get(key) for key in _KEYS[name])
                rows[key] = merge(rows.get(key, {}), row)
            value = list(rows.values())
        merged[name] = value
    return merged


def effective(wanted: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """What has to be written: ``wanted``, and the fields on record that it depends on.

    Device rules that are those on record are left alone: what somebody (a hook that adds a GPU)
    allowed on top of them stays allowed.
    """
    found = dict(wanted)
    for name, groups in _TOGETHER.items():
        if name not in found:
            continue
        section, before = dict(found[name]), stored.get(name) or {}
        for group in groups:
            if any(key in section for key in group):
                known = {key: before[key] for key in group if before.get(key) is not None}
                section = {**known, **section}
        found[name] = section
    if "devices" in found and found["devices"] == stored.get("devices"):
        del found["devices"]
    return found


def update(container: Container, wanted: dict[str, Any], intel_rdt: Any) -> None:
    """Put ``wanted`` in force and on record. The caller holds the container's lock."""
    document = container._entry.load(CONFIG)
    if document is None:
        raise NotFoundError(f"container {container.id} has no configuration on record")
    linux = document["linux"] = dict(document.get("linux") or {})
    stored = linux.get("resources") or {}
    before: LinuxResources = _record("LinuxResources", stored, RESOURCES)
    resources: LinuxResources = _record("LinuxResources", effective(wanted, stored), RESOURCES)
    limits.check(resources)
    if wanted:
        linux["resources"] = merge(stored, wanted)
    change = container.cgroup.update(resources, before)
    if intel_rdt is not None:
        _change_class(container, intel_rdt, linux, change)
    if wanted or intel_rdt is not None:
        change.add(lambda: container._entry.save(document, CONFIG))


def _change_class(
    container: Container, intel_rdt: Any, linux: dict[str, Any], change: Change
) -> None:
    """The container's class of resctrl; one that has none yet gets one, and is moved there."""
    from libpycontainer import resctrl

    given = light.dump(intel_rdt) if hasattr(intel_rdt, "to_dict") else intel_rdt
    rdt = _record("LinuxIntelRdt", given, INTEL_RDT)
    linux["intelRdt"] = merge(linux.get("intelRdt") or {}, light.dump(rdt))
    record = container._record.get("intelRdt")
    if record is not None:
        undo: list[Callable[[], None]] = []
        change.add(lambda: undo.append(resctrl.change(record, rdt)), lambda: _call(undo))
        return
    fresh: dict[str, Any] = {}

    def join() -> None:
        fresh.update(resctrl.resolve(rdt, container.id))
        resctrl.make(fresh)
        for pid in container.processes():
            resctrl.join(fresh, pid)
        container._record["intelRdt"] = fresh
        container._entry.save(container._record)

    def leave() -> None:
        container._record.pop("intelRdt", None)
        container._entry.save(container._record)
        if fresh:
            resctrl.unmake(fresh)

    change.add(join, leave)


def _call(functions: list[Callable[[], None]]) -> None:
    for each in functions:
        each()
