"""A configuration becomes a plan: the order of things, in one place."""

from __future__ import annotations

from libpycontainer import kernel
from libpycontainer.errors import UnsupportedError
from libpycontainer.host import NAMESPACE_FILES
from libpycontainer.plan import mounts, process, scheduling
from libpycontainer.plan.model import Namespace, Plan, Step, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from libpycontainer.cgroups.hierarchies import CgroupMount
    from libpycontainer.host import Facts
    from libpycontainer.spec.models import Hook, Linux, LinuxIDMapping, Spec
    from libpycontainer.spec.models import Process as SpecProcess

CLONE_FLAGS = {
    "pid": kernel.CLONE_NEWPID,
    "network": kernel.CLONE_NEWNET,
    "mount": kernel.CLONE_NEWNS,
    "ipc": kernel.CLONE_NEWIPC,
    "uts": kernel.CLONE_NEWUTS,
    "user": kernel.CLONE_NEWUSER,
    "cgroup": kernel.CLONE_NEWCGROUP,
    "time": kernel.CLONE_NEWTIME,
}

# Made when init is cloned. The user and time namespaces are made beforehand and joined; the
# cgroup namespace afterwards, because its root is the group that its maker sits in.
_AT_CLONE = ("pid", "network", "mount", "ipc", "uts")
# In a user namespace the ipc namespace is made when init is its root: the message queues' directory
# belongs to whoever makes it.
_AFTER_CLONE = ("ipc", "cgroup")

CLOCKS = {"monotonic": 1, "boottime": 7}
CAP_NET_ADMIN = 12


class Request:
    """What a plan depends on besides the configuration and the host's facts.

    ``rootfs`` and ``bundle`` are absolute; ``state`` holds, by kind of hook, the OCI state document
    as JSON up to the pid's value and from there on, for hooks that run inside; ``nfds`` how many
    descriptors the program gets (3 and the preserved ones); ``filter`` the seccomp program, an
    array of ``struct sock_filter``. With ``placed`` the process waits until the caller has moved
    it to where it cannot get by itself (a cgroup of systemd's, a class of resctrl's). With
    ``start`` the program is run as soon as the container is created. With ``call`` the last step is
    the call of a function that the interpreter has, instead of a program. With ``progress`` init
    tells of every step.
    """

    __slots__ = (
        "bundle",
        "call",
        "cgroup_mounts",
        "console_size",
        "extra_env",
        "filter",
        "filter_flags",
        "id",
        "new_keyring",
        "nfds",
        "no_pivot",
        "placed",
        "progress",
        "read_only_tree",
        "rootfs",
        "start",
        "state",
        "terminal",
    )

    def __init__(
        self,
        id: str,
        *,
        bundle: str,
        rootfs: str = "",
        state: Mapping[str, tuple[str, str]] | None = None,
        nfds: int = 3,
        terminal: bool = False,
        console_size: tuple[int, int] | None = None,
        no_pivot: bool = False,
        new_keyring: bool = True,
        cgroup_mounts: Sequence[CgroupMount] = (),
        read_only_tree: bool = False,
        extra_env: Sequence[str] = (),
        filter: bytes = b"",
        filter_flags: int = 0,
        placed: bool = False,
        start: bool = False,
        call: bool = False,
        progress: bool = False,
    ) -> None:
        self.id = id
        self.bundle = bundle
        self.rootfs = rootfs
        self.state = state or {}
        self.nfds = nfds
        self.terminal = terminal
        self.console_size = console_size
        self.no_pivot = no_pivot
        self.new_keyring = new_keyring
        self.cgroup_mounts = cgroup_mounts
        self.read_only_tree = read_only_tree
        self.extra_env = extra_env
        self.filter = filter
        self.filter_flags = filter_flags
        self.placed = placed
        self.start = start
        self.call = call
        self.progress = progress


