"""``list``: every container under the state root."""

from __future__ import annotations

from libpycontainer.cli.command import Command, CommandError, Invocation
from libpycontainer.cli.options import Flag
from libpycontainer.cli.output import dump, put
from libpycontainer.cli.state import describe
from libpycontainer.errors import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from libpycontainer.cli.output import Json

_TITLES = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")
_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")
_LEAST_WIDTH, _GAP = 12, 3


def action(invocation: Invocation) -> int:
    form = invocation.options.text("format")
    quiet = invocation.options.enabled("quiet")
    if not quiet and form not in ("table", "json"):
        raise CommandError("invalid format option")
    documents = _documents(invocation)
    if quiet:
        put("".join(f"{document['id']}\n" for document in documents))
    elif form == "json":
        # Go's encoder calls a list that was never begun null, and clients know it so.
        put(f"{dump(documents or None)}\n")
    else:
        rows = [[str(document[name]) for name in _COLUMNS] for document in documents]
        put(table([_TITLES, *rows]))
    return 0


def _documents(invocation: Invocation) -> list[dict[str, Json]]:
    """Every container's document, by name. One that cannot be read does not hide the others."""
    factory = invocation.factory()
    found = []
    for name in factory.store.ids():
        try:
            container = factory.load(name)
            found.append(describe(container, owner=container.owner))
        except ContainerError as error:
            invocation.log.warning(f"load container {name}: {error}")
    return found


def table(rows: Sequence[Sequence[str]]) -> str:
    """``rows`` as runc's tables stand: at least 12 wide, three spaces between, the last open."""
    widths = [max(len(cell) for cell in column) + _GAP for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(max(width, _LEAST_WIDTH))
            for cell, width in zip(row[:-1], widths[:-1], strict=True)
        ]
        lines.append("".join([*cells, row[-1], "\n"]))
    return "".join(lines)


COMMAND = Command(
    "list",
    action,
    usage="lists containers started by pyrunc or the library with the given root",
    arguments="""

Where the given root is specified via the global option "--root"
(default: "/run/libpycontainer").

EXAMPLE 1:
To list containers created via the default "--root":
       # pyrunc list

EXAMPLE 2:
To list containers created using a non-default value for "--root":
       # pyrunc --root value list""",
    flags=(
        Flag("format", "select one of: table or json", short="f", default="table"),
        Flag("quiet", "display only container IDs", short="q", kind="bool"),
    ),
    most=0,
)
