"""``start``: let a created container run its program."""

from __future__ import annotations

from libpycontainer.cli import readiness
from libpycontainer.cli.command import Command, Invocation


def action(invocation: Invocation) -> int:
    container = invocation.container()
    relay = readiness.relay(invocation.log)
    # Taken before it can end, and be reaped: what it reported until then is still passed on.
    process = container.process if relay is not None else None
    container.start(notify=relay)
    readiness.wait(process, relay, invocation.log)
    return 0


COMMAND = Command(
    "start",
    action,
    usage="executes the user defined process in a created container",
    arguments="""<container-id>

Where "<container-id>" is the name that the container was created under.""",
    description="""The start command executes the user defined process in a created container. It
returns when that process has been executed, or says why it could not be.

With NOTIFY_SOCKET in the environment, as systemd sets it, of both create and
start, it returns when the process has reported that it is ready, or has ended.""",
    least=1,
    most=1,
)
