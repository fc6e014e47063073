"""A container: an entry in the store, what can be observed of it, and the verbs."""

from __future__ import annotations

import os

from libpycontainer import status as status_
from libpycontainer import syscalls as sys_
from libpycontainer import waiting
from libpycontainer.errors import ContainerError, NotFoundError, TimeoutExpired
from libpycontainer.store import CONFIG, HOST_NETWORK, START_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libpycontainer.cgroups.protocol import Manager
    from libpycontainer.cgroups.stats import Stats
    from libpycontainer.factory import Factory
    from libpycontainer.notify import Relay
    from libpycontainer.process import Process
    from libpycontainer.spec.models import Spec
    from libpycontainer.store import Entry

KILL = 9
END_TIMEOUT = 10.0


class Container:
    """One container. Made by :class:`~libpycontainer.Factory`, never directly.

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
    def bundle(self) -> str:
        """The absolute path of its bundle."""
        return str(self._record.get("bundle", ""))

    @property
    def rootfs(self) -> str:
        """The absolute path of its root directory on the host."""
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
        """The configuration as it was when the container was created."""
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
        process.attach(waiting.Identity(pid, started, child=False), pidfd, None)
        return process

    @property
    def cgroup(self) -> Manager:
        """The manager of its cgroups."""
        if self._manager is None:
            from libpycontainer.cgroups import load_manager

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
        """One of ``creating``, ``created``, ``running``, ``paused`` and ``stopped``, as of now."""
        alive = self._alive()
        recorded = bool(self._record.get("created"))
        frozen = alive and recorded and self.cgroup.frozen()
        return status_.observe(
            status_.Observation(
                recorded=recorded,
                alive=alive,
                waiting=alive and recorded and not frozen and self._waiting(),
                frozen=frozen,
            )
        )

    def state(self) -> dict[str, Any]:
        """The OCI state document (runtime.md#state) as of now.

        Raises :class:`NotFoundError` for a name whose creator has not put anything on record.
        """
        from libpycontainer import lifecycle

        if "ociVersion" not in self._record:
            raise NotFoundError(
                f"container does not exist: {self.id} is a name without a record, which its maker "
                "is about to write, or died before (delete --force frees it)",
                op="state",
                path=self._entry.path,
            )
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
        from libpycontainer import launch, lifecycle, log

        self._refuse_while_creating("start")
        with self._locked():
            self._check("start")
            if notify is not None and not notify.bind(self._entry.file("notify")):
                log.warn(f"container {self.id} was not created to report its readiness")
            with _directory(self._entry) as directory:
                try:
                    launch.start_waiting_init(directory.fileno(), log.emit)
                except ContainerError:
                    self._end_init()
                    raise
            _unlink(self._entry.file(START_SOCKET))
            try:
                lifecycle.run_hooks(self._record, "poststart", "running", self._record["pid"])
            except ContainerError:
                self._end_init()
                raise

    def exec(self, process: Process, *, ignore_paused: bool = False) -> Process:
        """Start one more process inside; returns it, started. The caller owns it.

        Raises :class:`StatusError` when there is nothing to run it in, :class:`ExecutableError`,
        :class:`StepError`.
        """
        from libpycontainer import joining

        status = self.status
        if not (ignore_paused and status == status_.PAUSED):
            status_.check("exec", status, self.id)
        joining.join(self._factory, self, process)
        return process

    def signal(self, number: int, *, all: bool = False) -> None:
        """Send a signal to init or, with ``all``, to every process inside.

        Raises :class:`StatusError` when it is not running (runtime.md#kill).
        """
        self._refresh()
        if not all:
            status_.check("kill", self.status, self.id)
            self._signal_init(number)
        elif number == KILL:
            self._kill_everything()
            if self._alive():
                self._signal_init(KILL)
        else:
            self._signal_every(number)

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
        process = self.process
        if process is None:
            raise ContainerError(f"container {self.id} has ended, and its exit code is not known")
        return process.wait(timeout)

    def processes(self) -> list[int]:
        """The pids of everything that runs inside, as the caller's pid namespace has them.

        Without a cgroup (rootless) that is everything in init's pid namespace.
        """
        if self.cgroup.mode == "none":
            return waiting.pids_in_namespace_of(self.pid) if self.pid else []
        return self.cgroup.pids()

    def pause(self) -> None:
        """Freeze every process inside. Raises :class:`StatusError`, :class:`CgroupError`."""
        with self._locked():
            self._check("pause")
            self.cgroup.freeze()

    def resume(self) -> None:
        """Let a paused container go on. Raises :class:`StatusError`, :class:`CgroupError`."""
        with self._locked():
            self._check("resume")
            self.cgroup.thaw()

    def stats(self) -> Stats:
        """What the kernel has counted for this container; units are in the attributes' docs."""
        return self.cgroup.stats()

    def delete(self, *, force: bool = False) -> None:
        """Remove a stopped container and everything that was made for it (runtime.md#delete).

        A created one is ended first; with ``force`` also a running one. Raises
        :class:`StatusError` otherwise. A failing poststop hook is only logged.
        """
        from libpycontainer import lifecycle

        if force and not self._record.get("created"):
            # Half-made: its creator, if it lives, holds the lock until its init is gone.
            self._kill_everything()
        elif not force:
            self._refuse_while_creating("delete")
        with self._locked():
            status = self.status
            if not force:
                status_.check("delete", status, self.id)
            self._kill_everything()
            self._end_init()
            self._give_back(force)
            if "cgroup" in self._record:
                self.cgroup.destroy()
            lifecycle.run_poststop(self._record)
            self._entry.remove()
        self._let_go()

    # ---- parts of the verbs ----------------------------------------------------------------

    def _give_back(self, force: bool) -> None:
        """What the container had of the host besides cgroups; most have nothing of it."""
        if os.path.exists(self._entry.file(HOST_NETWORK)):
            from libpycontainer import network

            network.take_back(self._record, self._entry, force)
        if "intelRdt" in self._record:
            from libpycontainer import resctrl

            resctrl.remove(self._record["intelRdt"])

    def _kill_everything(self) -> None:
        # Without a cgroup (rootless) there is no list; init's end is its pid namespace's.
        if "cgroup" in self._record and self.cgroup.mode != "none":
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

    def _refuse_while_creating(self, verb: str) -> None:
        """Its creator holds the lock: whoever waited for it would wait for somebody's hooks."""
        if not self._record.get("created"):
            self._refresh()
        if not self._record.get("created"):
            status_.check(verb, self.status, self.id)

    def _check(self, verb: str) -> None:
        status_.check(verb, self.status, self.id)

    def _refresh(self) -> None:
        """Read the record again: another caller may have come further."""
        try:
            record = self._entry.load()
        except ContainerError:
            # Unreadable, as was reported when it was loaded: only the name is left to manage.
            return
        if record is not None:
            self._record = record

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
        self._container._refresh()

    def __exit__(self, *exc: object) -> None:
        self._container._entry.unlock()


def _directory(entry: Entry) -> sys_.Fd:
    return sys_.Fd(os.open(entry.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
