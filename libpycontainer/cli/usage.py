"""The help texts, in the layout that runc's have, and ``--version``."""

from __future__ import annotations

import sys

from libpycontainer._version import __version__
from libpycontainer.cli.command import PROGRAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from libpycontainer.cli.command import Command
    from libpycontainer.cli.options import Flag

SPEC_VERSION = "1.3.0"
_WIDTH = 100
_SUMMARY = "Open Container Initiative runtime"
_ABOUT = """\
pyrunc runs applications that are packaged as the Open Container Initiative (OCI) describes:
as a bundle, which is a directory with a configuration named "config.json" and a root filesystem.

It takes runc's command line and is a thin layer over libpycontainer. Containers of one are seen
by the other: both keep their state under the same root.

To run the bundle in the current directory:

    # pyrunc run <container-id>

where "<container-id>" is a name of your choice that no other container under the root has."""


def version() -> str:
    """The answer to ``--version``; clients read the first line and those with a known label."""
    return f"{PROGRAM} version {__version__}\n{_details()}\n"


def _details() -> str:
    return f"spec: {SPEC_VERSION}\npython: {sys.version.split()[0]}"


def program_help(commands: Iterable[Command], flags: Sequence[Flag]) -> str:
    """The answer to ``--help`` without a verb."""
    from libpycontainer.cli import manual

    rows = [(command.name, command.usage) for command in commands]
    rows.append(("help, h", "show the commands, or the help of one command"))
    return _page(
        (
            ("NAME", f"   {PROGRAM} - {_SUMMARY}\n\n{_ABOUT}"),
            ("USAGE", f"   {PROGRAM} [global options] command [command options] [arguments...]"),
            ("VERSION", f"   {__version__}\n{_details()}"),
            ("COMMANDS", _table(rows)),
            ("GLOBAL OPTIONS", _table(_rows(flags))),
            *manual.PROGRAM,
        )
    )


def command_help(command: Command) -> str:
    """The answer to ``--help`` after the verb."""
    from libpycontainer.cli import manual

    flags = [flag for flag in command.flags if not flag.hidden]
    options = " [command options]" if flags else ""
    usage = f"   {PROGRAM} {command.name}{options} {command.arguments or '[arguments...]'}"
    sections = [
        ("NAME", f"   {PROGRAM} {command.name} - {command.usage}"),
        ("USAGE", usage),
    ]
    if command.description:
        sections.append(("DESCRIPTION", f"   {command.description}"))
    if flags:
        sections.append(("OPTIONS", _table(_rows(flags))))
    return _page((*sections, *manual.VERBS.get(command.name, ())))


def _page(sections: Iterable[tuple[str, str]]) -> str:
    return "\n\n".join(f"{title}:\n{text}" for title, text in sections) + "\n"


def _rows(flags: Iterable[Flag]) -> list[tuple[str, str]]:
    return [(_spelling(flag), flag.usage + _default(flag)) for flag in flags if not flag.hidden]


def _spelling(flag: Flag) -> str:
    """``--bundle value, -b value``; those that end a run by themselves have no value to name."""
    value = "" if flag.kind == "bool" else " value"
    short = f", -{flag.short}{value}" if flag.short else ""
    return f"--{flag.name}{value}{short}"


def _default(flag: Flag) -> str:
    if flag.kind in ("int", "duration"):
        unit = "s" if flag.kind == "duration" else ""
        return f" (default: {flag.default or 0}{unit})"
    return f' (default: "{flag.default}")' if flag.default else ""


def _table(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(left) for left, _ in rows) + 5
    return "\n".join(
        f"   {left}".ljust(width) + _wrapped(right, _WIDTH - width, width) for left, right in rows
    )


def _wrapped(text: str, width: int, indent: int) -> str:
    """``text`` in lines of at most ``width`` columns. What has lines already has them for good."""
    if "\n" in text:
        return text
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) > width and lines[-1]:
            lines.append("")
        lines[-1] += f"{word} "
    return f"\n{' ' * indent}".join(line.rstrip() for line in lines)
