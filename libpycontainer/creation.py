"""Creating a container: the order of everything, and the way back from every point of it."""

from __future__ import annotations

import os

from libpycontainer import conversation, grouping, host, launch, lifecycle, log, waiting
from libpycontainer import syscalls as sys_
from libpycontainer.errors import ContainerError, Problem, SpecError
from libpycontainer.plan import Request, build
from libpycontainer.plan.ownership import cgroup_owner, host_id
from libpycontainer.process import Process
from libpycontainer.store import CONFIG, START_SOCKET
from libpycontainer.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from libpycontainer.cgroups.protocol import Manager
    from libpycontainer.factory import Factory
    from libpycontainer.host import Facts
    from libpycontainer.plan import Plan
    from libpycontainer.spec.models import LinuxResources, Spec
    from libpycontainer.spec.models import Process as SpecProcess
    from libpycontainer.store import Entry
    from libpycontainer.streams import Streams


class Creation:
    """One container in the making."""

    def __init__(
        self,
        factory: Factory,
        id: str,
        spec: Any,
        *,
        bundle: str | None,
        no_pivot: bool,
        new_keyring: bool,
        read_only_tree: bool,
        streams: dict[str, Any],
        extra_env: Sequence[str] = (),
        notify: bool = False,
    ) -> None:
        self.factory = factory
        self.id = id
        self.facts = host.facts()
        self.bundle = os.path.abspath(bundle if bundle is not None else ".")
        self.spec, self.document = read_spec(spec)
        terminal = bool(self.spec.process and self.spec.process.terminal)
        self.process = Process(terminal=terminal, **streams)
        self.no_pivot = no_pivot
        self.new_keyring = new_keyring
        self.read_only_tree = read_only_tree
        self.extra_env = list(extra_env)
        self.notify_directory = self._arrange_notify() if notify else ""
        self.record: dict[str, Any] = {}

    def _arrange_notify(self) -> str:
        """Plan a socket to report readiness to; the configuration on record stays without it."""
        from libpycontainer import notify
        from libpycontainer.spec import light

        if not notify.possible(self.spec):
            log.warn("a container without a mount namespace cannot report that it is ready")
            return ""
        path = os.path.join(self.factory.root, self.id, notify.DIRECTORY)
        self.spec = light.record("Spec", notify.with_mount(self.document, path))
        self.extra_env.append(notify.VARIABLE)
        return path

    def plan(self, manager: Manager, nfds: int, *, dry: bool = False) -> Plan:
        """Check the configuration against this host and resolve it into steps.

        ``dry`` leaves nothing behind, not even what would only save work the next time.
        """
        check(self.spec, self.facts)
        self.record = self._record(manager)
        request = Request(
            self.id,
            bundle=self.bundle,
            rootfs=find_rootfs(self.spec, self.bundle),
            state=lifecycle.split_documents(self.record),
            nfds=nfds,
            terminal=self.process.terminal,
            console_size=self.process.console_size,
            no_pivot=self.no_pivot,
            new_keyring=self.new_keyring,
            cgroup_mounts=manager.mounts(),
            read_only_tree=self.read_only_tree,
            extra_env=self.extra_env,
            **self._filter(dry),
        )
        plan = build(self.spec, self.facts, request)
        for warning in plan.warnings:
            log.warn(warning)
        return plan

    def _filter(self, dry: bool) -> dict[str, Any]:
        """The seccomp filter, for the request; for the record, the agent that answers for it."""
        section = (self.document.get("linux") or {}).get("seccomp")
        if not section:
            return {}
        from libpycontainer.seccomp import cache, names

        if names.notifies(section):
            from libpycontainer.seccomp import agent

            self.record["seccompAgent"] = agent.on_record(section)
            if not dry:
                agent.check(self.record["seccompAgent"])
        return cache.for_request(section, None if dry else self.factory.root)

    @property
    def resources(self) -> LinuxResources | None:
        return self.spec.linux.resources if self.spec.linux else None

    def manager(self) -> Manager:
        path = self.spec.linux.cgroups_path if self.spec.linux else None
        return grouping.place(self.factory, self.id, path, self.spec.annotations)

    def _record(self, manager: Manager) -> dict[str, Any]:
        record = lifecycle.new_record(self.id, self.spec.oci_version, self.bundle, manager)
        record["rootfs"] = find_rootfs(self.spec, self.bundle)
        if self.spec.annotations:
            record["annotations"] = dict(self.spec.annotations)
        if hooks := lifecycle.hook_rows(self.spec.hooks):
            record["hooks"] = hooks
        if self.spec.linux and self.spec.linux.intel_rdt is not None:
            from libpycontainer import resctrl

            record["intelRdt"] = resctrl.resolve(self.spec.linux.intel_rdt, self.id)
        return record

    def run(self) -> tuple[Entry, dict[str, Any]]:
        """Do it. Returns the container's entry, unlocked, and its record; attaches the process."""
        with Undo() as undo:
            # Before any descriptor of ours can come to lie where the caller has none.
            streams = self.process.open_streams()
            undo.push(streams.close)
            # Then at once, so that the interpreter boots while everything below is found out.
            spawner = self.factory.spawner()
            undo.push(spawner.close)
            spawner.start()
            parents = grouping.Parents(self.factory, self.id)
            undo.push(parents.close)
            manager = self.manager()
            plan = self.plan(manager, streams.nfds)
            give_pipes(streams, self.spec, self.spec.process, self.facts)
            entry = self.factory.store.reserve(self.id)
            undo.push(entry.unlock)
            undo.push(entry.remove)
            if self.notify_directory:
                from libpycontainer import notify

                notify.make_directory(self.notify_directory)
            entry.save(self.record)
            entry.save(self.document, CONFIG)
            undo.push(lifecycle.run_poststop, self.record)
            self._make_resctrl(undo)
            # All or none of it; before that, what is there may be somebody else's.
            manager.create(self.resources)
            undo.push(manager.destroy)
            if manager.mode != "none":
                undo.push(manager.kill)
            going = launch.Launch(spawner, conversation.CREATE, log.emit)
            undo.push(going.abort)
            self._clone(going, plan, manager, entry, streams)
            self._mounted(going, manager, entry, undo)
            going.talk.expect("ready")
            self.record["created"] = lifecycle.now()
            entry.save(self.record)
            if streams.console is not None:
                self.process.attach_console(streams.receive_console())
            identity = waiting.Identity(going.pid, self.record["startTime"])
            self.process.attach(identity, going.copy_pidfd(), streams)
            going.talk.proceed()
            undo.commit()
        going.close()
        streams.close()
        spawner.close()
        entry.unlock()
        parents.close()
        return entry, self.record

    def _clone(
        self, going: launch.Launch, plan: Plan, manager: Manager, entry: Entry, streams: Streams
    ) -> None:
        fds = dict(streams.fds)
        made = launch.gather_fds(plan, self.facts, fds)
        try:
            entrances = launch.cgroup_fds(manager, fds)
            made += entrances
            fds["start"] = listener = listen_for_start(entry)
            made.append(listener)
            going.clone(plan, fds)
        finally:
            for fd in made:
                fd.close()
        streams.close_theirs()
        self.record["pid"] = going.pid
        self.record["startTime"] = waiting.start_time(going.pid)
        self.record["cgroup"] = manager.record()
        entry.save(self.record)
        if not entrances:
            manager.add(going.pid)
            self.record["cgroup"] = manager.record()
            entry.save(self.record)
        # Not before the clone, which none but the group's owner may make go there.
        owner = cgroup_owner(self.spec, self.facts)
        if owner is not None:
            manager.give_to(owner)
        if "intelRdt" in self.record:
            from libpycontainer import resctrl

            resctrl.join(self.record["intelRdt"], going.pid)
        going.proceed()

    def _make_resctrl(self, undo: Undo) -> None:
        if "intelRdt" in self.record:
            from libpycontainer import resctrl

            undo.push(resctrl.unmake, self.record["intelRdt"])
            resctrl.make(self.record["intelRdt"])

    def _mounted(self, going: launch.Launch, manager: Manager, entry: Entry, undo: Undo) -> None:
        """The tree is made but not yet entered: limits, devices, the hooks that run outside."""
        going.talk.expect("mounted")
        manager.apply(self.resources)
        self._lend_devices(going.pid, entry, undo)
        for kind in ("prestart", "createRuntime"):
            lifecycle.run_hooks(self.record, kind, "creating", going.pid)
        going.talk.proceed()

    def _lend_devices(self, pid: int, entry: Entry, undo: Undo) -> None:
        devices = self.spec.linux.net_devices if self.spec.linux else None
        if devices:
            from libpycontainer import network

            undo.push(network.take_back, self.record, entry, True)
            network.lend(devices, pid, self.record, entry)


