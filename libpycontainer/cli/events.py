"""``events``: a container's measurements and its OOM notices, one JSON object a line."""

from __future__ import annotations

from libpycontainer import status as status_
from libpycontainer.cli.command import Command, CommandError, Invocation
from libpycontainer.cli.options import Flag
from libpycontainer.cli.output import dump, put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libpycontainer.cgroups.stats import Stats
    from libpycontainer.cli.output import Json


def action(invocation: Invocation) -> int:
    from libpycontainer.events import OOMEvent, StatsEvent

    container = invocation.container()
    interval = invocation.options.seconds("interval")
    if interval <= 0:
        raise CommandError("duration interval must be greater than 0")
    if invocation.options.enabled("stats"):
        status_.check("events", container.status, container.id)
        _put("stats", container.id, container.stats(), container.cgroup.mode)
        return 0
    with container.events(interval) as events:
        for event in events:
            if isinstance(event, StatsEvent):
                _put(event.type, event.id, event.stats, container.cgroup.mode)
            elif isinstance(event, OOMEvent):
                _put(event.type, event.id)
    return 0


def _put(type: str, id: str, stats: Stats | None = None, mode: str = "") -> None:
    from libpycontainer.cli.measurements import document

    event: dict[str, Json] = {"type": type, "id": id}
    if stats is not None:
        event["data"] = document(stats, unified=mode == "v2")
    put(f"{dump(event)}\n")


COMMAND = Command(
    "events",
    action,
    usage=(
        "display container events such as OOM notifications, cpu, memory, and IO usage statistics"
    ),
    arguments="""<container-id>

Where "<container-id>" is the name for the instance of the container.""",
    description="""The events command displays information about the container, until it stops. By
default the information is displayed once every 5 seconds.""",
    flags=(
        Flag("interval", "set the stats collection interval", kind="duration", default=5),
        Flag("stats", "display the container's stats then exit", kind="bool"),
    ),
    least=1,
    most=1,
)