class Builder:
    """A plan in the making: the inputs, and what several rooms of the planner need to know."""

    def __init__(self, spec: Spec, facts: Facts, request: Request) -> None:
        if spec.linux is None:
            raise UnsupportedError("$.linux: only Linux containers can be run here", op="plan")
        self.spec = spec
        self.linux: Linux = spec.linux
        self.facts = facts
        self.request = request
        self.plan = Plan()
        self.late: list[Step] = []
        self.new: set[str] = set()
        self.joined: dict[str, str] = {}
        for namespace in self.linux.namespaces or ():
            if namespace.path:
                self.joined[namespace.type] = namespace.path
            else:
                self.new.add(namespace.type)

    def add(self, step: Step) -> None:
        self.plan.steps.append(step)

    def has_namespace(self, type: str) -> bool:
        return type in self.new or type in self.joined

    @property
    def maps_users(self) -> bool:
        return self.has_namespace("user")

    @property
    def cgroup_namespace(self) -> bool:
        return self.has_namespace("cgroup")

    @property
    def setgroups(self) -> bool:
        """May the container's processes call setgroups? Not where an ordinary user maps himself."""
        if not self.facts.setgroups:
            return False
        if "user" not in self.new:
            return True
        return self.facts.privileged or not _maps_only_self(self.linux.gid_mappings)

    def tree(self, path: str, title: str, *, recursive: bool, **mapping: Any) -> str:
        """Have the caller's side copy the mounts at ``path``; returns the descriptor's name.

        ``mapping`` makes it an id-mapped copy: see :class:`Tree`.
        """
        name = f"tree:{len(self.plan.trees)}"
        tree = Tree(name, path, recursive=recursive, title=title, **mapping)
        self.plan.trees.append(tree)
        return tree.fd


def build(spec: Spec, facts: Facts, request: Request) -> Plan:
    """Plan a new container: from entering its namespaces to the program's execve.

    ``spec`` is valid (see :mod:`libpycontainer.validate`). Raises
    :class:`~libpycontainer.errors.UnsupportedError` for what this version cannot do, naming the
    field, and :class:`~libpycontainer.errors.SpecError`.
    """
    builder = Builder(spec, facts, request)
    _refuse_unsupported(builder)
    assert spec.process is not None
    _namespaces(builder)
    _identity(builder)
    if request.progress:
        builder.add(Step("report_progress", "report every step"))
    if builder.has_namespace("mount"):
        mounts.root_steps(builder)
    else:
        title = f"use the root {request.rootfs}"
        builder.add(Step("open_root", title, source=request.rootfs))
    mounts.mount_steps(builder)
    if builder.has_namespace("mount"):
        mounts.device_steps(builder)
    builder.add(Step("make_cwd", f"have the directory {spec.process.cwd}", path=spec.process.cwd))
    if stops_when_mounted(spec):
        title = "let the caller attach networks and run its hooks"
        builder.add(Step("sync", title, word="mounted"))
    _hooks(builder, "createContainer", spec.hooks.create_container if spec.hooks else None)
    mounts.switch_steps(builder)
    if request.terminal:
        _console(builder, spec.process, mount=builder.has_namespace("mount"))
    mounts.seal_steps(builder)
    _names_and_sysctls(builder)
    mounts.path_steps(builder)
    scheduling.steps(builder, spec.process)
    process.prepare_steps(builder, spec.process)
    builder.add(Step("sync", "report that the container is created", word="ready"))
    if not request.start:
        builder.add(Step("await_start", "wait for start"))
    _hooks(builder, "startContainer", spec.hooks.start_container if spec.hooks else None)
    process.execute_steps(builder, spec.process, nfds=request.nfds)
    return builder.plan


def build_exec(
    spec: Spec, target: SpecProcess, facts: Facts, request: Request, *, join_flags: int
) -> Plan:
    """Plan one more process in a running container, whose init's pidfd is the descriptor "init"."""
    builder = Builder(spec, facts, request)
    affinity = target.exec_cpu_affinity
    if affinity and (step := scheduling.affinity_step(affinity.initial, "initial")):
        builder.plan.enter.append(step)
    process.enter_steps(builder, target)
    # From inside of a cgroup namespace nobody may come into its groups from without, where
    # namespaces are delegated to ("nsdelegate", as systemd mounts the hierarchy): after the clone.
    later = join_flags & kernel.CLONE_NEWCGROUP
    title = "enter the container's namespaces"
    builder.plan.enter.append(
        Step("join", title, fd="init", flags=join_flags & ~later, keep=bool(later))
    )
    builder.plan.clone_flags = kernel.CLONE_PARENT
    _cgroup_steps(builder)
    if later:
        title = "enter the container's cgroup namespace"
        builder.add(Step("join", title, fd="init", flags=later, keep=False))
    if builder.maps_users:
        builder.add(
            Step("become_root", "become root of the user namespace", groups=builder.setgroups)
        )
    builder.add(Step("new_session", "start a session"))
    _keyring(builder)
    if affinity and (step := scheduling.affinity_step(affinity.final, "final")):
        builder.add(step)
    elif affinity and affinity.initial:
        builder.add(Step("set_affinity", "run on every CPU that the cgroup has", cpus=[]))
    if builder.has_namespace("mount"):
        builder.add(Step("use_root", "use the container's root"))
    else:
        # No setns leads to this root: without it the program would have the host's.
        builder.add(Step("open_root", f"use the root {request.rootfs}", source=request.rootfs))
        builder.add(Step("change_root", "chroot into the root"))
    if request.terminal:
        _console(builder, target, mount=False)
    scheduling.steps(builder, target)
    process.prepare_steps(builder, target)
    process.execute_steps(builder, target, nfds=request.nfds)
    return builder.plan


