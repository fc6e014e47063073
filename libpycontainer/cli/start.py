"""``start``: let a created container run its program."""

from __future__ import annotations

from libpycontainer.cli.command import Command, Invocation


def action(invocation: Invocation) -> int:
    invocation.container().start()
    return 0


COMMAND = Command(
    "start",
    action,
    usage="executes the user defined process in a created container",
    arguments="""<container-id>

Where "<container-id>" is the name that the container was created under.""",
    description="""The start command executes the user defined process in a created container. It
returns when that process has been executed, or says why it could not be.""",
    least=1,
    most=1,
)
