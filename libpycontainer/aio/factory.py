"""The factory: where containers are made, found and listed, without holding up the loop."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from libpycontainer import container as container_
from libpycontainer import factory as factory_
from libpycontainer.aio.container import Container
from libpycontainer.aio.pending import Pending
from libpycontainer.aio.threads import Threads
from libpycontainer.factory import LIBRARY_CGROUP

if TYPE_CHECKING:
    from collections.abc import Callable

    from libpycontainer.plan import Plan
    from libpycontainer.spec.models import LinuxResources


class Factory:
    """Makes, finds and lists containers: :class:`libpycontainer.Factory`, to be awaited.

    The kernel's part of making, entering and deleting a container takes some milliseconds, and is
    waited for by threads of the factory's own: never by the loop, nor by its executor. There are
    ``threads`` of them at most (default: two more than processors, at most 8), for all its
    containers together, and none while there is nothing to do. Everything else, the ends of
    processes, their pipes and the containers' events, is waited for by the loop.

    As a context manager it lets go of its warm interpreter, if it has one. Its containers live on.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        interpreter: str | None = None,
        cgroup_parent: str | None = LIBRARY_CGROUP,
        systemd_cgroup: bool = False,
        warm: bool = False,
        threads: int | None = None,
    ) -> None:
        self._threads = Threads(threads)
        self._factory = factory_.Factory(
            root,
            interpreter=interpreter,
            cgroup_parent=cgroup_parent,
            systemd_cgroup=systemd_cgroup,
            warm=warm,
        )

    @property
    def sync(self) -> factory_.Factory:
        """The same factory for code that is not awaited, in a thread of its own."""
        return self._factory

    @property
    def root(self) -> str:
        """The state root, absolute."""
        return self._factory.root

    def create(self, id: str, spec: Any, **options: Any) -> Pending[Container]:
        """Create a container whose program waits for :meth:`aio.Container.start`.

        Parameters and errors are :meth:`libpycontainer.Factory.create`'s; ``progress`` is called
        in a thread. To be awaited for the container, or entered: ``async with factory.create(...)
        as container`` deletes it at the end of the block. Cancelled, it leaves nothing behind.
        """
        return Pending(self._make(self._factory.create, id, spec, **options))

    def run(self, id: str, spec: Any, **options: Any) -> Pending[Container]:
        """:meth:`create` and :meth:`aio.Container.start` in one; the options are create's.

        When the start fails, or this is cancelled, the container is deleted again.
        """
        return Pending(self._make(self._factory.run, id, spec, **options))

    def group(
        self,
        id: str,
        resources: LinuxResources | Mapping[str, Any] | None = None,
        *,
        memory: int | str | None = None,
        cpus: float | None = None,
        pids: int | None = None,
        cgroups_path: str | None = None,
    ) -> Pending[Container]:
        """Make a group of containers: a name and limits, without a process of its own.

        To be awaited or entered, as what :meth:`create` returns.
        """
        limits = {"memory": memory, "cpus": cpus, "pids": pids, "cgroups_path": cgroups_path}
        return Pending(self._make(self._factory.group, id, resources, **limits))

    async def _make(
        self, action: Callable[..., container_.Container], *arguments: Any, **options: Any
    ) -> Container:
        made = await self._threads.do(action, *arguments, undo=_discard, **options)
        try:
            return await Container.adopt(made, self._threads)
        except BaseException as error:
            await self._threads.clean_up(error, _discard, made)
            raise

    async def load(self, id: str) -> Container:
        """A container or group that anybody made under this root. Raises :class:`NotFoundError`."""
        return Container(await self._threads.do(self._factory.load, id), self._threads)

    async def list(self, inside: str | None = None) -> list[Container]:
        """Every container and group under this root: by name, each followed by what is inside."""
        found = await self._threads.do(self._factory.list, inside)
        return [Container(each, self._threads) for each in found]

    async def plan(self, id: str, spec: Any, **options: Any) -> Plan:
        """What :meth:`create` would do, as a plan that prints; nothing is made or reserved."""
        return await self._threads.do(self._factory.plan, id, spec, **options)

    async def close(self) -> None:
        """Let go of what the factory holds. Its containers live on, and it can be used again."""
        await self._threads.do(self._factory.close, certain=True)

    async def __aenter__(self) -> Factory:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


def _discard(container: container_.Container) -> None:
    container.delete(force=True)