def stops_when_mounted(spec: Spec) -> bool:
    """Must init wait for the caller's side between the mounts and the switch of the root?

    For his hooks and devices; before a hook of its own, which may ask for the state that is on
    record; and for limits that decide what a scheduling policy may be, or a memory policy.
    """
    hooks, linux, process = spec.hooks, spec.linux, spec.process
    hooked = hooks and (hooks.prestart or hooks.create_runtime or hooks.create_container)
    of_linux = linux and (linux.net_devices or linux.memory_policy)
    of_process = process and (process.scheduler or process.io_priority)
    return bool(hooked or of_linux or of_process)


def early_clone_flags(spec: Spec) -> int | None:
    """What init can be cloned with before there is a plan: its namespaces are new, and no more.

    ``None`` where it has to enter others first: some by path, or a new user or time namespace.
    """
    flags = kernel.CLONE_PARENT
    for namespace in (spec.linux.namespaces if spec.linux else None) or ():
        if namespace.path or namespace.type in ("user", "time"):
            return None
        if namespace.type in _AT_CLONE:
            flags |= CLONE_FLAGS[namespace.type]
    return flags


def join_flags(spec: Spec) -> int:
    """The namespaces that a process of this container lives in, as setns flags."""
    flags = 0
    for namespace in (spec.linux.namespaces if spec.linux else None) or ():
        flags |= CLONE_FLAGS[namespace.type]
    return flags


# ---- namespaces ------------------------------------------------------------------------------


def _namespaces(builder: Builder) -> None:
    plan = builder.plan
    spec_process = builder.spec.process
    assert spec_process is not None
    process.enter_steps(builder, spec_process)
    if "user" in builder.new:
        plan.namespaces.append(_new_user_namespace(builder))
    if "time" in builder.new:
        plan.namespaces.append(_new_time_namespace(builder))
    for type, path in builder.joined.items():
        plan.namespaces.append(Namespace(f"ns:{type}", type, path=path))
    # The host's root may enter the others only as long as it has not entered the user namespace;
    # an ordinary user may enter them only from inside it.
    first = not builder.facts.privileged
    for namespace in sorted(plan.namespaces, key=lambda ns: (ns.type == "user") != first):
        plan.enter.append(_join(namespace))
    plan.clone_flags = kernel.CLONE_PARENT
    for type in _AT_CLONE:
        if type in builder.new and not (type == "ipc" and builder.maps_users):
            plan.clone_flags |= CLONE_FLAGS[type]
    _cgroup_steps(builder)
    if builder.maps_users:
        builder.add(
            Step("become_root", "become root of the user namespace", groups=builder.setgroups)
        )
    for type in _AFTER_CLONE:
        if type in builder.new and not plan.clone_flags & CLONE_FLAGS[type]:
            title = f"make {'an' if type == 'ipc' else 'a'} {type} namespace"
            builder.add(Step("unshare", title, flags=CLONE_FLAGS[type]))


def _cgroup_steps(builder: Builder) -> None:
    if builder.request.placed:
        builder.add(Step("await_continue", "wait until the caller has put this process in place"))
    builder.add(Step("join_cgroups", "enter the cgroups"))


def _join(namespace: Namespace) -> Step:
    where = namespace.path or "just made"
    title = f"enter the {namespace.type} namespace ({where})"
    flags = CLONE_FLAGS[namespace.type]
    return Step("join", title, fd=namespace.fd, flags=flags, keep=False)


