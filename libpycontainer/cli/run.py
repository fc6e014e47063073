"""``run``: create and start; in the foreground also wait, and delete."""

from __future__ import annotations

from libpycontainer.cli import launch, readiness
from libpycontainer.cli.command import Command, Invocation
from libpycontainer.cli.options import Flag
from libpycontainer.cli.output import put
from libpycontainer.errors import ContainerError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libpycontainer.container import Container


def action(invocation: Invocation) -> int:
    options = invocation.options
    detach = options.enabled("detach")
    prepared = launch.Launch(invocation, detach=detach)
    if options.enabled("dry-run"):
        put(prepared.dry_run())
        return 0
    return _detached(prepared, invocation) if detach else _foreground(prepared, invocation)


def _detached(prepared: launch.Launch, invocation: Invocation) -> int:
    relay = readiness.relay(invocation.log)
    if relay is None and prepared.may_start_at_once:
        prepared.create(start=True)
        return 0
    container = prepared.create()
    try:
        container.start(notify=relay)
    except BaseException as error:
        launch.discard(container, error)
        raise
    readiness.wait(container.process, relay, invocation.log)
    return 0


def _foreground(prepared: launch.Launch, invocation: Invocation) -> int:
    from libpycontainer.cli.foreground import Foreground

    keep = invocation.options.enabled("keep")
    terminal = bool(prepared.process.terminal)
    relay = readiness.relay(invocation.log)
    background = readiness.Background(relay, invocation.log)
    at_once = relay is None and not terminal and not keep and prepared.may_start_at_once
    with Foreground(invocation.log, terminal=terminal) as foreground:
        container = prepared.create(start=at_once, **foreground.streams())
        try:
            assert container.process is not None
            start = None if at_once else lambda: background.start(container)
            code = foreground.wait(container.process, start)
            background.finish()
        except BaseException as error:
            if not keep:
                launch.discard(container, error)
            raise
        if not keep:
            _delete(container, invocation)
        return code


def _delete(container: Container, invocation: Invocation) -> None:
    """Delete a container that has ended. What fails now does not change how the program ended."""
    try:
        container.delete(force=True)
    except NotFoundError:
        # Somebody else's `delete --force` ended it: what was wanted is the case.
        return
    except ContainerError as error:
        invocation.log.error(f"cannot delete container {container.id}: {error}")


COMMAND = Command(
    "run",
    action,
    usage="create and run a container",
    arguments="""<container-id>

Where "<container-id>" is your name for the instance of the container that you
are starting. The name you provide for the container instance must be unique
under the state root.""",
    description="""The run command makes a container from a bundle, a directory with a
specification file named "config.json" and a root filesystem, and starts it.
Unless detached it passes signals on to the container, ends when the container
does, with its exit code, and deletes it.""",
    flags=(
        *launch.FLAGS,
        launch.DETACH,
        Flag("keep", "do not delete the container after it exits", kind="bool"),
        launch.NO_SUBREAPER,
    ),
    least=1,
    most=1,
    prefix="pyrunc run failed: ",
)
