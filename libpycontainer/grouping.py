"""Groups of containers: what lies inside of what, and a group that has no process of its own.

A container's name may be a path, as lmctfy had them: ``job/task-1`` is ``task-1`` inside of
``job``. Its cgroup lies below that of ``job``, so the kernel itself sees to it that the limits of
``job`` bound everything inside. ``job`` may be a container, or only a group: limits and a name.

Whoever makes a container holds the locks of all that it will lie inside of, shared, from before
their status is looked at until the container is there. So nothing is made inside of what is being
deleted, and no init is cloned into a group that is frozen meanwhile and would never answer.
"""

from __future__ import annotations

from libpycontainer import host, lifecycle, log, store
from libpycontainer import status as status_
from libpycontainer.cgroups import open_manager, open_manager_below
from libpycontainer.errors import Problem, SpecError
from libpycontainer.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from libpycontainer.cgroups.protocol import Manager
    from libpycontainer.container import Container
    from libpycontainer.factory import Factory
    from libpycontainer.spec.models import LinuxResources
    from libpycontainer.store import Entry

CGROUPS_PATH = "$.linux.cgroupsPath"


class Parents:
    """Everything that ``id`` lies inside of, kept as it is until :meth:`close`.

    Raises :class:`NotFoundError` for a parent that does not exist and :class:`StatusError` for one
    in which nothing can be made.
    """

    def __init__(self, factory: Factory, id: str) -> None:
        self._held: list[Container] = []
        try:
            for name in store.ancestors(id):
                self._hold(factory._load(name))
        except BaseException:
            self.close()
            raise

    def _hold(self, parent: Container) -> None:
        parent._entry.lock(shared=True)
        self._held.append(parent)
        parent._refresh(exact=True)
        status_.check("contain", parent.status, parent.id)

    def close(self) -> None:
        while self._held:
            self._held.pop()._entry.unlock()


def parent_of(factory: Factory, id: str) -> Container:
    """The container or group that ``id`` lies directly inside of. Raises :class:`NotFoundError`."""
    return factory._load(store.ancestors(id)[-1])


def place_inside(factory: Factory, id: str, cgroups_path: str | None) -> Manager:
    """Decide where the cgroups of something inside of another will be. Nothing is made yet."""
    parent = parent_of(factory, id)
    if cgroups_path and cgroups_path.startswith("/"):
        what = (
            f"{cgroups_path} is absolute, but the cgroup of {id} lies below that of {parent.id}:"
            " give a relative path, or none"
        )
        raise SpecError([Problem(CGROUPS_PATH, what)])
    return open_manager_below(parent.cgroup, cgroups_path or id.rpartition("/")[2])


def place(
    factory: Factory,
    id: str,
    cgroups_path: str | None,
    annotations: Mapping[str, str] | None = None,
) -> Manager:
    """Decide where the cgroups of a container or a group will be. Nothing is made yet."""
    if "/" in id:
        return place_inside(factory, id, cgroups_path)
    facts = host.facts()
    return open_manager(
        cgroups_path,
        id,
        facts,
        parent=factory.cgroup_parent,
        # Root of a user namespace has no more to say about the host's groups than a user.
        rootless=not facts.privileged or facts.in_user_namespace,
        systemd=factory.systemd_cgroup,
        annotations=annotations,
    )


def make_group(
    factory: Factory, id: str, resources: LinuxResources | None, cgroups_path: str | None
) -> tuple[Entry, dict[str, Any]]:
    """Make a group. See :meth:`Factory.group`. Returns its entry, unlocked, and its record."""
    from libpycontainer import limits
    from libpycontainer.spec import light
    from libpycontainer.spec.default import OCI_VERSION

    document: dict[str, Any] = {"ociVersion": OCI_VERSION}
    if resources is not None:
        document["linux"] = {"resources": light.dump(resources)}
        limits.check(resources)
    with Undo() as undo:
        parents = Parents(factory, id)
        undo.push(parents.close)
        manager = place(factory, id, cgroups_path)
        if manager.mode == "none":
            log.warn(f"group {id} has no cgroups: it can be neither paused nor measured")
        entry = factory.store.reserve(id)
        undo.push(entry.unlock)
        undo.push(entry.remove)
        record = {**lifecycle.new_record(id, OCI_VERSION, "", manager), "group": True}
        entry.save(record)
        entry.save(document, store.CONFIG)
        manager.create(resources)
        undo.push(manager.destroy)
        # Without rules of its own a group allows what its parent does; the devices that every
        # container has are for each container to say.
        manager.apply(resources, devices=resources is not None and resources.devices is not None)
        record["cgroup"] = manager.record()
        record["created"] = lifecycle.now()
        entry.save(record)
        undo.commit()
    entry.unlock()
    parents.close()
    return entry, record
