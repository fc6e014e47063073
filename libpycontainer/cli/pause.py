"""``pause``: stop every process of a container, none of which notices."""

from __future__ import annotations

from libpycontainer.cli.command import Command, Invocation


def action(invocation: Invocation) -> int:
    invocation.container().pause()
    return 0


COMMAND = Command(
    "pause",
    action,
    usage="pause suspends all processes inside the container",
    arguments="""<container-id>

Where "<container-id>" is the name for the instance of the container to be
paused.""",
    description="""The pause command suspends all processes in the instance of the container:
all of them, or none.

Use pyrunc list to identify instances of containers and their current status.""",
    least=1,
    most=1,
)
