"""What a container's status is, and which verbs it allows.

The status is never stored: it is observed from facts that cannot go stale, because a stored one
would lie as soon as somebody dies between the deed and the note of it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

CREATING: Final = "creating"
CREATED: Final = "created"
RUNNING: Final = "running"
PAUSED: Final = "paused"
STOPPED: Final = "stopped"
EMPTY: Final = "empty"
"""Of a group only, which has no process of its own: nothing runs inside of it."""

ALLOWED: Final = {
    "start": frozenset({CREATED}),
    "exec": frozenset({CREATED, RUNNING}),
    "kill": frozenset({CREATED, RUNNING, PAUSED}),
    "delete": frozenset({CREATED, STOPPED, EMPTY}),
    "pause": frozenset({CREATED, RUNNING, EMPTY}),
    "resume": frozenset({PAUSED}),
    "update": frozenset({CREATED, RUNNING, PAUSED, EMPTY}),
    "events": frozenset({CREATED, RUNNING, PAUSED, EMPTY}),
    "contain": frozenset({CREATED, RUNNING, EMPTY}),
}
"""Verb: the statuses in which it may be called (runtime.md#operations, and runc where it allows
more: deleting a created container ends it). ``contain`` is to have another one made inside."""


class Observation:
    """The facts that a status follows from.

    ``recorded``: the state record says that creation was completed. ``alive``: the init process
    exists and is the one on record, not a zombie and not a later process with its number.
    ``waiting``: something listens on start.sock. ``frozen``: the cgroup freezer is in force.
    """

    __slots__ = ("alive", "frozen", "recorded", "waiting")

    def __init__(self, *, recorded: bool, alive: bool, waiting: bool, frozen: bool) -> None:
        self.recorded = recorded
        self.alive = alive
        self.waiting = waiting
        self.frozen = frozen


def observe(facts: Observation) -> str:
    """The status that these facts amount to."""
    if not facts.alive:
        return STOPPED
    if not facts.recorded:
        return CREATING
    if facts.frozen:
        return PAUSED
    return CREATED if facts.waiting else RUNNING


def observe_group(*, occupied: bool, frozen: bool) -> str:
    """The status of a group: ``occupied`` says that there are processes anywhere inside."""
    if frozen:
        return PAUSED
    return RUNNING if occupied else EMPTY


def check(verb: str, status: str, id: str) -> None:
    """Raise :class:`~libpycontainer.errors.StatusError` unless ``status`` allows ``verb``."""
    if status in ALLOWED[verb]:
        return
    from libpycontainer.errors import StatusError

    raise StatusError(_refusal(verb, status, id), verb=verb, status=status)


def _refusal(verb: str, status: str, id: str) -> str:
    # The words are runc's where a client is known to look for them.
    if verb in ("kill", "pause", "update"):
        return f"container not running: {id} is {status}"
    if verb == "resume":
        return f"container not paused: {id} is {status}"
    if verb == "events":
        return f"container with id {id} is not running: it is {status}"
    if verb == "contain":
        return f"cannot create a container inside of {id}: it is {status}"
    if verb == "delete":
        return f"cannot delete container {id} that is not stopped: {status}"
    if verb == "start" and status == RUNNING:
        return f"cannot start container {id}: it is running already"
    if verb == "start" and status == STOPPED:
        return f"cannot start container {id}: it has run and stopped"
    return f"cannot {verb} container {id}: it is {status}"
