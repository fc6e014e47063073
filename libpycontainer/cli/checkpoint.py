"""``checkpoint``: save a running container's state. Not in this version."""

from __future__ import annotations

import os

from libpycontainer.cli import criu
from libpycontainer.cli.command import Command, CommandError, Invocation
from libpycontainer.cli.options import Flag

_IMAGES = "checkpoint"


def action(invocation: Invocation) -> int:
    options = invocation.options
    container = invocation.container()
    if container.status not in ("running", "paused"):
        raise CommandError(f"container cannot be checkpointed in {container.status} state")
    _check_parent(options.text("image-path") or _IMAGES, options.text("parent-path"))
    if options.text("page-server"):
        criu.check_page_server(options.text("page-server"))
    criu.check(options)
    criu.refuse("checkpoint", container.id)


def _check_parent(images: str, parent: str) -> None:
    """Earlier images are looked for from the later ones: the tree can be moved as a whole."""
    if parent.startswith("/"):
        raise CommandError("--parent-path must be relative")
    if parent and not os.path.isdir(f"{images}/{parent}"):
        raise CommandError(f"invalid --parent-path: {images}/{parent} is no directory")


COMMAND = Command(
    "checkpoint",
    action,
    usage="checkpoint a running container",
    arguments="""<container-id>

Where "<container-id>" is the name for the instance of the container to be
checkpointed.""",
    description="""The checkpoint command saves the state of the container instance with the help
of criu(8). It needs CRIU >= 4 and is not in this version: the command line is
checked, and the command fails.""",
    flags=(
        Flag("image-path", "path for saving criu image files"),
        criu.WORK_PATH,
        Flag("parent-path", "path for previous criu image files in pre-dump"),
        Flag("leave-running", "leave the process running after checkpointing", kind="bool"),
        criu.TCP_ESTABLISHED,
        Flag("tcp-skip-in-flight", "skip in-flight tcp connections", kind="bool"),
        Flag("link-remap", "allow one to link unlinked files back when possible", kind="bool"),
        criu.EXT_UNIX_SK,
        criu.SHELL_JOB,
        criu.LAZY_PAGES,
        Flag(
            "status-fd",
            "criu writes \\0 to this FD once lazy-pages is ready",
            kind="int",
            default=-1,
        ),
        Flag("page-server", "ADDRESS:PORT of the page server"),
        criu.FILE_LOCKS,
        Flag(
            "pre-dump",
            "dump container's memory information only, leave the container running after this",
            kind="bool",
        ),
        criu.MANAGE_CGROUPS_MODE,
        criu.EMPTY_NS,
        criu.AUTO_DEDUP,
    ),
    least=1,
    most=1,
)
