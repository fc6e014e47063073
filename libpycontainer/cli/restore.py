"""``restore``: make a container from a checkpoint. Not in this version."""

from __future__ import annotations

import os

from libpycontainer.cli import criu, launch
from libpycontainer.cli.command import Command, CommandError, Invocation
from libpycontainer.cli.options import Flag

_IMAGES = "checkpoint"
_LSM = ("apparmor", "selinux")


def action(invocation: Invocation) -> int:
    options = invocation.options
    id = invocation.container_id
    bundle = os.path.abspath(options.text("bundle"))
    spec = launch.load_spec(bundle)
    assert spec.process is not None
    launch.check_terminal(
        spec.process, options.text("console-socket"), detach=options.enabled("detach")
    )
    images = options.text("image-path") or os.path.abspath(_IMAGES)
    if not os.path.isdir(images):
        raise CommandError(f"{images} is no directory: there are no images to restore from")
    criu.check(options)
    profile = options.text("lsm-profile")
    if profile and profile.partition(":")[0] not in _LSM:
        raise CommandError(
            f"invalid --lsm-profile {profile!r}: it is TYPE:NAME, with a type of apparmor or"
            " selinux"
        )
    criu.refuse("restore", id)


COMMAND = Command(
    "restore",
    action,
    usage="restore a container from a previous checkpoint",
    arguments="""<container-id>

Where "<container-id>" is the name for the instance of the container to be
restored.""",
    description="""The restore command makes a container from the images that the checkpoint
command saved, with the help of criu(8). It needs CRIU >= 4 and is not in this
version: the command line and the bundle are checked, and the command fails.""",
    flags=(
        launch.CONSOLE_SOCKET,
        Flag("image-path", "path to criu image files for restoring"),
        criu.WORK_PATH,
        criu.TCP_ESTABLISHED,
        criu.EXT_UNIX_SK,
        criu.SHELL_JOB,
        criu.FILE_LOCKS,
        criu.MANAGE_CGROUPS_MODE,
        launch.BUNDLE,
        launch.DETACH,
        launch.PID_FILE,
        launch.NO_SUBREAPER,
        launch.NO_PIVOT,
        criu.EMPTY_NS,
        criu.AUTO_DEDUP,
        criu.LAZY_PAGES,
        Flag(
            "lsm-profile",
            "Specify an LSM profile to be used during restore in the form of TYPE:NAME.",
        ),
        Flag("lsm-mount-context", "Specify an LSM mount context to be used during restore."),
    ),
    least=1,
    most=1,
)
