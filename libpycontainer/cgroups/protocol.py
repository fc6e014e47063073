"""What every cgroup manager can do. Imported by type checkers and readers, never at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from libpycontainer.cgroups.hierarchies import CgroupMount
    from libpycontainer.cgroups.stats import Stats
    from libpycontainer.cgroups.writer import Change
    from libpycontainer.spec.models import LinuxResources


class HostFacts(Protocol):
    """The facts that placing a container needs (a part of ``libpycontainer.host.Facts``)."""

    @property
    def cgroup_mode(self) -> str: ...

    @property
    def in_user_namespace(self) -> bool: ...


class Occupant(Protocol):
    """What is on its way into a group while that is made."""

    def begin(self) -> None: ...

    def take_back(self) -> None:
        """Be gone from the group, whether :meth:`begin` was called, came to its end, or not."""


class Manager(Protocol):
    """One container's place in every hierarchy that this host has.

    Every method raises :class:`~libpycontainer.errors.CgroupError` with ``op``, ``path`` and
    ``errno``, and with the JSON path of the field where a setting is to blame.
    """

    @property
    def mode(self) -> str:
        """``"v1"``, ``"hybrid"``, ``"v2"`` or ``"none"``."""

    def record(self) -> dict[str, Any]:
        """Everything another process needs to manage this group, as JSON values.

        Known before :meth:`create`: saved first, it lets anybody clean up a half-made set. A unit
        of systemd's is known better once it is there, so it is saved again then.
        """

    def paths(self) -> dict[str, str]:
        """Each controller's directory; ``""`` is the unified (v2) one."""

    def mounts(self) -> tuple[CgroupMount, ...]:
        """What a mount of type ``cgroup`` shows to this container."""

    def create(
        self, resources: LinuxResources | None = None, occupant: Occupant | None = None
    ) -> None:
        """Make the group in every hierarchy; all of them or none.

        ``occupant`` may begin as soon as :meth:`clone_fd` can be called, while other groups have
        yet to be made, and takes back what it has begun, should any of it fail.

        ``resources`` only tells v2 which controllers will be asked for: a threaded subtree is
        refused early, and processes of a parent that are in the way (the kernel gives no
        controllers to the children of a group with processes) are moved into a group below it,
        if that parent is the caller's own group or a container's. An existing group is used
        when it is empty; one with processes in it, or a frozen one, is refused.
        """

    def give_to(self, uid: int) -> None:
        """Let the user ``uid``, as this host counts, divide the group among its own processes.

        On v2 the directory and the files of /sys/kernel/cgroup/delegate become that user's; what
        sets this group's own limits does not. Does nothing on v1, where that would not be safe.
        Source: runtime-spec config-linux.md#cgroup-ownership.
        """

    def apply(self, resources: LinuxResources | None, *, devices: bool = True) -> None:
        """Write the limits. Absent fields (and zeros where runc takes them so) stay untouched.

        With ``devices`` the device rules are installed as well: the config's, then the ones
        every container has; an update of limits alone passes ``False``.
        """

    def update(self, resources: LinuxResources, before: LinuxResources | None = None) -> Change:
        """Change limits: all that ``resources`` says, or nothing.

        When one of them fails, the old values are written back before the error is raised.
        Device rules are replaced where ``resources`` has any; ``before`` has those to go back
        to. Returns what has been done, to take it back should a later step fail. Controllers
        that v2 groups above have not passed on so far are asked for as in :meth:`create`.
        """

    def clone_fd(self, beside: int | None = None) -> int | None:
        """An ``O_PATH`` fd of the v2 directory for CLONE_INTO_CGROUP, which the caller closes.

        ``None`` where there is no v2 hierarchy, or the group is another user's: whoever has
        entered a user namespace cannot have anything cloned there. A v2 group that passes
        controllers on takes no processes; then it is the one that the process ``beside`` (the
        container's init) is in.
        """

    def add(self, pid: int, *, cloned: bool = False) -> None:
        """Move a process in. ``cloned`` says that clone3 already put it into the v2 group.

        The only way in where neither :meth:`clone_fd` nor :meth:`join_fds` gives any: systemd makes
        a scope around the first process.
        """

    def join_fds(self, beside: int | None = None, *, cloned: bool = False) -> tuple[int, ...]:
        """Fds into each of which a process writes ``b"0"`` to move itself in; the caller's own.

        For a process with one thread, as the container's init is. In v1 that is some fifty times
        cheaper than :meth:`add`, whose first write waits for an RCU grace period (some 10 ms):
        the kernel skips its lock for a thread that moves itself (Linux 5.16, ``tasks``).
        """

    def pids(self, recursive: bool = True) -> list[int]:
        """The processes in the group; empty when the group is gone.

        With ``recursive`` also those in groups below it, as other containers' may be.
        """

    def occupied(self) -> bool:
        """Whether there is any process in the group or below it, however many groups those are."""

    def freeze(self) -> None:
        """Stop every process. On failure all of them run again."""

    def thaw(self) -> None:
        """Let every process run again."""

    def frozen(self) -> bool:
        """Whether :meth:`freeze` is in force; false when the group is gone."""

    def kill(self) -> None:
        """Send SIGKILL to every process, also to those that fork meanwhile and to frozen ones.

        Does not wait for their end; :meth:`destroy` does.
        """

    def destroy(self, timeout: float = 5.0) -> None:
        """Remove the group, its children, and the parents that were made for it and are empty.

        What is missing already is fine. ``timeout`` is in seconds, for processes on their way
        out; the caller kills them first.
        """

    def stats(self) -> Stats:
        """What the kernel has counted so far."""