def _new_user_namespace(builder: Builder) -> Namespace:
    linux = builder.linux
    return Namespace(
        "ns:user",
        "user",
        uid_map=map_lines(linux.uid_mappings),
        gid_map=map_lines(linux.gid_mappings),
        setgroups=builder.setgroups,
    )


def _new_time_namespace(builder: Builder) -> Namespace:
    wanted = builder.linux.time_offsets
    offsets = ""
    for name, number in CLOCKS.items():
        offset = getattr(wanted, name, None)
        if offset is not None:
            offsets += f"{number} {offset.secs or 0} {offset.nanosecs or 0}\n"
    return Namespace("ns:time", "time", offsets=offsets)


def map_lines(mappings: Sequence[LinuxIDMapping] | None) -> str:
    """Id mappings as /proc/PID/uid_map takes them (man 7 user_namespaces)."""
    return "".join(f"{m.container_id} {m.host_id} {m.size}\n" for m in mappings or ())


def _maps_only_self(mappings: Sequence[LinuxIDMapping] | None) -> bool:
    rows = list(mappings or ())
    return len(rows) == 1 and rows[0].size == 1


# ---- what the namespaces carry -----------------------------------------------------------------


def _identity(builder: Builder) -> None:
    builder.add(Step("new_session", "start a session"))
    _keyring(builder)
    if "network" in builder.new:
        builder.add(Step("loopback_up", "bring the loopback device up"))


def _keyring(builder: Builder) -> None:
    if builder.request.new_keyring:
        name = f"_ses.{builder.request.id}"
        # The right to search it: for its user, or for others where the user is mapped (as in runc).
        search = 0x8 if builder.maps_users else 0x80000
        title = f"join the session keyring {name}"
        builder.add(Step("join_keyring", title, name=name, permissions=search))


def _names_and_sysctls(builder: Builder) -> None:
    spec = builder.spec
    if spec.hostname:
        builder.add(Step("set_hostname", f"name the host {spec.hostname}", name=spec.hostname))
    if spec.domainname:
        title = f"name the domain {spec.domainname}"
        builder.add(Step("set_domainname", title, name=spec.domainname))
    sysctls = builder.linux.sysctl or {}
    if sysctls:
        title = f"set {len(sysctls)} sysctls"
        builder.add(Step("write_sysctls", title, values=sorted(sysctls.items())))


def _console(builder: Builder, target: SpecProcess, *, mount: bool) -> None:
    size = builder.request.console_size
    if size is None and target.console_size is not None:
        size = (target.console_size.height, target.console_size.width)
    builder.add(
        Step(
            "console",
            "open a terminal",
            size=size,
            mount=mount,
            uid=target.user.uid if target.user else 0,
        )
    )


def _hooks(builder: Builder, kind: str, hooks: Sequence[Hook] | None) -> None:
    if hooks:
        rows = [
            (hook.path, list(hook.args or [hook.path]), list(hook.env or ()), hook.timeout)
            for hook in hooks
        ]
        state = builder.request.state.get(kind, ("{}", ""))
        title = f"run {len(rows)} {kind} hook{'s' if len(rows) > 1 else ''}"
        builder.add(Step("run_hooks", title, kind=kind, hooks=rows, state=state))


def _refuse_unsupported(builder: Builder) -> None:
    """Silence would be a lie about isolation: what is asked for and not done is an error."""
    spec, facts = builder.spec, builder.facts
    for type in sorted(builder.new | set(builder.joined)):
        if type not in facts.namespaces:
            raise UnsupportedError(
                f"$.linux.namespaces: this kernel has no {NAMESPACE_FILES[type]} namespaces",
                op="plan",
            )
    if not builder.has_namespace("mount"):
        if spec.mounts:
            text = "$.mounts: without a mount namespace these would be mounted on the host"
            raise UnsupportedError(text, op="plan")
        if spec.root is not None and spec.root.readonly:
            text = "$.root.readonly: without a mount namespace it would go for the host's mount"
            raise UnsupportedError(text, op="plan")
    if builder.linux.net_devices and not facts.capabilities >> CAP_NET_ADMIN & 1:
        text = "$.linux.netDevices: moving network devices needs the capability CAP_NET_ADMIN"
        raise UnsupportedError(text, op="plan")
    if builder.linux.seccomp and not builder.request.filter:
        text = "$.linux.seccomp: the request has no program that was compiled from it"
        raise UnsupportedError(text, op="plan")
