"""``state``: what a container is and does, as JSON."""

from __future__ import annotations

from libpycontainer.cli.command import Command, Invocation
from libpycontainer.cli.output import dump, put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libpycontainer.cli.output import Json
    from libpycontainer.container import Container


def action(invocation: Invocation) -> int:
    # The owner stays empty, as runc's does here: to name him takes the host's user database.
    put(dump(describe(invocation.container(), owner=""), indent="  "))
    return 0


def describe(container: Container, *, owner: str) -> dict[str, Json]:
    """runc's document for ``state`` and ``list``: OCI's state and four fields of its own."""
    state = container.state()
    document: dict[str, Json] = {
        "ociVersion": state["ociVersion"],
        "id": state["id"],
        "pid": state.get("pid") or 0,
        "status": str(state["status"]),
        "bundle": state["bundle"],
        "rootfs": container.rootfs,
        "created": container.created,
    }
    if state.get("annotations"):
        document["annotations"] = dict(sorted(state["annotations"].items()))
    document["owner"] = owner
    return document


COMMAND = Command(
    "state",
    action,
    usage="output the state of a container",
    arguments="""<container-id>

Where "<container-id>" is your name for the instance of the container.""",
    description="""The state command outputs current state information for the
instance of a container.""",
    least=1,
    most=1,
)
