"""A container, or a group of them: an entry in the store, what can be observed, and the verbs."""

from __future__ import annotations

import os

from libpycontainer import log, waiting
from libpycontainer import status as status_
from libpycontainer.descriptors import Fd
from libpycontainer.errors import ContainerError, NotFoundError, StatusError, TimeoutExpired
from libpycontainer.store import CONFIG, START_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeVar

    from libpycontainer.cgroups.protocol import Manager
    from libpycontainer.cgroups.stats import Stats
    from libpycontainer.events import Events, Stall
    from libpycontainer.factory import Factory
    from libpycontainer.notify import Relay
    from libpycontainer.process import Process
    from libpycontainer.quantities import Duration, Size
    from libpycontainer.spec.models import LinuxIntelRdt, LinuxResources, Spec
    from libpycontainer.store import Entry
    from libpycontainer.streams import Stream

    Value = TypeVar("Value")

KILL = 9
END_TIMEOUT = 10.0


class Container:
    """One container, or a group of containers. Made by :class:`~libpycontainer.Factory` only.

    One whose name is a path lies inside of another: ``job/task-1`` inside of ``job``, whose limits
    bound it and whose ``pause``, ``signal`` (with ``all``), ``stats`` and ``delete`` reach it.
    A group (:meth:`Factory.group`) is such an outer one without a process of its own; the verbs
    that are about a process raise :class:`StatusError` there.

    Every verb may be called from any process that may use the state root; those that change the
    container exclude each other. As a context manager it deletes the container at the end of the
    block, whatever happened inside.
    """

    def __init__(
        self, factory: Factory, entry: Entry, record: dict[str, Any], process: Process | None
    ) -> None:
        self._factory = factory
        self._entry = entry
        self._record = record
        self._process = process
        self._manager: Manager | None = None
        self._spec: Spec | None = None

    # ---- what it is ----------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self._entry.id

    @property
    def is_group(self) -> bool:
        """Whether it has no process of its own, and is there for what lies inside of it."""
        return bool(self._record.get("group"))

    @property
    def parent(self) -> Container | None:
        """What it lies inside of, if anything. Raises :class:`NotFoundError`."""
        outer = self.id.rpartition("/")[0]
        return self._factory._load(outer) if outer else None

    def children(self) -> list[Container]:
        """The containers and groups directly inside of it, by name."""
        depth = self.id.count("/") + 1
        return [
            child for child in self._factory.list(inside=self.id) if child.id.count("/") == depth
        ]

    @property
    def bundle(self) -> str:
        """The absolute path of its bundle; empty for a group."""
        return str(self._record.get("bundle", ""))

    @property
    def rootfs(self) -> str:
        """The absolute path of its root directory on the host; empty for a group."""
        return str(self._record.get("rootfs", ""))

    @property
    def root(self) -> str:
        """The state root that it is recorded under."""
        return self._factory.root

    @property
    def created(self) -> str:
        """When it was created, in RFC 3339; empty as long as it is not."""
        return str(self._record.get("created", ""))

    @property
    def owner(self) -> str:
        """The name of the user that created it (his number, where he has none)."""
        import pwd

        uid = int(self._record.get("owner", 0))
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)

    @property
    def spec(self) -> Spec:
        """The configuration as it was when the container was created, with its present limits."""
        if self._spec is None:
            from libpycontainer.spec import light

            document = self._entry.load(CONFIG)
            if document is None:
                raise NotFoundError(f"container {self.id} has no configuration on record")
            self._spec = light.load(document)
        return self._spec

    @property
    def pid(self) -> int:
        """Its init's pid, 0 when there is none (any more)."""
        pid = int(self._record.get("pid", 0))
        return pid if pid and self._alive() else 0

    @property
    def process(self) -> Process | None:
        """Its init as a process to wait for; ``None`` when the init is gone and was never held.

        The container owns it.
        """
        if self._process is None:
            self._process = self._open_process()
        return self._process

    def _open_process(self) -> Process | None:
        from libpycontainer.process import Process

        pid, started = self._record.get("pid"), self._record.get("startTime")
        if pid is None or started is None:
            return None
        pidfd = waiting.open_pidfd(pid, started)
        if pidfd is None:
            return None
        process = Process()
        process.attach(waiting.Identity(pid, started), pidfd, None)
        return process

    @property
    def cgroup(self) -> Manager:
        """The manager of its cgroups."""
        if self._manager is None:
            from libpycontainer.cgroups import load_manager

            if "cgroup" not in self._record:
                raise self._no_record()
            self._manager = load_manager(self._record["cgroup"])
        return self._manager

    def _alive(self) -> bool:
        pid, started = self._record.get("pid"), self._record.get("startTime")
        return pid is not None and started is not None and waiting.is_alive(pid, started)

    def _waiting(self) -> bool:
        """Does init listen for start? A probe without the word "start" leaves it waiting."""
        if not os.path.exists(self._entry.file(START_SOCKET)):
            return False
        from libpycontainer import launch

        with _directory(self._entry) as directory:
            return launch.is_waiting(directory.fileno())

    @property
    def status(self) -> str:
        """One of ``creating``, ``created``, ``running``, ``paused`` and ``stopped``, as of now.

        A group is ``running``, ``paused`` or, as long as nothing runs inside of it, ``empty``.
        """
        if not self._record.get("created"):
            # It was half-made when this handle was.
            self._refresh()
        recorded = bool(self._record.get("created"))
        if self.is_group and recorded:
            return status_.observe_group(
                occupied=self.cgroup.occupied(), frozen=self._frozen() is not None
            )
        alive = self._alive()
        frozen = alive and recorded and self._frozen() is not None
        return status_.observe(
            status_.Observation(
                recorded=recorded,
                alive=alive,
                waiting=alive and recorded and not frozen and self._waiting(),
                frozen=frozen,
            )
        )

    def _frozen(self) -> Container | None:
        """The container whose freezer is in force here: this one, or one that it lies inside of."""
        if self.cgroup.frozen():
            return self
        parent = self.parent
        return parent and parent._frozen()

    def _no_record(self) -> NotFoundError:
        return NotFoundError(
            f"container does not exist: {self.id} is a name without a record, which its maker "
            "is about to write, or died before (delete --force frees it)",
            op="state",
            path=self._entry.path,
        )

    def state(self) -> dict[str, Any]:
        """The OCI state document (runtime.md#state) as of now.

        Raises :class:`NotFoundError` for a name whose creator has not put anything on record.
        """
        from libpycontainer import lifecycle

        if "ociVersion" not in self._record:
            raise self._no_record()
        status = self.status
        pid = 0 if status == status_.STOPPED else int(self._record.get("pid", 0))
        document = lifecycle.state_document(self._record, status, pid)
        document.setdefault("pid", 0)
        return document

    def __repr__(self) -> str:
        return f"<Container {self.id!r} {self.status}>"

    # ---- verbs ---------------------------------------------------------------------------

    def start(self, *, notify: Relay | None = None) -> None:
        """Run the program of a created container (runtime.md#start).

        Returns once its execve has succeeded. Raises :class:`StatusError` in any other status;
        :class:`ExecutableError`, :class:`StepError` or :class:`HookError` when a step of it fails,
        and the container is then stopped.

        ``notify`` is bound to where a container that was created with ``notify=True`` reports that
        it is ready; the relay stays the caller's, who has it serve.
        """
        from libpycontainer import launch, lifecycle

        self._refuse_group("start")
        self._refuse_while_creating("start")
        with self._locked():
            self._check("start")
            if notify is not None and not notify.bind(self._entry.file("notify")):
                log.warn(f"container {self.id} was not created to report its readiness")
            with _directory(self._entry) as directory:
                try:
                    # "creating", as runc and crun tell the agent of a container's first process.
                    hand_over = lifecycle.hand_over(self._record, "creating")
                    init = waiting.Identity(self._record["pid"], self._record["startTime"])
                    launch.start_waiting_init(directory.fileno(), log.emit, init, hand_over)
                except ContainerError:
                    self._end_init()
                    raise
            _unlink(self._entry.file(START_SOCKET))
            try:
                lifecycle.run_hooks(self._record, "poststart", "running", self._record["pid"])
            except ContainerError:
                self._end_init()
                raise
        log.tell("started", self.id)

    def exec(self, process: Process, *, ignore_paused: bool = False) -> Process:
        """Start one more process inside; returns it, started. The caller owns it.

        Raises :class:`StatusError` when there is nothing to run it in, which for an ordinary user
        is also a container that is not started yet, :class:`ExecutableError`, :class:`StepError`.
        """
        from libpycontainer import joining

        self._refuse_group("exec")
        status = self.status
        if not (ignore_paused and status == status_.PAUSED):
            status_.check("exec", status, self.id)
        joining.join(self._factory, self, process)
        log.tell("joined", self.id, f"by pid {process.pid}")
        return process

    def call(
        self,
        function: Callable[..., Value],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        timeout: Duration | None = None,
        env: Mapping[str, str] | Sequence[str] | None = None,
        cwd: str | None = None,
        user: int | str | tuple[int, int] | None = None,
        capabilities: Sequence[str] | None = None,
        imports: Sequence[str] = (),
        trust: bool = False,
        max_result: Size = "64M",
        max_output: Size = "64M",
        stdin: Stream = None,
        stdout: Any = None,
        stderr: Any = None,
        capture_output: bool = False,
    ) -> Value:
        """Call a function of the caller's inside; returns its value, or raises what it raised.

        It runs as one more process of the container, without a Python there: namespaces, limits,
        user and filter are those that :meth:`exec` gives to a program, and ``env``, ``cwd``,
        ``user`` and ``capabilities`` are as for :class:`Process`. It cannot gain privileges, and
        nothing more can be imported inside. Everything else is :func:`libpycontainer.call`'s.

        Raises :class:`StatusError` when there is nothing to call it in, and
        :class:`UnsupportedError` under an AppArmor or SELinux label, which only execve takes on.
        """
        from libpycontainer.calling import packing, session

        session.refuse_while_loading()
        self._refuse_group("call")
        status_.check("exec", self.status, self.id)
        terms = session.Terms(
            timeout=timeout,
            imports=imports,
            trust=trust,
            max_result=max_result,
            max_output=max_output,
            capture_output=capture_output,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
        call = packing.pack(function, args, kwargs or {})
        options = {"env": env, "cwd": cwd, "user": user, "capabilities": capabilities}
        return session.call_inside(  # type: ignore[no-any-return]
            self, call, terms, **options
        )

    def signal(self, number: int, *, all: bool = False) -> None:
        """Send a signal to init or, with ``all``, to every process inside, at whatever depth.

        A group has no init: there it is always every process. Raises :class:`StatusError` when
        it is not running (runtime.md#kill).
        """
        self._refresh()
        if self.is_group:
            self._check("kill")
            all = True
        if not all:
            status_.check("kill", self.status, self.id)
            self._signal_init(number)
        elif number == KILL:
            self._kill_everything()
            if self._alive():
                self._signal_init(KILL)
        else:
            self._signal_every(number)
        if number == KILL and self._record.get("created"):
            # A frozen process (v1) would meet even SIGKILL only after the thaw.
            self.cgroup.thaw()

    def _signal_init(self, number: int) -> None:
        process = self.process
        if process is None:
            status_.check("kill", status_.STOPPED, self.id)
            return
        try:
            process.signal(number)
        except ProcessLookupError:
            status_.check("kill", status_.STOPPED, self.id)

    def _signal_every(self, number: int) -> None:
        for pid in self.cgroup.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                # It ended between the list and the signal, which would have met it no more either.
                continue

    def wait(self, timeout: float | None = None) -> int:
        """Wait for init's end; returns its exit code, negative for a signal.

        ``timeout`` is in seconds; raises :class:`TimeoutExpired`. Works in any process that may
        see the container, not only in its creator. Raises :class:`ContainerError` when the end
        lies so far back that nobody kept the code.
        """
        self._refuse_group("wait")
        process = self.process
        if process is None:
            raise ContainerError(f"container {self.id} has ended, and its exit code is not known")
        return process.wait(timeout)

    def processes(self) -> list[int]:
        """The pids of everything that runs inside, as the caller's pid namespace has them.

        That includes what runs in containers inside of this one.

        Without a cgroup (rootless) that is everything in init's pid namespace.
        """
        if self.cgroup.mode == "none":
            return waiting.pids_in_namespace_of(self.pid) if self.pid else []
        return self.cgroup.pids()

    def pause(self) -> None:
        """Freeze every process inside: all of them, or none.

        Raises :class:`StatusError`, and :class:`CgroupError` when they cannot all be stopped;
        then all of them run.
        """
        self._refuse_while_creating("pause")
        with self._locked():
            self._check("pause")
            self.cgroup.freeze()
            if not self.is_group and not self._alive():
                # It ended in between: a frozen group without a container would only be in the way.
                self.cgroup.thaw()
                self._check("pause")

    def resume(self) -> None:
        """Let a paused container go on.

        Raises :class:`StatusError`, also when it is not this one that was paused but one that it
        lies inside of; :class:`CgroupError`.
        """
        self._refuse_while_creating("resume")
        with self._locked():
            self._check("resume")
            frozen = self._frozen()
            if frozen is not None and frozen is not self:
                raise StatusError(
                    f"cannot resume container {self.id}: {frozen.id}, which it lies inside of, is"
                    " paused",
                    verb="resume",
                    status=status_.PAUSED,
                )
            self.cgroup.thaw()

    def update(
        self,
        resources: LinuxResources | Mapping[str, Any] | None = None,
        *,
        memory: int | str | None = None,
        cpus: float | None = None,
        pids: int | None = None,
        intel_rdt: LinuxIntelRdt | Mapping[str, Any] | None = None,
    ) -> None:
        """Change the limits of a container that is created, running or paused: all or nothing.

        ``resources`` is a :class:`LinuxResources` or a dict shaped like ``linux.resources``; what
        it does not mention stays, and so does what is 0 where 0 is no limit (as for docker and
        runc; a ``pids.limit`` of 1 forbids as much as 0 would). ``memory`` ("256M", or bytes, -1
        for no limit), ``cpus`` (processors, ``float("inf")`` for no limit) and ``pids`` (-1 for
        no limit) say the usual ones more shortly. Device rules are replaced as a whole.
        ``intel_rdt`` gives the container's resctrl class new schemata.

        When any of it is refused, the old limits are in force again and the error names the
        field: :class:`SpecError`, or :class:`CgroupError` with the kernel's reason. Otherwise
        the new ones are also on record (:attr:`spec`). Callers exclude each other, so that the
        limits are always one caller's, whole. Raises :class:`StatusError` for a container
        that has stopped.
        """
        from libpycontainer import updating

        wanted = updating.requested(resources, memory, cpus, pids)
        self._refuse_while_creating("update")
        with self._locked():
            self._check("update")
            try:
                updating.update(self, wanted, intel_rdt)
            finally:
                self._spec = None

    def stats(self) -> Stats:
        """What the kernel has counted for this container; units are in the attributes' docs.

        Of a container that has stopped only that is left which its cgroups still know.
        """
        from libpycontainer.cgroups import measuring

        return measuring.add_interfaces(self.cgroup.stats(), self.pid)

    def events(
        self,
        interval: float | None = 5.0,
        *,
        oom: bool = True,
        memory_pressure: str | None = None,
        stalls: Sequence[Stall] = (),
    ) -> Events:
        """What happens to the container, as it happens, until it stops.

        An iterator of :class:`~libpycontainer.events.Event`: a :class:`StatsEvent` every
        ``interval`` seconds (``None``: never) and, with ``oom``, an :class:`OOMEvent` whenever it
        runs out of memory. ``memory_pressure`` is "low", "medium" or "critical", the level from
        which cgroup v1 reports :class:`MemoryPressureEvent`. Each of ``stalls`` is a
        :class:`Stall`, a share of time lost to waiting from which the kernel reports
        a :class:`StallEvent` (PSI; needs the unified hierarchy, as on v2 and hybrid hosts).

        It owns descriptors: use it in a ``with`` block, or close it, unless it is exhausted.
        Raises :class:`StatusError` for a container that has stopped, :class:`CgroupError` and
        :class:`UnsupportedError` for what this host cannot report.
        """
        from libpycontainer.events import Events

        return Events(self, interval, oom=oom, memory_pressure=memory_pressure, stalls=stalls)

    def delete(
        self,
        *,
        force: bool = False,
        progress: Callable[[int, int, str], object] | None = None,
    ) -> None:
        """Remove a stopped container and everything that was made for it (runtime.md#delete).

        A created one is ended first; with ``force`` also a running one. What lies inside of it is
        deleted with it, on the same terms: without ``force`` nothing is, unless all of it may be.
        Raises :class:`StatusError` otherwise. A failing poststop hook is only logged.

        ``progress`` is called before each of what lies directly inside is deleted, and before the
        container itself: the number, how many there are, and the name.
        """
        from libpycontainer import deletion

        deletion.delete(self, force, progress)

    # ---- parts of the verbs ----------------------------------------------------------------

    def _kill_everything(self) -> None:
        # Without a cgroup (rootless) there is no list; init's end is its pid namespace's. Without
        # an init on record the group may be somebody else's, found in use.
        owned = "pid" in self._record or self.is_group
        if owned and self.cgroup.mode != "none":
            self.cgroup.kill()

    def _end_init(self) -> None:
        """Kill init, wait until it is gone, and reap it where it is ours."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.kill()
        try:
            process.wait(END_TIMEOUT)
        except TimeoutExpired:
            raise ContainerError(
                f"container {self.id}: its init {process.pid} did not end within "
                f"{END_TIMEOUT:g} s of SIGKILL",
                op="delete",
            ) from None
        except (ContainerError, OSError):
            # It is gone; only its exit code is not to be had.
            pass

    def _refuse_group(self, verb: str) -> None:
        if self.is_group:
            raise StatusError(
                f"cannot {verb} {self.id}: it is a group, without a process of its own",
                verb=verb,
                status=self.status,
            )

    def _refuse_while_creating(self, verb: str) -> None:
        """Its creator holds the lock: whoever waited for it would wait for somebody's hooks."""
        if not self._record.get("created"):
            self._refresh()
        if not self._record.get("created"):
            status_.check(verb, self.status, self.id)

    def _check(self, verb: str) -> None:
        status_.check(verb, self.status, self.id)

    def _refresh(self, *, exact: bool = False) -> None:
        """Read the record again: another caller may have come further.

        ``exact`` raises :class:`NotFoundError` where the name was given to another container since
        this handle was made.
        """
        try:
            record = self._entry.load()
        except ContainerError:
            # Unreadable, as was reported when it was loaded: only the name is left to manage.
            return
        if record is None:
            return
        if self._record.get("instance") in (None, record.get("instance")):
            self._record = record
        elif exact:
            raise NotFoundError(
                f"container does not exist: this {self.id} was deleted, and another has its name",
                op="load",
                path=self._entry.path,
            )

    def _locked(self) -> _Locked:
        return _Locked(self)

    def __enter__(self) -> Container:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            self.delete(force=True)
        except NotFoundError:
            # Deleted inside the block, or by somebody else: what was wanted is the case.
            pass
        except ContainerError as problem:
            if error is None:
                raise
            error.add_note(f"while deleting container {self.id}: {problem}")
        self._let_go()

    def _let_go(self) -> None:
        """Reap init, if it is ours and has ended, and close what is held of it."""
        if self._process is not None:
            try:
                self._process.poll()
            except (ContainerError, OSError, ValueError):
                # Its handle was closed, or its exit code is lost: it is nobody's zombie.
                pass
            self._process.close()


class _Locked:
    """The entry's lock, and the record as its last holder left it."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def __enter__(self) -> None:
        self._container._entry.lock()
        try:
            self._container._refresh(exact=True)
        except BaseException:
            # Also a Ctrl-C: the block is not entered, so nobody else would give the lock back.
            self._container._entry.unlock()
            raise

    def __exit__(self, *exc: object) -> None:
        self._container._entry.unlock()


def _directory(entry: Entry) -> Fd:
    return Fd(os.open(entry.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