def read_spec(spec: Any) -> tuple[Spec, dict[str, Any]]:
    """A configuration in any form: as attributes for the planner, as JSON for the record."""
    from libpycontainer.spec import light

    if hasattr(spec, "to_dict"):
        return spec, spec.to_dict()
    if not isinstance(spec, light.Record):
        if not isinstance(spec, dict | str | bytes | os.PathLike):
            what = f"expected a Spec, a dict, JSON text or a path, not {type(spec).__name__}"
            raise SpecError([Problem("$", what)])
        spec = light.load(spec)
    return spec, light.dump(spec)


def check(spec: Spec, facts: Facts) -> None:
    """Raise :class:`SpecError` with everything that is wrong; log what is only doubtful."""
    from libpycontainer import validate

    for problem in validate.ensure_valid(spec, facts):
        log.warn(str(problem))
    if spec.process is None:
        raise SpecError([Problem("$.process", "required field missing: there is nothing to run")])


def give_pipes(streams: Streams, spec: Spec, process: SpecProcess | None, facts: Facts) -> None:
    """Let the program's user own the pipes that were made for it, also in a user namespace."""
    linux = spec.linux
    if not facts.privileged or linux is None or not linux.uid_mappings:
        return
    user = process.user if process else None
    uid = host_id(linux.uid_mappings, (user and user.uid) or 0)
    gid = host_id(linux.gid_mappings or (), (user and user.gid) or 0)
    if uid is not None and gid is not None:
        streams.give_to(uid, gid)


def find_rootfs(spec: Spec, bundle: str) -> str:
    """The root directory, absolute and without symlinks (a bundle's rootfs may be one)."""
    if spec.root is None:
        raise SpecError([Problem("$.root", "required field missing")])
    path = os.path.realpath(os.path.join(bundle, spec.root.path))
    if not os.path.isdir(path):
        what = "is not a directory" if os.path.exists(path) else "does not exist"
        raise SpecError([Problem("$.root.path", f"the root {path} {what}")])
    return path


def listen_for_start(entry: Entry) -> sys_.Fd:
    """The socket that init will wait on. Reached by descriptor, as its path may be too long."""
    directory = os.open(entry.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with sys_.Fd(directory):
        try:
            return sys_.listen(f"/proc/self/fd/{directory}/{START_SOCKET}")
        except OSError as error:
            path = entry.file(START_SOCKET)
            raise ContainerError(
                f"cannot make {path}: {error.strerror}",
                op="bind",
                path=path,
                errno=error.errno or 0,
            ) from None
