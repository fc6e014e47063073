"""Creating a container: the order of everything, and the way back from every point of it."""

from __future__ import annotations

import os

from libpycontainer import conversation, grouping, host, launch, lifecycle, log, waiting
from libpycontainer import syscalls as sys_
from libpycontainer.errors import ContainerError, Problem, SpecError
from libpycontainer.plan import Request, build, early_clone_flags, stops_when_mounted
from libpycontainer.plan.ownership import cgroup_owner, host_id
from libpycontainer.process import Process
from libpycontainer.store import CONFIG, START_SOCKET
from libpycontainer.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
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
        pid_file: str | None = None,
        start: bool = False,
        process: Process | None = None,
        progress: Callable[[int, int, str], object] | None = None,
    ) -> None:
        self.factory = factory
        self.id = id
        self.facts = host.facts()
        self.bundle = os.path.abspath(bundle if bundle is not None else ".")
        self.spec, self.document = read_spec(spec)
        terminal = bool(self.spec.process and self.spec.process.terminal)
        self.process = process or Process(terminal=terminal, **streams)
        self.no_pivot = no_pivot
        self.new_keyring = new_keyring
        self.read_only_tree = read_only_tree
        self.extra_env = list(extra_env)
        self.pid_file = pid_file
        self.start = start
        self.progress = progress
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

    def check(self, manager: Manager) -> None:
        """Check the configuration against this host, and begin with what goes on record."""
        check(self.spec, self.facts)
        self.record = self._record(manager)

    def plan(self, manager: Manager, nfds: int, *, placed: bool = False, dry: bool = False) -> Plan:
        """Resolve the configuration into steps.

        ``dry`` leaves nothing behind, not even what would only save work the next time.
        """
        request = Request(
            self.id,
            bundle=self.bundle,
            rootfs=self.record["rootfs"],
            state=lifecycle.split_documents(self.record),
            nfds=nfds,
            terminal=self.process.terminal,
            console_size=self.process.console_size,
            no_pivot=self.no_pivot,
            new_keyring=self.new_keyring,
            cgroup_mounts=manager.mounts(),
            read_only_tree=self.read_only_tree,
            extra_env=self.extra_env,
            placed=placed,
            start=self.start,
            call=self.process.calls,
            progress=self.progress is not None,
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
            # Whoever asked for it gets the process only with the container.
            undo.push(self.process.close)
            spawner = self.process.spawner(self.factory)
            undo.push(spawner.close)
            self.factory.take(spawner)
            if not spawner.warm:
                # At once, so that the interpreter boots while everything below is found out.
                spawner.start()
            parents = grouping.Parents(self.factory, self.id)
            undo.push(parents.close)
            manager = self.manager()
            self.check(manager)
            early = early_clone_flags(self.spec) if spawner.warm else None
            if spawner.warm and early is None:
                spawner.start()
            entry = self._reserve(undo)
            self._make_resctrl(undo)
            entrances = launch.Entrances()
            undo.push(entrances.close)
            enters = self._enters_by_clone()
            first = launch.Occupant(spawner, entrances, manager, clone=enters, flags=early)
            # All or none of it; before that, what is there may be somebody else's.
            manager.create(self.resources, first)
            undo.push(manager.destroy)
            if manager.mode != "none":
                undo.push(manager.kill)
            entrances.open_others(manager)
            entered = bool(entrances.fds) or manager.mode == "none"
            placed = not entered or "intelRdt" in self.record
            plan = self.plan(manager, streams.nfds, placed=placed)
            entry.save(self.document, CONFIG)
            give_pipes(streams, self.spec, self.spec.process, self.facts)
            stops = stops_when_mounted(self.spec)
            order = conversation.creating(early=early is not None, stops=stops, start=self.start)
            hand_over = lifecycle.hand_over(self.record, "creating") if self.start else None
            if hand_over is not None:
                order = conversation.with_listener(order)
            going = launch.Launch(spawner, order, self._hear)
            undo.push(going.abort)
            self._clone(going, plan, entry, streams, entrances)
            if not entered:
                manager.add(going.pid)
            self._note_clone(going, manager, entry)
            if placed:
                going.talk.proceed()
            if stops:
                self._mounted(going, manager, entry, undo)
            going.talk.expect("ready")
            if not stops:
                manager.apply(self.resources)
            self._created(going, entry, streams)
            if self.start:
                self._started(going, hand_over)
            undo.commit()
        going.close()
        streams.close()
        spawner.close()
        entry.unlock()
        parents.close()
        return entry, self.record

    def _hear(self, level: str, message: str) -> None:
        """What init says by the way."""
        if level != "progress":
            log.emit(level, message)
        elif self.progress is not None:
            step, total, title = [*message.split(" ", 2), "", ""][:3]
            self.progress(conversation.number(step), conversation.number(total), title)

    def _reserve(self, undo: Undo) -> Entry:
        """Take the name, and put on record what has to be taken away should we be killed."""
        entry = self.factory.store.reserve(self.id)
        undo.push(entry.unlock)
        undo.push(entry.remove)
        if self.notify_directory:
            from libpycontainer import notify

            notify.make_directory(self.notify_directory)
        entry.save(self.record)
        undo.push(lifecycle.run_poststop, self.record)
        return entry

    def _enters_by_clone(self) -> bool:
        """Not into a cgroup namespace that is joined: from inside of it nobody may be cloned out of
        another group into one of it ("nsdelegate"). What counts for a file is who opened it."""
        namespaces = (self.spec.linux.namespaces if self.spec.linux else None) or ()
        return not any(each.type == "cgroup" and each.path for each in namespaces)

    def _clone(
        self,
        going: launch.Launch,
        plan: Plan,
        entry: Entry,
        streams: Streams,
        entrances: launch.Entrances,
    ) -> None:
        fds = {**streams.fds, **entrances.fds}
        made = launch.gather_fds(plan, self.facts, fds)
        try:
            if not self.start:
                fds["start"] = listener = listen_for_start(entry)
                made.append(listener)
            going.clone(plan, fds)
        finally:
            for fd in made:
                fd.close()
        entrances.close()
        streams.close_theirs()
        self.record["pid"] = going.pid
        self.record["startTime"] = waiting.start_time(going.pid)

    def _note_clone(self, going: launch.Launch, manager: Manager, entry: Entry) -> None:
        """Init is there: put it on record, and do what could not be done before."""
        self.record["cgroup"] = manager.record()
        entry.save(self.record)
        # Not before the clone, which none but the group's owner may make go there.
        owner = cgroup_owner(self.spec, self.facts)
        if owner is not None:
            manager.give_to(owner)
        if "intelRdt" in self.record:
            from libpycontainer import resctrl

            resctrl.join(self.record["intelRdt"], going.pid)

    def _mounted(self, going: launch.Launch, manager: Manager, entry: Entry, undo: Undo) -> None:
        """The tree is made but not yet entered: limits, devices, the hooks that run outside."""
        going.talk.expect("mounted")
        manager.apply(self.resources)
        self._lend_devices(going.pid, entry, undo)
        for kind in ("prestart", "createRuntime"):
            lifecycle.run_hooks(self.record, kind, "creating", going.pid)
        going.talk.proceed()

    def _created(self, going: launch.Launch, entry: Entry, streams: Streams) -> None:
        """Everything is made, and init waits."""
        self.record["created"] = lifecycle.now()
        entry.save(self.record)
        if streams.console is not None:
            self.process.attach_console(streams.receive_console())
        identity = waiting.Identity(going.pid, self.record["startTime"])
        self.process.attach(identity, going.copy_pidfd(), streams)
        if self.pid_file is not None:
            launch.write_pid_file(self.pid_file, going.pid)
        going.talk.proceed()

    def _started(
        self, going: launch.Launch, hand_over: Callable[[sys_.Fd, int], None] | None
    ) -> None:
        """Hear of the program's execve, and run the hooks that come after it."""
        going.talk.expect("executing")
        identity = waiting.Identity(going.pid, self.record["startTime"])
        launch.await_execution(going.talk, identity, hand_over, executes=not self.process.calls)
        lifecycle.run_hooks(self.record, "poststart", "running", going.pid)

    def _make_resctrl(self, undo: Undo) -> None:
        if "intelRdt" in self.record:
            from libpycontainer import resctrl

            undo.push(resctrl.unmake, self.record["intelRdt"])
            resctrl.make(self.record["intelRdt"])

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
