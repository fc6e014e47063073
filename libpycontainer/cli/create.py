"""``create``: a container up to the point where it waits for ``start``."""

from __future__ import annotations

from libpycontainer.cli import launch
from libpycontainer.cli.command import Command, Invocation
from libpycontainer.cli.output import put


def action(invocation: Invocation) -> int:
    prepared = launch.Launch(invocation, detach=True)
    if invocation.options.enabled("dry-run"):
        put(prepared.dry_run())
        return 0
    prepared.create()
    return 0


COMMAND = Command(
    "create",
    action,
    usage="create a container",
    arguments="""<container-id>

Where "<container-id>" is your name for the instance of the container that you
are starting. The name you provide for the container instance must be unique
under the state root.""",
    description="""The create command makes a container from a bundle: a directory with a
specification file named "config.json" and a root filesystem. Its namespaces,
mounts and limits are set up, and its first process waits. The start command
lets it run the program that the "args" of the specification name.""",
    flags=launch.FLAGS,
    least=1,
    most=1,
    prefix="pyrunc create failed: ",
)
