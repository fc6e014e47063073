"""``ps``: the processes of a container, as the host's ``ps`` shows them, or their pids."""

from __future__ import annotations

from libpycontainer.cli.command import Command, CommandError, Invocation
from libpycontainer.cli.options import Flag
from libpycontainer.cli.output import dump, put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_DEFAULT = ("-ef",)
_TITLES = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
# procps' own widths and sides, as far as they are fixed.
_WIDTHS = (-8, 7, 7, 2, 5, -8, 8)
_DAY = 86_400


def action(invocation: Invocation) -> int:
    pids = invocation.container().processes()
    form = invocation.options.text("format")
    if form == "json":
        # Go's encoder calls a list that was never begun null, and clients know it so.
        put(f"{dump(pids or None)}\n")
    elif form == "table":
        put(_table(pids, tuple(invocation.arguments[1:]) or _DEFAULT))
    else:
        raise CommandError("invalid format option")
    return 0


def _table(pids: Sequence[int], options: Sequence[str]) -> str:
    import subprocess

    try:
        done = subprocess.run(
            ["ps", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except FileNotFoundError:
        if tuple(options) != _DEFAULT:
            raise CommandError(
                f"ps {' '.join(options)}: this host has no program ps, only the table without "
                "options can be had"
            ) from None
        return own_table(pids)
    output = done.stdout.decode("utf-8", "surrogateescape")
    if done.returncode:
        raise CommandError(f"exit status {done.returncode}: {output}")
    return only(pids, output)


def only(pids: Sequence[int], output: str) -> str:
    """The lines of a listing of ``ps`` that are about ``pids``, and its title."""
    title, *lines = output.splitlines() or [""]
    if "PID" not in title.split():
        raise CommandError("couldn't find PID field in ps output")
    column = title.split().index("PID")
    wanted = set(map(str, pids))
    kept = [
        line
        for line in lines
        if line.split()[column : column + 1] and line.split()[column] in wanted
    ]
    return "".join(f"{line}\n" for line in (title, *kept))


def own_table(pids: Sequence[int]) -> str:
    """What ``ps -ef`` shows of ``pids``, on a host that has no such program."""
    import time

    import psutil

    rows: list[Sequence[str]] = [_TITLES]
    for pid in pids:
        try:
            seen = psutil.Process(pid).as_dict(
                (
                    "username",
                    "uids",
                    "ppid",
                    "create_time",
                    "terminal",
                    "cpu_times",
                    "cmdline",
                    "name",
                )
            )
        except psutil.NoSuchProcess:
            # It has ended since the pids were listed.
            continue
        used = seen["cpu_times"].user + seen["cpu_times"].system
        age = max(time.time() - seen["create_time"], 1.0)
        command = " ".join(seen["cmdline"] or ()) or f"[{seen['name']}]"
        rows.append(
            (
                seen["username"] or str(seen["uids"].real),
                str(pid),
                str(seen["ppid"]),
                str(min(99, int(used * 100 / age))),
                time.strftime(
                    "%H:%M" if age < _DAY else "%b%d", time.localtime(seen["create_time"])
                ),
                (seen["terminal"] or "?").removeprefix("/dev/"),
                time.strftime("%H:%M:%S", time.gmtime(used)),
                command,
            )
        )
    return "".join(f"{_line(row)}\n" for row in rows)


def _line(row: Sequence[str]) -> str:
    cells = [
        cell.ljust(-width) if width < 0 else cell.rjust(width)
        for cell, width in zip(row[:-1], _WIDTHS, strict=True)
    ]
    return " ".join((*cells, row[-1]))


COMMAND = Command(
    "ps",
    action,
    usage="ps displays the processes running inside a container",
    arguments="<container-id> [ps options]",
    description="""The table is what the host's ps shows with the given options (default: -ef),
reduced to the processes inside the container. The pids are the host's.""",
    flags=(Flag("format", "select one of: table or json", short="f", default="table"),),
    least=1,
    interspersed=False,
)
