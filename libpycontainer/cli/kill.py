"""``kill``: send a signal to a container's init, or to all of its processes."""

from __future__ import annotations

import os

from libpycontainer.cli.command import Command, CommandError, Invocation
from libpycontainer.cli.options import Flag
from libpycontainer.cli.signals import SIGTERM, parse_signal


def action(invocation: Invocation) -> int:
    container = invocation.container()
    name = invocation.arguments[1] if len(invocation.arguments) > 1 else ""
    number = parse_signal(name) if name else SIGTERM
    every = invocation.options.enabled("all")
    try:
        container.signal(number, all=every)
    except ProcessLookupError:
        raise CommandError("unable to signal init: os: process already finished") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise CommandError(f"unable to send signal {number}: {reason}") from None
    return 0


COMMAND = Command(
    "kill",
    action,
    usage="kill sends the specified signal (default: SIGTERM) to the container's init process",
    arguments="""<container-id> [signal]

Where "<container-id>" is the name for the instance of the container and
"[signal]" is the signal to be sent to the init process: a number, or a name
with or without its "SIG".

EXAMPLE:
For example, if the container id is "ubuntu01" the following will send a "KILL"
signal to the init process of the "ubuntu01" container:

       # pyrunc kill ubuntu01 KILL""",
    flags=(
        Flag(
            "all",
            "send the specified signal to all processes inside the container",
            short="a",
            kind="bool",
        ),
    ),
    least=1,
    most=2,
)
