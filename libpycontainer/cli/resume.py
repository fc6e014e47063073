"""``resume``: let a paused container go on."""

from __future__ import annotations

from libpycontainer.cli.command import Command, Invocation


def action(invocation: Invocation) -> int:
    invocation.container().resume()
    return 0


COMMAND = Command(
    "resume",
    action,
    usage="resumes all processes that have been previously paused",
    arguments="""<container-id>

Where "<container-id>" is the name for the instance of the container to be
resumed.""",
    description="""The resume command resumes all processes in the instance of the container.

Use pyrunc list to identify instances of containers and their current status.""",
    least=1,
    most=1,
)
