"""The keywords of ``Spec.evolve`` about what is around the process: files, network, limits.

Each is a function from one configuration and the value to another configuration.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

from libpycontainer import quantities
from libpycontainer.errors import ArgumentError, Problem, SpecError
from libpycontainer.spec import mounting
from libpycontainer.spec.base import Model, changed
from libpycontainer.spec.building.process import Change, held
from libpycontainer.spec.config import Mount, Root, Spec
from libpycontainer.spec.linux import (
    Linux,
    LinuxCPU,
    LinuxMemory,
    LinuxNamespace,
    LinuxPids,
    LinuxResources,
    LinuxSeccomp,
)

CPU_PERIOD = 100_000

# ---- files ------------------------------------------------------------------------------------


def _rootfs(spec: Spec, value: Any) -> Spec:
    text = mounting.path(value, "rootfs")
    spec = changed(spec, root=changed(spec.root or Root(path=text), path=text))
    if os.path.realpath(text) != "/" or any(
        each.destination == "/run" for each in spec.mounts or ()
    ):
        return spec
    # The sockets in the host's own (docker's, D-Bus's) would be a way out, read-only or not.
    return add_mounts(spec, [Mount.tmpfs("/run", mode=0o755)])


def _read_only(spec: Spec, value: Any) -> Spec:
    present = spec.root or Root(path="rootfs")
    return changed(spec, root=changed(present, readonly=mounting.flag(value, "read_only")))


def _mounts(spec: Spec, value: Any) -> Spec:
    return changed(spec, mounts=value and _each_mount(value, "mounts"))


def add_mounts(spec: Spec, value: Any) -> Spec:
    """In the place of one with the same destination, otherwise behind all that are there."""
    mounts = list(spec.mounts or ())
    for each in _each_mount(value, "add_mounts"):
        places = [at for at, other in enumerate(mounts) if other.destination == each.destination]
        if places:
            mounts[places[0]] = each
        else:
            mounts.append(each)
    return changed(spec, mounts=mounts)


def _each_mount(value: Any, name: str) -> list[Mount]:
    if not isinstance(value, list | tuple):
        raise ArgumentError(
            f"{name}: expected a list of mounts, not {value!r}", parameter=name, value=value
        )
    found = []
    for place, each in enumerate(value):
        if not isinstance(each, Mount):
            what = f"expected a Mount, such as Mount.bind('/data'), not {each!r}"
            raise ArgumentError(f"{name}[{place}]: {what}", parameter=name, value=each)
        if not each.destination.startswith("/"):
            what = f"the destination {each.destination!r} is not an absolute path"
            raise ArgumentError(f"{name}[{place}]: {what}", parameter=name, value=each)
        found.append(each)
    return found


# ---- the linux section ------------------------------------------------------------------------


def changed_linux(spec: Spec, **changes: Any) -> Spec:
    return changed(spec, linux=changed(spec.linux or Linux(), **changes))


def _network(spec: Spec, value: Any) -> Spec:
    if isinstance(value, bool):
        wanted = [] if value else [LinuxNamespace(type="network")]
    else:
        wanted = [LinuxNamespace(type="network", path=mounting.absolute(value, "network"))]
    present = (spec.linux.namespaces if spec.linux else None) or ()
    kept = [each for each in present if each.type != "network"]
    spec = changed_linux(spec, namespaces=[*kept, *wanted])
    if any(each.type == "user" for each in kept):
        spec = _sysfs(spec, own=value is False)
    return spec


def _sysfs(spec: Spec, *, own: bool) -> Spec:
    """It can only be mounted by the owner of the network namespace: another one's is shown."""
    hosts = Mount.bind("/sys")
    old, new = (hosts, Mount.sysfs()) if own else (Mount.sysfs(), hosts)
    mounts = spec.mounts or ()
    return changed(spec, mounts=[new if each == old else each for each in mounts])


def _seccomp(spec: Spec, value: Any) -> Spec:
    from libpycontainer.spec import converter

    if value == "default":
        value = default_filter(held(spec))
    elif isinstance(value, Mapping):
        try:
            value = converter.structure(LinuxSeccomp, dict(value))
        except SpecError as error:
            here = "$.linux.seccomp"
            raise SpecError(
                Problem(here + each.path[1:], each.message) for each in error.problems
            ) from None
    elif value is not None and not isinstance(value, LinuxSeccomp):
        raise ArgumentError(
            f"seccomp: expected 'default', a LinuxSeccomp, a mapping or None, not {value!r}",
            parameter="seccomp",
            value=value,
        )
    return changed_linux(spec, seccomp=value)


@functools.lru_cache(16)
def default_filter(capabilities: tuple[str, ...]) -> LinuxSeccomp:
    return LinuxSeccomp.default(capabilities)


def _memory(spec: Spec, value: Any) -> Spec:
    limit = None if value is None else quantities.size(value, "memory")
    return _resource(spec, "memory", LinuxMemory(), limit=limit)


def _cpus(spec: Spec, value: Any) -> Spec:
    if value is None:
        return _resource(spec, "cpu", LinuxCPU(), quota=None, period=None)
    # The kernel's least quota is 1 ms.
    quota = max(1000, int(quantities.processors(value) * CPU_PERIOD))
    return _resource(spec, "cpu", LinuxCPU(), quota=quota, period=CPU_PERIOD)


def _pids(spec: Spec, value: Any) -> Spec:
    limit = None if value is None else LinuxPids(limit=quantities.tasks(value))
    return _resources(spec, pids=limit)


def _resource(spec: Spec, section: str, empty: Model, **changes: Any) -> Spec:
    resources = spec.linux.resources if spec.linux else None
    present = getattr(resources, section, None) or empty
    made = changed(present, **changes)
    return _resources(spec, **{section: None if made == empty else made})


def _resources(spec: Spec, **changes: Any) -> Spec:
    present = (spec.linux.resources if spec.linux else None) or LinuxResources()
    made = changed(present, **changes)
    return changed_linux(spec, resources=None if made == LinuxResources() else made)


def _of_linux(name: str) -> Change:
    return lambda spec, value: changed_linux(spec, **{name: value})


CHANGES: dict[str, Change] = {
    "rootfs": _rootfs,
    "read_only": _read_only,
    "mounts": _mounts,
    "add_mounts": add_mounts,
    "network": _network,
    "seccomp": _seccomp,
    "memory": _memory,
    "cpus": _cpus,
    "pids": _pids,
    "cgroups_path": _of_linux("cgroups_path"),
    "sysctl": _of_linux("sysctl"),
}
