"""Configurations built in code: what ``Spec.default`` and ``Spec.evolve`` do.

    sections.py        whole sections, and what to change in them
    process.py         the keywords about the process
    surroundings.py    the keywords about files, network and limits

What they refuse is an :class:`ArgumentError` with the keyword's name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from libpycontainer.errors import ArgumentError
from libpycontainer.spec import default as template
from libpycontainer.spec.base import Model, changed
from libpycontainer.spec.building import process, surroundings
from libpycontainer.spec.building.process import capabilities, capability_sets, held
from libpycontainer.spec.building.sections import section, similar
from libpycontainer.spec.building.surroundings import changed_linux, default_filter
from libpycontainer.spec.config import (
    Hooks,
    Mount,
    POSIXRlimit,
    Process,
    Root,
    Spec,
    User,
)
from libpycontainer.spec.linux import (
    Linux,
    LinuxDeviceCgroup,
    LinuxIDMapping,
    LinuxNamespace,
    LinuxResources,
)

HOSTNAME = "sandbox"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECTIONS: dict[str, type[Model]] = {
    "process": Process,
    "root": Root,
    "hooks": Hooks,
    "linux": Linux,
}
CHANGES = {**process.CHANGES, **surroundings.CHANGES}
"""In the order in which they are made: the filter depends on the capabilities."""


def default(cls: type[Spec]) -> Spec:
    """See :meth:`Spec.default`."""
    privileged = os.geteuid() == 0
    own = ("pid", "network", "ipc", "uts", "mount", "cgroup", *(() if privileged else ("user",)))
    linux = Linux(
        namespaces=[LinuxNamespace(type=each) for each in own],
        seccomp=default_filter(()),
        masked_paths=template.MASKED_PATHS,
        readonly_paths=template.READONLY_PATHS,
    )
    if privileged:
        refused = LinuxDeviceCgroup(allow=False, access="rwm")
        linux = changed(linux, resources=LinuxResources(devices=[refused]))
    else:
        linux = changed(
            linux,
            uid_mappings=[LinuxIDMapping(container_id=0, host_id=os.geteuid(), size=1)],
            gid_mappings=[LinuxIDMapping(container_id=0, host_id=os.getegid(), size=1)],
        )
    return cls(
        oci_version=template.OCI_VERSION,
        process=Process(
            user=User(uid=0, gid=0),
            args=["sh"],
            env=[PATH],
            cwd="/",
            capabilities=capability_sets((), root=True),
            rlimits=[POSIXRlimit(type="RLIMIT_NOFILE", hard=1024, soft=1024)],
            no_new_privileges=True,
        ),
        root=Root(path="rootfs", readonly=True),
        hostname=HOSTNAME,
        mounts=[
            Mount.proc(),
            Mount.dev(),
            # Group 5 (tty) is not mapped where the caller alone is.
            Mount.devpts(gid=5 if privileged else None),
            Mount.shm(),
            Mount.mqueue(),
            Mount.sysfs(),
            Mount.cgroup(),
            Mount.tmpfs("/tmp"),
        ],
        linux=linux,
    )


def evolve(spec: Spec, changes: Mapping[str, Any], known: Iterable[str]) -> Spec:
    """See :meth:`Spec.evolve`; ``known`` are the keywords that there are."""
    for name in changes:
        if name not in known:
            raise TypeError(f"evolve() has no parameter {name!r}{similar(name, known)}")
    before = spec
    sections = {
        name: _section_of(spec, name, value)
        for name, value in changes.items()
        if name not in CHANGES
    }
    spec = changed(spec, **sections)
    for name, change in CHANGES.items():
        if name in changes:
            spec = change(spec, changes[name])
    spec = _settle(spec, before, changes)
    _check(spec, changes)
    return spec


def _section_of(spec: Spec, name: str, value: Any) -> Any:
    if name in SECTIONS:
        return section(SECTIONS[name], getattr(spec, name), value, name)
    return value


def _settle(spec: Spec, before: Spec, changes: Mapping[str, Any]) -> Spec:
    """What follows from something else that was changed."""
    if "user" in changes and "capabilities" not in changes and (names := held(spec)):
        spec = capabilities(spec, names)
    if "seccomp" not in changes and spec.linux and spec.linux.seccomp:
        was, now = held(before), held(spec)
        if was != now and spec.linux.seccomp == default_filter(was):
            spec = changed_linux(spec, seccomp=default_filter(now))
    return spec


def _check(spec: Spec, changes: Mapping[str, Any]) -> None:
    """Nothing holds a model made by hand to its types: read what it would be written as."""
    from libpycontainer.spec import converter

    try:
        document = spec.to_dict()
    except (AttributeError, TypeError) as error:
        names = ", ".join(changes)
        raise ArgumentError(
            f"{names}: a value of the wrong type: {error}", parameter=names
        ) from None
    converter.structure(Spec, document)
