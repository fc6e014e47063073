"""The container's configuration, ``config.json`` (runtime-spec config.md).

The fields stand in the order of the spec's Go bindings, which is the order ``runc spec`` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from libpycontainer.spec.base import (
    Int32,
    Int64,
    Model,
    StringMap,
    Strings,
    Uint32,
    Uint64,
    model,
)
from libpycontainer.spec.linux import Linux, LinuxIDMapping
from libpycontainer.spec.platforms import VM, ZOS, FreeBSD, Solaris, Windows

CPUList = Annotated[str, "cpu list"]
IOPriorityClass = Annotated[str, "io priority class"]
PositiveInt = Annotated[int, "positive int"]
RlimitType = Annotated[str, "rlimit"]
SchedulerFlag = Annotated[str, "scheduler flag"]
SchedulerPolicy = Annotated[str, "scheduler policy"]


@model
class Box(Model):
    """The size of a terminal, in characters."""

    height: Uint64
    width: Uint64


@model
class User(Model):
    """Whom the process runs as, in the container's ids (config.md#posix-platform-user)."""

    uid: Uint32 | None = None
    gid: Uint32 | None = None
    umask: Uint32 | None = None
    additional_gids: Sequence[Uint32] | None = None
    username: str | None = None


@model
class LinuxCapabilities(Model):
    """The five sets of ``man 7 capabilities``."""

    bounding: Strings | None = None
    effective: Strings | None = None
    inheritable: Strings | None = None
    permitted: Strings | None = None
    ambient: Strings | None = None


@model
class POSIXRlimit(Model):
    """One resource limit (``man 2 getrlimit``)."""

    type: RlimitType
    hard: Uint64
    soft: Uint64


@model
class Scheduler(Model):
    """How the process is scheduled (``man 2 sched_setattr``); times are in nanoseconds."""

    policy: SchedulerPolicy
    nice: Int32 | None = None
    priority: Int32 | None = None
    flags: Sequence[SchedulerFlag] | None = None
    runtime: Uint64 | None = None
    deadline: Uint64 | None = None
    period: Uint64 | None = None


@model
class LinuxIOPriority(Model):
    """The I/O scheduling class (``man 2 ioprio_set``); ``class`` is a keyword of Python."""

    class_: IOPriorityClass
    priority: Int32 | None = None


@model
class CPUAffinity(Model):
    """CPUs for a process that joins the container, before and after it enters the cgroup."""

    initial: CPUList | None = None
    final: CPUList | None = None


@model
class Process(Model):
    """What runs in the container (config.md#process)."""

    terminal: bool | None = None
    console_size: Box | None = None
    user: User | None = None
    args: Strings | None = None
    command_line: str | None = None
    env: Strings | None = None
    cwd: str
    capabilities: LinuxCapabilities | None = None
    rlimits: Sequence[POSIXRlimit] | None = None
    no_new_privileges: bool | None = None
    apparmor_profile: str | None = None
    oom_score_adj: Int64 | None = None
    scheduler: Scheduler | None = None
    selinux_label: str | None = None
    io_priority: LinuxIOPriority | None = None
    exec_cpu_affinity: CPUAffinity | None = None


@model
class Root(Model):
    """The root file system (config.md#root); ``path`` is relative to the bundle."""

    path: str
    readonly: bool | None = None


@model
class Mount(Model):
    """One mount, done in the listed order (config.md#mounts)."""

    destination: str
    type: str | None = None
    source: str | None = None
    options: Strings | None = None
    uid_mappings: Sequence[LinuxIDMapping] | None = None
    gid_mappings: Sequence[LinuxIDMapping] | None = None


@model
class Hook(Model):
    """A program to run; ``timeout`` is in seconds (config.md#posix-platform-hooks)."""

    path: str
    args: Strings | None = None
    env: Strings | None = None
    timeout: PositiveInt | None = None


@model
class Hooks(Model):
    """The programs for each event of the container's life."""

    prestart: Sequence[Hook] | None = None
    create_runtime: Sequence[Hook] | None = None
    create_container: Sequence[Hook] | None = None
    start_container: Sequence[Hook] | None = None
    poststart: Sequence[Hook] | None = None
    poststop: Sequence[Hook] | None = None


@model
class Spec(Model):
    """The whole ``config.json``."""

    oci_version: str
    process: Process | None = None
    root: Root | None = None
    hostname: str | None = None
    domainname: str | None = None
    mounts: Sequence[Mount] | None = None
    hooks: Hooks | None = None
    annotations: StringMap | None = None
    linux: Linux | None = None
    solaris: Solaris | None = None
    windows: Windows | None = None
    vm: VM | None = None
    zos: ZOS | None = None
    freebsd: FreeBSD | None = None

    @classmethod
    def default(
        cls,
        rootless: bool = False,
        *,
        uid: int | None = None,
        gid: int | None = None,
        cgroup_namespace: bool | None = None,
    ) -> Spec:
        """The config that ``runc spec`` (or ``runc spec --rootless``) writes, to start from.

        ``uid`` and ``gid`` are the host's ids that become root in a rootless container, by default
        the caller's own. ``cgroup_namespace`` as runc: where the host has the unified hierarchy.
        """
        from libpycontainer.spec import converter, default

        document = default.config(rootless, uid=uid, gid=gid, cgroup_namespace=cgroup_namespace)
        return converter.structure(cls, document)
