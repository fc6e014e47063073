"""A container, or a group of them, whose verbs are awaited."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from libpycontainer import container as container_
from libpycontainer import process as process_
from libpycontainer.aio.events import Events
from libpycontainer.aio.pending import Pending
from libpycontainer.aio.process import Process, end
from libpycontainer.aio.threads import Threads

if TYPE_CHECKING:
    from libpycontainer.cgroups.stats import Stats
    from libpycontainer.events import Stall
    from libpycontainer.notify import Relay
    from libpycontainer.spec.models import LinuxIntelRdt, LinuxResources, Spec


class Container:
    """One container, or a group: :class:`libpycontainer.Container`, to be awaited.

    Made by :class:`aio.Factory` only. The verbs, their parameters and their errors are the same.
    A verb that is cancelled after it has begun is finished first, except :meth:`start`, whose
    container is killed, and :meth:`exec`, whose process is; then the
    :class:`asyncio.CancelledError` goes on its way. Waiting (:meth:`wait`, :meth:`events`) can be
    cancelled at any time, and changes nothing.

    As a context manager it deletes the container at the end of the block, whatever happened
    inside; a block that is cancelled is left when that is done.
    """

    def __init__(self, container: container_.Container, threads: Threads) -> None:
        self._container = container
        self._threads = threads
        self._process: Process | None = None

    @classmethod
    async def adopt(cls, container: container_.Container, threads: Threads) -> Container:
        """The handle of a container that was just made, whose pipes become the loop's."""
        adopted = cls(container, threads)
        if container._process is not None:
            adopted._process = await Process.adopt(container._process, threads)
        return adopted

    # ---- what it is ------------------------------------------------------------------------

    @property
    def sync(self) -> container_.Container:
        """The same container for code that is not awaited, in a thread of its own.

        To wait for its end, and to delete it, is this object's as long as there is one.
        """
        return self._container

    @property
    def id(self) -> str:
        return self._container.id

    @property
    def is_group(self) -> bool:
        """Whether it has no process of its own, and is there for what lies inside of it."""
        return self._container.is_group

    @property
    def bundle(self) -> str:
        """The absolute path of its bundle; empty for a group."""
        return self._container.bundle

    @property
    def rootfs(self) -> str:
        """The absolute path of its root directory on the host; empty for a group."""
        return self._container.rootfs

    @property
    def created(self) -> str:
        """When it was created, in RFC 3339; empty as long as it is not."""
        return self._container.created

    @property
    def owner(self) -> str:
        """The name of the user that created it (his number, where he has none)."""
        return self._container.owner

    @property
    def spec(self) -> Spec:
        """The configuration as it was when the container was created, with its present limits."""
        return self._container.spec

    @property
    def pid(self) -> int:
        """Its init's pid, 0 when there is none (any more)."""
        return self._container.pid

    @property
    def status(self) -> str:
        """``creating``, ``created``, ``running``, ``paused`` or ``stopped``, as of now.

        Some files of the kernel's are read for it, which none has to wait for.
        """
        return self._container.status

    @property
    def process(self) -> Process | None:
        """Its init as a process to wait for; ``None`` when the init is gone and was never held.

        The container owns it.
        """
        if self._process is None:
            process = self._container.process
            if process is not None:
                self._process = Process(process, self._threads)
                self._process.ending.listen()
        return self._process

    def __repr__(self) -> str:
        return f"<aio.Container {self.id!r} {self.status}>"

    async def state(self) -> dict[str, Any]:
        """The OCI state document, as of now."""
        return await self._threads.do(self._container.state)

    async def children(self) -> list[Container]:
        """The containers and groups directly inside of it, by name."""
        found = await self._threads.do(self._container.children)
        return [Container(each, self._threads) for each in found]

    async def parent(self) -> Container | None:
        """What it lies inside of, if anything."""
        found = await self._threads.do(lambda: self._container.parent)
        return None if found is None else Container(found, self._threads)

    # ---- verbs -----------------------------------------------------------------------------

    async def start(self, *, notify: Relay | None = None) -> None:
        """Run the program of a created container. Cancelled, it kills the container."""
        await self._threads.do(self._container.start, notify=notify, hurry=self._kill_init)

    def exec(self, process: process_.Process, *, ignore_paused: bool = False) -> Pending[Process]:
        """Start one more process inside, as it is described by a :class:`libpycontainer.Process`.

        To be awaited for the running :class:`aio.Process`, or entered: ``async with
        container.exec(lc.Process(["ps"], stdout=lc.PIPE)) as ps``.
        """
        return Pending(self._exec(process, ignore_paused))

    async def _exec(self, process: process_.Process, ignore_paused: bool) -> Process:
        started = await self._threads.do(
            self._container.exec, process, ignore_paused=ignore_paused, undo=end
        )
        try:
            running = await Process.adopt(started, self._threads)
        except BaseException as error:
            await self._threads.clean_up(error, end, started)
            raise
        if self._process is not None:
            # It holds up the init's end until it is reaped.
            self._process.ending.listen()
        return running

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for init's end; returns its exit code, negative for a signal.

        ``timeout`` is in seconds; raises :class:`TimeoutExpired`.
        """
        process = None if self.is_group else self.process
        if process is None:
            # Which raises: there is nothing that could be waited for.
            return self._container.wait(0)
        return await process.wait(timeout)

    async def signal(self, number: int, *, all: bool = False) -> None:
        """Send a signal to init or, with ``all``, to every process inside, at whatever depth."""
        await self._threads.do(self._container.signal, number, all=all, certain=True)

    async def processes(self) -> list[int]:
        """The pids of everything that runs inside, as the caller's pid namespace has them."""
        return await self._threads.do(self._container.processes)

    async def pause(self) -> None:
        """Freeze every process inside: all of them, or none."""
        await self._threads.do(self._container.pause)

    async def resume(self) -> None:
        """Let a paused container go on."""
        await self._threads.do(self._container.resume, certain=True)

    async def update(
        self,
        resources: LinuxResources | Mapping[str, Any] | None = None,
        *,
        memory: int | str | None = None,
        cpus: float | None = None,
        pids: int | None = None,
        intel_rdt: LinuxIntelRdt | Mapping[str, Any] | None = None,
    ) -> None:
        """Change the limits: all or nothing. See :meth:`libpycontainer.Container.update`."""
        await self._threads.do(
            self._container.update,
            resources,
            memory=memory,
            cpus=cpus,
            pids=pids,
            intel_rdt=intel_rdt,
        )

    async def stats(self) -> Stats:
        """What the kernel has counted for this container."""
        return await self._threads.do(self._container.stats)

    def events(
        self,
        interval: float | None = 5.0,
        *,
        oom: bool = True,
        memory_pressure: str | None = None,
        stalls: Sequence[Stall] = (),
    ) -> Events:
        """What happens to the container, as it happens, until it stops: for ``async for``.

        See :meth:`libpycontainer.Container.events`.
        """
        watched = self._container.events(
            interval, oom=oom, memory_pressure=memory_pressure, stalls=stalls
        )
        return Events(watched, self._threads)

    async def delete(
        self,
        *,
        force: bool = False,
        progress: Callable[[int, int, str], object] | None = None,
    ) -> None:
        """Remove a stopped container and everything that was made for it.

        With ``force`` also a running one. ``progress`` is called in a thread. Cancelled, it is done
        all the same.
        """
        if force:
            self._kill_init()
        await self._end_by(self._container.delete, force=force, progress=progress)

    async def _end_by(self, action: Any, *arguments: Any, **options: Any) -> None:
        """Have it deleted by a thread, which also reaps its init."""
        process = self._process
        if process is None:
            await self._threads.do(action, *arguments, certain=True, **options)
            return
        process.ending.pause()
        try:
            await self._threads.do(action, *arguments, certain=True, **options)
        finally:
            if process.held:
                # It was refused.
                process.ending.listen()
            else:
                process.let_go()

    def _kill_init(self) -> None:
        """At once: the threads may be busy, even with calls that only this end can end."""
        if self.process is not None:
            self.process.kill()

    async def __aenter__(self) -> Container:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._kill_init()
        await self._end_by(self._container.__exit__, kind, error, traceback)
