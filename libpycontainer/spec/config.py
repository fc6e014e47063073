"""The container's configuration, ``config.json`` (runtime-spec config.md).

The fields stand in the order of the spec's Go bindings, which is the order ``runc spec`` writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    import os
    from typing import Never, Self

    from libpycontainer.quantities import Size
    from libpycontainer.spec.linux import LinuxSeccomp

    Path = str | os.PathLike[str]


class _Unchanged:
    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Any = _Unchanged()
"""Stands for a keyword that was not given, where ``None`` means to take something away."""

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

    @classmethod
    def bind(
        cls,
        source: Path,
        destination: Path | None = None,
        *,
        read_only: bool = True,
        recursive: bool = True,
        options: Iterable[str] = (),
    ) -> Self:
        """A directory or file of the host, shown at ``destination`` (by default at its own path).

        A relative ``source`` counts from the current directory, now. Set-user-id programs and
        device nodes in it have no effect. ``recursive`` shows what is mounted below it as well,
        as read-only as the rest. Raises :class:`~libpycontainer.errors.ArgumentError`.
        """
        from libpycontainer.spec import mounting

        return cls(**mounting.bind(source, destination, read_only, recursive, options))

    @classmethod
    def tmpfs(
        cls,
        destination: Path,
        *,
        size: Size | None = None,
        mode: int = 0o1777,
        read_only: bool = False,
        executable: bool = True,
        options: Iterable[str] = (),
    ) -> Self:
        """An empty file system in memory, of at most ``size`` ("64M"; by default half the memory).

        What is in it counts for the container's memory limit. ``mode`` are the permissions of its
        root, by default those of /tmp. Raises :class:`~libpycontainer.errors.ArgumentError`.
        """
        from libpycontainer.spec import mounting

        found = mounting.tmpfs(destination, size, mode, read_only, executable, options)
        return cls(**found)

    @classmethod
    def proc(cls, destination: Path = "/proc") -> Self:
        """The processes of the container's own pid namespace."""
        from libpycontainer.spec import mounting

        return cls(**mounting.kernel(destination, "proc", *mounting.QUIET))

    @classmethod
    def sysfs(cls, destination: Path = "/sys", *, read_only: bool = True) -> Self:
        """The kernel's devices; needs a network namespace that is the container's own."""
        from libpycontainer.spec import mounting

        quiet = mounting.QUIET
        return cls(**mounting.kernel(destination, "sysfs", *quiet, read_only=read_only))

    @classmethod
    def dev(cls, destination: Path = "/dev") -> Self:
        """A small tmpfs, which the container's device nodes are then made in."""
        from libpycontainer.spec import mounting

        options = ("nosuid", "strictatime", "mode=755", "size=65536k")
        return cls(**mounting.kernel(destination, "tmpfs", *options))

    @classmethod
    def devpts(cls, destination: Path = "/dev/pts", *, gid: int | None = None) -> Self:
        """The container's own terminals; ``gid`` owns them (5 is tty on most distributions)."""
        from libpycontainer.spec import mounting

        options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
        if gid is not None:
            options.append(f"gid={gid}")
        return cls(**mounting.kernel(destination, "devpts", *options))

    @classmethod
    def shm(cls, destination: Path = "/dev/shm", *, size: Size = "64M") -> Self:
        """Where ``shm_open`` makes shared memory."""
        return cls.tmpfs(destination, size=size, executable=False)

    @classmethod
    def mqueue(cls, destination: Path = "/dev/mqueue") -> Self:
        """The message queues of the container's own ipc namespace."""
        from libpycontainer.spec import mounting

        return cls(**mounting.kernel(destination, "mqueue", *mounting.QUIET))

    @classmethod
    def cgroup(cls, destination: Path = "/sys/fs/cgroup", *, read_only: bool = True) -> Self:
        """The container's own cgroups, with its limits and what it has used."""
        from libpycontainer.spec import mounting

        options = (*mounting.QUIET, "relatime")
        return cls(**mounting.kernel(destination, "cgroup", *options, read_only=read_only))


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
    def default(cls) -> Spec:
        """A configuration to start from, with :meth:`evolve`, that gives away as little as it can.

        No capabilities and no way to gain any, the default system call filter
        (:meth:`LinuxSeccomp.default`), namespaces of its own of every kind but user and time, no
        network but its own loopback, a read-only root in ``rootfs`` with an own /proc, /dev, /sys
        and /tmp, no terminal. For an ordinary user there is a user namespace too, in which he is
        root and nobody else exists. It needs libseccomp, unless ``evolve(seccomp=None)`` takes the
        filter out.
        """
        from libpycontainer.spec import building

        return building.default(cls)

    @classmethod
    def like_runc(
        cls,
        rootless: bool = False,
        *,
        uid: int | None = None,
        gid: int | None = None,
        cgroup_namespace: bool | None = None,
    ) -> Spec:
        """The config that ``runc spec`` (or ``runc spec --rootless``) writes.

        ``uid`` and ``gid`` are the host's ids that become root in a rootless container, by default
        the caller's own. ``cgroup_namespace`` as runc: where the host has the unified hierarchy.
        """
        from libpycontainer.spec import converter, default

        document = default.config(rootless, uid=uid, gid=gid, cgroup_namespace=cgroup_namespace)
        return converter.structure(cls, document)

    def evolve(
        self,
        *,
        args: Sequence[Path] = UNCHANGED,
        env: Mapping[str, str] | Sequence[str] | None = UNCHANGED,
        add_env: Mapping[str, str] = UNCHANGED,
        cwd: Path = UNCHANGED,
        user: int | str | tuple[int, int] | None = UNCHANGED,
        additional_gids: Sequence[int] | None = UNCHANGED,
        umask: int | None = UNCHANGED,
        terminal: bool = UNCHANGED,
        capabilities: Iterable[str] | None = UNCHANGED,
        no_new_privileges: bool = UNCHANGED,
        seccomp: LinuxSeccomp | Mapping[str, Any] | str | None = UNCHANGED,
        rlimits: Mapping[str, int | tuple[int, int]] | None = UNCHANGED,
        oom_score_adj: int | None = UNCHANGED,
        rootfs: Path = UNCHANGED,
        read_only: bool = UNCHANGED,
        mounts: Sequence[Mount] | None = UNCHANGED,
        add_mounts: Sequence[Mount] = UNCHANGED,
        network: bool | Path = UNCHANGED,
        hostname: str | None = UNCHANGED,
        domainname: str | None = UNCHANGED,
        memory: Size | None = UNCHANGED,
        cpus: float | None = UNCHANGED,
        pids: int | None = UNCHANGED,
        cgroups_path: str | None = UNCHANGED,
        sysctl: Mapping[str, str] | None = UNCHANGED,
        annotations: Mapping[str, str] | None = UNCHANGED,
        hooks: Hooks | Mapping[str, Any] | None = UNCHANGED,
        process: Process | Mapping[str, Any] | None = UNCHANGED,
        root: Root | Mapping[str, Any] | None = UNCHANGED,
        linux: Linux | Mapping[str, Any] | None = UNCHANGED,
        oci_version: str = UNCHANGED,
        solaris: Solaris | None = UNCHANGED,
        windows: Windows | None = UNCHANGED,
        vm: VM | None = UNCHANGED,
        zos: ZOS | None = UNCHANGED,
        freebsd: FreeBSD | None = UNCHANGED,
        extra: Mapping[str, Any] | None = UNCHANGED,
        **unknown: Never,
    ) -> Spec:
        """A copy with some things changed; ``self`` stays as it is.

        What is given takes the place of what was there, ``None`` takes it away, and what is not
        mentioned stays. ``add_env`` and ``add_mounts`` leave the other variables and mounts; a
        mount takes the place of one with the same destination.

        - ``args`` is the command, a list of words; ``env`` the whole environment; ``cwd`` an
          absolute path inside; ``user`` a uid, ``"uid:gid"`` or ``(uid, gid)``; ``umask`` and
          ``additional_gids`` are his too.
        - ``capabilities`` are names with or without ``CAP_``. A user other than root keeps them as
          ambient ones. A default system call filter follows them.
        - ``seccomp`` is ``"default"``, a :class:`LinuxSeccomp`, a mapping shaped like
          ``linux.seccomp``, or ``None``: every system call is allowed.
        - ``rlimits`` maps names, with or without ``RLIMIT_``, to a number or ``(soft, hard)``.
        - ``rootfs`` is the root directory: a relative one counts from the bundle; ``read_only``
          tells whether its own file system can be written to. With ``"/"`` the host's files are
          shown, with an own /run: then give ``read_only_tree=True`` to :meth:`Factory.create`, for
          the file systems that are mounted below it.
        - ``network`` is ``False`` for a network of its own, ``True`` for the host's, or the path
          of a network namespace to join.
        - ``memory`` is in bytes or ``"256M"``, ``cpus`` a number of processors, ``pids`` one of
          processes and threads.
        - ``process``, ``root``, ``hooks`` and ``linux`` are whole sections, or mappings of the
          attributes to change in them, at any depth: ``linux={"resources": {"cpu": {"shares":
          512}}}``.

        Raises :class:`~libpycontainer.errors.ArgumentError` for what cannot be used, by the name
        of its keyword; :class:`~libpycontainer.errors.SpecError` where the document would not be
        one; :class:`TypeError` for a keyword that there is none.
        """
        from libpycontainer.spec import building

        given = locals()
        names = [name for name in given if name not in ("self", "unknown", "building")]
        changes = {name: given[name] for name in names if given[name] is not UNCHANGED}
        return building.evolve(self, {**changes, **unknown}, names)
