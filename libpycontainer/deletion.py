"""delete: everything that was made for a container, and for those inside of it, is taken away."""

from __future__ import annotations

import os

from libpycontainer import lifecycle, log
from libpycontainer import status as status_
from libpycontainer.errors import ContainerError, NotFoundError, StatusError
from libpycontainer.store import HOST_NETWORK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from libpycontainer.container import Container

    Progress = Callable[[int, int, str], object]


def delete(container: Container, force: bool, progress: Progress | None = None) -> None:
    """See :meth:`Container.delete`."""
    if force and not container._record.get("created"):
        # Half-made: its creator, if it lives, holds the lock until its init is gone.
        container._refresh()
        container._kill_everything()
        if container.process is not None:
            container.process.kill()
    elif not force:
        container._refuse_while_creating("delete")
    with container._locked():
        if not force:
            container._check("delete")
            _check_inside(container)
        container._kill_everything()
        _delete_inside(container, progress)
        container._end_init()
        _give_back(container, force)
        _destroy_cgroup(container)
        lifecycle.run_poststop(container._record)
        container._entry.remove()
    container._let_go()
    log.tell("deleted", container.id)


def _check_inside(container: Container) -> None:
    """Look first: one that still runs, and none of them is deleted."""
    for inner in container._factory.list(inside=container.id):
        status = inner.status
        if status not in status_.ALLOWED["delete"]:
            raise StatusError(
                f"cannot delete container {container.id}: {inner.id} inside of it is {status}",
                verb="delete",
                status=status,
            )


def _delete_inside(container: Container, progress: Progress | None) -> None:
    """Nobody makes another one meanwhile: he would need the lock that we hold, shared.

    With force, for whatever runs by now was killed with the container's own processes.
    """
    children = container.children()
    for number, child in enumerate(children, 1):
        if progress is not None:
            progress(number, len(children) + 1, child.id)
        try:
            child.delete(force=True)
        except NotFoundError:
            # Somebody else was faster.
            continue
    if progress is not None:
        progress(len(children) + 1, len(children) + 1, container.id)


def _give_back(container: Container, force: bool) -> None:
    """What the container had of the host besides cgroups; most have nothing of it."""
    if os.path.exists(container._entry.file(HOST_NETWORK)):
        from libpycontainer import network

        network.take_back(container._record, container._entry, force)
    if "intelRdt" in container._record:
        from libpycontainer import resctrl

        resctrl.remove(container._record["intelRdt"])


def _destroy_cgroup(container: Container) -> None:
    record = container._record
    if "pid" in record or (container.is_group and record.get("created")):
        container.cgroup.destroy()
    elif "cgroup" in record:
        # Its maker died before anything was in it: what is there may be somebody else's.
        try:
            container.cgroup.destroy(timeout=0.1)
        except ContainerError as error:
            log.warn(str(error))
