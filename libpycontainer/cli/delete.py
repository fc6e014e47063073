"""``delete``: remove what a container holds: its cgroups, its state."""

from __future__ import annotations

from libpycontainer.cli.command import Command, Invocation
from libpycontainer.cli.options import Flag
from libpycontainer.errors import NotFoundError


def action(invocation: Invocation) -> int:
    force = invocation.options.enabled("force")
    try:
        invocation.container().delete(force=force)
    except NotFoundError:
        if not force:
            raise
    return 0


COMMAND = Command(
    "delete",
    action,
    usage="delete any resources held by the container often used with detached container",
    arguments="""<container-id>

Where "<container-id>" is the name for the instance of the container.

EXAMPLE:
For example, if the container id is "ubuntu01" and pyrunc list currently shows
the status of "ubuntu01" as "stopped" the following will delete resources held
for "ubuntu01" removing "ubuntu01" from the pyrunc list of containers:

       # pyrunc delete ubuntu01""",
    flags=(
        Flag(
            "force",
            "Forcibly deletes the container if it is still running (uses SIGKILL)",
            short="f",
            kind="bool",
        ),
    ),
    least=1,
    most=1,
)
