"""The factory: where containers are made, found and listed."""

from __future__ import annotations

import _thread
import os

from libpycontainer import log
from libpycontainer.container import Container
from libpycontainer.errors import ContainerError, NotFoundError
from libpycontainer.store import Store, default_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from libpycontainer.nursery import Nursery
    from libpycontainer.plan import Plan
    from libpycontainer.spawner import Spawner
    from libpycontainer.spec.models import LinuxResources
    from libpycontainer.streams import Stream

LIBRARY_CGROUP = "/libpycontainer"


class Factory:
    """Makes, finds and lists the containers under one state root.

    ``root`` defaults to /run/libpycontainer for root and $XDG_RUNTIME_DIR/libpycontainer otherwise;
    the command ``pyrunc`` uses the same one, so either manages what the other made.
    ``interpreter`` is a Python of the running version to make inits from, found by itself where
    it can be. ``cgroup_parent`` is the group that containers without a ``cgroupsPath`` go under;
    ``None`` stands for the caller's own. With ``systemd_cgroup`` it is systemd that makes the
    cgroups, as transient units: root's the host's, anybody else's the user's own. A ``cgroupsPath``
    then reads ``slice:prefix:name``, as for ``runc --systemd-cgroup``, and ``cgroup_parent`` counts
    for nothing. What is made this way remembers it. Needs the extra ``systemd`` (jeepney).

    With ``warm`` an interpreter is started at once and kept until :meth:`close`: containers and
    processes are then made from clones of it, in a fraction of the time. They begin as this program
    was when it started (limits, priority, mount namespace); one that takes another user, or forks,
    gets a new one. It costs some 10 MiB, ends with this program, however that ends, and is made
    again should it die.

    A factory may be used from several threads. Without ``warm`` it holds nothing that must be
    released.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        interpreter: str | None = None,
        cgroup_parent: str | None = LIBRARY_CGROUP,
        systemd_cgroup: bool = False,
        warm: bool = False,
    ) -> None:
        self.store = Store(os.fspath(root) if root is not None else default_root())
        self.cgroup_parent = cgroup_parent
        self.systemd_cgroup = systemd_cgroup
        self._given_interpreter = interpreter
        self._interpreter: str | None = None
        self._nursery: Nursery | None = None
        self._prepared: dict[int, Spawner] = {}
        """By thread: what one has prepared another must not take, or lose."""
        if warm:
            from libpycontainer.nursery import Nursery

            self._nursery = Nursery(self.interpreter())
            self._nursery.boot()

    @property
    def root(self) -> str:
        """The state root, absolute."""
        return self.store.root

    def interpreter(self) -> str:
        """The interpreter that inits are made from. Raises :class:`InterpreterError`."""
        if self._interpreter is None:
            from libpycontainer import interpreter

            self._interpreter = interpreter.find(self._given_interpreter)
        return self._interpreter

    def prepare(self) -> None:
        """Start an interpreter now for the next :meth:`create` or :meth:`Container.exec`.

        For a program that has yet to find out what to run, which the interpreter boots beside.
        :meth:`close` ends one that was not used. A warm factory has its own already.
        """
        if self._nursery is None and self._ready() is None:
            from libpycontainer.spawner import Spawner

            prepared = self._prepared[_thread.get_ident()] = Spawner(self.interpreter())
            try:
                prepared.start()
            except BaseException:
                self._drop_prepared(_thread.get_ident())
                raise

    def _ready(self) -> Spawner | None:
        """What this thread has prepared, if it is still whose it was."""
        from libpycontainer.spawner import whose

        prepared = self._prepared.get(_thread.get_ident())
        if prepared is not None and prepared.made_by != whose():
            self._drop_prepared(_thread.get_ident())
            return None
        return prepared

    def _drop_prepared(self, thread: int) -> None:
        prepared = self._prepared.get(thread)
        if prepared is not None:
            if prepared.made_by[0] == os.getpid():
                prepared.close()
            else:
                prepared.forget()
            self._prepared.pop(thread, None)

    def spawner(self) -> Spawner:
        """What the next init will be cloned by; its taker's to start and to close.

        He says when he will surely do that: :meth:`take`. An interrupt before it must not make a
        prepared one nobody's.
        """
        from libpycontainer.spawner import Spawner

        return self._ready() or Spawner(self.interpreter(), self._nursery)

    def take(self, spawner: Spawner) -> None:
        """``spawner``, if it is the one that was prepared, is its taker's now."""
        if self._prepared.get(_thread.get_ident()) is spawner:
            self._prepared.pop(_thread.get_ident(), None)

    def create(
        self,
        id: str,
        spec: Any,
        *,
        bundle: str | os.PathLike[str] | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        console_socket: str | None = None,
        console_size: tuple[int, int] | None = None,
        preserve_fds: int = 0,
        pass_fds: Sequence[int] = (),
        no_pivot: bool = False,
        new_keyring: bool = True,
        read_only_tree: bool = False,
        extra_env: Sequence[str] = (),
        notify: bool = False,
        pid_file: str | None = None,
        start: bool = False,
        progress: Callable[[int, int, str], object] | None = None,
    ) -> Container:
        """Create a container whose program waits for :meth:`Container.start` (runtime.md#create).

        ``id`` is a name, or a path of them: ``job/task-1`` is made inside of the container or group
        ``job``, which must exist (:meth:`group`). Its cgroup then lies below that of ``job``; a
        ``linux.cgroupsPath`` must be relative and counts from there.

        ``spec`` is a :class:`Spec`, a dict, JSON text or the path of a config.json; a relative
        ``root.path`` counts from ``bundle`` (default: the current directory). Standard streams and
        descriptors are as for :class:`Process`. ``no_pivot`` moves the root instead of pivot_root
        (for hosts on an initramfs). ``read_only_tree`` makes the root and every mount below it
        read-only. ``extra_env`` are variables for its own program, over those of the configuration
        and not for what is executed inside later. ``notify`` gives it a socket to report readiness
        to, which :meth:`Container.start` and :class:`libpycontainer.notify.Relay` serve.
        ``pid_file`` is written, whole, before this returns. With ``start`` the program runs at once
        (:meth:`run`).
        ``progress`` is called with each step of init's as it begins: its number, how many there
        are, and what it does; an exception of its own ends the creation.

        The caller owns the container, whose init is his child. Raises :class:`SpecError`,
        :class:`InvalidIDError`, :class:`AlreadyExistsError`, :class:`StepError` and its kin,
        :class:`HookError`, :class:`CgroupError`; then nothing is left behind.
        """
        from libpycontainer.store import check_id
        from libpycontainer.streams import all_open

        check_id(id)
        extra = [*range(3, 3 + preserve_fds), *pass_fds]
        try:
            if self._nursery is None and all_open((stdin, stdout, stderr), extra):
                # It boots beside the first creation's imports.
                self.prepare()
            from libpycontainer.creation import Creation

            creation = Creation(
                self,
                id,
                spec,
                bundle=None if bundle is None else os.fspath(bundle),
                no_pivot=no_pivot,
                new_keyring=new_keyring,
                read_only_tree=read_only_tree,
                extra_env=extra_env,
                notify=notify,
                pid_file=pid_file,
                start=start,
                progress=progress,
                streams={
                    "stdin": stdin,
                    "stdout": stdout,
                    "stderr": stderr,
                    "console_socket": console_socket,
                    "console_size": console_size,
                    "pass_fds": pass_fds,
                    "preserve_fds": preserve_fds,
                },
            )
            entry, record = creation.run()
        except BaseException:
            self._drop_prepared(_thread.get_ident())
            raise
        log.tell("running" if start else "created", id, f"pid {record.get('pid')}")
        return Container(self, entry, record, creation.process)

    def run(self, id: str, spec: Any, **options: Any) -> Container:
        """:meth:`create` and :meth:`Container.start` in one; the options are create's.

        It is sooner done than the two of them. When any of it fails, nothing is left behind.
        """
        return self.create(id, spec, start=True, **options)

    def group(
        self,
        id: str,
        resources: LinuxResources | Mapping[str, Any] | None = None,
        *,
        memory: int | str | None = None,
        cpus: float | None = None,
        pids: int | None = None,
        cgroups_path: str | None = None,
    ) -> Container:
        """Make a group of containers: a name and limits, without a process of its own.

        Containers whose names begin with ``id/`` are made inside of it: their cgroups lie below
        its own, so that all of them together stay within its limits, however many they are. These
        are given as for :meth:`Container.update`. ``cgroups_path`` is for the group what
        ``linux.cgroupsPath`` is for a container.

        The caller owns the group, which stays until it is deleted; as a context manager it deletes
        itself, with everything inside. Raises :class:`SpecError`, :class:`InvalidIDError`,
        :class:`AlreadyExistsError`, :class:`NotFoundError` for a group inside of nothing,
        :class:`StatusError`, :class:`CgroupError`; then nothing is left behind.
        """
        from libpycontainer import grouping, updating
        from libpycontainer.spec import light
        from libpycontainer.store import check_id

        check_id(id)
        wanted = updating.requested(resources, memory, cpus, pids)
        limits = light.record("LinuxResources", wanted) if wanted else None
        entry, record = grouping.make_group(self, id, limits, cgroups_path)
        return Container(self, entry, record, None)

    def load(self, id: str) -> Container:
        """A container or group that anybody made under this root. Raises :class:`NotFoundError`.

        It can be waited for from now on, also if its init ends and is reaped before the wait.
        """
        container = self._load(id)
        # Opened now: later there may be nothing left to open.
        _ = container.process
        return container

    def _load(self, id: str) -> Container:
        entry = self.store.find(id)
        try:
            record = entry.load()
        except ContainerError as error:
            # Still a name that ``delete(force=True)`` can free.
            log.warn(str(error))
            record = None
        # Without a record its maker died before the first note, or is about to write it.
        return Container(self, entry, record or {"id": id}, None)

    def plan(
        self,
        id: str,
        spec: Any,
        *,
        bundle: str | os.PathLike[str] | None = None,
        preserve_fds: int = 0,
        no_pivot: bool = False,
        new_keyring: bool = True,
        extra_env: Sequence[str] = (),
        notify: bool = False,
    ) -> Plan:
        """What :meth:`create` would do, as a plan that prints; nothing is made or reserved.

        Raises :class:`SpecError` and :class:`UnsupportedError` as create does.
        """
        from libpycontainer.creation import Creation
        from libpycontainer.store import check_id

        check_id(id)
        creation = Creation(
            self,
            id,
            spec,
            bundle=None if bundle is None else os.fspath(bundle),
            no_pivot=no_pivot,
            new_keyring=new_keyring,
            read_only_tree=False,
            extra_env=extra_env,
            notify=notify,
            streams={},
        )
        manager = creation.manager()
        creation.check(manager)
        return creation.plan(manager, 3 + preserve_fds, dry=True)

    def list(self, inside: str | None = None) -> list[Container]:
        """Every container and group under this root: by name, each followed by what is inside.

        ``inside`` asks for what lies inside of one of them, at any depth.
        """
        found = []
        for id in self.store.ids(inside):
            try:
                found.append(self._load(id))
            except NotFoundError:
                # Deleted since the directory was read.
                continue
        return found

    def close(self) -> None:
        """Let go of what the factory holds. Its containers live on, and it can be used again."""
        if self._nursery is not None:
            self._nursery.close()
        for thread in list(self._prepared):
            self._drop_prepared(thread)

    def __enter__(self) -> Factory:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
